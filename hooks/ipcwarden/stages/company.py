"""Namespaces that several live in: whose values are in force there, and keeping them so, whatever a joiner brings."""

from __future__ import annotations

import posix

from ipcwarden.core.digests import entry_key
from ipcwarden.core.facts import Facts
from ipcwarden.core.plan import exceeds
from ipcwarden.core.record import container_of
from ipcwarden.errors import PolicyViolation, WardenError
from ipcwarden.host.ledger import peek
from ipcwarden.host.membership import enter
from ipcwarden.host.namespace import identify, is_hosts, join, open_of
from ipcwarden.host.procfs import read_limits, write_limits
from ipcwarden.stages.life import identity_of, limits_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.state import ContainerState
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

_UNFINISHED = ("creating", "applied", "stopping")


def company_in(site: Site, room: Room, identity: Identity, but: str) -> dict[str, dict[str, Document]]:
    """Return the other lives in a namespace that are not finished, by key: their pins hold it, dead or alive."""
    found = {}
    for key in room.members():
        document = {} if key == but else peek(site.entries, key)
        theirs = identity_of(document) if document.get("state") in _UNFINISHED else None
        if theirs is not None and theirs.same_as(identity):
            found[key] = document
    return found


def in_force(company: dict[str, dict[str, Document]]) -> dict[str, Document] | None:
    """Return the entry whose limits are in force: of one that enforces, else of any."""
    applied = [document for document in company.values() if document.get("limits")]
    return next((document for document in applied if _enforces(document)), applied[0] if applied else None)


def _enforces(document: dict[str, Document]) -> bool:
    subject = document.get("subject")
    return isinstance(subject, dict) and subject.get("enforced") is True


def keep(site: Site, fd: int, company: dict[str, dict[str, Document]], state: ContainerState) -> None:
    """Put back what is in force in a namespace where somebody enforces, and record what had to be.

    Raises `PolicyViolation` where a joiner that runs already had more than is in force.
    """
    owner = in_force(company)
    if owner is None or not _enforces(owner):
        return
    wanted = limits_of(owner)
    join(fd, site.hosts)
    found = read_limits()
    wrong = [name for name, number in wanted.items() if found[name] != number]
    if not wrong:
        return
    write_limits(wanted, found)
    subject = owner["subject"]
    assert isinstance(subject, dict)
    late = state.status == "running"
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
            joiner=container_of(state.id, state.bundle, Facts()),
        ),
        **subject,
    }
    site.deliver_refusal(record, entry_key(state.id, state.bundle))
    too_much = [f"{name}={found[name]}" for name in wrong if exceeds(name, found[name], wanted[name])]
    if late and too_much:
        raise PolicyViolation(f"the namespace it joined had {', '.join(too_much)} when it started, put right since")


def protect(site: Site, state: ContainerState) -> None:
    """Keep the limits of a namespace that a container joins without being governed itself."""
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
                keep(site, fd, company_in(site, room, identity, ""), state)
            finally:
                room.leave()
    finally:
        posix.close(fd)


def protect_anyway(site: Site, state: ContainerState) -> None:
    """Do as `protect` does on the way out of an error, which is the one to tell."""
    try:
        protect(site, state)
    except WardenError:
        pass
