"""Whose an object is, in a namespace that several live in, and whether it may be removed.

The kernel notes who made a segment and who last used an object, as a process, and shows that as a pid to whoever is in
the process' pid namespace, dead or alive; to all others it shows 0.  So what no living pid namespace has a pid for
belongs to processes that have gone with theirs.
"""

from __future__ import annotations

from ipcwarden.core.selection import selected
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipcwarden.core.objects import Object
    from ipcwarden.core.policy import Selector

# What an object has a pid of, as bits: shm cpid; shm lpid, sem sempid, msg lspid; msg lrpid.
CREATOR, USER, RECEIVER = 1, 2, 4
_WORDS = ((CREATOR, "creator"), (USER | RECEIVER, "last-user"))
IN_USE, PROVEN, PLAUSIBLE, UNKNOWN = "in-use", "proven", "plausible", "unknown"
_PRIVATE = "0x00000000"


@value
class View:
    """What is seen from one pid namespace.

    `pids` are the bits of what it has a pid of, by kind and id; what is not named has none.  `unread` are arrays whose
    semaphores could not all be asked.
    """

    pids: dict[str, dict[int, int]]
    unread: frozenset[int] = frozenset()


@value
class Sign:
    """What an object itself says: a word of who uses it now, if anybody, and the bits that it has been used by."""

    use: str = ""  # attached | waiters | notify
    used: int = 0


@value
class Verdict:
    """Whose an object is: in-use (by the living), proven, plausible or unknown, and the evidence in words."""

    confidence: str
    evidence: tuple[str, ...]

    @property
    def is_leftover(self) -> bool:
        """Tell whether none of the living is seen to use it."""
        return self.confidence != IN_USE


def judge(kind: str, number: int, sign: Sign, ours: View, living: Sequence[View], doubt: tuple[str, ...]) -> Verdict:
    """Judge one object by its id.

    `ours` is what we see, who stand above all of those pid namespaces; `living` are theirs.  `doubt` are words of why
    that proves nothing: somebody could not be asked.
    """
    if sign.use:
        return Verdict(IN_USE, (sign.use,))
    alive = 0
    for view in living:
        alive |= view.pids.get(kind, {}).get(number, 0)
    if alive:
        return Verdict(IN_USE, _words(alive, "lives"))
    if doubt:
        return Verdict(UNKNOWN, doubt)
    if kind == "mqueue":
        return Verdict(PLAUSIBLE, ("no-pids",))
    if kind == "sem" and any(number in view.unread for view in (ours, *living)):
        return Verdict(UNKNOWN, ("too-many",))
    gone = ours.pids.get(kind, {}).get(number, 0)
    if sign.used & ~gone:
        return Verdict(UNKNOWN, ("out-of-sight",))  # by a process that not even we have a pid for
    return Verdict(PROVEN, _words(gone, "gone")) if gone else Verdict(PLAUSIBLE, ("never-used",))


def _words(bits: int, what: str) -> tuple[str, ...]:
    return tuple(f"{who}-{what}" for mask, who in _WORDS if bits & mask)


@value
class Terms:
    """What a profile says of a member's leftovers; `mode` is its rule's."""

    leftovers: str = "report"  # report | remove
    mode: str = "enforcing"  # enforcing | permissive
    keep: tuple[Selector, ...] = ()
    reap: tuple[Selector, ...] = ()


def why_not(found: Object, verdict: Verdict, terms: Terms, now: float) -> str:
    """Return why an object stays, or an empty string: then it is to be removed.

    report, permissive, keep, queue, in-use, plausible, unknown, not-named or young; `now` in seconds since 1970.
    """
    if terms.leftovers != "remove":
        return "report"
    if terms.mode != "enforcing":
        return "permissive"
    if selected(terms.keep, found):
        return "keep"
    if found["kind"] == "mqueue":
        return "queue"  # nothing tells who has one open
    if verdict.confidence != PROVEN:
        return verdict.confidence
    if found["kind"] == "shm" and found["key"] == _PRIVATE:
        return ""  # nobody else could find it
    named = selected(terms.reap, found)
    if named is None:
        return "not-named"
    return "young" if now - last_change(found) < int(named["age"]) else ""


def last_change(found: Object) -> int:
    """Return when an object was last made, changed or used, in seconds since 1970."""
    return max(int(found.get(name, 0)) for name in ("ctime", "detach", "otime", "send", "recv"))
