"""Who is in which namespace: a directory for each, with an empty file for every governed container in it.

It is what the ledger would say if every entry were read; its lock makes joining and leaving one thing after another.
Whoever locks an entry as well does that first.
"""

from __future__ import annotations

import posix

from ipcwarden.errors import RecordError, why
from ipcwarden.files import O_FILE
from ipcwarden.syscalls import LOCK_EX, flock


class Room:
    """One namespace's members, locked until `leave`."""

    def __init__(self, directory: int, name: str, fd: int) -> None:
        self.directory, self.name, self.fd = directory, name, fd

    def members(self) -> list[str]:
        """Return the keys of the members' ledger entries."""
        return sorted(posix.listdir(self.fd))

    def add(self, key: str) -> None:
        """Make a container a member.  Raises `RecordError`."""
        try:
            posix.close(posix.open(key, posix.O_WRONLY | posix.O_CREAT | O_FILE, 0o600, dir_fd=self.fd))
        except OSError as error:
            raise RecordError(f"cannot write down that '{key}' is in a namespace: {why(error)}") from error

    def remove(self, key: str) -> None:
        """Take a member out; what is not there is no error."""
        try:
            posix.unlink(key, dir_fd=self.fd)
        except OSError:
            pass

    def leave(self) -> None:
        """Let the next one have it; a room without members goes."""
        try:
            posix.rmdir(self.name, dir_fd=self.directory)
        except OSError:
            pass  # others are in it
        posix.close(self.fd)


def enter(directory: int, name: str, create: bool = False) -> Room | None:
    """Lock the room of the namespace `name`; None where nobody governed is in it and none is to be made.

    Raises `RecordError`.
    """
    while True:
        try:
            if create:
                _make(directory, name)
            fd = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | O_FILE, dir_fd=directory)
        except FileNotFoundError:
            if create:
                continue  # its last member has just left
            return None
        except OSError as error:
            raise RecordError(f"cannot open the members of the namespace '{name}': {why(error)}") from error
        try:
            flock(fd, LOCK_EX)
            if posix.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == posix.fstat(fd).st_ino:
                return Room(directory, name, fd)
        except FileNotFoundError:
            pass  # it went while we waited
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)


def note(directory: int, name: str, key: str) -> None:
    """Make a container a member of a room without its lock: whoever holds one must not wait for another.

    Raises `RecordError`.
    """
    while True:
        try:
            _make(directory, name)
            fd = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | O_FILE, dir_fd=directory)
            try:
                return posix.close(posix.open(key, posix.O_WRONLY | posix.O_CREAT | O_FILE, 0o600, dir_fd=fd))
            finally:
                posix.close(fd)
        except FileNotFoundError:
            continue  # the room has just gone
        except OSError as error:
            raise RecordError(f"cannot write down that '{key}' is in a namespace: {why(error)}") from error


def erase(directory: int, name: str, key: str) -> None:
    """Take a member out of a room without its lock; what is not there is no error."""
    try:
        posix.unlink(f"{name}/{key}", dir_fd=directory)
    except OSError:
        pass


def names(directory: int) -> list[str]:
    """Return the names of all rooms."""
    return sorted(posix.listdir(directory))


def _make(directory: int, name: str) -> None:
    try:
        posix.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        pass
