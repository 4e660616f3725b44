"""What /proc tells of processes, memory and the limits of the current IPC namespace (proc(5))."""

from __future__ import annotations

import posix

from ipcwarden.core.sysctls import FILES, file_of, path_of, spelled
from ipcwarden.errors import ApplyError, KernelError, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipcwarden.core.documents import Document

_UNSET = 0xFFFFFFFF  # loginuid of what no login has started


def slurp(path: str) -> bytes:
    """Read a file of /proc whole.  Raises `OSError`."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        pieces = []
        while piece := posix.read(fd, 1 << 12):  # a page at a time, whatever is asked: /proc/sys clears as much memory
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        posix.close(fd)


def boot_id() -> str:
    """Return the random id of this boot (random(4))."""
    return slurp("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def host_memory() -> int:
    """Return the machine's memory in bytes (MemTotal)."""
    return posix.sysconf("SC_PHYS_PAGES") * posix.sysconf("SC_PAGE_SIZE")


def started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 where it is gone or has only to be reaped.

    One whose first thread has ended while others run looks like a zombie, and lives.
    """
    try:
        fields = slurp(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    except OSError:
        return 0
    ended = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1  # num_threads
    return 0 if ended else int(fields[19])


def executable(pid: int) -> str | None:
    """Return the base name of a process' program; None where that cannot be seen.

    crun runs from a sealed copy of itself, whose link reads `/` or `/memfd:...`: there the process' own name has to do.
    """
    try:
        name = posix.readlink(f"/proc/{pid}/exe").rpartition("/")[2].removesuffix(" (deleted)")
        if name and not name.startswith("memfd:"):
            return name
        return slurp(f"/proc/{pid}/comm").decode("utf-8", "backslashreplace").rstrip("\n")
    except OSError:
        return None


def mountinfo_of(pid: int) -> bytes:
    """Return what is mounted where a process is (proc_pid_mountinfo(5)); nothing where it is gone.

    Raises `KernelError`.
    """
    try:
        return slurp(f"/proc/{pid}/mountinfo")
    except (FileNotFoundError, ProcessLookupError):
        return b""
    except OSError as error:
        raise KernelError(f"cannot read /proc/{pid}/mountinfo: {why(error)}") from error


def real_path(path: str) -> str:
    """Return where a path leads once all symbolic links are followed; empty where nothing is there."""
    try:
        fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def login_uid() -> int:
    """Return the uid that this session logged in as, whatever it has become since; else the one that it has."""
    try:
        uid = int(slurp("/proc/self/loginuid"))
    except (OSError, ValueError):
        uid = _UNSET
    return posix.getuid() if uid == _UNSET else uid


def in_user_namespace() -> bool:
    """Tell whether we run in a user namespace of somebody's, as rootless engines do."""
    return slurp("/proc/self/uid_map").split() != [b"0", b"0", b"4294967295"]


def holders(device: int, inode: int, most: int = 16) -> list[dict[str, Document]]:
    """Return processes that are in a namespace, as {pid, command}, at most `most`.

    Threads of their own namespace, open descriptors and mounts are not seen this way.
    """
    found: list[dict[str, Document]] = []
    for name in posix.listdir("/proc"):
        if name.isdigit() and len(found) < most:
            try:
                there = posix.stat(f"/proc/{name}/ns/ipc")
                if (there.st_dev, there.st_ino) == (device, inode):
                    command = slurp(f"/proc/{name}/comm").decode("utf-8", "backslashreplace").rstrip("\n")
                    found.append({"pid": int(name), "command": command})
            except OSError:
                continue  # it ended, or is not ours to see
    return found


def read_limits() -> dict[str, int]:
    """Return all of `sysctls.NAMES` as the current IPC namespace has them.  Raises `KernelError`."""
    return _read_limits_in(FILES)


def _read_limits_in(files: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for file in files:
        try:
            words = slurp(f"/proc/sys/{path_of(file)}").split()
        except OSError as error:
            raise KernelError(
                f"cannot read {file}: {why(error)}", "CONFIG_SYSVIPC_SYSCTL, CONFIG_POSIX_MQUEUE_SYSCTL"
            ) from error
        found.update(zip(FILES[file], map(int, words), strict=True))
    return found


def write_limits(wanted: dict[str, int], found: dict[str, int]) -> dict[str, int]:
    """Put `wanted` in force in the current IPC namespace, which has `found` now; return what it has then.

    Only what differs is written, each file with one write(2) of canonical decimal, and read back.  All or nothing:
    on a failure what was written is put back, and `ApplyError` is raised.
    """
    goal = {**found, **wanted}
    changed = [file for file, names in FILES.items() if any(goal[name] != found[name] for name in names)]
    written: list[str] = []
    try:
        for file in changed:
            written.append(file)  # before: a refused kernel.sem has changed three of its fields all the same
            _write(file, spelled(file, goal))
        now = {**found, **_read_limits_in(changed)}
        for name, number in wanted.items():
            if now[name] != number:
                raise ApplyError(
                    f"cannot set {name} to {number}: the kernel took it and made it {now[name]}", "", file_of(name)
                )
    except BaseException:
        for file in reversed(written):
            try:
                _write(file, spelled(file, found))
            except ApplyError:
                pass  # the first failure is the one to tell
        raise
    return now


def _write(file: str, text: str) -> None:
    path = f"/proc/sys/{path_of(file)}"
    try:
        try:
            size = _write_as_we_are(path, text)
        except PermissionError:
            # Since Linux 6.9 only the root of the user namespace that owns the IPC namespace may write, not even the
            # host's root with every capability; the file shows that root as its owner.
            owner = posix.stat(path).st_uid
            if owner == posix.geteuid():
                raise
            before = posix.geteuid()
            posix.seteuid(owner)
            try:
                size = _write_as_we_are(path, text)
            finally:
                posix.seteuid(before)
    except OSError as error:
        raise ApplyError(f"cannot set {file} to {text}: {why(error)}", "", file) from error
    if size != len(text):
        raise ApplyError(f"cannot set {file} to {text}: the kernel took {size} of {len(text)} bytes", "", file)


def _write_as_we_are(path: str, text: str) -> int:
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        return posix.write(fd, text.encode("ascii"))
    finally:
        posix.close(fd)
