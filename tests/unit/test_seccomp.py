"""linux.seccomp, narrowed: no rule fits a call with CLONE_NEWIPC but ours, and all others say what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.documents import parse, serialize
from ipcwarden.core.seccomp import RAW_FILTER, looseness, narrowed
from ipcwarden.errors import StateError

if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

NEWIPC = 0x08000000
ALL = (1 << 64) - 1
X86 = "x86_64"
REFUSALS = [
    {
        "names": [name],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 1,
        "args": [{"index": 0, "value": NEWIPC, "valueTwo": NEWIPC, "op": "SCMP_CMP_MASKED_EQ"}],
    }
    for name in ("clone", "unshare")
] + [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
WITHOUT = {"index": 0, "value": NEWIPC, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **members: Any) -> dict[str, Any]:
    """Return one rule."""
    return {"names": list(names), "action": action, **members}


def condition(op: str = "SCMP_CMP_MASKED_EQ", index: int = 0, value: int = 0, two: int = 0) -> dict[str, Any]:
    """Return one condition."""
    return {"index": index, "value": value, "valueTwo": two, "op": op}


def rules_of(*rules: dict[str, Any], machine: str = X86) -> list[Any]:
    """Return what becomes of rules, without those that are always added, which must be there."""
    found = narrowed({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules)}, machine)["syscalls"]
    assert isinstance(found, list)
    if machine == X86:
        assert found[-3:] == REFUSALS
    return found[:-3]


@pytest.mark.parametrize("none", [None, {}, {"syscalls": []}, {"defaultAction": "", "architectures": []}])
def test_without_a_filter(none: Document) -> None:
    """Where there is no filter, all other calls of every width that the machine has go on."""
    assert narrowed(none, X86) == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": REFUSALS,
    }


def test_a_machine_of_one_width() -> None:
    """On a machine that we know no other width of, the runtime's own architecture is enough."""
    assert "architectures" not in narrowed(None, "riscv64")


def test_other_members_and_rules_stay() -> None:
    """All that is not about the three calls stays as it is, known to us or not."""
    filtered = {"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 3, "flags": ["x"], "listenerPath": "/l", "new": 1}
    others = [rule("read", "setns", args=[condition("SCMP_CMP_GT", 0, 1)]), rule("mount", action="SCMP_ACT_NOTIFY")]
    assert narrowed({**filtered, "syscalls": others}, X86) == {**filtered, "syscalls": others + REFUSALS}


def test_names_are_parted() -> None:
    """A rule for several calls goes on for the others; clone3 has no rule but ours."""
    assert rules_of(rule("read", "unshare", "clone3", "clone", errnoRet=7)) == [
        rule("read", errnoRet=7),
        rule("clone", errnoRet=7, args=[WITHOUT]),
        rule("unshare", errnoRet=7, args=[WITHOUT]),
    ]
    assert rules_of(rule("clone3", action="SCMP_ACT_KILL")) == []


def test_a_name_ends_at_its_nul() -> None:
    """A name with a NUL in it is the one before it, for libseccomp."""
    assert rules_of(rule("unshare\0x")) == [rule("unshare", args=[WITHOUT])]


def test_the_flags_of_s390() -> None:
    """On s390 clone has its flags in the second argument, unshare in the first."""
    by_name = {
        each["names"][0]: each["args"][0]["index"] for each in rules_of(rule("clone", "unshare"), machine="s390x")
    }
    assert by_name == {"clone": 1, "unshare": 0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (condition(value=0x7E020000), condition(value=0x7E020000)),  # what Docker lets clone have: none of these
        (condition(value=0x10000000), condition(value=0x18000000)),
        (condition(value=0x10000000, two=0x10000000), condition(value=0x18000000, two=0x10000000)),
        (condition(value=NEWIPC, two=NEWIPC), None),
        (condition("SCMP_CMP_EQ", value=0x10000000), condition("SCMP_CMP_EQ", value=0x10000000)),
        (condition("SCMP_CMP_EQ", value=NEWIPC | 0x11), None),
        ({"index": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "op": "SCMP_CMP_EQ"}),
    ],
)
def test_conditions_on_flags(before: dict[str, Any], after: dict[str, Any] | None) -> None:
    """A condition on the flags is held to calls without ours; one that is about calls with it has no more to say."""
    assert rules_of(rule("unshare", args=[before])) == ([rule("unshare", args=[after])] if after else [])


def test_conditions_on_other_arguments() -> None:
    """A condition on another argument stays beside ours."""
    other = condition("SCMP_CMP_GT", 1, 5)
    assert rules_of(rule("clone", args=[other])) == [rule("clone", args=[other, WITHOUT])]


def test_two_conditions_on_one_argument() -> None:
    """Where one argument has two conditions, each is a rule of its own, as runtimes take it."""
    first, second, third = condition(value=2, two=2), condition("SCMP_CMP_EQ", value=4), condition("SCMP_CMP_NE", 1)
    assert rules_of(rule("unshare", args=[first, second, third])) == [
        rule("unshare", args=[condition(value=NEWIPC | 2, two=2)]),
        rule("unshare", args=[second]),
        rule("unshare", args=[third, WITHOUT]),
    ]


@pytest.mark.parametrize(
    ("seccomp", "reason"),
    [
        ([], "'linux.seccomp' is not an object"),
        ({"Syscalls": []}, "'syscalls' is spelled 'Syscalls'"),
        ({"\u017fyscalls": []}, "'syscalls' is spelled"),
        ({"syscalls\0x": []}, "'syscalls' is spelled"),
        ({"defaultAction": "x", "syscalls": {}}, "'syscalls' is not a list of objects"),
        ({"syscalls": [1]}, "'syscalls' is not a list of objects"),
        ({"syscalls": [{"Names": ["unshare"]}]}, "'syscalls.names' is spelled 'Names'"),
        ({"syscalls": [{}]}, "'syscalls.names' is not a list of names"),
        ({"syscalls": [{"names": [1]}]}, "'syscalls.names' is not a list of names"),
        ({"syscalls": [rule("clone", args=[{"OP": ""}])]}, "'syscalls.args.op' is spelled 'OP'"),
        ({"syscalls": [rule("clone", args=1)]}, "'syscalls.args' is not a list of objects"),
        ({"syscalls": [rule("clone", args=[condition(value=-1)])]}, "'syscalls.args.value' is -1"),
        ({"syscalls": [rule("clone", args=[condition(value=ALL + 1)])]}, "no number of 64 bits"),
        ({"syscalls": [rule("clone", args=[{"index": True}])]}, "'syscalls.args.index' is True"),
        ({"syscalls": [rule("clone", args=[{"valueTwo": "1"}])]}, "'syscalls.args.valueTwo' is '1'"),
        ({"syscalls": [rule("clone", args=[condition("SCMP_CMP_GE")])]}, "compares flags with 'SCMP_CMP_GE'"),
        ({"syscalls": [rule("clone", args=[{}])]}, "compares flags with None"),
        ({"syscalls": [rule("clone", args=[condition(value=1, two=2)])]}, "has bits that its mask has not"),
    ],
)
def test_a_filter_that_takes_guessing(seccomp: Document, reason: str) -> None:
    """What runtimes may read differently, or cannot be told by single bits, is refused."""
    with pytest.raises(StateError) as caught:
        narrowed(seccomp, X86)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"syscalls": [], "syscalls": []}',
        '{"syscalls": [{"names": ["a"], "names": ["unshare"]}]}',
        '{"syscalls": [{"names": ["clone"], "args": [{"op": "x", "op": "y"}]}]}',
    ],
)
def test_a_member_that_stands_there_twice(text: str) -> None:
    """Runtimes differ on which of two members counts."""
    with pytest.raises(StateError, match="has a member twice"):
        narrowed(parse(text.encode()), X86)


@pytest.mark.parametrize("key", [RAW_FILTER, f"{RAW_FILTER}\0x"])
def test_a_raw_filter(key: str) -> None:
    """crun would load the annotation's filter instead of the one that was narrowed."""
    with pytest.raises(StateError, match=RAW_FILTER):
        narrowed(None, X86, {"a": "b", key: "BgAAAAAA/38="})
    assert narrowed(None, X86, {"a": "b"})


def test_twice_is_once() -> None:
    """What has been narrowed, as it is or from config.json, stays as it is but for the order of its rules."""
    once = narrowed({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("clone", "read")]}, X86)
    twice = narrowed(parse(serialize(once).encode()), X86)
    assert twice == once


def test_knows_what_is_narrow() -> None:
    """A filter is narrow once it is what narrowing gives, also where an engine leaves out the zeros; else loose."""
    loose = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("clone", "read")]}
    tight = narrowed(loose, X86)
    short = parse(serialize(tight).replace('"valueTwo":0,', "").encode())
    assert short != tight
    assert [looseness(each, X86, {}) for each in (None, loose, tight, short)] == ["loose", "loose", "", ""]


def test_knows_what_cannot_be_narrowed() -> None:
    """What takes a guess is rigid, and so is any filter that crun would not load."""
    comparing = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("clone", args=[condition("SCMP_CMP_GE")])]}
    assert looseness(comparing, X86, {}) == "rigid"
    assert looseness(narrowed(None, X86), X86, {RAW_FILTER: ""}) == "rigid"


NUMBERS = st.sampled_from([0, 1, NEWIPC, NEWIPC | 1, 0x10000000, 0x7E020000, ALL])
INDICES = st.sampled_from([0, 1])
EQUALITIES = st.builds(condition, st.just("SCMP_CMP_EQ"), INDICES, NUMBERS, NUMBERS)
MASKS = st.builds(
    lambda index, mask, bits: condition(index=index, value=mask, two=mask & bits), INDICES, NUMBERS, NUMBERS
)


def fits(conditions: list[dict[str, Any]], arguments: tuple[int, int]) -> bool:
    """Tell whether a call fits a rule; one argument's second condition makes another rule."""
    found = []
    for each in conditions:
        number = arguments[each["index"]]
        masked = each["op"] == "SCMP_CMP_MASKED_EQ"
        mask, wanted = (each["value"], each["valueTwo"]) if masked else (ALL, each["value"])
        found.append(number & mask == wanted & mask)
    indices = [each["index"] for each in conditions]
    return all(found) if len(set(indices)) == len(indices) else any(found)


@given(
    st.lists(EQUALITIES | MASKS, max_size=3), st.integers(0, ALL) | st.sampled_from([0, 1, NEWIPC]), st.integers(0, 2)
)
def test_a_call_is_refused_or_as_before(conditions: list[dict[str, Any]], flags: int, other: int) -> None:
    """Whatever the conditions: a call with the flag fits our rule alone, and any other fits if it did before."""
    after = rules_of(rule("unshare", args=conditions))
    fitting = any(fits(each["args"], (flags, other)) for each in after)
    assert fitting == (not flags & NEWIPC and fits(conditions, (flags, other)))
