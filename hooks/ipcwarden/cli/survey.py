"""A look at every live IPC namespace of this host, and what a policy would mean for who is in it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field

from ipcwarden import privileges
from ipcwarden.cli import census, extract, judgement, processes
from ipcwarden.cli.child import ask
from ipcwarden.cli.judgement import NOTHING, Judgement
from ipcwarden.cli.processes import Claim
from ipcwarden.cli.stay import inside
from ipcwarden.core.amendment import NATIVE, REQUESTED, runs_us
from ipcwarden.core.documents import parse
from ipcwarden.core.facts import Facts
from ipcwarden.core.plan import Plan, Ways, decide, decide_on_host
from ipcwarden.core.policy import match
from ipcwarden.core.spec import MAX_SPEC_BYTES, Request, Spec, request_of
from ipcwarden.errors import KernelError, NamespaceError, StateError, WardenError
from ipcwarden.files import read
from ipcwarden.host.inventory import take_inventory
from ipcwarden.host.ledger import keys, peek
from ipcwarden.host.membership import VISIT_PATIENCE, enter
from ipcwarden.host.namespace import INITIAL_INODE, identify, open_of
from ipcwarden.host.procfs import read_limits
from ipcwarden.stages.case import Case, as_asked, as_running, open_case, plan_of, read_spec
from ipcwarden.stages.life import is_living, limits_of, texts
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli.census import Household, Resident
    from ipcwarden.core.documents import Document
    from ipcwarden.core.policy import Policy, Profile, Rule

    Row = dict[str, Document]

_CREATION = ("createRuntime", "prestart")
_PATIENCE = 30  # seconds for one namespace


class Gone(NamespaceError):
    """Whoever was in the namespace has ended while we looked."""


@dataclass
class Tenant:
    """One container and what there is to say of it."""

    resident: Resident
    entry: Row  # the ledger's; empty where it is ungoverned
    facts: Facts = field(default_factory=Facts)
    unknown: tuple[str, ...] = ()
    rule: Rule | None = None
    profile: Profile | None = None
    case: Case | None = None  # None where its config.json is not known, or cannot be used
    judged: Judgement = field(default_factory=lambda: Judgement("none", "enforcing", NOTHING))
    notes: list[str] = field(default_factory=list)


@dataclass
class Finding:
    """One namespace: who is in it, and what it holds.  `seen` is empty for the host's, which is not looked into."""

    household: Household
    tenants: list[Tenant]
    seen: Row
    error: str = ""


def survey(site: Site, policy: Policy | None) -> list[Finding]:
    """Look at all namespaces and judge; changes nothing."""
    found = []
    for household, tenants in inhabited(site):
        try:
            seen = {} if household.hosts else _look(site.root, household)
            found.append(Finding(household, tenants, seen))
        except Gone:
            continue
        except WardenError as error:
            found.append(Finding(household, tenants, {}, str(error)))
        if policy is not None:
            _judge(site, policy, found[-1])
    return found


def inhabited(site: Site) -> list[tuple[Household, list[Tenant]]]:
    """Return all namespaces, the host's first, and the containers in each; none is looked into."""
    entries = _entries(site)
    claims = processes.runtimes_claims(site.root)
    for pid, entry in entries.items():
        container = extract.at(entry, "subject", "container")
        parts = (extract.text(container, key) for key in ("id", "bundle", "runtime"))
        claims[pid] = Claim(*parts)
    everybody = processes.processes()
    initial = {each.namespace for each in everybody if each.namespace[1] == INITIAL_INODE}
    households = census.take(everybody, site.hosts | initial, claims)
    governed = {pid: entry for pid, entry in entries.items() if not entry.get("host")}  # of those the end alone is told
    return [(each, [Tenant(one, governed.get(one.pid, {})) for one in each.residents]) for each in households]


def _entries(site: Site) -> dict[int, Row]:
    """Return the ledger's entries of running containers by the pid of their first process."""
    if not site.has_ledger():
        return {}
    living = (entry for key in keys(site.entries) if is_living(entry := peek(site.entries, key), site.boot))
    return {extract.number(entry, "pid"): entry for entry in living if entry.get("state") == "applied"}


def _look(root: str, household: Household) -> Row:
    """Return what a namespace holds, seen by a child that joins it.  Raises `Gone` where nobody is left in it."""
    members = [each.pid for each in household.residents] + [each.pid for _, each in household.nested]
    members += [each.pid for each in household.strangers]
    for pid in members:
        try:
            seen = ask(lambda pid=pid: _look_here(root, pid, household.place))  # type: ignore[misc]  # mypy and defaults
        except WardenError as error:
            if error.exit_code != NamespaceError.exit_code or os.path.exists(f"/proc/{pid}"):
                raise
            continue
        if isinstance(seen, dict):
            return seen
    raise Gone("cannot look into a namespace: nobody is left in it")


def _look_here(root: str, pid: int, place: tuple[int, int]) -> Document:
    signal.alarm(_PATIENCE)
    privileges.settle()
    site = Site(root, "scan")
    privileges.drop_with_prctl(privileges.POSTSTOP)
    fd = open_of(pid, site.features)
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != place:
        return None  # it has left, or its pid is another's by now
    identity = identify(fd, site.features)
    room = enter(site.namespaces, identity.name, within=VISIT_PATIENCE) if site.has_ledger() else None
    with inside(site, room, lambda: fd):
        inventory = take_inventory(quietly=True)
        return {
            "id": identity.id or None,
            "limits": texts(read_limits()),
            "usage": inventory.totals(),
            "objects": [dict(each) for each in inventory.objects()],
        }


def _judge(site: Site, policy: Policy, finding: Finding) -> None:
    """Judge all who are in a namespace, its owner first: what others ask for is compared with what it gets."""
    for tenant in finding.tenants:
        find_rule(site, policy, tenant)
    ranked = sorted(finding.tenants, key=lambda each: each.case is None or each.case.spec.ipc != "private")
    limits = limits_in(finding.seen)
    used = judgement.in_use(extract.rows(finding.seen, "objects"), os.sysconf("SC_PAGE_SIZE"))
    in_force: dict[str, int] | None = None
    for tenant in ranked:
        if tenant.rule is None or tenant.profile is None:
            continue
        if finding.household.hosts:
            tenant.judged = _judged_host(tenant)
            continue
        plan = _plan(site, policy, tenant, in_force)
        tenant.judged = judgement.judge(plan, tenant.rule.mode, used if in_force is None else {})
        if limits:
            in_force = {**(in_force or limits), **(plan.wanted() if tenant.rule.mode == "enforcing" else {})}


def limits_in(seen: Row) -> dict[str, int]:
    """Return the limits that were seen, as numbers; empty where nothing was."""
    limits = extract.at(seen, "limits")
    return {name: int(str(text)) for name, text in limits.items()} if isinstance(limits, dict) else {}


def find_rule(site: Site, policy: Policy, tenant: Tenant) -> None:
    """Find out what is known of a container, and its rule."""
    resident = tenant.resident
    try:
        if not resident.bundle:
            raise FileNotFoundError
        spec = _as_asked(resident.bundle, tenant.entry)
        case = open_case(site, policy, resident.container, resident.bundle, resident.runtime or None, spec)
        case = _as_rootless(policy, case) if resident.rootless else case
        tenant.case = case = _as_running(tenant, case)
        tenant.facts, tenant.unknown, tenant.rule, tenant.profile = case.facts, case.unknown, case.rule, case.profile
    except (FileNotFoundError, StateError) as error:
        if isinstance(error, StateError) and not isinstance(error.__cause__, FileNotFoundError):
            modes = {rule.mode for rule in policy.rules} or {policy.mode}
            mode = "permissive" if modes == {"permissive"} else "enforcing"
            tenant.judged = Judgement("unusable", mode, NOTHING)
            tenant.notes.append(str(error))
            return
        tenant.facts = Facts(rootless=resident.rootless)
        tenant.rule, tenant.unknown = match(policy, tenant.facts)
        tenant.profile = policy.profile_of(tenant.rule) if tenant.rule else None
        tenant.notes.append("its config.json is not known: judged with unknown facts, as if it asked for nothing")
    if tenant.rule is None:
        tenant.judged = Judgement("no-rule", policy.mode, NOTHING)
    if tenant.unknown:
        tenant.notes.append(f"not known, and a rule asks for it: {', '.join(tenant.unknown)}")
    if resident.rootless:
        tenant.notes.append("rootless: its user can take the hooks away")


def _as_asked(bundle: str, entry: Row) -> Spec:
    """Return what a config.json asked for before a native door wrote into it what was decided."""
    spec = read_spec(bundle, as_asked)
    if REQUESTED not in spec.annotations:
        return spec
    # podman leaves out what it does not know, and with it what was there before.  Anybody writes annotations: this one
    # counts where the ledger has it from the hook.
    try:
        request = request_of({"linux": {"sysctl": parse(spec.annotations[REQUESTED].encode())}})
    except ValueError:
        return spec
    known = {extract.text(each, "name"): extract.text(each, "requested") for each in extract.rows(entry, "sysctls")}
    agrees = all(known.get(name) == str(number) for name, number in request.numbers.items())
    return Spec(**{**vars(spec), "request": request}) if known and agrees else spec


def _as_running(tenant: Tenant, case: Case) -> Case:
    """Return the case with what is mounted in the container, and which filter a native door would leave it."""
    try:
        return as_running(case, tenant.resident.pid, _is_native(tenant.resident.bundle))
    except KernelError as error:
        tenant.notes.append(f"its mounts are not known: {error}")
        return case


def _is_native(bundle: str) -> bool:
    """Tell whether a native door has written a config.json."""
    try:
        document = parse(read(f"{bundle}/config.json", MAX_SPEC_BYTES))
    except (OSError, ValueError):
        return False  # gone since it was read
    entries = [each for stage in _CREATION for each in extract.rows(document, "hooks", stage)]
    return any(runs_us(each) and NATIVE in extract.texts(each, "args") for each in entries)


def _as_rootless(policy: Policy, case: Case) -> Case:
    """Return the case as hooks would find it that run where we do not: in its user's own user namespace."""
    facts = Facts(**{**vars(case.facts), "rootless": True})
    rule, unknown = match(policy, facts)
    profile = policy.profile_of(rule, case.spec.annotations) if rule else None
    return Case(**{**vars(case), "facts": facts, "unknown": unknown, "rule": rule, "profile": profile})


def _judged_host(tenant: Tenant) -> Judgement:
    assert tenant.rule is not None
    assert tenant.profile is not None
    plan = decide_on_host(tenant.profile, tenant.case.ways if tenant.case else Ways())
    if not plan.violations:
        return Judgement("host-ipc", tenant.rule.mode, NOTHING)
    return Judgement(plan.decision, tenant.rule.mode, plan)


def _plan(site: Site, policy: Policy, tenant: Tenant, in_force: dict[str, int] | None) -> Plan:
    if tenant.case is not None:
        return plan_of(tenant.case, in_force)
    assert tenant.profile is not None
    kernel = policy.kernel_values(os.uname().release)
    return decide(tenant.profile, Request({}, {}), kernel, site.memory(None, policy.ipcmni_extend), in_force)


def drift_in(finding: Finding, tenant: Tenant) -> list[tuple[str, int, int]]:
    """Return where limits are no longer those that were in force once the container had been created.

    Nothing for one that shares its namespace: a joiner may have been allowed to raise them.
    """
    before, now = limits_of(tenant.entry), limits_in(finding.seen)
    alone = len(finding.tenants) == 1
    return [(name, before[name], now[name]) for name in before if alone and name in now and now[name] != before[name]]
