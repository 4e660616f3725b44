"""What stands in an IPC namespace, told by lsipc, /proc/sysvipc and the kernel's own calls: never by ipcwarden.

As a program, in that namespace: print its POSIX queues as JSON, {name: {a record's names of attributes: number}}.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import namespace
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Told = dict[str, str | int]

PAGE = os.sysconf("SC_PAGE_SIZE")
KINDS = ("shm", "sem", "msg", "mqueue")
_IDS = {"shm": "shmid", "sem": "semid", "msg": "msqid"}
# What an object holds, and what it claims of a limit, in bytes: by the columns of its table in /proc/sysvipc.
_AMOUNTS: dict[str, Callable[[dict[str, int]], tuple[int, int]]] = {
    "shm": lambda row: (row["rss"] + row["swap"], -(-row["size"] // PAGE) * PAGE),
    "sem": lambda row: (64 * row["nsems"], 64 * row["nsems"]),
    "msg": lambda row: (row["cbytes"] + 72 * row["qnum"], row["cbytes"] + 72 * row["qnum"]),
}


@dataclass(frozen=True)
class Census:
    """Objects by kind and id; queues by name."""

    objects: dict[tuple[str, int | str], Told]

    @property
    def totals(self) -> dict[str, dict[str, int]]:
        """Add them up as a record does: kind -> count, bytes held and claimed."""
        sums = {}
        for kind in KINDS:
            these = [told for (each, _), told in self.objects.items() if each == kind]
            held, claimed = (sum(int(told[name]) for told in these) for name in ("bytes", "claimed"))
            sums[kind] = {"count": len(these), "bytes": held, "claimed": claimed}
        return sums

    @property
    def sizes(self) -> list[int]:
        """List the bytes that objects hold, the largest first."""
        return sorted((int(told["bytes"]) for told in self.objects.values()), reverse=True)

    def beside(self, earlier: Census) -> Census:
        """Return what has come since."""
        return Census({which: told for which, told in self.objects.items() if which not in earlier.objects})


def census(of: Path) -> Census:
    """Count a namespace: a pin, or /proc/PID/ns/ipc."""
    found: dict[tuple[str, int | str], Told] = {}
    for kind, amounts in _AMOUNTS.items():
        rows = {row[_IDS[kind]]: amounts(row) for row in _table(of, kind)}
        listed = namespace.told_by_lsipc(of, kind)
        assert listed.keys() == rows.keys(), f"{kind} objects came and went while they were counted"
        for number, told in listed.items():
            held, claimed = rows[number]
            found[kind, number] = {**told, "bytes": held, "claimed": claimed}
    command = ("nsenter", f"--ipc={of}", "unshare", "--mount", sys.executable, "-m", "apps.census")
    queues: dict[str, Told] = json.loads(run(*command, env={"PYTHONPATH": ":".join(sys.path)}).check().stdout)
    found |= {("mqueue", name): told for name, told in queues.items()}
    return Census(found)


def audited(objects: list[Told]) -> dict[tuple[str, int | str], Told]:
    """Key a record's objects as a census does."""
    return {(kind, each["name" if kind == "mqueue" else "id"]): each for each in objects if (kind := str(each["kind"]))}


def _table(of: Path, kind: str) -> list[dict[str, int]]:
    lines = run("nsenter", f"--ipc={of}", "cat", f"/proc/sysvipc/{kind}").check().stdout.splitlines()
    names = lines[0].split()
    return [dict(zip(names, map(int, line.split()), strict=True)) for line in lines[1:]]


def _queues() -> dict[str, Told]:
    run("mount", "-t", "mqueue", "mqueue", "/mnt").check()
    return {f"/{entry.name}": _queue(entry) for entry in os.scandir("/mnt")}


def _queue(entry: os.DirEntry[str]) -> Told:
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.mq_open(f"/{entry.name}".encode(), os.O_RDONLY)
    assert queue >= 0, f"mq_open: {os.strerror(ctypes.get_errno())}"
    attributes = (ctypes.c_long * 8)()  # struct mq_attr
    assert libc.mq_getattr(queue, attributes) == 0, f"mq_getattr: {os.strerror(ctypes.get_errno())}"
    os.close(queue)
    _flags, maxmsg, msgsize, msgs, *_ = attributes
    with open(entry.path, encoding="ascii") as file:
        used = int(file.read().partition("QSIZE:")[2].split()[0])
    status = entry.stat()
    # As RLIMIT_MSGQUEUE counts a queue (getrlimit(2)): its messages, 48 bytes for each, and for a node of a tree each.
    claimed = maxmsg * (msgsize + 48 + 48)
    told: Told = {
        "owner": str(status.st_uid),
        "perms": f"{status.st_mode & 0o7777:04o}",
        "msgs": msgs,
        "usedbytes": used,
    }
    return {**told, "maxmsg": maxmsg, "msgsize": msgsize, "bytes": used + 48 * msgs, "claimed": claimed}


if __name__ == "__main__":
    json.dump(_queues(), sys.stdout)
