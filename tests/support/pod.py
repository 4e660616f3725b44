"""Members of one namespace without a runtime: what their ends tell, and what is due then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import namespace
from support.sandbox import HOOK, PYTHON, profile, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container

    Start = Callable[..., Container]

KINDS = ("shm", "sem", "msg")


def gc(root: Path, *options: str) -> str:
    """Run ipcwarden gc, and return what it says."""
    return run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, "gc", *options).check().stdout


def join(start: Start, stays: Container) -> Container:
    """Start one more in the namespace of one that stays, with pids of its own, governed by what is in force."""
    joiner = start(ipc=str(stays.namespace), own_pids=True)
    joiner.create().check()
    return joiner


def pod(start: Start, root: Path, **settings: Any) -> tuple[Container, Container]:
    """Start two containers in one namespace, each with pids of its own; one of them stays."""
    put_in_force(root, profile(**{"leftovers": "remove", **settings}))
    stays = start(own_pids=True)
    stays.create().check()
    return stays, join(start, stays)


def stop(container: Container) -> dict[str, Any]:
    """End a container; return its record."""
    container.kill()
    container.poststop().check()
    return end_of(container)


def end_of(container: Container) -> dict[str, Any]:
    """Return the record of a container's end."""
    found = [each for each in container.records() if each["container"]["id"] == container.id][-1]
    validate(found, "audit-v1")
    return found


def stop_at(container: Container, call: str, number: int, sent: signal.Signals) -> int:
    """End a container, its poststop hook being sent a signal at one of its system calls; return the hook's code."""
    container.kill()
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(container.root), "poststop"]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal={int(sent)}:when={number}"]
    return run("strace", "-o", "/dev/null", *inject, *hook, stdin=container.state("stopped")).code


def killed_at(call: str, number: int, *command: str | Path) -> bool:
    """Run a command of which a process is killed at one of its system calls; tell whether that came to pass."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    return "killed by SIGKILL" in run("strace", "-f", *inject, *command).stderr


def collected(container: Container) -> list[dict[str, Any]]:
    """Return the records of what was collected of a container."""
    found = [each for each in container.records() if each["event"] == "collected"]
    for each in found:
        validate(each, "audit-v1")
    return [each for each in found if each["container"]["id"] == container.id]


def told(record: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Say how sure a record is of each kind's object, what became of it, and why."""
    return {each["kind"]: (each["confidence"], each["fate"], each.get("why", "")) for each in record["objects"]}


def counts(record: dict[str, Any], field: str = "leftovers") -> list[int]:
    """Return how many objects of each kind a record tells of."""
    return [total["count"] for total in record[field].values()]


def standing(container: Container) -> list[int]:
    """Return how many objects of each kind are in a namespace."""
    return list(namespace.counts(container.namespace).values())


def reap(*keys: int, age: int = 0) -> tuple[dict[str, Any], ...]:
    """Name keyed objects, of shm, sem and msg in turn."""
    return tuple({"kind": kind, "key": f"{key:#010x}", "age": age} for kind, key in zip(KINDS, keys, strict=False))


def due(root: Path) -> Path | None:
    """Find the file of what is due."""
    rooms = (root / "run" / "ipcwarden" / "namespaces").iterdir()
    return next((room / ".due" for room in rooms if (room / ".due").exists()), None)


def let_time_pass(root: Path) -> None:
    """Make what is due as old as it has to be."""
    file = due(root)
    assert file is not None
    noted = json.loads(file.read_text())
    for each in noted:
        each["reap"] = [{**selector, "age": 0} for selector in each["reap"]]
    file.write_text(json.dumps(noted))
