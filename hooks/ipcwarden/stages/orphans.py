"""Whose the objects of a namespace are in which several live: what creation notes of it, and how it is judged."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.attribution import SEVERAL, STRANGERS, Sight, Terms, given_again, view_of
from ipcwarden.core.leftovers import doubted, leftovers_in, leftovers_told, merged, planned, still_there, without
from ipcwarden.core.ranges import ranges_of
from ipcwarden.core.selection import selectors_of
from ipcwarden.core.told import ids_in, ids_less, ids_of_both, told_in
from ipcwarden.host.inventory import take_ids, take_inventory
from ipcwarden.host.membership import guests_at, had_strangers, left_in
from ipcwarden.host.pidspace import ask_semaphores, awaited, find_spaces, pid_namespace, view_from
from ipcwarden.host.procfs import holders, started
from ipcwarden.host.queues import queue_inodes
from ipcwarden.stages.life import is_living
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Inventory
    from ipcwarden.core.policy import Profile
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

# What `member_seen` tells and the ledger does not keep: it is judged again.
PLANS = ("plan", "young", "doubted", "stayed", "ended", "strangers")
_OF_SUSPECTS = ("pid", "started", "boot", "leftovers", "keep", "reap")
_EVERYBODY, _LOOKS, _BETWEEN = 1 << 22, 4, 0.05  # all pids; looks at strangers, seconds between two
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
        return ids_in(noted)
    return None if "baseline" in document or document.get("joined") else {}


def inventory_for(document: dict[str, Document]) -> Inventory:
    """Return what is in the current IPC namespace at the end of one that others were with, whose entry this is.

    Of POSIX queues those alone are read that were made since it joined: the others' times are not moved.
    """
    noted = before_in(document)
    return take_inventory(quietly=True if noted is None else noted.get("mqueue", frozenset()))


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


def suspects_in(documents: Iterable[dict[str, Document]]) -> list[Document]:
    """Return what is noted of others who may have left what one has, of their entries or of what was noted before.

    Who lives has left nothing yet: once it does not, nobody can tell any more.
    """
    found: dict[tuple[Document, Document], Document] = {}
    for each in documents:
        subject = each.get("subject")
        mode = subject.get("mode") if isinstance(subject, dict) else None
        noted: dict[str, Document] = {name: each[name] for name in _OF_SUSPECTS if name in each}
        found[str(each.get("pid")), str(each.get("started"))] = {**noted, "subject": {"mode": mode}}
    return list(found.values())


def gone_among(suspects: Document, boot: str) -> list[dict[str, Document]]:
    """Return those of whom `suspects_in` noted that have ended."""
    return [each for each in _documents_of(suspects) if not is_living(each, boot)]


@value
class Outlook:
    """What was seen of a namespace, and from which pid namespaces, by device and inode: those of all who live in it.

    `ours` is the one that we are in.
    """

    sight: Sight
    spaces: frozenset[tuple[int, int]]
    ours: tuple[int, int] | None
    inhabited: bool  # whether anybody is, or may be, in there

    def of(
        self,
        space: tuple[int, int] | None,
        has_baseline: bool = True,
        old: Mapping[str, frozenset[int]] | None = None,
        several: bool = False,
    ) -> Sight:
        """Return what is seen of what one left that had the pid namespace `space`, None where that is not known.

        `old` are ids that may have been another object's before; `several` tells that others may have left it.
        """
        doubt = [] if has_baseline else ["no-baseline"]
        doubt += ["no-pid-namespace"] if space in (None, self.ours, *self.spaces) else []
        told = tuple(dict.fromkeys((*doubt, *self.sight.doubt)))
        seen = self.sight
        shade = (SEVERAL, *seen.shade) if several else seen.shade
        return Sight(seen.ours, seen.living, seen.awaited, told, shade, old or {}, seen.semaphores)


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
        deadline = time.monotonic() + _TOGETHER
        living, doubt = [], ["no-answer"] if spaces.blind or not ours else []
        for space, fd in spaces.found.items():
            if space == ours:
                doubt.append("no-pid-namespace")
                continue
            view = view_from(fd, inventory.tables, arrays) if time.monotonic() < deadline else None
            living += [view] if view else []
            doubt += [] if view else ["no-answer"]
    finally:
        spaces.close()
    pids, unread = ask_semaphores(arrays)
    tables = inventory.tables
    living.append(view_of(tables, pids, frozenset(), _survivors()))
    told = tuple(dict.fromkeys(doubt))
    shade = (STRANGERS,) if _strangers_have_gone(site, identity) else ()
    sight = Sight(view_of(tables, pids, unread), tuple(living), awaited(arrays), told, shade, semaphores=pids)
    return Outlook(sight, frozenset(spaces.found), ours, bool(spaces.found) or spaces.blind)


def _strangers_have_gone(site: Site, identity: Identity) -> bool:
    guests = guests_at(site.namespaces, identity.name)
    return had_strangers(site.namespaces, identity.name) or any(started(each.pid) != each.started for each in guests)


def _strangers(
    site: Site, identity: Identity, outlook: Outlook, members: Iterable[dict[str, Document]]
) -> list[Document]:
    """Return one process for each pid namespace in there that is none of the members', as [pid, started].

    Whoever a runtime sends in for a moment is waited for; guests that are noted are left out.
    """
    known = {space_in(each) for each in members}
    strange = outlook.spaces - known
    noted = {(each.pid, each.started) for each in guests_at(site.namespaces, identity.name) if strange}
    found: dict[tuple[int, int], list[Document]] = {}
    for left in range(_LOOKS if strange else 0, 0, -1):
        found = {}
        for pid in _all_in(identity):
            space, begun = pid_namespace(pid), started(pid)
            if space in strange and begun and (pid, begun) not in noted:
                found.setdefault(space, [pid, begun])
        if not found or left == 1:
            break
        time.sleep(_BETWEEN)
    return list(found.values())


def _all_in(identity: Identity) -> list[int]:
    pids = [int(str(each["pid"])) for each in holders(identity.device, identity.inode, _EVERYBODY)]
    return [pid for pid in pids if pid != posix.getpid()]


def member_seen(
    site: Site,
    document: dict[str, Document],
    identity: Identity,
    inventory: Inventory,
    company: Mapping[str, dict[str, Document]],
) -> dict[str, Document] | None:
    """Return what one has left of `inventory` whose entry this is, in the current IPC namespace.

    None where nobody lives in there any more: then the last one's end tells of all that stands.  Beside what
    `leftovers_told` tells, `among` are others who may have left it, `plan` is what is to be removed now, `young` and
    `doubted` what may be later, and `stayed` what an earlier plan had and will not be removed after all; `ended` is
    what ends have told of by now, and `strangers` are processes of nobody's whom we know, as [pid, started].
    """
    noted, earlier, now = before_in(document), _earlier(document), time.time()
    ended = told_in(left_in(site.namespaces, identity.name))
    others = ended.less(told_in(earlier.get("left")))
    joined = document.get("joined_at")
    old = given_again(inventory, noted or {}, joined) if isinstance(joined, int) else {}
    old = ids_of_both(old, others.given_again(inventory))
    others = others.without(old)
    before = ids_of_both(ids_less(noted or {}, old), others.proven)
    outlook = look_around(site, identity, inventory, company, before)
    if not outlook.inhabited:
        return None
    among = suspects_in([*_documents_of(earlier.get("among")), *company.values()])
    gone = gone_among(among, site.boot)
    space = space_in(document)
    sight = outlook.of(space, noted is not None, old, bool(gone))
    terms = [terms_in(each) for each in (document, *gone)]
    groups = leftovers_in(inventory, sight, before, terms, now, others.unproven)
    told = leftovers_told(inventory, groups, selectors_of(document.get("expect")))
    plan, young, later = (
        planned(inventory, these, why, sight.semaphores)
        for these, why in ((groups, ""), (groups, "young"), (doubted(inventory, groups, terms), "unknown"))
    )
    if earlier:  # what that has not told is for a record of its own
        ids = ids_of_plan(earlier)
        plan, young = without(plan, ids, but=True), merged(young, without(plan, ids))
    more: dict[str, object] = {
        "among": among,
        "plan": plan,
        "young": young,
        "doubted": later,
        "stayed": still_there(inventory, groups, ids_of_plan(earlier)) if earlier else {},
        "ended": ended.with_more(inventory, told["left"], int(now)),  # type: ignore[arg-type]  # as it was told
        "strangers": _strangers(site, identity, outlook, (document, *company.values())),
    }
    return {**told, **more}  # type: ignore[dict-item]  # numbers are documents, and a tuple is a list


def _earlier(document: dict[str, Document]) -> dict[str, Document]:
    """Return what a killed hook has told of one; nothing where there was none."""
    findings = document.get("findings")
    member = findings.get("member") if isinstance(findings, dict) else None
    return member if isinstance(member, dict) else {}


def _documents_of(noted: Document) -> list[dict[str, Document]]:
    return [each for each in (noted if isinstance(noted, list) else []) if isinstance(each, dict)]


def ids_of_plan(told: dict[str, Document]) -> dict[str, frozenset[int]]:
    """Return the ids of what was to go, by kind, of what `leftovers_told` told."""
    removing = told["removing"]
    return ids_in(removing["ids"]) if isinstance(removing, dict) else {}


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
