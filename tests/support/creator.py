"""Makes IPC objects as a JSON document on standard input says, and keeps what it has attached until its input ends.

`tests/payload/leave` makes many alike; this makes few, each as odd as it is asked for.  Run as a program, in a
namespace of its own; prints a line when all is made.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_CREATE, _EXCLUSIVE = 0o1000, 0o2000  # IPC_CREAT, IPC_EXCL
_IPC_RMID, _SHM_LOCK, _NORESERVE = 0, 11, 0o10000
_LIBRARY = ctypes.CDLL(None, use_errno=True)
_LIBRARY.shmat.restype = ctypes.c_void_p
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _call(name: str, *arguments: Any) -> int:
    result: int = getattr(_LIBRARY, name)(*arguments)
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), f"{name}{arguments}")
    return result


def segment(key: int, mode: int, size: int, touched: int, attach: bool, removed: bool, locked: bool) -> None:
    """Make a segment, write to its first pages, and leave it as asked for."""
    number = _call("shmget", key, ctypes.c_size_t(size), mode | _CREATE | _EXCLUSIVE | _NORESERVE)
    at = _call("shmat", number, None, 0)
    for page in range(min(touched, -(-size // _PAGE))):
        ctypes.memset(at + page * _PAGE, 1, 1)
    if locked:
        _call("shmctl", number, _SHM_LOCK, None)
    if removed:
        _call("shmctl", number, _IPC_RMID, None)
    if not attach:
        _call("shmdt", ctypes.c_void_p(at))


def array(key: int, mode: int, size: int, used: bool) -> None:
    """Make an array of semaphores, and add to its last."""
    number = _call("semget", key, size, mode | _CREATE | _EXCLUSIVE)
    if used:
        operation = (ctypes.c_short * 3)(size - 1, 1, 0)
        _call("semop", number, operation, ctypes.c_size_t(1))


def queue(key: int, mode: int, messages: list[int]) -> None:
    """Make a queue with messages of these sizes."""
    number = _call("msgget", key, mode | _CREATE | _EXCLUSIVE)
    for size in messages:
        _call("msgsnd", number, (ctypes.c_long * 1025)(1), ctypes.c_size_t(size), 0)


def posix_queue(name: str, mode: int, most: int, size: int, messages: list[int]) -> None:
    """Make a POSIX queue with messages of these sizes; `name` in hex, without the slash."""
    attributes = (ctypes.c_long * 8)(0, most, size)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
    library = ctypes.CDLL("librt.so.1", use_errno=True)
    fd = library.mq_open(b"/" + bytes.fromhex(name), flags, mode, attributes)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"mq_open {name}")
    for each in messages:
        if library.mq_send(fd, bytes(each), ctypes.c_size_t(each), 0):
            raise OSError(ctypes.get_errno(), f"mq_send {name}")
    os.close(fd)


MAKERS: dict[str, Callable[..., None]] = {"shm": segment, "sem": array, "msg": queue, "mqueue": posix_queue}


def main() -> None:
    """Make everything, as whoever it shall belong to."""
    os.umask(0)
    for each in json.loads(sys.stdin.readline()):
        uid = each.pop("uid")
        os.setegid(uid)
        os.seteuid(uid)
        MAKERS[each.pop("kind")](**each)
        os.seteuid(0)
        os.setegid(0)
    print("made", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
