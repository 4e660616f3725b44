"""Removing what members of a shared namespace have left: at their end, and later what was too young then."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.digests import entry_key
from ipcwarden.core.leftovers import (
    STAMPS,
    leftovers_in,
    leftovers_told,
    merged,
    planned,
    removed_told,
    still_there,
    without,
)
from ipcwarden.core.record import line_of
from ipcwarden.errors import NamespaceError, RecordError, WardenError
from ipcwarden.host.inventory import take_inventory
from ipcwarden.host.journal import append, unwritten
from ipcwarden.host.ledger import peek, take
from ipcwarden.host.membership import Guest, enter
from ipcwarden.host.namespace import open_pinned
from ipcwarden.host.removal import remove
from ipcwarden.stages.company import is_unfinished
from ipcwarden.stages.life import identity_of, key_of_reaping
from ipcwarden.stages.orphans import (
    gone_among,
    ids_of_plan,
    inventory_for,
    look_around,
    member_seen,
    space_in,
    suspects_in,
    terms_in,
)
from ipcwarden.stages.site import complain, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipcwarden.core.documents import Document
    from ipcwarden.core.leftovers import Group, Plan, Stayed
    from ipcwarden.core.objects import Inventory
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

# What is noted of one that has left something that is due: which end's it is, whose, and who else may have left it.
_OF_WHOM = ("pin", "at", "subject", "pid_namespace", "keep", "reap", "among")


def remove_planned(site: Site, fd: int, plan: Plan) -> Stayed:
    """Remove what is planned in the namespace `fd`, each object while it is what was judged; return what stays.

    Raises `NamespaceError`, at once where the namespace is the host's.
    """
    return site.visit(fd, lambda: _removed(plan)) if plan else {}  # type: ignore[return-value,arg-type,return-value]


def _removed(plan: Plan) -> Stayed:
    stayed: Stayed = {}
    for kind, rows in plan.items():
        for number, held, claimed, *stamp in rows:
            why = remove(kind, number, stamp)
            if why and why != "gone":
                stayed.setdefault(kind, []).append((number, held, claimed, why))
    return stayed


def clear(
    site: Site,
    document: dict[str, Document],
    identity: Identity,
    room: Room,
    company: Mapping[str, dict[str, Document]],
    member: dict[str, Document],
) -> dict[str, Document]:
    """Remove what one that has stopped has left in a namespace that others are in, and note what is due later.

    `document` is its entry, `member` what `member_seen` told and the entry has: where that is without `plan`, a killed
    hook noted it, and all is judged again.  Returns what a record says of it, and how much is `alarming`.  Where it
    cannot be removed it stays: the findings are safe, and nobody asks twice.
    """
    objects, removing = member["objects"], member["removing"]
    assert isinstance(objects, list)
    assert isinstance(removing, dict)
    found = [each for each in objects if isinstance(each, dict)]
    told = _told_of_member(member)
    try:
        stayed = _cleared(site, document, identity, room, company, member)
    except (NamespaceError, RecordError) as error:
        complain(f"cannot remove what a container has left in a namespace of others: {error}")
        return {**told, "objects": [{**each, "fate": "held", "why": each.get("why", "failed")} for each in found]}
    told["alarming"] = int(str(told["alarming"])) + sum(map(len, stayed.values()))
    return {**told, **removed_told(found, removing["totals"], stayed)}  # type: ignore[arg-type]  # totals of ours


def with_gone(
    site: Site, pin: str, identity: Identity, findings: dict[str, Document], member: dict[str, Document]
) -> dict[str, Document]:
    """Return the findings of now with what has gone since `member` was noted, of what was planned to.

    Raises `NamespaceError`.
    """
    fd = open_pinned(site.pins, pin, identity)
    try:
        ids = ids_of_plan(member)
        stayed = site.visit(fd, lambda: still_there(take_inventory(quietly=True), (), ids))  # type: ignore[arg-type,return-value]  # numbers are documents
    finally:
        posix.close(fd)
    objects, removing = member["objects"], member["removing"]
    told = removed_told(objects, removing["totals"], stayed)  # type: ignore[arg-type,index,call-overload]  # as told
    if "removed" not in told:
        return findings
    totals: dict[str, dict[str, int]] = findings["totals"]  # type: ignore[assignment]  # totals of ours
    removed: dict[str, dict[str, int]] = told["removed"]  # type: ignore[assignment]  # likewise
    gone = [each for each in told["objects"] if isinstance(each, dict) and each["fate"] == "removed"]  # type: ignore[union-attr]  # a list
    return {
        **findings,
        "totals": {kind: {name: totals[kind][name] + removed[kind][name] for name in totals[kind]} for kind in totals},
        "objects": [*findings["objects"], *gone],  # type: ignore[misc]  # a list
        "objects_omitted": int(str(findings["objects_omitted"]))
        + sum(total["count"] for total in removed.values())
        - len(gone),
        "removed": told["removed"],
    }


def _told_of_member(member: dict[str, Document]) -> dict[str, Document]:
    names = ("leftovers", "objects_omitted", "expected", "alarming")
    return {name: member[name] for name in names if name in member}


def _cleared(
    site: Site,
    document: dict[str, Document],
    identity: Identity,
    room: Room,
    company: Mapping[str, dict[str, Document]],
    member: dict[str, Document],
) -> Stayed:
    fd = open_pinned(site.pins, str(document["pin"]), identity)
    try:
        seen: Document = member
        if "plan" not in member:
            seen = site.visit(fd, lambda: member_seen(site, document, identity, inventory_for(document), company))
        if not isinstance(seen, dict):
            return {}  # the others have left
        room.put_left(seen["ended"])  # type: ignore[arg-type]  # as it was told
        for pid, begun in seen["strangers"]:  # type: ignore[misc,union-attr,str-unpack]  # likewise
            room.admit(Guest("", pid, begun))  # type: ignore[arg-type]  # likewise
        plan: Plan = seen["plan"] if document.get("leftovers") == "remove" else {}  # type: ignore[assignment]  # likewise
        rest = [each for each in room.due() if not _is_of(each, document)]
        later = _due_later(site, document, seen)
        if plan:
            room.put_due([*rest, *later, _due_of(document, gone_among(seen["among"], site.boot), plan)])
        earlier: Stayed = seen["stayed"]  # type: ignore[assignment]  # likewise
        stayed = merged(earlier, remove_planned(site, fd, plan))
        room.put_due([*rest, *later])
        return stayed
    finally:
        posix.close(fd)


def _due_later(site: Site, document: dict[str, Document], seen: dict[str, Document]) -> list[Document]:
    """Return what is too young, with those who may have left it as well, and what another look may tell more of.

    That may be of any who have lived there then, once they do not.
    """
    young: Plan = seen["young"]  # type: ignore[assignment]  # as it was told
    doubted: Plan = seen["doubted"]  # type: ignore[assignment]  # likewise
    found = [_due_of(document, gone_among(seen["among"], site.boot), young)] if young else []
    everybody = suspects_in(each for each in seen["among"] if isinstance(each, dict))  # type: ignore[union-attr]  # likewise
    return found + ([_due_of(document, everybody, doubted)] if doubted else [])


def _due_of(document: dict[str, Document], among: Sequence[Document], items: Plan) -> Document:
    whose = {name: document[name] for name in _OF_WHOM if name in document}
    return {**whose, "among": list(among), "items": items}  # type: ignore[dict-item]  # numbers are documents


def _is_of(due: dict[str, Document], document: dict[str, Document]) -> bool:
    return (due.get("pin"), due.get("at")) == (document.get("pin"), document.get("at"))


def collect_due(site: Site, name: str) -> list[dict[str, Document]]:
    """Remove what is due in the namespace whose room this is, if it is old enough by now and still nobody's.

    Returns the records about those who had left what is gone now, which the log has then.  Raises `WardenError`.
    """
    room = enter(site.namespaces, name)
    if room is None:
        return []
    try:
        return _collect_due(site, room) if room.due() else []
    finally:
        room.leave()


def finish_begun(site: Site, room: Room) -> None:
    """Bring to its end, and tell, what a killed hook or gc has begun to remove: with the last member the room goes."""
    if any("begun" in each for each in room.due()):
        try:
            _collect_due(site, room)
        except WardenError as error:
            complain(f"cannot tell what was removed of what a container has left: {error}")


def _collect_due(site: Site, room: Room) -> list[dict[str, Document]]:
    members = {key: peek(site.entries, key) for key in room.members()}
    company = {key: each for key, each in members.items() if is_unfinished(each, site.boot)}
    found = [(each, identity) for each in company.values() if (identity := identity_of(each))]
    if not found or found[0][1].name != room.name:
        return []  # the last one's end tells of all that stands
    document, identity = found[0]
    due, whole = room.due(), company.values()
    # What a killed hook has noted is of an end that is still to be told.
    open_ended: list[Document] = [each for each in due if any(_is_of(each, other) for other in whole)]
    due = [each for each in due if each not in open_ended]
    fd = open_pinned(site.pins, str(document["pin"]), identity)
    try:
        seen = site.visit(fd, lambda: _looked_at(site, due, identity, company))
        looked = [each for each in (seen if isinstance(seen, list) else []) if isinstance(each, dict)]
        room.put_due([*open_ended, *map(_as_noted, looked)])
        records = [_reaped(site, fd, identity, each) for each in looked if "begun" in each]
        records = [each for each in records if "removed" in each]
    finally:
        posix.close(fd)
    lines = [line_of(each) for each in records]
    if any("begun" in each for each in due):
        lines = unwritten(site.places.logs, lines)
    try:
        if lines:
            append(site.places.logs, lines)
    except RecordError as error:
        _defer(site, [each for each in records if line_of(each) in lines])
        site.wait(error, len(lines))
        records = []
    rest = [(each, items) for each in looked if (items := _rest_of(each))]
    left: list[Document] = [{**_as_noted(each, *_OF_WHOM), "items": items} for each, items in rest]
    room.put_due([*open_ended, *left])
    return records


def _defer(site: Site, records: list[dict[str, Document]]) -> None:
    """Leave records to gc, in the ledger.  Raises `RecordError`."""
    for each in records:
        container = each["container"]
        assert isinstance(container, dict)
        key = key_of_reaping(entry_key(str(container["id"]), str(container["bundle"])), time.time_ns())
        entry = take(site.entries, key, create=True)
        assert entry is not None
        try:
            line = line_of(each).decode("ascii").rstrip("\n")
            entry.write(state="recorded", boot=site.boot, subject={"container": container}, undelivered=[line])
        finally:
            entry.release()


def _as_noted(due: dict[str, Document], *but: str) -> dict[str, Document]:
    names = but or (*_OF_WHOM, "items", "begun")
    return {name: due[name] for name in names if name in due}


def _rest_of(due: dict[str, Document]) -> dict[str, Document]:
    """Return what stays due once all that was planned has been tried."""
    items: Plan = due["items"]  # type: ignore[assignment]  # as it was planned
    plan: Plan = due["plan"]  # type: ignore[assignment]  # likewise
    tried = {kind: frozenset(row[0] for row in rows) for kind, rows in plan.items()}
    return without(items, tried)  # type: ignore[return-value]  # numbers are documents


def _looked_at(
    site: Site, due: list[dict[str, Document]], identity: Identity, company: Mapping[str, dict[str, Document]]
) -> list[Document]:
    """Return what is due with what is to go now, in the current IPC namespace."""
    inventory = take_inventory(quietly=True)  # no queue is ever due
    found: list[Document] = []
    every = {kind: frozenset(table.column("id")) for kind, table in inventory.tables.items()}
    still = [_still_its(inventory, each) for each in due]
    others = every["sem"].difference(*(ids["sem"] for ids in still))
    outlook = look_around(site, identity, inventory, company, {"sem": others})
    for each, ids in zip(due, still, strict=True):
        before = {kind: every[kind] - ids[kind] for kind in every} | {"mqueue": frozenset(inventory.inodes)}
        gone = gone_among(each.get("among"), site.boot)
        terms = [terms_in({**each, "leftovers": "remove"}), *map(terms_in, gone)]
        sight = outlook.of(space_in(each), several=bool(gone))
        groups = leftovers_in(inventory, sight, before, terms, time.time(), {})
        found.append(_planned_again(inventory, groups, each, sight.semaphores))
    return found


def _still_its(inventory: Inventory, due: dict[str, Document]) -> dict[str, frozenset[int]]:
    """Take what is due, and return its ids as far as each is what it was: what has been changed has come into use."""
    items: Plan = due.pop("items")  # type: ignore[assignment]  # as it was planned; there may be tens of thousands
    found = {}
    for kind, table in inventory.tables.items():
        known = {(row[0], *row[3:6]) for row in items.pop(kind, ())}
        columns = (table.column(name) for name in ("id", *STAMPS[kind][:3]))
        found[kind] = frozenset(row[0] for row in zip(*columns, strict=True) if row in known)
    return found


def _planned_again(
    inventory: Inventory, groups: list[Group], due: dict[str, Document], semaphores: Mapping[int, frozenset[int]]
) -> dict[str, Document]:
    """Return what is due as `items` that stay so, the `plan` of what is to go, and what a record will say (`begun`).

    What a killed hook has begun is brought to its end first.
    """
    items = plan = planned(inventory, groups, "", semaphores)
    for why in ("young", "plausible", "unknown"):
        items = merged(items, planned(inventory, groups, why, semaphores))
    begun = due.get("begun")
    stayed: Stayed = {}
    if isinstance(begun, dict):
        plan = without(plan, ids_of_plan(begun), but=True)
        stayed = still_there(inventory, groups, ids_of_plan(begun))
    elif plan:
        begun = {"at": moment(), **leftovers_told(inventory, [each for each in groups if not each[2]], ())}
    return {
        **_as_noted(due, *_OF_WHOM),
        "items": items,  # type: ignore[dict-item]  # numbers are documents
        "plan": plan,  # type: ignore[dict-item]  # likewise
        "stayed": stayed,  # type: ignore[dict-item]  # likewise
        **({"begun": begun} if begun else {}),
    }


def _reaped(site: Site, fd: int, identity: Identity, due: dict[str, Document]) -> dict[str, Document]:
    """Remove what is planned; return the record about whoever left it, without `removed` where nothing has gone."""
    begun, subject = due["begun"], due.get("subject")
    assert isinstance(begun, dict)
    earlier: Stayed = due["stayed"]  # type: ignore[assignment]  # as it was planned
    stayed = merged(earlier, remove_planned(site, fd, due["plan"]))  # type: ignore[arg-type]  # likewise
    objects, removing = begun["objects"], begun["removing"]
    told = {
        **_told_of_member(begun),
        **removed_told(objects, removing["totals"], stayed),  # type: ignore[arg-type,index,call-overload]  # as told
    }
    del told["alarming"]
    namespace: dict[str, Document] = {
        "id": identity.id or None,
        "inode": identity.inode,
        "shared": True,
        "destroyed": False,
        "holders": [],
    }
    record = site.record("collected", time=begun["at"], namespace=namespace, drift=[], **told)
    return {**record, **(subject if isinstance(subject, dict) else {})}
