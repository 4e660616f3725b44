"""The native doors: decide before the runtime reads config.json, and let it apply the values itself.

Nothing that policy decides is refused here.  What it refuses is handed on as it was asked for, with our hooks: the
creation stage refuses it, with its line and the only record.
"""

from __future__ import annotations

import posix

from ipcwarden.core.amendment import Amendment, amended, restored
from ipcwarden.core.documents import parse_strictly, utf8_of
from ipcwarden.core.seccomp import narrowed
from ipcwarden.core.spec import MAX_SPEC_BYTES, spec_of
from ipcwarden.core.sysctls import FILES, spelled
from ipcwarden.errors import DeadlineError, StateError, WardenError
from ipcwarden.host.membership import enter
from ipcwarden.host.namespace import identify, is_hosts
from ipcwarden.host.rlimits import msgqueue_of
from ipcwarden.stages.case import host_plan_of, open_case, plan_of
from ipcwarden.stages.company import company_in, enforcer, since_widened
from ipcwarden.stages.life import limits_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.plan import Plan, Rlimit
    from ipcwarden.core.policy import Policy
    from ipcwarden.stages.case import Case
    from ipcwarden.stages.site import Site

_LEAVE = Amendment()


def parse_config(data: bytes) -> dict[str, Document]:
    """Return a config.json as a document that can be written again.  Raises `StateError`."""
    if len(data) > MAX_SPEC_BYTES:
        raise StateError(f"cannot use config.json: it is larger than {MAX_SPEC_BYTES} bytes")
    try:
        document = parse_strictly(data)
    except ValueError as error:
        raise StateError(f"cannot read config.json as JSON: {error}") from error
    if not isinstance(document, dict):
        raise StateError("cannot use config.json: it is not an object")
    return document


def amend(
    site: Site,
    policy: Policy | None,
    container: str,
    bundle: str,
    document: dict[str, Document],
    program: str | None,
    entries: dict[str, dict[str, Document]],
) -> bytes:
    """Return the config.json that the runtime is to read; without a policy, with our hooks and nothing else changed.

    `program` is the runtime's name, `entries` are our hooks by stage.  Raises `StateError`.
    """
    document = restored(document)
    amendment = _LEAVE
    if policy is not None:
        case = open_case(site, policy, container, bundle, program, spec_of(document))
        amendment = _amendment_of(site, case)
    try:
        return utf8_of(amended(document, entries, amendment))
    except (ValueError, RecursionError) as error:
        raise StateError(f"cannot write config.json again: {error}") from error


def _amendment_of(site: Site, case: Case) -> Amendment:
    spec, profile = case.spec, case.profile
    held = _limits_at(site, spec.ipc_path) if spec.ipc == "shared" else None
    # Where somebody enforces those limits stay, whoever comes: what no runtime is told to write nobody has to put back.
    untold = _LEAVE if held is None else Amendment({})
    if case.rule is None or profile is None or case.rule.mode != "enforcing":
        return untold
    if "runtime" in case.unknown:
        return untold  # the creation stage knows it, and may come to another rule
    plan = host_plan_of(case) if spec.ipc == "host" else plan_of(case, held)
    if plan.decision == "refused":
        return _LEAVE
    sysctls = untold.sysctls
    if spec.ipc == "private":
        sysctls = _spelled_out(plan, case.kernel)
    elif held is not None:
        sysctls = _spelled_out(plan, held, but=held)  # no more than what it may widen
    seccomp: Document = None
    if profile.nested_ipc == "deny":
        seccomp = narrowed(spec.seccomp, posix.uname().machine, spec.annotations)
    return Amendment(sysctls, _lowered(plan.msgqueue), seccomp)


def _lowered(limit: Rlimit | None) -> int | None:
    """Return what RLIMIT_MSGQUEUE has to be; None where what is asked for, or else inherited, is no more."""
    if limit is None:
        return None
    inherited = msgqueue_of(posix.getpid())
    asked = limit.requested if limit.requested is not None else inherited[1] if inherited else None
    return limit.wanted if asked is None or asked > limit.wanted else None


def _spelled_out(plan: Plan, base: dict[str, int], but: dict[str, int] | None = None) -> dict[str, str]:
    """Return what was decided as config.json has it, `but` for what is so; other fields of kernel.sem are `base`'s."""
    wanted = {name: number for name, number in plan.wanted().items() if but is None or number != but[name]}
    limits = {**base, **wanted}
    return {file: spelled(file, limits) for file, names in FILES.items() if any(name in wanted for name in names)}


def _limits_at(site: Site, path: str) -> dict[str, int] | None:
    """Return the limits that somebody enforces in the namespace at a path, None where nobody does or it is unclear."""
    if not site.has_ledger():
        return None
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except (OSError, ValueError):
        return None  # the runtime will say so
    try:
        if is_hosts(fd, site.hosts):
            return None
        identity = identify(fd, site.features)
        room = enter(site.namespaces, identity.name)
        if room is None:
            return None
        try:
            owner = enforcer(company_in(site, room, identity, ""))
            return since_widened(site, owner, limits_of(owner)) if owner else None
        finally:
            room.leave()
    except DeadlineError:
        raise
    except WardenError:
        return None  # the creation stage meets it again, and says so
    finally:
        posix.close(fd)
