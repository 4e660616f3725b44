"""Whose an object is, in a namespace that several live in, and whether it may be removed.

The kernel notes who made a segment and who last used an object, as a process, and shows that as a pid to whoever is in
the process' pid namespace, dead or alive; to all others it shows 0.  So what no living pid namespace has a pid for
belongs to processes that have gone with theirs.  Of an array or a message queue the kernel notes no maker: that its
last user is gone proves nothing of whoever made it, and may live.
"""

from __future__ import annotations

from ipcwarden.core.selection import selected
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from ipcwarden.core.objects import Inventory, Object, Table
    from ipcwarden.core.policy import Selector

    # What is seen from one pid namespace: by kind the bits of each object, in the order of its table.
    View: TypeAlias = Mapping[str, bytes]

# What an object has a pid of, as bits: shm cpid; shm lpid, sem sempid, msg lspid; msg lrpid.  And that not all of an
# array's semaphores could be asked.
CREATOR, USER, RECEIVER, UNREAD = 1, 2, 4, 8
_PIDS = {"shm": ((CREATOR, "cpid"), (USER, "lpid")), "msg": ((USER, "lspid"), (RECEIVER, "lrpid")), "sem": ()}
_CHANGES = {"shm": ("ctime", "detach"), "sem": ("ctime", "otime"), "msg": ("ctime", "send", "recv")}
_WORDS = ((CREATOR, "creator"), (USER | RECEIVER, "last-user"))
IN_USE, PROVEN, PLAUSIBLE, UNKNOWN = "in-use", "proven", "plausible", "unknown"
# Why it is not proven whose an object is, though all who have a pid for it are gone: others may have left it, members
# whose ends are not recorded yet or whom nobody knew; or another object has had its id.
SEVERAL, STRANGERS, OLD_ID = "several-gone", "strangers", "old-id"
_PRIVATE = "0x00000000"
_PASSING = ("no-answer", "too-many")  # doubts that another look may not have


def view_of(
    tables: Mapping[str, Table],
    semaphores: Mapping[int, frozenset[int]],
    unread: frozenset[int],
    lives: Callable[[int, int], bool] | None = None,
) -> View:
    """Return what is seen where these tables were read, as `seen_in` does of each."""
    return {kind: seen_in(table, semaphores, unread, lives) for kind, table in tables.items()}


def seen_in(
    table: Table,
    semaphores: Mapping[int, frozenset[int]],
    unread: frozenset[int],
    lives: Callable[[int, int], bool] | None = None,
) -> bytes:
    """Return a byte for each object of a table, of the bits of what it has a pid of.

    `semaphores` are the pids that GETPID gave, by array, `unread` the arrays that could not be asked.  With `lives`
    only those pids count that it tells to be of processes which live, and did when the object was last changed (given
    in seconds since 1970).
    """
    ids, seen = table.column("id"), bytearray(len(table))
    times = changes(table) if lives else ids
    for bit, name in _PIDS[table.kind]:
        for index, (pid, when) in enumerate(zip(table.column(name), times, strict=True)):
            if pid and (lives is None or lives(pid, when)):
                seen[index] |= bit
    if table.kind == "sem":
        for index, (number, when) in enumerate(zip(ids, times, strict=True)):
            pids = semaphores.get(number, ())
            used = bool(pids) if lives is None else any(lives(pid, when) for pid in pids)
            seen[index] = (USER if used else 0) | (UNREAD if number in unread else 0)
    return bytes(seen)


def aligned(seen: bytes, ids: Iterable[int], wanted: Sequence[int]) -> bytes:
    """Return what was seen of the objects `ids`, in their order, for what is `wanted`: 0 where it was not there."""
    by_id = dict(zip(ids, seen, strict=True))
    return bytes([by_id.get(number, 0) for number in wanted])


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
    `shade` are words of why it does not prove whose an object is: SEVERAL, STRANGERS.  `old` are ids by kind that may
    have been another's before (OLD_ID), `semaphores` the pids that we see of arrays'.
    """

    ours: View
    living: tuple[View, ...] = ()
    awaited: frozenset[int] = frozenset()
    doubt: tuple[str, ...] = ()
    shade: tuple[str, ...] = ()
    old: Mapping[str, frozenset[int]] = {}
    semaphores: Mapping[int, frozenset[int]] = {}


@value
class Verdict:
    """Whose an object is: in-use (by the living), proven, plausible or unknown, and the evidence in words."""

    confidence: str
    evidence: tuple[str, ...]

    @property
    def is_leftover(self) -> bool:
        """Tell whether none of the living is seen to use it."""
        return self.confidence != IN_USE

    @property
    def is_passing(self) -> bool:
        """Tell whether nothing is known of it now, and another look may tell more."""
        return self.confidence == UNKNOWN and all(word in _PASSING for word in self.evidence)

    def shaded(self, word: str) -> Verdict:
        """Return the verdict where it may be another's for what `word` says: SEVERAL, STRANGERS or OLD_ID."""
        if self.confidence == UNKNOWN or word in self.evidence:
            return self
        return Verdict(PLAUSIBLE, (*self.evidence, word))

    @property
    def is_orphan(self) -> bool:
        """Tell whether processes are known to have used it, and none of them lives."""
        if self.confidence == PROVEN:
            return True
        gone = "creator-gone" in self.evidence or "last-user-gone" in self.evidence
        return self.confidence == PLAUSIBLE and gone and OLD_ID not in self.evidence


def given_again(inventory: Inventory, before: Mapping[str, frozenset[int]], since: int) -> dict[str, frozenset[int]]:
    """Return the ids by kind of what was there `before` under which something stands that was made or changed `since`.

    `since` in seconds since 1970.  Ids come again, at a container's will where it owns its user namespace; inode
    numbers of POSIX queues do not.
    """
    found = {}
    for kind, table in inventory.tables.items():
        ids = before.get(kind, frozenset())
        found[kind] = frozenset(
            number
            for number, when in zip(table.column("id"), table.column("ctime"), strict=True)
            if when > since and number in ids
        )
    return found


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
            yield "mqueue", judge("mqueue", use, 0, 0, 0, False, sight.doubt, sight.shade), [index]


def _attributed(
    kind: str, table: Table, sight: Sight, before: frozenset[int]
) -> Iterator[tuple[str, Verdict, list[int]]]:
    # A few sorts, of which there may be 32 768.
    alike: dict[tuple[str, int, int, int, bool], list[int]] = {}
    aged: dict[tuple[str, int, int, int, bool], list[int]] = {}
    old = sight.old.get(kind, frozenset())
    nothing = bytes(len(table))
    bits = 0
    for view in sight.living:
        bits |= int.from_bytes(view.get(kind, nothing), "little")
    living = bits.to_bytes(len(table), "little")
    rows = zip(_in_use(table, sight), uses(table), sight.ours.get(kind, nothing), living, strict=True)
    for index, (number, (use, used, ours, alive)) in enumerate(zip(table.column("id"), rows, strict=True)):
        if number not in before:
            sort = (use, used, ours & ~UNREAD, alive & ~UNREAD, bool((ours | alive) & UNREAD))
            (aged if number in old else alike).setdefault(sort, []).append(index)
    for sorts, shade in ((alike, sight.shade), (aged, (*sight.shade, OLD_ID))):
        for sort, indices in sorts.items():
            yield kind, judge(kind, *sort, sight.doubt, shade), indices


def _in_use(table: Table, sight: Sight) -> list[str]:
    if table.kind == "shm":
        return ["attached" if number else "" for number in table.column("nattch")]
    if table.kind == "sem":
        return ["waiters" if number in sight.awaited else "" for number in table.column("id")]
    return [""] * len(table)


def judge(
    kind: str,
    use: str,
    used: int,
    ours: int,
    alive: int,
    unread: bool,
    doubt: tuple[str, ...],
    shade: tuple[str, ...] = (),
) -> Verdict:
    """Judge an object.

    `use` is a word of who uses it now, if anybody; `used` are the bits that it must have a pid of, `ours` those that we
    see, `alive` those that the living see; `unread` tells whether not all of them could be asked.  `doubt` are words
    that make unknown what nobody living is seen to use, `shade` those that make plausible what were proven.
    """
    if use:
        return Verdict(IN_USE, (use,))
    if alive:
        return Verdict(IN_USE, _words(alive, "lives"))
    if doubt:
        return Verdict(UNKNOWN, doubt)
    if kind == "mqueue":
        return Verdict(PLAUSIBLE, ("no-pids", *shade))
    if unread:
        return Verdict(UNKNOWN, ("too-many",))
    if used & ~ours:
        return Verdict(UNKNOWN, ("out-of-sight",))  # by a process that not even we have a pid for
    if not ours:
        return Verdict(PLAUSIBLE, ("never-used", *shade))
    is_proven = kind == "shm" and not shade  # of it alone the kernel keeps the maker
    return Verdict(PROVEN if is_proven else PLAUSIBLE, (*_words(ours, "gone"), *shade))


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


def why_not(found: Object, verdict: Verdict, terms: Sequence[Terms], now: float) -> str:
    """Return why an object stays, or an empty string: then it is to be removed, as all terms say.

    report, permissive, keep, queue, in-use, plausible, unknown, not-named or young; `now` in seconds since 1970.
    `terms` are those of all that may have left it, of at least one.
    """
    nothing = [why for each in terms if (why := why_nothing(each))]
    if nothing:
        return nothing[0]
    if any(selected(each.keep, found) for each in terms):
        return "keep"
    if found["kind"] == "mqueue":
        return "queue"  # nothing tells who has one open
    if not verdict.is_orphan:
        return verdict.confidence
    if is_private_segment(found) and STRANGERS not in verdict.evidence:
        return ""  # nobody else could find it
    named = [selected(each.reap, found) for each in terms]
    ages = [int(each["age"]) for each in named if each is not None]
    if len(ages) < len(terms):
        return "not-named"
    changed = max(int(found[name]) for name in _CHANGES[str(found["kind"])])
    return "young" if now - changed < max(ages) else ""


def is_private_segment(found: Object) -> bool:
    """Tell whether an object is a segment that nobody finds by a key."""
    return found["kind"] == "shm" and found["key"] == _PRIVATE
