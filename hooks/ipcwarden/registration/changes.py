"""Changes to files: values that can be shown first and made later, each of them whole or not at all."""

from __future__ import annotations

import difflib
import os
import posix
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ipcwarden.errors import why
from ipcwarden.files import O_FILE, open_directory, read, unsafe
from ipcwarden.registration.entry import RegistrationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Directory:
    """The directory `below` what `base` is, which must be root's from there on; without `below`, anybody's."""

    base: str
    below: str = ""

    @property
    def path(self) -> str:
        """Its path."""
        return f"{self.base.rstrip('/')}/{self.below}" if self.below else self.base

    @contextmanager
    def opened(self, create: bool = False) -> Iterator[int]:
        """Open it.  Raises `FileNotFoundError` where it is missing and not to be made, `RegistrationError`."""
        if self.below:
            umask = posix.umask(0o022)  # everybody may read what is registered
            try:
                fd = open_directory(self.base, self.below, create=0o755 if create else 0, error=RegistrationError)
            finally:
                posix.umask(umask)
        else:
            if create:
                os.makedirs(self.base, mode=0o755, exist_ok=True)
            fd = posix.open(self.base, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            yield fd
        finally:
            posix.close(fd)

    def read(self, name: str, limit: int = MAX_BYTES, trusted: bool = False) -> bytes | None:
        """Read a file of it; None if there is none.  Raises `OSError`, `ValueError` with what is wrong with it."""
        try:
            with self.opened() as fd:
                return read(name, limit, fd, trusted)
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Change:
    """What a file was and is to be; None where there is none."""

    directory: Directory
    name: str
    before: bytes | None
    after: bytes | None
    mode: int | None = None  # without one it stays, 0644 for a new file
    copy_of: str = ""  # the file beside it whose owner and mode a new one gets

    @property
    def path(self) -> str:
        """The file's path."""
        return f"{self.directory.path}/{self.name}"

    def shown(self) -> str:
        """Return the change as patch(1) understands it."""
        lines = difflib.unified_diff(
            _lines(self.before),
            _lines(self.after),
            "/dev/null" if self.before is None else self.path,
            "/dev/null" if self.after is None else self.path,
        )
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def make(self) -> None:
        """Make it.  Raises `RegistrationError`, and leaves the file alone, if it is not what it was any more."""
        attempt = "remove" if self.after is None else "write"
        try:
            with self.directory.opened(create=self.after is not None) as fd:
                status = self._unchanged(fd)
                if status is None and self.copy_of:
                    status = posix.stat(self.copy_of, dir_fd=fd, follow_symlinks=False)
                if self.after is None:
                    posix.unlink(self.name, dir_fd=fd)
                else:
                    _put(fd, self.name, self.after, status, self.mode)
                os.fsync(fd)
        except OSError as error:
            hint = "name another directory" if error.errno == 30 else ""  # EROFS: /usr of an image-based system
            raise RegistrationError(f"cannot {attempt} '{self.path}': {why(error)}", hint) from error

    def _unchanged(self, fd: int) -> posix.stat_result | None:
        try:
            content = read(self.name, MAX_BYTES, fd)
        except FileNotFoundError:
            content = None
        except ValueError as error:
            raise RegistrationError(f"cannot replace '{self.path}': {error}") from error
        if content != self.before:
            raise RegistrationError(f"cannot replace '{self.path}': somebody has changed it meanwhile", "try again")
        return None if content is None else posix.stat(self.name, dir_fd=fd, follow_symlinks=False)


def make_all(changes: list[Change]) -> None:
    """Make all changes in this order, or none: what was made is undone if a later one fails."""
    made: list[Change] = []
    try:
        for change in changes:
            change.make()
            made.append(change)
    except BaseException:
        for change in reversed(made):
            replace(change, before=change.after, after=change.before).make()
        raise


def unsafe_file(directory: int, name: str) -> str:
    """Say what is wrong with the owner or mode of a file that root is going to run; nothing if there is none."""
    try:
        status = posix.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    return unsafe(status)


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "backslashreplace").splitlines(keepends=True)


def _put(directory: int, name: str, data: bytes, like: posix.stat_result | None, mode: int | None) -> None:
    """Put a file in place of whatever had that name, with its owner and mode.

    Other than the hooks' `files.write_atomically` this works in directories of others, who may have prepared the
    temporary name, and outlives a power failure: an engine must not find a registration before the hook, or half of it.
    """
    temporary = f".{name}.{os.urandom(6).hex()}"  # engines read what ends in .json
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | O_FILE, 0o600, dir_fd=directory)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        if like is not None and (like.st_uid, like.st_gid) != (posix.geteuid(), posix.getegid()):
            posix.fchown(fd, like.st_uid, like.st_gid)
        posix.fchmod(fd, mode or (stat.S_IMODE(like.st_mode) & 0o777 if like else 0o644))
        os.fsync(fd)
        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        posix.unlink(temporary, dir_fd=directory)
        raise
    finally:
        posix.close(fd)
