"""What is in an IPC namespace, told by util-linux and the kernel rather than by the program under test."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from support.bundle import PAYLOADS
from support.shell import run

if TYPE_CHECKING:
    from support.shell import Result

_LSIPC = {"shm": "--shmems", "sem": "--semaphores", "msg": "--queues"}


def values(limits: str) -> dict[str, str]:
    """Read what the payload `limits` prints: name -> value."""
    pairs = (line.partition(" ") for line in limits.splitlines())
    return {name: value for name, _, value in pairs if name.startswith(("kernel.", "fs.mqueue."))}


def limits(namespace: Path) -> dict[str, str]:
    """Read every governed sysctl of a namespace (a pin, or /proc/PID/ns/ipc)."""
    return values(_enter(namespace, PAYLOADS / "limits").stdout)


def objects(namespace: Path, kind: str) -> list[dict[str, str]]:
    """List the objects of a kind (shm, sem, msg) of a namespace: the columns of lsipc, in lower case."""
    listing = _enter(namespace, "lsipc", "--json", "--bytes", "--numeric-perms", _LSIPC[kind]).stdout
    rows: list[dict[str, str]]
    [rows] = json.loads(listing).values()  # one list, nameless if it is empty
    return rows


def queues(namespace: Path) -> list[str]:
    """List the POSIX message queues of a namespace; a name's bytes that are not UTF-8 are surrogates."""
    script = r"mount -t mqueue mqueue /mnt && find /mnt -mindepth 1 -printf '%P\0'"
    listing = _enter(namespace, "unshare", "--mount", "sh", "-c", script).stdout
    return sorted(filter(None, listing.split("\0")))


def counts(namespace: Path) -> dict[str, int]:
    """Count the objects of all four kinds."""
    return {kind: len(objects(namespace, kind)) for kind in _LSIPC} | {"mqueue": len(queues(namespace))}


def members(namespace: Path) -> list[int]:
    """List the processes in a namespace."""
    wanted = namespace.stat()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.path.samestat((entry / "ns" / "ipc").stat(), wanted):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended while we looked
    return sorted(found)


def _enter(namespace: Path, *command: str | Path) -> Result:
    return run("nsenter", f"--ipc={namespace}", *command).check()
