"""prestart and createRuntime: decide, then refuse, or pin, apply and read back.  Doing it twice changes nothing."""

from __future__ import annotations

import posix

from ipcwarden import privileges
from ipcwarden.core.amendment import REQUESTED
from ipcwarden.core.digests import entry_key
from ipcwarden.core.documents import parse
from ipcwarden.core.plan import Plan, sentence
from ipcwarden.core.record import container_of, sysctls_of, violations_of
from ipcwarden.core.spec import Request, request_of
from ipcwarden.core.sysctls import FILES, as_kernel_reads
from ipcwarden.errors import (
    DeadlineError,
    NamespaceError,
    PolicyViolation,
    StateError,
    WardenError,
)
from ipcwarden.host.ledger import take
from ipcwarden.host.membership import enter, erase, note
from ipcwarden.host.namespace import identify, is_hosts, join, open_of, unpin
from ipcwarden.host.procfs import executable, read_limits, started, write_limits
from ipcwarden.stages.application import apply, apply_again, ways_told
from ipcwarden.stages.case import as_created, host_plan_of, open_case, plan_of
from ipcwarden.stages.company import (
    FIRST_PID,
    company_in,
    joiner_of,
    keep,
    limits_in_force,
    protect,
    protect_anyway,
)
from ipcwarden.stages.life import identity_of, is_of
from ipcwarden.stages.rlimits import limit_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.policy import Policy
    from ipcwarden.core.state import ContainerState
    from ipcwarden.host.ledger import Entry
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.case import Case
    from ipcwarden.stages.site import Site


def skip(site: Site, state: ContainerState) -> None:
    """Note that a container starts undecided, because the kill switch is on: whatever else is wrong, it starts."""
    try:
        site.come_in(privileges.CREATE)
    except WardenError:
        pass
    site.deliver_refusal(site.record("skipped", reason="disabled"), entry_key(state.id, state.bundle))


def create(site: Site, policy: Policy, state: ContainerState, native: bool = False) -> None:
    """Handle one creation stage; `native` tells that a native door has written config.json.

    Raises `PolicyViolation` and every other `WardenError`: then nothing is left.
    """
    try:
        _check_stage(state)
        case = _open_in_time(site, policy, state, native)
    except WardenError:
        site.come_in(privileges.CREATE)
        protect_anyway(site, state)
        raise
    # The bundle may be visible in the engine's own mount namespace only; ledger and pins are the machine's.
    site.come_in(privileges.CREATE)
    site.subject.update(
        container=container_of(state.id, state.bundle, case.facts),
        unknown=list(case.unknown),
    )
    key = entry_key(state.id, state.bundle)
    if case.rule is None or case.profile is None:
        protect(site, state)
        site.deliver(site.record("skipped", reason="no-rule"), key)
        return
    site.subject.update(rule=case.rule.name, profile=case.profile.name, mode=case.rule.mode)
    fd = open_of(state.pid, site.features)
    try:
        if is_hosts(fd, site.hosts):
            _meet_host(site, case, key, state.pid)
        else:
            _govern(site, case, key, fd, state, native)
    except BaseException:
        protect_anyway(site, state)
        raise
    finally:
        posix.close(fd)


def _check_stage(state: ContainerState) -> None:
    if state.pid < FIRST_PID:
        raise StateError(
            f"cannot use the state: its pid is {state.pid}, which is no process of the host's",
            "register the hook at createRuntime, not at createContainer or startContainer",
        )
    if state.status not in ("creating", "created", ""):
        raise StateError(f"cannot create what is '{state.status[:32]}'", "register this stage at createRuntime")


def _open_in_time(site: Site, policy: Policy, state: ContainerState, native: bool) -> Case:
    try:
        case = open_case(site, policy, state.id, state.bundle, executable(posix.getppid()))
        return as_created(case, state.pid, native)
    except DeadlineError as error:
        # What takes that long to read was made to: no fault of the host's, and no way in.
        raise StateError(f"cannot read '{state.bundle}/config.json' in time: it is too large or too tangled") from error


def _meet_host(site: Site, case: Case, key: str, pid: int) -> None:
    assert case.profile is not None
    if case.spec.ipc != "host":
        raise NamespaceError(
            "cannot govern the container: its process is in the host's IPC namespace, though config.json asks for "
            + ("a private one" if case.spec.ipc == "private" else f"the one at '{case.spec.ipc_path}'"),
            "is that path the host's own?",
        )
    plan, told = host_plan_of(case), ways_told(case)
    if plan.violations:
        _refuse(site, case, key, plan)
        told["violations"] = violations_of(plan.violations)
    told.update(limit_queues(plan.msgqueue, pid, site.subject["mode"] == "enforcing", case.facts.runtime))
    _follow(site, case, key, pid, site.record("skipped", reason="host-ipc", **told))


def _follow(site: Site, case: Case, key: str, pid: int, record: dict[str, Document]) -> None:
    """Let the ledger follow a container in the host's namespace, so that its end tells what it has left there."""
    from ipcwarden.stages.hostipc import host_noted

    assert case.profile is not None
    entry = take(site.entries, key, create=True)
    assert entry is not None
    try:
        if is_of(entry.document, site.boot, pid):
            return
        if entry.document:
            entry = _set_aside(site, entry)
        entry.write(
            state="applied",
            boot=site.boot,
            pid=pid,
            started=started(pid),
            subject=dict(site.subject),
            **host_noted(case.spec, case.profile, pid),
        )
        site.deliver(record, key, entry)
    finally:
        if entry.document:
            entry.release()
        else:
            entry.delete()


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


def _govern(site: Site, case: Case, key: str, fd: int, state: ContainerState, native: bool) -> None:
    identity = identify(fd, site.features)
    entry = take(site.entries, key, create=True)
    assert entry is not None
    try:
        if _is_the_same(site, entry, identity, state.pid):
            if entry.state == "applied":
                apply_again(site, entry, fd)
                return
            unpin(site.pins, str(entry.document["pin"]))  # a hook died half-way: start again
        room = enter(site.namespaces, identity.name, create=True)
        assert room is not None
        try:
            company = company_in(site, room, identity, key)
            limits = limits_in_force(site, fd, company)
            plan = _decide(site, case, key, fd, limits)
            if native:
                plan = _as_requested(case, limits, plan)
                _refuse(site, case, key, plan)
            if entry.document and not _is_the_same(site, entry, identity, state.pid):
                # An earlier life whose poststop never came, or another root's: it is finished under another key.
                entry = _set_aside(site, entry, room.name)
            room.add(key)
            room.acquit(state.pid)
            if site.subject["mode"] == "permissive":
                # A joiner that is only watched is no way around those that are not.
                keep(site, fd, company, joiner_of(state))
            apply(site, case, entry, room, fd, identity, state.pid, plan, limits)
        finally:
            if not entry.document:
                room.remove(key)
            site.come_out()
            room.leave()
    finally:
        if entry.document:
            entry.release()
        else:
            entry.delete()


def _is_the_same(site: Site, entry: Entry, identity: Identity, pid: int) -> bool:
    theirs = identity_of(entry.document)
    return theirs is not None and theirs.same_as(identity) and is_of(entry.document, site.boot, pid)


def _set_aside(site: Site, entry: Entry, room: str = "") -> Entry:
    key, aside = entry.key, f"{entry.key}~{site.began:x}"
    theirs = identity_of(entry.document)
    if theirs is not None:
        note(site.namespaces, theirs.name, aside)  # first: without it nobody would know that it is in there
    fresh = entry.set_aside(aside)
    if theirs is not None and theirs.name != room:
        erase(site.namespaces, theirs.name, key)
    return fresh


def _decide(site: Site, case: Case, key: str, fd: int, limits: dict[str, int] | None) -> Plan:
    """Decide, and raise where that means to refuse: then nothing of the request is left in force."""
    plan = plan_of(case, limits)
    unowned = limits is None and case.spec.ipc != "private"
    if plan.decision == "refused" and site.subject["mode"] == "enforcing" and unowned:
        join(fd, site.hosts)
        _take_back(case)
    _refuse(site, case, key, plan)
    site.subject["decision"] = plan.decision
    return plan


def _as_requested(case: Case, limits: dict[str, int] | None, plan: Plan) -> Plan:
    """Return the plan with what was asked for before a native door wrote what was decided.

    For one that joins others it is decided by, too: a door that did not know the rule yet has left nothing else of the
    request.  Otherwise it is for the record, and what would come to something else is no honest memory.
    """
    try:
        table = parse(case.spec.annotations.get(REQUESTED, "").encode("utf-8", "replace"))
        request = request_of({"linux": {"sysctl": table}})
    except (ValueError, StateError):
        return plan
    told, wanted = plan_of(case, limits, request), plan.wanted()
    if case.rule is not None and case.rule.mode == "permissive":
        return told  # nothing of either is applied
    if told.decision == "refused":
        return plan if limits is None else told
    agrees = all(wanted.get(name) == number for name, number in told.wanted().items())
    return told if agrees else plan


def _take_back(case: Case) -> None:
    """Leave nothing of a refused request in force in a namespace that nobody governs: crun writes before any hook."""
    found = read_limits()
    instead = {**case.kernel, **plan_of(case, request=Request({}, {})).wanted()}
    asked = {
        name: as_kernel_reads(word)
        for file, text in case.spec.request.raw.items()
        for name, word in zip(FILES[file], text.split(), strict=False)
    }
    # Only what is as it was asked for: runc has not written yet, and what is there then is somebody's.
    write_limits({name: instead[name] for name, number in asked.items() if number == found[name]}, found)
