"""What the kernel accepts and what then never works: limits that contradict each other."""

from __future__ import annotations

from ipcwarden.compiler.amounts import RLIMIT_MSGQUEUE
from ipcwarden.compiler.profiles import Resolved, constant
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.compiler.amounts import Machine
    from ipcwarden.compiler.findings import Report
    from ipcwarden.compiler.sysctls import Bound

# The smaller one first: what is wrong where it is the greater.
_PAIRS = (
    ("kernel.msgmax", "kernel.msgmnb", "a message longer than a queue can hold is never sent"),
    ("kernel.sem.semmsl", "kernel.sem.semmns", "one array can never be that large"),
    ("kernel.sem.semmni", "kernel.sem.semmns", "there can never be that many arrays"),
    ("fs.mqueue.msg_default", "fs.mqueue.msg_max", "the kernel silently takes the smaller one"),
    ("fs.mqueue.msgsize_default", "fs.mqueue.msgsize_max", "the kernel silently takes the smaller one"),
)
_ZERO = {
    "kernel.shmall": "no shared memory segment can be created at all",
    "kernel.shmmax": "no shared memory segment can be created at all",
    "kernel.shmmni": "no shared memory segment can be created at all",
    "kernel.sem.semmsl": "no semaphore can be created at all",
    "kernel.sem.semmns": "no semaphore can be created at all",
    "kernel.sem.semmni": "no semaphore can be created at all",
    "kernel.sem.semopm": "semaphores can be created, but never used",
    "kernel.msgmni": "no message queue can be created at all",
    "kernel.msgmnb": "message queues can be created, but nothing can be sent",
    "fs.mqueue.queues_max": "no POSIX message queue can be created at all",
}
_MEANT = "if that is meant, this warning is the price"


@value
class _Given:
    """What a container that requests nothing gets, and whether the profile says so in as many words."""

    number: int
    text: str
    said: bool


def check(profile: Resolved, machine: Machine, report: Report) -> None:
    """Warn of what contradicts itself in a profile, where this very profile has a part in it."""
    for low, high, effect in _PAIRS:
        less, more = _given(profile, low, machine), _given(profile, high, machine)
        if less and more and less.number > more.number and (less.said or more.said):
            _warn(profile, (low, high), f"{low} {less.text} is above {high} {more.text}: {effect}", report)
    _check_segment(profile, machine, report)
    _check_queue(profile, machine, report)
    for name, effect in _ZERO.items():
        for key in ("set", "max"):
            bound = profile.sysctls.get(name, {}).get(key)
            if bound and bound.amount == 0 and bound.profile == profile.name:
                report.warning(bound.at, f"{name} 0: {effect}", _MEANT)
    if profile.msgqueue and profile.msgqueue.amount == 0 and profile.msgqueue.profile == profile.name:
        report.warning(profile.msgqueue.at, "msgqueue 0: no POSIX message queue can be created at all", _MEANT)


def _check_segment(profile: Resolved, machine: Machine, report: Report) -> None:
    segment, whole = _given(profile, "kernel.shmmax", machine), _given(profile, "kernel.shmall", machine)
    # The kernel's own shmmax is no limit, and is meant as none.
    if segment and whole and segment.said and segment.number != machine.kernel["kernel.shmmax"]:
        most = whole.number * machine.page
        if segment.number > most:
            names = ("kernel.shmmax", "kernel.shmall")
            message = f"kernel.shmmax {segment.text} is above kernel.shmall {whole.text}, which is {most} bytes"
            _warn(profile, names, f"{message}: a segment of that size can never be created", report)


def _check_queue(profile: Resolved, machine: Machine, report: Report) -> None:
    names = ("fs.mqueue.msg_max", "fs.mqueue.msgsize_max")
    count, size = (_given(profile, name, machine) for name in names)
    limit, whose = RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE's default"
    if profile.msgqueue and isinstance(profile.msgqueue.amount, int):
        limit, whose = profile.msgqueue.amount, "the profile's rlimits.msgqueue"
    if count and size and (count.said or size.said) and count.number * size.number > limit:
        message = f"{names[0]} {count.text} times {names[1]} {size.text} is {count.number * size.number} bytes"
        effect = f"a queue of that size needs more than the {limit} bytes of {whose}"
        hint = "lower one of them, or raise rlimits.msgqueue"
        _warn(profile, names, f"{message}: {effect}", report, hint, profile.msgqueue)


def _warn(
    profile: Resolved,
    names: tuple[str, str],
    message: str,
    report: Report,
    hint: str = "set both, or leave both to the kernel",
    third: Bound | None = None,
) -> None:
    bounds = [(key, b) for name in names for key, b in profile.sysctls.get(name, {}).items()]
    bounds += [("rlimit", third)] if third else []
    own = [(key, bound) for key, bound in bounds if bound.profile == profile.name]
    if own:  # else it was told where it was written
        report.warning(_telling(own).at, message, hint)


def _telling(own: list[tuple[str, Bound]]) -> Bound:
    return next((bound for key, bound in own if key in ("set", "default")), own[0][1])


def _given(profile: Resolved, name: str, machine: Machine) -> _Given | None:
    """Return what is in force where nothing is requested; None where that takes a container's memory to know."""
    bounds = profile.sysctls.get(name, {})
    said = bounds.get("set") or bounds.get("default")
    if said:
        number = constant(said, name, machine)
        return None if number is None else _Given(number, _both(said.text, number), True)
    number = machine.kernel[name]
    for key, choose in (("min", max), ("max", min)):
        if key in bounds:
            limit = constant(bounds[key], name, machine)
            if limit is None:
                return None
            number = choose(number, limit)
    return _Given(number, str(number), False)


def _both(text: str, number: int) -> str:
    return f"{number} ({text})" if text == "kernel" else text
