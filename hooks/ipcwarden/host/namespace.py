"""IPC namespaces: found by process, told from the host's, pinned, joined, proven dead (ipc_namespaces(7), setns(2))."""

from __future__ import annotations

import _signal
import posix

from ipcwarden import syscalls
from ipcwarden.core.documents import parse, serialize
from ipcwarden.errors import KernelError, NamespaceError, WardenError, why
from ipcwarden.files import O_FILE, read_all
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ipcwarden.core.documents import Document

INITIAL_INODE = 0xEFFFFFFF  # IPC_NS_INIT_INO of linux/nsfs.h: the machine's own, on every kernel since 3.8
_ENOENT, _EINVAL, _ENOTTY, _ENOSYS, _EOPNOTSUPP, _ESTALE = 2, 22, 25, 38, 95, 116
_MAX_ANSWER_BYTES = 8 << 20
_UNSUPPORTED = (_ENOTTY, _EOPNOTSUPP, _EINVAL, _ENOSYS)


@value
class Features:
    """What this kernel may offer beyond the least we need; a test turns each off to run its fallback."""

    pidfd_namespaces: bool = True  # PIDFD_GET_IPC_NAMESPACE, Linux 6.11
    ids: bool = True  # NS_GET_ID, Linux 6.18
    handles: bool = True  # nsfs file handles, Linux 6.18


@value
class Identity:
    """Which namespace it is, over time: inode numbers are used again at once.

    `id` is 0 and `handle` empty where the kernel has none.
    """

    id: int
    device: int
    inode: int
    handle: bytes

    @property
    def name(self) -> str:
        """What it is called among the namespaces that live at one time."""
        return f"{self.id:x}" if self.id else f"{self.device:x}-{self.inode:x}"

    def same_as(self, other: Identity) -> bool:
        """Tell whether both are one namespace, given that both were seen in one boot."""
        if self.id and other.id:
            return self.id == other.id
        return (self.device, self.inode) == (other.device, other.inode)


def open_own() -> int:
    """Open the namespace that this thread is in.  Raises `KernelError` where the kernel has none."""
    try:
        return posix.open("/proc/thread-self/ns/ipc", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError(
            f"cannot open our own IPC namespace: {why(error)}", "is /proc mounted, and CONFIG_IPC_NS=y?"
        ) from error


def open_of(pid: int, features: Features) -> int:
    """Open the IPC namespace of a process, which must still be that process.  Raises `NamespaceError`."""
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError as error:
        raise NamespaceError(
            f"cannot find process {pid} of the container: {why(error)}", "did it end before the hook ran?"
        ) from error
    try:
        if features.pidfd_namespaces:
            try:
                return syscalls.pidfd_ipc_namespace(pidfd)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        fd = posix.open(f"/proc/{pid}/ns/ipc", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            _signal.pidfd_send_signal(pidfd, 0)  # it lives: so the path above was its own, not a later process'
        except OSError:
            posix.close(fd)
            raise
        return fd
    except OSError as error:
        raise NamespaceError(
            f"cannot open the IPC namespace of process {pid}: {why(error)}", "did it end while the hook ran?"
        ) from error
    finally:
        posix.close(pidfd)


def hosts(own: int) -> frozenset[tuple[int, int]]:
    """Return the device and inode of the namespaces that must never be touched: init's, and the one we come from."""
    ours = posix.fstat(own)
    found = {(ours.st_dev, ours.st_ino)}
    try:
        init = posix.stat("/proc/1/ns/ipc")
        found.add((init.st_dev, init.st_ino))
    except OSError:
        pass  # not ours to see; then our own, and the initial one's number, have to do
    return frozenset(found)


def is_hosts(fd: int, untouchable: frozenset[tuple[int, int]]) -> bool:
    """Tell whether a namespace is the machine's own, or one of `hosts`."""
    this = posix.fstat(fd)
    return this.st_ino == INITIAL_INODE or (this.st_dev, this.st_ino) in untouchable


def identify(fd: int, features: Features) -> Identity:
    """Return which namespace `fd` is.  Raises `KernelError` where it is no IPC namespace."""
    try:
        kind = syscalls.namespace_type(fd)
    except OSError as error:
        raise KernelError(f"cannot ask what kind of namespace this is: {why(error)}") from error
    if kind != syscalls.CLONE_NEWIPC:
        raise KernelError("cannot use what was opened: it is not an IPC namespace")
    status = posix.fstat(fd)
    number, handle = 0, b""
    try:
        number = syscalls.namespace_id(fd) if features.ids else 0
        handle = syscalls.name_to_handle_at(fd) if features.handles else b""
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise KernelError(f"cannot identify the namespace: {why(error)}") from error
    return Identity(number, status.st_dev, status.st_ino, handle)


def join(fd: int, untouchable: frozenset[tuple[int, int]]) -> None:
    """Enter a namespace that is not the host's.  Raises `NamespaceError`.

    The only way to where anything is written: whoever comes here with the host's namespace is turned away.
    """
    if is_hosts(fd, untouchable):
        raise NamespaceError("cannot join the IPC namespace: it is the host's")
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWIPC)
    except OSError as error:
        raise KernelError(f"cannot join the IPC namespace: {why(error)}", "it takes CAP_SYS_ADMIN") from error


def leave(own: int) -> None:
    """Return to the namespace that we come from.  Raises `KernelError`."""
    try:
        syscalls.setns(own, syscalls.CLONE_NEWIPC)
    except OSError as error:
        raise KernelError(f"cannot return to our own IPC namespace: {why(error)}") from error


def visit(fd: int, untouchable: frozenset[tuple[int, int]], own: int, look: Callable[[], Document]) -> Document:
    """Join a namespace, look, and return: our own membership would keep it alive.  Raises `NamespaceError`."""
    join(fd, untouchable)
    try:
        return look()
    finally:
        leave(own)


def visit_in_child(fd: int, untouchable: frozenset[tuple[int, int]], look: Callable[[], Document]) -> Document:
    """Do so in a child, for whoever could not return: in a user namespace nobody has the right to join the host's.

    Raises `NamespaceError`.
    """
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    child = posix.fork()
    if not child:
        _answer(writer, fd, untouchable, look)
    posix.close(writer)
    try:
        said = read_all(reader, _MAX_ANSWER_BYTES)
    except ValueError as error:
        raise KernelError(f"cannot take what the child process has seen: {error}") from error
    finally:
        posix.close(reader)
        posix.kill(child, _signal.SIGKILL)  # it has ended, unless our deadline has passed
        posix.waitpid(child, 0)
    if not said:
        raise KernelError("cannot see what is in the namespace: the child process ended without an answer")
    answer = parse(said)
    if isinstance(answer, str):
        raise KernelError(answer)
    return answer


def _answer(writer: int, fd: int, untouchable: frozenset[tuple[int, int]], look: Callable[[], Document]) -> NoReturn:
    try:
        try:
            join(fd, untouchable)
            answer = look()
        except WardenError as error:
            answer = str(error)
        said = serialize(answer).encode("ascii")
        while said:
            said = said[posix.write(writer, said) :]
    finally:
        posix._exit(0)  # whatever happened: nothing of what the parent does goes on here


def is_taken(pins: int, name: str) -> bool:
    """Tell whether there is a file of this name, pinning something or not."""
    try:
        posix.stat(name, dir_fd=pins, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def pin(pins: int, name: str, fd: int) -> None:
    """Mount a namespace on a new file of the directory `pins`, so that it outlives its processes.

    Raises `KernelError`, with nothing left behind; `FileExistsError` where the name is taken.
    """
    onto = posix.open(name, posix.O_RDONLY | posix.O_CREAT | posix.O_EXCL | O_FILE, 0o400, dir_fd=pins)
    try:
        tree = syscalls.open_tree(fd)
        try:
            syscalls.move_mount(tree, onto)
        finally:
            posix.close(tree)
    except OSError as error:
        posix.unlink(name, dir_fd=pins)
        raise KernelError(f"cannot pin the IPC namespace: {why(error)}", "it takes CAP_SYS_ADMIN") from error
    finally:
        posix.close(onto)


def open_pinned(pins: int, name: str, identity: Identity) -> int:
    """Open the namespace that was pinned under `name`, by its handle where the pin lies in another mount namespace.

    Raises `KernelError` where neither leads to that very namespace.
    """
    reason = "the pin is gone"
    try:
        fd = posix.open(name, posix.O_RDONLY | O_FILE, dir_fd=pins)
        if _is(fd, identity):
            return fd
        posix.close(fd)
        reason = "the pin is not mounted here"
    except OSError as error:
        reason = f"the pin cannot be opened: {why(error)}"
    if identity.handle:
        try:
            return syscalls.open_by_handle_at(identity.handle)
        except OSError as error:
            reason = f"{reason}, and its handle: {why(error)}"
    raise KernelError(f"cannot open the pinned IPC namespace '{name}': {reason}")


def _is(fd: int, identity: Identity) -> bool:
    if syscalls.namespace_type(fd) != syscalls.CLONE_NEWIPC:
        return False
    return identify(fd, Features(ids=bool(identity.id), handles=False)).same_as(identity)


def unpin(pins: int, name: str) -> None:
    """Take a pin away, in every mount namespace that holds a copy of it.  What is gone already is no error."""
    try:
        syscalls.umount2(f"/proc/self/fd/{pins}/{name}".encode(), syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    except OSError as error:
        # EINVAL: not mounted here.  The pin may have been made in another mount namespace.
        if error.errno not in (_EINVAL, _ENOENT):
            raise KernelError(f"cannot unmount the pin '{name}': {why(error)}") from error
    try:
        # Unlinking is what detaches the copies that other mount namespaces have got.
        posix.unlink(name, dir_fd=pins)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError(f"cannot remove the pin '{name}': {why(error)}") from error


def destroyed(identity: Identity) -> bool | None:
    """Tell whether a namespace is gone for good; None where this kernel cannot prove it."""
    if not identity.handle:
        return None
    try:
        posix.close(syscalls.open_by_handle_at(identity.handle))
    except OSError as error:
        return True if error.errno == _ESTALE else None
    return False
