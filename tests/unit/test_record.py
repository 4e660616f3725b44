"""A record is one line of ASCII that fits, whatever it is about, and what is left out is counted."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcwarden.core.facts import Facts
from ipcwarden.core.objects import Inventory, Table, mqueue
from ipcwarden.core.plan import Limit, Plan, Violation
from ipcwarden.core.record import MAX_RECORD_BYTES, container_of, line_of, sysctls_of, timestamp, violations_of
from ipcwarden.core.sysctls import FILES, NAMES

if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

MANY = 32768
HOSTILE = ["\\" * 4096, '"' * 4096, "\U0001f600" * 4096, "\0" * 4096, "\udcff" * 4096, "a\n" * 4096]


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)), st.integers(0, 999))
def test_writes_the_time(moment: datetime, nanoseconds: int) -> None:
    """A time is RFC 3339 in UTC, cut to microseconds."""
    whole = moment.replace(tzinfo=UTC)
    seconds = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    written = timestamp((seconds * 1000000 + whole.microsecond) * 1000 + nanoseconds, tuple(time.gmtime(seconds)))
    assert written == f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def test_names_the_container() -> None:
    """What is known is told, what is not known is null, what rules alone use is left out."""
    facts = Facts(engine="podman", image="app", annotations={"k": "v"}, privileged=True)
    assert container_of("c", "/b", facts) == {
        "id": "c",
        "bundle": "/b",
        "engine": "podman",
        "runtime": None,
        "name": None,
        "image": "app",
        "pod": None,
        "namespace": None,
    }


PLAN = Plan("accepted", (Limit("kernel.shmmax", "5", 5, "request"), Limit("kernel.msgmax", None, 2**64 - 1, "set")), ())


def test_writes_limits_as_texts() -> None:
    """Numbers of 64 bits survive every JSON reader, and an absent request is null."""
    assert sysctls_of(PLAN, {"kernel.shmmax": 4, "kernel.msgmax": 2**64 - 1, "kernel.msgmni": 1}) == [
        {"name": "kernel.shmmax", "requested": "5", "wanted": "5", "found": "4", "why": "request"},
        {
            "name": "kernel.msgmax",
            "requested": None,
            "wanted": "18446744073709551615",
            "found": "18446744073709551615",
            "why": "set",
        },
    ]


def test_writes_null_where_nothing_was_read_back() -> None:
    """A refused container has no values in force."""
    assert [each["found"] for each in sysctls_of(PLAN, None)] == [None, None]  # type: ignore[index,call-overload]


def test_writes_violations() -> None:
    """Bounds are texts, and a bound of zero is no missing bound."""
    violations = (Violation("a", "7", 0, None, "bound"), Violation("b", None, None, 0, "unlisted"))
    assert violations_of(violations) == [
        {"name": "a", "requested": "7", "min": "0", "max": None, "kind": "bound"},
        {"name": "b", "requested": None, "min": None, "max": "0", "kind": "unlisted"},
    ]


TEXT = st.text(st.characters(), max_size=700)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc"), DOCUMENTS, max_size=4))
def test_is_one_line_of_ascii(record: dict[str, Document]) -> None:
    """Whatever a record holds, it is one line of printable ASCII, and JSON."""
    line = line_of(record)
    assert line.isascii()
    assert line[:-1].decode().isprintable()
    assert line.endswith(b"}\n")
    assert json.loads(line).keys() == record.keys()


@given(st.dictionaries(st.text("abc"), st.none() | st.integers() | st.text(max_size=64), max_size=4))
def test_changes_nothing_that_fits(record: dict[str, Document]) -> None:
    """A record of ordinary size is told as it is."""
    assert json.loads(line_of(record)) == record


@pytest.mark.parametrize(
    "text",
    ["a" * 1024, "\n" * 512, '"' * 512, "\\" * 512, "\u00e9" * 170, "\U0001f600" * 85, "\0" * 170],
    ids=lambda text: ascii(text[:2]),
)
def test_keeps_texts_of_a_kilobyte(text: str) -> None:
    """A text that takes up to 1024 bytes as it is written is told whole: ids may be as long."""
    assert json.loads(line_of({"a": [{"b": text}]})) == {"a": [{"b": text}]}


@given(st.text(st.characters(), min_size=80) | st.sampled_from(HOSTILE), st.integers(1, 60))
def test_cuts_longer_texts(text: str, times: int) -> None:
    """A longer text is cut to its beginning and three dots, in about as much room, whatever is in it."""
    whole = text * times
    written = len(json.dumps(whole)) - 2
    kept = json.loads(line_of({"a": whole}))["a"]
    assert len(json.dumps(kept)) - 2 <= 1024 + 3
    assert (kept == whole) is (written <= 1024)
    assert written <= 1024 or (kept.endswith("...") and whole.startswith(kept[:-3]) and len(kept) > 60)


def test_leaves_the_record_alone() -> None:
    """Making a line of a record does not change the record."""
    record: dict[str, Document] = {"objects": [{"name": "a" * 600, "n": n} for n in range(500)], "message": "b" * 600}
    before = json.dumps(record)
    line_of(record)
    assert json.dumps(record) == before


@cache
def hostile_objects() -> Inventory:
    """Make as many objects as a namespace can hold, of all kinds, with the names that take most room."""
    row = (
        "-2147483648 {} 3777 {} 4194304 4194304 18446744073709551615 " + "4294967294 " * 4 + "9999999999 " * 3 + "{} {}"
    )
    table = "\n".join(["head", *(row.format(n, 2**64 - 1 - n, n, n % 7) for n in range(MANY // 2))])
    queues = [
        mqueue(bytes([1 + n % 31]) * 251 + n.to_bytes(4), (2**32 - 2, 0, 0o777), (0, 0), (10, 8192, n % 11, n))
        for n in range(MANY // 2)
    ]
    tables = {"shm": table.encode(), "sem": b"", "msg": b""}
    return Inventory({kind: Table(kind, text, 4096) for kind, text in tables.items()}, queues)


def test_fits_however_much_was_left_behind() -> None:
    """A namespace full of objects with hostile names makes one line of 64 KiB, with exact totals and counts."""
    objects = hostile_objects()
    shown = [dict(each) for each in objects.largest(MANY)]
    line = line_of({"leftovers": objects.totals(), "objects": shown, "objects_omitted": 0})
    assert len(line) <= MAX_RECORD_BYTES
    found = json.loads(line)
    assert found["leftovers"] == json.loads(json.dumps(objects.totals()))
    assert (found["leftovers"]["shm"]["count"], found["leftovers"]["mqueue"]["count"]) == (MANY // 2, MANY // 2)
    assert len(found["objects"]) + found["objects_omitted"] == MANY
    assert found["objects"] == shown[: len(found["objects"])]


def test_uses_the_room_there_is() -> None:
    """No more objects are left out than necessary: what is free would not have held two more."""
    shown = [dict(each) for each in hostile_objects().largest(MANY)]
    line = line_of({"objects": shown, "objects_omitted": 0})
    rest = shown[len(json.loads(line)["objects"]) :]
    assert len(line) + sum(len(json.dumps(each, separators=(",", ":"))) + 1 for each in rest[:2]) > MAX_RECORD_BYTES


@settings(max_examples=30)
@given(st.integers(0, 400), st.integers(0, 10**6), st.integers(0, 700))
def test_counts_what_it_leaves_out(count: int, omitted: int, width: int) -> None:
    """What had been left out before is counted too, whatever sizes the objects have."""
    objects: list[Document] = [{"name": "n" * (width * n % 511)} for n in range(count)]
    line = line_of({"objects": objects, "objects_omitted": omitted, "message": "m"})
    found = json.loads(line)
    assert len(line) <= MAX_RECORD_BYTES
    assert len(found["objects"]) + found["objects_omitted"] == count + omitted


@pytest.mark.parametrize(("size", "whole"), [(65535, True), (65536, True), (65537, False), (65600, False)])
def test_fills_a_record_to_the_last_byte(size: int, whole: bool) -> None:
    """A line of exactly 64 KiB, its end included, is whole; of one more byte it loses some objects."""
    record: dict[str, Document] = {"objects": [{"n": 1}] * 20, "objects_omitted": 0, "texts": ["x" * 1000] * 65}
    room = size - len(line_of({**record, "text": ""}))
    found = json.loads(line_of({**record, "text": "x" * room}))
    assert (found["objects_omitted"] == 0) is whole


def test_counts_where_nothing_was_left_out_before() -> None:
    """A record that said nothing of omitted objects does so when some are."""
    found = json.loads(line_of({"objects": [{"name": "n" * 500} for _ in range(1000)]}))
    assert found["objects_omitted"] == 1000 - len(found["objects"])


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:2]))
def test_fits_with_the_longest_texts_everywhere(text: str) -> None:
    """A record without objects fits by itself, when every text that somebody else chose is as long as it can be."""
    facts = Facts(*[text] * 6)
    limits = tuple(Limit(name, text, 2**64 - 1, "in_force") for name in NAMES)
    malformed = [Violation(name, text, None, None, "malformed") for name in FILES]
    bound = [Violation(name, str(2**64 - 1), 2**64 - 1, 2**64 - 1, "bound") for name in NAMES]
    record: dict[str, Document] = {
        "container": container_of(text, text, facts),
        "profile": text,
        "rule": text,
        "sysctls": sysctls_of(Plan("refused", limits, ()), dict.fromkeys(NAMES, 2**64 - 1)),
        "violations": violations_of((*malformed, *bound)),
        "message": text,
    }
    line = line_of(record)
    assert len(line) <= MAX_RECORD_BYTES
    assert len(json.loads(line)["violations"]) == len(malformed) + len(bound)
