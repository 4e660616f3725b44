"""Removing System V objects of the current IPC namespace, each only while it is what was judged (shmctl(2)).

Ids are given again, at a container's will where it owns its user namespace.  So an object is known by its id, key,
creator and times, which are asked for again right before it is removed.
"""

from __future__ import annotations

import posix
from sys import byteorder

from ipcwarden.syscalls import NO_SUCH_OBJECT, ipc_rmid, ipc_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Where the kernel puts these, and shm_nattch, on 64 bits: offset and bytes (linux/{shm,sem,msg}buf.h of asm-generic).
# What another architecture has there is not what was judged: nothing is removed then.
_KEY, _CUID, _NATTCH = (0, 4), (12, 4), (88, 8)
_TIMES = {"shm": (72, 56, 64), "sem": (56, 48), "msg": (64, 48, 56)}
_X86_SEM_TIMES = (64, 48)  # x86 has kept room between them


def stamp_in(kind: str, status: bytes, machine: str) -> list[int]:
    """Return what an object is known by, as `core.leftovers.STAMPS` names it, from what the kernel describes it by.

    `machine` is uname's.
    """
    times = _X86_SEM_TIMES if kind == "sem" and machine == "x86_64" else _TIMES[kind]
    key, cuid = _number_at(status, *_KEY, signed=True), _number_at(status, *_CUID)
    return [key, cuid, *(_number_at(status, at, 8) for at in times)]


def _number_at(status: bytes, at: int, size: int, signed: bool = False) -> int:
    return int.from_bytes(status[at : at + size], byteorder, signed=signed)


def remove(kind: str, number: int, stamp: Sequence[int]) -> str:
    """Remove an object of the current IPC namespace that is what its stamp says; return what came of it.

    An empty string, `gone` (somebody was faster), `in-use`, `changed`, or `failed`.
    """
    try:
        status = ipc_stat(kind, number)
        if kind == "shm" and _number_at(status, *_NATTCH):
            return "in-use"
        if stamp_in(kind, status, posix.uname().machine) != list(stamp):
            return "changed"
        ipc_rmid(kind, number)
    except OSError as error:
        return "gone" if error.errno in NO_SUCH_OBJECT else "failed"
    return ""
