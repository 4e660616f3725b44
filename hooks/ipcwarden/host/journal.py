"""The audit log, a JSON record a line; and a word to the system's journal for what somebody should see today."""

from __future__ import annotations

import posix
import time

from ipcwarden.errors import RecordError, why
from ipcwarden.files import open_place, open_regular, unsafe, write_whole
from ipcwarden.layout import LOG, beneath
from ipcwarden.syscalls import LOCK_EX, LOCK_NB, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.layout import Place

_SOCKET = "run/systemd/journal/socket"
_PATIENCE = 0.7  # seconds: less than a hook has left when its deadline has passed


def append(logs: Place, lines: list[bytes]) -> None:
    """Append whole lines to the log in the directory `logs`, or nothing.  Raises `RecordError`.

    Under the file's lock, so that a full disk's half a line can be taken back, and one that somebody else left is
    ended before ours begins.
    """
    if not logs.base:
        raise RecordError("cannot find the log's directory: nobody's environment has a HOME")
    path = f"{logs}/{LOG}"
    try:
        directory = open_place(logs, create=0o700)
        try:
            fd = _open_locked(directory)
        finally:
            posix.close(directory)
        try:
            wrong = unsafe(posix.fstat(fd))
            if wrong:
                raise ValueError(wrong)
            size = posix.fstat(fd).st_size
            torn = size > 0 and posix.pread(fd, 1, size - 1) != b"\n"
            try:
                write_whole(fd, (b"\n" if torn else b"") + b"".join(lines))
            except OSError:
                posix.ftruncate(fd, size)
                raise
        finally:
            posix.close(fd)
    except OSError as error:
        raise RecordError(f"cannot append to '{path}': {why(error)}") from error
    except ValueError as error:
        raise RecordError(f"cannot append to '{path}': {error}") from error


def _open_locked(directory: int) -> int:
    while True:
        fd = open_regular(LOG, posix.O_RDWR | posix.O_APPEND | posix.O_CREAT, directory, 0o600)
        try:
            _lock(fd)
            if posix.stat(LOG, dir_fd=directory, follow_symlinks=False).st_ino == posix.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            pass  # it was rotated away while we waited
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)


def _lock(fd: int) -> None:
    """Lock the log, or give up: whoever holds it that long is not one of us, and no container waits for a log."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise OSError(11, "somebody holds its lock") from None
            time.sleep(0.005)


def tell(root: str, text: str) -> None:
    """Send one line to the system's journal, where there is one (systemd's native protocol)."""
    path = beneath(root, _SOCKET)
    try:
        posix.stat(path)
    except OSError:
        return  # no journal here: the log has the record
    import socket

    message = f"PRIORITY=4\nSYSLOG_IDENTIFIER=ipcwarden\nMESSAGE={text}\n".encode("utf-8", "backslashreplace")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(message, path)
    except OSError:
        pass  # it is not listening
