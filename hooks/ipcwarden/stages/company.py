"""Namespaces that several live in: whose values are in force there, and keeping them so, whatever a joiner brings."""

from __future__ import annotations

import posix

from ipcwarden.core.digests import entry_key
from ipcwarden.core.facts import Facts
from ipcwarden.core.plan import exceeds, raised
from ipcwarden.core.record import container_of
from ipcwarden.errors import PolicyViolation, WardenError
from ipcwarden.host.ledger import peek
from ipcwarden.host.membership import VISIT_PATIENCE, Guest, RoomTaken, enter, guests_at, names, widened
from ipcwarden.host.namespace import identify, is_hosts, join, open_of, open_pinned
from ipcwarden.host.procfs import read_limits, started, write_limits
from ipcwarden.stages.life import identity_of, limits_of, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.state import ContainerState
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

FIRST_PID = 2  # 1 is the machine's own init, or the container's as it sees itself
_UNFINISHED = ("creating", "applied", "stopping")


def company_in(site: Site, room: Room, identity: Identity, but: str) -> dict[str, dict[str, Document]]:
    """Return the other lives in a namespace that are not finished, by key: their pins hold it, dead or alive."""
    found = {}
    for key in room.members():
        document = {} if key == but else peek(site.entries, key)
        theirs = identity_of(document) if is_unfinished(document, site.boot) else None
        if theirs is not None and theirs.same_as(identity):
            found[key] = document
    return found


def is_unfinished(document: dict[str, Document], boot: str) -> bool:
    """Tell whether a life of this boot has still to be finished, dead or alive."""
    return document.get("state") in _UNFINISHED and document.get("boot") == boot


def limits_in_force(site: Site, fd: int, company: dict[str, dict[str, Document]]) -> dict[str, int] | None:
    """Return the limits that hold in a namespace that is somebody's already, else None.

    Where somebody enforces they are that one's, whatever stands there now; else what stands there.
    """
    owner = enforcer(company)
    if owner is not None:
        return since_widened(site, owner, limits_of(owner))
    if not company:
        return None
    join(fd, site.hosts)
    return read_limits()


def since_widened(site: Site, document: dict[str, Document], limits: dict[str, int]) -> dict[str, int]:
    """Return the limits that an entry has as they are in force now: a joiner may have been allowed to raise them."""
    identity = identity_of(document)
    return raised(limits, widened(site.namespaces, identity.name)) if identity else limits


def enforcer(company: dict[str, dict[str, Document]]) -> dict[str, Document] | None:
    """Return the entry of somebody who enforces."""
    return next((document for document in company.values() if document.get("limits") and _enforces(document)), None)


def _enforces(document: dict[str, Document]) -> bool:
    subject = document.get("subject")
    return isinstance(subject, dict) and subject.get("enforced") is True


def keep(
    site: Site,
    fd: int,
    company: dict[str, dict[str, Document]],
    joiner: dict[str, Document] | None,
    late: bool = False,
) -> None:
    """Put back what is in force in a namespace where somebody enforces, and record what had to be.

    `joiner` is a record's container, None where it cannot be told who it is.  Raises `PolicyViolation` where it runs
    already (`late`) and had more than is in force.
    """
    owner = enforcer(company)
    if owner is None:
        return
    wanted = since_widened(site, owner, limits_of(owner))
    seen = site.visit(fd, lambda: put_back(wanted))
    assert isinstance(seen, dict)
    found = {name: int(str(text)) for name, text in seen.items()}
    wrong = [name for name in wanted if name in found]
    if not wrong:
        return
    subject = owner["subject"]
    assert isinstance(subject, dict)
    record = {
        **site.record(
            "verified",
            sysctls=[
                {
                    "name": name,
                    "requested": None,
                    "wanted": str(wanted[name]),
                    "found": str(found[name]),
                    "why": "in_force",
                }
                for name in wrong
            ],
            late=late,
            joiner=joiner,
        ),
        **subject,
    }
    site.deliver_refusal(record, entry_key(str(joiner["id"]), str(joiner["bundle"])) if joiner else "unknown")
    too_much = [f"{name}={found[name]}" for name in wrong if exceeds(name, found[name], wanted[name])]
    if late and too_much:
        raise PolicyViolation(f"the namespace it joined had {', '.join(too_much)} when it started, put right since")


def put_back(wanted: dict[str, int]) -> dict[str, Document]:
    """Write limits where the current IPC namespace has others; return those that it had."""
    found = read_limits()
    write_limits(wanted, found)
    return texts({name: found[name] for name, number in wanted.items() if found[name] != number})


def keep_pinned(site: Site, company: dict[str, dict[str, Document]], joiner: dict[str, Document] | None) -> None:
    """Do so through the pin of the one who enforces: no process of the joiner's is left."""
    owner = enforcer(company)
    identity = identity_of(owner) if owner else None
    if owner is not None and identity is not None:
        fd = open_pinned(site.pins, str(owner["pin"]), identity)
        try:
            keep(site, fd, company, joiner)
        finally:
            posix.close(fd)


def widen(site: Site, room: Room, before: dict[str, int], after: dict[str, int]) -> None:
    """Note what a joiner has been allowed to raise: from now on that is in force for everybody in the namespace.

    Called once the kernel has taken it, with the namespace's directory locked.  Raises `RecordError`.
    """
    more = {name: number for name, number in after.items() if exceeds(name, number, before[name])}
    if more:
        room.widen({**widened(site.namespaces, room.name), **more})


def protect(site: Site, state: ContainerState) -> None:
    """Keep the limits of a namespace that a container joins without being governed itself, and note it as a guest."""
    if not site.has_ledger():
        return  # nobody is governed
    fd = open_of(state.pid, site.features)
    try:
        if is_hosts(fd, site.hosts):
            return
        identity = identify(fd, site.features)
        room = enter(site.namespaces, identity.name)
        if room is not None:
            try:
                _protect(site, room, fd, company_in(site, room, identity, ""), state)
            finally:
                room.leave()
    finally:
        posix.close(fd)


def _protect(site: Site, room: Room, fd: int, company: dict[str, dict[str, Document]], state: ContainerState) -> None:
    owner = enforcer(company)
    if owner is None:
        return
    key = entry_key(state.id, state.bundle)
    if key not in company:
        room.admit(Guest(key, state.pid, started(state.pid)))
    joiner = None if owner is company.get(key) else joiner_of(state)
    keep(site, fd, company, joiner, state.status == "running")


def joiner_of(state: ContainerState) -> dict[str, Document]:
    """Return a record's `joiner`."""
    return container_of(state.id, state.bundle, Facts())


def see_off(site: Site, state: ContainerState) -> None:
    """Put back what was written for a guest that has ended: of one that never started poststop is the only sign.

    runc writes what config.json asks for after the creation hook, and calls poststart only if the program starts.
    """
    key = entry_key(state.id, state.bundle)
    for name in names(site.namespaces) if site.has_ledger() else ():
        if any(guest.key == key for guest in guests_at(site.namespaces, name)):
            _keep_room(site, name, key, joiner_of(state))


def protect_everywhere(site: Site) -> None:
    """Keep the limits of every namespace: a joiner came whose state does not say where it is."""
    for name in names(site.namespaces) if site.has_ledger() else ():
        _keep_room(site, name, "", None)


def protect_joined(site: Site) -> None:
    """Keep the limits of every namespace that others have joined: theirs may be a poststop that never came.

    Whoever is alone has no other's runtime to fear.  Raises what went wrong first, once all have been seen to.
    """
    failed: WardenError | None = None
    for name in names(site.namespaces):
        joined = False
        try:
            room = enter(site.namespaces, name, within=VISIT_PATIENCE)
            if room is not None:
                joined = bool(room.guests()) or len(room.members()) > 1
                room.leave()
            if joined:
                _keep_room(site, name, "", None)
        except RoomTaken:
            pass  # the next pass is soon enough
        except WardenError as error:
            failed = failed or error  # the others' come first
    if failed:
        raise failed


def _keep_room(site: Site, name: str, key: str, joiner: dict[str, Document] | None) -> None:
    """Keep one namespace's limits, and dismiss its guests that are gone: those of `key`, or all."""
    room = enter(site.namespaces, name)
    if room is None:
        return
    try:
        members = {each: peek(site.entries, each) for each in room.members()}
        keep_pinned(site, {each: found for each, found in members.items() if is_unfinished(found, site.boot)}, joiner)
        for guest in room.guests():
            if key in ("", guest.key) and started(guest.pid) != guest.started:
                room.dismiss(guest)
    finally:
        room.leave()


def protect_anyway(site: Site, state: ContainerState | None) -> None:
    """Do so where nothing may come of it: on the way out of an error, which is the one to tell, or switched off.

    crun has written a request before any hook.
    """
    try:
        if state is not None and state.pid >= FIRST_PID:
            protect(site, state)
        else:
            protect_everywhere(site)
    except WardenError:
        pass
