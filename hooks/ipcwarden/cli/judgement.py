"""What a policy would mean for a container that runs already: whether it would hurt, and how."""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden.cli import extract
from ipcwarden.core.plan import Plan
from ipcwarden.core.usage import usage_of

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
    """Return what objects make of each limit that can be told from them; `page` is the page size in bytes."""
    return usage_of(
        lambda kind, key: [extract.number(each, key) for each in objects if each.get("kind") == kind],
        page,
    )
