"""The decision table: what is wanted, why, and what of a request is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.plan import Limit, Plan, Rlimit, Violation, Ways, decide, decide_on_host, exceeds, raised, sentence
from ipcwarden.core.policy import Memory, Profile
from ipcwarden.core.spec import Request, parse_spec
from ipcwarden.core.sysctls import FILES, KERNEL_DEFAULTS, NAMES, SEM_FIELDS, range_of
from ipcwarden.errors import PolicyViolation

if TYPE_CHECKING:
    from ipcwarden.core.policy import Amount, Bounds

NAME = "kernel.msgmax"
KERNEL = KERNEL_DEFAULTS[NAME]  # 8192
INT_MAX = 2147483647
MEMORY = Memory(limit=1 << 30, host=8 << 30, page=4096)


def asking(**sysctls: str) -> Request:
    """Return the request of a config.json; `__` stands for the dot."""
    table = {name.replace("__", "."): text for name, text in sysctls.items()}
    return parse_spec(json.dumps({"linux": {"sysctl": table}}).encode()).request


def profile(
    bounds: Bounds | None = None, name: str = NAME, on_violation: str = "refuse", unlisted: str = "allow"
) -> Profile:
    """Return a profile with one rule, or none."""
    return Profile("p", {} if bounds is None else {name: bounds}, on_violation=on_violation, unlisted=unlisted)


def decided(profile: Profile, request: Request, in_force: dict[str, int] | None = None) -> Plan:
    """Decide on a machine that has the kernel's values."""
    return decide(profile, request, KERNEL_DEFAULTS, MEMORY, in_force)


@pytest.mark.parametrize(
    ("bounds", "asked", "wanted", "why", "violation"),
    [
        # set: this and nothing else
        ((4, None, None, None), None, 4, "set", None),
        ((4, None, None, None), "4", 4, "set", None),
        ((4, None, None, None), "5", 4, "set", (4, 4, "set")),
        ((4, None, None, None), "3", 4, "set", (4, 4, "set")),
        ((0, None, None, None), "1", 0, "set", (0, 0, "set")),
        (("kernel", None, None, None), None, KERNEL, "set", None),
        # nothing asked: the default, else the kernel's value, moved into the bounds
        ((None, None, 4, None), None, 4, "default", None),
        ((None, 2, 4, 6), None, 4, "default", None),
        ((None, None, "kernel", None), None, KERNEL, "default", None),
        ((None, None, 0, None), None, 0, "default", None),
        ((None, 2, None, None), None, KERNEL, "kernel", None),
        ((None, None, None, 9000), None, KERNEL, "kernel", None),
        ((None, None, None, 4), None, 4, "bound", None),
        ((None, 9000, None, None), None, 9000, "bound", None),
        ((None, None, None, 0), None, 0, "bound", None),
        # asked: the request, moved into the bounds, and only then a violation
        ((None, 2, 4, 6), "2", 2, "request", None),
        ((None, 2, 4, 6), "6", 6, "request", None),
        ((None, 2, 4, 6), "1", 2, "bound", (2, 6, "bound")),
        ((None, 2, 4, 6), "7", 6, "bound", (2, 6, "bound")),
        ((None, None, 4, None), "99999", 99999, "request", None),
        ((None, None, None, 6), "7", 6, "bound", (None, 6, "bound")),
        ((None, 2, None, None), "1", 2, "bound", (2, None, "bound")),
        ((None, 2, None, None), "0", 2, "bound", (2, None, "bound")),
        # beyond what the kernel takes: what the policy gives without the request, and a violation with its range
        ((None, None, None, 6), "18446744073709551616", 6, "bound", (0, INT_MAX, "bound")),
        ((None, 2, 4, 6), "2147483648", 4, "default", (0, INT_MAX, "bound")),
        ((None, 2, None, None), "2147483648", KERNEL, "kernel", (0, INT_MAX, "bound")),
        ((4, None, None, None), "2147483648", 4, "set", (0, INT_MAX, "bound")),
        ((None, 2, None, None), "2147483647", INT_MAX, "request", None),
        ((None, "kernel", None, None), "1", KERNEL, "bound", (KERNEL, None, "bound")),
        # per memory: 10 per GiB of the container's 1 GiB
        ((None, None, None, ("per_gib", 10)), "11", 10, "bound", (None, 10, "bound")),
        ((None, None, None, ("per_gib", 10)), "10", 10, "request", None),
    ],
)
def test_decides_by_the_rule(
    bounds: Bounds,
    asked: str | None,
    wanted: int,
    why: str,
    violation: tuple[int | None, int | None, str] | None,
) -> None:
    """Each kind of rule meets each kind of request."""
    plan = decided(profile(bounds), asking(**({"kernel__msgmax": asked} if asked else {})))
    assert plan.limits == (Limit(NAME, asked, wanted, why),)
    assert plan.violations == ((Violation(NAME, asked, *violation),) if violation else ())


@pytest.mark.parametrize(
    ("unlisted", "asked", "limits", "kinds"),
    [
        ("allow", None, (), []),
        ("allow", "5", (Limit(NAME, "5", 5, "request"),), []),
        ("refuse", None, (), []),
        ("refuse", "5", (Limit(NAME, "5", KERNEL, "kernel"),), ["unlisted"]),
        ("refuse", str(KERNEL), (Limit(NAME, str(KERNEL), KERNEL, "kernel"),), ["unlisted"]),
        ("allow", "2147483648", (), ["bound"]),
        ("refuse", "2147483648", (), ["bound"]),
    ],
)
def test_decides_without_a_rule(unlisted: str, asked: str | None, limits: tuple[Limit, ...], kinds: list[str]) -> None:
    """A governed name without a rule is the runtime's business, or may not be asked for at all."""
    plan = decided(profile(unlisted=unlisted), asking(**({"kernel__msgmax": asked} if asked else {})))
    assert (plan.limits, [each.kind for each in plan.violations]) == (limits, kinds)


@pytest.mark.parametrize(
    ("on_violation", "asked", "decision"),
    [
        ("refuse", "5", "accepted"),
        ("clamp", "5", "accepted"),
        ("refuse", "7", "refused"),
        ("clamp", "7", "clamped"),
        ("refuse", "0x5", "refused"),
        ("clamp", "0x5", "refused"),
        ("clamp", "07", "refused"),
    ],
)
@pytest.mark.parametrize("in_force", [None, {**KERNEL_DEFAULTS, NAME: 5}])
def test_clamps_only_where_policy_says_so(
    on_violation: str, asked: str, decision: str, in_force: dict[str, int] | None
) -> None:
    """A violation is refused, or clamped where the profile says so; what is malformed is never clamped."""
    plan = decided(profile((None, None, None, 6), on_violation=on_violation), asking(kernel__msgmax=asked), in_force)
    assert plan.decision == decision


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", [None, (None, None, "kernel", None)])
def test_refuses_what_the_kernel_would_refuse(name: str, rule: Bounds | None) -> None:
    """A number beyond the kernel's own range is a violation of the container's, whether a rule names it or not."""
    low, high = range_of(name)
    (file,) = (file for file, names in FILES.items() if name in names)

    def asked(number: int) -> Plan:
        return decided(profile(rule, name), Request({file: str(number)}, {name: number}))

    for number in (low, high):
        assert asked(number) == Plan("accepted", (Limit(name, str(number), number, "request"),), ())
    for number in (low - 1, high + 1):
        limits = (Limit(name, str(number), KERNEL_DEFAULTS[name], "default"),) if rule else ()
        assert asked(number) == Plan("refused", limits, (Violation(name, str(number), low, high, "bound"),))


def test_clamps_what_the_kernel_would_refuse() -> None:
    """Under clamp the container starts with what it would have got without asking."""
    rules = profile((None, 2, 4, 6), "fs.mqueue.msg_max", on_violation="clamp")
    plan = decided(rules, asking(fs__mqueue__msg_max="0"))
    assert (plan.decision, plan.wanted()) == ("clamped", {"fs.mqueue.msg_max": 4})
    assert sentence(plan.violations) == "fs.mqueue.msg_max=0 is outside what is allowed, 1 to 65536"


def test_applies_the_default_where_the_request_is_malformed() -> None:
    """What nobody can read is no base of what is wanted, but the record tells it."""
    plan = decided(profile((None, None, 4, 6)), asking(kernel__msgmax="0x5"))
    assert plan.limits == (Limit(NAME, "0x5", 4, "default"),)
    assert plan.violations == (Violation(NAME, "0x5", None, None, "malformed"),)


def test_refuses_the_malformed_without_a_rule() -> None:
    """What is malformed is refused even where the name itself is nobody's business."""
    plan = decided(profile(), asking(kernel__msgmax="0x5"))
    assert plan == Plan("refused", (), (Violation(NAME, "0x5", None, None, "malformed"),))


def test_refuses_a_second_spelling() -> None:
    """A table that only some runtimes obey is refused as it stands, whatever the profile does with violations."""
    request = parse_spec(b'{"Linux":{"Sysctl":{"net.core.somaxconn":"5","kernel.msgmax":"5"}}}').request
    plan = decided(profile((None, None, 4, 6), on_violation="clamp"), request)
    assert (plan.decision, plan.limits) == ("refused", (Limit(NAME, "5", 4, "default"),))
    assert [(each.name, each.kind) for each in plan.violations] == [("linux.sysctl", "malformed")]
    assert sentence(plan.violations) == (
        "linux.sysctl stands there twice or as 'Linux.Sysctl', which runtimes read differently"
    )


def test_judges_sem_by_field() -> None:
    """A rule for one field of kernel.sem leaves the others to the request."""
    rules = profile((None, None, None, 100), name="kernel.sem.semmni")
    plan = decided(rules, asking(kernel__sem="250 32000 100 128"))
    assert plan.wanted() == dict(zip(SEM_FIELDS, (250, 32000, 100, 100), strict=True))
    assert plan.violations == (Violation("kernel.sem.semmni", "128", None, 100, "bound"),)


def test_tells_each_field_of_sem_apart() -> None:
    """A field's request is that field's number, not the whole text."""
    plan = decided(profile(), asking(kernel__sem="250 32000 100 128"))
    assert [limit.requested for limit in plan.limits] == ["250", "32000", "100", "128"]


def test_knows_no_field_of_a_malformed_sem() -> None:
    """One odd field spoils all four: the rule's own value is wanted, and the whole text is told."""
    plan = decided(profile((None, None, 7, None), name="kernel.sem.semopm"), asking(kernel__sem="1 2 3 0x4"))
    assert plan.limits == (Limit("kernel.sem.semopm", "1 2 3 0x4", 7, "default"),)
    assert plan.violations == (Violation("kernel.sem", "1 2 3 0x4", None, None, "malformed"),)


def test_lists_all_violations() -> None:
    """One decision tells everything that is wrong, in the order in which limits are written."""
    rules = Profile(
        "p",
        {
            NAME: (4, None, None, None),
            "kernel.shmmax": (None, None, None, 6),
            "kernel.sem.semmsl": (None, 9, None, None),
        },
        unlisted="refuse",
    )
    request = asking(kernel__msgmax="5", kernel__shmmax="7", kernel__sem="8 0 0 0", kernel__msgmni="x")
    assert [(each.name, each.kind) for each in decided(rules, request).violations] == [
        ("kernel.msgmni", "malformed"),
        ("kernel.shmmax", "bound"),
        ("kernel.sem.semmsl", "bound"),
        ("kernel.sem.semmns", "unlisted"),
        ("kernel.sem.semopm", "unlisted"),
        ("kernel.sem.semmni", "unlisted"),
        (NAME, "set"),
    ]


def test_keeps_the_ceiling_where_bounds_cross() -> None:
    """Where a floor outgrows a ceiling, on a machine of another size, the ceiling counts: it protects the host."""
    plan = decided(profile((None, 20, None, ("per_gib", 10))), asking(kernel__msgmax="15"))
    assert plan.wanted() == {NAME: 10}
    assert plan.violations == (Violation(NAME, "15", 10, 10, "bound"),)


@pytest.mark.parametrize(
    ("bounds", "held", "asked", "violation"),
    [
        (None, 5, None, None),
        (None, 5, "5", None),
        (None, 5, "6", ("6", 5, 5, "owner")),
        (None, 5, "4", ("4", 5, 5, "owner")),
        ((5, None, None, None), 5, "5", None),
        ((5, None, None, None), 5, "6", ("6", 5, 5, "owner")),
        ((4, None, None, None), 5, None, ("5", 4, 4, "set")),
        ((4, None, None, None), 5, "5", ("5", 4, 4, "set")),
        ((None, None, None, 6), 5, None, None),
        ((None, None, None, 6), 5, "6", ("6", 5, 5, "owner")),
        ((None, None, None, 6), 6, None, None),
        ((None, None, None, 4), 5, None, ("5", None, 4, "bound")),
        ((None, None, None, 4), 5, "5", ("5", None, 4, "bound")),
        ((None, 6, None, None), 5, None, ("5", 6, None, "bound")),
        ((None, 5, None, None), 5, None, None),
        ((None, 6, None, 9), 10, None, ("10", 6, 9, "bound")),
        ((None, None, 9, None), 5, None, None),
    ],
)
@pytest.mark.parametrize("on_violation", ["refuse", "clamp"])
def test_changes_nothing_that_others_live_with(
    bounds: Bounds | None,
    held: int,
    asked: str | None,
    violation: tuple[str, int | None, int | None, str] | None,
    on_violation: str,
) -> None:
    """A joiner gets what is in force, whatever its rule and its request say; both are only checked against it."""
    request = asking(**({"kernel__msgmax": asked} if asked else {}))
    plan = decided(profile(bounds, on_violation=on_violation), request, {**KERNEL_DEFAULTS, NAME: held})
    assert plan.wanted() == {**KERNEL_DEFAULTS, NAME: held}
    assert {limit.why for limit in plan.limits} == {"in_force"}
    assert plan.violations == ((Violation(NAME, *violation),) if violation else ())


@pytest.mark.parametrize(
    ("bounds", "held", "asked", "wanted", "why", "violation"),
    [
        # more than is in force: what the joiner's own rule gives
        ((None, None, None, 9), 5, "7", 7, "request", None),
        ((None, None, None, 9), 5, "10", 9, "bound", (None, 9, "bound")),
        ((None, None, 8, 9), 5, None, 8, "default", None),
        ((8, None, None, None), 5, None, 8, "set", None),
        ((None, 8, None, None), 5, None, 8, "bound", None),
        ((None, None, "kernel", None), 5, None, KERNEL, "default", None),
        # no more than that, or nothing asked for: what is in force stays
        ((None, None, None, 9), 5, None, 5, "in_force", None),
        ((None, None, None, "kernel"), 5, None, 5, "in_force", None),
        ((None, None, None, 9), 5, "4", 5, "in_force", None),
        ((None, None, None, 9), 5, "5", 5, "in_force", None),
        ((None, None, 4, 9), 5, None, 5, "in_force", None),
        ((None, None, None, 4), 5, "7", 5, "in_force", (None, 4, "bound")),
        ((None, None, None, 9), 5, "2147483648", 5, "in_force", (0, INT_MAX, "bound")),
        # what is in force is beyond the joiner's own bounds
        ((None, None, None, 4), 5, None, 5, "in_force", ("5", None, 4, "bound")),
        ((None, None, None, 4), 5, "3", 5, "in_force", ("5", None, 4, "bound")),
        ((4, None, None, None), 5, None, 5, "in_force", ("5", 4, 4, "set")),
        # of what the profile does not speak, nothing is allowed
        (None, 5, "7", 5, "in_force", ("7", 5, 5, "owner")),
    ],
)
def test_widens_what_others_live_with(
    bounds: Bounds | None,
    held: int,
    asked: str | None,
    wanted: int,
    why: str,
    violation: tuple[object, ...] | None,
) -> None:
    """Where its profile widens, a joiner gets what that allows if it is more than is in force, and never less."""
    rules = Profile("p", {} if bounds is None else {NAME: bounds}, shared="widen")
    plan = decided(rules, asking(**({"kernel__msgmax": asked} if asked else {})), {**KERNEL_DEFAULTS, NAME: held})
    assert plan.limits[NAMES.index(NAME)] == Limit(NAME, asked, wanted, why)
    assert plan.wanted() == {**KERNEL_DEFAULTS, NAME: wanted}
    told = violation if violation is None or len(violation) == 4 else (asked, *violation)
    assert [tuple(each.__dict__.values()) for each in plan.violations] == ([(NAME, *told)] if told else [])


@pytest.mark.parametrize(
    ("name", "held", "asked"),
    [("kernel.shm_rmid_forced", 0, "1"), ("kernel.shm_rmid_forced", 1, "0"), ("fs.mqueue.queues_max", -1, "5")],
)
def test_widens_no_switch_and_nothing_unlimited(name: str, held: int, asked: str) -> None:
    """A switch is not wider either way, and no number is more than no limit."""
    rules = Profile("p", {name: (None, None, int(asked), None)}, shared="widen")
    plan = decided(rules, asking(**{name.replace(".", "__"): asked}), {**KERNEL_DEFAULTS, name: held})
    assert (plan.decision, plan.wanted()[name]) == ("refused", held)


def test_knows_what_has_been_widened() -> None:
    """What is in force is what the owner got, but for what has been widened since; nothing else is added."""
    owners = {NAME: 5, "kernel.msgmni": 7, "kernel.shmmni": 9}
    assert raised(owners, {NAME: 6, "kernel.msgmni": 6, "kernel.sem.semmni": 1}) == {**owners, NAME: 6}


@pytest.mark.parametrize(
    ("most", "asked", "rlimit", "violations"),
    [
        (None, None, None, ()),
        (None, (9, 9), None, ()),
        (5, None, Rlimit(None, 5), ()),
        (5, (3, 4), Rlimit(4, 4), ()),
        (5, (5, 5), Rlimit(5, 5), ()),
        (0, (0, 0), Rlimit(0, 0), ()),
        (5, (3, 6), Rlimit(6, 5), (Violation("RLIMIT_MSGQUEUE", "6", None, 5, "rlimit"),)),
        (5, (6, 3), Rlimit(6, 5), (Violation("RLIMIT_MSGQUEUE", "6", None, 5, "rlimit"),)),
        (5, (0, -1), Rlimit(2**64 - 1, 5), (Violation("RLIMIT_MSGQUEUE", str(2**64 - 1), None, 5, "rlimit"),)),
    ],
)
def test_judges_the_rlimit(
    most: int | None, asked: tuple[int, int] | None, rlimit: Rlimit | None, violations: tuple[Violation, ...]
) -> None:
    """RLIMIT_MSGQUEUE is what the profile says, or less if that is asked for; more is a violation, no limit too."""
    for on_violation, decision in (("refuse", "refused"), ("clamp", "clamped")):
        plan = decide(
            Profile("p", {}, on_violation=on_violation, msgqueue=most),
            asking(),
            KERNEL_DEFAULTS,
            MEMORY,
            ways=Ways(msgqueue=asked),
        )
        assert plan == Plan(decision if violations else "accepted", (), violations, rlimit)


@pytest.mark.parametrize("on_violation", ["refuse", "clamp"])
@pytest.mark.parametrize(("rule", "writable"), [("record", True), ("record", False), ("refuse", False)])
def test_accepts_what_cannot_write_proc_sys(on_violation: str, rule: str, writable: bool) -> None:
    """A /proc/sys that can be written is the record's business, unless the profile refuses it."""
    rules = Profile("p", {}, on_violation=on_violation, writable_proc_sys=rule)
    ways = Ways(proc_sys_writable=writable)
    assert decide(rules, asking(), KERNEL_DEFAULTS, MEMORY, ways=ways) == Plan("accepted", (), ())


@pytest.mark.parametrize("on_violation", ["refuse", "clamp"])
def test_refuses_a_writable_proc_sys(on_violation: str) -> None:
    """No clamped value holds where it can be written, so the container is refused even under clamp."""
    rules = Profile("p", {}, on_violation=on_violation, writable_proc_sys="refuse")
    plan = decide(rules, asking(), KERNEL_DEFAULTS, MEMORY, ways=Ways(proc_sys_writable=True))
    assert plan == Plan("refused", (), (Violation("/proc/sys", None, None, None, "writable_proc_sys"),))


NESTED = Violation("linux.seccomp", None, None, None, "nested_ipc")


@pytest.mark.parametrize(
    ("on_violation", "ways", "decision", "violations"),
    [
        ("refuse", Ways(filter="loose", native=True), "refused", (NESTED,)),
        ("clamp", Ways(filter="loose", native=True), "clamped", (NESTED,)),
        ("refuse", Ways(filter="rigid", native=True), "refused", (NESTED,)),
        ("clamp", Ways(filter="rigid", native=True), "refused", (NESTED,)),
        ("refuse", Ways(filter="rigid", native=False), "accepted", ()),
        ("refuse", Ways(filter="loose", native=False), "accepted", ()),
        ("refuse", Ways(filter="", native=True), "accepted", ()),
    ],
)
@pytest.mark.parametrize("on_host", [False, True])
def test_refuses_a_filter_that_should_be_narrow(
    on_violation: str, ways: Ways, decision: str, violations: tuple[Violation, ...], on_host: bool
) -> None:
    """Where a native door is there a loose filter is a violation; one that nobody can narrow is never clamped."""
    rules = Profile("p", {}, on_violation=on_violation, nested_ipc="deny")
    plan = decide_on_host(rules, ways) if on_host else decide(rules, asking(), KERNEL_DEFAULTS, MEMORY, ways=ways)
    assert plan == Plan(decision, (), violations)


def test_blames_no_filter_for_what_is_refused_anyway() -> None:
    """A native door hands on as it was asked for what policy refuses: its filter is no violation of the container's."""
    plan = decide(profile((4, None, None, None)), asking(kernel__msgmax="5"), KERNEL_DEFAULTS, MEMORY)
    ways = Ways(filter="loose", native=True)
    again = decide(profile((4, None, None, None)), asking(kernel__msgmax="5"), KERNEL_DEFAULTS, MEMORY, ways=ways)
    assert again == plan


def test_judges_all_but_the_limits_on_the_host() -> None:
    """In the host's namespace no limit is decided on; all else that policy refuses is refused there, too."""
    rules = Profile("p", {NAME: (4, None, None, None)}, msgqueue=5, writable_proc_sys="refuse", on_violation="clamp")
    rlimit = Violation("RLIMIT_MSGQUEUE", "6", None, 5, "rlimit")
    assert decide_on_host(rules, Ways()) == Plan("accepted", (), (), Rlimit(None, 5))
    assert decide_on_host(rules, Ways(msgqueue=(6, 6))) == Plan("clamped", (), (rlimit,), Rlimit(6, 5))
    writing = Violation("/proc/sys", None, None, None, "writable_proc_sys")
    assert decide_on_host(rules, Ways(proc_sys_writable=True)) == Plan("refused", (), (writing,), Rlimit(None, 5))


def test_refuses_the_hosts_namespace_whatever_is_clamped() -> None:
    """There is nothing that the host's namespace could be clamped to."""
    plan = decide_on_host(Profile("p", {}, host_ipc="refuse", on_violation="clamp"), Ways())
    assert plan == Plan("refused", (), (Violation("ipc", "host", None, None, "host_ipc"),))


AMOUNTS = st.integers(0, 2**64 - 1) | st.integers(0, 2 * INT_MAX)
REQUESTS = st.none() | AMOUNTS


@st.composite
def bounds_in_order(draw: st.DrawFn) -> Bounds:
    """Make bounds as the compiler lets them through: at least one, and in order."""
    least, default, most = sorted(draw(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS)))
    given: tuple[Amount | None, ...] = draw(
        st.sampled_from(
            [
                (least, None, most),
                (least, default, most),
                (None, default, most),
                (least, default, None),
                (None, default, None),
                (least, None, None),
                (None, None, most),
            ]
        )
    )
    return (None, *given)  # type: ignore[return-value]  # three of them


@given(bounds_in_order(), REQUESTS)
def test_wants_what_is_allowed_and_nearest_to_the_request(bounds: Bounds, asked: int | None) -> None:
    """What is wanted lies within the bounds, and is the request itself wherever that does and the kernel takes it."""
    plan = decided(profile(bounds), asking(**({} if asked is None else {"kernel__msgmax": str(asked)})))
    (limit,) = plan.limits
    _, least, default, most = (None if bound is None else int(bound) for bound in bounds)  # type: ignore[arg-type]
    low, high = 0 if least is None else least, 2**64 if most is None else most
    without = KERNEL if default is None else default
    base = asked if asked is not None and asked <= INT_MAX else without
    assert limit.wanted == sorted([low, base, high])[1]
    assert (plan.decision == "refused") is (asked is not None and not low <= asked <= min(high, INT_MAX))


@given(bounds_in_order() | st.none(), REQUESTS, REQUESTS, st.sampled_from(["refuse", "clamp"]), st.booleans())
def test_accepts_exactly_what_violates_nothing(
    bounds: Bounds | None, asked: int | None, held: int | None, on_violation: str, strict: bool
) -> None:
    """A container is accepted where there is no violation, and nowhere else; every violation has a clause."""
    rules = profile(bounds, on_violation=on_violation, unlisted="refuse" if strict else "allow")
    request = asking(**({} if asked is None else {"kernel__msgmax": str(asked)}))
    plan = decided(rules, request, None if held is None else {**KERNEL_DEFAULTS, NAME: held})
    assert (plan.decision == "accepted") is (plan.violations == ())
    assert sentence(plan.violations).count(NAME) == len(plan.violations)


@given(bounds_in_order() | st.none(), REQUESTS, st.integers(0, INT_MAX))
def test_never_narrows_what_others_live_with(bounds: Bounds | None, asked: int | None, held: int) -> None:
    """Whatever a joiner's rule and request are, nobody in the namespace has less than before."""
    rules = Profile("p", {} if bounds is None else {NAME: bounds}, shared="widen", on_violation="clamp")
    request = asking(**({} if asked is None else {"kernel__msgmax": str(asked)}))
    plan = decided(rules, request, {**KERNEL_DEFAULTS, NAME: held})
    most = None if bounds is None else bounds[3]
    wanted = plan.wanted()[NAME]
    assert wanted >= held
    assert wanted == held or most is None or wanted <= int(most)  # type: ignore[arg-type]  # a number


@given(
    st.dictionaries(st.sampled_from(["kernel.shmmax", "kernel/shmmax", "kernel.sem", "x"]), st.text(st.characters()))
)
def test_tells_hostile_requests_in_one_line(sysctls: dict[str, str]) -> None:
    """Whatever a request holds, the refusal is one line of printable ASCII."""
    request = parse_spec(json.dumps({"linux": {"sysctl": sysctls}}).encode()).request
    line = str(PolicyViolation(sentence(decided(profile(), request).violations)))
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize(
    ("violation", "clause"),
    [
        (Violation(NAME, "7", 2, 6, "bound"), "kernel.msgmax=7 is outside what is allowed, 2 to 6"),
        (Violation(NAME, "7", None, 6, "bound"), "kernel.msgmax=7 is outside what is allowed, at most 6"),
        (Violation(NAME, "1", 2, None, "bound"), "kernel.msgmax=1 is outside what is allowed, at least 2"),
        (Violation(NAME, "0", 0, 0, "bound"), "kernel.msgmax=0 is outside what is allowed, 0 to 0"),
        (Violation(NAME, "7", 6, 6, "set"), "kernel.msgmax=7 is fixed at 6"),
        (Violation(NAME, "7", None, None, "unlisted"), "kernel.msgmax=7 is not listed in the profile"),
        (Violation(NAME, None, None, None, "unlisted"), "kernel.msgmax is not listed in the profile"),
        (Violation(NAME, "0x7", None, None, "malformed"), "kernel.msgmax='0x7' is not in canonical decimal"),
        (Violation("ipc", "host", None, None, "host_ipc"), "the host's IPC namespace is not for containers"),
        (
            Violation("/proc/sys", None, None, None, "writable_proc_sys"),
            "/proc/sys can be written in the container, and so its own limits",
        ),
        (
            Violation("linux.seccomp", None, None, None, "nested_ipc"),
            "linux.seccomp lets processes make IPC namespaces with limits of their own, and has not been narrowed",
        ),
        (
            Violation("RLIMIT_MSGQUEUE", "7", None, 6, "rlimit"),
            "RLIMIT_MSGQUEUE=7 is outside what is allowed, at most 6",
        ),
        (
            Violation(NAME, "7", 6, 6, "owner"),
            "kernel.msgmax=7 differs from 6, which is in force in the namespace it joins",
        ),
    ],
)
def test_says_what_is_asked_and_what_is_allowed(violation: Violation, clause: str) -> None:
    """Each kind of violation has a clause with both numbers."""
    assert sentence((violation,)) == clause


def test_says_everything_in_one_sentence() -> None:
    """All violations of a container stand in one line."""
    violations = (Violation(NAME, "7", 6, 6, "set"), Violation("kernel.sem.semmni", "7", None, 6, "bound"))
    assert sentence(violations) == (
        "kernel.msgmax=7 is fixed at 6; kernel.sem.semmni=7 is outside what is allowed, at most 6"
    )


@pytest.mark.parametrize(
    ("name", "found", "wanted", "more"),
    [
        (NAME, 6, 5, True),
        (NAME, 5, 5, False),
        (NAME, 4, 5, False),
        (NAME, 0, 5, False),
        ("kernel.shmmax", 18446744073709551615, 18446744073709551614, True),
        ("fs.mqueue.queues_max", -1, 5, True),
        ("fs.mqueue.queues_max", -1, -1, False),
        ("kernel.sem.semopm", -5, 0, True),
        ("kernel.shm_rmid_forced", 0, 1, True),
        ("kernel.shm_rmid_forced", 1, 0, True),
        ("kernel.shm_rmid_forced", 1, 1, False),
    ],
)
def test_tells_what_is_too_much(name: str, found: int, wanted: int, more: bool) -> None:
    """A higher limit is too much, a negative one is none at all, and the switch is wrong either way."""
    assert exceeds(name, found, wanted) is more


def test_wants_every_name_of_a_full_profile() -> None:
    """Rules for all sixteen names give sixteen limits, in the order in which they are written."""
    rules = Profile("p", dict.fromkeys(reversed(NAMES), ("kernel", None, None, None)))
    plan = decided(rules, asking())
    assert plan.wanted() == KERNEL_DEFAULTS
    assert tuple(limit.name for limit in plan.limits) == NAMES


def test_a_field_of_sem_that_stays_as_it_is_is_not_asked_for() -> None:
    """Whoever sets one field has to write all four: the others are no request while they are a fresh namespace's."""
    strict = profile((128, None, None, None), "kernel.sem.semmni", unlisted="refuse")
    same = asking(kernel__sem="32000 1024000000 500 128")
    assert decided(strict, same).decision == "accepted"
    [violation] = decided(strict, asking(kernel__sem="32001 1024000000 500 128")).violations
    assert (violation.name, violation.kind) == ("kernel.sem.semmsl", "unlisted")
