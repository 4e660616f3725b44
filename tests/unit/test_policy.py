"""The policy in force: how it is stored, what amounts come to, and which rule is the first to hold."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.digests import digest_of, entry_key
from ipcwarden.core.facts import Facts
from ipcwarden.core.policy import (
    Choice,
    Memory,
    Policy,
    Profile,
    Rule,
    glob_matches,
    holds,
    match,
    pack,
    resolve,
    unpack,
)
from ipcwarden.core.sysctls import (
    FILES,
    KERNEL_DEFAULTS,
    NAMES,
    as_kernel_reads,
    canonical,
    file_of,
    numbers,
    path_of,
    range_of,
    spelled,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Amount, Condition

GIB = 1 << 30
SMALL = Memory(limit=GIB, host=64 * GIB, page=4096)
UNLIMITED = Memory(limit=None, host=64 * GIB, page=4096)
PROFILES = (
    Profile(
        "a",
        {
            "kernel.shmmax": (None, 0, "kernel", ("memory", 50, 2, 4096)),
            "kernel.shmmni": (("per_gib", 8), None, None, None),
        },
    ),
    Profile(
        *("b", {}, "clamp", "refuse", "remove", "refuse", "ask", "widen", "refuse", "deny", 819200),
        keep=({"kind": "sem"},),
        reap=({"kind": "shm", "key": "0x0052e2c1", "owner": 999, "age": 60},),
        expect=({"kind": "mqueue", "name": "/a*", "count": 1, "bytes": 8192}, {"kind": "msg"}),
        drift="expected",
        dev_shm=64 << 20,
    ),
)
RULES = (
    Rule("one", (("image", ("a*", "b")), ("privileged", True), ("not", (("ipc", ("host",)),))), 1, "permissive"),
    Rule("two", (), 0, "enforcing"),
    Rule("three", (), Choice("example.com/ipc", {"b": 1}, 0), "enforcing"),
)
POLICY = Policy(
    "enforcing", "6.18", KERNEL_DEFAULTS, RULES, PROFILES, trust_annotations=("example.com/tier",), stale_pins=60
)
# What ipcwarden's first version stored: two rules, two profiles.
VERSION_1 = base64.b64decode(
    b"aXBjd2FyZGVuIHBvbGljeSAxIDQ1MGMzZDE5YTJmZDgwNmJjOTE4N2E4MTYzZmYyNWMyCigGAAAAdQoAAABwZXJtaXNzaXZldQQAAAA2LjE4"
    b"e3UNAAAAa2VybmVsLnNobW1uaWkAEAAAMCgCAAAAKAQAAAB1AgAAAGRiKAIAAAAoAgAAAHUFAAAAaW1hZ2UoAgAAAHUCAAAAYSp1AQAAAGIo"
    b"AgAAAHUKAAAAcHJpdmlsZWdlZFRpAQAAAHUJAAAAZW5mb3JjaW5nKAQAAAB1AwAAAGFsbCgAAAAAaQAAAAB1CgAAAHBlcm1pc3NpdmUoAgAA"
    b"AHODAAAAKAcAAAB1AQAAAGF7dQ0AAABrZXJuZWwuc2htbWF4KAQAAABOaQAAAAB1BgAAAGtlcm5lbCgEAAAAdQYAAABtZW1vcnlpMgAAAGkC"
    b"AAAAaQAQAAAwdQYAAAByZWZ1c2V1BQAAAGF1ZGl0dQYAAAByZXBvcnR1BQAAAGFsbG93dQAAAABzQAAAACgHAAAAdQEAAABiezB1BQAAAGNs"
    b"YW1wdQYAAAByZWZ1c2V1BgAAAHJlbW92ZXUGAAAAcmVmdXNldQMAAABhc2tU"
)

# What it stored as format 2, before profiles had `keep` and the like.
VERSION_2 = base64.b64decode(
    b"aXBjd2FyZGVuIHBvbGljeSAyIDFjNmQ0ZmViY2EyMGM4YjI1ZDkyMTliOTMyNzA0ZDVjCigHAAAAdQkAAABlbmZvcmNpbmd1BAAAADYuMTh7dQ0A"
    b"AABrZXJuZWwuc2htbW5paQAQAAAwKAEAAAAoBAAAAHUEAAAAZ29sZCgBAAAAKAIAAAB1HAAAAGFubm90YXRpb25zLmV4YW1wbGUuY29tL3RpZXIo"
    b"AQAAAHUEAAAAZ29sZCgDAAAAdQ8AAABleGFtcGxlLmNvbS9pcGN7dQEAAABiaQEAAAAwaQAAAAB1CQAAAGVuZm9yY2luZygCAAAAc3wAAAAoCwAA"
    b"AHUBAAAAYXt1DQAAAGtlcm5lbC5zaG1tbmkoBAAAAE5OTmlAAAAAMHUGAAAAcmVmdXNldQUAAABhdWRpdHUGAAAAcmVwb3J0dQUAAABhbGxvd3UA"
    b"AAAAdQUAAABvd25lcnUGAAAAcmVjb3JkdQYAAAByZXBvcnROc2MAAAAoCwAAAHUBAAAAYnswdQUAAABjbGFtcHUGAAAAcmVmdXNldQYAAAByZW1v"
    b"dmV1BgAAAHJlZnVzZXUDAAAAYXNrdQUAAAB3aWRlbnUGAAAAcmVmdXNldQQAAABkZW55aQCADABGKAEAAAB1EAAAAGV4YW1wbGUuY29tL3RpZXI="
)


def test_what_is_stored_is_what_was_compiled() -> None:
    """Every field comes back, profiles when they are asked for."""
    found = unpack(pack(POLICY))
    assert (found.mode, found.release, found.kernel, found.rules) == ("enforcing", "6.18", KERNEL_DEFAULTS, RULES)
    assert (found.trust_annotations, found.stale_pins) == (("example.com/tier",), 60)
    assert [found.profile_of(rule) for rule in found.rules] == [PROFILES[1], PROFILES[0], PROFILES[0]]
    assert POLICY.profile_of(RULES[0]) is PROFILES[1]


def test_what_format_1_stored_is_readable() -> None:
    """An upgrade needs no compile: what that version did not know is as it was without it."""
    found = unpack(VERSION_1)
    assert (found.mode, found.release, found.kernel, found.ipcmni_extend, found.trust_annotations) == (
        *("permissive", "6.18", {"kernel.shmmni": 4096}, True, ()),
    )
    assert found.rules == (
        Rule("db", (("image", ("a*", "b")), ("privileged", True)), 1, "enforcing"),
        Rule("all", (), 0, "permissive"),
    )
    assert [found.profile_of(rule) for rule in found.rules] == [
        Profile("b", {}, "clamp", "refuse", "remove", "refuse", "ask"),
        Profile("a", {"kernel.shmmax": (None, 0, "kernel", ("memory", 50, 2, 4096))}),
    ]
    assert unpack(pack(found)).digest != found.digest == "450c3d19a2fd806bc9187a8163ff25c2"


def test_what_format_2_stored_is_readable() -> None:
    """Nothing is kept, reaped or expected, and a stale pin is one of ten minutes."""
    found = unpack(VERSION_2)
    assert (found.trust_annotations, found.stale_pins) == (("example.com/tier",), 600)
    [rule] = found.rules
    assert rule == Rule(
        "gold", (("annotations.example.com/tier", ("gold",)),), Choice("example.com/ipc", {"b": 1}, 0), "enforcing"
    )
    assert found.profile_at(0) == Profile("a", {"kernel.shmmni": (None, None, None, 64)})
    assert found.profile_at(1) == Profile(
        *("b", {}, "clamp", "refuse", "remove", "refuse", "ask", "widen", "refuse", "deny", 819200),
        keep=(),
        reap=(),
        expect=(),
        drift="report",
        dev_shm=None,
    )
    assert unpack(pack(found)).digest != found.digest == "1c6d4febca20c8b25d9219b932704d5c"


@pytest.mark.parametrize(
    ("annotations", "profile"),
    [
        ({"example.com/ipc": "b"}, "b"),
        ({"example.com/ipc": "b", "x": "a"}, "b"),
        ({"example.com/ipc": "B"}, "a"),
        ({"example.com/ipc": "a"}, "a"),
        ({"example.com/ipc": "b "}, "a"),
        ({"example.com/ipc": ""}, "a"),
        ({"x": "b"}, "a"),
        ({}, "a"),
        (None, "a"),
    ],
)
def test_an_annotation_picks_a_profile_from_the_rules_list(annotations: dict[str, str] | None, profile: str) -> None:
    """By its exact name; whatever else it says, or no annotation, gives the other one."""
    assert POLICY.profile_of(RULES[2], annotations).name == profile


def test_the_digest_is_the_contents() -> None:
    """The same policy gives the same bytes, packed or not, and another one another digest."""
    assert pack(unpack(pack(POLICY))) == pack(POLICY)
    digest = unpack(pack(POLICY)).digest
    assert len(digest) == 32
    assert unpack(pack(Policy("permissive", "6.18", KERNEL_DEFAULTS, RULES, PROFILES))).digest != digest


@pytest.mark.parametrize("data", [b"", b"x", b"ipcwarden policy 4 x\nabc", b"\x00" * 100])
def test_another_format_is_refused(data: bytes) -> None:
    """It may be a later version's."""
    with pytest.raises(ValueError, match="its format is unknown to this version"):
        unpack(data)


@given(st.integers(20, len(pack(POLICY)) - 1), st.integers(1, 255))
def test_a_damaged_policy_is_refused(at: int, flip: int) -> None:
    """Whatever bit of it has changed."""
    data = bytearray(pack(POLICY))
    data[at] ^= flip
    with pytest.raises(ValueError, match="its digest is not that of its content"):
        unpack(bytes(data))


def test_kernel_values_are_those_of_the_kernel_that_runs() -> None:
    """On another kernel than the compiler's the table of every kernel counts."""
    policy = Policy("enforcing", "6.18", {"kernel.shmmni": 5}, (), ())
    assert policy.kernel_values("6.18") == {"kernel.shmmni": 5}
    assert policy.kernel_values("6.12") is KERNEL_DEFAULTS


@pytest.mark.parametrize(
    ("amount", "name", "memory", "number"),
    [
        (5, "kernel.shmmax", SMALL, 5),
        ("kernel", "kernel.shmmni", SMALL, 4096),
        (("memory", 50, 2, 0), "kernel.shmmax", SMALL, GIB // 2),
        (("memory", 50, 2, 0), "kernel.shmmax", UNLIMITED, 64 * GIB * 2 // 100),
        (("memory", None, 2, 0), "kernel.shmmax", SMALL, 64 * GIB * 2 // 100),
        (("memory", 50, None, 4096), "kernel.shmmax", UNLIMITED, 4096),
        (("memory", 1, 1, GIB), "kernel.shmmax", SMALL, GIB),
        (("memory", 200, 50, 0), "kernel.shmall", SMALL, 2 * GIB // 4096),
        (("memory", 50, 50, 0), "kernel.shmall", Memory(65536 * 3, GIB, 65536), 1),
        (("memory", 10000, 10000, 0), "kernel.shmmax", Memory(None, 1 << 63, 4096), 18446744073709551615),
        (("memory", 50, 2, 0), "kernel.shmmax", Memory(1 << 50, GIB, 4096), GIB // 2),
        (("per_gib", 256), "kernel.shmmni", Memory(1 << 50, GIB, 4096), 256),
        (("per_gib", 256), "kernel.shmmni", SMALL, 256),
        (("per_gib", 256), "kernel.shmmni", UNLIMITED, 16384),
        (("per_gib", 1024), "kernel.shmmni", UNLIMITED, 32768),
        (("per_gib", 1), "kernel.shmmni", Memory(1 << 20, GIB, 4096), 1),
        (("per_gib", 10), "fs.mqueue.msg_max", Memory(0, GIB, 4096), 1),
    ],
)
def test_amounts_come_to_numbers(amount: Amount, name: str, memory: Memory, number: int) -> None:
    """A share is of the container's limit, or else and at most of the host's memory, within the kernel's range."""
    assert resolve(amount, name, KERNEL_DEFAULTS, memory) == number


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("a", "A", False),
        ("a", "ab", False),
        ("?", "a", True),
        ("?", "", False),
        ("a?c", "abc", True),
        ("a?c", "abd", False),
        ("*", "", True),
        ("*", "a/b", True),
        ("**", "a", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("*a", "ab", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "aXbXc", True),
        ("a*b*c", "aXc", False),
        ("a*b?*c", "abbc", True),
        ("a*b?*c", "abc", False),
        ("*ab*", "aab", True),
        ("registry/*/pg:*", "registry/a/b/pg:15", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a\\*", "a\\", True),
    ],
)
def test_globs(pattern: str, text: str, expected: bool) -> None:
    """A star is anything, a slash too; a question mark one character; case counts."""
    assert glob_matches(pattern, text) is expected


def slowly(pattern: str, text: str) -> bool:
    """Match by the definition."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(slowly(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and slowly(pattern[1:], text[1:])


@given(st.text("ab*?", max_size=7), st.text("ab", max_size=8))
def test_globs_match_as_defined(pattern: str, text: str) -> None:
    """The fast way and the definition agree."""
    assert glob_matches(pattern, text) is slowly(pattern, text)


@pytest.mark.parametrize(
    ("when", "expected", "unknown"),
    [
        ((), True, []),
        ((("pod", ("a", "p*")),), True, []),
        ((("pod", ("a",)),), False, []),
        ((("privileged", True),), True, []),
        ((("privileged", False),), False, []),
        ((("annotations.k", ("v",)),), True, []),
        ((("annotations.x", ("v",)),), None, ["annotations.x"]),
        ((("image", ("*",)),), None, ["image"]),
        ((("image", ("*",)), ("pod", ("a",))), False, ["image"]),
        ((("image", ("*",)), ("pod", ("p",))), None, ["image"]),
        ((("not", (("pod", ("a",)),)),), True, []),
        ((("not", (("pod", ("p",)),)),), False, []),
        ((("not", (("image", ("a",)),)),), None, ["image"]),
        ((("not", (("image", ("a",)), ("pod", ("a",)))),), True, ["image"]),
    ],
)
def test_conditions(when: tuple[Condition, ...], expected: bool | None, unknown: list[str]) -> None:
    """All must hold; an unknown fact leaves open what hangs on it, and is noted."""
    noted: list[str] = []
    assert holds(when, Facts(pod="p", privileged=True, annotations={"k": "v"}), noted) is expected
    assert noted == unknown


def test_the_first_rule_that_holds_is_the_one() -> None:
    """With the unknown facts that kept earlier ones from it, each once."""
    rules = (
        Rule("a", (("image", ("x",)),), 0, ""),
        Rule("b", (("image", ("y",)),), 0, ""),
        Rule("c", (("pod", ("p",)),), 0, ""),
        Rule("d", (), 0, ""),
    )
    policy = Policy("", "", {}, rules, ())
    assert match(policy, Facts(pod="p")) == (rules[2], ("image",))
    assert match(policy, Facts(pod="q", image="z")) == (rules[3], ())
    assert match(Policy("", "", {}, rules[:2], ()), Facts()) == (None, ("image",))


def test_digests_are_blake2b() -> None:
    """RFC 7693, cut to size."""
    assert digest_of(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert digest_of(b"abc", 8) == "d8bb14d833d59559"


def test_an_entry_is_named_for_its_container_and_bundle() -> None:
    """Two runtimes may run one id, and no id is too long for a file's name."""
    one, other = entry_key("c" * 1000, "/a"), entry_key("c" * 1000, "/b")
    assert one != other
    assert one.startswith("c" * 64 + "-")
    assert len(one) == 81
    assert entry_key("c", "/\udcff") != entry_key("c", "/\udcfe")


@pytest.mark.parametrize("container", [".", "..", ".c", ".json", "." * 1000])
def test_no_entry_looks_like_a_draft(container: str) -> None:
    """A file whose name starts with a dot is a draft, which gc removes; no id makes one, nor another id's entry."""
    key = entry_key(container, "/b")
    assert key.startswith(f"_{container[1:64]}-")
    assert len(key) == min(len(container), 64) + 17
    assert key != entry_key(f"_{container[1:]}", "/b")


def test_names_are_what_the_files_hold() -> None:
    """Thirteen files, sixteen limits, each with a default in its range."""
    assert len(FILES) == 13
    assert len(set(NAMES)) == 16
    assert KERNEL_DEFAULTS.keys() == set(NAMES)
    for name in NAMES:
        low, high = range_of(name)
        assert low <= KERNEL_DEFAULTS[name] <= high <= range_of(name, ipcmni_extend=True)[1]


def test_ipcmni_extend_raises_three_counts() -> None:
    """Those that the kernel holds in an id."""
    raised = [name for name in NAMES if range_of(name) != range_of(name, ipcmni_extend=True)]
    assert raised == ["kernel.shmmni", "kernel.sem.semmni", "kernel.msgmni"]


def test_names_lead_to_files() -> None:
    """Dots are slashes below /proc/sys."""
    assert path_of("fs.mqueue.msg_max") == "fs/mqueue/msg_max"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("5", 5),
        ("18446744073709551616", 18446744073709551616),
        ("", None),
        ("010", None),
        ("0x10", None),
        ("+5", None),
        ("-5", None),
        (" 5", None),
        ("5\n", None),
        ("5_0", None),
        ("\u0665", None),
        ("1" * 21, None),
    ],
)
def test_numbers_are_spelled_in_one_way(text: str, number: int | None) -> None:
    """Canonical decimal, which nobody can misread."""
    assert canonical(text) == number


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("kernel.shmmax", "5", (5,)),
        ("kernel.shmmax", "5 6", None),
        ("kernel.shmmax", " 5", None),
        ("kernel.shmmax", "", None),
        ("kernel.sem", "1 2 3 4", (1, 2, 3, 4)),
        ("kernel.sem", "1\t2 \t3  4", (1, 2, 3, 4)),
        ("kernel.sem", "1 2 3", None),
        ("kernel.sem", "1 2 3 4 5", None),
        ("kernel.sem", " 1 2 3 4", None),
        ("kernel.sem", "1 2 3 4\n", None),
        ("kernel.sem", "1 2 3 04", None),
        ("kernel.sem", "1,2,3,4", None),
        ("kernel.sem", "", None),
    ],
)
def test_requests_are_spelled_in_one_way(name: str, text: str, expected: tuple[int, ...] | None) -> None:
    """As many numbers as the file has fields, blanks or tabs between."""
    assert numbers(name, text) == expected


def test_what_is_written_reads_as_it_was() -> None:
    """A file's fields in the kernel's order."""
    for name, fields in FILES.items():
        limits = {field: at for at, field in enumerate(fields)}
        assert numbers(name, spelled(name, limits)) == tuple(limits.values())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("5", 5),
        ("18446744073709551615", 18446744073709551615),
        ("010", 8),
        ("00", 0),
        ("0777", 511),
        ("0x10", 16),
        ("0X1f", 31),
        (" 5", 5),
        ("\t5\n", 5),
        (" 0x10 ", 16),
        ("", None),
        (" ", None),
        ("08", None),
        ("0x", None),
        ("0b1", None),
        ("5K", None),
        ("5,6", None),
        ("1e3", None),
        ("\u0665", None),
        ("\uff15", None),
        ("1" * 25, None),
        ("0o17", None),
        ("1_0", None),
        ("+5", None),
        ("5\0x", 5),
    ],
)
def test_reads_as_the_kernel_does(text: str, number: int | None) -> None:
    """What the kernel makes of a request that nobody else would read so: a leading 0 is octal, 0x is hex."""
    assert as_kernel_reads(text) == number


@given(st.integers(0, 2**64 - 1))
def test_reads_as_the_kernel_does_in_every_base(number: int) -> None:
    """One number in its three spellings."""
    assert {as_kernel_reads(text) for text in (f"{number}", f"0{number:o}", f"0x{number:x}", f"0X{number:X}")} == {
        number
    }


def test_knows_the_file_of_each_name() -> None:
    """The four fields of kernel.sem stand in one file, every other name in its own."""
    assert {name: file_of(name) for name in NAMES} == {name: file for file, names in FILES.items() for name in names}
