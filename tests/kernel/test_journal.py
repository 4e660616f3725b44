"""The audit log: every end stands in it once, whenever whoever writes it is killed."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from support.sandbox import HOOK, PYTHON
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container
    from support.shell import Result

IPCWARDEN = REPOSITORY / ".venv" / "bin" / "ipcwarden"


def log_of(container: Container) -> Path:
    """Name a container's log."""
    return container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"


def killed_at(call: str, name: str, *command: str | Path, stdin: str = "", when: int = 1) -> None:
    """Run a program that is killed as it calls `call` on the file `name`, for the `when`th time."""
    inject = f"inject={call}:error=EIO:signal=KILL:when={when}"
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-P", name, "-e", f"trace={call}", "-e", inject)
    run(*strace, *command, stdin=stdin)


def stop_killed_at(container: Container, call: str, name: str = "") -> None:
    """End a container, whose poststop is killed as it calls `call`: on its entry, if no other name is given."""
    container.kill()
    hook = (PYTHON, "-I", "-S", HOOK, "--root", container.root, "poststop")
    killed_at(call, name or container.entries()[0], *hook, stdin=container.state("stopped"))


def gc(container: Container) -> Result:
    """Run ipcwarden gc."""
    return run(IPCWARDEN, "--root", container.root, "gc")


def events(container: Container) -> list[str]:
    """List the events in the log."""
    return [record["event"] for record in container.records()]


def end(container: Container) -> dict[str, Any]:
    """Return the only end in the log, which is its last record; nothing else may be left."""
    assert container.pins() == container.entries() == []
    [*others, last] = container.records()
    assert [record["event"] for record in others] == ["applied"]
    return last


@pytest.fixture
def leaker(container: Container) -> Container:
    """Start a governed container that leaves a segment."""
    container.create().check()
    container.leave("--shm=1")
    return container


FINISHERS: dict[str, Callable[[Container], Result]] = {"gc": gc, "poststop": lambda container: container.poststop()}


@pytest.mark.parametrize("finish", FINISHERS.values(), ids=FINISHERS)
def test_killed_after_its_record(leaker: Container, finish: Callable[[Container], Result]) -> None:
    """Whoever finishes what a poststop began finds the record in the log, and writes no second one."""
    stop_killed_at(leaker, "unlinkat")
    assert events(leaker) == ["applied", "teardown"]
    finish(leaker).check()
    assert end(leaker)["event"] == "teardown"


@pytest.mark.parametrize(("finish", "event"), [(gc, "collected"), (FINISHERS["poststop"], "teardown")])
def test_killed_before_its_record(leaker: Container, finish: Callable[[Container], Result], event: str) -> None:
    """Nor is it forgotten where the log does not have it: the findings were safe."""
    stop_killed_at(leaker, "openat", "audit.jsonl")
    assert events(leaker) == ["applied"]
    finish(leaker).check()
    record = end(leaker)
    assert (record["event"], record["leftovers"]["shm"]["count"]) == (event, 1)


def test_half_a_line_is_no_record(leaker: Container) -> None:
    """A write that was cut off by the kill is repeated whole; readers skip the half."""
    stop_killed_at(leaker, "unlinkat")
    log = log_of(leaker)
    log.write_bytes(log.read_bytes()[:-20])
    gc(leaker).check()
    applied, torn, last = log.read_bytes().splitlines()
    log.write_bytes(applied + b"\n" + last + b"\n")
    assert end(leaker)["event"] == "collected"
    assert last.startswith(torn[:50])


def rename(log: Path) -> None:
    """Rotate by renaming."""
    log.rename(log.with_name("audit.jsonl.1"))


def compress(log: Path) -> None:
    """Rotate and compress, as logrotate does."""
    rename(log)
    run("gzip", log.with_name("audit.jsonl.1")).check()


@pytest.mark.parametrize("rotate", [rename, compress])
def test_rotated_since(leaker: Container, rotate: Callable[[Path], None]) -> None:
    """A record that has been rotated away is found, compressed too."""
    stop_killed_at(leaker, "unlinkat")
    log = log_of(leaker)
    rotate(log)
    gc(leaker).check()
    assert leaker.pins() == leaker.entries() == []
    assert not log.exists()


def test_a_log_that_was_removed(leaker: Container) -> None:
    """What is not to be found is written once more: better twice than never."""
    stop_killed_at(leaker, "unlinkat")
    log_of(leaker).unlink()
    gc(leaker).check()
    assert events(leaker) == ["collected"]


def test_a_damaged_rotated_log(leaker: Container) -> None:
    """A file that cannot be unpacked stops nobody."""
    stop_killed_at(leaker, "unlinkat")
    log = log_of(leaker)
    log.with_name("audit.jsonl.1.gz").write_bytes(gzip.compress(log.read_bytes())[:-30])
    log.unlink()
    gc(leaker).check()
    assert leaker.pins() == leaker.entries() == []


def test_gc_killed_after_its_record(leaker: Container) -> None:
    """The same holds for a gc that is killed, and the gc after it."""
    leaker.kill()
    killed_at("unlinkat", leaker.entries()[0], IPCWARDEN, "--root", leaker.root, "gc")
    assert events(leaker) == ["applied", "collected"]
    gc(leaker).check()
    assert end(leaker)["event"] == "collected"


@pytest.fixture
def waiting(container: Container) -> Container:
    """Start a governed container whose record waits in the ledger, for a log that can be written again."""
    log = log_of(container)
    log.parent.mkdir(parents=True)
    log.mkdir()
    container.create().check()
    log.rmdir()
    return container


def test_gc_killed_after_delivering(waiting: Container) -> None:
    """A record that waited is delivered once, though a gc is killed before it could say so in the ledger."""
    killed_at("rename", waiting.entries()[0], IPCWARDEN, "--root", waiting.root, "gc", when=2)
    assert events(waiting) == ["applied"]
    gc(waiting).check()
    assert events(waiting) == ["applied"]
    assert waiting.entry()["undelivered"] == []
    waiting.kill()
    waiting.poststop().check()
    assert end(waiting)["event"] == "teardown"


def test_gc_killed_before_delivering(waiting: Container) -> None:
    """Nor is it lost by one that is killed before."""
    killed_at("openat", "audit.jsonl", IPCWARDEN, "--root", waiting.root, "gc")
    waiting.kill()
    waiting.poststop().check()
    assert end(waiting)["event"] == "teardown"


def test_gc_killed_after_delivering_the_end(leaker: Container) -> None:
    """Records of a container that is gone, and that waited, too."""
    log = log_of(leaker)
    log.rename(log.with_name("kept"))
    log.mkdir()
    leaker.kill()
    leaker.poststop().check()
    log.rmdir()
    log.with_name("kept").rename(log)
    killed_at("unlinkat", leaker.entries()[0], IPCWARDEN, "--root", leaker.root, "gc")
    assert events(leaker) == ["applied", "teardown"]
    gc(leaker).check()
    assert end(leaker)["event"] == "teardown"
