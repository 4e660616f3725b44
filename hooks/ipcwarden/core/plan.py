"""The decision: what every governed limit of one container shall be, and what of its request policy refuses."""

from __future__ import annotations

from ipcwarden.core.policy import Memory, Profile, resolve
from ipcwarden.core.spec import MSGQUEUE, TABLE
from ipcwarden.core.sysctls import FILES, SEM_FIELDS, range_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Amount
    from ipcwarden.core.spec import Request

PROC_SYS = "/proc/sys"
SECCOMP = "linux.seccomp"
_RMID_FORCED = "kernel.shm_rmid_forced"
_UNLIMITED = (1 << 64) - 1  # RLIM_INFINITY; -1, as some write it, is the same 64 bits


@value
class Limit:
    """What one of `sysctls.NAMES` shall be, and why: request, default, set, bound, kernel or in_force."""

    name: str
    requested: str | None
    wanted: int
    why: str


@value
class Violation:
    """What policy refuses.

    `kind` is bound, set, malformed, unlisted, owner (not what is in force in the namespace that it joins), host_ipc,
    writable_proc_sys, nested_ipc or rlimit.
    """

    name: str
    requested: str | None
    min: int | None
    max: int | None
    kind: str


@value
class Rlimit:
    """What RLIMIT_MSGQUEUE shall be at most, in bytes, soft and hard; `requested` is the larger of the two."""

    requested: int | None
    wanted: int


@value
class Ways:
    """What else a container asks for: RLIMIT_MSGQUEUE (soft, hard), and whether it lets /proc/sys be written.

    `filter` is `seccomp.looseness` where the profile denies its processes IPC namespaces of their own, `native` tells
    whether a native door is there, which should have seen to that.
    """

    msgqueue: tuple[int, int] | None = None
    proc_sys_writable: bool = False
    filter: str = ""
    native: bool = False


@value
class Plan:
    """The decision on one container: accepted, clamped or refused.  `msgqueue` is None where policy leaves it alone."""

    decision: str
    limits: tuple[Limit, ...]
    violations: tuple[Violation, ...]
    msgqueue: Rlimit | None = None

    def wanted(self) -> dict[str, int]:
        """Return the wanted values by name."""
        return {limit.name: limit.wanted for limit in self.limits}


def decide(
    profile: Profile,
    request: Request,
    kernel: dict[str, int],
    memory: Memory,
    in_force: dict[str, int] | None = None,
    ways: Ways | None = None,
) -> Plan:
    """Decide on one container.

    `kernel` has a fresh namespace's values; `in_force` those of the shared namespace that the container joins, which
    stay as they are whatever it asks for, unless its profile lets it widen them.
    """
    ways = ways or Ways()
    limits: list[Limit] = []
    violations = [Violation(name, text, None, None, "malformed") for name, text in request.malformed]
    rlimit, refused = _judge_ways(profile, ways)
    violations += refused
    for file, names in FILES.items():
        raw = request.raw.get(file)
        for name in names:
            asked = request.numbers.get(name)
            written = raw if asked is None else str(asked)  # of kernel.sem, the field alone
            if in_force is None:
                limit, violation = _decide_own(name, written, asked, profile, kernel, memory)
            elif profile.shared == "widen" and _can_widen(name, profile, in_force[name]):
                limit, violation = _decide_widened(name, written, asked, profile, kernel, memory, in_force[name])
            else:
                limit, violation = _decide_joined(name, written, asked, profile, kernel, memory, in_force[name])
            limits += [limit] if limit else []
            violations += [violation] if violation else []
    return _conclude(profile, ways, limits, violations, rlimit)


def decide_on_host(profile: Profile, ways: Ways) -> Plan:
    """Decide on a container in the host's IPC namespace, whose limits nobody changes: on all but the limits.

    Its /proc/sys has the host's, and RLIMIT_MSGQUEUE counts in all namespaces together.
    """
    violations = [Violation("ipc", "host", None, None, "host_ipc")] if profile.host_ipc == "refuse" else []
    rlimit, refused = _judge_ways(profile, ways)
    return _conclude(profile, ways, [], violations + refused, rlimit)


def _judge_ways(profile: Profile, ways: Ways) -> tuple[Rlimit | None, list[Violation]]:
    rlimit, refused = _decide_msgqueue(profile, ways.msgqueue)
    violations = [refused] if refused else []
    if ways.proc_sys_writable and profile.writable_proc_sys == "refuse":
        violations.append(Violation(PROC_SYS, None, None, None, "writable_proc_sys"))
    return rlimit, violations


# What is malformed is never guessed, so it is never clamped either; and no value holds that can be written.
_NEVER_CLAMPED = ("malformed", "writable_proc_sys", "host_ipc")


def _conclude(
    profile: Profile, ways: Ways, limits: list[Limit], violations: list[Violation], rlimit: Rlimit | None
) -> Plan:
    decision = _verdict(profile, violations)
    # A native door hands on what is refused for something else as it was asked for: the filter is no news then.
    if ways.filter and ways.native and decision != "refused":
        violations = [*violations, Violation(SECCOMP, None, None, None, "nested_ipc")]
        # A filter that nobody can narrow is the container's own; one that has not been may be our own failure.
        decision = "refused" if ways.filter == "rigid" else _verdict(profile, violations)
    return Plan(decision, tuple(limits), tuple(violations), rlimit)


def _verdict(profile: Profile, violations: list[Violation]) -> str:
    if not violations:
        return "accepted"
    final = profile.on_violation == "refuse" or any(each.kind in _NEVER_CLAMPED for each in violations)
    return "refused" if final else "clamped"


def _decide_msgqueue(profile: Profile, asked: tuple[int, int] | None) -> tuple[Rlimit | None, Violation | None]:
    most = profile.msgqueue
    if most is None:
        return None, None
    if asked is None:
        return Rlimit(None, most), None
    number = max(each & _UNLIMITED for each in asked)
    violation = Violation(MSGQUEUE, str(number), None, most, "rlimit") if number > most else None
    return Rlimit(number, min(number, most)), violation


def _bounds(
    name: str, profile: Profile, kernel: dict[str, int], memory: Memory
) -> tuple[int | None, int | None, int | None, int | None]:
    def number(amount: Amount | None) -> int | None:
        return None if amount is None else resolve(amount, name, kernel, memory)

    exact, least, default, most = map(number, profile.sysctls[name])
    if least is not None and most is not None and least > most:
        least = most  # only amounts that hang on memory can cross; the ceiling is what protects the host
    return exact, least, default, most


def _outside(number: int, least: int | None, most: int | None) -> bool:
    return (least is not None and number < least) or (most is not None and number > most)


def _decide_own(
    name: str,
    raw: str | None,
    asked: int | None,
    profile: Profile,
    kernel: dict[str, int],
    memory: Memory,
    held: int | None = None,
) -> tuple[Limit | None, Violation | None]:
    floor, ceiling = range_of(name, memory.ipcmni_extend)
    if asked is not None and _outside(asked, floor, ceiling):
        # The kernel would refuse it; what policy gives without a request is decided, and the request is a violation.
        limit, _ = _decide_own(name, None, None, profile, kernel, memory, held)
        return limit and Limit(name, raw, limit.wanted, limit.why), Violation(name, raw, floor, ceiling, "bound")
    if name not in profile.sysctls:
        # Who sets one field of kernel.sem has to write all four, a native door too: what stays as it is, is not asked.
        untouched = name in SEM_FIELDS and asked == kernel[name]
        if profile.unlisted == "refuse" and asked is not None and not untouched:
            return Limit(name, raw, kernel[name], "kernel"), Violation(name, raw, None, None, "unlisted")
        return (None if asked is None else Limit(name, raw, asked, "request")), None
    exact, least, default, most = _bounds(name, profile, kernel, memory)
    if exact is not None:
        refused = asked is not None and asked != exact
        return Limit(name, raw, exact, "set"), Violation(name, raw, exact, exact, "set") if refused else None
    base, why = kernel[name] if held is None else held, "kernel"
    if asked is not None:
        base, why = asked, "request"
    elif default is not None:
        base, why = default, "default"
    wanted = base if least is None else max(base, least)
    wanted = wanted if most is None else min(wanted, most)
    refused = asked is not None and wanted != asked
    violation = Violation(name, raw, least, most, "bound") if refused else None
    return Limit(name, raw, wanted, why if wanted == base else "bound"), violation


def _decide_joined(
    name: str,
    raw: str | None,
    asked: int | None,
    profile: Profile,
    kernel: dict[str, int],
    memory: Memory,
    held: int,
) -> tuple[Limit, Violation | None]:
    if asked is not None and asked != held:
        return Limit(name, raw, held, "in_force"), Violation(name, raw, held, held, "owner")
    return _decide_held(name, raw, profile, kernel, memory, held)


def _decide_held(
    name: str, raw: str | None, profile: Profile, kernel: dict[str, int], memory: Memory, held: int
) -> tuple[Limit, Violation | None]:
    """Leave what is in force, and check it against the joiner's own bounds."""
    limit = Limit(name, raw, held, "in_force")
    if name in profile.sysctls:
        exact, least, _, most = _bounds(name, profile, kernel, memory)
        if exact is not None and held != exact:
            return limit, Violation(name, str(held), exact, exact, "set")
        if _outside(held, least, most):
            return limit, Violation(name, str(held), least, most, "bound")
    return limit, None


def _can_widen(name: str, profile: Profile, held: int) -> bool:
    # Only what the profile speaks of, or anything could be had; shm_rmid_forced is no amount, and setting it destroys
    # what others have not attached (proc_sys_kernel(5)); below 0 there is no limit at all.
    return name in profile.sysctls and name != _RMID_FORCED and held >= 0


def _decide_widened(
    name: str, raw: str | None, asked: int | None, profile: Profile, kernel: dict[str, int], memory: Memory, held: int
) -> tuple[Limit, Violation | None]:
    """Give a joiner what its own profile does where that is more than is in force, and never less than that.

    Who asks for nothing, and has no default, has no use for a fresh namespace's value: what is in force will do.
    """
    own, violation = _decide_own(name, raw, asked, profile, kernel, memory, held)
    if own is not None and exceeds(name, own.wanted, held):
        return own, violation
    if violation is not None:
        return Limit(name, raw, held, "in_force"), violation
    return _decide_held(name, raw, profile, kernel, memory, held)


def raised(limits: dict[str, int], widened: dict[str, int]) -> dict[str, int]:
    """Return limits with those of them that have been widened since."""
    return {
        name: widened[name] if name in widened and exceeds(name, widened[name], number) else number
        for name, number in limits.items()
    }


def exceeds(name: str, found: int, wanted: int) -> bool:
    """Tell whether a value found lets a container have more than is wanted."""
    if found < 0:
        return found != wanted  # queues_max and SEMOPM: no limit at all
    return found != wanted if name == _RMID_FORCED else found > wanted


def sentence(violations: tuple[Violation, ...]) -> str:
    """Return all violations as one clause: what is asked for, and what policy allows."""
    return "; ".join(map(_clause, violations))


def _clause(violation: Violation) -> str:
    asked = f"{violation.name}={violation.requested}" if violation.requested is not None else violation.name
    if violation.name == TABLE:
        return f"{TABLE} stands there twice or as {violation.requested!r}, which runtimes read differently"
    if violation.kind == "malformed":
        return f"{violation.name}={violation.requested!r} is not in canonical decimal"
    if violation.kind == "unlisted":
        return f"{asked} is not listed in the profile"
    if violation.kind == "owner":
        return f"{asked} differs from {violation.min}, which is in force in the namespace it joins"
    if violation.kind == "host_ipc":
        return "the host's IPC namespace is not for containers"
    if violation.kind == "writable_proc_sys":
        return f"{PROC_SYS} can be written in the container, and so its own limits"
    if violation.kind == "nested_ipc":
        return f"{SECCOMP} lets processes make IPC namespaces with limits of their own, and has not been narrowed"
    if violation.kind == "set":
        return f"{asked} is fixed at {violation.min}"
    low, high = violation.min, violation.max
    allowed = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
    return f"{asked} is outside what is allowed, {allowed}"
