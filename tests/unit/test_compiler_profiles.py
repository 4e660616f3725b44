"""Profiles inherit: sysctls by name, then by bound, everything else by key."""

from __future__ import annotations

import pytest

from ipcwarden.compiler import Outcome, compile_sources
from ipcwarden.compiler.sources import DROP_IN, MAIN, SITE, Source, built_in
from ipcwarden.core.policy import Profile
from ipcwarden.core.sysctls import KERNEL_DEFAULTS, NAMES, SEM_FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Bounds

BOUNDED = "kernel.msgmax: {min: 1KiB, default: 4KiB, max: 8KiB}"
PARENT = f"{{sysctls: {{{BOUNDED}, kernel.msgmnb: 16KiB, kernel.sem: 250 32000 100 128}}}}"


def compiled(*documents: str, kind: str = MAIN, kernel: dict[str, int] = KERNEL_DEFAULTS) -> Outcome:
    """Compile documents of one kind with the built-in profiles."""
    sources = [Source(kind, f"f{number}", text.encode()) for number, text in enumerate(documents)]
    return compile_sources([*built_in(), *sources], kernel, "", 4096)


def outcome_of(child: str, parent: str = PARENT) -> Outcome:
    """Compile a child profile and its parent."""
    text = f"version: 1\nprofiles:\n  parent: {parent}\n  child:\n    extends: parent\n    {child}\n"
    return compiled(text + "rules: [{name: r, profile: child}]\n")


def resolved(child: str, parent: str = PARENT) -> Profile:
    """Return a child profile with what it inherits."""
    outcome = outcome_of(child, parent)
    assert outcome.findings == ()
    assert outcome.policy is not None
    profile = outcome.policy.profiles[0]
    assert isinstance(profile, Profile)
    return profile


@pytest.mark.parametrize(
    ("child", "bounds"),
    [
        ("{}", (None, 1024, 4096, 8192)),
        ("{kernel.msgmax: {max: 16KiB}}", (None, 1024, 4096, 16384)),
        ("{kernel.msgmax: {default: 2KiB}}", (None, 1024, 2048, 8192)),
        ("{kernel.msgmax: {min: 0, max: 4KiB}}", (None, 0, 4096, 4096)),
        ("{kernel.msgmax: 5}", (5, None, None, None)),
        ("{kernel.msgmax: {set: kernel}}", ("kernel", None, None, None)),
        ("{kernel.msgmax: null}", None),
    ],
)
def test_bounds_merge(child: str, bounds: Bounds | None) -> None:
    """A bound replaces the inherited one, a set replaces all of them, null drops the rule."""
    assert resolved(f"sysctls: {child}").sysctls.get("kernel.msgmax") == bounds


@pytest.mark.parametrize(
    ("child", "bounds"),
    [
        ("{kernel.msgmnb: {max: 64KiB}}", (None, None, None, 65536)),
        ("{kernel.msgmnb: {min: 8KiB, default: 16KiB}}", (None, 8192, 16384, None)),
        ("{kernel.msgmnb: 32KiB}", (32768, None, None, None)),
    ],
)
def test_a_bound_drops_an_inherited_set(child: str, bounds: Bounds) -> None:
    """What may vary is not fixed any more."""
    assert resolved(f"sysctls: {child}").sysctls["kernel.msgmnb"] == bounds


@pytest.mark.parametrize(
    ("child", "fields"),
    [
        ("{semmni: {max: 256}}", [250, 32000, 100, (None, None, None, 256)]),
        ("{semmsl: 500, semopm: null}", [500, 32000, None, 128]),
        ("500 64000 50 64", [500, 64000, 50, 64]),
        ("kernel", ["kernel"] * 4),
        ("null", [None] * 4),
        (
            "{max: 500 64000 50 64}",
            [(None, None, None, 500), (None, None, None, 64000)] + [(None, None, None, n) for n in (50, 64)],
        ),
        ("{min: kernel}", [(None, "kernel", None, None)] * 4),
        ('"250\\t32000  100 128"', [250, 32000, 100, 128]),
    ],
)
def test_sem_merges_by_field(child: str, fields: list[object]) -> None:
    """Each field of kernel.sem is a rule of its own, also where all are written in one text."""
    found = resolved(f"sysctls: {{kernel.sem: {child}}}").sysctls
    expected = [(field, None, None, None) if isinstance(field, int | str) else field for field in fields]
    assert [found.get(name) for name in SEM_FIELDS] == expected


def test_settings_are_inherited_and_replaced() -> None:
    """What a child does not say is its parent's, what nobody says is the default."""
    parent = "{on_violation: clamp, host_ipc: refuse, help: ask}"
    found = resolved("host_ipc: audit\n    leftovers: remove", parent)
    assert (found.on_violation, found.host_ipc, found.leftovers, found.unlisted, found.help) == (
        ("clamp", "audit", "remove", "allow", "ask")
    )


@pytest.mark.parametrize(
    ("child", "column", "said"),
    [
        (
            "kernel.msgmax: {max: 2KiB}",
            36,
            "default 4KiB of kernel.msgmax is above max 2KiB (default 4KiB is inherited from 'parent'",
        ),
        (
            "kernel.msgmax: {default: 16KiB}",
            40,
            "default 16KiB of kernel.msgmax is above max 8KiB (max 8KiB is inherited",
        ),
        ("kernel.msgmax: {min: 5KiB}", 36, "min 5KiB of kernel.msgmax is above default 4KiB"),
        ("kernel.msgmax: {min: 9, default: 8}", 36, "min 9 of kernel.msgmax is above default 8 (kernel.msgmax needs"),
        ("kernel.shmmni: {default: kernel, max: 100}", 40, "default kernel of kernel.shmmni is above max 100"),
        ("kernel.shmmni: {min: 5000, max: kernel}", 36, "min 5000 of kernel.shmmni is above max kernel"),
        ("kernel.sem: {min: 1 1 1 5, max: 1 1 1 4}", 33, "min 5 of kernel.sem.semmni is above max 4"),
        ("kernel.sem: {semmni: {min: 129, max: 128}}", 42, "min 129 of kernel.sem.semmni is above max 128"),
    ],
)
def test_order_is_checked_after_merging_at_the_childs_line(child: str, column: int, said: str) -> None:
    """Min <= default <= max, whoever wrote each."""
    findings = outcome_of(f"sysctls: {{{child}}}").findings
    assert [(finding.line, finding.column) for finding in findings] == [(6, column)]
    assert said in str(findings[0])


def test_order_is_not_checked_where_it_takes_a_containers_memory() -> None:
    """What depends on memory is clipped when it is known."""
    resolved("sysctls: {kernel.shmmax: {min: 50% of memory, default: 1GiB, max: 1% of host}}")


def test_kernel_counts_as_this_kernels_value() -> None:
    """Where 'kernel' lies between bounds hangs on what a fresh namespace has."""
    profile = "{sysctls: {kernel.shmmni: {default: kernel, max: 5000}}}"
    text = f"version: 1\nprofiles: {{p: {profile}}}\nrules: [{{name: r, profile: p}}]\n"
    assert compiled(text).policy is not None
    assert compiled(text, kernel={**KERNEL_DEFAULTS, "kernel.shmmni": 5001}).policy is None


def test_a_null_that_drops_nothing_is_a_warning() -> None:
    """Who drops a rule expects that there is one."""
    finding = outcome_of("sysctls: {kernel.shmmni: null}").findings[0]
    assert (finding.severity, finding.line, finding.column) == ("warning", 6, 30)
    assert "there is no inherited rule for kernel.shmmni to drop" in finding.message


def test_a_child_may_stand_before_its_parent() -> None:
    """Order in the file is for people."""
    text = (
        "version: 1\nprofiles:\n  c: {extends: b}\n  b: {extends: a}\n  a: {help: x}\nrules: [{name: r, profile: c}]\n"
    )
    policy = compiled(text).policy
    assert policy is not None
    assert isinstance(policy.profiles[0], Profile)
    assert policy.profiles[0].help == "x"


def test_a_circle_hurts_nobody_else() -> None:
    """Who extends a circle is not in it: one error for the whole circle."""
    profiles = "  d: {extends: a}\n  a: {extends: b}\n  b: {extends: a}\n  e: {extends: e}\n"
    text = f"version: 1\nprofiles:\n{profiles}rules: [{{name: r, profile: d}}]\n"
    assert [finding.line for finding in compiled(text).findings] == [4, 6]


def test_etc_takes_the_place_of_a_built_in_profile() -> None:
    """The later wins over one of the same name, and children of the name follow it."""
    text = "version: 1\nprofiles: {baseline: {help: mine}}\nrules: [{name: r, profile: restricted}]\n"
    policy = compiled(text).policy
    assert policy is not None
    assert isinstance(policy.profiles[0], Profile)
    assert policy.profiles[0].help == "mine"


def test_two_of_a_name_in_etc_are_an_error_naming_both_places() -> None:
    """Nobody can tell which of them was meant."""
    sources = [
        Source(SITE, "site", b"version: 1\nprofiles: {p: {help: a}}\n"),
        Source(MAIN, "main", b"version: 1\nprofiles: {p: {help: b}}\nrules: [{name: r, profile: p}]\n"),
        Source(DROP_IN, "drop", b"version: 1\nprofiles:\n  p: {help: c}\n"),
    ]
    findings = compile_sources(sources, KERNEL_DEFAULTS, "", 4096).findings
    assert [str(finding) for finding in findings] == [
        "drop:3:3: error: profiles.p: there are two profiles 'p' (the other one stands at main:2:12)"
    ]


def test_two_of_a_name_in_usr_are_a_warning() -> None:
    """The administrator did not write either, and can replace both."""
    findings = compiled("version: 1\nprofiles: {p: {}}\n", "version: 1\nprofiles: {p: {}}\n", kind=SITE).findings
    assert [(finding.severity, finding.file) for finding in findings] == [("warning", "f1")]


def test_the_built_in_profiles_are_free_of_warnings_and_govern_all() -> None:
    """What comes with the program is an example to follow."""
    text = "version: 1\nrules: [{name: a, profile: restricted, when: {name: x}}, {name: b, profile: baseline}]\n"
    outcome = compiled(text)
    assert outcome.findings == ()
    assert outcome.policy is not None
    restricted, baseline = outcome.policy.profiles
    assert isinstance(restricted, Profile)
    assert isinstance(baseline, Profile)
    assert tuple(baseline.sysctls) == tuple(restricted.sysctls) == NAMES
    assert baseline.sysctls["kernel.shmall"] == (None, None, None, ("memory", 200, 50, 1 << 30))
    assert restricted.sysctls["kernel.shmall"] == (None, None, None, ("memory", 25, 2, 64 << 20))
    assert restricted.sysctls["kernel.msgmni"] == (16, None, None, None)
    assert (baseline.on_violation, restricted.on_violation, restricted.host_ipc) == ("clamp", "refuse", "refuse")


@pytest.mark.parametrize(
    ("child", "parent", "msgqueue"),
    [
        ("rlimits: {msgqueue: 4MiB}", "{}", 4 << 20),
        ("rlimits: {msgqueue: 819201}", "{}", 819201),
        ("rlimits: {msgqueue: kernel}", "{rlimits: {msgqueue: 5}}", 819200),
        ("rlimits: {}", "{rlimits: {msgqueue: 5}}", 5),
        ("help: ask", "{rlimits: {msgqueue: 5}}", 5),
        ("rlimits: {msgqueue: null}", "{rlimits: {msgqueue: 5}}", None),
        ("help: ask", "{}", None),
    ],
)
def test_the_limit_of_posix_queues_is_inherited(child: str, parent: str, msgqueue: int | None) -> None:
    """In bytes; `kernel` is what every process starts with, and null drops what the parent says."""
    assert resolved(child, parent).msgqueue == msgqueue


@pytest.mark.parametrize("parent", ["{}", "{rlimits: {msgqueue: null}}"])
def test_dropping_no_limit_of_posix_queues_is_a_warning(parent: str) -> None:
    """As for a sysctl."""
    found = outcome_of("rlimits: {msgqueue: null}", parent).findings
    assert {finding.message for finding in found} == {"there is no inherited rlimits.msgqueue to drop"}


def test_what_is_new_is_inherited_as_everything_else() -> None:
    """By key; what nobody says is the default."""
    found = resolved("nested_ipc: report", "{shared: widen, writable_proc_sys: refuse, nested_ipc: deny}")
    assert (found.shared, found.writable_proc_sys, found.nested_ipc) == ("widen", "refuse", "report")
    found = resolved("help: ask", "{}")
    assert (found.shared, found.writable_proc_sys, found.nested_ipc) == ("owner", "record", "report")
