"""The decision: what every governed sysctl of one container shall be, and what of its request policy refuses."""

from __future__ import annotations

from ipcwarden.core.policy import Memory, Profile, resolve
from ipcwarden.core.spec import TABLE
from ipcwarden.core.sysctls import FILES, range_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Amount
    from ipcwarden.core.spec import Request


@value
class Limit:
    """What one of `sysctls.NAMES` shall be, and why: request, default, set, bound, kernel or in_force."""

    name: str
    requested: str | None
    wanted: int
    why: str


@value
class Violation:
    """What policy refuses: `kind` is bound, set, malformed, unlisted, owner or host_ipc."""

    name: str
    requested: str | None
    min: int | None
    max: int | None
    kind: str


@value
class Plan:
    """The decision on one container: accepted, clamped or refused."""

    decision: str
    limits: tuple[Limit, ...]
    violations: tuple[Violation, ...]

    def wanted(self) -> dict[str, int]:
        """Return the wanted values by name."""
        return {limit.name: limit.wanted for limit in self.limits}


def decide(
    profile: Profile,
    request: Request,
    kernel: dict[str, int],
    memory: Memory,
    in_force: dict[str, int] | None = None,
) -> Plan:
    """Decide on one container.

    `kernel` has a fresh namespace's values; `in_force` those of the shared namespace that the container joins, which
    stay as they are whatever it asks for.
    """
    limits: list[Limit] = []
    violations = [Violation(name, text, None, None, "malformed") for name, text in request.malformed]
    for file, names in FILES.items():
        raw = request.raw.get(file)
        for name in names:
            asked = request.numbers.get(name)
            written = raw if asked is None else str(asked)  # of kernel.sem, the field alone
            if in_force is None:
                limit, violation = _decide_own(name, written, asked, profile, kernel, memory)
            else:
                limit, violation = _decide_joined(name, written, asked, profile, kernel, memory, in_force[name])
            limits += [limit] if limit else []
            violations += [violation] if violation else []
    if not violations:
        decision = "accepted"
    elif profile.on_violation == "refuse" or request.malformed:
        decision = "refused"  # what is malformed is never guessed, so it is never clamped either
    else:
        decision = "clamped"
    return Plan(decision, tuple(limits), tuple(violations))


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
    name: str, raw: str | None, asked: int | None, profile: Profile, kernel: dict[str, int], memory: Memory
) -> tuple[Limit | None, Violation | None]:
    floor, ceiling = range_of(name, memory.ipcmni_extend)
    if asked is not None and _outside(asked, floor, ceiling):
        # The kernel would refuse it; what policy gives without a request is decided, and the request is a violation.
        limit, _ = _decide_own(name, None, None, profile, kernel, memory)
        return limit and Limit(name, raw, limit.wanted, limit.why), Violation(name, raw, floor, ceiling, "bound")
    if name not in profile.sysctls:
        if profile.unlisted == "refuse" and asked is not None:
            return Limit(name, raw, kernel[name], "kernel"), Violation(name, raw, None, None, "unlisted")
        return (None if asked is None else Limit(name, raw, asked, "request")), None
    exact, least, default, most = _bounds(name, profile, kernel, memory)
    if exact is not None:
        refused = asked is not None and asked != exact
        return Limit(name, raw, exact, "set"), Violation(name, raw, exact, exact, "set") if refused else None
    base, why = kernel[name], "kernel"
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
    limit = Limit(name, raw, held, "in_force")
    if asked is not None and asked != held:
        return limit, Violation(name, raw, held, held, "owner")
    if name in profile.sysctls:
        exact, least, _, most = _bounds(name, profile, kernel, memory)
        if exact is not None and held != exact:
            return limit, Violation(name, str(held), exact, exact, "set")
        if _outside(held, least, most):
            return limit, Violation(name, str(held), least, most, "bound")
    return limit, None


def exceeds(name: str, found: int, wanted: int) -> bool:
    """Tell whether a value found lets a container have more than is wanted."""
    if found < 0:
        return found != wanted  # queues_max and SEMOPM: no limit at all
    return found != wanted if name == "kernel.shm_rmid_forced" else found > wanted


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
    if violation.kind == "set":
        return f"{asked} is fixed at {violation.min}"
    low, high = violation.min, violation.max
    allowed = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
    return f"{asked} is outside what is allowed, {allowed}"
