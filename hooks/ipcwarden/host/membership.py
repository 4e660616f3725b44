"""Who is in which namespace: a directory for each, with an empty file for every governed container in it.

It is what the ledger would say if every entry were read; its lock makes joining and leaving one thing after another.
Whoever locks an entry as well does that first.

Where a joiner was allowed to widen the limits, one more file has those: they outlive the joiner, and concern everybody
there, whose entries are others' to lock.

What members have left that is to be removed is one more file, of whoever left it and what: it is written before
anything is removed, and those that come later finish it.  So that nobody is told to have left the same, nor has it
removed, the ids of what ends have told of are in another.

Guests are those who are in a namespace without being governed: they have no entry.  A file for each says which process
it is, so that poststop and gc find where its runtime may have written.  Those of which we know only because they were
seen in there have no key.  Once one has gone an empty file says so: what is left may be its.
"""

from __future__ import annotations

import posix
import time

from ipcwarden.core.documents import parse, serialize
from ipcwarden.errors import DeadlineError, RecordError, why
from ipcwarden.files import O_FILE, read, write_whole
from ipcwarden.syscalls import LOCK_EX, LOCK_NB, flock
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipcwarden.core.documents import Document

_WIDENED, _GUEST, _DUE, _LEFT = ".widened", ".guest", ".due", ".left"  # no members: a key never starts with a dot
_STRANGERS, _DRAFT = ".strangers", ".new"
_MAX_WIDENED_BYTES = 4096
_MAX_DUE_BYTES = 64 << 20
VISIT_PATIENCE = 2.0  # seconds: for who only wants to look
_NEXT_TRY = 0.01


class RoomTaken(DeadlineError):
    """Somebody of ours is at work in the namespace, and has been for longer than we wait."""


@value
class Guest:
    """One process that has joined without being governed: its container's key, its pid, and when that started."""

    key: str
    pid: int
    started: int


class Room:
    """One namespace's members, locked until `leave`."""

    def __init__(self, directory: int, name: str, fd: int) -> None:
        self.directory, self.name, self.fd = directory, name, fd

    def members(self) -> list[str]:
        """Return the keys of the members' ledger entries."""
        return sorted(name for name in posix.listdir(self.fd) if not name.startswith("."))

    def add(self, key: str) -> None:
        """Make a container a member.  Raises `RecordError`."""
        self._put(key, key)

    def remove(self, key: str) -> None:
        """Take a member out; what is not there is no error."""
        try:
            posix.unlink(key, dir_fd=self.fd)
        except OSError:
            pass

    def admit(self, guest: Guest) -> None:
        """Note a guest.  Raises `RecordError`."""
        self._put(_file_of(guest), guest.key)

    def guests(self) -> list[Guest]:
        """Return the guests, gone or not."""
        return _guests_among(posix.listdir(self.fd))

    def dismiss(self, guest: Guest) -> None:
        """Take a guest out that has gone, and note that there has been one.  Raises `RecordError`."""
        self._put(_STRANGERS, guest.key)
        self.remove(_file_of(guest))

    def acquit(self, pid: int) -> None:
        """Take back that a process that lives is a guest: it is a member's."""
        for guest in self.guests():
            if guest.pid == pid:
                self.remove(_file_of(guest))

    def _put(self, name: str, key: str) -> None:
        try:
            posix.close(posix.open(name, posix.O_WRONLY | posix.O_CREAT | O_FILE, 0o600, dir_fd=self.fd))
        except OSError as error:
            raise RecordError(f"cannot write down that '{key}' is in a namespace: {why(error)}") from error

    def widen(self, limits: dict[str, int]) -> None:
        """Note limits that have been raised, by name, in place of those noted before; `widened` tells them.

        Raises `RecordError`.
        """
        self._note(_WIDENED, {name: str(number) for name, number in limits.items()}, "what limits a namespace has now")

    def due(self) -> list[dict[str, Document]]:
        """Return what is due to be removed; what is damaged is lost: the last member's end tells of all that stands."""
        return due_in(self.fd, ".")

    def put_due(self, due: Sequence[Document]) -> None:
        """Note what is due to be removed, in place of what was noted before.  Raises `RecordError`."""
        self._note(_DUE, due)

    def put_left(self, left: Mapping[str, Document]) -> None:
        """Note what ends have told of, for `left_in`.  Raises `RecordError`."""
        self._note(_LEFT, left)

    def _note(
        self,
        name: str,
        noted: Sequence[Document] | Mapping[str, Document],
        what: str = "what was left in a namespace",
    ) -> None:
        """Put a file in place of the one before, or take that away; a draft whose writer was killed is overwritten."""
        draft = f"{name}{_DRAFT}"
        try:
            if not noted:
                self.remove(name)
                return
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | O_FILE
            fd = posix.open(draft, flags, 0o600, dir_fd=self.fd)
            try:
                write_whole(fd, serialize(noted).encode("ascii"))
            finally:
                posix.close(fd)
            posix.rename(draft, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            self.remove(draft)
            raise RecordError(f"cannot write down {what}: {why(error)}") from error

    def tidy(self) -> None:
        """Remove drafts whose writer was killed, and all that is noted beside the members where there are none."""
        files = [name for name in posix.listdir(self.fd) if name.startswith(".")]
        for name in files if not self.members() else [name for name in files if name.endswith(_DRAFT)]:
            self.remove(name)

    def leave(self) -> None:
        """Let the next one have it; a room without members goes."""
        try:
            if not self.members():
                self.tidy()
                posix.rmdir(self.name, dir_fd=self.directory)
        except OSError:
            pass  # others have come without its lock
        posix.close(self.fd)


def enter(directory: int, name: str, create: bool = False, within: float | None = None) -> Room | None:
    """Lock the room of the namespace `name`; None where nobody governed is in it and none is to be made.

    Whoever joins the namespace does this first: so a member's end never meets one of us in there.  Raises
    `RecordError`, and `RoomTaken` where it cannot be had `within` so many seconds.
    """
    end = None if within is None else time.monotonic() + within
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
            _lock_room(fd, end)
            if posix.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == posix.fstat(fd).st_ino:
                room = Room(directory, name, fd)
                if create:
                    room.tidy()  # without members it is an earlier namespace's, whose last one was killed as it left
                return room
        except FileNotFoundError:
            pass  # it went while we waited
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)


def _lock_room(fd: int, end: float | None) -> None:
    while end is not None:
        try:
            return flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise RoomTaken(
                    "cannot enter the IPC namespace now: another hook or command is at work there", "try again"
                ) from None
            time.sleep(_NEXT_TRY)
    return flock(fd, LOCK_EX)


def _file_of(guest: Guest) -> str:
    return f"{_GUEST}.{guest.pid}.{guest.started}.{guest.key}"


def _guests_among(files: Iterable[str]) -> list[Guest]:
    words = (name.split(".", 4) for name in sorted(files) if name.startswith(f"{_GUEST}."))
    return [Guest(key, int(pid), int(started)) for _, _, pid, started, key in words]


def guests_at(directory: int, name: str) -> list[Guest]:
    """Return the guests of a room that others may have locked; none where it is gone."""
    try:
        fd = posix.open(name, posix.O_RDONLY | posix.O_DIRECTORY | O_FILE, dir_fd=directory)
    except OSError:
        return []
    try:
        return _guests_among(posix.listdir(fd))
    finally:
        posix.close(fd)


def has_due(directory: int, name: str) -> bool:
    """Tell whether anything is due to be removed in a room that others may have locked."""
    try:
        posix.stat(f"{name}/{_DUE}", dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def due_in(directory: int, name: str) -> list[dict[str, Document]]:
    """Return what is due to be removed in a room that others may have locked; none where nothing can be read."""
    found = _noted(directory, f"{name}/{_DUE}")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def had_strangers(directory: int, name: str) -> bool:
    """Tell whether a guest has gone, in a room that others may have locked."""
    try:
        posix.stat(f"{name}/{_STRANGERS}", dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def left_in(directory: int, name: str) -> dict[str, Document]:
    """Return what ends have told of, as `put_left` has it, in a room that others may have locked."""
    found = _noted(directory, f"{name}/{_LEFT}")
    return found if isinstance(found, dict) else {}


def _noted(directory: int, name: str) -> Document:
    try:
        return parse(read(name, _MAX_DUE_BYTES, directory))
    except (OSError, ValueError):
        return None


def widened(directory: int, name: str) -> dict[str, int]:
    """Return the limits that have been raised in a namespace, by name; none where nothing can be read."""
    try:
        found = parse(read(f"{name}/{_WIDENED}", _MAX_WIDENED_BYTES, directory))
        return {key: int(str(text)) for key, text in found.items()} if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}  # then those stay that everybody's entries have, which are less


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
