"""The state on standard input is distrusted, by the parser and by its schema alike."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ipcwarden.core.state import MAX_STATE_BYTES, ContainerState, fault_of, parse_state
from ipcwarden.errors import StateError
from support.shell import REPOSITORY

SCHEMA = Draft202012Validator(json.loads((REPOSITORY / "schemas" / "state.schema.json").read_text(encoding="utf-8")))
VALID = {"ociVersion": "1.0.2", "id": "c1", "status": "creating", "pid": 4711, "bundle": "/run/b", "annotations": {}}

TEXTS = st.text(st.characters(), max_size=8)
PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F), max_size=8)
ODD = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
ODD |= st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS, max_size=2)
IDS = PLAIN | TEXTS
IDS |= st.sampled_from(["", ".", "..", "...", "a/b", "/", "a b", "a\n", "\x7f", "é", "\ud800", "a" * 1024, "a" * 1025])
IDS |= st.sampled_from(["!", "~", "a" * 4096, "-", "a..b", ".hidden", "a\0b", "\u202ea", "\uff10"])
BUNDLES = st.sampled_from(["", "/", "b", "./b", "../b", "/b\n", "/\x7f", "/\ud800", "/\udfff", "/é", "/\U0001f600"])
BUNDLES |= st.sampled_from(
    ["/" + "b" * 4095, "/" + "b" * 4096, " /b", "/b\0", "\n/b", "/\x1f", "/ ", "/\ue000", "/\x80"]
)
BUNDLES |= TEXTS.map(lambda text: f"/{text}")
PIDS = st.integers(-2, 3) | st.integers() | st.sampled_from([4194303, 4194304, 4194305, 2**31, 2**63, 2**64, 10**400])
PIDS |= st.sampled_from([True, False, 0.0, -0.0, 1.0, 1.5, -1.0, 4194304.0, 4194304.5, 1e308, "1", [1], {}])
ANNOTATIONS = st.dictionaries(TEXTS, TEXTS | ODD, max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> object:
    """Make a document that is nearly valid: some fields are odd, missing or unknown."""
    fields = {"id": IDS, "bundle": BUNDLES, "pid": PIDS, "annotations": ANNOTATIONS, "status": TEXTS, "ociVersion": ODD}
    document: dict[str, object] = dict(VALID)
    for key in draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)):
        document[key] = draw(fields[key] | ODD if draw(st.booleans()) else fields[key])
    for key in draw(st.lists(st.sampled_from(sorted(document)), max_size=2)):
        document.pop(key, None)
    document.update(draw(st.dictionaries(TEXTS, ODD, max_size=2)))
    return document


@settings(max_examples=1000)
@given(documents() | ODD)
@example({**VALID, "id": "!~"})
@example({**VALID, "id": "a "})
@example({**VALID, "id": "a\x7f"})
@example({**VALID, "id": "a\n"})
@example({**VALID, "bundle": "/ ~\x80"})
@example({**VALID, "bundle": "/\x1f"})
@example({**VALID, "bundle": "/\x7f"})
@example({**VALID, "bundle": "/\ud7ff\ue000"})
@example({**VALID, "bundle": "/\ud800"})
@example({**VALID, "bundle": "/\udfff"})
@example({**VALID, "bundle": "/b\n"})
@example({**VALID, "id": "a" * 1024})
@example({**VALID, "id": "a" * 1025})
@example({**VALID, "bundle": "/" + "b" * 4095})
@example({**VALID, "bundle": "/" + "b" * 4096})
@example({**VALID, "pid": 4194304})
@example({**VALID, "pid": 4194305})
@example({**VALID, "pid": 1.0})
@example({**VALID, "pid": True})
@example({**VALID, "annotations": None})
@example({**VALID, "status": None})
def test_agrees_with_its_schema(document: object) -> None:
    """What the parser takes is what schemas/state.schema.json allows, field by field."""
    text = json.dumps(document)
    try:
        parse_state(text.encode())
    except StateError:
        accepted = False
    else:
        accepted = True
    assert accepted is SCHEMA.is_valid(json.loads(text))


@given(documents() | ODD)
def test_refuses_in_one_line(document: object) -> None:
    """A refusal is one printable line, whatever the document held."""
    wrong = fault_of(json.loads(json.dumps(document)))
    line = str(StateError(wrong))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("text", "state"),
    [
        pytest.param(
            '{"ociVersion":"1.0.2-dev","id":"c","status":"creating","pid":12,"bundle":"/b","annotations":{"k":"v"}}',
            ContainerState("c", "/b", "creating", 12, {"k": "v"}),
            id="runc-create",
        ),
        pytest.param(
            '{"ociVersion":"1.2.1","id":"c","status":"stopped","bundle":"/b"}',
            ContainerState("c", "/b", "stopped", 0, {}),
            id="runc-poststop",
        ),
        pytest.param(
            '{\n "ociVersion": "1.0",\n "id": "c",\n "pid": 0,\n "root": "/r",\n'
            ' "bundle": "/b",\n "status": "stopped"\n}\n',
            ContainerState("c", "/b", "stopped", 0, {}),
            id="crun-poststop",
        ),
        pytest.param(
            '{"ociVersion":"1.0","id":"c","pid":1,"root":"/r","bundle":"/","status":"starting","annotations":null}',
            ContainerState("c", "/", "starting", 1, {}),
            id="docker",
        ),
        pytest.param('{"id":"c","bundle":"/b"}', ContainerState("c", "/b", "", 0, {}), id="least"),
        pytest.param('{"id":"a","id":"b","bundle":"/b"}', ContainerState("b", "/b", "", 0, {}), id="id-twice"),
    ],
)
def test_reads_what_runtimes_send(text: str, state: ContainerState) -> None:
    """Each runtime's own way is understood."""
    assert parse_state(text.encode()) == state


def test_takes_a_whole_float_as_its_number() -> None:
    """A pid that a JSON library wrote with a point is that number, as an int."""
    state = parse_state(b'{"id":"c","bundle":"/b","pid":12.0}')
    assert (type(state.pid), state.pid) == (int, 12)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{",
        b'{"id":"c","bundle":"/b"',
        b'{"id":"c","bundle":"/b"}}',
        b'{"id":"c","bundle":"/b"}\0',
        b"[" * 200_000,
        b'{"id":' * 100_000,
        b'\xff{"id":"c","bundle":"/b"}',
        b'{"id":"c","bundle":"/b","pid":' + b"9" * 5000 + b"}",
        b'{"id":"c","bundle":"/b","pid":1e999}',
        b'{"id":"c","bundle":"/b","pid":NaN}',
        b'{"id":"c","bundle":"/b","x":"' + b"a" * MAX_STATE_BYTES + b'"}',
    ],
    ids=lambda data: repr(data[-16:]),
)
def test_refuses_what_is_no_document(data: bytes) -> None:
    """What is empty, torn, endless or bottomless is a StateError of one line."""
    with pytest.raises(StateError) as refusal:
        parse_state(data)
    line = str(refusal.value)
    assert line.startswith("cannot ")
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 300


def test_takes_a_document_of_the_greatest_size() -> None:
    """A state of exactly the limit is read."""
    head, tail = b'{"id":"c","bundle":"/b","x":"', b'"}'
    data = head + b"a" * (MAX_STATE_BYTES - len(head) - len(tail)) + tail
    assert parse_state(data).id == "c"


def test_refuses_one_byte_more() -> None:
    """A state of one byte more than the limit is not."""
    head, tail = b'{"id":"c","bundle":"/b","x":"', b'"}'
    with pytest.raises(StateError, match="larger than 1048576 bytes"):
        parse_state(head + b"a" * (MAX_STATE_BYTES - len(head) - len(tail) + 1) + tail)


def test_tells_who_calls_by_hand_what_is_missing() -> None:
    """Nothing at all on standard input is most likely somebody trying the hook."""
    with pytest.raises(StateError, match="a hook is started by a runtime"):
        parse_state(b" \n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "its id is not a text"),
        ({"id": "a/b"}, "its id 'a/b' holds '/'"),
        ({"bundle": "b"}, "its bundle is not an absolute path"),
        ({"bundle": "/\n"}, "its bundle holds a control character"),
        ({"status": 1}, "its status is not a text"),
        ({"pid": -1}, "its pid -1 is not a whole number"),
        ({"pid": "1"}, "its pid 1 is not a whole number"),
        ({"annotations": {"a": 1}}, "its annotations are not an object of texts"),
        ({"annotations": []}, "its annotations are not an object of texts"),
    ],
)
def test_says_which_field_is_wrong(change: dict[str, object], reason: str) -> None:
    """A refusal names the field."""
    with pytest.raises(StateError, match=reason):
        parse_state(json.dumps({**VALID, **change}).encode())
