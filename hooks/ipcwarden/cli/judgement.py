"""What a policy would mean for a container that runs already: whether it would hurt, and how."""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden.cli import extract
from ipcwarden.core.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

VERDICTS = {
    "fits": "fits",
    "refused": "would be refused",
    "clamped": "would be clamped",
    "in-use": "in use above the new limit",
    "unusable": "config.json cannot be used: would be refused",
    "host-ipc": "host IPC, left alone",
    "no-rule": "no rule matches",
    "none": "no policy",
}
UNBOUND = "can write /proc/sys"
HURTING = ("refused", "clamped", "in-use", "unusable")
NOTHING = Plan("none", (), ())


@dataclass(frozen=True)
class Excess:
    """One limit of which more is in use than there would be; both are what the kernel counts for it."""

    name: str
    used: int
    wanted: int


@dataclass(frozen=True)
class Judgement:
    """What would become of one container: `verdict` is one of `VERDICTS`, `mode` that of its rule."""

    verdict: str
    mode: str
    plan: Plan
    excess: tuple[Excess, ...] = ()

    @property
    def hurts(self) -> bool:
        """Tell whether it would notice: a permissive rule writes and refuses nothing."""
        return self.mode == "enforcing" and (self.verdict in HURTING or bool(self.excess))


def starts(judged: Judgement) -> bool:
    """Tell whether it is governed and would start, with limits of a policy's or the host's."""
    return judged.verdict in ("fits", "clamped", "in-use", "host-ipc")


def judge(plan: Plan, mode: str, used: dict[str, int]) -> Judgement:
    """Judge a container by the plan for it; `used` is what is in use of the limits of a namespace that it owns."""
    excess = tuple(
        Excess(limit.name, used[limit.name], limit.wanted)
        for limit in plan.limits
        if used.get(limit.name, 0) > limit.wanted
    )
    verdict = plan.decision if plan.decision in ("refused", "clamped") else "in-use" if excess else "fits"
    return Judgement(verdict, mode, plan, excess)


def in_use(objects: list[dict[str, Document]], page: int) -> dict[str, int]:
    """Return what objects make of each limit that can be told from them; `page` is the page size in bytes.

    A limit of what a single object may be is used by the largest: kernel.msgmnb by the bytes in a queue, since none
    lists what a queue may hold, fs.mqueue.msg_max and msgsize_max by what queues were made for.
    """
    of = {kind: [each for each in objects if each.get("kind") == kind] for kind in ("shm", "sem", "msg", "mqueue")}

    def each(kind: str, key: str) -> list[int]:
        return [extract.number(one, key) for one in of[kind]]

    return {
        "kernel.shmall": sum(each("shm", "claimed")) // page,
        "kernel.shmmax": max(each("shm", "size"), default=0),
        "kernel.shmmni": len(of["shm"]),
        "kernel.sem.semmsl": max(each("sem", "nsems"), default=0),
        "kernel.sem.semmns": sum(each("sem", "nsems")),
        "kernel.sem.semmni": len(of["sem"]),
        "kernel.msgmnb": max(each("msg", "usedbytes"), default=0),
        "kernel.msgmni": len(of["msg"]),
        "fs.mqueue.queues_max": len(of["mqueue"]),
        "fs.mqueue.msg_max": max(each("mqueue", "maxmsg"), default=0),
        "fs.mqueue.msgsize_max": max(each("mqueue", "msgsize"), default=0),
    }
