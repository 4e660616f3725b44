"""The audit log, a JSON record a line; and a word to the system's journal for what somebody should see today."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.documents import parse, serialize
from ipcwarden.core.record import MAX_RECORD_BYTES, timestamp
from ipcwarden.errors import RecordError, why
from ipcwarden.files import open_place, open_regular, unsafe, write_whole
from ipcwarden.layout import LOG, beneath
from ipcwarden.syscalls import LOCK_EX, LOCK_NB, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipcwarden.layout import Place

_SOCKET = "run/systemd/journal/socket"
_PATIENCE = 0.7  # seconds: less than a hook has left when its deadline has passed
_BLOCK = 1 << 20
_TICK = 2  # seconds that a file's time may seem to be behind the clock: file systems take the last tick's


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


def unwritten(logs: Place, lines: list[bytes]) -> list[bytes]:
    """Return those of `lines` that the log does not hold, in rotated files neither: by time and container.

    What cannot be read holds nothing: better a record twice than never.
    """
    sought = {line: _signs(line) for line in lines}
    try:
        directory = open_place(logs)
    except (OSError, RecordError):
        return lines
    try:
        read: set[tuple[int, int]] = set()
        while sought and _search(directory, sought, read):
            pass  # something was rotated or compressed while we read
    finally:
        posix.close(directory)
    return [line for line in lines if line in sought]


def _signs(line: bytes) -> tuple[str, bytes, bytes]:
    """Return the time of a record, and how a line of the same container and time begins and goes on."""
    record = parse(line)
    assert isinstance(record, dict)
    begins = serialize({"version": record["version"], "time": record["time"]})[:-1]
    return (
        str(record["time"]),
        f"\n{begins},".encode("ascii"),
        f'"container":{serialize(record["container"])}'.encode("ascii"),
    )


def _search(directory: int, sought: dict[bytes, tuple[str, bytes, bytes]], read: set[tuple[int, int]]) -> bool:
    """Take out of `sought` what stands in files that have not been `read`; tell whether there were such."""
    found_new = False
    for name in posix.listdir(directory):
        if not name.startswith(LOG):
            continue
        try:
            fd = open_regular(name, posix.O_RDONLY, directory)
        except FileNotFoundError:
            found_new = True
            continue
        except (OSError, ValueError):
            continue
        try:
            status = posix.fstat(fd)
            if (status.st_dev, status.st_ino) in read:
                continue
            found_new = True
            read.add((status.st_dev, status.st_ino))
            last = timestamp(0, tuple(time.gmtime(status.st_mtime + _TICK)))
            recent = {line: signs[1:] for line, signs in sought.items() if signs[0] <= last}
            for line in _found(_blocks(fd, name.endswith(".gz")), recent) if recent else ():
                del sought[line]
        finally:
            posix.close(fd)
    return found_new


def _found(blocks: Iterator[bytes], sought: dict[bytes, tuple[bytes, bytes]]) -> list[bytes]:
    """Return those whose record stands in a file as a whole line."""
    found, text = [], b"\n"
    for block in blocks:
        text += block
        for line in [each for each in sought if _stands_in(text, *sought[each])]:
            del sought[line]
            found.append(line)
        text = text[text.rfind(b"\n") :]
        if len(text) > MAX_RECORD_BYTES:
            text = text[-1:]  # no record is as long: it counts only where it ends
    return found


def _stands_in(text: bytes, begins: bytes, container: bytes) -> bool:
    start = text.find(begins)
    while start >= 0:
        end = text.find(b"\n", start + 1)
        if end >= 0 and text.find(container, start, end) >= 0:
            return True
        start = text.find(begins, start + 1)
    return False


def _blocks(fd: int, packed: bool) -> Iterator[bytes]:
    """Yield what a file holds; of a damaged one what comes before."""
    try:
        if packed:
            yield from _unpacked(fd)
        while block := posix.read(fd, _BLOCK):
            yield block
    except OSError:
        pass  # the disk fails


def _unpacked(fd: int) -> Iterator[bytes]:
    import zlib

    unpacker = zlib.decompressobj(31)  # gzip's form
    try:
        while block := posix.read(fd, _BLOCK):
            while block:
                yield unpacker.decompress(block, _BLOCK)
                block = unpacker.unconsumed_tail
                if unpacker.eof:
                    block, unpacker = unpacker.unused_data, zlib.decompressobj(31)
        yield unpacker.flush()
    except zlib.error:
        pass


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
