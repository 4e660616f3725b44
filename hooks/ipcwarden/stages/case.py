"""One container's case: all that is known of it and its rule.  The creation stage decides on it, `explain` too."""

from __future__ import annotations

import posix

from ipcwarden.core.amendment import REQUESTED, restored
from ipcwarden.core.documents import parse_strictly
from ipcwarden.core.mounts import opens_proc_sys
from ipcwarden.core.names import cri_memory
from ipcwarden.core.plan import Plan, Ways, decide, decide_on_host
from ipcwarden.core.policy import match
from ipcwarden.core.spec import MAX_SPEC_BYTES, parse_spec, spec_of
from ipcwarden.errors import StateError, why
from ipcwarden.files import read
from ipcwarden.host.cgroups import parent_memory
from ipcwarden.host.engines import facts_of
from ipcwarden.host.procfs import mountinfo_of, real_path
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.core.facts import Facts
    from ipcwarden.core.policy import Memory, Policy, Profile, Rule
    from ipcwarden.core.spec import Request, Spec
    from ipcwarden.stages.site import Site


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
    ways: Ways


def read_spec(bundle: str, parsed: Callable[[bytes], Spec] = parse_spec) -> Spec:
    """Read a bundle's config.json; `parsed` by `as_asked`, as its author wrote it.  Raises `StateError`."""
    path = f"{bundle}/config.json"
    try:
        return parsed(read(path, MAX_SPEC_BYTES))
    except OSError as error:
        raise StateError(f"cannot read '{path}': {why(error)}") from error
    except ValueError as error:
        raise StateError(f"cannot read '{path}': {error}") from error
    except (RecursionError, MemoryError) as error:
        raise StateError(f"cannot read '{path}': it is too tangled") from error


def as_asked(data: bytes) -> Spec:
    """Return what a config.json asked for before a native door wrote into it what was decided.

    The next start is decided on that.  Raises `StateError`, `ValueError`.
    """
    spec = parse_spec(data)
    document = parse_strictly(data) if REQUESTED in spec.annotations else None
    return spec_of(restored(document)) if isinstance(document, dict) else spec


def open_case(
    site: Site, policy: Policy, container: str, bundle: str, program: str | None, given: Spec | None = None
) -> Case:
    """Gather what is known of a container, and find its rule; changes nothing.  Raises `StateError`.

    `given` is what its config.json asks for where that has been read already.
    """
    spec = given or read_spec(bundle)
    facts = facts_of(container, bundle, spec, program, site.places.rootless, policy.trust_annotations)
    rule, unknown = match(policy, facts)
    profile = policy.profile_of(rule, spec.annotations) if rule else None
    kernel = policy.kernel_values(posix.uname().release)
    memory = site.memory(_memory_limit(spec, facts), policy.ipcmni_extend)
    ways = Ways(spec.msgqueue, spec.proc_sys_writable)
    return Case(container, bundle, spec, facts, unknown, rule, profile, kernel, memory, ways)


def as_created(case: Case, pid: int, native: bool) -> Case:
    """Return a case with what only the creation stage sees: what is mounted by then, and which filter will be loaded.

    `native` tells that a native door has been there.  Called in the runtime's mount namespace.  Raises `KernelError`.
    """
    if case.rule is None or case.profile is None:
        return case
    return _with_ways(case, _mounts_proc_sys(case, pid), native, case.rule.mode == "permissive")


def as_running(case: Case, pid: int, native: bool) -> Case:
    """Return a case with what the creation stage will see at the next start of a container that runs.

    `native` tells that a native door was there at the last one: it will be again.  Raises `KernelError`.
    """
    if case.rule is None or case.profile is None:
        return case
    writable = _mounts_proc_sys(case, pid)
    if _is_in_root_of_its_own(pid):  # then mountinfo's paths begin there
        writable = opens_proc_sys(mountinfo_of(pid), "", case.spec.shielded)
    return _with_ways(case, writable, native, native)


def _with_ways(case: Case, writable: bool, native: bool, narrowing: bool) -> Case:
    """Return a case with the ways round that are open; `narrowing`: a native door narrows what it can, later on."""
    assert case.profile is not None
    spec, loose = case.spec, ""
    if case.profile.nested_ipc == "deny":
        from ipcwarden.core.seccomp import looseness

        loose = looseness(spec.seccomp, posix.uname().machine, spec.annotations)
        if native and loose == "loose" and narrowing:
            loose = ""  # it would have been narrowed
    return Case(**{**vars(case), "ways": Ways(spec.msgqueue, spec.proc_sys_writable or writable, loose, native)})


def _mounts_proc_sys(case: Case, pid: int) -> bool:
    path = case.spec.root_path
    root = real_path(path if path.startswith("/") else f"{case.bundle}/{path}") if path else ""
    return bool(root) and opens_proc_sys(mountinfo_of(pid), root, case.spec.shielded)


def _is_in_root_of_its_own(pid: int) -> bool:
    try:
        ours, theirs = posix.stat("/"), posix.stat(f"/proc/{pid}/root")
    except OSError:
        return False  # gone
    return (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino)


def _memory_limit(spec: Spec, facts: Facts) -> int | None:
    """Return what bounds the memory of a container, or, for one that holds a pod's namespaces, of the pod."""
    # Which of podman's containers are such is nothing that it tells; they have no limit of their own.
    if not facts.is_sandbox and (facts.engine != "podman" or spec.memory_limit is not None):
        return spec.memory_limit
    told = cri_memory(spec.annotations) if facts.engine == "containerd" else None
    limits = [limit for limit in (told, parent_memory(spec.cgroups_path)) if limit is not None]
    return min(limits, default=spec.memory_limit)


def plan_of(case: Case, limits: dict[str, int] | None = None, request: Request | None = None) -> Plan:
    """Decide on a case that has a rule; `limits` are those of a namespace that is somebody's already."""
    assert case.profile is not None
    return decide(case.profile, request or case.spec.request, case.kernel, case.memory, limits, case.ways)


def host_plan_of(case: Case) -> Plan:
    """Decide on a case that has a rule, and is in the host's namespace."""
    assert case.profile is not None
    return decide_on_host(case.profile, case.ways)
