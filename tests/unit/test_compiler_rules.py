"""Rules become conditions in the order in which they are tried, and none stands where it can never be reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.compiler import Outcome, compile_sources
from ipcwarden.compiler.rules import covers, glob_covers
from ipcwarden.compiler.sources import DROP_IN, IGNORED, MAIN, Source, built_in
from ipcwarden.core.facts import Facts
from ipcwarden.core.policy import glob_matches, holds, match, pack, unpack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS

GLOBS = st.text("ab*?", max_size=5)
WORDS = st.text("ab*?", max_size=6)


def compiled(*sources: Source) -> Outcome:
    """Compile sources with the built-in profiles."""
    return compile_sources([*built_in(), *sources], KERNEL_DEFAULTS, "6.18", 4096)


def main(*rules: str) -> Outcome:
    """Compile a policy.yaml of rules, all but the name and the profile given."""
    lines = [f"  - {{name: r{number}, profile: baseline, {rule}}}\n" for number, rule in enumerate(rules)]
    return compiled(Source(MAIN, "main", ("version: 1\nrules:\n" + "".join(lines)).encode()))


@pytest.mark.parametrize(
    ("when", "conditions"),
    [
        ("{}", ()),
        ("{image: a*}", (("image", ("a*",)),)),
        ("{namespace: [a, b-?], engine: podman}", (("namespace", ("a", "b-?")), ("engine", ("podman",)))),
        ("{privileged: true, rootless: false}", (("privileged", True), ("rootless", False))),
        ("{ipc: host}", (("ipc", ("host",)),)),
        ("{ipc: [private, shared]}", (("ipc", ("private", "shared")),)),
        ("{not: {pod: x, user_namespace: true}}", (("not", (("pod", ("x",)), ("user_namespace", True))),)),
        ("{not: {not: {pod: x}}}", (("not", (("not", (("pod", ("x",)),)),)),)),
        ("{runtime: crun, name: a}", (("runtime", ("crun",)), ("name", ("a",)))),
    ],
)
def test_conditions_are_stored_as_facts_are_asked(when: str, conditions: object) -> None:
    """Globs are tuples, booleans themselves, exclusions conditions."""
    outcome = main(f"when: {when}")
    assert outcome.findings == ()
    assert outcome.policy is not None
    assert outcome.policy.rules[0].when == conditions
    assert unpack(pack(outcome.policy)).rules[0].when == conditions


def test_annotations_are_conditions_each_and_never_hold() -> None:
    """No annotation is trusted by this version."""
    outcome = main("when: {annotations: {b: ['x', ''], a: y}}")
    assert [(f.severity, f.path) for f in outcome.findings] == [("warning", "rules[0].when.annotations")]
    assert outcome.policy is not None
    assert outcome.policy.rules[0].when == (("annotations.a", ("y",)), ("annotations.b", ("x", "")))


def test_drop_ins_are_tried_before_policy_yaml() -> None:
    """Drop-ins by their order, then the rest; profiles by their first use."""
    outcome = compiled(
        Source(MAIN, "main", b"version: 1\nmode: permissive\nrules: [{name: z, profile: baseline}]\n"),
        Source(DROP_IN, "a", b"version: 1\nrules: [{name: a, profile: restricted, mode: enforcing, when: {pod: a}}]\n"),
        Source(DROP_IN, "b", b"version: 1\nrules: [{name: b, profile: baseline, when: {pod: b}}]\n"),
    )
    assert outcome.policy is not None
    assert [(rule.name, rule.profile, rule.mode) for rule in outcome.policy.rules] == [
        ("a", 0, "enforcing"),
        ("b", 1, "permissive"),
        ("z", 1, "permissive"),
    ]
    assert outcome.policy.mode == "permissive"
    assert outcome.files == ("main", "a", "b")


def test_the_same_sources_give_the_same_bytes() -> None:
    """The digest in a record names what was written, not when it was compiled."""
    first, second = main("when: {pod: a}", "mode: permissive").policy, main("when: {pod: a}", "mode: permissive").policy
    assert first is not None
    assert second is not None
    assert pack(first) == pack(second)
    assert pack(unpack(pack(first))) == pack(first)


def test_a_compiled_policy_matches_as_it_reads() -> None:
    """The first rule whose conditions all hold is the one."""
    policy = main(
        "when: {image: 'db/*', not: {namespace: dev-*}}", "when: {privileged: true}", "mode: permissive"
    ).policy
    assert policy is not None
    found = [
        match(policy, facts)[0]
        for facts in (
            Facts(image="db/pg", namespace="prod", privileged=False),
            Facts(image="db/pg", namespace="dev-1", privileged=True),
            Facts(image="x", privileged=False),
        )
    ]
    assert [rule.name for rule in found if rule] == ["r0", "r1", "r2"]


@pytest.mark.parametrize(
    ("when", "warned"),
    [
        ("{rootless: true}", ["rules[0].when.rootless"]),
        ("{rootless: false}", []),
        ("{not: {rootless: true}}", []),
        ("{not: {rootless: false}}", ["rules[0].when.not.rootless"]),
    ],
)
def test_a_rule_for_rootless_containers_never_applies(when: str, warned: list[str]) -> None:
    """This version leaves them alone."""
    assert [f.path for f in main(f"when: {when}").findings] == warned


def test_a_policy_without_rules_is_a_warning() -> None:
    """It governs nothing, which nobody wants."""
    outcome = compiled(Source(MAIN, "main", b"version: 1\n"))
    assert [str(finding) for finding in outcome.findings] == [
        "main:1:1: warning: there is no rule: no container gets a profile (add 'rules', the last without conditions)"
    ]
    assert outcome.policy is not None


def test_a_file_that_nobody_reads_is_a_warning() -> None:
    """Who writes policy.d/x.yml believes that it counts."""
    outcome = compiled(
        Source(MAIN, "main", b"version: 1\nrules: [{name: r, profile: baseline}]\n"), Source(IGNORED, "x.yml", b"")
    )
    assert [(f.severity, f.file) for f in outcome.findings] == [("warning", "x.yml")]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("when: {}", "when: {pod: x}"),
        ("when: {}", "mode: permissive"),
        ("when: {pod: '*'}", "when: {pod: x, image: y}"),
        ("when: {pod: 'a*'}", "when: {pod: ['ab', 'a*b?']}"),
        ("when: {pod: [a, b, c]}", "when: {pod: [c, a]}"),
        ("when: {ipc: [host, shared]}", "when: {ipc: host}"),
        ("when: {privileged: true}", "when: {privileged: true, rootless: false}"),
        ("when: {not: {pod: a}}", "when: {not: {pod: 'a*'}}"),
        ("when: {not: {pod: a, image: b}}", "when: {not: {pod: a}}"),
        ("when: {annotations: {a: '*'}}", "when: {annotations: {a: b, c: d}}"),
    ],
)
def test_a_rule_behind_one_that_takes_all_it_would_is_an_error(earlier: str, later: str) -> None:
    """It could never be reached."""
    errors = [
        str(finding) for finding in main("when: {name: n}", earlier, later).findings if finding.severity == "error"
    ]
    said = "the rule can never be reached: 'r1' (main:4) takes all that it would"
    assert errors == [f"main:5:5: error: rules[2]: {said} (put it before that rule, or remove it)"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("when: {pod: x}", "when: {}"),
        ("when: {pod: x}", "when: {image: x}"),
        ("when: {pod: x, image: y}", "when: {pod: x}"),
        ("when: {pod: 'a*'}", "when: {pod: '*'}"),
        ("when: {pod: 'a?'}", "when: {pod: 'a*'}"),
        ("when: {pod: ['a', 'b']}", "when: {pod: ['a', 'c']}"),
        ("when: {privileged: true}", "when: {privileged: false}"),
        ("when: {not: {pod: 'a*'}}", "when: {not: {pod: a}}"),
        ("when: {not: {pod: a}}", "when: {pod: b}"),
        ("when: {not: {pod: a}}", "when: {not: {pod: a, image: b}}"),
    ],
)
def test_a_rule_that_may_be_reached_is_none(earlier: str, later: str) -> None:
    """Only what is sure is told."""
    assert main(earlier, later).findings == ()


@given(GLOBS, GLOBS, st.text("ab*?", max_size=6))
def test_a_glob_that_covers_another_matches_all_that_it_does(wide: str, narrow: str, text: str) -> None:
    """No rule is ever called unreachable that is not."""
    if glob_covers(wide, narrow) and glob_matches(narrow, text):
        assert glob_matches(wide, text)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("*", "", True),
        ("*", "**", True),
        ("a*c", "abc", True),
        ("a*c", "a*b*c", True),
        ("?", "a", True),
        ("?", "?", True),
        ("a", "?", False),
        ("?", "*", False),
        ("?", "**", False),
        ("a", "a*", False),
        ("*a", "*ab", False),
        ("", "a", False),
        ("ab", "a", False),
    ],
)
def test_what_covers(wide: str, narrow: str, expected: bool) -> None:
    """A star covers anything, a question mark one character that is not a star."""
    assert glob_covers(wide, narrow) is expected


FACT = st.sampled_from([None, "a", "b", "ab"])
CONDITIONS = st.recursive(
    st.dictionaries(st.sampled_from(["pod", "image"]), st.lists(GLOBS, min_size=1, max_size=2).map(tuple), max_size=2),
    lambda inner: st.builds(
        lambda some, excluded: {**some, "not": tuple(excluded.items())},
        st.dictionaries(
            st.sampled_from(["pod", "image"]), st.lists(GLOBS, min_size=1, max_size=2).map(tuple), max_size=2
        ),
        inner,
    ),
    max_leaves=3,
).map(lambda conditions: tuple(conditions.items()))


@given(CONDITIONS, CONDITIONS, FACT, FACT)
def test_conditions_that_cover_others_hold_wherever_those_do(
    general: tuple[tuple[str, object], ...], special: tuple[tuple[str, object], ...], pod: str | None, image: str | None
) -> None:
    """With facts unknown, too."""
    facts = Facts(pod=pod, image=image)
    if covers(general, special) and holds(special, facts, []):
        assert holds(general, facts, [])
