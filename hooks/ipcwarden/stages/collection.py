"""gc: finish every life that nobody else will finish."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.facts import Facts
from ipcwarden.core.record import container_of
from ipcwarden.errors import KernelError, RecordError, WardenError
from ipcwarden.files import open_regular
from ipcwarden.host.journal import append
from ipcwarden.host.ledger import REAPING, UNREADABLE, keys, peek, put_away, remove_drafts, take
from ipcwarden.host.membership import VISIT_PATIENCE, RoomTaken, enter, names, note
from ipcwarden.host.namespace import identify, unpin
from ipcwarden.host.procfs import holders
from ipcwarden.stages.company import is_unfinished
from ipcwarden.stages.harvest import conclude
from ipcwarden.stages.life import identity_document, identity_of, is_living, undelivered_of
from ipcwarden.stages.teardown import still_to_log, tear_down
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.host.ledger import Entry
    from ipcwarden.stages.site import Site


@value
class Due:
    """An entry that gc may have to finish, and why: gone, unfinished, undelivered, released, empty or unreadable."""

    key: str
    reason: str
    container: str
    seen: int | None = None  # when a gc first saw it gone, in seconds since 1970
    name: str = ""
    image: str = ""
    records: int = 0  # that wait in it for the log

    def is_young(self, older_than: float) -> bool:
        """Tell whether a poststop may still be on its way."""
        return self.reason == "gone" and older_than > 0 and (self.seen is None or time.time() - self.seen < older_than)


def due(document: dict[str, Document], living: bool, release: bool) -> str:
    """Return why an entry is due, or an empty string: pure, but for what `living` says of the world."""
    state = document.get("state", "")
    if state == UNREADABLE:
        return UNREADABLE
    if state == "recorded":
        return "undelivered"
    if state == "applied" and document.get("undelivered") and living and not release:
        return "undelivered"
    if state in ("stopping", REAPING):
        return "unfinished"
    if not state:
        return "empty"
    if state == "creating":
        return "unfinished"  # whoever is still at it holds the lock
    if not living:
        return "gone"
    return "released" if release else ""


def find_due(site: Site, release: bool) -> list[Due]:
    """Return the entries that are due now; changes nothing."""
    found = []
    for key in keys(site.entries):
        document = peek(site.entries, key)
        reason = due(document, is_living(document, site.boot), release)
        if reason:
            seen = document.get("gone_since")
            subject = document.get("subject")
            told = subject.get("container") if isinstance(subject, dict) else None
            container, name, image = (
                str(told.get(each) or "") if isinstance(told, dict) else "" for each in ("id", "name", "image")
            )
            container = container or key.rpartition("-")[0] or key
            since = seen if isinstance(seen, int) else None
            found.append(Due(key, reason, container, since, name, image, len(undelivered_of(document))))
    return found


def collect(site: Site, which: Due, older_than: float) -> dict[str, Document] | None:
    """Finish one entry; return its record, or None where there was nothing to record (any more).

    `older_than` seconds must have passed since a gc first saw the container gone: its poststop may be on its way.
    """
    if which.reason == UNREADABLE:
        # Its pin, which nobody speaks of now, is found as a stray.
        name = put_away(site.entries, which.key)
        raise RecordError(f"the ledger entry is unreadable: it is called '{name}' now", "look at it, then remove it")
    entry = take(site.entries, which.key, wait=False)
    if entry is None:
        return None  # somebody is at it, or it is done
    reason = due(entry.document, is_living(entry.document, site.boot), which.reason == "released")
    if not reason:
        entry.release()
        return None
    if reason == "empty":
        entry.delete()
        return None
    seen = entry.document.get("gone_since")
    if Due(which.key, reason, "", seen if isinstance(seen, int) else None).is_young(older_than):
        if not isinstance(seen, int):
            entry.write(gone_since=int(time.time()))
        entry.release()
        return None
    if reason == "undelivered" and entry.state == "applied":
        _deliver(site, entry)
        entry.release()
        return None
    try:
        return conclude(site, entry) if entry.state == REAPING else tear_down(site, entry, "collected")
    except WardenError:
        if reason != "released":
            _note_gone(site, which.key)
        raise


def _deliver(site: Site, entry: Entry) -> None:
    lines = still_to_log(site, entry, undelivered_of(entry.document))
    try:
        if lines:
            append(site.places.logs, lines)
    except RecordError as error:
        site.wait(error, len(lines))
    else:
        entry.write(undelivered=[], delivering=False)


def _note_gone(site: Site, key: str) -> None:
    """Note since when a container that we could not finish has been gone, as far as we know."""
    entry = take(site.entries, key, wait=False)
    if entry is None:
        return
    try:
        if entry.document and "gone_since" not in entry.document:
            entry.write(gone_since=int(time.time()))
    except RecordError:
        pass  # what failed before is what counts
    finally:
        entry.release()


def find_stale(site: Site, seconds: int) -> list[Due]:
    """Return the entries whose namespace is still pinned so long after the container was first seen gone.

    Where others are in that namespace, the pin holds nothing that they do not hold anyway.  Changes nothing.
    """
    return [each for each in find_due(site, release=False) if _is_stale(site, each, seconds)]


def _is_stale(site: Site, which: Due, seconds: int) -> bool:
    if which.reason not in ("gone", "unfinished") or which.seen is None or time.time() - which.seen <= seconds:
        return False
    document = peek(site.entries, which.key)
    identity = identity_of(document)
    try:
        posix.stat(str(document.get("pin")), dir_fd=site.pins)
    except FileNotFoundError:
        return False
    return identity is not None and not holders(identity.device, identity.inode, most=1)


def tidy(site: Site) -> None:
    """Remove drafts whose writer died, and members that have no entry; note members that a killed hook has lost."""
    remove_drafts(site.entries)
    for name in names(site.namespaces):
        try:
            room = enter(site.namespaces, name, within=VISIT_PATIENCE)
        except RoomTaken:
            continue  # the next gc is soon enough
        if room is not None:
            for key in room.members():
                if not peek(site.entries, key):
                    room.remove(key)
            room.tidy()
            room.leave()
    for key in keys(site.entries):
        document = peek(site.entries, key)
        identity = identity_of(document) if is_unfinished(document, site.boot) else None
        if identity is not None:
            note(site.namespaces, identity.name, key)  # it may have been lost with a hook that was killed


def strays(site: Site) -> list[str]:
    """Return the names of pins that no entry speaks of."""
    names = posix.listdir(site.pins)  # before the ledger: an entry is written before its pin
    spoken_of = {peek(site.entries, key).get("pin") for key in keys(site.entries)}
    return sorted(name for name in names if name not in spoken_of)


def adopt(site: Site, name: str) -> Due | None:
    """Give a stray pin an entry, so that it is audited before it is freed; None where it pins nothing any more."""
    entry = take(site.entries, f"{name}~stray", create=True)  # first: another gc may be at it
    assert entry is not None
    try:
        fd = open_regular(name, posix.O_RDONLY, site.pins)
        try:
            identity = identify(fd, site.features)
        finally:
            posix.close(fd)
    except (OSError, ValueError, KernelError):
        unpin(site.pins, name)
        entry.delete()
        return None
    container = name.rpartition("-")[0] or name
    entry.write(
        state="applied",
        boot=site.boot,
        pin=name,
        namespace=identity_document(identity),
        subject={**site.subject, "container": container_of(container, "", Facts())},
    )
    room = enter(site.namespaces, identity.name, create=True)
    if room is not None:
        room.add(entry.key)
        room.leave()
    entry.release()
    return Due(entry.key, "gone", container)
