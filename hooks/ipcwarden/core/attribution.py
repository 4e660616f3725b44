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
    from collections.abc import Callable, Mapping, Sequence

    from ipcwarden.core.objects import Object, Table
    from ipcwarden.core.policy import Selector

# What an object has a pid of, as bits: shm cpid; shm lpid, sem sempid, msg lspid; msg lrpid.
CREATOR, USER, RECEIVER = 1, 2, 4
_PIDS = {"shm": ((CREATOR, "cpid"), (USER, "lpid")), "msg": ((USER, "lspid"), (RECEIVER, "lrpid")), "sem": ()}
_CHANGES = {"shm": ("ctime", "detach"), "sem": ("ctime", "otime"), "msg": ("ctime", "send", "recv")}
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


def view_of(
    tables: Mapping[str, Table],
    semaphores: Mapping[int, frozenset[int]],
    unread: frozenset[int],
    lives: Callable[[int, int], bool] | None = None,
) -> View:
    """Return what is seen where these tables were read.

    `semaphores` are the pids that GETPID gave, by array.  With `lives` only those pids count that it tells to be of
    processes which live, and did when the object was last changed (given in seconds since 1970).
    """
    found: dict[str, dict[int, int]] = {kind: {} for kind in tables}
    for kind, table in tables.items():
        ids, seen = table.column("id"), found[kind]
        times = changes(table) if lives else ids
        for bit, name in _PIDS[kind]:
            for number, pid, when in zip(ids, table.column(name), times, strict=True):
                if pid and (lives is None or lives(pid, when)):
                    seen[number] = seen.get(number, 0) | bit
        if kind == "sem":
            for number, when in zip(ids, times, strict=True):
                if any(lives is None or lives(pid, when) for pid in semaphores.get(number, ())):
                    seen[number] = USER
    return View(found, unread)


def changes(table: Table) -> list[int]:
    """Return when each object of a table was last made, changed or used, in seconds since 1970."""
    return list(map(max, *(table.column(name) for name in _CHANGES[table.kind])))


def uses(table: Table) -> list[int]:
    """Return the bits that each object of a table must have a pid of, as its times tell."""
    if table.kind == "shm":
        ends = zip(table.column("attach"), table.column("detach"), strict=True)
        return [CREATOR | (USER if attach or detach else 0) for attach, detach in ends]
    if table.kind == "sem":
        return [USER if otime else 0 for otime in table.column("otime")]
    ends = zip(table.column("send"), table.column("recv"), strict=True)
    return [(USER if send else 0) | (RECEIVER if receive else 0) for send, receive in ends]


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
    changed = max(int(found[name]) for name in _CHANGES[str(found["kind"])])
    return "young" if now - changed < int(named["age"]) else ""
