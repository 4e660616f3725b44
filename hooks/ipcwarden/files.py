"""Files that nobody else can have prepared: checked by descriptor, replaced whole, locked by entry."""

from __future__ import annotations

import posix

from ipcwarden.errors import RecordError, WardenError, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.layout import Place

O_FILE = posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK  # a planted link or FIFO is not followed, not waited for
_O_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
_S_IFMT, _S_IFREG, _S_IFDIR = 0o170000, 0o100000, 0o040000
_OTHERS_WRITE, _GROUP_WRITE, _OTHERS_CONTENT = 0o002, 0o020, 0o066


def unsafe(status: posix.stat_result, group_too: bool = True, owners: tuple[int, ...] = ()) -> str:
    """Say what is wrong with the owner or the mode of a file or directory, or return an empty string.

    `owners` are the uids that may own it: root's and our own, where none are given.
    """
    if status.st_uid not in (owners or (0, posix.geteuid())):
        return f"it belongs to uid {status.st_uid}, not to root"
    if status.st_mode & (_OTHERS_WRITE | (_GROUP_WRITE if group_too else 0)):
        return f"others can write it (mode {status.st_mode & 0o7777:04o})"
    return ""


def is_private(path: str) -> bool:
    """Tell whether a directory is ours, and nobody else can list or change it.

    They may pass through: podman with --uidmap lets them, in XDG_RUNTIME_DIR too, where 0700 is the rule.
    """
    try:
        status = posix.stat(path)
    except OSError:
        return False
    is_directory = status.st_mode & _S_IFMT == _S_IFDIR
    return is_directory and status.st_uid == posix.geteuid() and not status.st_mode & _OTHERS_CONTENT


def open_place(place: Place, create: int = 0, error: type[WardenError] = RecordError) -> int:
    """Open a directory of ours as `open_directory` does."""
    return open_directory(place.base, place.path, create, error, place.owners)


def open_directory(
    root: str,
    path: str,
    create: int = 0,
    error: type[WardenError] = RecordError,
    owners: tuple[int, ...] = (),
) -> int:
    """Open the directory `path` below `root`, and check that only root can write on the way to it, or `owners`.

    With `create` (a mode) what is missing on the way is made; the last part gets that mode.  A symbolic link on the
    way counts as root's own word, since root owns the directory that holds it; the last part must not be one.
    Raises `error`; `FileNotFoundError` where a part is missing and nothing is to be made.
    """
    parts = path.split("/")
    at, here = _open_root(root, bool(create), error), root.rstrip("/")
    try:
        _demand_safe(at, root, False, error, owners)
        for number, part in enumerate(parts, 1):
            last, here = number == len(parts), f"{here}/{part}"
            flags = _O_DIRECTORY | (posix.O_NOFOLLOW if last else 0)
            try:
                below = posix.open(part, flags, dir_fd=at)
            except FileNotFoundError:
                if not create:
                    raise
                try:
                    posix.mkdir(part, create if last else 0o755, dir_fd=at)
                    if not last:  # the umask is 077 in a hook
                        posix.chmod(part, 0o755, dir_fd=at)
                except FileExistsError:
                    pass  # another hook was faster
                below = posix.open(part, flags, dir_fd=at)
            posix.close(at)
            at = below
            _demand_safe(at, here, last, error, owners)
    except FileNotFoundError:
        posix.close(at)
        raise
    except OSError as failure:
        posix.close(at)
        raise error(f"cannot open the directory '{here}': {why(failure)}") from failure
    except WardenError:
        posix.close(at)
        raise
    return at


def _open_root(root: str, create: bool, error: type[WardenError]) -> int:
    try:
        return posix.open(root, _O_DIRECTORY)
    except FileNotFoundError as failure:
        if not create:
            raise
        raise error(f"cannot open the directory '{root}': {why(failure)}") from failure
    except OSError as failure:
        raise error(f"cannot open the directory '{root}': {why(failure)}") from failure


def _demand_safe(fd: int, path: str, group_too: bool, error: type[WardenError], owners: tuple[int, ...]) -> None:
    wrong = unsafe(posix.fstat(fd), group_too, owners)
    if wrong:
        raise error(f"cannot use '{path}': {wrong}", f"chown root '{path}' and chmod go-w it")


def read_all(fd: int, limit: int) -> bytes:
    """Read a descriptor to its end.  Raises `ValueError` past `limit` bytes, `OSError` from read(2)."""
    pieces, size = [], 0
    while piece := posix.read(fd, 1 << 16):
        size += len(piece)
        if size > limit:
            raise ValueError(f"it is larger than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def open_regular(name: str, flags: int, directory: int | None, mode: int = 0) -> int:
    """Open a file and check that it is a regular one.  Raises `OSError` (ELOOP for a link), `ValueError`."""
    fd = posix.open(name, flags | O_FILE, mode, dir_fd=directory)
    if posix.fstat(fd).st_mode & _S_IFMT != _S_IFREG:
        posix.close(fd)
        raise ValueError("it is not a regular file")
    return fd


def read(
    name: str, limit: int, directory: int | None = None, trusted: bool = False, owners: tuple[int, ...] = ()
) -> bytes:
    """Read a regular file whole; `trusted` ones must be root's, or one of `owners`', and writable by nobody else.

    Raises `OSError`, and `ValueError` with what is wrong with it.
    """
    fd = open_regular(name, posix.O_RDONLY, directory)
    try:
        wrong = unsafe(posix.fstat(fd), owners=owners) if trusted else ""
        if wrong:
            raise ValueError(wrong)
        return read_all(fd, limit)
    finally:
        posix.close(fd)


def write_whole(fd: int, data: bytes) -> None:
    """Write all of `data`.  Raises `OSError`, ENOSPC for a short write: the disk is full."""
    if posix.write(fd, data) != len(data):
        raise OSError(28, "no space left on device")


def write_atomically(directory: int, name: str, data: bytes, mode: int) -> None:
    """Put a file in place of whatever had that name: readers see the old one or the new one.  Raises `OSError`."""
    temporary = f".{name}.{posix.getpid()}"
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | O_FILE, 0o600, dir_fd=directory)
    try:
        write_whole(fd, data)
        posix.fchmod(fd, mode)
        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        posix.unlink(temporary, dir_fd=directory)
        raise
    finally:
        posix.close(fd)
