"""Listing a container's tmpfs from outside: by descriptors, following no link, changing nothing.

The path is config.json's word and the names are the container's; nothing here is trusted, and nothing raises.
"""

from __future__ import annotations

import posix
from sys import getfilesystemencodeerrors, getfilesystemencoding

from ipcwarden.core.shmfiles import SHM, ShmFile
from ipcwarden.syscalls import TMPFS_MAGIC, file_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PASSABLE = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_LISTABLE = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_DEEPEST = 8
_S_DIRECTORY, _S_FORMAT = 0o040000, 0o170000  # S_IFDIR, S_IFMT


class Shelf:
    """The root of a tmpfs, open to be listed until `close`.  `partial` tells that a listing has left out something."""

    MOST = 65536  # entries, of directories too: what a container of many small files has is still told in half a second

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._device = posix.fstat(fd).st_dev
        self._left = self.MOST
        self.partial = False

    def files(self) -> Iterator[ShmFile]:
        """Yield all that is no directory."""
        self._left, self.partial = self.MOST, False
        yield from self._below(self._fd, b"", _DEEPEST)

    def close(self) -> None:
        """Let go of it: an open descriptor keeps a file system alive."""
        posix.close(self._fd)

    def _below(self, directory: int, prefix: bytes, depth: int) -> Iterator[ShmFile]:
        try:
            with posix.scandir(directory) as entries:
                for each in entries:
                    self._left -= 1
                    if self._left < 0:
                        self.partial = True
                        return
                    yield from self._entry(directory, each.name, prefix, depth)
        except OSError:
            self.partial = True

    def _entry(self, directory: int, name: str, prefix: bytes, depth: int) -> Iterator[ShmFile]:
        try:
            status = posix.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return  # it went while we looked
        path = prefix + name.encode(getfilesystemencoding(), getfilesystemencodeerrors())
        if status.st_mode & _S_FORMAT != _S_DIRECTORY:
            yield ShmFile(
                path,
                status.st_ino,
                status.st_uid,
                status.st_gid,
                status.st_mode,
                status.st_nlink,
                status.st_size,
                status.st_blocks,
                int(status.st_ctime),
            )
            return
        try:
            below = posix.open(name, _LISTABLE, dir_fd=directory)
        except OSError:
            self.partial = True  # not ours to look into, or gone
            return
        try:
            if depth and posix.fstat(below).st_dev == self._device:  # else something is mounted there
                yield from self._below(below, path + b"/", depth - 1)
            else:
                self.partial = True
        finally:
            posix.close(below)


def open_shelf(path: str, hosts_too: bool = False) -> Shelf | None:
    """Open the directory at an absolute path if it is on a tmpfs, and not (without `hosts_too`) on the host's /dev/shm.

    None for everything else: links on the way, a mount that has gone, another file system.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        return None
    fd = -1
    try:
        fd = posix.open("/", _PASSABLE)
        for part in path.split("/"):
            if part:
                below = posix.open(part, _PASSABLE, dir_fd=fd)
                posix.close(fd)
                fd = below
        if file_system(fd) == TMPFS_MAGIC and (hosts_too or not _is_hosts_shm(fd)):
            return Shelf(posix.open(".", _LISTABLE, dir_fd=fd))
    except (OSError, ValueError):
        pass
    finally:
        if fd >= 0:
            posix.close(fd)
    return None


def _is_hosts_shm(fd: int) -> bool:
    try:
        return posix.fstat(fd).st_dev == posix.stat(SHM).st_dev
    except FileNotFoundError:
        return False
