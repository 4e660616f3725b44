"""Rules become conditions in the order in which they are tried, and none stands where it can never be reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.compiler import Outcome, compile_sources, reach
from ipcwarden.compiler.findings import Place, Report
from ipcwarden.compiler.reach import check, covers, glob_covers
from ipcwarden.compiler.rules import Mention, Rule
from ipcwarden.compiler.sources import DROP_IN, IGNORED, MAIN, Source, built_in
from ipcwarden.core.facts import Facts
from ipcwarden.core.policy import Choice, glob_matches, holds, match, pack, unpack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Condition

GLOBS = st.text("ab*?", max_size=5)
WORDS = st.text("ab*?", max_size=6)


def compiled(*sources: Source) -> Outcome:
    """Compile sources with the built-in profiles."""
    return compile_sources([*built_in(), *sources], KERNEL_DEFAULTS, "6.18", 4096)


def main(*rules: str, profile: str = "baseline", head: str = "") -> Outcome:
    """Compile a policy.yaml of rules, all but the name and the profile given."""
    lines = [f"  - {{name: r{number}, profile: {profile}, {rule}}}\n" for number, rule in enumerate(rules or [""])]
    return compiled(Source(MAIN, "main", (f"version: 1\n{head}rules:\n" + "".join(lines)).encode()))


@pytest.mark.parametrize(
    ("when", "conditions"),
    [
        ("{}", ()),
        ("{image: a*}", (("image", ("a*",)),)),
        ("{namespace: [a, b-?], engine: cri-o}", (("namespace", ("a", "b-?")), ("engine", ("cri-o",)))),
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


def test_annotations_are_conditions_each() -> None:
    """A key that is trusted is a condition as any other; the policy tells which ones are."""
    outcome = main("when: {annotations: {b: ['x', ''], a: y}}", head="trust_annotations: [b, a]\n")
    assert outcome.findings == ()
    assert outcome.policy is not None
    assert outcome.policy.trust_annotations == ("b", "a")
    assert outcome.policy.rules[0].when == (("annotations.a", ("y",)), ("annotations.b", ("x", "")))


def test_a_profile_by_annotation_is_stored_with_all_that_can_be_picked() -> None:
    """Every profile that the rule names is used, in the order in which it does."""
    outcome = compiled(
        Source(
            MAIN,
            "main",
            b"version: 1\nprofiles: {large: {}, unused: {}}\nrules:\n"
            b"  - {name: a, when: {pod: x}, profile: baseline}\n"
            b"  - {name: b, profile: {annotation: a.b/c, among: [large, baseline], else: restricted}}\n",
        )
    )
    assert outcome.findings == ()
    assert outcome.policy is not None
    policy = unpack(pack(outcome.policy))
    rule = policy.rules[1]
    assert rule.profile == Choice("a.b/c", {"large": 1, "baseline": 0}, 2)
    assert len(policy.profiles) == 3
    assert [policy.profile_of(rule, {"a.b/c": name}).name for name in ("large", "baseline", "unused", "")] == [
        *("large", "baseline", "restricted", "restricted"),
    ]


def test_a_profile_by_annotation_may_offer_what_others_get() -> None:
    """Who picks nothing may get one of the list."""
    outcome = main(profile="{annotation: a, among: [baseline, restricted], else: restricted}")
    assert outcome.findings == ()
    assert outcome.policy is not None
    assert outcome.policy.rules[0].profile == Choice("a", {"baseline": 0, "restricted": 1}, 1)


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
        ("when: {pod: x, runtime: runc}", "when: {pod: x}"),
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


def slowly(rules: list[Rule]) -> list[tuple[Place, Rule]]:
    """Return what can never be reached, and by which rule, as it is defined."""
    found = []
    for number, rule in enumerate(rules):
        for earlier in rules[:number]:
            if covers(earlier.when or (), rule.when or ()):
                found.append((rule.at, earlier))
                break
    return found


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


@given(st.lists(CONDITIONS, max_size=8))
def test_what_can_never_be_reached_is_found_as_it_is_defined(conditions: list[tuple[tuple[str, object], ...]]) -> None:
    """Looking at few of the earlier rules, the check misses none that covers, and names the first."""
    at = [Place("f", number, 1, "") for number in range(len(conditions))]
    rules = [
        Rule(place, f"r{place.line}", place, when, None, Mention("p", place), None)
        for place, when in zip(at, conditions, strict=True)
    ]
    report = Report()
    check(rules, report)
    assert [(finding.line, finding.message) for finding in report.findings()] == [
        (place.line, f"the rule can never be reached: '{earlier.name}' (f:{earlier.at.line}) takes all that it would")
        for place, earlier in slowly(rules)
    ]


@pytest.mark.parametrize(
    "when",
    [
        "{{name: app-{0}}}",
        "{{engine: podman, image: 'registry.example/team-{0}/*'}}",
        "{{image: '*/app-{0}:*', not: {{ipc: host}}}}",
        "{{namespace: [prod-{0}, stage-{0}], privileged: false}}",
    ],
)
def test_thousands_of_rules_are_few_to_compare(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a check costs grows with the rules, not with their square."""
    compared: list[tuple[Condition, ...]] = []

    def counting(general: tuple[Condition, ...], special: tuple[Condition, ...]) -> bool:
        compared.append(general)
        return covers(general, special)

    monkeypatch.setattr(reach, "covers", counting)
    outcome = main(*(f"when: {when.format(1000 + number)}" for number in range(1000)))
    assert [finding.severity for finding in outcome.findings if finding.severity == "error"] == []
    assert len(compared) < 20000
