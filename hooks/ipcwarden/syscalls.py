"""The system calls that Python 3.11 lacks, one function each, named as the call; nothing else uses ctypes.

Called through `_ctypes`, the C half of ctypes: the Python half takes 2.5 ms to import, a third of a whole hook.
Numbers given here are the same on every architecture of Linux since 5.1 (asm-generic/unistd.h).
"""

from __future__ import annotations

import _ctypes
import posix
from sys import byteorder

from ipcwarden.values import value

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
LOCK_EX, LOCK_NB = 2, 4
_POLLIN = 1
RLIMIT_MSGQUEUE = 12
GETPID, GETNCNT, GETZCNT = 11, 14, 15  # linux/sem.h
NO_SUCH_OBJECT = (22, 43)  # EINVAL, EIDRM: what the three *ctl(2) say of an object that has been removed
_IPC_RMID, _IPC_STAT = 0, 2
NSFS_MAGIC = 0x6E736673
TMPFS_MAGIC = 0x01021994

_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 428, 429, 430, 431, 432

_NS_GET_PARENT, _NS_GET_NSTYPE = 0xB702, 0xB703
_NS_GET_ID = 0x8008B70D  # Linux 6.18
_PIDFD_GET_IPC_NAMESPACE = 0xFF02  # Linux 6.11
_FD_NSFS_ROOT = -10003  # Linux 6.18

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 1, 4, 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # typeshed knows it as ctypes' base only
    _type_ = "i"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


_Buffer = _Char * 256  # one for all: making a type takes longer than most system calls


class _Function(_ctypes.CFuncPtr):
    _flags_ = 1 | 8  # FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = _Int


# None is the interpreter's own libc, 2 is RTLD_NOW.
_LIBRARY = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]  # the stub knows no None


def _call(name: str, *arguments: object) -> int:
    """Call a function of the C library.  Raises `OSError`; the result is tested, errno means something only then."""
    result: int = _Function(_ctypes.dlsym(_LIBRARY, name))(*arguments)
    if result < 0:
        number = _ctypes.get_errno()
        raise OSError(number, posix.strerror(number), name)
    return result


def _buffer(content: bytes = b"") -> _ctypes.Array[_Char]:
    # Large enough for each of the kernel's answers, with what it expects to find there at the start.
    made: _ctypes.Array[_Char] = _Buffer.from_buffer(bytearray(content.ljust(256, b"\0")))
    return made


def setns(fd: int, nstype: int) -> None:
    """Enter a namespace: setns(2)."""
    _call("setns", fd, nstype)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones: unshare(2)."""
    _call("unshare", flags)


def flock(fd: int, operation: int) -> None:
    """Lock a file: flock(2).  Raises `BlockingIOError` with LOCK_NB where somebody has it."""
    _call("flock", fd, operation)


def poll(fd: int, milliseconds: int) -> bool:
    """Wait until something can be read, or nobody writes any more: poll(2).  Raises `InterruptedError`."""
    waited_for = _buffer(fd.to_bytes(4, byteorder) + _POLLIN.to_bytes(2, byteorder))
    return _call("poll", waited_for, 1, milliseconds) > 0


def open_tree(fd: int) -> int:
    """Return a detached copy of the mount that `fd` stands on: open_tree(2)."""
    return _call("syscall", _SYS_OPEN_TREE, fd, b"", _AT_EMPTY_PATH | _OPEN_TREE_CLONE | posix.O_CLOEXEC)


def move_mount(tree: int, onto: int) -> None:
    """Attach a mount: move_mount(2), from descriptor to descriptor: no path that could lead elsewhere."""
    _call("syscall", _SYS_MOVE_MOUNT, tree, b"", onto, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH)


def umount2(path: bytes, flags: int) -> None:
    """Unmount: umount2(2)."""
    _call("umount2", path, flags)


def mount_mqueue() -> int:
    """Mount the queues of the current IPC namespace, attached to nothing (fsopen(2), fsmount(2)); return its root."""
    context = _call("syscall", _SYS_FSOPEN, b"mqueue", _FSOPEN_CLOEXEC)
    try:
        _call("syscall", _SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mount = _call("syscall", _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        posix.close(context)
    try:
        # fsmount gives an O_PATH descriptor, which cannot be listed.
        return posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=mount)
    finally:
        posix.close(mount)


def mq_getattr(fd: int) -> tuple[int, int, int]:
    """Return mq_maxmsg, mq_msgsize and mq_curmsgs: mq_getattr(3), which leaves the queue's times alone."""
    attributes = _buffer()  # struct mq_attr: eight longs, the first is mq_flags
    _call("mq_getattr", fd, attributes)
    raw = bytes(attributes)
    maximum, size, current = (int.from_bytes(raw[i : i + 8], byteorder) for i in (8, 16, 24))
    return maximum, size, current


def semctl(semid: int, number: int, command: int) -> int:
    """Tell who operated on a semaphore last, or how many wait for it: GETPID, GETNCNT, GETZCNT of semctl(2).

    Raises `OSError`: EINVAL and EIDRM where the array is gone, EACCES where it may not be read.
    """
    return _call("semctl", semid, number, command)


def file_system(fd: int) -> int:
    """Return the number by which the kernel knows a file system's kind: f_type of fstatfs(2)."""
    status = _buffer()
    _call("fstatfs", fd, status)
    return int.from_bytes(bytes(status)[:8], byteorder)


def ipc_stat(kind: str, number: int) -> bytes:
    """Return a System V object as the kernel describes it: IPC_STAT of shmctl(2), semctl(2) or msgctl(2).

    Raises `OSError`: EINVAL and EIDRM where it is gone, EACCES where it may not be read.
    """
    status = _buffer()
    if kind == "sem":
        _call("semctl", number, 0, _IPC_STAT, status)
    else:
        _call(f"{kind}ctl", number, _IPC_STAT, status)
    return bytes(status)


def ipc_rmid(kind: str, number: int) -> None:
    """Remove a System V object: IPC_RMID of shmctl(2), semctl(2) or msgctl(2).

    Raises `OSError`: EINVAL and EIDRM where it is gone, EPERM where that is not ours to do.
    """
    if kind == "sem":
        _call("semctl", number, 0, _IPC_RMID)
    else:
        _call(f"{kind}ctl", number, _IPC_RMID, None)


def namespace_type(fd: int) -> int:
    """Return the type of a namespace, NS_GET_NSTYPE of ioctl_ns(2); 0 for what is none."""
    if file_system(fd) != NSFS_MAGIC:
        return 0
    return _call("ioctl", fd, _NS_GET_NSTYPE)


def parent_namespace(fd: int) -> int:
    """Open the namespace above a pid namespace: NS_GET_PARENT of ioctl_ns(2).

    Raises `OSError`: EPERM where that is above our own.
    """
    return _call("ioctl", fd, _NS_GET_PARENT)


def namespace_id(fd: int) -> int:
    """Return a number that no other namespace of this boot has: NS_GET_ID.

    Raises `OSError` (ENOTTY before Linux 6.18).
    """
    answer = _buffer()
    _call("ioctl", fd, _NS_GET_ID, answer)
    return int.from_bytes(bytes(answer)[:8], byteorder)


def pidfd_ipc_namespace(pidfd: int) -> int:
    """Open the IPC namespace of a process: PIDFD_GET_IPC_NAMESPACE.  Raises `OSError` (ENOTTY before 6.11)."""
    return _call("ioctl", pidfd, _PIDFD_GET_IPC_NAMESPACE, 0)


def name_to_handle_at(fd: int) -> bytes:
    """Return eight bytes of header and the handle, which holds no reference: name_to_handle_at(2) of nsfs.

    Raises `OSError` (EOPNOTSUPP before Linux 6.18).
    """
    handle = _buffer((120).to_bytes(4, byteorder))
    _call("name_to_handle_at", fd, b"", handle, _buffer(), _AT_EMPTY_PATH)
    raw = bytes(handle)
    return raw[: 8 + int.from_bytes(raw[:4], byteorder)]


def open_by_handle_at(handle: bytes) -> int:
    """Open a namespace by its handle: open_by_handle_at(2).

    Raises `OSError`: ESTALE once nothing holds the namespace any more.
    """
    return _call("open_by_handle_at", _FD_NSFS_ROOT, _buffer(handle), posix.O_RDONLY | posix.O_CLOEXEC)


def prlimit(pid: int, resource: int, soft: int, hard: int) -> None:
    """Set a resource limit of a process: prlimit(2).

    Raises `OSError`: EPERM where its uids and gids are not all our real ones, or to raise a hard limit.
    """
    limits = _buffer(soft.to_bytes(8, byteorder) + hard.to_bytes(8, byteorder))
    _call("prlimit", pid, resource, limits, None)


def set_pdeathsig(signal: int) -> None:
    """Get a signal when the parent ends: PR_SET_PDEATHSIG of prctl(2)."""
    _call("prctl", _PR_SET_PDEATHSIG, signal, 0, 0, 0)


def set_dumpable(dumpable: bool) -> None:
    """Let nobody trace this process or look into it, unless it is dumpable: PR_SET_DUMPABLE of prctl(2)."""
    _call("prctl", _PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)


def set_keepcaps(keep: bool) -> None:
    """Keep the permitted capabilities when the uid changes: PR_SET_KEEPCAPS of prctl(2)."""
    _call("prctl", _PR_SET_KEEPCAPS, int(keep), 0, 0, 0)


def set_no_new_privs() -> None:
    """Let no exec give privileges from now on: PR_SET_NO_NEW_PRIVS of prctl(2)."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def capbset_read(capability: int) -> bool:
    """Tell whether a capability can be had: PR_CAPBSET_READ of prctl(2).

    Raises `OSError`, EINVAL past the kernel's last capability.
    """
    return bool(_call("prctl", _PR_CAPBSET_READ, capability, 0, 0, 0))


def capbset_drop(capability: int) -> None:
    """Give a capability up for good: PR_CAPBSET_DROP of prctl(2).

    Raises `OSError`, EINVAL past the kernel's last capability.
    """
    _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)


@value
class Capabilities:
    """The three sets of capget(2), as bit masks."""

    effective: int
    permitted: int
    inheritable: int


def capget() -> Capabilities:
    """Return this thread's capabilities: capget(2)."""
    words = _buffer()
    _call("capget", _capability_header(), words)
    raw = bytes(words)
    low_high = [int.from_bytes(raw[i : i + 4], byteorder) for i in range(0, 24, 4)]
    return Capabilities(*(low_high[i] | low_high[i + 3] << 32 for i in range(3)))


def capset(sets: Capabilities) -> None:
    """Set this thread's capabilities: capset(2)."""
    masks = (sets.effective, sets.permitted, sets.inheritable)
    words = [mask & 0xFFFFFFFF for mask in masks] + [mask >> 32 for mask in masks]
    _call("capset", _capability_header(), b"".join(word.to_bytes(4, byteorder) for word in words))


def _capability_header() -> bytes:
    return _LINUX_CAPABILITY_VERSION_3.to_bytes(4, byteorder) + bytes(4)
