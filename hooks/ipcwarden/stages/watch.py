"""A look at a living container: whether its limits are still those in force, and how much of them it uses."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.alarms import called
from ipcwarden.core.causes import causes_of
from ipcwarden.core.findings import drift
from ipcwarden.core.usage import raised_peaks, usage_in
from ipcwarden.host.inventory import take_inventory
from ipcwarden.host.ledger import keys, peek, take
from ipcwarden.host.membership import VISIT_PATIENCE, enter
from ipcwarden.host.namespace import open_pinned
from ipcwarden.host.procfs import read_limits
from ipcwarden.stages.company import company_in, enforcer, since_widened
from ipcwarden.stages.hostipc import observe
from ipcwarden.stages.life import identity_of, is_living, peaks_of, texts, wanted_of, was_shared
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.host.ledger import Entry
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

_CLOCK_BOOTTIME = 7  # what the kernel counts the start of processes in


@value
class _Company:
    """Whether others have been in the namespace, and whether its limits are another's to speak of."""

    shared: bool
    spoken_for: bool


def latest_start(older_than: float) -> float:
    """Return when what is older than so many seconds has started at the latest, in clock ticks since boot."""
    return (time.clock_gettime(_CLOCK_BOOTTIME) - older_than) * posix.sysconf("SC_CLK_TCK")


def living(site: Site, older_than: float) -> dict[str, dict[str, Document]]:
    """Return the entries of the containers that run, by key; changes nothing.

    Of those that have run for `older_than` seconds: until poststart a runtime may be about to write its own limits.
    """
    latest = latest_start(older_than)
    entries = {key: peek(site.entries, key) for key in keys(site.entries)}
    return {
        key: document
        for key, document in entries.items()
        if _is_watched(document, site.boot) and int(str(document["started"])) <= latest
    }


def _is_watched(document: dict[str, Document], boot: str) -> bool:
    return document.get("state") == "applied" and is_living(document, boot)


def watch(site: Site, key: str) -> dict[str, Document] | None:
    """Look at one container; return the `drift` record where its limits have changed since the last look.

    What it uses at most is kept in its entry; of one in the host's namespace what it is seen to have made.  Nothing is
    written into its namespace.  None where there is nothing new, and where somebody else is at the entry.  Raises
    `WardenError`; `RoomTaken` where somebody else of ours is in the namespace.
    """
    entry = take(site.entries, key, wait=False)
    if entry is None:
        return None
    try:
        identity = identity_of(entry.document)
        if not _is_watched(entry.document, site.boot):
            return None
        if entry.document.get("host"):
            observe(site, entry)  # its limits are the host's own
            return None
        subject = entry.document.get("subject")
        site.subject.update(subject if isinstance(subject, dict) else {})
        return _watched(site, entry, identity) if identity else None
    finally:
        entry.release()


def _watched(site: Site, entry: Entry, identity: Identity) -> dict[str, Document] | None:
    room = enter(site.namespaces, identity.name, create=True, within=VISIT_PATIENCE)
    assert room is not None
    try:
        fd = open_pinned(site.pins, str(entry.document["pin"]), identity)
        try:
            seen = site.visit(fd, _look)
        finally:
            # Whoever holds the entry next may want to prove that the namespace is gone.
            posix.close(fd)
        company = _company(site, room, entry, identity)
    finally:
        room.leave()
    assert isinstance(seen, dict)
    limits, used = (_numbers(seen[name]) for name in ("limits", "usage"))
    record = _drift_record(site, entry, identity, limits, company)
    news: dict[str, Document] = {"drifted": record["drift"]} if record else {}
    peaks = raised_peaks(peaks_of(entry.document), used)
    if peaks != peaks_of(entry.document):
        news["peaks"] = dict(peaks)
    if company.shared and not entry.document.get("accompanied"):
        news["accompanied"] = True  # once the others have gone nothing else tells that they were there
    if record:
        site.deliver(record, entry.key, entry)
    if news:
        entry.write(**news)
    if record and record["drift"] and entry.document.get("drift") != "expected":
        told = in_words(record["drift"])
        site.alert(f"{called(site.subject['container'], entry.key)} has other limits than were put in force: {told}")
    return record


def _drift_record(
    site: Site, entry: Entry, identity: Identity, limits: dict[str, int], company: _Company
) -> dict[str, Document] | None:
    """Return the record of a drift that is not the one last recorded; None where nothing is enforced."""
    if not site.subject["enforced"] or company.spoken_for:
        return None
    found = drift(since_widened(site, entry.document, wanted_of(entry.document)), limits)
    if found == entry.document.get("drifted", []):
        return None
    return site.record(
        "drift",
        drift=found,
        causes=causes_of(entry.document, company.shared) if found else [],
        namespace={"id": identity.id or None, "inode": identity.inode, "shared": company.shared},
    )


def _look() -> Document:
    """Return what is in the current IPC namespace; what lives there is not to notice."""
    found = take_inventory(quietly=True)
    return {"limits": texts(read_limits()), "usage": texts(usage_in(found, posix.sysconf("SC_PAGE_SIZE")))}


def _numbers(limits: Document) -> dict[str, int]:
    assert isinstance(limits, dict)
    return {name: int(str(text)) for name, text in limits.items()}


def _company(site: Site, room: Room, entry: Entry, identity: Identity) -> _Company:
    """Return who else is in the namespace.  What one that lives says of its limits no other repeats."""
    company = company_in(site, room, identity, "")
    owner = enforcer({key: document for key, document in company.items() if is_living(document, site.boot)})
    shared = len(company) > 1 or bool(room.guests()) or was_shared(entry.document)
    return _Company(shared, owner is not None and owner is not company.get(entry.key))


def in_words(drifted: Document) -> str:
    """Return a record's `drift[]` as a sentence has it."""
    rows = drifted if isinstance(drifted, list) else []
    return ", ".join(f"{each['name']}={each['found']}" for each in rows if isinstance(each, dict))
