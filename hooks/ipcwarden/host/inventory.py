"""What is in the current IPC namespace (sysvipc(5), mq_overview(7)), and who can be seen to use it."""

from __future__ import annotations

import posix
from sys import getfilesystemencodeerrors, getfilesystemencoding

from ipcwarden.core.objects import Inventory, Table, mqueue, queue_status
from ipcwarden.errors import KernelError, why
from ipcwarden.files import O_FILE, read_all
from ipcwarden.syscalls import GETNCNT, GETZCNT, mount_mqueue, mq_getattr, semctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Object

_ENDLESS = 1 << 40  # a table is as long as the kernel makes it
_MOST_CALLS = 2048  # of semctl(2) for one array, a millisecond or two


def take_inventory(quietly: bool | frozenset[int] = False) -> Inventory:
    """Return every object that is visible in the current IPC namespace.  Raises `KernelError`.

    `quietly` leaves the times of queues alone, of all or of those with these inode numbers, which reading them moves:
    then nobody knows who waits for a message (`notify`), nor how many bytes the messages have (`usedbytes`, and `bytes`
    are the most that they may have).
    """
    page = posix.sysconf("SC_PAGE_SIZE")
    try:
        tables = {kind: Table(kind, _table(kind), page) for kind in ("shm", "sem", "msg")}
    except OSError as error:
        raise KernelError(f"cannot list the System V objects: {why(error)}", "CONFIG_SYSVIPC, /proc") from error
    try:
        directory = mount_mqueue()
        try:
            names = posix.listdir(directory)
            queues = [each for name in names if (each := _queue(directory, name, quietly))]
        finally:
            posix.close(directory)
    except OSError as error:
        raise KernelError(f"cannot list the POSIX message queues: {why(error)}", "CONFIG_POSIX_MQUEUE") from error
    return Inventory(tables, [queue for queue, _ in queues], [inode for _, inode in queues])


def take_ids() -> dict[str, list[int]]:
    """Return the ids of the System V objects of the current IPC namespace, by kind.  Raises `OSError`."""
    return {kind: Table(kind, _table(kind), 1).column("id") for kind in ("shm", "sem", "msg")}


def _table(kind: str) -> bytes:
    fd = posix.open(f"/proc/sysvipc/{kind}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return read_all(fd, _ENDLESS)
    finally:
        posix.close(fd)


def _queue(directory: int, name: str, quietly: bool | frozenset[int]) -> tuple[Object, int] | None:
    """Return a queue and its inode number; None where it has been unlinked meanwhile."""
    fd = None
    try:
        try:
            fd = posix.open(name, posix.O_RDONLY | O_FILE, dir_fd=directory)
        except PermissionError:
            return _described(name, posix.stat(name, dir_fd=directory, follow_symlinks=False))
        seen = posix.fstat(fd)  # before it is read, which moves its times; mq_getattr(3) does not
        most, size, messages = mq_getattr(fd)
        silent = quietly if isinstance(quietly, bool) else seen.st_ino in quietly
        used, notify = (None, 0) if silent else queue_status(posix.read(fd, 256))
    except FileNotFoundError:
        return None
    finally:
        if fd is not None:
            posix.close(fd)
    return _described(name, seen, (most, size, messages, used), notify)


def _described(
    name: str, seen: posix.stat_result, status: tuple[int, int, int, int | None] | None = None, notify: int = 0
) -> tuple[Object, int]:
    queue = mqueue(
        name.encode(getfilesystemencoding(), getfilesystemencodeerrors()),
        (seen.st_uid, seen.st_gid, seen.st_mode),
        (int(seen.st_ctime), int(seen.st_mtime)),
        status,
        notify,
    )
    return queue, seen.st_ino


def attached(ids: Container[int], processes: Iterable[dict[str, Document]]) -> dict[int, list[dict[str, Document]]]:
    """Return who has mapped segments of the current IPC namespace, by their ids, as /proc/PID/maps tells.

    `processes` must be in this namespace, as `holders` returns them: others' maps have other namespaces' ids.
    What cannot be seen: processes that are in none, or another, and kept what they had mapped.
    """
    found: dict[int, list[dict[str, Document]]] = {}
    for process in processes:
        try:
            fd = posix.open(f"/proc/{process['pid']}/maps", posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                maps = read_all(fd, _ENDLESS)
            finally:
                posix.close(fd)
        except OSError:
            continue  # it ended, or is not ours to see
        for number in _mapped(maps):
            if number in ids:
                found.setdefault(number, []).append(process)
    return found


def _mapped(maps: bytes) -> set[int]:
    """Return the segments in a table of mappings: what is mapped is named by key, and its inode is the segment's id."""
    lines = (line for line in maps.splitlines() if b" /SYSV" in line)
    return {int(line.split(None, 5)[4]) for line in lines if line.endswith(b" (deleted)")}


def waiters(semid: int, nsems: int, most: int = _MOST_CALLS) -> int | None:
    """Return how many processes wait for an array's semaphores.

    None where that is not known: it may not be read, it is gone, or asking takes more than `most` calls.
    """
    if 2 * nsems > most:
        return None
    try:
        return sum([semctl(semid, number, ask) for number in range(nsems) for ask in (GETNCNT, GETZCNT)])
    except OSError:
        return None
