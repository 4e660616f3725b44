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
    from collections.abc import Callable, Iterator, Mapping

    from ipcwarden.core.objects import Inventory, Object, Table
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
class Sight:
    """All that was seen of a namespace.

    `ours` is what we see, who stand above the pid namespaces of those in it, `living` what these see.  `awaited` are
    arrays that somebody waits for.  `doubt` are words of why all of that proves nothing: somebody could not be asked.
    """

    ours: View
    living: tuple[View, ...] = ()
    awaited: frozenset[int] = frozenset()
    doubt: tuple[str, ...] = ()


@value
class Verdict:
    """Whose an object is: in-use (by the living), proven, plausible or unknown, and the evidence in words."""

    confidence: str
    evidence: tuple[str, ...]

    @property
    def is_leftover(self) -> bool:
        """Tell whether none of the living is seen to use it."""
        return self.confidence != IN_USE


def attribute(
    inventory: Inventory, sight: Sight, before: Mapping[str, frozenset[int]]
) -> Iterator[tuple[str, Verdict, list[int]]]:
    """Give each verdict of a kind with the objects that it is for, as indices.

    Left out is what was there `before`: by kind the ids, of POSIX queues the inode numbers.
    """
    for kind, table in inventory.tables.items():
        yield from _attributed(kind, table, sight, before.get(kind, frozenset()))
    old = before.get("mqueue", frozenset())
    for index, queue in enumerate(inventory.queues):
        if inventory.inodes[index] not in old:
            use = "notify" if queue.get("notify") else ""
            yield "mqueue", judge("mqueue", use, 0, 0, 0, False, sight.doubt), [index]


def _attributed(
    kind: str, table: Table, sight: Sight, before: frozenset[int]
) -> Iterator[tuple[str, Verdict, list[int]]]:
    alike: dict[tuple[str, int, int, int, bool], list[int]] = {}  # a few sorts, of which there may be 32 768
    ours = sight.ours.pids.get(kind, {})
    living = [view.pids.get(kind, {}) for view in sight.living]
    unread: frozenset[int] = frozenset()
    if kind == "sem":
        unread = unread.union(sight.ours.unread, *(view.unread for view in sight.living))
    in_use = _in_use(table, sight)
    used = uses(table)
    for index, number in enumerate(table.column("id")):
        if number not in before:
            alive = 0
            for seen in living:
                alive |= seen.get(number, 0)
            sort = (in_use[index], used[index], ours.get(number, 0), alive, number in unread)
            alike.setdefault(sort, []).append(index)
    for sort, indices in alike.items():
        yield kind, judge(kind, *sort, sight.doubt), indices


def _in_use(table: Table, sight: Sight) -> list[str]:
    if table.kind == "shm":
        return ["attached" if number else "" for number in table.column("nattch")]
    if table.kind == "sem":
        return ["waiters" if number in sight.awaited else "" for number in table.column("id")]
    return [""] * len(table)


def judge(kind: str, use: str, used: int, ours: int, alive: int, unread: bool, doubt: tuple[str, ...]) -> Verdict:
    """Judge an object.

    `use` is a word of who uses it now, if anybody; `used` are the bits that it must have a pid of, `ours` those that we
    see, `alive` those that the living see; `unread` tells whether not all of them could be asked.
    """
    if use:
        return Verdict(IN_USE, (use,))
    if alive:
        return Verdict(IN_USE, _words(alive, "lives"))
    if doubt:
        return Verdict(UNKNOWN, doubt)
    if kind == "mqueue":
        return Verdict(PLAUSIBLE, ("no-pids",))
    if unread:
        return Verdict(UNKNOWN, ("too-many",))
    if used & ~ours:
        return Verdict(UNKNOWN, ("out-of-sight",))  # by a process that not even we have a pid for
    return Verdict(PROVEN, _words(ours, "gone")) if ours else Verdict(PLAUSIBLE, ("never-used",))


def _words(bits: int, what: str) -> tuple[str, ...]:
    return tuple(f"{who}-{what}" for mask, who in _WORDS if bits & mask)


@value
class Terms:
    """What a profile says of a member's leftovers; `mode` is its rule's."""

    leftovers: str = "report"  # report | remove
    mode: str = "enforcing"  # enforcing | permissive
    keep: tuple[Selector, ...] = ()
    reap: tuple[Selector, ...] = ()


def why_nothing(terms: Terms) -> str:
    """Return why nothing at all is removed, report or permissive, or an empty string."""
    if terms.leftovers != "remove":
        return "report"
    return "" if terms.mode == "enforcing" else "permissive"


def why_not(found: Object, verdict: Verdict, terms: Terms, now: float) -> str:
    """Return why an object stays, or an empty string: then it is to be removed.

    report, permissive, keep, queue, in-use, plausible, unknown, not-named or young; `now` in seconds since 1970.
    """
    if why := why_nothing(terms):
        return why
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
