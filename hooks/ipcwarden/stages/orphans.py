"""Whose the objects of a namespace are in which several live: what creation notes of it, and how it is judged."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.attribution import Sight, Terms, given_again, view_of
from ipcwarden.core.leftovers import leftovers_in, leftovers_told, planned, still_there
from ipcwarden.core.ranges import numbers_in, ranges_of
from ipcwarden.core.selection import selectors_of
from ipcwarden.host.inventory import take_ids
from ipcwarden.host.membership import left_in
from ipcwarden.host.pidspace import ask_semaphores, awaited, find_spaces, pid_namespace, view_from
from ipcwarden.host.procfs import started
from ipcwarden.host.queues import queue_inodes
from ipcwarden.stages.life import is_living
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Inventory
    from ipcwarden.core.policy import Profile
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

PLANS = ("plan", "young", "stayed")  # what `member_seen` tells and the ledger does not keep: it is judged again
_TOGETHER = 6.0  # seconds that all living pid namespaces have to answer: a container may have made thousands
_BOOTTIME = 7  # CLOCK_BOOTTIME of clock_gettime(2), in which the kernel tells when a process started
_SLACK = 1.0  # seconds: an object's times have no fractions


def terms_noted(profile: Profile, pid: int) -> dict[str, Document]:
    """Return what the ledger notes of how a container's leftovers are to be judged."""
    noted: dict[str, Document] = {"leftovers": profile.leftovers}
    lists = {"keep": profile.keep, "reap": profile.reap, "expect": profile.expect}
    noted.update({name: [dict(each) for each in selectors] for name, selectors in lists.items() if selectors})
    space = pid_namespace(pid)
    return {**noted, "pid_namespace": list(space)} if space else noted


def baseline() -> dict[str, Document] | None:
    """Return what is in the current IPC namespace before a container that joins it, as ranges of ids by kind.

    Of POSIX queues the inode numbers.  None where that cannot be read: then nothing is ever proven to be its.
    """
    try:
        found = {**take_ids(), "mqueue": list(queue_inodes().values())}
    except OSError:
        return None
    return {kind: ranges_of(ids) for kind, ids in found.items() if ids}


def before_in(document: dict[str, Document]) -> dict[str, frozenset[int]] | None:
    """Return what an entry says was there before the container; None where it joined others and does not say."""
    noted = document.get("baseline")
    if isinstance(noted, dict):
        return {kind: numbers_in(ranges) for kind, ranges in noted.items()}
    return None if "baseline" in document or document.get("joined") else {}


def terms_in(document: dict[str, Document]) -> Terms:
    """Return what an entry says of the container's leftovers."""
    subject = document.get("subject")
    mode = str(subject.get("mode")) if isinstance(subject, dict) else ""
    keep, reap = (tuple(selectors_of(document.get(name))) for name in ("keep", "reap"))
    return Terms(str(document.get("leftovers")), mode, keep, reap)


def space_in(document: dict[str, Document]) -> tuple[int, int] | None:
    """Return the pid namespace that an entry says the container had, or None."""
    noted = document.get("pid_namespace")
    device, inode = noted if isinstance(noted, list) and len(noted) == 2 else (0, 0)
    return (device, inode) if isinstance(device, int) and isinstance(inode, int) and inode else None


@value
class Outlook:
    """What was seen of a namespace, and from which pid namespaces, by device and inode: those of all who live in it."""

    sight: Sight
    spaces: frozenset[tuple[int, int]]
    inhabited: bool  # whether anybody is, or may be, in there

    def of(
        self,
        space: tuple[int, int] | None,
        has_baseline: bool = True,
        old: Mapping[str, frozenset[int]] | None = None,
    ) -> Sight:
        """Return what is seen of what one left that had the pid namespace `space`, None where that is not known.

        `old` are ids that may have been another object's before.
        """
        doubt = [] if has_baseline else ["no-baseline"]
        doubt += ["no-pid-namespace"] if space is None or space in self.spaces else []
        told = tuple(dict.fromkeys((*doubt, *self.sight.doubt)))
        seen = self.sight
        return Sight(seen.ours, seen.living, seen.awaited, told, seen.shade, old or {}, seen.semaphores)


def look_around(
    site: Site,
    identity: Identity,
    inventory: Inventory,
    company: Mapping[str, dict[str, Document]],
    before: Mapping[str, frozenset[int]],
) -> Outlook:
    """Return what is seen of the current IPC namespace, which is `identity`, by us and by all who live in it.

    `company` are the entries of its members; semaphores are asked only of arrays that were not there `before`.
    Costs two processes for each living pid namespace.
    """
    members = [int(str(each["pid"])) for each in company.values() if is_living(each, site.boot)]
    spaces = find_spaces((identity.device, identity.inode), members, strict=not site.places.rootless)
    try:
        arrays = _arrays_in(inventory, before.get("sem", frozenset()))
        ours = pid_namespace("self")
        found = frozenset(spaces.found) | {ours} if ours else frozenset(spaces.found)
        deadline = time.monotonic() + _TOGETHER
        living, doubt = [], ["no-answer"] if spaces.blind or not ours else []
        for space, fd in spaces.found.items():
            if space == ours:
                doubt.append("no-pid-namespace")
                continue
            view = view_from(fd, arrays) if time.monotonic() < deadline else None
            living += [view] if view else []
            doubt += [] if view else ["no-answer"]
    finally:
        spaces.close()
    pids, unread = ask_semaphores(arrays)
    tables = inventory.tables
    living.append(view_of(tables, pids, frozenset(), _survivors()))
    told = tuple(dict.fromkeys(doubt))
    sight = Sight(view_of(tables, pids, unread), tuple(living), awaited(arrays), told, semaphores=pids)
    return Outlook(sight, found, bool(spaces.found) or spaces.blind)


def member_seen(
    site: Site,
    document: dict[str, Document],
    identity: Identity,
    inventory: Inventory,
    company: Mapping[str, dict[str, Document]],
) -> dict[str, Document] | None:
    """Return what one has left of `inventory` whose entry this is, in the current IPC namespace.

    None where nobody lives in there any more: then the last one's end tells of all that stands.  Beside what
    `leftovers_told` tells, `plan` and `young` are what is to be removed, now and later, and `stayed` what an earlier
    plan had and will not be removed after all.
    """
    noted = before_in(document)
    old = _given_again(inventory, document, noted or {})
    rest = {kind: ids - old.get(kind, frozenset()) for kind, ids in (noted or {}).items()}
    before = _with_others(rest, left_in(site.namespaces, identity.name))
    outlook = look_around(site, identity, inventory, company, before)
    if not outlook.inhabited:
        return None
    sight = outlook.of(space_in(document), noted is not None, old)
    groups = leftovers_in(inventory, sight, before, terms_in(document), time.time())
    return {
        **leftovers_told(inventory, groups, selectors_of(document.get("expect"))),
        "plan": planned(inventory, groups, "", sight.semaphores),  # type: ignore[dict-item]  # numbers are documents
        "young": planned(inventory, groups, "young", sight.semaphores),  # type: ignore[dict-item]  # likewise
        "stayed": still_there(inventory, groups, _earlier_plan(document)),  # type: ignore[dict-item]  # a tuple is a list
    }


def _given_again(
    inventory: Inventory, document: dict[str, Document], noted: Mapping[str, frozenset[int]]
) -> dict[str, frozenset[int]]:
    """Return which ids that were there before one joined may be another object's by now."""
    joined = document.get("joined_at")
    return given_again(inventory, noted, joined) if isinstance(joined, int) else {}


def _with_others(before: dict[str, frozenset[int]], left: dict[str, Document]) -> dict[str, frozenset[int]]:
    """Return what is none of one's: what was there before it, and what is proven to be somebody's who ended before."""
    others = {kind: numbers_in(ranges) for kind, ranges in left.items()}
    return {kind: before.get(kind, frozenset()) | others.get(kind, frozenset()) for kind in (*before, *others)}


def _earlier_plan(document: dict[str, Document]) -> dict[str, frozenset[int]]:
    findings = document.get("findings")
    member = findings.get("member") if isinstance(findings, dict) else None
    return ids_of_plan(member) if isinstance(member, dict) else {}


def ids_of_plan(told: dict[str, Document]) -> dict[str, frozenset[int]]:
    """Return the ids of what was to go, by kind, of what `leftovers_told` told."""
    removing = told["removing"]
    ids = removing["ids"] if isinstance(removing, dict) else None
    return {kind: numbers_in(ranges) for kind, ranges in ids.items()} if isinstance(ids, dict) else {}


def _arrays_in(inventory: Inventory, before: frozenset[int]) -> dict[int, int]:
    table = inventory.tables["sem"]
    pairs = zip(table.column("id"), table.column("nsems"), strict=True)
    return {number: size for number, size in pairs if number not in before}


def _survivors() -> Callable[[int, int], bool]:
    """Return what tells whether a process lives that did at a time: whoever made an object may have left since."""
    numbers = {int(name) for name in posix.listdir("/proc") if name.isdigit()}
    booted = time.time() - time.clock_gettime(_BOOTTIME)
    begun: dict[int, float] = {}

    def lives(pid: int, when: int) -> bool:
        if pid not in numbers:
            return False
        if pid not in begun:
            ticks = started(pid)
            begun[pid] = booted + ticks / posix.sysconf("SC_CLK_TCK") if ticks else float("inf")
        return begun[pid] <= when + _SLACK  # a later one has got the number of one that is dead

    return lives
