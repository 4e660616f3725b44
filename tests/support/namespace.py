"""What is in an IPC namespace, told by util-linux and the kernel rather than by the program under test."""

from __future__ import annotations

import json
import os
import pwd
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from support.bundle import PAYLOADS
from support.shell import run

if TYPE_CHECKING:
    from support.shell import Result

_LSIPC = {"shm": "--shmems", "sem": "--semaphores", "msg": "--queues"}

# Columns as they are printed, by the names that records give them.
_OF_LSIPC = {
    "shm": "key id perms uid gid cuid cgid ctime size nattch status attach detach cpid lpid",
    "sem": "key id perms uid gid cuid cgid ctime nsems otime",
    "msg": "key id uid gid cuid cgid ctime usedbytes msgs send recv lspid lrpid",  # perms are null in lsipc 2.38
}
_OF_IPCS = {
    "shm": "key id owner perms size nattch",
    "sem": "key id owner perms nsems",
    "msg": "key id owner perms usedbytes msgs",
}
_TIMES = frozenset(("ctime", "attach", "detach", "otime", "send", "recv"))


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


def told_by_lsipc(namespace: Path, kind: str) -> dict[int, dict[str, str | int]]:
    """List the objects of a kind by id, with all that lsipc tells of one, as a record would say it."""
    options = ("--json", "--bytes", "--numeric-perms", "--time-format=iso")
    listing = _enter(namespace, "lsipc", *options, _LSIPC[kind], f"--output={_OF_LSIPC[kind].replace(' ', ',')}").stdout
    [rows] = json.loads(listing).values()
    found = [{_called(name): _as_recorded(name, row[name] or "") for name in _OF_LSIPC[kind].split()} for row in rows]
    return {int(each["id"]): each for each in found}


def told_by_ipcs(namespace: Path, kind: str) -> dict[int, dict[str, str | int]]:
    """List the objects of a kind by id, with all that ipcs tells of one, as a record would say it."""
    listing = _enter(namespace, "ipcs", _LSIPC[kind]).stdout
    rows = [line.split() for line in listing.splitlines() if line.startswith("0x")]
    names = _OF_IPCS[kind].split()
    found = [{name: _as_recorded(name, word) for name, word in zip(names, row, strict=False)} for row in rows]
    return {int(each["id"]): each for each in found}


def _called(name: str) -> str:
    return "owner" if name == "uid" else name


def _as_recorded(name: str, told: str) -> str | int:
    """Turn what lsipc and ipcs print into what records hold."""
    if name == "owner" and not told.isdecimal():
        return str(pwd.getpwnam(told).pw_uid)
    if name == "perms":
        return f"{int(told, 8):04o}"
    if name in _TIMES:
        return int(datetime.fromisoformat(told).timestamp()) if told else 0
    return told if name in {"key", "owner", "uid", "status"} else int(told)


def queues(namespace: Path) -> list[str]:
    """List the POSIX message queues of a namespace; a name's bytes that are not UTF-8 are surrogates."""
    script = r"mount -t mqueue mqueue /mnt && find /mnt -mindepth 1 -printf '%P\0' | od -An -v -tx1"
    listing = bytes.fromhex(_enter(namespace, "unshare", "--mount", "sh", "-c", script).stdout)
    return sorted(os.fsdecode(name) for name in listing.split(b"\0") if name)


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
