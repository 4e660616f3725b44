"""Namespaces of containers that nobody governs: each is recorded once, and remembered while it lives."""

from __future__ import annotations

import os

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis.containers import in_users_ledger
from ipcwarden.cli.survey import find_rule, inhabited
from ipcwarden.core.alarms import called
from ipcwarden.core.digests import entry_key
from ipcwarden.core.documents import parse, serialize
from ipcwarden.core.policy import Policy
from ipcwarden.core.record import container_of
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import NamespaceError, PolicyError, RecordError, why
from ipcwarden.files import open_place, read, write_atomically
from ipcwarden.host.ledger import keys, peek
from ipcwarden.host.namespace import identify, open_of
from ipcwarden.stages.company import is_unfinished
from ipcwarden.stages.life import identity_of
from ipcwarden.stages.watch import latest_start
from ipcwarden.syscalls import LOCK_EX, LOCK_NB, flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipcwarden.cli.survey import Tenant
    from ipcwarden.core.documents import Document
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

FILE = "ungoverned.json"
_VERSION = 1
_LARGEST = 8 << 20  # bytes of it


def record_ungoverned(site: Site, older_than: float) -> list[Document]:
    """Record each namespace of containers that no entry of the ledger has, once; return what there is to tell of them.

    One is left alone while its first process is younger than `older_than` seconds, for its creation may be under way;
    where the policy has no rule for it; and where the ledger of an ordinary user has it.  The host's is nobody's.
    Nothing where another pass is at it.  Raises `RecordError`.
    """
    found = list(_ungoverned(site, latest_start(older_than)))
    directory = _open(site, bool(found))
    if directory is None:
        return []
    try:
        flock(directory, LOCK_EX | LOCK_NB)
        return _record(site, directory, found)
    except BlockingIOError:
        return []
    finally:
        os.close(directory)


def _open(site: Site, create: bool) -> int | None:
    """Open where it is remembered; None where nothing is, and nothing is to be."""
    try:
        return open_place(site.places.run, create=0o700 if create else 0)
    except FileNotFoundError:
        return None


def _ungoverned(site: Site, latest: float) -> Iterator[tuple[Tenant, bool]]:
    """Give the first container of each namespace that nobody has, and whether there are more in it."""
    known = _places(site)
    for household, tenants in inhabited(site):
        if household.hosts or household.place in known or any(tenant.entry for tenant in tenants):
            continue
        if not tenants or tenants[0].resident.start > latest:
            continue
        if not (tenants[0].resident.rootless and in_users_ledger(tenants[0].resident)):
            yield tenants[0], len(tenants) > 1


def _places(site: Site) -> set[tuple[int, int]]:
    """Return device and inode of every namespace that an entry has: its pin holds it, so nobody else has got those."""
    if not site.has_ledger():
        return set()
    documents = [
        document for key in keys(site.entries) if is_unfinished(document := peek(site.entries, key), site.boot)
    ]
    return {(each.device, each.inode) for document in documents if (each := identity_of(document))}


def _record(site: Site, directory: int, found: list[tuple[Tenant, bool]]) -> list[Document]:
    before = _remembered(directory, site.boot)
    policy = _policy(site)
    # Without one nothing is governed; facts are gathered by the one without rules all the same.
    judging = policy or Policy("enforcing", "", KERNEL_DEFAULTS, (), ())
    living: set[str] = set()
    told: list[Document] = []
    for tenant, shared in found:
        identity = _identity(site, tenant)
        if identity is None:
            continue  # it has just ended
        name = f"{identity.name}@{tenant.resident.start}"
        if name not in before:
            find_rule(site, judging, tenant)
            if policy is not None and tenant.judged.verdict == "no-rule":
                continue  # nobody is to govern it
            told.append(_tell(site, tenant, identity, shared))
        living.add(name)
    if living != before:
        _remember(site, directory, living)
    return told


def _policy(site: Site) -> Policy | None:
    try:
        return site.policy()
    except PolicyError:
        return None  # then nothing is governed


def _identity(site: Site, tenant: Tenant) -> Identity | None:
    try:
        fd = open_of(tenant.resident.pid, site.features)
    except NamespaceError:
        return None
    try:
        return identify(fd, site.features)
    finally:
        os.close(fd)


def _tell(site: Site, tenant: Tenant, identity: Identity, shared: bool) -> Document:
    """Record one, and return what there is to tell of it."""
    resident = tenant.resident
    site.subject["container"] = None
    if resident.container:
        site.subject["container"] = container_of(resident.container, resident.bundle, tenant.facts)
    record = site.record(
        "ungoverned",
        pid=resident.pid,
        rootless=resident.rootless,
        namespace={"id": identity.id or None, "inode": identity.inode, "shared": shared},
    )
    site.deliver(record, entry_key(resident.container, resident.bundle))
    if not resident.rootless:
        site.alert(f"{called(site.subject['container'], 'unknown')} runs ungoverned, pid {resident.pid}")
    told: dict[str, Document] = {"id": resident.container or f"pid {resident.pid}", "pid": resident.pid}
    return {**told, "engine": tenant.facts.engine, "name": tenant.facts.name, "image": tenant.facts.image}


def _remembered(directory: int, boot: str) -> set[str]:
    """Return the namespaces that have been recorded; none where that cannot be read: better twice than never."""
    try:
        document = parse(read(FILE, _LARGEST, directory, trusted=True))
    except (OSError, ValueError):
        return set()
    return set(extract.texts(document, "namespaces")) if extract.text(document, "boot") == boot else set()


def _remember(site: Site, directory: int, living: set[str]) -> None:
    names: list[Document] = [*sorted(living)]
    document: Document = {"version": _VERSION, "boot": site.boot, "namespaces": names}
    try:
        write_atomically(directory, FILE, serialize(document).encode("ascii"), 0o600)
    except OSError as error:
        raise RecordError(f"cannot write '{site.places.run}/{FILE}': {why(error)}") from error
