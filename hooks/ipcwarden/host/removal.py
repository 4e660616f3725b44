"""Removing System V objects of the current IPC namespace, each only while it is what was judged (shmctl(2)).

Ids are given again, at a container's will where it owns its user namespace.  So an object is known by its id, key,
creator and times, and by the pids that it has, for its times have no fractions of seconds; all of that is asked for
again right before it is removed.
"""

from __future__ import annotations

import posix

from ipcwarden.syscalls import GETNCNT, GETPID, GETZCNT, NO_SUCH_OBJECT, ipc_rmid, ipc_stat, semctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Where the kernel puts these on 64 bits, as ints and as longs (linux/{shm,sem,msg}buf.h of asm-generic).  What another
# architecture has there is not what was judged: nothing is removed then.
_KEY, _CUID, _NATTCH, _NSEMS = 0, 3, 11, 8
_TIMES = {"shm": (9, 7, 8), "sem": (7, 6), "msg": (8, 6, 7)}
_PIDS_AT = {"shm": (20, 21), "sem": (), "msg": (24, 25)}
_X86_SEM_TIMES, _X86_NSEMS = (8, 6), 10  # x86 has kept room between them


def stamp_in(kind: str, status: memoryview, machine: str) -> list[int]:
    """Return what an object is known by, as `core.leftovers.STAMPS` names it, from what the kernel describes it by.

    `machine` is uname's.
    """
    times = _X86_SEM_TIMES if kind == "sem" and machine == "x86_64" else _TIMES[kind]
    # Views: cutting each number out of bytes takes longer than the kernel takes to remove an object.
    ints, longs = status.cast("i"), status.cast("q")
    stamp = [ints[_KEY], status.cast("I")[_CUID], *[longs[at] for at in times]]
    return stamp + [ints[at] for at in _PIDS_AT[kind]]


def remove(kind: str, number: int, stamp: Sequence[int]) -> str:
    """Remove an object of the current IPC namespace that is what its stamp says; return what came of it.

    The stamp is as `core.leftovers.stamps_of` gives it.  An empty string, `gone` (somebody was faster), `in-use`,
    `changed`, or `failed`.
    """
    try:
        status = memoryview(ipc_stat(kind, number))
        if kind == "shm" and status.cast("q")[_NATTCH]:
            return "in-use"
        machine = posix.uname().machine if kind == "sem" else ""
        known = stamp_in(kind, status, machine)
        if kind == "sem":
            places = range(status.cast("q")[_X86_NSEMS if machine == "x86_64" else _NSEMS])
            known += sorted({semctl(number, at, GETPID) for at in places} - {0})
            if any(semctl(number, at, ask) for at in places for ask in (GETNCNT, GETZCNT)):
                return "in-use"
        if known != list(stamp):
            return "changed"
        ipc_rmid(kind, number)
    except OSError as error:
        return "gone" if error.errno in NO_SUCH_OBJECT else "failed"
    return ""
