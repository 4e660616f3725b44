"""Pinning, applying and reading back what was decided; on a failure everything is as before."""

from __future__ import annotations

import time

from ipcwarden import privileges
from ipcwarden.core.facts import fact
from ipcwarden.core.mounts import short_shm
from ipcwarden.core.record import sysctls_of, violations_of
from ipcwarden.errors import ApplyError
from ipcwarden.host.membership import enter, widened
from ipcwarden.host.namespace import is_taken, join, pin, unpin
from ipcwarden.host.procfs import read_limits, started, write_limits
from ipcwarden.stages.company import put_back, since_widened, widen
from ipcwarden.stages.devshm import shm_noted
from ipcwarden.stages.life import identity_document, identity_of, texts, wanted_of
from ipcwarden.stages.orphans import terms_noted
from ipcwarden.stages.rlimits import limit_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.plan import Plan
    from ipcwarden.host.ledger import Entry
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.case import Case
    from ipcwarden.stages.site import Site


def apply(
    site: Site,
    case: Case,
    entry: Entry,
    room: Room,
    fd: int,
    identity: Identity,
    pid: int,
    plan: Plan,
    limits: dict[str, int] | None,
) -> None:
    """Pin, apply, read back and record; on a failure no pin and no entry are left, and the limits are as before."""
    enforcing = site.subject["mode"] == "enforcing"
    found: dict[str, int] = {}
    before = widened(site.namespaces, room.name)
    try:
        pin(site.pins, _write_creating(site, case, entry, identity, pid), fd)
        site.narrow(privileges.POSTSTART)
        join(fd, site.hosts)
        found = read_limits()
        # In a namespace that others live in, what a runtime wrote on the joiner's behalf is undone as well.
        now = write_limits({**(limits or {}), **plan.wanted()}, found) if enforcing else found
        if limits is not None and enforcing:
            widen(site, room, limits, now)
        ways = {**limit_queues(plan.msgqueue, pid, enforcing, case.facts.runtime), **ways_told(case)}
        site.subject["enforced"] = enforcing
        sysctls = sysctls_of(plan, now)
        there: dict[str, Document] = {}
        if limits is not None or case.spec.ipc != "private":
            from ipcwarden.stages.orphans import baseline

            there.update(baseline=baseline(), joined_at=int(time.time()))
        entry.write(state="applied", subject=dict(site.subject), sysctls=sysctls, limits=texts(now), **ways, **there)
        record = site.record(
            "applied",
            sysctls=sysctls,
            violations=violations_of(plan.violations),
            namespace={
                "id": identity.id or None,
                "inode": identity.inode,
                "shared": limits is not None or case.spec.ipc != "private",
            },
            **ways,
            **short_shm(case.spec.mounts, case.profile.dev_shm if case.profile else None),
        )
        site.deliver(record, entry.key, entry)
    except ApplyError as error:
        _undo(site, entry, found, room, before)
        # What the container asked for and the kernel refuses is no fault of the host's.
        error.of_host = error.file not in case.spec.request.raw
        raise
    except BaseException:
        _undo(site, entry, found, room, before)
        raise


def apply_again(site: Site, entry: Entry, fd: int) -> None:
    """Apply what an earlier run of the same stage has applied: its answer may have been lost."""
    subject = entry.document.get("subject")
    identity = identity_of(entry.document)
    if identity is not None and isinstance(subject, dict) and subject.get("enforced"):
        room = enter(site.namespaces, identity.name, create=True)
        assert room is not None
        try:
            wanted = since_widened(site, entry.document, wanted_of(entry.document))
            site.visit(fd, lambda: put_back(wanted))
        finally:
            room.leave()


def ways_told(case: Case) -> dict[str, Document]:
    """Return what entry and record have to say of ways round the limits that are open, if anything."""
    told: dict[str, Document] = {"writable_proc_sys": True} if case.ways.proc_sys_writable else {}
    if case.ways.filter:
        told["nested_ipc"] = "unenforced"
    return told


def _write_creating(site: Site, case: Case, entry: Entry, identity: Identity, pid: int) -> str:
    name, number = entry.key, 0
    while is_taken(site.pins, name):  # by an earlier life that has been set aside, or somebody else's file
        name, number = f"{entry.key}~{number}", number + 1
    entry.write(
        state="creating",
        boot=site.boot,
        pid=pid,
        started=started(pid),
        pin=name,
        namespace=identity_document(identity),
        joined=case.spec.ipc != "private",
        **(terms_noted(case.profile, pid) if case.profile else {}),
        subject=dict(site.subject),
        **{each: True for each in ("privileged", "user_namespace") if fact(case.facts, each)},
        **({"drift": case.profile.drift} if case.profile and case.profile.drift != "report" else {}),
        **shm_noted(case.spec),
    )
    return name


def _undo(site: Site, entry: Entry, found: dict[str, int], room: Room, before: dict[str, int]) -> None:
    """Leave no pin, no entry, and the limits as they were `found`, if they have been touched."""
    name = entry.document.get("pin")
    try:
        if found:
            write_limits(found, read_limits())
            room.widen(before)
    finally:
        if isinstance(name, str):
            unpin(site.pins, name)
        entry.forget()
