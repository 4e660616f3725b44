"""JSON is read as the json package reads it, but for what readers differ on."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.documents import Repeated, parse, parse_strictly, serialize, utf8_of
from support.imports import INTERPRETER
from support.shell import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

KEYS = st.text(st.characters(), max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
BLANKS = st.sampled_from(["", " ", "\n", "\t", "\r\n "])


@st.composite
def texts(draw: st.DrawFn, depth: int = 2) -> str:
    """Spell a document, with blanks anywhere and keys more than once."""
    blank = draw(BLANKS)
    kind = draw(st.sampled_from(["value", "list", "object"])) if depth else "value"
    if kind == "list":
        return f"{blank}[{','.join(draw(st.lists(texts(depth - 1), max_size=3)))}{blank}]"
    if kind == "object":
        keys = draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3))
        members = ",".join(f'{blank}"{key}":{draw(texts(depth - 1))}' for key in keys)
        return f"{blank}{{{members}{blank}}}{blank}"
    scalar = st.sampled_from(["1", "-0", "1.5e3", "true", "null", '"\\ud800"', '"\\n"', '""']) | VALUES.map(json.dumps)
    return blank + draw(scalar) + blank


@st.composite
def torn_texts(draw: st.DrawFn) -> str:
    """Spell a document, with a few characters replaced, put in or taken away."""
    text = draw(texts())
    at = draw(st.integers(0, len(text)))
    length = draw(st.integers(0, 2))
    instead = draw(st.sampled_from(["", ",", "]", "}", '"', "\\", "0", "NaN", "\x01", "e", "-"]))
    return text[:at] + instead + text[at + length :]


class Pairs(list[tuple[str, object]]):
    """An object, as all that was written."""


def all_pairs(document: object) -> object:
    """Return a document with its objects as pairs, repeated ones too."""
    if isinstance(document, dict):
        pairs = document.pairs if isinstance(document, Repeated) else list(document.items())
        return Pairs((key, all_pairs(each)) for key, each in pairs)
    return [all_pairs(each) for each in document] if isinstance(document, list) else document


def refuse(name: str) -> None:
    """Refuse NaN and the infinities, which the json package takes."""
    raise ValueError(name)


def expected(text: str) -> object:
    """Return what the json package makes of a text: pairs, or its refusal."""
    try:
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=refuse)
    except ValueError:
        return ValueError


def found(data: bytes) -> object:
    """Return what we make of it."""
    try:
        return all_pairs(parse(data))
    except ValueError:
        return ValueError


@given(texts())
def test_reads_as_the_json_package_does(text: str) -> None:
    """Documents of any shape come out as the json package has them, but with every pair of every object."""
    assert repr(found(text.encode())) == repr(expected(text))


@given(torn_texts())
def test_refuses_what_the_json_package_refuses(text: str) -> None:
    """Documents that were damaged are refused by both, or read the same by both."""
    assert repr(found(text.encode())) == repr(expected(text))


@given(st.binary())
def test_raises_nothing_but_value_errors(data: bytes) -> None:
    """Bytes of any kind are a document or a ValueError."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "not JSON"
    assert repr(found(data)) == repr(expected(text))


NOT_JSON = [
    b"",
    b" \n",
    b"{",
    b"{bad",
    b'{"a"',
    b'{"a":',
    b'{"a":1',
    b'{"a":1,}',
    b"{1:2}",
    b"[1,]",
    b"[1 2]",
    b"'a'",
    b'"a',
    b'"\\x"',
    b'"\\u12"',
    b'"\x01"',
    b"nul",
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"0x10",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1 2",
    b"{}{}",
    b"\xef\xbb\xbf{}",
    b"\xff",
    b'"\xed\xa0\x80"',
    b"{\x00}",
    b"1" * 5000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("data", NOT_JSON, ids=lambda data: repr(data[:12]))
def test_refuses(data: bytes) -> None:
    """What RFC 8259 does not know, numbers of thousands of digits and bottomless nesting are no documents."""
    with pytest.raises(ValueError, match=r"."):
        parse(data)


@pytest.mark.parametrize("data", NOT_JSON, ids=lambda data: repr(data[:12]))
def test_refuses_in_a_hook_too(built: Path, data: bytes) -> None:
    """Where nobody has loaded the json package, where the scanner's errors live, it is a ValueError too."""
    program = f"""
import posix, sys
sys.path.insert(0, {str(built)!r})
from _ipcwarden_create import parse, read_all
try:
    parse(read_all(0, 1 << 20))
except ValueError:
    posix.write(1, b"refused")
"""
    done = run(INTERPRETER, "-I", "-S", "-c", program, stdin=data.decode("utf-8", "surrogateescape"))
    assert (done.stdout, done.stderr, done.code) == ("refused", "", 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{} {}", "something follows the document, at character 3"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"nope", "expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_says_why(data: bytes, reason: str) -> None:
    """A refusal says what is wrong."""
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse(data)


def test_keeps_every_pair() -> None:
    """An object that holds a key twice has both, and reads as its last."""
    document = parse(b'{"a": 1, "b": 2, "a": 3}')
    assert isinstance(document, Repeated)
    assert document.pairs == [("a", 1), ("b", 2), ("a", 3)]
    assert document == {"a": 3, "b": 2}


@given(VALUES)
def test_reads_what_it_writes(document: object) -> None:
    """A document comes back as it was."""
    assert parse(serialize(document).encode("ascii")) == document


@given(VALUES)
def test_writes_one_plain_line(document: object) -> None:
    """Whatever is in a document, it is one line of printable ASCII without blanks outside of texts."""
    line = serialize(document)
    assert line.isascii()
    assert line.isprintable()
    assert line == json.dumps(document, separators=(",", ":"))


@pytest.mark.parametrize("strange", [b"bytes", object(), {1, 2}, [b""], {"a": b""}])
def test_writes_nothing_else(strange: object) -> None:
    """What JSON does not know is a fault of ours."""
    with pytest.raises(TypeError, match="has no place in JSON"):
        serialize(strange)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_writes_no_number_that_is_none(number: float) -> None:
    """Nobody reads NaN and infinities alike, so they are not written."""
    with pytest.raises(ValueError, match=r"."):
        serialize([number])


@given(VALUES)
def test_strictly_is_no_different(document: object) -> None:
    """What stands there once is read as ever, and can be written again."""
    text = json.dumps(document).encode()
    assert parse_strictly(text) == parse(text) == json.loads(serialize(parse_strictly(text)))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": {}}}]'])
def test_strictly_refuses_a_key_that_stands_twice(text: str) -> None:
    """Written again it would stand there once, and for one of its readers with the wrong content."""
    with pytest.raises(ValueError, match="the key 'a' stands there twice"):
        parse_strictly(text.encode())


def test_strictly_takes_no_longer_for_many_keys() -> None:
    """A second key behind thousands of others is found at once: nobody keeps a hook busy with it."""
    keys = [f'"k{number}":1' for number in range(40_000)]
    began = time.process_time()
    with pytest.raises(ValueError, match="the key 'k39999' stands there twice"):
        parse_strictly(f"{{{','.join([*keys, keys[-1]])}}}".encode())
    assert time.process_time() - began < 5


@given(VALUES)
def test_reads_what_it_writes_as_utf8(document: object) -> None:
    """A document comes back as it was, with whatever is in its texts."""
    assert parse(utf8_of(document)) == document == json.loads(utf8_of(document))


@pytest.mark.parametrize(
    ("text", "written"),
    [("é€", b'"\xc3\xa9\xe2\x82\xac"'), ("\ud800x", b'"\\ud800x"'), ('\n"\\', b'"\\n\\"\\\\"')],
)
def test_writes_utf8_no_longer_than_it_has_to_be(text: str, written: bytes) -> None:
    """What is written again grows by nothing but what UTF-8 cannot say: half a surrogate pair is escaped."""
    assert utf8_of(text) == written
