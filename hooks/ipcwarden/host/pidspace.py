"""Who is in an IPC namespace, and what is seen of its objects from their pid namespaces (pid_namespaces(7)).

Nothing but a process in a pid namespace sees what pids an object has there, so one is made in each.  The container's
root can see, stop and kill it: it is nobody, holds nothing but the pipe that it answers through, and is not waited for
beyond a deadline.  Where the container may trace every process (CAP_SYS_PTRACE) that is all it can get hold of.
"""

from __future__ import annotations

import _signal
import posix
import time

from ipcwarden.core.attribution import View, view_of
from ipcwarden.core.documents import parse, serialize
from ipcwarden.core.objects import Table
from ipcwarden.core.ranges import ranges_of
from ipcwarden.errors import DeadlineError
from ipcwarden.files import read_all
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
    semctl,
    set_dumpable,
    set_keepcaps,
    set_pdeathsig,
    setns,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

    from ipcwarden.core.documents import Document

_NOBODY = 65534
_SYSV = ("shm", "sem", "msg")
_MAX_TABLE_BYTES = 64 << 20
_MAX_VIEW_BYTES = 8 << 20
_MOST_IDS = 1 << 17  # of a kind; more may be only where the kernel was booted with ipcmni_extend
_MOST_SEMAPHORES = 100_000  # asked for one view, in a fifth of a second
_ANSWER_IN = 2.0  # seconds for one view
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


def view_from(space: int, arrays: Mapping[int, int]) -> View | None:
    """Return what a pid namespace sees of the objects of the current IPC namespace; None where that is not to be had.

    `arrays` as `ask_semaphores` takes them.
    """
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    helper = posix.fork()
    if not helper:
        _help(space, writer, arrays)
    posix.close(writer)
    try:
        return _view_in(parse(read_all(reader, _MAX_VIEW_BYTES)))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None  # killed, or what is said makes no sense: whoever said it may be the container's by now
    finally:
        posix.close(reader)
        posix.waitpid(helper, 0)  # it has a deadline


def _help(space: int, writer: int, arrays: Mapping[int, int]) -> NoReturn:
    """Make the process that looks, and see to its end: our own pid namespace is where nobody can stop us."""
    try:
        setns(space, CLONE_NEWPID)  # of children
        _become_nobody()
        posix.dup2(writer, 0)
        posix.closerange(1, 1 << 20)
        _signal.signal(_signal.SIGALRM, _overdue)
        child = posix.fork()
        if not child:
            _look(arrays)
        posix.close(0)
        try:
            _signal.setitimer(_signal.ITIMER_REAL, _ANSWER_IN)
            posix.waitpid(child, 0)
        except DeadlineError:
            posix.kill(child, _signal.SIGKILL)  # stopped, or never scheduled
    finally:
        posix._exit(0)


def _overdue(_signal_number: int, _frame: object) -> None:
    raise DeadlineError("cannot wait any longer for what a pid namespace shows")


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


def _look(arrays: Mapping[int, int]) -> NoReturn:
    try:
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
        set_pdeathsig(_signal.SIGKILL)
        page = posix.sysconf("SC_PAGE_SIZE")
        tables = {kind: Table(kind, _table_of(kind), page) for kind in _SYSV}
        view = view_of(tables, *ask_semaphores(arrays))
        said = serialize(_document_of_view(view)).encode("ascii")
        while said:
            said = said[posix.write(0, said) :]
    finally:
        posix._exit(0)


def _table_of(kind: str) -> bytes:
    fd = posix.open(f"/proc/sysvipc/{kind}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return read_all(fd, _MAX_TABLE_BYTES)
    finally:
        posix.close(fd)


def _document_of_view(view: View) -> dict[str, Document]:
    pids: dict[str, Document] = {}
    for kind, seen in view.pids.items():
        each: dict[str, Document] = {}
        for bits in set(seen.values()):
            each[str(bits)] = ranges_of(number for number, has in seen.items() if has == bits)
        pids[kind] = each
    return {"pids": pids, "unread": ranges_of(view.unread)}


def _view_in(said: Document) -> View:
    """Return the view that was told.  Raises `ValueError`, `TypeError` or `KeyError` where it is none."""
    if not isinstance(said, dict) or not isinstance(said["pids"], dict):
        raise TypeError("it is no view")
    pids: dict[str, dict[int, int]] = {}
    for kind in _SYSV:
        told = said["pids"][kind]
        if not isinstance(told, dict):
            raise TypeError("it is no view")
        pids[kind] = {number: int(bits) for bits, ranges in told.items() for number in _ids_in(ranges)}
    return View(pids, frozenset(_ids_in(said["unread"])))


def _ids_in(ranges: Document) -> list[int]:
    found: list[int] = []
    for first, last in ranges:  # type: ignore[union-attr,misc,str-unpack]  # a TypeError is what it then comes to
        if not 0 <= first <= last < first + _MOST_IDS - len(found):  # type: ignore[operator]
            raise ValueError("there are not so many objects")
        found += range(first, last + 1)  # type: ignore[arg-type,operator]
    return found
