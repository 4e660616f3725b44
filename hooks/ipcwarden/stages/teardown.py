"""poststop and gc: through the pin, what a container left behind; then free the namespace, and prove it."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.alarms import called, counted
from ipcwarden.core.causes import causes_of
from ipcwarden.core.digests import entry_key
from ipcwarden.core.findings import drift
from ipcwarden.core.leftovers import everything_told
from ipcwarden.core.record import line_of
from ipcwarden.core.selection import selectors_of
from ipcwarden.core.usage import raised_peaks, usage_in
from ipcwarden.errors import NamespaceError, RecordError, WardenError
from ipcwarden.host.inventory import take_inventory
from ipcwarden.host.journal import append, unwritten
from ipcwarden.host.ledger import take
from ipcwarden.host.membership import enter, has_due
from ipcwarden.host.namespace import destroyed, open_pinned, unpin
from ipcwarden.host.procfs import holders, read_limits
from ipcwarden.stages.company import company_in, keep_pinned, see_off, since_widened
from ipcwarden.stages.devshm import shm_seen
from ipcwarden.stages.life import (
    identity_of,
    is_living,
    lives,
    peaks_of,
    texts,
    undelivered_of,
    wanted_of,
    was_shared,
)
from ipcwarden.stages.orphans import PLANS
from ipcwarden.stages.site import complain, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.state import ContainerState
    from ipcwarden.host.ledger import Entry
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

_DYING, _POLL = 0.3, 0.01  # seconds that a namespace gets to die, and between two looks at it


def poststop(site: Site, state: ContainerState) -> None:
    """Handle poststop; silent where the ledger knows nothing of the container: refused, ungoverned, or done already.

    What was written on its behalf into a namespace of others' goes first.  Raises `WardenError` where the findings are
    not safe: then the entry stays for gc.
    """
    try:
        see_off(site, state)
    finally:
        entry = _stopped(site, entry_key(state.id, state.bundle))
        if entry is not None:
            tear_down(site, entry, "teardown")


def _stopped(site: Site, key: str) -> Entry | None:
    """Return the entry of the life that has ended: two runtimes' roots may run one bundle under one id."""
    for each in lives(site.entries, key):
        entry = take(site.entries, each)
        done = entry is not None and (not entry.document or entry.state == "recorded")  # gc delivers it
        if entry is not None and not done and not is_living(entry.document, site.boot):
            return entry
        if entry is not None:
            entry.release()
    return None


def tear_down(site: Site, entry: Entry, event: str) -> dict[str, Document] | None:
    """Finish a life from wherever it stands: findings into the ledger, free, prove, record, forget.

    Returns the record; None where an earlier one had only to be delivered.
    """
    record: dict[str, Document] | None = None
    subject = entry.document.get("subject")
    site.subject.update(subject if isinstance(subject, dict) else {})
    lines = undelivered_of(entry.document)
    resumed = entry.state == "stopping"
    identity = identity_of(entry.document)
    due = identity is not None and has_due(site.namespaces, identity.name)  # of others that have left before
    try:
        if entry.state in ("creating", "applied", "stopping"):
            record = _end(site, entry, event)
            lines.append(line_of(record))
        lines = still_to_log(site, entry, lines, resumed)
        try:
            if lines:
                append(site.places.logs, lines)
        except RecordError as error:
            entry.write(state="recorded", undelivered=[line.decode("ascii").rstrip("\n") for line in lines])
            site.wait(error, len(lines))
            entry.release()
        else:
            entry.delete()
    except BaseException:
        entry.release()
        raise
    if identity is not None and due:
        from ipcwarden.stages.reaping import collect_due

        try:
            collect_due(site, identity.name)
        except WardenError as error:
            complain(f"cannot remove what is due: {error}; a later stop or ipcwarden gc does it")
    return record


def still_to_log(site: Site, entry: Entry, lines: list[bytes], resumed: bool = False) -> list[bytes]:
    """Return those of `lines` that are not in the log; only where somebody has begun to write them is that looked up.

    What tells the next one that we have begun is the state `stopping`, or a mark.
    """
    if lines and (resumed or entry.document.get("delivering")):
        return unwritten(site.places.logs, lines)
    if lines and entry.state != "stopping":
        try:
            entry.write(delivering=True)
        except RecordError:
            pass  # a full ledger: delivering is what makes room
    return lines


def _end(site: Site, entry: Entry, event: str) -> dict[str, Document]:
    """Examine what is in the namespace and free it, with the namespace's room locked; return the record.

    So of several that end in one namespace each looks when no other of us is in there, and what one has told and
    removed is over before the next one asks.
    """
    identity = identity_of(entry.document)
    if entry.document.get("boot") != site.boot:
        identity = None  # it went with its boot
    room = enter(site.namespaces, identity.name) if identity else None
    try:
        company = company_in(site, room, identity, entry.key) if room and identity else {}
        member = None
        if room and not company and has_due(site.namespaces, room.name):
            from ipcwarden.stages.reaping import finish_begun

            finish_begun(site, room)
        if entry.state != "stopping":
            member = _examine(site, entry, event, identity, company)
        elif identity and not company:
            _examine_again(site, entry, identity)
        at = str(entry.document.get("at") or moment())  # by its time whoever resumes knows it in the log
        if entry.document.get("host"):
            from ipcwarden.stages.hostipc import host_record

            return host_record(site, entry, event, at)
        cleared = _clear(site, entry, identity, room, company, member)
        unpin(site.pins, str(entry.document["pin"]))
        if room:
            room.remove(entry.key)
        # Its company's pins hold it until they end, which they cannot before we leave.
        fate = _fate_of(identity) if company else None
    finally:
        if room:
            room.leave()
    return _recorded(site, entry, event, at, fate or _fate_of(identity, _DYING), company, cleared)


def _examine(
    site: Site, entry: Entry, event: str, identity: Identity | None, company: dict[str, dict[str, Document]]
) -> dict[str, Document] | None:
    """Put what is in the namespace into the ledger, before anything is freed.

    Returns what `member_seen` tells, with the plan of what is to be removed, if others are in there.
    """
    findings: dict[str, Document] = {}
    if entry.document.get("host"):
        from ipcwarden.stages.hostipc import host_findings

        findings = host_findings(site, entry)
    if identity is not None:
        try:
            findings = _findings(site, entry, identity, company)
        except NamespaceError as error:
            # Whoever comes later may have more luck; gc is the last to try.
            if event == "teardown" and entry.state == "applied":
                raise
            # A hook that died before it had pinned: nothing ever ran in the namespace, and it is gone.
            unborn = entry.state == "creating" and destroyed(identity)
            findings = {} if unborn else {"failure": str(error)}
    member = findings.get("member")
    if isinstance(member, dict):
        findings = {**findings, "member": {name: member[name] for name in member if name not in PLANS}}
    entry.write(state="stopping", at=moment(), findings=findings)
    return member if isinstance(member, dict) else None


def _examine_again(site: Site, entry: Entry, identity: Identity) -> None:
    """Look once more where others lived on when a killed hook had, and have gone since: their last one's end is this.

    What that hook had removed counts as left, and removed.
    """
    noted = _noted_member(entry)
    if noted is None:
        return
    from ipcwarden.stages.reaping import with_gone

    try:
        found = _findings(site, entry, identity, {})
        findings = with_gone(site, str(entry.document["pin"]), identity, found, noted)
    except NamespaceError:
        return  # it had been freed, and told
    entry.write(findings={name: findings[name] for name in findings if name != "member"})


def _findings(
    site: Site, entry: Entry, identity: Identity, company: dict[str, dict[str, Document]]
) -> dict[str, Document]:
    fd = open_pinned(site.pins, str(entry.document["pin"]), identity)
    try:
        findings = site.visit(fd, lambda: _seen(site, entry, identity, company))
    finally:
        posix.close(fd)
    assert isinstance(findings, dict)
    return {**findings, **shm_seen(entry.document)}


def _seen(site: Site, entry: Entry, identity: Identity, company: dict[str, dict[str, Document]]) -> dict[str, Document]:
    member = None
    if (company or entry.document.get("joined")) and not is_living(entry.document, site.boot):
        from ipcwarden.stages.orphans import inventory_for, member_seen

        inventory = inventory_for(entry.document)
        limits = read_limits()
        member = member_seen(site, entry.document, identity, inventory, company)
    else:
        inventory = take_inventory()
        limits = read_limits()
    wanted = since_widened(site, entry.document, wanted_of(entry.document))
    return {
        **everything_told(inventory, selectors_of(entry.document.get("expect"))),
        **({"member": member} if member else {}),
        "drift": drift(wanted, limits) if site.subject["enforced"] else [],
        "used": texts(usage_in(inventory, posix.sysconf("SC_PAGE_SIZE"))),
    }


def _clear(
    site: Site,
    entry: Entry,
    identity: Identity | None,
    room: Room | None,
    company: dict[str, dict[str, Document]],
    member: dict[str, Document] | None,
) -> dict[str, Document]:
    """Put back the limits of those who stay, remove what a member has left, and return what a record says of that.

    `member` is what `_examine` returned; without it the entry says what a killed hook has found.
    """
    if identity is None:
        return {}
    container = site.subject["container"]
    keep_pinned(site, company, container if isinstance(container, dict) else None)
    member = member or _noted_member(entry)
    if not room or not member or not (company or entry.document.get("joined")):
        return {}
    from ipcwarden.stages.reaping import clear

    return clear(site, entry.document, identity, room, company, member)


def _fate_of(identity: Identity | None, patience: float = 0.0) -> tuple[bool | None, list[Document]]:
    """Tell whether a namespace is gone (None where that cannot be proven), and who has it still.

    It is given so many seconds: whoever looks into it, or proves the same, holds it for a moment.
    """
    if identity is None:
        return True, []
    deadline = time.monotonic() + patience
    while True:
        gone = destroyed(identity)
        others: list[Document] = [] if gone else list(holders(identity.device, identity.inode))
        if not (gone is False or others) or time.monotonic() >= deadline:
            return gone, others
        time.sleep(_POLL)


def _recorded(
    site: Site,
    entry: Entry,
    event: str,
    at: str,
    fate: tuple[bool | None, list[Document]],
    company: dict[str, dict[str, Document]],
    cleared: dict[str, Document],
) -> dict[str, Document]:
    """Return the record of an end: `fate` is the namespace's, `cleared` what became of what a member has left."""
    identity = identity_of(entry.document)
    gone, others = fate
    held = gone is False or bool(others)
    in_use = bool(company) or is_living(entry.document, site.boot) or (held and bool(entry.document.get("joined")))
    namespace: dict[str, Document] = {
        "id": identity.id or None if identity else None,
        "inode": identity.inode if identity else None,
        "shared": bool(company) or was_shared(entry.document),
        "destroyed": gone,
        "holders": others,
    }
    told = {**_told(site, entry, held, in_use, cleared), **_peaks(entry)}
    if told.get("drift"):
        told["causes"] = causes_of(entry.document, bool(namespace["shared"]))
    return site.record("error" if "message" in told else event, time=at, namespace=namespace, **told)


def _noted_member(entry: Entry) -> dict[str, Document] | None:
    findings = entry.document.get("findings")
    member = findings.get("member") if isinstance(findings, dict) else None
    return member if isinstance(member, dict) else None


def _peaks(entry: Entry) -> dict[str, Document]:
    """Return the most of each limit that was seen in use, by sweep and at the end, if anything ever was."""
    findings = entry.document.get("findings")
    used = findings.get("used") if isinstance(findings, dict) else None
    now = {name: int(str(number)) for name, number in used.items()} if isinstance(used, dict) else {}
    peaks = raised_peaks(peaks_of(entry.document), now)
    return {"peaks": texts(peaks)} if peaks else {}


def _told(site: Site, entry: Entry, held: bool, in_use: bool, cleared: dict[str, Document]) -> dict[str, Document]:
    """Return what a record says of the findings.

    `held` where something still has the namespace, `in_use` where that is the container's company, or itself; `cleared`
    is what became then of what the container has left.
    """
    findings = entry.document.get("findings")
    assert isinstance(findings, dict)
    if "failure" in findings:
        return {"reason": "namespace", "message": findings["failure"]}
    if "totals" not in findings:
        return {}  # of an earlier boot, or never pinned: whatever there was went with it
    objects, fate = findings["objects"], "held" if held else "freed"
    assert isinstance(objects, list)
    told: dict[str, Document] = {
        "present" if in_use else "leftovers": findings["totals"],
        "objects": [{**each, "fate": each.get("fate", fate)} for each in objects if isinstance(each, dict)],
        **{name: findings[name] for name in ("objects_omitted", "drift")},
        **{name: findings[name] for name in ("dev_shm", "expected", "removed") if name in findings},
    }
    alarming = findings.get("alarming", len(objects)) if held and not in_use else 0
    if in_use and cleared:
        alarming = cleared["alarming"]
        told.update({name: cleared[name] for name in cleared if name != "alarming"})
    if alarming:
        who, what = called(site.subject["container"], entry.key), counted(told.get("leftovers"), told.get("removed"))
        where = "others live in" if in_use else "something still holds"
        site.alert(f"{who} left {what} in an IPC namespace that {where}")
    return told
