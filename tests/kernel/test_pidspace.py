"""Who lives in a shared namespace is asked from the pid namespaces there, few or many, nested or beside each other."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.sandbox import HOOK, PYTHON, SLOW_TO_SEE, hunt, profile, put_in_force
from support.shell import run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.sandbox import Container

    Start = Callable[..., Container]

# Starts processes in an IPC namespace, each the first in a pid namespace of its own, below another if one is given.
_SPACES = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
ipc, *above = [os.open(path, os.O_RDONLY) for path in sys.argv[2:]]
for _ in range(int(sys.argv[1])):
    if not os.fork():
        assert libc.setns(ipc, 0x08000000) == 0
        for space in above:
            assert libc.setns(space, 0x20000000) == 0
            if os.fork():
                os.wait()
                os._exit(0)
        assert libc.unshare(0x20000000) == 0
        if not os.fork():
            signal.pause()
        os._exit(0)
    os.wait()
print("there", flush=True)
signal.pause()
"""


@contextmanager
def inhabited(number: int, *namespaces: object) -> Iterator[None]:
    """Let so many processes live, each in a pid namespace of its own, in an IPC namespace and below a pid namespace."""
    command = [PYTHON, "-c", _SPACES, str(number), *map(str, namespaces)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "there\n"
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def pod(start: Start, root: Path, **settings: Any) -> tuple[Container, Container]:
    """Start two containers in one namespace, each with pids of its own."""
    put_in_force(root, profile(**{"leftovers": "remove", **settings}))
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    return stays, goes


def stop(container: Container, *launcher: str) -> dict[str, Any]:
    """End a container, with a poststop that something launches; return its record."""
    container.kill()
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(container.root), "poststop"]
    run(*launcher, *hook, stdin=container.state("stopped")).check()
    return [each for each in container.records() if each["container"]["id"] == container.id][-1]


def segments(container: Container) -> int:
    """Return how many segments are in a namespace."""
    return namespace.counts(container.namespace)["shm"]


def test_many_nested_in_one(start: Start, root: Path) -> None:
    """However many pid namespaces a member makes below its own, that alone is asked: it has a pid for all of them."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    with inhabited(100, stays.namespace, f"/proc/{stays.pid}/ns/pid"):
        record = stop(goes, "prlimit", "--nofile=64:64")
    assert [(each["confidence"], each["fate"]) for each in record["objects"]] == [("proven", "removed")]
    assert segments(stays) == 0


@pytest.mark.parametrize(("number", "descriptors"), [(70, 1024), (40, 32)], ids=["too many", "too few descriptors"])
def test_many_beside_each_other(start: Start, root: Path, number: int, descriptors: int) -> None:
    """Where more live there than can be asked nothing is known, and a member's end is told all the same."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    with inhabited(number, stays.namespace):
        record = stop(goes, "prlimit", f"--nofile={descriptors}:{descriptors}")
    [found] = record["objects"]
    assert (found["confidence"], found["evidence"], found["fate"]) == ("unknown", ["no-answer"], "held")
    assert segments(stays) == 1


# Has a child that lives on in a pid namespace below its own and an IPC namespace, and another that makes a segment
# there and ends; it is in another IPC namespace itself.
_ABOVE = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
theirs = os.open(sys.argv[1], os.O_RDONLY)
if not os.fork():
    assert libc.setns(theirs, 0x08000000) == 0
    assert libc.unshare(0x20000000) == 0
    if not os.fork():
        signal.pause()
    os._exit(0)
os.wait()
if not os.fork():
    assert libc.setns(theirs, 0x08000000) == 0
    assert libc.shmget(0, 4096, 0o1600) >= 0
    os._exit(0)
os.wait()
print("made", flush=True)
signal.pause()
"""


def test_of_one_whose_only_living_is_nested(start: Start, root: Path) -> None:
    """What a stranger's dead worker made is the stranger's, though what lives of it there is in nested pids."""
    stays, goes = pod(start, root)
    command = ["unshare", "--pid", "--fork", "--ipc", "--kill-child", PYTHON, "-c", _ABOVE, str(stays.namespace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        try:
            assert stranger.stdout.readline() == "made\n"
            record = stop(goes)
        finally:
            stranger.kill()
    assert record["leftovers"]["shm"]["count"] == 0
    assert record["present"]["shm"]["count"] == 1
    assert segments(stays) == 1


# Stops whatever is nobody's, as nobody, again and again.
_STOPPER = """
import os, signal
os.nice(-20)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print("there", flush=True)
while True:
    try:
        os.kill(-1, signal.SIGSTOP)
    except ProcessLookupError:
        pass
"""


def nobodys() -> set[int]:
    """Return the processes that are nobody's."""
    return set(map(int, run("pgrep", "--uid", "65534").stdout.split()))


def test_nobody_of_the_hosts_keeps_us_waiting(start: Start, root: Path) -> None:
    """Where a process of nobody's on the host stops whoever looks, the hook goes on in time, and leaves none behind."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    stays.work(*SLOW_TO_SEE)
    with subprocess.Popen([PYTHON, "-c", _STOPPER], stdout=subprocess.PIPE, text=True) as stopper:
        assert stopper.stdout is not None
        try:
            assert stopper.stdout.readline() == "there\n"
            record = stop(goes, "timeout", "20")
            assert nobodys() == {stopper.pid}
        finally:
            stopper.kill()
            for pid in nobodys():
                os.kill(pid, signal.SIGKILL)
    found = {each["kind"]: each for each in record["objects"]}["shm"]
    assert (found["confidence"], found["evidence"], found["fate"]) == ("unknown", ["no-answer"], "held")


def test_who_looks_ends_after_a_hook_that_was_killed(start: Start, root: Path) -> None:
    """Whoever looks from a container, and is stopped there, does not outlive a hook that has been killed for long."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    stays.work(*SLOW_TO_SEE)
    goes.kill()
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(root), "poststop"]
    with hunt(stays, signal.SIGSTOP), subprocess.Popen(hook, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(goes.state("stopped"))
        process.stdin.close()
        until(lambda: len(nobodys()) == 2, "somebody to look")
        process.kill()
        process.wait()
        until(lambda: not nobodys(), "them to end", deadline=10)
