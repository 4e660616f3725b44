"""RLIMIT_MSGQUEUE of a container's process (getrlimit(2)): the bytes of POSIX message queues that it may add.

The kernel counts them per user, across all IPC namespaces: whoever uses up a user's share starves the others of it.
"""

from __future__ import annotations

import posix

from ipcwarden.errors import ApplyError, why
from ipcwarden.files import read
from ipcwarden.syscalls import RLIMIT_MSGQUEUE, prlimit

_MAX_BYTES = 1 << 16
_LINE = b"Max msgqueue size"
_INFINITY = (1 << 64) - 1


def msgqueue_of(pid: int) -> tuple[int, int] | None:
    """Return a process' limit in bytes, soft and hard; None where it has ended (proc_pid_limits(5))."""
    try:
        content = read(f"/proc/{pid}/limits", _MAX_BYTES)
    except OSError:
        return None
    if _LINE not in content:  # nobody reads those of a process that is only to be reaped
        return None
    soft, hard = content.split(_LINE, 1)[1].split(None, 2)[:2]
    return _bytes_of(soft), _bytes_of(hard)


def _bytes_of(word: bytes) -> int:
    return _INFINITY if word == b"unlimited" else int(word)


def lower_msgqueue(pid: int, most: int) -> int | None:
    """Let a process have at most `most` bytes; return the hard limit that it has then, None where it has ended.

    A limit is never raised: that takes CAP_SYS_RESOURCE, and the process has started with what it was given.
    Raises `ApplyError`.
    """
    found = msgqueue_of(pid)
    if found is None or found[1] <= most:
        return None if found is None else found[1]
    try:
        try:
            prlimit(pid, RLIMIT_MSGQUEUE, min(found[0], most), most)
        except PermissionError:
            _lower_as_its_user(pid, min(found[0], most), most)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise ApplyError(f"cannot set RLIMIT_MSGQUEUE of process {pid} to {most}: {why(error)}") from error
    now = msgqueue_of(pid)
    if now is not None and now[1] > most:
        raise ApplyError(f"cannot set RLIMIT_MSGQUEUE of process {pid} to {most}: it has {now[1]}")
    return None if now is None else now[1]


def _lower_as_its_user(pid: int, soft: int, hard: int) -> None:
    """Do so with the real ids of the process: without CAP_SYS_RESOURCE that is what prlimit(2) asks for."""
    status = read(f"/proc/{pid}/status", _MAX_BYTES)
    user, group = (int(status.split(kind, 1)[1].split(None, 1)[0]) for kind in (b"\nUid:", b"\nGid:"))
    ours = posix.getuid(), posix.getgid()
    try:
        if group != ours[1]:
            posix.setresgid(group, -1, -1)
        posix.setresuid(user, -1, -1)
        prlimit(pid, RLIMIT_MSGQUEUE, soft, hard)
    finally:
        posix.setresuid(ours[0], -1, -1)
        if group != ours[1]:
            posix.setresgid(ours[1], -1, -1)
