"""Profiles inherit: sysctls by name, then by bound, everything else by key."""

from __future__ import annotations

import pytest

from ipcwarden.compiler import Outcome, compile_sources
from ipcwarden.compiler.sources import DROP_IN, MAIN, SITE, Source, built_in
from ipcwarden.core.policy import Profile
from ipcwarden.core.sysctls import KERNEL_DEFAULTS, NAMES, SEM_FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Bounds, Selector

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


def test_a_list_takes_the_place_of_the_inherited_one() -> None:
    """A child's list is the whole list; what it does not say is its parent's."""
    parent = "{leftovers: remove, keep: [{kind: sem}], reap: [{kind: shm}, {kind: msg}], drift: expected}"
    found = resolved("reap: [{kind: shm, age: 5m}]", parent)
    assert (found.keep, found.reap, found.expect) == (({"kind": "sem"},), ({"kind": "shm", "age": 300},), ())
    assert found.drift == "expected"


@pytest.mark.parametrize("nothing", ["null", "[]"])
@pytest.mark.parametrize("what", ["keep", "reap", "expect"])
def test_a_list_is_dropped(nothing: str, what: str) -> None:
    """By null as a sysctl's rule is, or by one with nothing in it."""
    parent = f"{{leftovers: remove, {what}: [{{kind: shm}}]}}"
    assert getattr(resolved("help: ask", parent), what) != ()
    assert getattr(resolved(f"{what}: {nothing}", parent), what) == ()


@pytest.mark.parametrize("what", ["keep", "reap", "expect", "dev_shm.warn_below"])
def test_dropping_no_list_is_a_warning(what: str) -> None:
    """As for a sysctl."""
    key, _, below = what.partition(".")
    found = outcome_of(f"{key}: {{{below}: null}}" if below else f"{key}: null", "{}").findings
    assert [(finding.line, finding.message) for finding in found] == [(6, f"there is no inherited {what} to drop")]


@pytest.mark.parametrize(
    ("child", "parent", "warn_below"),
    [
        ("dev_shm: {warn_below: 64MiB}", "{}", 64 << 20),
        ("dev_shm: {warn_below: 5}", "{dev_shm: {warn_below: 6}}", 5),
        ("dev_shm: {}", "{dev_shm: {warn_below: 6}}", 6),
        ("help: ask", "{dev_shm: {warn_below: 6}}", 6),
        ("dev_shm: {warn_below: null}", "{dev_shm: {warn_below: 6}}", None),
        ("help: ask", "{}", None),
    ],
)
def test_the_least_size_of_dev_shm_is_inherited(child: str, parent: str, warn_below: int | None) -> None:
    """In bytes; null drops what the parent says."""
    assert resolved(child, parent).dev_shm == warn_below


def users(name: str) -> int | None:
    """Know one user."""
    return 999 if name == "postgres" else None


def selectors_of(what: str, selector: str) -> tuple[Selector, ...]:
    """Compile a profile's list of one selector."""
    text = f"{{leftovers: remove, {what}: [{{{selector}}}]}}"
    document = f"version: 1\nprofiles: {{p: {text}}}\nrules: [{{name: r, profile: p}}]\n"
    outcome = compile_sources([Source(MAIN, "f", document.encode())], KERNEL_DEFAULTS, "", 4096, uid_of=users)
    assert outcome.findings == ()
    assert outcome.policy is not None
    found: tuple[Selector, ...] = getattr(outcome.policy.profile_at(0), what)
    return found


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("0x0052e2c1", "0x0052e2c1"),
        ("0x52E2C1", "0x0052e2c1"),
        ("0X52E2C1", "0x0052e2c1"),
        ("5432001", "0x0052e2c1"),
        ("'5432001'", "0x0052e2c1"),
        ("-1", "0xffffffff"),
        ("4294967295", "0xffffffff"),
        ("-2147483648", "0x80000000"),
        ("private", "0x00000000"),
        ("0x0", "0x00000000"),
        ("0", "0x00000000"),
    ],
)
def test_a_key_is_stored_as_objects_have_it(written: str, key: str) -> None:
    """However ipcs, lsipc or /proc/sysvipc print it."""
    assert selectors_of("keep", f"kind: shm, key: {written}") == ({"kind": "shm", "key": key},)


@pytest.mark.parametrize(
    ("what", "written", "stored"),
    [
        ("keep", "owner: 999, kind: sem", {"kind": "sem", "owner": 999}),
        ("keep", "kind: sem, owner: postgres", {"kind": "sem", "owner": 999}),
        ("keep", "kind: msg, owner: 0", {"kind": "msg", "owner": 0}),
        ("keep", "kind: mqueue, name: jobs-*", {"kind": "mqueue", "name": "/jobs-*"}),
        ("keep", "kind: mqueue, name: /jobs", {"kind": "mqueue", "name": "/jobs"}),
        ("keep", "kind: mqueue, name: '*'", {"kind": "mqueue", "name": "/*"}),
        ("reap", "kind: shm", {"kind": "shm", "age": 60}),
        ("reap", "kind: shm, age: 0", {"kind": "shm", "age": 0}),
        ("reap", "kind: shm, age: 90", {"kind": "shm", "age": 90}),
        ("reap", "kind: shm, age: 90s", {"kind": "shm", "age": 90}),
        ("reap", "kind: shm, age: 5m", {"kind": "shm", "age": 300}),
        ("reap", "kind: shm, age: 2h", {"kind": "shm", "age": 7200}),
        ("reap", "kind: shm, age: 366d", {"kind": "shm", "age": 31622400}),
        ("expect", "kind: shm", {"kind": "shm"}),
        ("expect", "kind: shm, bytes: 4KiB, count: 1", {"kind": "shm", "count": 1, "bytes": 4096}),
    ],
)
def test_a_selector_is_stored_as_it_is_used(what: str, written: str, stored: Selector) -> None:
    """Uids, seconds and bytes; only `reap` has an age that nobody wrote."""
    assert selectors_of(what, written) == (stored,)


def test_equal_selectors_are_stored_alike() -> None:
    """Whatever the order of their words, so that the digest is the same."""
    one, two = (
        selectors_of("expect", text) for text in ("count: 1, owner: 5, kind: shm", "kind: shm, owner: 5, count: 1")
    )
    assert list(one[0].items()) == list(two[0].items())


REAPS_IN_VAIN = "without 'leftovers: remove' nothing is removed at a container's end: only 'ipcwarden reap' goes by it"


@pytest.mark.parametrize(
    ("child", "parent", "told"),
    [
        ("reap: [{kind: shm}]", "{}", [(6, 11, REAPS_IN_VAIN)]),
        ("reap: [{kind: shm}]", "{leftovers: report}", [(6, 11, REAPS_IN_VAIN)]),
        ("reap: [{kind: shm}]", "{leftovers: remove}", []),
        ("reap: []", "{}", []),
        ("leftovers: report", "{leftovers: remove, reap: [{kind: shm}]}", []),
        (
            "keep: [{kind: shm, owner: 5}]\n    reap: [{kind: shm, owner: 5, age: 5m}]",
            "{leftovers: remove}",
            [(7, 12, "'keep' (f0:6) means the same objects: they are kept")],
        ),
        (
            "keep: [{kind: sem}, {kind: shm}]\n    reap: [{kind: msg}, {kind: shm, owner: 5}]",
            "{leftovers: remove}",
            [(7, 25, "'keep' (f0:6) means the same objects: they are kept")],
        ),
        (
            "keep: [{kind: shm}]",
            "{leftovers: remove, reap: [{kind: shm, key: private}]}",
            [(6, 12, "'reap' (f0:3) means the same objects: they are kept")],
        ),
        ("keep: [{kind: shm, owner: 5}]\n    reap: [{kind: shm}]", "{leftovers: remove}", []),
        ("keep: [{kind: shm, owner: 5}]\n    reap: [{kind: shm, owner: 6}]", "{leftovers: remove}", []),
    ],
)
def test_what_is_to_be_reaped_in_vain_is_a_warning(child: str, parent: str, told: list[tuple[int, int, str]]) -> None:
    """Where the profile says it itself: its parent has a warning of its own."""
    found = [each for each in outcome_of(child, parent).findings if each.line > 3]
    assert [(each.line, each.column, each.message) for each in found] == told
