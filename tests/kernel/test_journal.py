"""The audit log: every end stands in it once, whenever whoever writes it is killed."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support import sandbox
from support.sandbox import HOOK, PYTHON, profile, put_in_force
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    assert run(*strace, *command, stdin=stdin).code != 0, "it was not killed"


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


def test_killed_while_it_sets_a_life_aside(leaker: Container, start: Callable[..., Container]) -> None:
    """A creation that died when the entry of the container's last life had two names does not give it two ends."""
    leaker.kill()
    again = start()
    again.id, again.bundle = leaker.id, leaker.bundle
    hook = (PYTHON, "-I", "-S", HOOK, "--root", leaker.root, "createRuntime")
    name = leaker.entries()[0]
    killed_at("renameat,renameat2", name, *hook, stdin=again.state("creating"))
    assert any("~" in each for each in leaker.entries())
    again.poststop().check()
    gc(leaker).check()
    assert end(leaker)["leftovers"]["shm"]["count"] == 1


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
    killed_at("renameat,renameat2", waiting.entries()[0], IPCWARDEN, "--root", waiting.root, "gc", when=2)
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


@contextmanager
def crowd(root: Path, bundles: Path, size: int) -> Iterator[list[Container]]:
    """Start containers that are not governed yet."""
    started: list[Container] = []
    try:
        for number in range(size):
            started.append(sandbox.start(root, bundles / str(number), name=f"one-of-many-{number}"))
        yield started
    finally:
        for each in started:
            each.kill()


def at_once(containers: list[Container], stage: str, status: str) -> Iterator[int]:
    """Call the hook for all containers, each once all are there and wait for their input; yield exit codes."""
    command = [PYTHON, "-I", "-S", str(HOOK), "--root", str(containers[0].root), stage]
    hooks = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in containers]
    for each, hook in zip(containers, hooks, strict=True):
        assert hook.stdin is not None
        hook.stdin.write(each.state(status))
    for hook in hooks:
        assert hook.stdin is not None
        hook.stdin.close()
    for hook in hooks:
        yield hook.wait()


def lives_in(*logs: Path) -> Counter[tuple[str, str]]:
    """Count the records of files by container and event; none of their lines may be torn."""
    lines = [line for log in logs for line in log.read_bytes().splitlines(keepends=True)]
    assert all(line.endswith(b"}\n") for line in lines)
    return Counter((record["container"]["id"], record["event"]) for record in map(json.loads, lines))


def test_200_at_once(root: Path, scratch: Path) -> None:
    """200 containers are created at the same moment, and end at the same moment: each has its two lines."""
    with crowd(root, scratch / "bundles", 200) as containers:
        assert set(at_once(containers, "createRuntime", "creating")) == {0}
        for each in containers:
            each.kill()
        assert set(at_once(containers, "poststop", "stopped")) == {0}
    expected = {(each.id, event) for each in containers for event in ("applied", "teardown")}
    assert lives_in(log_of(containers[0])) == dict.fromkeys(expected, 1)
    assert containers[0].pins() == containers[0].entries() == []


def test_rotation_while_50_write(root: Path, scratch: Path) -> None:
    """However often the log is rotated by renaming while hooks append, every line is in one of its files."""
    with crowd(root, scratch / "bundles", 50) as containers:
        log = log_of(containers[0])
        assert set(at_once(containers, "createRuntime", "creating")) == {0}
        for each in containers:
            each.kill()
        for number, code in enumerate(at_once(containers, "poststop", "stopped")):
            assert code == 0
            if log.exists():
                log.rename(log.with_name(f"audit.jsonl.{number}"))
    rotated = [each for each in log.parent.iterdir() if each != log]
    assert len(rotated) > 1
    expected = {(each.id, event) for each in containers for event in ("applied", "teardown")}
    assert lives_in(*log.parent.iterdir()) == dict.fromkeys(expected, 1)


def test_as_many_objects_as_there_can_be(container: Container, root: Path) -> None:
    """32768 of each kind of System V's, the kernel's limit: one record below 64 KiB, whose totals are exact."""
    most = 32768
    names = ("kernel.shmmni", "kernel.sem.semmni", "kernel.msgmni")
    put_in_force(root, profile(sysctls=dict.fromkeys(names, (most, None, None, None))))
    container.create().check()
    container.leave(f"--shm={most}", "--shm-touch=0", f"--sem={most}", f"--msg={most}", "--msg-count=0")
    container.kill()
    container.poststop().check()
    line = log_of(container).read_bytes().splitlines(keepends=True)[-1]
    record = json.loads(line)
    assert len(line) <= 65536
    left = record["leftovers"]
    assert [left[kind]["count"] for kind in ("shm", "sem", "msg")] == [most] * 3
    assert left["shm"]["claimed"] == most * 4096
    assert len(record["objects"]) + record["objects_omitted"] == 3 * most
    assert record["namespace"]["destroyed"] is True


def test_a_full_ledger_at_the_end(container: Container) -> None:
    """Where not even the findings can be put down nothing is freed: gc does it all once there is room."""
    directory = container.root / "run"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", directory).check()
    try:
        container.create().check()
        container.leave("--shm=1")
        container.kill()
        filler = directory / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1 << 16))
        result = container.poststop()
        assert (result.code, "cannot write the ledger entry" in result.stderr) == (74, True)
        assert len(container.pins()) == len(container.entries()) == 1
        filler.unlink()
        gc(container).check()
        assert container.records()[-1]["leftovers"]["shm"]["count"] == 1
        assert events(container) == ["applied", "error", "collected"]
    finally:
        run("umount", directory).check()
