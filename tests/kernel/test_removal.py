"""Objects are removed one by one, each only while it is what was judged, and never the host's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ipcwarden.errors import NamespaceError
from ipcwarden.stages.reaping import collect_due, remove_planned
from ipcwarden.stages.site import Site
from support.bundle import PAYLOADS
from support.sandbox import PYTHON
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Judges what LEAVE has made, lets somebody do something to it, and removes it as it was judged.
PROGRAM = """
import ctypes, os, subprocess, sys, time
sys.path.insert(0, {hooks!r})
from ipcwarden.core.leftovers import stamps_of
from ipcwarden.host.inventory import take_inventory
from ipcwarden.host.pidspace import ask_semaphores
from ipcwarden.host.removal import remove

subprocess.run({leave!r}, check=True, stdout=subprocess.DEVNULL)
[(kind, table)] = [each for each in take_inventory().tables.items() if len(each[1])]
[number] = table.column("id")
pids, _ = ask_semaphores(dict(zip(table.column("id"), table.column("nsems") if kind == "sem" else [])))
[stamp] = stamps_of(table, [0], pids)
{meanwhile}
outcome = remove(kind, number, stamp)
os.seteuid(0)
print(outcome, len(take_inventory()))
"""


def removal(meanwhile: str, *leave: str) -> list[str]:
    """Return what comes of it, and how many objects are there then, in a namespace of its own."""
    program = PROGRAM.format(
        hooks=str(REPOSITORY / "hooks"), leave=[str(PAYLOADS / "leave"), *leave], meanwhile=meanwhile
    )
    return run("unshare", "--ipc", PYTHON, "-c", program).check().stdout.rstrip("\n").split(" ")


@pytest.fixture
def hosts_segment(lab: Path) -> Iterator[str]:
    """Leave a segment in the host's namespace, which is the tests' own."""
    made = run("ipcmk", "-M", "4096").check().stdout.rsplit(None, 1)[1]
    yield made
    run("ipcrm", "-m", made).check()


def test_the_hosts_namespace_is_refused(root: Path, hosts_segment: str) -> None:
    """Whoever comes with the host's namespace is turned away before anything is removed."""
    own = os.open("/proc/self/ns/ipc", os.O_RDONLY)
    try:
        with pytest.raises(NamespaceError, match="it is the host's"):
            remove_planned(Site(str(root), "gc"), own, {"shm": [[int(hosts_segment), 0, 0, 0, 0, 0, 0, 0]]})
    finally:
        os.close(own)
    assert hosts_segment in run("ipcs", "-m").check().stdout


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_removes_what_was_judged(kind: str) -> None:
    """What is as it was listed goes, keyed or not: the kernel's tables and its answers agree."""
    for key in ((), (f"--{kind}-key=0xfedcba98",)):
        assert removal("", f"--{kind}=1", *key, *(["--sem-op"] if kind == "sem" else [])) == ["", "0"]


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_what_is_gone_is_no_error(kind: str) -> None:
    """Somebody may be faster."""
    assert removal('subprocess.run(["ipcrm", "-a"], check=True)', f"--{kind}=1") == ["gone", "0"]


AGAIN = """
subprocess.run(["ipcrm", "-a"], check=True)
open("/proc/sys/kernel/{kind}_next_id", "w").write(str(number))
subprocess.run({leave!r}, check=True, stdout=subprocess.DEVNULL)
assert take_inventory().tables[kind].column("id") == [number]
"""


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_an_id_that_was_given_again(kind: str) -> None:
    """Another object under the id of one that was judged is not removed."""
    again = AGAIN.format(kind=kind, leave=[str(PAYLOADS / "leave"), f"--{kind}=1", f"--{kind}-key=77"])
    assert removal(again, f"--{kind}=1") == ["changed", "1"]


ATTACH = """
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(number, None, 0)
"""
# A second process waits until the first semaphore, which is zero, is more than that.
WAIT = """
libc = ctypes.CDLL(None)
waiter = os.fork()
if not waiter:
    libc.prctl(1, 9)
    libc.semop(number, (ctypes.c_short * 3)(0, -1, 0), 1)
    os._exit(0)
while not libc.semctl(number, 0, 14):
    os.sched_yield()
"""
# Within the second in which it was judged, for the kernel's times have no fractions.
USES = {
    "attached": ("shm", ATTACH, "in-use"),
    "detached": ("shm", f"{ATTACH}libc.shmdt(ctypes.c_void_p(at))", "changed"),
    "operated on": ("sem", "ctypes.CDLL(None).semctl(number, 1, 16, 1)", "changed"),
    "waited for": ("sem", WAIT, "in-use"),
    "received from": ("msg", "ctypes.CDLL(None).msgrcv(number, ctypes.create_string_buffer(99), 64, 0, 0)", "changed"),
    "sent to": ("msg", "ctypes.CDLL(None).msgsnd(number, (ctypes.c_long * 2)(1), 8, 0)", "changed"),
}


@pytest.mark.parametrize(("kind", "meanwhile", "outcome"), USES.values(), ids=USES)
def test_what_came_into_use(kind: str, meanwhile: str, outcome: str) -> None:
    """What somebody has attached, operated on, waits for, sent to or received from since stays."""
    size = ["--sem-size=2"] if kind == "sem" else []
    assert removal(meanwhile, f"--{kind}=1", *size) == [outcome, "1"]


def test_what_the_kernel_refuses() -> None:
    """Without the right to remove what is another user's, it stays."""
    assert removal("os.seteuid(1000)", "--msg=1", "--mode=666") == ["failed", "1"]


def test_nothing_is_due_where_nobody_is(root: Path) -> None:
    """A namespace that nobody governed is in has nothing due."""
    (root / "run").mkdir()
    assert collect_due(Site(str(root), "gc"), "1") == []
