"""Containers in the host's IPC namespace: nothing is written, pinned or removed; what they leave there is told."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.alarms import called
from ipcwarden.core.attribution import CREATOR, UNKNOWN, UNREAD
from ipcwarden.core.hostipc import (
    ALIVE,
    Clues,
    HostLife,
    distinct_cgroup,
    host_uid,
    judge_on_host,
    new_since,
    trace_of,
)
from ipcwarden.core.leftovers import expected_in
from ipcwarden.core.objects import Inventory, Table
from ipcwarden.core.ranges import numbers_in, ranges_of
from ipcwarden.core.selection import queue_name, selectors_of
from ipcwarden.core.shmfiles import files_document, shm_source
from ipcwarden.errors import KernelError
from ipcwarden.files import read
from ipcwarden.host.cgroups import cgroups_of
from ipcwarden.host.inventory import attached, take_inventory
from ipcwarden.host.ledger import keys, peek
from ipcwarden.host.namespace import identify
from ipcwarden.host.pidspace import ask_semaphores, awaited, open_pid_namespace, pid_namespace, view_from
from ipcwarden.host.procfs import holders, real_path, slurp
from ipcwarden.host.queues import queue_inodes
from ipcwarden.host.tmpfs import open_shelf
from ipcwarden.stages.company import is_unfinished
from ipcwarden.stages.life import is_living
from ipcwarden.stages.orphans import baseline, before_in, space_in, terms_noted
from ipcwarden.stages.whereabouts import Whereabouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipcwarden.core.attribution import Verdict
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Object
    from ipcwarden.core.policy import Profile
    from ipcwarden.core.spec import Spec
    from ipcwarden.host.ledger import Entry
    from ipcwarden.stages.site import Site

_WITH_IDS = ("shm", "sem", "msg")
_MAX_UID_MAP = 1 << 16
_ACCURACY = 1  # seconds that two clocks may seem to differ


def host_noted(spec: Spec, profile: Profile, pid: int) -> dict[str, Document]:
    """Return what the ledger notes of a container that starts in the host's namespace."""
    noted: dict[str, Document] = {
        "host": True,
        "began": int(time.time()),
        "uid": _uid_as_seen(spec, pid),
        "cgroup": distinct_cgroup(cgroups_of(pid), cgroups_of("self")),
        "baseline": baseline(),
        **terms_noted(profile, pid),
    }
    source = shm_source(spec.mounts)
    path = (real_path(source) or source) if source else ""
    shelf = open_shelf(path, hosts_too=True)
    if shelf is not None:
        noted["dev_shm"] = {"path": path, "baseline": ranges_of(file.inode for file in shelf.files())}
        shelf.close()
    return noted


def host_findings(site: Site, entry: Entry) -> dict[str, Document]:
    """Return what stands in our own namespace, the host's, and may be the container's; nothing of an earlier boot.

    Raises `KernelError`.
    """
    document = entry.document
    if document.get("boot") != site.boot or before_in(document) is None:
        return {}
    inventory = _inventory_of_host()
    life = _life_of(document)
    verdicts = _judged(site, document, inventory, life, _used_by_others(site, entry.key, inventory))
    chosen = {kind: list(these) for kind, these in verdicts.items()}
    expect = selectors_of(document.get("expect"))
    expected = expected_in(inventory, chosen, expect)
    marked = {(kind, index) for kind, indices in expected.items() for index in indices}
    named = {
        _name_in(inventory.object(kind, index)): (verdict, (kind, index) in marked)
        for kind, these in verdicts.items()
        for index, verdict in these.items()
    }
    told: list[Document] = []
    for each in inventory.largest(chosen=chosen):
        verdict, is_expected = named[_name_in(each)]
        what: dict[str, Document] = {**each, "confidence": verdict.confidence, "evidence": list(verdict.evidence)}
        told.append({**what, "expected": True} if is_expected else what)
    findings: dict[str, Document] = {
        "totals": inventory.totals(chosen),
        "objects": told,
        "objects_omitted": len(named) - len(told),
        "alarming": sum(not is_expected and verdict.confidence != UNKNOWN for verdict, is_expected in named.values()),
        **_new_files(document, life),
    }
    return {**findings, "expected": inventory.totals(expected)} if expect else findings


def host_record(site: Site, entry: Entry, event: str, at: str) -> dict[str, Document]:
    """Return the record of the end of a container in the host's namespace; `at` is its time."""
    identity = identify(site.own, site.features)
    namespace: dict[str, Document] = {
        "id": identity.id or None,
        "inode": identity.inode,
        "shared": True,
        "destroyed": False,
        "holders": [],
        "host": True,
    }
    findings = entry.document.get("findings")
    assert isinstance(findings, dict)
    if "totals" not in findings:
        return site.record(event, time=at, namespace=namespace)
    if number := int(str(findings["alarming"])):
        who, what = called(site.subject["container"], entry.key), "1 object" if number == 1 else f"{number} objects"
        site.alert(f"{who} left {what} in the host's IPC namespace")
    objects = findings["objects"]
    assert isinstance(objects, list)
    told: dict[str, Document] = {
        "present" if is_living(entry.document, site.boot) else "leftovers": findings["totals"],
        "objects": [{**each, "fate": "held"} for each in objects if isinstance(each, dict)],
        "objects_omitted": findings["objects_omitted"],
        "drift": [],
    }
    told.update({name: findings[name] for name in ("dev_shm", "expected") if name in findings})
    return site.record(event, time=at, namespace=namespace, **told)


def observe(site: Site, entry: Entry) -> None:
    """Note in the entry what a living process of the container's is seen to have made, or of sem and msg used last.

    Once it has gone its pid tells nothing.  Raises `KernelError`, `RecordError`.
    """
    document = entry.document
    if document.get("boot") != site.boot:
        return
    inventory = _inventory_of_host()
    life = _life_of(document)
    seen = {kind: set(life.seen[kind]) for kind in _WITH_IDS}
    for kind, these in _judged(site, document, inventory, life, {}).items():
        for index, verdict in these.items():
            if not ALIVE.isdisjoint(verdict.evidence):
                seen[kind].add(inventory.tables[kind].column("id")[index])
    before = before_in(document) or {}
    for kind, bits in _seen_from(document, inventory).items():
        made = {number for number, bit in bits.items() if kind != "shm" or bit & CREATOR}
        seen[kind] |= made - before.get(kind, frozenset())
    if seen != life.seen:
        entry.write(seen={kind: ranges_of(numbers) for kind, numbers in seen.items() if numbers})


def _inventory_of_host() -> Inventory:
    """Return what is in our namespace; without its queues where those are not ours to list, as for a user's engine."""
    try:
        return take_inventory(quietly=True)
    except KernelError:
        page = posix.sysconf("SC_PAGE_SIZE")
        return Inventory({kind: Table(kind, slurp(f"/proc/sysvipc/{kind}"), page) for kind in _WITH_IDS}, [])


def _life_of(document: dict[str, Document]) -> HostLife:
    ended = document.get("gone_since") or time.time()
    noted = document.get("seen")
    seen = {kind: numbers_in(noted.get(kind) if isinstance(noted, dict) else None) for kind in _WITH_IDS}
    return HostLife(int(str(document["uid"])), int(str(document["began"])), float(str(ended)), seen)


def _judged(
    site: Site, document: dict[str, Document], inventory: Inventory, life: HostLife, others: dict[str, frozenset[int]]
) -> dict[str, dict[int, Verdict]]:
    """Return what may be the container's, by kind and index; what has the ids `others` is not."""
    inodes = queue_inodes() if inventory.queues else {}
    numbers: dict[str, Sequence[int]] = {kind: table.column("id") for kind, table in inventory.tables.items()}
    numbers["mqueue"] = [inodes.get(queue_name(each)[1:], 0) for each in inventory.queues]
    before, nothing = before_in(document) or {}, frozenset[int]()
    new = new_since(numbers, {kind: before.get(kind, nothing) | others.get(kind, nothing) for kind in numbers})
    places = Whereabouts(str(document.get("cgroup") or ""), space_in(document))
    sizes = inventory.tables["sem"].column("nsems")
    arrays = {numbers["sem"][index]: sizes[index] for index in new["sem"]}
    mapped = _mapped_in(site, inventory.tables["shm"], new["shm"], places)
    clues = Clues(places.at, mapped, ask_semaphores(arrays)[0], awaited(arrays))
    found: dict[str, dict[int, Verdict]] = {}
    for kind, indices in new.items():
        traces = ((index, trace_of(inventory, kind, index, clues)) for index in indices)
        judged = ((index, judge_on_host(kind, numbers[kind][index], trace, life)) for index, trace in traces)
        found[kind] = {index: verdict for index, verdict in judged if verdict is not None}
    return found


def _mapped_in(site: Site, table: Table, indices: list[int], places: Whereabouts) -> dict[int, list[str]]:
    """Return where those are that have mapped segments, by id; of none that nobody is attached to."""
    ids = {table.column("id")[index] for index in indices if table.column("nattch")[index]}
    if not ids:
        return {}
    ours, now = posix.fstat(site.own), int(time.time())
    who = attached(ids, holders(ours.st_dev, ours.st_ino, most=1 << 22))
    return {number: [places.at(int(str(each["pid"])), now) for each in found] for number, found in who.items()}


def _used_by_others(site: Site, but: str, inventory: Inventory) -> dict[str, frozenset[int]]:
    """Return the ids, by kind, of what other containers here have made, as was seen, or use, as the living see."""
    found = dict.fromkeys(_WITH_IDS, frozenset[int]())
    for key in keys(site.entries):
        document = {} if key == but else peek(site.entries, key)
        if document.get("host") and is_unfinished(document, site.boot):
            seen = _life_of(document).seen
            lives = is_living(document, site.boot)
            bits = _seen_from(document, inventory) if lives else {}
            found = {kind: found[kind] | seen[kind] | bits.get(kind, {}).keys() for kind in _WITH_IDS}
    return found


def _seen_from(document: dict[str, Document], inventory: Inventory) -> dict[str, dict[int, int]]:
    """Return what a living container's own pid namespace has pids of, as bits by kind and id: the dead ones', too.

    Nothing where it has none of its own.
    """
    space = space_in(document)
    if space is None or space == pid_namespace("self"):
        return {}
    try:
        fd = open_pid_namespace(str(document.get("pid")))
    except OSError:
        return {}
    try:
        status = posix.fstat(fd)
        table = inventory.tables["sem"]
        arrays = dict(zip(table.column("id"), table.column("nsems"), strict=True))
        view = view_from(fd, inventory.tables, arrays) if (status.st_dev, status.st_ino) == space else None
    finally:
        posix.close(fd)
    found = {}
    for kind, seen in (view or {}).items():
        pairs = zip(inventory.tables[kind].column("id"), seen, strict=True)
        found[kind] = {number: bits for number, bits in pairs if bits & ~UNREAD}
    return found


def _name_in(found: Object) -> tuple[str, int | str]:
    """Return what tells an object from all others that are there now."""
    return str(found["kind"]), found["id"] if "id" in found else queue_name(found)


def _new_files(document: dict[str, Document], life: HostLife) -> dict[str, Document]:
    """Return what a record says of the container's user's files in a /dev/shm that is others' as well."""
    noted = document.get("dev_shm")
    path = str(noted.get("path")) if isinstance(noted, dict) else ""
    shelf = open_shelf(path, hosts_too=True)
    if shelf is None or not isinstance(noted, dict):
        return {}
    old = numbers_in(noted.get("baseline"))
    try:
        files = (file for file in shelf.files() if file.inode not in old and file.uid == life.uid)
        found = files_document((file for file in files if file.ctime <= life.ended + _ACCURACY), old)
    finally:
        shelf.close()
    return {"dev_shm": {"path": path, "partial": shelf.partial, **found}}


def _uid_as_seen(spec: Spec, pid: int) -> int:
    """Return the uid of the container's first process as objects show it to us."""
    try:
        ours, theirs = posix.stat("/proc/self/ns/user"), posix.stat(f"/proc/{pid}/ns/user")
        if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
            return spec.uid  # here the map would tell how the namespace above numbers it
        return host_uid(spec.uid, read(f"/proc/{pid}/uid_map", _MAX_UID_MAP))
    except (OSError, ValueError):
        return -1
