"""The ledger: one file an entry, under /run, for every container whose life ipcwarden follows.

An entry says where the pin is, which limits are in force, and what has still to be done; whoever holds its lock is the
only one who does it.  The lock is flock(2) on the file itself: a new version is locked before it takes the old one's
place, and whoever waited on a file that has been replaced opens it again.
"""

from __future__ import annotations

import posix

from ipcwarden.core.documents import parse, serialize
from ipcwarden.errors import RecordError, why
from ipcwarden.files import O_FILE, open_regular, read_all, write_whole
from ipcwarden.syscalls import LOCK_EX, LOCK_NB, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

ENTRY_VERSION = 1
_MAX_ENTRY_BYTES = 8 << 20
_SUFFIX = ".json"
UNREADABLE = "unreadable"
REAPING = "reaping"


class Entry:
    """One entry, locked from when it was opened until `release` or `delete`.  `document` is what it says."""

    def __init__(self, directory: int, key: str, fd: int) -> None:
        self.directory, self.key, self.fd = directory, key, fd
        self.document: dict[str, Document] = _document_of(key, _content(key, fd))

    @property
    def state(self) -> str:
        """`creating`, `applied`, `stopping` (findings are safe), `recorded`; empty for a new one.

        `reaping` is no life: an operator removes what others have left.
        """
        return str(self.document.get("state", ""))

    def write(self, **changes: Document) -> None:
        """Change the entry, whole or not at all.  Raises `RecordError`."""
        document = {"version": ENTRY_VERSION, **self.document, **changes}
        try:
            fd = self._put(serialize(document).encode("ascii"))
        except OSError as error:
            raise RecordError(f"cannot write the ledger entry '{self.key}': {why(error)}") from error
        posix.close(self.fd)
        self.fd, self.document = fd, document

    def _put(self, content: bytes) -> int:
        """Put a new version in place, locked before anybody can see it; return its descriptor."""
        draft = f".{self.key}.{posix.getpid()}"
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_TRUNC | O_FILE
        for last_try in (False, False, True):
            fd = posix.open(draft, flags, 0o600, dir_fd=self.directory)
            try:
                flock(fd, LOCK_EX)
                write_whole(fd, content)
                posix.rename(draft, self.key + _SUFFIX, src_dir_fd=self.directory, dst_dir_fd=self.directory)
                return fd
            except FileNotFoundError:
                posix.close(fd)  # a gc took it for a dead one's, before it was locked
                if last_try:
                    raise
            except BaseException:
                posix.close(fd)
                self._discard(draft)
                raise
        raise AssertionError("the last try has returned or raised")

    def _discard(self, draft: str) -> None:
        try:
            posix.unlink(draft, dir_fd=self.directory)
        except FileNotFoundError:
            pass  # it is in place already

    def set_aside(self, key: str) -> Entry:
        """Give the entry another key, for gc to finish, and return the empty one that takes its place, locked.

        There is no moment in which the key is free for others.  Raises `RecordError`.
        """
        name = self.key + _SUFFIX
        try:
            posix.link(name, key + _SUFFIX, src_dir_fd=self.directory, dst_dir_fd=self.directory)
            fd = self._put(b"")
        except OSError as error:
            raise RecordError(f"cannot set the ledger entry '{self.key}' aside: {why(error)}") from error
        self.release()
        return Entry(self.directory, self.key, fd)

    def delete(self) -> None:
        """Take the entry out of the ledger, and release it.  Raises `RecordError`."""
        try:
            posix.unlink(self.key + _SUFFIX, dir_fd=self.directory)
        except OSError as error:
            raise RecordError(f"cannot delete the ledger entry '{self.key}': {why(error)}") from error
        finally:
            self.release()

    def forget(self) -> None:
        """Empty the entry in place: it is as one that was never written, until `delete`."""
        posix.ftruncate(self.fd, 0)
        self.document = {}

    def release(self) -> None:
        """Let the next one have it."""
        posix.close(self.fd)


def take(directory: int, key: str, create: bool = False, wait: bool = True) -> Entry | None:
    """Lock the entry `key`; None where there is none, or (without `wait`) somebody has it.

    With `create` a new one is made.  Raises `RecordError`.
    """
    flags = posix.O_RDWR | (posix.O_CREAT if create else 0)
    while True:
        try:
            fd = open_regular(key + _SUFFIX, flags, directory, 0o600)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = why(error) if isinstance(error, OSError) else error
            raise RecordError(f"cannot open the ledger entry '{key}': {reason}") from error
        try:
            flock(fd, LOCK_EX if wait else LOCK_EX | LOCK_NB)
            current = posix.stat(key + _SUFFIX, dir_fd=directory, follow_symlinks=False)
            ours = posix.fstat(fd)
            if current.st_ino == ours.st_ino and ours.st_nlink == 1:
                return Entry(directory, key, fd)
            if current.st_ino == ours.st_ino:
                _keep_one_name(directory, ours.st_ino)
        except BlockingIOError:
            posix.close(fd)
            return None
        except FileNotFoundError:
            pass  # it was deleted while we waited
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)


def _keep_one_name(directory: int, inode: int) -> None:
    """Leave an entry the name that it had first: whoever set it aside died before that was another's."""
    found = []
    for key in keys(directory):
        try:
            if posix.stat(key + _SUFFIX, dir_fd=directory, follow_symlinks=False).st_ino == inode:
                found.append(key)
        except FileNotFoundError:
            pass  # another one's, which has just ended
    for key in sorted(found, key=len)[1:]:
        posix.unlink(key + _SUFFIX, dir_fd=directory)


def keys(directory: int) -> list[str]:
    """Return the keys of all entries."""
    return sorted(name[: -len(_SUFFIX)] for name in posix.listdir(directory) if _is_entry(name))


def _is_entry(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def peek(directory: int, key: str) -> dict[str, Document]:
    """Read an entry without locking it: entries are only ever replaced whole.

    Empty where it is gone; of state `unreadable` where it is no entry of ours: one such must not hide the others.
    """
    try:
        fd = open_regular(key + _SUFFIX, posix.O_RDONLY, directory)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return {"state": UNREADABLE}
    try:
        return _document_of(key, _content(key, fd))
    except RecordError:
        return {"state": UNREADABLE}
    finally:
        posix.close(fd)


def put_away(directory: int, key: str) -> str:
    """Take a file that is no entry of ours out of the ledger, and return the name that it has now."""
    name = f"{key}.{UNREADABLE}"
    posix.rename(key + _SUFFIX, name, src_dir_fd=directory, dst_dir_fd=directory)
    return name


def _content(key: str, fd: int) -> bytes:
    try:
        return read_all(fd, _MAX_ENTRY_BYTES)
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read the ledger entry '{key}': {error}") from error


def _document_of(key: str, content: bytes) -> dict[str, Document]:
    if not content:
        return {}  # made, and not yet written
    try:
        document = parse(content)
    except ValueError as error:
        raise RecordError(f"cannot read the ledger entry '{key}': {error}") from error
    if not isinstance(document, dict) or document.get("version") != ENTRY_VERSION:
        raise RecordError(f"cannot read the ledger entry '{key}': its version is unknown to this one")
    if not _is_undamaged(document):
        raise RecordError(f"cannot read the ledger entry '{key}': it is damaged")
    return document


def _is_undamaged(document: dict[str, Document]) -> bool:
    namespace = document.get("namespace")
    if document.get("state") == "recorded" or namespace is None:
        return True
    numbers = ("id", "device", "inode")
    return (
        isinstance(namespace, dict)
        and all(isinstance(namespace.get(name), int) for name in numbers)
        and isinstance(namespace.get("handle"), str)
        and isinstance(document.get("pin"), str)
    )


def remove_drafts(directory: int) -> None:
    """Remove drafts whose writer died: nobody holds their lock."""
    for name in posix.listdir(directory):
        if not name.startswith("."):
            continue
        try:
            fd = open_regular(name, posix.O_RDWR, directory)
        except (OSError, ValueError):
            continue
        try:
            flock(fd, LOCK_EX | LOCK_NB)
            posix.unlink(name, dir_fd=directory)
        except OSError:
            pass  # somebody is at it, or was faster
        finally:
            posix.close(fd)
