"""A member of a shared namespace ends while others live: what is its, what is proven of it, and what is removed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.sandbox import profile, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container

    Start = Callable[..., Container]

ALL = ("--shm=1", "--sem=1", "--sem-op", "--msg=1", "--mqueue=1")
KEYED = ("--shm=1", "--shm-key=17", "--sem=1", "--sem-op", "--sem-key=18", "--msg=1", "--msg-key=19")
KINDS = ("shm", "sem", "msg")


def gc(root: Path, *options: str) -> None:
    """Run ipcwarden gc."""
    run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, "gc", *options).check()


def pod(start: Start, root: Path, **settings: Any) -> tuple[Container, Container]:
    """Start two containers in one namespace, each with pids of its own; one of them stays."""
    put_in_force(root, profile(**{"leftovers": "remove", **settings}))
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    return stays, goes


def reap(*keys: int, age: int = 0) -> tuple[dict[str, Any], ...]:
    """Name keyed objects, of shm, sem and msg in turn."""
    return tuple({"kind": kind, "key": f"{key:#010x}", "age": age} for kind, key in zip(KINDS, keys, strict=False))


def stop(container: Container) -> dict[str, Any]:
    """End a container; return its record."""
    container.kill()
    container.poststop().check()
    record = [each for each in container.records() if each["container"]["id"] == container.id][-1]
    validate(record, "audit-v1")
    return record


def told(record: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Say how sure a record is of each kind's object, what became of it, and why."""
    return {each["kind"]: (each["confidence"], each["fate"], each.get("why", "")) for each in record["objects"]}


def counts(record: dict[str, Any], field: str = "leftovers") -> list[int]:
    """Return how many objects of each kind a record tells of."""
    return [total["count"] for total in record[field].values()]


def standing(container: Container) -> list[int]:
    """Return how many objects of each kind are in a namespace."""
    return list(namespace.counts(container.namespace).values())


def test_a_leaker_and_a_living_one(start: Start, root: Path) -> None:
    """What the dead left is its, proven as far as there are pids; private memory goes, what lives is not touched."""
    stays, goes = pod(start, root)
    stays.work(*ALL, "--mqueue-name=kept")  # a dead worker of the living
    goes.work(*ALL)
    record = stop(goes)
    assert told(record) == {
        "shm": ("proven", "removed", ""),
        "sem": ("proven", "held", "not-named"),
        "msg": ("proven", "held", "not-named"),
        "mqueue": ("plausible", "held", "queue"),
    }
    # Nobody has a pid of a POSIX queue: the one that the living has made since is not told from the leaker's.
    assert (counts(record), counts(record, "present")) == ([1, 1, 1, 2], [2, 2, 2, 2])
    assert counts(record, "removed") == [1, 0, 0, 0]
    assert standing(stays) == [1, 2, 2, 2]
    last = stop(stays)
    assert counts(last) == [1, 2, 2, 2]
    assert "confidence" not in last["objects"][0]


def test_what_was_there_before_is_not_its(start: Start, root: Path) -> None:
    """Whatever stood there when it joined is none of a joiner's leftovers, dead makers or not."""
    put_in_force(root, profile(leftovers="remove"))
    stays = start(own_pids=True)
    stays.create().check()
    stays.leave(*ALL)
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    record = stop(goes)
    assert (counts(record), counts(record, "present")) == ([0] * 4, [1] * 4)
    assert standing(stays) == [1] * 4


def test_reports_and_touches_nothing(start: Start, root: Path) -> None:
    """Under `report` the same is told, and all of it stays."""
    stays, goes = pod(start, root, leftovers="report", reap=reap(17, 18, 19))
    goes.work(*KEYED)
    record = stop(goes)
    assert told(record) == dict.fromkeys(KINDS, ("proven", "held", "report"))
    assert standing(stays) == [1, 1, 1, 0]


def test_permissive_mode_touches_nothing(start: Start, root: Path) -> None:
    """In permissive mode nothing is removed, whatever the profile says."""
    put_in_force(root, profile(leftovers="remove"), mode="permissive")
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    goes.work("--shm=1")
    assert told(stop(goes)) == {"shm": ("proven", "held", "permissive")}
    assert standing(stays) == [1, 0, 0, 0]


def test_removes_what_reap_names(start: Start, root: Path) -> None:
    """Keyed objects go where `reap` names them."""
    stays, goes = pod(start, root, reap=reap(17, 18, 19))
    goes.work(*KEYED)
    record = stop(goes)
    assert told(record) == dict.fromkeys(KINDS, ("proven", "removed", ""))
    assert standing(stays) == [0] * 4


def test_keeps_what_keep_names(start: Start, root: Path) -> None:
    """What `keep` names stays, private or named by `reap`."""
    stays, goes = pod(start, root, reap=reap(17, 18, 19), keep=({"kind": "shm"}, {"kind": "sem", "key": "0x00000012"}))
    goes.work(*KEYED)
    assert told(stop(goes)) == {
        "shm": ("proven", "held", "keep"),
        "sem": ("proven", "held", "keep"),
        "msg": ("proven", "removed", ""),
    }
    assert standing(stays) == [1, 1, 0, 0]


def test_never_used_is_no_proof(start: Start, root: Path) -> None:
    """An array that nobody has operated on, and a queue that nobody has sent to, may be a living one's: they stay."""
    stays, goes = pod(start, root, reap=({"kind": "sem", "age": 0}, {"kind": "msg", "age": 0}))
    goes.work("--sem=1", "--msg=1", "--msg-count=0")
    record = stop(goes)
    assert told(record) == dict.fromkeys(("sem", "msg"), ("plausible", "held", "plausible"))
    assert standing(stays) == [0, 1, 1, 0]


def test_what_is_attached_is_in_use(start: Start, root: Path) -> None:
    """A segment that a living one has attached is no leftover, whoever made it."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    [segment] = namespace.objects(stays.namespace, "shm")
    attach = f"import ctypes; ctypes.CDLL(None).shmat({segment['id']}, None, 0);print('there', flush=True); input()"
    command = ["nsenter", f"--ipc={stays.namespace}", f"--pid=/proc/{stays.pid}/ns/pid", "python3", "-c", attach]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        user.stdout.readline()
        record = stop(goes)
        assert (counts(record), counts(record, "present")) == ([0] * 4, [1, 0, 0, 0])
        user.communicate("\n")
    assert standing(stays) == [1, 0, 0, 0]


@pytest.mark.parametrize("guest", [True, False], ids=["guest", "nobody knows it"])
def test_an_ungoverned_process_counts(start: Start, root: Path, guest: bool) -> None:
    """What belongs to one that lives there without being governed, or that nobody has told us of, is in use."""
    stays, goes = pod(start, root)
    put_in_force(root, profile(), when=[("name", ("nobody",))])
    other = start(ipc=str(stays.namespace), own_pids=True)
    if guest:
        other.create().check()
    other.work("--shm=1")
    goes.work("--shm=1")
    record = stop(goes)
    assert (counts(record), counts(record, "present")) == ([1, 0, 0, 0], [2, 0, 0, 0])
    assert standing(stays) == [1, 0, 0, 0]


def test_what_the_hosts_processes_use_is_unknown(start: Start, root: Path) -> None:
    """Where a process of the host's own pid namespace is in there nothing is proven, and nothing removed."""
    stays, goes = pod(start, root)
    start(ipc=str(stays.namespace))
    goes.work("--shm=1")
    record = stop(goes)
    assert told(record) == {"shm": ("unknown", "held", "unknown")}
    assert record["objects"][0]["evidence"] == ["no-pid-namespace"]
    assert standing(stays) == [1, 0, 0, 0]


def test_without_a_pid_namespace_nothing_is_known(start: Start, root: Path) -> None:
    """A container that had the host's pids leaves what nobody can tell from others'."""
    put_in_force(root, profile(leftovers="remove"))
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace))
    goes.create().check()
    goes.leave("--shm=1")
    assert told(stop(goes)) == {"shm": ("unknown", "held", "unknown")}
    assert standing(stays) == [1, 0, 0, 0]


def test_a_maker_that_left_the_namespace_lives(start: Start, root: Path) -> None:
    """What a process made that lives elsewhere now is in use."""
    stays, goes = pod(start, root)
    make = (
        "import ctypes,os,sys; c=ctypes.CDLL(None); own=os.open('/proc/self/ns/ipc', 0);"
        f"c.setns(os.open('{stays.namespace}', 0), 0); c.shmget(0, 9, 0o1600); c.setns(own, 0);"
        "print('made', flush=True); input()"
    )
    with subprocess.Popen(["python3", "-c", make], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        record = stop(goes)
        maker.communicate("\n")
    assert (counts(record), counts(record, "present")) == ([0] * 4, [1, 0, 0, 0])
    assert standing(stays) == [1, 0, 0, 0]
