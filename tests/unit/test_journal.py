"""The audit log: which records it holds already, in whichever of its files."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.record import line_of
from ipcwarden.errors import RecordError
from ipcwarden.host.journal import append, unwritten
from ipcwarden.layout import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIME = "2026-11-24T02:00:00.000001Z"
AFTERWARDS = 1795485601.5  # seconds since 1970
MIB = 1 << 20


def line(time: str = TIME, event: str = "teardown", container: str = "c", **more: Any) -> bytes:
    """Make a record's line."""
    subject = {"id": container, "bundle": f"/srv/{container}"}
    return line_of({"version": 1, "time": time, "event": event, "container": subject, **more})


OTHERS = {
    "another container": line(container="d"),
    "a container whose name begins alike": line(container="cc"),
    "another time": line(time="2026-11-24T02:00:00.000002Z"),
    "half a line": line()[:-5],
    "a whole line but for its end": line()[:-1],
    "a record in a text": line(container="d", message=line().decode("ascii").rstrip("\n")),
    "no record": b"\x00\xff\n",
    "nothing": b"",
}


@pytest.fixture
def logs(tmp_path: Path) -> Place:
    """Give a directory of logs."""
    (tmp_path / "logs").mkdir(mode=0o700)
    return Place(str(tmp_path), "logs")


@pytest.fixture
def write(logs: Place) -> Callable[..., None]:
    """Write a file of the log, last changed shortly after the record was made."""

    def write(content: bytes, name: str = "audit.jsonl", changed: float = AFTERWARDS) -> None:
        path = f"{logs}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        os.utime(path, (changed, changed))

    return write


def test_finds_what_was_appended(logs: Place) -> None:
    """What has been appended is held, and what has not is not."""
    kept, other = line(time="2026-11-24T02:00:00.000003Z"), line()
    append(logs, [kept])
    os.utime(f"{logs}/audit.jsonl", (AFTERWARDS, AFTERWARDS))
    assert unwritten(logs, [other, kept]) == [other]


def test_an_end_is_one_whoever_tells_it(logs: Place, write: Callable[..., None]) -> None:
    """A teardown and a collected of one time and container are the same end."""
    write(line(event="teardown", stage="poststop"))
    assert unwritten(logs, [line(event="collected", stage="gc")]) == []


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_takes_nothing_else_for_it(logs: Place, write: Callable[..., None], content: bytes) -> None:
    """What only looks alike is not the record, and does not hide it either."""
    write(content)
    assert unwritten(logs, [line()]) == [line()]
    write(content + (b"" if content.endswith(b"\n") else b"\n") + line())
    assert unwritten(logs, [line()]) == []


@pytest.mark.parametrize(
    "name", ["audit.jsonl.1", "audit.jsonl-20261124", "audit.jsonl-20261124.gz", "audit.jsonl.2.gz"]
)
def test_looks_into_rotated_files(logs: Place, write: Callable[..., None], name: str) -> None:
    """A rotated file is one of the log's, compressed or not."""
    content = OTHERS["another time"] + line()
    write(gzip.compress(content) if name.endswith(".gz") else content, name)
    write(OTHERS["another time"])
    assert unwritten(logs, [line()]) == []


def test_a_file_in_several_pieces(logs: Place, write: Callable[..., None]) -> None:
    """gzip's files may be joined."""
    write(gzip.compress(OTHERS["another time"]) + gzip.compress(line()), "audit.jsonl.1.gz")
    assert unwritten(logs, [line()]) == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("before", [MIB - 1, MIB - 2, MIB - 40, MIB, 3 * MIB - 100])
def test_lines_across_blocks(logs: Place, write: Callable[..., None], before: int, packed: bool) -> None:
    """A line is found wherever it stands in a large file."""
    filler = OTHERS["another time"] * (before // len(OTHERS["another time"]))
    content = filler + b" " * (before - len(filler) - 1) + b"\n" + line() + OTHERS["another time"]
    write(gzip.compress(content, 1) if packed else content, "audit.jsonl.1.gz" if packed else "audit.jsonl")
    assert unwritten(logs, [line()]) == []


def test_a_line_without_an_end(logs: Place, write: Callable[..., None]) -> None:
    """Megabytes without any end of line hide nothing that comes after them."""
    write(b"x" * (3 * MIB) + b"\n" + line())
    assert unwritten(logs, [line()]) == []


def test_opens_no_older_file(logs: Place, write: Callable[..., None]) -> None:
    """A file that was last changed before the record was made cannot hold it, and is not read."""
    write(line(), "audit.jsonl.1", changed=AFTERWARDS - 3600)
    assert unwritten(logs, [line()]) == [line()]


@pytest.mark.parametrize("spoil", [lambda content: content[:-12], lambda _: b"\x1f\x8b\x08nothing", lambda _: b""])
def test_a_damaged_file(logs: Place, write: Callable[..., None], spoil: Callable[[bytes], bytes]) -> None:
    """What cannot be unpacked holds nothing, and hides no other file."""
    write(spoil(gzip.compress(os.urandom(9000) + b"\n" + line())), "audit.jsonl.1.gz")
    assert unwritten(logs, [line(container="d")]) == [line(container="d")]
    write(line(container="d"))
    assert unwritten(logs, [line(container="d")]) == []


def test_what_is_no_file(logs: Place, write: Callable[..., None]) -> None:
    """A directory, a link and a FIFO with names of the log's hide no other file, and nobody waits for them."""
    os.mkdir(f"{logs}/audit.jsonl.1")
    os.mkfifo(f"{logs}/audit.jsonl.2")
    os.symlink("/dev/zero", f"{logs}/audit.jsonl.3")
    write(line())
    assert unwritten(logs, [line()]) == []


def test_no_log(tmp_path: Path) -> None:
    """Where there is no directory nothing is held."""
    assert unwritten(Place(str(tmp_path), "logs"), [line()]) == [line()]
    with pytest.raises(RecordError):
        append(Place("", "logs"), [line()])
