"""What a test run may leave behind, seen from inside tests/support/machine: it must be nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from support import namespace
from support.shell import until

OURS = Path("/proc/self/ns/ipc")


@dataclass(frozen=True)
class Residue:
    """All that a run could change outside of its scratch directory."""

    mounts: frozenset[str]
    processes: frozenset[str]
    objects: frozenset[str]
    limits: frozenset[str]

    def beside(self, before: Residue) -> list[str]:
        """Tell what differs from an earlier look, one sentence each."""
        sentences = []
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(before, field.name)
            sentences += [f"{field.name}: left behind: {item}" for item in sorted(now - then)]
            sentences += [f"{field.name}: no longer there: {item}" for item in sorted(then - now)]
        return sentences


def look() -> Residue:
    """Look at the machine: its mounts, its processes, the objects and limits of its IPC namespace."""
    return Residue(
        mounts=frozenset(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()),
        processes=frozenset(_processes()),
        objects=frozenset(_objects()),
        limits=frozenset(f"{name} {value}" for name, value in namespace.limits(OURS).items()),
    )


def nothing_since(before: Residue) -> None:
    """Wait until all is as it was (engines end their helpers a moment after themselves); fail with what is not."""
    latest: list[str] = []

    def clean() -> bool:
        latest[:] = look().beside(before)
        return not latest

    try:
        until(clean, "nothing to be left", deadline=5)
    except AssertionError:
        raise AssertionError("\n".join(["this run changed the machine", *latest])) from None


def _processes() -> list[str]:
    """Name every process but this one and the programs that it calls to look around."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
                found.append(f"{entry.name} {command or (entry / 'comm').read_text(encoding='utf-8')}".strip())
            except (FileNotFoundError, ProcessLookupError):
                pass  # it ended while we looked
    return found


def _objects() -> list[str]:
    identities = ("key", "id", "owner", "perms")
    listed = [
        " ".join([kind, *(f"{name}={row.get(name)}" for name in identities)])
        for kind in ("shm", "sem", "msg")
        for row in namespace.objects(OURS, kind)
    ]
    return listed + [f"mqueue {name!r}" for name in namespace.queues(OURS)]
