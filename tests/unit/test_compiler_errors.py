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
        (HEAD + "><xyzzy: 1\n" + RULE, "unknown key 'xyzzy' (known here: mode, profiles, rules, stale_pins, trust_ann"),
        (HEAD + "mode: ><enforced\n" + RULE, "mode: must be enforcing or permissive, not 'enforced' (did you mean"),
        (HEAD + "mode: ><yes\n" + RULE, "mode: must be enforcing or permissive, not 'yes'"),
        (HEAD + "rules:><\n", "rules: must be a list, not nothing (leave the key out"),
        (HEAD + "rules: ><{a: 1}\n", "rules: must be a list, not a mapping"),
        (HEAD + "profiles: ><[]\n" + RULE, "profiles: must be a mapping, not a list"),
        ("><[]", "must be a mapping, not a list"),
        ("><text", "must be a mapping, not 'text'"),
        (HEAD + "stale_pins: ><10m\n" + RULE, "stale_pins: must be a mapping, not '10m'"),
        (HEAD + "stale_pins: {><after: 10m}\n" + RULE, "unknown key 'after' (did you mean 'warn_after'?)"),
        (HEAD + "stale_pins: {warn_after: ><10 minutes}\n" + RULE, "2h or 1d, not '10 minutes' (write 10m)"),
        (
            HEAD + "stale_pins: {warn_after: ><null}\n" + RULE,
            "must be a duration, such as 90s, 10m, 2h or 1d, not null",
        ),
        (
            HEAD + "stale_pins: {warn_after: ><[5]}\n" + RULE,
            "must be a duration, such as 90s, 10m, 2h or 1d, not a list",
        ),
        (HEAD + "stale_pins: {warn_after: ><{s: 5}}\n" + RULE, "must be a whole number or text, not a mapping"),
        (HEAD + "stale_pins: {warn_after: ><*x}\n" + RULE, "the alias '*x' cannot be used"),
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
        ("p: {drift: ><expect}", "must be report or expected, not 'expect' (did you mean 'expected'?)"),
        ("p: {dev_shm: ><64MiB}", "profiles.p.dev_shm: must be a mapping, not '64MiB'"),
        ("p: {dev_shm: {><warn: 64MiB}}", "unknown key 'warn' (known here: warn_below)"),
        ("p: {dev_shm: {warn_below: ><64M}}", "must be bytes, such as 1GiB, not '64M' (write 64MiB)"),
        ("p: {dev_shm: {warn_below: ><50% of memory}}", "dev_shm.warn_below: must be bytes, such as 1GiB, not '50%"),
        ("p: {dev_shm: {warn_below: ><unlimited}}", "must be bytes, such as 1GiB, not 'unlimited'"),
        ("p: {dev_shm: {warn_below: ><-1}}", "must be bytes, such as 1GiB, not '-1'"),
    ],
)
def test_a_profile(text: str, said: str) -> None:
    """A profile's keys are known, and its parent exists."""
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


KEY = "must be a key, such as 0x0052e2c1, 5432001 or private, not "
OWNER = "must be a uid or a user's name, such as 999 or postgres, not "
QUEUE = "must be a glob of a queue's name, such as '/jobs-*', not "
DURATION = "must be a duration, such as 90s, 10m, 2h or 1d, not "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keep: ><{kind: shm}", "profiles.p.keep: must be a list or null, not a mapping"),
        ("keep: ><shm", "profiles.p.keep: must be a list or null, not 'shm'"),
        ("keep: [><shm]", "profiles.p.keep[0]: must be a mapping, not 'shm'"),
        ("keep: [><{owner: 5}]", "profiles.p.keep[0]: 'kind' is missing (add 'kind: ...')"),
        ("keep: [{><kinds: shm, kind: shm}]", "unknown key 'kinds' (did you mean 'kind'?)"),
        ("keep: [{kind: shm, ><age: 5}]", "unknown key 'age' (known here: key, kind, name and owner)"),
        ("reap: [{kind: shm, ><count: 5}]", "unknown key 'count' (known here: age, key, kind and owner)"),
        ("keep: [{kind: ><mq}]", "keep[0].kind: must be shm, sem, msg or mqueue, not 'mq'"),
        ("keep: [{kind: ><[shm]}]", "keep[0].kind: must be shm, sem, msg or mqueue, not a list"),
        ("keep: [{kind: ><semm, name: x}]", "keep[0].kind: must be shm, sem, msg or mqueue, not 'semm' (did you mean"),
        (
            "reap: [{kind: ><mqueue}]",
            "must be shm, sem or msg, not 'mqueue' (nothing proves that a POSIX message queue is not in use: they are",
        ),
        ("reap: [{kind: ><shmm}]", "must be shm, sem or msg, not 'shmm' (did you mean 'shm'?)"),
        ("keep: [{kind: mqueue, key: ><5}]", "keep[0].key: a POSIX message queue has no key (give its name, such as"),
        ("keep: [{kind: mqueue, key: ><x}]", "keep[0].key: a POSIX message queue has no key (give its name, such as"),
        ("expect: [{kind: msg, name: ></x}]", "expect[0].name: what is of kind msg has no name (give its key, such"),
        ("keep: [{kind: shm, key: ><0052e2c1}]", KEY + "'0052e2c1' (write 0x0052e2c1)"),
        ("keep: [{kind: shm, key: ><52E2C1}]", KEY + "'52E2C1' (write 0x0052e2c1)"),
        ("keep: [{kind: shm, key: ><IPC_PRIVATE}]", KEY + "'IPC_PRIVATE' (write private)"),
        ("keep: [{kind: shm, key: ><010}]", KEY + "'010'"),
        ("keep: [{kind: shm, key: ><4294967296}]", KEY + "4294967296"),
        ("keep: [{kind: shm, key: ><-2147483649}]", KEY + "'-2147483649'"),
        ("keep: [{kind: shm, key: ><0x123456789}]", KEY + "'0x123456789'"),
        ("keep: [{kind: shm, key: ><true}]", KEY + "true"),
        ("keep: [{kind: shm, key: ><null}]", KEY + "null"),
        ("keep: [{kind: shm, key: ><[5]}]", KEY + "a list"),
        ("keep: [{kind: shm, key: ><{a: 5}}]", "keep[0].key: must be a whole number or text, not a mapping"),
        ("keep: [{kind: shm, key: ><*x}]", "the alias '*x' cannot be used"),
        ("keep: [{kind: shm, owner: ><'999'}]", OWNER + "'999' (write 999)"),
        ("keep: [{kind: shm, owner: ><''}]", OWNER + "nothing"),
        ("keep: [{kind: shm, owner: ><4294967295}]", OWNER + "4294967295"),
        ("keep: [{kind: shm, owner: ><true}]", OWNER + "true"),
        ("keep: [{kind: shm, owner: ><[5]}]", OWNER + "a list"),
        (
            "keep: [{kind: shm, owner: ><no-such-user}]",
            "there is no user 'no-such-user' on this host (give the uid that the object's owner has on this host)",
        ),
        ("keep: [{kind: mqueue, name: ><''}]", QUEUE + "nothing"),
        ("keep: [{kind: mqueue, name: ></}]", QUEUE + "'/'"),
        ("keep: [{kind: mqueue, name: ><a/b}]", QUEUE + "'a/b' (a queue's name has no other slash than the first)"),
        ("keep: [{kind: mqueue, name: ><//b}]", QUEUE + "'//b' (a queue's name has no other slash than the first)"),
        ("keep: [{kind: mqueue, name: ><5}]", QUEUE + "5"),
        ("keep: [{kind: mqueue, name: ><" + "x" * 256 + "}]", QUEUE),
        ("reap: [{kind: shm, age: ><5 min}]", DURATION + "'5 min' (write 5m)"),
        ("reap: [{kind: shm, age: ><1w}]", DURATION + "'1w'"),
        ("reap: [{kind: shm, age: ><010}]", DURATION + "'010' (write 10)"),
        ("reap: [{kind: shm, age: ><367d}]", DURATION + "'367d' (at most 366d)"),
        ("reap: [{kind: shm, age: ><-5}]", DURATION + "'-5'"),
        ("reap: [{kind: shm, age: ><true}]", DURATION + "true"),
        ("expect: [{kind: shm, count: ><0}]", "must be a count of 1 to 2147483647, not 0 (left out, it is any number"),
        ("expect: [{kind: shm, count: ><'5'}]", "must be a count of 1 to 2147483647, not '5'"),
        ("expect: [{kind: shm, count: ><true}]", "must be a count of 1 to 2147483647, not true"),
        ("expect: [{kind: shm, bytes: ><4K}]", "must be bytes, such as 1GiB, not '4K' (write 4KiB)"),
        ("expect: [{kind: shm, bytes: ><5%}]", "must be bytes, such as 1GiB, not '5%'"),
        (
            "expect: [{kind: shm, bytes: ><18446744073709551616}]",
            "must be bytes, such as 1GiB, not 18446744073709551616",
        ),
    ],
)
def test_a_selector(text: str, said: str) -> None:
    """A selector has a kind and words that such objects have."""
    check(f"{HEAD}profiles:\n  p: {{leftovers: remove, {text}}}\n{RULE}", said)


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
  a: {extends: b, sysctls: {kernel.shmmax: 1G, kernel.sem: {semmsl: -1}}, kept: []}
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
        *("keep", "reap", "expect", "kind", "key", "owner", "age", "count", "bytes", "dev_shm", "warn_below", "drift"),
        *("set", "min", "default", "max", "of_limit", "of_host", "at_least", "semmsl", "semmni"),
        *FILES,
    ]
)
VALUES = st.sampled_from(
    [
        *("1", "0", "5", "kernel", "64KiB", "64K", "50%", "'50% of memory'", "'256 per GiB'", "'1 2 3 4'"),
        *("true", "null", "baseline", "p", "enforcing", "host", "''", "shm", "mqueue", "10m", "private", "root"),
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
profiles: {{p: {one}, q: {{sysctls: {two}}}, r: {{rlimits: {two}}}, s: {{keep: [{two}]}}}}
stale_pins: {one}
rules: [{{name: x, profile: p, when: {three}}}, {{name: y, profile: {four}}}]
"""
    outcome = compiled(text)
    assert (outcome.policy is None) == any(finding.severity == "error" for finding in outcome.findings)
