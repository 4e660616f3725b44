"""Every mistake in a policy is told with its place, its path, and what would be right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcwarden.compiler import Outcome, compile_sources
from ipcwarden.compiler.sources import DROP_IN, MAIN, SITE, Source, built_in
from ipcwarden.core.sysctls import FILES, KERNEL_DEFAULTS

# One line a mistake: what stands in the policy, with >< before the place, then what is said.
HEAD = "version: 1\n"
RULE = "rules: [{name: r, profile: baseline}]\n"


def compiled(text: str, kind: str = MAIN) -> Outcome:
    """Compile one document with the built-in profiles."""
    return compile_sources([*built_in(), Source(kind, "f", text.encode())], KERNEL_DEFAULTS, "", 4096)


def check(marked: str, said: str, kind: str = MAIN) -> None:
    """Assert that a document has one finding, at the mark, that says this."""
    before, _, after = marked.partition("><")
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    outcome = compiled(before + after, kind)
    found = [str(finding) for finding in outcome.findings]
    assert len(found) == 1, found
    assert found[0].startswith(f"f:{line}:{column}: error: "), found[0]
    assert said in found[0]
    assert outcome.policy is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("><rules: [{name: r, profile: baseline}]\n", "'version' is missing (a policy starts with 'version: 1')"),
        ("version: ><2\n" + RULE, "version: must be 1, the only version there is, not 2"),
        ("version: ><'1'\n" + RULE, "version: must be 1, the only version there is, not '1'"),
        (HEAD + "><rule: []\n" + RULE, "rule: unknown key 'rule' (did you mean 'rules'?)"),
        (HEAD + "><xyzzy: 1\n" + RULE, "unknown key 'xyzzy' (known here: mode, profiles, rules, trust_annotations and"),
        (HEAD + "mode: ><enforced\n" + RULE, "mode: must be enforcing or permissive, not 'enforced' (did you mean"),
        (HEAD + "mode: ><yes\n" + RULE, "mode: must be enforcing or permissive, not 'yes'"),
        (HEAD + "rules:><\n", "rules: must be a list, not nothing (leave the key out"),
        (HEAD + "rules: ><{a: 1}\n", "rules: must be a list, not a mapping"),
        (HEAD + "profiles: ><[]\n" + RULE, "profiles: must be a mapping, not a list"),
        ("><[]", "must be a mapping, not a list"),
        ("><text", "must be a mapping, not 'text'"),
        (HEAD + "><stale_pins: {warn_after: 10m}\n" + RULE, "'stale_pins' is not supported by this version"),
        (HEAD + "trust_annotations: ><a\n" + RULE, "trust_annotations: must be a list, not 'a'"),
        (HEAD + "trust_annotations: [a, ><5]\n" + RULE, "trust_annotations[1]: must be text, not 5 (write it in"),
        (HEAD + "trust_annotations: [><'']\n" + RULE, "trust_annotations[0]: must not be empty"),
        (HEAD + "trust_annotations: [a, ><a]\n" + RULE, "trust_annotations[1]: 'a' stands here twice (first in line 2"),
    ],
)
def test_the_document(text: str, said: str) -> None:
    """The outermost keys are few and known."""
    check(text, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p: ><5", "profiles.p: must be a mapping, not 5"),
        ("p:><", "profiles.p: must be a mapping, not nothing"),
        ("><-p: {}", "profiles.-p: a profile's name must be 1 to 64 letters, digits, '.', '_' or '-'"),
        ("p: {><extend: baseline}", "unknown key 'extend' (did you mean 'extends'?)"),
        ("p: {extends: ><basline}", "profiles.p.extends: there is no profile 'basline' (did you mean 'baseline'?)"),
        ("p: {extends: ><xyzzy}", "there is no profile 'xyzzy' (known: baseline and restricted)"),
        ("p: {extends: ><[baseline]}", "profiles.p.extends: must be text, not a list"),
        ("p: {extends: ><''}", "profiles.p.extends: must not be empty"),
        ("p: {extends: ><p}", "the profile extends itself: p -> p (give it another name"),
        ("baseline: {extends: ><baseline}", "the profile extends itself: baseline -> baseline (give it another name"),
        ("a: {extends: ><b}\n  b: {extends: c}\n  c: {extends: a}", "extends itself: a -> b -> c -> a (one of them"),
        ("p: {on_violation: ><refused}", "must be refuse or clamp, not 'refused' (did you mean 'refuse'?)"),
        ("p: {host_ipc: ><true}", "must be audit or refuse, not true"),
        ("p: {leftovers: ><keep}", "must be report or remove, not 'keep'"),
        ("p: {unlisted: ><no}", "must be allow or refuse, not 'no'"),
        ("p: {shared: ><widened}", "must be owner or widen, not 'widened' (did you mean 'widen'?)"),
        ("p: {shared: ><true}", "must be owner or widen, not true"),
        ("p: {writable_proc_sys: ><report}", "must be record or refuse, not 'report' (did you mean 'record'?)"),
        ("p: {nested_ipc: ><refuse}", "profiles.p.nested_ipc: must be report or deny, not 'refuse'"),
        ("p: {rlimits: ><819200}", "profiles.p.rlimits: must be a mapping, not 819200"),
        ("p: {rlimits: {><nofile: 5}}", "unknown key 'nofile' (known here: msgqueue)"),
        ("p: {rlimits: {msgqueue: ><800K}}", "819200 or 800KiB, or 'kernel', not '800K' (write 800KiB)"),
        ("p: {rlimits: {msgqueue: ><unlimited}}", "not 'unlimited' (write 'kernel', or the number that you mean)"),
        ("p: {rlimits: {msgqueue: ><-1}}", "profiles.p.rlimits.msgqueue: must be bytes, such as 819200 or 800KiB"),
        ("p: {rlimits: {msgqueue: ><010}}", "not '010' (write 10: only digits, no leading zero)"),
        ("p: {rlimits: {msgqueue: ><9223372036854775808}}", "bytes, such as 819200 or 800KiB, or 'kernel', not 9"),
        ("p: {rlimits: {msgqueue: ><8388608TiB}}", "must be bytes, such as 819200 or 800KiB, or 'kernel', not '8"),
        ("p: {rlimits: {msgqueue: ><true}}", "or 'kernel', not true"),
        ("p: {rlimits: {msgqueue: ><{max: 5}}}", "must be a whole number, text or null, not a mapping"),
        ("p: {rlimits: {msgqueue: ><[5]}}", "must be bytes, such as 819200 or 800KiB, or 'kernel', not a list"),
        ("p: {rlimits: {msgqueue: ><*x}}", "the alias '*x' cannot be used"),
        ("p: {help: ><5}", "profiles.p.help: must be text, not 5 (write it in quotes: '5')"),
        ('p: {help: ><"a\\nb"}', "profiles.p.help: must be one line without control characters, not 'a\\nb'"),
        ("p: {help: ><" + "x" * 501 + "}", "is longer than 500 characters"),
        *[
            (f"p: {{><{key}: x}}", f"profiles.p.{key}: '{key}' is not supported by this version")
            for key in ["keep", "reap", "expect", "drift", "dev_shm"]
        ],
    ],
)
def test_a_profile(text: str, said: str) -> None:
    """A profile's keys are known, its parent exists, and what later versions bring is told from typing errors."""
    check(f"{HEAD}profiles:\n  {text}\n{RULE}", said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "><kernel.shmmaxx: 1",
            "'kernel.shmmaxx' is not a sysctl that a policy governs (did you mean 'kernel.shmmax'?)",
        ),
        ("><kernel/shmmax: 1", "did you mean 'kernel.shmmax'?"),
        ("><kernel.sem.semmni: 1", "write kernel.sem: {semmni: ...}"),
        (
            "><net.core.somaxconn: 1",
            "'net.core.somaxconn' is not a sysctl that a policy governs (governed are fs.mqueue",
        ),
        ("kernel.shmmax: {><xyzzy: 1}", "unknown key 'xyzzy' (known here: at_least, default, max, min, of_host,"),
        ("kernel.msgmax: {><of_limit: 5%}", "unknown key 'of_limit' (known here: default, max, min and set)"),
        ("kernel.msgmax: ><{}", "kernel.msgmax: must not be empty"),
        ("kernel.msgmax: ><[1]", "kernel.msgmax: must be bytes, such as 65536 or 64KiB, or 'kernel', not a list"),
        ("kernel.msgmax:><", "kernel.msgmax: must be bytes, such as 65536 or 64KiB, or 'kernel', not nothing"),
        ("kernel.msgmax: ><010", "not '010' (write 10: only digits, no leading zero)"),
        ("kernel.msgmax: ><64K", "not '64K' (write 64KiB)"),
        ("kernel.msgmax: ><true", "not true"),
        ("kernel.msgmax: {max: ><null}", "not null (null drops a whole rule)"),
        ("kernel.msgmax: {max: ><{a: 1}}", "kernel.msgmax.max: must be a whole number or text, not a mapping"),
        ("kernel.msgmax: {max: ><[1]}", "kernel.msgmax.max: must be bytes"),
        ("kernel.msgmax: ><{set: 1, max: 2}", "'set' stands alone: it leaves nothing to bound (leave out 'set', or"),
        ("kernel.shm_rmid_forced: {><max: 1}", "unknown key 'max' (known here: default and set)"),
        ("kernel.shm_rmid_forced: ><yes", "must be 0, 1 or 'kernel', not 'yes'"),
        ("kernel.shmall: ><{max: 1GiB, of_host: 5%}", "mixes bounds with a share of memory"),
        ("kernel.shmall: ><{at_least: 1GiB}", "must have of_limit or of_host"),
        ("kernel.shmall: {max: ><{}}", "kernel.shmall.max: must not be empty"),
        ("kernel.shmall: {max: {of_limit: ><5}}", "must be a percentage from 1% to 10000%, not 5 (write 5%)"),
        ("kernel.shmall: {max: {of_limit: ><*x}}", "the alias '*x' cannot be used"),
        ("kernel.shmall: {max: {of_host: 5%, at_least: ><*x}}", "the alias '*x' cannot be used"),
        ("kernel.shmall: {max: {><of_limits: 5%, of_host: 1%}}", "did you mean 'of_limit'?"),
        ("kernel.sem: ><250", "must be four numbers, such as '250 32000 100 128', or 'kernel', not 250"),
        ("kernel.sem: ><250 32000 100", "must be four numbers"),
        ("kernel.sem: ><250 32000 100 0128", "must be four numbers"),
        ("kernel.sem: ><250 32000 100 40000", "kernel.sem.semmni must be 0 to 32768, not 40000"),
        ("kernel.sem: ><true", "must be four numbers"),
        (
            "kernel.sem: ><[250, 32000, 100, 128]",
            "must be four numbers, such as '250 32000 100 128', or 'kernel', not a list",
        ),
        ("kernel.sem: {semmni: {max: ><x}}", "kernel.sem.semmni.max: must be a count, such as 128 or '256 per GiB'"),
        ("kernel.sem: {><semnni: 5}", "unknown key 'semnni' (did you mean 'semmni'?)"),
        ("kernel.sem: ><{semmni: 5, max: 1 2 3 4}", "mixes the field semmni with max of all fields"),
        ("kernel.sem: ><{set: 1 2 3 4, max: 1 2 3 4}", "'set' stands alone"),
        ("kernel.sem: {max: ><5}", "kernel.sem.max: must be four numbers"),
        ("kernel.sem: {max: ><[5]}", "kernel.sem.max: must be four numbers"),
        ("kernel.shmmni: {min: 5, max: ><4}", "min 5 of kernel.shmmni is above max 4"),
    ],
)
def test_a_sysctl(text: str, said: str) -> None:
    """A rule for a sysctl is an amount, or bounds of them."""
    if "min 5" in said:  # of two bounds that contradict each other the first is named
        text = text.replace("><", "").replace("min: ", "min: ><")
    check(f"{HEAD}profiles:\n  p:\n    sysctls:\n      {text}\n{RULE}", said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("><5", "rules[0]: must be a mapping, not 5"),
        ("><{profile: baseline}", "rules[0]: 'name' is missing (add 'name: ...')"),
        ("><{name: r}", "rules[0]: 'profile' is missing"),
        ("{name: r, profile: ><basline}", "rules[0].profile: there is no profile 'basline' (did you mean 'baseline'?)"),
        ("{name: r, profile: ><xyzzy}", "there is no profile 'xyzzy' (known: baseline and restricted)"),
        ("{name: r, profile: ><5}", "rules[0].profile: must be text or a mapping, not 5 (write it in quotes: '5')"),
        ("{name: r, profile: ><[baseline]}", "rules[0].profile: must be text or a mapping, not a list"),
        (
            "{name: r, profile: ><{annotation: a, among: [baseline]}}",
            "rules[0].profile: 'else' is missing (add 'else: ...')",
        ),
        (
            "{name: r, profile: {annotation: a, among: [baseline], else: baseline, ><default: baseline}}",
            "unknown key 'default' (known here: among, annotation and else)",
        ),
        (
            "{name: r, profile: {annotation: ><'', among: [baseline], else: baseline}}",
            "rules[0].profile.annotation: must not be empty",
        ),
        ("{name: r, profile: {annotation: a, among: ><[], else: baseline}}", "profile.among: must not be empty"),
        ("{name: r, profile: {annotation: a, among: ><baseline, else: baseline}}", "must be a list, not 'baseline'"),
        ("{name: r, profile: {annotation: a, among: [><5], else: baseline}}", "among[0]: must be text, not 5"),
        (
            "{name: r, profile: {annotation: a, among: [restricted, ><basline], else: baseline}}",
            "rules[0].profile.among[1]: there is no profile 'basline' (did you mean 'baseline'?)",
        ),
        (
            "{name: r, profile: {annotation: a, among: [restricted], else: ><basline}}",
            "rules[0].profile.else: there is no profile 'basline' (did you mean 'baseline'?)",
        ),
        (
            "{name: r, profile: {annotation: a, among: [baseline, restricted, ><baseline], else: baseline}}",
            "rules[0].profile.among[2]: 'baseline' stands here twice (first in line 2)",
        ),
        ("{name: ><'', profile: baseline}", "rules[0].name: must not be empty"),
        ("{name: ><5, profile: baseline}", "rules[0].name: must be text, not 5 (write it in quotes: '5')"),
        ("{name: r, profile: baseline, mode: ><permisive}", "did you mean 'permissive'?"),
        ("{name: r, profile: baseline, ><wen: {}}", "unknown key 'wen' (did you mean 'when'?)"),
        ("{name: r, profile: baseline, when: ><[]}", "rules[0].when: must be a mapping, not a list"),
        ("{name: r, profile: baseline, when: {><images: x}}", "unknown key 'images' (did you mean 'image'?)"),
        ("{name: r, profile: baseline, when: {image: ><5}}", "when.image: must be text or a list, not 5 (write it in"),
        ("{name: r, profile: baseline, when: {image: ><[]}}", "when.image: must not be empty"),
        ("{name: r, profile: baseline, when: {image: [a, ><5]}}", "when.image[1]: must be text, not 5"),
        ("{name: r, profile: baseline, when: {privileged: ><yes}}", "must be true or false, not 'yes' (write true)"),
        ("{name: r, profile: baseline, when: {rootless: ><off}}", "must be true or false, not 'off' (write false)"),
        ("{name: r, profile: baseline, when: {rootless: ><0}}", "must be true or false, not 0"),
        (
            "{name: r, profile: baseline, when: {ipc: ><hots}}",
            "must be private, shared or host, or a list of them, not",
        ),
        ("{name: r, profile: baseline, when: {ipc: [host, ><x]}}", "ipc[1]: must be private, shared or host, not 'x'"),
        ("{name: r, profile: baseline, when: {not: ><{}}}", "when.not: must not be empty"),
        ("{name: r, profile: baseline, when: {not: {not: {><x: 1}}}}", "when.not.not.x: unknown key 'x'"),
        ("{name: r, profile: baseline, when: {annotations: ><{}}}", "when.annotations: must not be empty"),
        ("{name: r, profile: restricted}, {name: ><r, profile: baseline, when: {name: x}}", "there are two rules 'r'"),
    ],
)
def test_a_rule(text: str, said: str) -> None:
    """A rule has a name, a profile, and conditions that are known."""
    if "two rules" in said:  # the second would not be reached after the first
        text = text.replace("profile: restricted}", "profile: restricted, when: {name: y}}")
    check(f"{HEAD}rules: [{text}]\n", said)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (DROP_IN, "><mode: permissive\n", "'mode' belongs in policy.yaml (a drop-in has profiles, rules and version)"),
        (
            DROP_IN,
            "><trust_annotations: [a]\n",
            "'trust_annotations' belongs in policy.yaml (a drop-in has profiles, rules and version)",
        ),
        (SITE, "><trust_annotations: [a]\n", "'trust_annotations' has no place here (a file of profiles has"),
        (
            DROP_IN,
            "rules: [><{name: r, profile: baseline}]\n",
            "a rule without conditions, which takes every container",
        ),
        (DROP_IN, "rules: [><{name: r, profile: baseline, when: {}}]\n", "belongs in policy.yaml (add 'when'"),
        (SITE, "><rules: []\n", "'rules' has no place here (a file of profiles has profiles and version)"),
        (SITE, "><mode: enforcing\n", "'mode' has no place here"),
    ],
)
def test_a_place(kind: str, text: str, said: str) -> None:
    """What concerns the whole host stands in policy.yaml alone."""
    check(HEAD + text, said, kind)


def test_all_errors_come_at_once_and_in_order() -> None:
    """Structure, amounts, inheritance and rules are all checked, whatever else is wrong."""
    outcome = compiled("""\
version: 2
profiles:
  a: {extends: b, sysctls: {kernel.shmmax: 1G, kernel.sem: {semmsl: -1}}, keep: []}
  b: {extends: a}
  b: {}
rules:
  - {name: x, profile: nope, when: {image: *y}}
  - {name: z, profile: baseline}
  - {name: late, profile: a}
""")
    places = [(finding.line, finding.column) for finding in outcome.findings]
    assert places == [(1, 10), (3, 16), (3, 44), (3, 69), (3, 75), (5, 3), (7, 24), (7, 44), (9, 5)]
    assert sorted(places) == places


def test_what_follows_from_an_error_is_no_other_one() -> None:
    """A bound that is wrong contradicts nothing, and a condition that is wrong covers no rule."""
    text = f"""\
{HEAD}profiles:
  p: {{extends: baseline, sysctls: {{kernel.msgmax: {{default: 1M, max: 4}}, kernel.shmmni: {{set: x}}}}}}
rules:
  - {{name: a, when: {{imag: x}}, profile: p}}
  - {{name: b, when: {{image: [5]}}, profile: p}}
  - {{name: c, profile: p}}
"""
    assert [finding.line for finding in compiled(text).findings] == [3, 3, 5, 6]


def test_control_characters_are_escaped() -> None:
    """A finding is one line of ASCII, whatever the policy holds."""
    line = str(compiled(HEAD + 'profiles: {"p\\e[2J\\n\u00e4": {}}\n' + RULE).findings[0])
    assert line.isascii()
    assert line.isprintable()


KEYS = st.sampled_from(
    [
        *("version", "mode", "profiles", "rules", "name", "when", "profile", "image", "not", "ipc", "annotations"),
        *("extends", "sysctls", "on_violation", "help", "privileged", "p", "baseline", "shared", "rlimits", "msgqueue"),
        *("annotation", "among", "else", "engine", "pod"),
        *("set", "min", "default", "max", "of_limit", "of_host", "at_least", "semmsl", "semmni"),
        *FILES,
    ]
)
VALUES = st.sampled_from(
    [
        *("1", "0", "5", "kernel", "64KiB", "64K", "50%", "'50% of memory'", "'256 per GiB'", "'1 2 3 4'"),
        *("true", "null", "baseline", "p", "enforcing", "host", "''"),
    ]
)
WORDS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(KEYS, inner, max_size=5).map(
            lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=15,
)


@settings(deadline=None)  # the machine may be busy
@given(WORDS, WORDS, WORDS, WORDS)
def test_any_document_of_the_languages_own_words_gives_findings_or_a_policy(
    one: str, two: str, three: str, four: str
) -> None:
    """Whatever stands where, the compiler ends with findings or with a policy."""
    text = f"""{HEAD}trust_annotations: {four}
profiles: {{p: {one}, q: {{sysctls: {two}}}, r: {{rlimits: {two}}}}}
rules: [{{name: x, profile: p, when: {three}}}, {{name: y, profile: {four}}}]
"""
    outcome = compiled(text)
    assert (outcome.policy is None) == any(finding.severity == "error" for finding in outcome.findings)
