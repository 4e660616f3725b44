"""What a container has left in the host's IPC namespace, where everybody's objects are.

Nobody else's shall be told as its own: what is not new since it started is not, nor what somebody elsewhere has made
and lives, or uses.  What remains is told with what speaks for it.
"""

from __future__ import annotations

from ipcwarden.core.attribution import PLAUSIBLE, PROVEN, UNKNOWN, Verdict
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from ipcwarden.core.objects import Inventory

# Where a process is that an object has the pid of: among the container's, elsewhere, nowhere any more, or it lives and
# nobody can tell where; NOBODY for no pid.
INSIDE, OUTSIDE, GONE, UNTOLD, NOBODY = "inside", "outside", "gone", "untold", ""
ALIVE = frozenset(("creator-lives", "last-user-lives"))  # evidence of a process of the container's
_OFF = 1  # seconds that two clocks may seem to differ


@value
class HostLife:
    """A container's life in the host's namespace, in seconds since 1970, and the uid that its processes start with.

    `seen` are ids by kind of what a living process of its was seen to have made, or of sem and msg used last.
    """

    uid: int
    began: float
    ended: float
    seen: Mapping[str, frozenset[int]]


@value
class Trace:
    """What an object itself says of who made it: a uid, when it was made or changed, and where its processes are."""

    uid: int
    ctime: int
    creator: str = NOBODY
    users: tuple[str, ...] = ()


def new_since(found: Mapping[str, Sequence[int]], baseline: Mapping[str, Container[int]]) -> dict[str, list[int]]:
    """Return the indices of what is not in the baseline, by kind; both hold ids, of queues inode numbers."""
    return {
        kind: [index for index, number in enumerate(numbers) if number not in baseline.get(kind, ())]
        for kind, numbers in found.items()
    }


@value
class Clues:
    """What is known of processes: `where` tells where that of a pid is, as of some second since 1970.

    By id: `mapped` has where those are that have a segment mapped, `semaphores` the pids that an array's semaphores
    have, `awaited` the arrays that somebody waits for.
    """

    where: Callable[[int, int], str]
    mapped: Mapping[int, Sequence[str]]
    semaphores: Mapping[int, frozenset[int]]
    awaited: frozenset[int]


def trace_of(inventory: Inventory, kind: str, index: int, clues: Clues) -> Trace:
    """Return what an object says of its maker."""
    if kind == "mqueue":
        queue = inventory.queues[index]
        return Trace(int(queue["owner"]), int(queue["ctime"]))
    table = inventory.tables[kind]

    def at(name: str) -> int:
        return table.column(name)[index]

    creator, number = NOBODY, at("id")
    if kind == "shm":
        creator = clues.where(at("cpid"), at("ctime"))
        users = [*clues.mapped.get(number, (UNTOLD,))] if at("nattch") else []
    elif kind == "sem":
        users = [clues.where(pid, at("otime")) for pid in sorted(clues.semaphores.get(number, ()))]
        users += [UNTOLD] if number in clues.awaited else []
    else:
        users = [clues.where(at("lspid"), at("send")), clues.where(at("lrpid"), at("recv"))]
    return Trace(at("cuid"), at("ctime"), creator, tuple(users))


def judge_on_host(kind: str, number: int, trace: Trace, life: HostLife) -> Verdict | None:
    """Judge an object that is new since the container started; None for what is somebody else's, or in use by one."""
    if trace.creator == INSIDE:
        return Verdict(PROVEN, ("creator-lives",))
    if trace.creator == OUTSIDE or OUTSIDE in trace.users:
        return None
    if kind != "shm" and INSIDE in trace.users:
        return Verdict(PLAUSIBLE, ("last-user-lives",))  # the kernel does not tell who made it
    if number in life.seen.get(kind, ()):
        return Verdict(PROVEN if kind == "shm" else PLAUSIBLE, ("seen-alive",))
    evidence = ["creator-gone"] if trace.creator == GONE else ["last-user-gone"] if GONE in trace.users else []
    fits = [trace.uid == life.uid, life.began - _OFF <= trace.ctime <= life.ended + _OFF]
    is_plausible = bool(evidence) and all(fits)
    evidence += [word for word, does in zip(("uid", "time"), fits, strict=True) if does]
    if trace.creator == UNTOLD or UNTOLD in trace.users:
        return Verdict(UNKNOWN, (*evidence, "in-use"))
    return Verdict(PLAUSIBLE if is_plausible else UNKNOWN, tuple(evidence))


def distinct_cgroup(theirs: bytes, ours: bytes) -> str:
    """Return a cgroup that a process has and we have not, as `controllers:path` (proc_pid_cgroup); empty for none."""
    here = _cgroups_by_controllers(ours)
    for controllers, path in _cgroups_by_controllers(theirs).items():
        if path not in ("/", here.get(controllers)):
            return f"{controllers}:{path}"
    return ""


def is_in_cgroup(theirs: bytes, cgroup: str) -> bool:
    """Tell whether a process is in the cgroup that `distinct_cgroup` gave, or in one below."""
    controllers, _, path = cgroup.partition(":")
    return f"{_cgroups_by_controllers(theirs).get(controllers, '')}/".startswith(f"{path}/")


def _cgroups_by_controllers(content: bytes) -> dict[str, str]:
    lines = (line.split(":", 2) for line in content.decode("utf-8", "surrogateescape").splitlines())
    return {parts[1]: parts[2] for parts in lines if len(parts) == 3}


def host_uid(uid: int, uid_map: bytes) -> int:
    """Return a container's uid as we number it, by its process' uid_map (user_namespaces(7)); -1 for one without."""
    for line in uid_map.splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return -1
