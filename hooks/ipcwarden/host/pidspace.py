"""Who is in an IPC namespace, and what is seen of its objects from their pid namespaces (pid_namespaces(7)).

Nothing but a process in a pid namespace sees what pids an object has there, so one is made in each.  The container's
root can see, stop and kill it: it is nobody, holds nothing but the pipe that it answers through, and is not waited for
beyond a deadline.  Where the container may trace every process (CAP_SYS_PTRACE) that is all it can get hold of.
"""

from __future__ import annotations

import _signal
import posix
import time

from ipcwarden.core.attribution import UNREAD, aligned, seen_in
from ipcwarden.core.objects import Table
from ipcwarden.files import read
from ipcwarden.privileges import CAP_IPC_OWNER
from ipcwarden.syscalls import (
    CLONE_NEWPID,
    GETNCNT,
    GETPID,
    GETZCNT,
    NO_SUCH_OBJECT,
    Capabilities,
    capset,
    parent_namespace,
    poll,
    semctl,
    set_dumpable,
    set_keepcaps,
    setns,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

    from ipcwarden.core.attribution import View

_NOBODY = 65534
_MAX_TABLE_BYTES = 64 << 20  # of a file of the kernel's
_MOST_SEMAPHORES = 100_000  # asked for one view, in a fifth of a second
_ANSWER_IN = 2.0  # seconds for one view
_END_IN = 500  # milliseconds for a helper that has been let go
_MOST_SPACES = 64  # asked: two processes are made for each
_TRIES, _PAUSE = 5, 0.05


class Spaces:
    """The pid namespaces of the processes in an IPC namespace, by device and inode, open until `close`.

    Of nested ones the topmost below ours, which has a pid for whatever is below it.  `blind` where a process could not
    be looked at, which may be in there, or there are more than will be asked.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], int] = {}
        self.blind = False
        self._known: set[tuple[int, int]] = set()

    def add(self, process: str) -> None:
        """Open the pid namespace of a process or thread, a directory of /proc; one that has ended has none.

        Raises `OSError`, where descriptors are short.
        """
        try:
            fd = posix.open(f"{process}/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC)
            space = _identity_of(fd)
            if space in self._known:
                posix.close(fd)
                return
            self._known.add(space)
            fd = _topmost(fd)
        except (FileNotFoundError, ProcessLookupError):
            return
        except PermissionError:
            self.blind = True
            return
        space = _identity_of(fd)
        if space in self.found or len(self.found) == _MOST_SPACES:
            self.blind = self.blind or space not in self.found
            posix.close(fd)
        else:
            self.found[space] = fd

    def close(self) -> None:
        """Let them go."""
        for fd in self.found.values():
            posix.close(fd)


def open_pid_namespace(process: int | str) -> int:
    """Open the pid namespace that a process is in, of nested ones the topmost below ours.  Raises `OSError`."""
    return _topmost(posix.open(f"/proc/{process}/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC))


def pid_namespace(process: int | str) -> tuple[int, int] | None:
    """Return device and inode of what `open_pid_namespace` opens; None where it has ended, or is not ours to see."""
    try:
        fd = open_pid_namespace(process)
    except OSError:
        return None
    try:
        return _identity_of(fd)
    finally:
        posix.close(fd)


def _topmost(fd: int) -> int:
    """Return a pid namespace's topmost ancestor below ours in its place, or ours.  Raises `OSError`."""
    try:
        status = posix.stat("/proc/self/ns/pid")
        ours = (status.st_dev, status.st_ino)
        while _identity_of(fd) != ours:
            above = parent_namespace(fd)
            if _identity_of(above) == ours:
                posix.close(above)
                break
            posix.close(fd)
            fd = above
    except OSError:
        posix.close(fd)
        raise
    return fd


def _identity_of(fd: int) -> tuple[int, int]:
    status = posix.fstat(fd)
    return (status.st_dev, status.st_ino)


def find_spaces(namespace: tuple[int, int], members: Iterable[int], strict: bool) -> Spaces:
    """Return the pid namespaces of all processes that are in an IPC namespace but ourselves, and of `members`.

    With `strict` a process that we may not look at makes us blind; without the right to, there always are some.
    Hooks and commands of ours that look into the namespace just now are waited for: they leave again at once.
    """
    ours = pid_namespace("self")
    for left in range(_TRIES, 0, -1):
        spaces = Spaces()
        try:
            _look_around(spaces, namespace, strict)
            for pid in members:
                spaces.add(f"/proc/{pid}")
        except OSError:
            spaces.close()
            spaces.found, spaces.blind = {}, True
        except BaseException:
            spaces.close()
            raise
        if ours not in spaces.found or left == 1:
            break
        spaces.close()
        time.sleep(_PAUSE)
    return spaces


def _look_around(spaces: Spaces, namespace: tuple[int, int], strict: bool) -> None:
    myself = str(posix.getpid())
    if posix.readlink("/proc/self") != myself:
        spaces.blind = True  # it shows another pid namespace than ours
    for name in posix.listdir("/proc"):
        if name.isdigit() and name != myself:
            for process in _as_tasks(f"/proc/{name}"):
                try:
                    there = posix.stat(f"{process}/ns/ipc")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has ended
                except OSError:
                    spaces.blind = spaces.blind or strict
                    continue
                if (there.st_dev, there.st_ino) == namespace:
                    spaces.add(process)


def _as_tasks(process: str) -> list[str]:
    """Return a process; where its first thread has ended, and is in no namespace any more, the threads that go on."""
    try:
        posix.readlink(f"{process}/ns/ipc")
    except FileNotFoundError:
        try:
            return [f"{process}/task/{thread}" for thread in posix.listdir(f"{process}/task")]
        except OSError:
            return []  # it has ended as a whole
    except OSError:
        pass  # not ours to see, as will be found
    return [process]


def ask_semaphores(arrays: Mapping[int, int]) -> tuple[dict[int, frozenset[int]], frozenset[int]]:
    """Return the pids that semaphores of the current IPC namespace have here, by array, and the arrays not asked.

    `arrays` are the numbers of semaphores by id; those of the smallest are asked first.
    """
    found: dict[int, frozenset[int]] = {}
    alike: dict[frozenset[int], frozenset[int]] = {}  # one set for the thousands that one process has used
    unread: list[int] = []
    left = _MOST_SEMAPHORES
    for number, size in sorted(arrays.items(), key=lambda each: each[1]):
        left -= size
        try:
            if left < 0:
                unread.append(number)
            else:
                pids = frozenset([semctl(number, place, GETPID) for place in range(size)]) - {0}
                found[number] = alike.setdefault(pids, pids)
        except OSError as error:
            if error.errno not in NO_SUCH_OBJECT:
                unread.append(number)
    return found, frozenset(unread)


def awaited(arrays: Mapping[int, int]) -> frozenset[int]:
    """Return which arrays somebody waits for; of those that cannot be asked nothing is told."""
    found: list[int] = []
    left = _MOST_SEMAPHORES
    for number, size in sorted(arrays.items(), key=lambda each: each[1]):
        left -= size
        try:
            if left >= 0 and any(semctl(number, at, ask) for at in range(size) for ask in (GETNCNT, GETZCNT)):
                found.append(number)
        except OSError:
            pass  # it has been removed, or `ask_semaphores` tells that it could not be asked
    return frozenset(found)


def view_from(space: int, tables: Mapping[str, Table], arrays: Mapping[int, int]) -> View | None:
    """Return what a pid namespace sees of the objects of the current IPC namespace that `tables` list.

    None where that is not to be had in time.  `arrays` as `ask_semaphores` takes them.
    """
    ends: list[int] = []
    try:
        ends += posix.pipe2(posix.O_CLOEXEC)
        ends += posix.pipe2(posix.O_CLOEXEC)
        helper = posix.fork()
    except OSError:
        for fd in ends:
            posix.close(fd)
        return None
    reader, writer, leash, hold = ends
    if not helper:
        _help(space, writer, leash, tables, arrays)
    posix.close(writer)
    posix.close(leash)
    try:
        return _answered(reader, tables)
    except (OSError, ValueError):
        return None  # killed, or what is said makes no sense: whoever said it may be the container's by now
    finally:
        posix.close(reader)
        posix.close(hold)
        _await_end(helper)


def _await_end(helper: int) -> None:
    """See a helper that has been let go to its end; it has been stopped where that takes long, and is killed then."""
    try:
        process = posix.pidfd_open(helper)
        try:
            has_ended = poll(process, _END_IN)
        finally:
            posix.close(process)
    except OSError:
        has_ended = False
    if not has_ended:
        _kill_as_nobody(helper)
    posix.waitpid(helper, 0)


def _kill_as_nobody(helper: int) -> None:
    """Kill a helper and the one that looks, with nobody's rights: ours to kill whomever we like is not kept."""
    try:
        children = read(f"/proc/{helper}/task/{helper}/children", _MAX_TABLE_BYTES).split()
    except OSError:
        children = []  # a kernel without CONFIG_PROC_CHILDREN
    ourselves = posix.geteuid()
    try:
        posix.setresuid(-1, _NOBODY, -1)
    except OSError:
        pass  # nor could they: they are ours
    for pid in (*map(int, children), helper):
        try:
            posix.kill(pid, _signal.SIGKILL)
        except OSError:
            pass  # it has ended just now
    posix.setresuid(-1, ourselves, -1)


def _answered(reader: int, tables: Mapping[str, Table]) -> View:
    """Return the view that is told: a byte for each object, and no other.  Raises `OSError`, `ValueError`."""
    deadline = time.monotonic() + _ANSWER_IN
    size = sum(map(len, tables.values()))
    said = bytearray()
    while len(said) < size:
        try:
            if not poll(reader, max(0, int((deadline - time.monotonic()) * 1000))):
                raise ValueError("it says nothing")
        except InterruptedError:
            continue
        piece = posix.read(reader, size - len(said))
        if not piece:
            raise ValueError("it has ended")
        said += piece
    if said and max(said) >= UNREAD << 1:
        raise ValueError("it is no view")
    found, at = {}, 0
    for kind, table in tables.items():
        found[kind] = bytes(said[at : at + len(table)])
        at += len(table)
    return found


def _help(space: int, writer: int, leash: int, tables: Mapping[str, Table], arrays: Mapping[int, int]) -> NoReturn:
    """Make the process that looks, and end it when the hook lets go of us, or has been killed.

    We stay in our own pid namespace, where the container cannot stop us.  Both are nobody's before it can see either.
    """
    try:
        setns(space, CLONE_NEWPID)  # of children
        _become_nobody()
        low, high = sorted((writer, leash))
        for first, last in ((0, low), (low + 1, high), (high + 1, 1 << 20)):
            posix.closerange(first, last)
        looking = posix.fork()
        if not looking:
            posix.close(leash)
            _look(writer, tables, arrays)
        posix.close(writer)
        try:
            poll(leash, -1)
        finally:
            posix.kill(looking, _signal.SIGKILL)
            posix.waitpid(looking, 0)
    finally:
        posix._exit(0)


def _become_nobody() -> None:
    """Give up whatever somebody who got hold of us could use; reading other users' semaphores is all that is kept."""
    try:
        set_keepcaps(True)
        posix.setgroups([])
        posix.setresgid(_NOBODY, _NOBODY, _NOBODY)
        posix.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        pass  # in a user namespace without that number, whose root may not be more than the container's
    try:
        capset(Capabilities(1 << CAP_IPC_OWNER, 1 << CAP_IPC_OWNER, 0))
    except OSError:
        capset(Capabilities(0, 0, 0))
    set_dumpable(False)  # last: a change of uids sets it again


def _look(writer: int, tables: Mapping[str, Table], arrays: Mapping[int, int]) -> NoReturn:
    try:
        pids, unread = ask_semaphores(arrays)
        for kind, table in tables.items():
            there = Table(kind, read(f"/proc/sysvipc/{kind}", _MAX_TABLE_BYTES), 1)
            said = aligned(seen_in(there, pids, unread), there.column("id"), table.column("id"))
            while said:
                said = said[posix.write(writer, said) :]
    finally:
        posix._exit(0)
