"""prestart and createRuntime: decide, then refuse, or pin, apply and read back.  Doing it twice changes nothing."""

from __future__ import annotations

import posix

from ipcwarden import privileges
from ipcwarden.core.digests import entry_key
from ipcwarden.core.plan import Plan, Violation, decide, sentence
from ipcwarden.core.policy import match
from ipcwarden.core.record import container_of, sysctls_of, violations_of
from ipcwarden.core.spec import MAX_SPEC_BYTES, Request, Spec, parse_spec
from ipcwarden.core.sysctls import FILES
from ipcwarden.errors import NamespaceError, PolicyViolation, StateError, why
from ipcwarden.files import read
from ipcwarden.host.engines import facts_of
from ipcwarden.host.ledger import take
from ipcwarden.host.namespace import identify, is_hosts, join, open_of, pin, unpin
from ipcwarden.host.procfs import executable, in_user_namespace, read_limits, started, write_limits
from ipcwarden.stages.life import identity_document, identity_of, limits_of, members, texts, wanted_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.facts import Facts
    from ipcwarden.core.policy import Memory, Policy, Profile, Rule
    from ipcwarden.core.state import ContainerState
    from ipcwarden.host.ledger import Entry
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

_FIRST_PID = 2  # 1 is the machine's own init, or the container's as it sees itself


@value
class Case:
    """All that the decision on one container rests on.  `profile` and `rule` are None where no rule matches."""

    container: str
    bundle: str
    spec: Spec
    facts: Facts
    unknown: tuple[str, ...]
    rule: Rule | None
    profile: Profile | None
    kernel: dict[str, int]
    memory: Memory


def read_spec(bundle: str) -> Spec:
    """Read a bundle's config.json.  Raises `StateError`."""
    path = f"{bundle}/config.json"
    try:
        return parse_spec(read(path, MAX_SPEC_BYTES))
    except OSError as error:
        raise StateError(f"cannot read '{path}': {why(error)}") from error
    except ValueError as error:
        raise StateError(f"cannot read '{path}': {error}") from error


def open_case(site: Site, policy: Policy, container: str, bundle: str, program: str | None) -> Case:
    """Gather what is known of a container, and find its rule; changes nothing.  Raises `StateError`."""
    spec = read_spec(bundle)
    facts = facts_of(container, bundle, spec, program, in_user_namespace())
    rule, unknown = match(policy, facts)
    profile = policy.profile_of(rule) if rule else None
    kernel = policy.kernel_values(posix.uname().release)
    return Case(container, bundle, spec, facts, unknown, rule, profile, kernel, site.memory(spec.memory_limit))


def plan_of(case: Case, in_force: dict[str, int] | None = None, request: Request | None = None) -> Plan:
    """Decide on a case that has a rule."""
    assert case.profile is not None
    return decide(case.profile, request or case.spec.request, case.kernel, case.memory, in_force)


def create(site: Site, policy: Policy, state: ContainerState) -> None:
    """Handle one creation stage.  Raises `PolicyViolation` and every other `WardenError`: then nothing is left."""
    if state.pid < _FIRST_PID:
        raise StateError(
            f"cannot use the state: its pid is {state.pid}, which is no process of the host's",
            "register the hook at createRuntime, not at createContainer or startContainer",
        )
    if state.status not in ("creating", "created", ""):
        raise StateError(f"cannot create what is '{state.status[:32]}'", "register this stage at createRuntime")
    case = open_case(site, policy, state.id, state.bundle, executable(posix.getppid()))
    site.subject.update(
        container=container_of(state.id, state.bundle, case.facts),
        unknown=list(case.unknown),
    )
    site.narrow(privileges.CREATE + ((privileges.CAP_SYS_CHROOT,) if site.is_away else ()))
    site.go_home()
    site.narrow(privileges.CREATE)
    key = entry_key(state.id, state.bundle)
    if case.rule is None or case.profile is None:
        site.deliver(site.record("skipped", reason="no-rule"), key)
        return
    site.subject.update(rule=case.rule.name, profile=case.profile.name, mode=case.rule.mode)
    fd = open_of(state.pid, site.features)
    try:
        if is_hosts(fd, site.hosts):
            _meet_host(site, case, key)
        else:
            _govern(site, case, key, fd, state.pid)
    finally:
        posix.close(fd)


def _meet_host(site: Site, case: Case, key: str) -> None:
    assert case.profile is not None
    if case.spec.ipc != "host":
        raise NamespaceError(
            "cannot govern the container: its process is in the host's IPC namespace, though config.json asks for "
            + ("a private one" if case.spec.ipc == "private" else f"the one at '{case.spec.ipc_path}'"),
            "is that path the host's own?",
        )
    if case.profile.host_ipc == "audit":
        site.deliver(site.record("skipped", reason="host-ipc"), key)
        return
    violations = (Violation("ipc", "host", None, None, "host_ipc"),)
    _refuse(site, case, key, Plan("refused", (), violations))
    site.deliver(site.record("skipped", reason="host-ipc", violations=violations_of(violations)), key)


def _refuse(site: Site, case: Case, key: str, plan: Plan) -> None:
    """Record and raise; in permissive mode only note what would have been decided."""
    assert case.profile is not None
    site.subject["decision"] = plan.decision
    if plan.decision != "refused" or site.subject["mode"] == "permissive":
        return
    record = site.record(
        "refused",
        sysctls=sysctls_of(plan, None),
        violations=violations_of(plan.violations),
    )
    site.deliver_refusal(record, key)
    text = (
        f"refused container '{case.container}': {sentence(plan.violations)[:2000]}; "
        f"rule '{site.subject['rule']}', profile '{site.subject['profile']}'"
    )
    violation = PolicyViolation(text, case.profile.help)
    site.alert(str(violation))
    raise violation


def _govern(site: Site, case: Case, key: str, fd: int, pid: int) -> None:
    identity = identify(fd, site.features)
    entry = _new_entry(site, key, identity, fd)
    if entry is None:
        return
    found: dict[str, int] = {}
    try:
        company = {} if case.spec.ipc == "private" else members(site.entries, identity, site.boot, key)
        in_force = next((limits_of(document) for document in company.values()), None)
        plan = plan_of(case, in_force)
        enforcing = site.subject["mode"] == "enforcing"
        if plan.decision == "refused" and enforcing and case.spec.ipc != "private":
            join(fd, site.hosts)
            _take_back(case, in_force)
        _refuse(site, case, key, plan)
        site.subject["decision"] = plan.decision
        _tell(site, company)
        pin(site.pins, _write_creating(site, entry, identity, pid, case), fd)
        site.narrow(privileges.POSTSTART)
        join(fd, site.hosts)
        found = read_limits()
        # In a namespace that others live in, what a runtime wrote on the joiner's behalf is undone as well.
        now = write_limits(in_force or plan.wanted(), found) if enforcing else found
        site.subject["enforced"] = enforcing
        sysctls = sysctls_of(plan, now)
        entry.write(state="applied", subject=dict(site.subject), sysctls=sysctls, limits=texts(now))
        record = site.record(
            "applied",
            sysctls=sysctls,
            violations=violations_of(plan.violations),
            namespace={"id": identity.id or None, "inode": identity.inode, "shared": case.spec.ipc != "private"},
        )
        site.deliver(record, key, entry)
    except BaseException:
        _undo(site, entry, found)
        raise
    entry.release()


def _new_entry(site: Site, key: str, identity: Identity, fd: int) -> Entry | None:
    """Return the locked entry to fill, or None where the container has one already, which is then seen to."""
    while True:
        entry = take(site.entries, key, create=True)
        assert entry is not None
        theirs = identity_of(entry.document)
        if theirs is None:
            return entry
        same = entry.document.get("boot") == site.boot and theirs.same_as(identity)
        if same and entry.state == "creating":
            unpin(site.pins, str(entry.document["pin"]))  # a hook died half-way: start again
            return entry
        if same and entry.state == "applied":
            if site.subject["mode"] == "enforcing":
                join(fd, site.hosts)
                write_limits(wanted_of(entry.document), read_limits())
            entry.release()
            return None
        # An earlier life whose poststop never came: gc will finish it.
        entry.set_aside(f"{key}~{site.began:x}")
        entry.release()


def _write_creating(site: Site, entry: Entry, identity: Identity, pid: int, case: Case) -> str:
    taken = set(posix.listdir(site.pins))
    names = [entry.key] + [f"{entry.key}~{number}" for number in range(len(taken))]
    name = next(name for name in names if name not in taken)
    entry.write(
        state="creating",
        boot=site.boot,
        pid=pid,
        started=started(pid),
        pin=name,
        namespace=identity_document(identity),
        joined=case.spec.ipc != "private",
        shared=case.spec.ipc != "private",
        leftovers=case.profile.leftovers if case.profile else "report",
        subject=dict(site.subject),
    )
    return name


def _tell(site: Site, company: dict[str, dict[str, Document]]) -> None:
    """Tell the other members of a namespace that they are no longer alone in it."""
    for key, document in company.items():
        entry = None if document.get("shared") else take(site.entries, key)
        if entry is not None:
            if entry.document:
                entry.write(shared=True)
            entry.release()


def _take_back(case: Case, in_force: dict[str, int] | None) -> None:
    """Leave nothing of a refused joiner's request in force: crun has written it before any hook ran."""
    found = read_limits()
    if in_force is None:
        asked = {name for file in case.spec.request.raw for name in FILES[file]}
        unasked = plan_of(case, request=Request({}, {})).wanted()
        in_force = {name: unasked.get(name, case.kernel[name]) for name in asked}
    write_limits(in_force, found)


def _undo(site: Site, entry: Entry, found: dict[str, int]) -> None:
    """Leave no pin, no entry, and the limits as they were `found`, if they have been touched."""
    name = entry.document.get("pin")
    try:
        if found:
            write_limits(found, read_limits())
    finally:
        try:
            if isinstance(name, str):
                unpin(site.pins, name)
        finally:
            entry.delete()
