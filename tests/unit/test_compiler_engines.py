"""Conditions that no engine can ever meet are warnings, told where they stand."""

from __future__ import annotations

import pytest

from ipcwarden.compiler import compile_sources
from ipcwarden.compiler.engines import FACTS, KNOWN
from ipcwarden.compiler.sources import DROP_IN, MAIN, Source, built_in
from ipcwarden.core.sysctls import KERNEL_DEFAULTS

POD = "the sandbox decides the limits of a pod, and no image is known then (use pod, namespace or annotations)"
LISTED = "(list it in policy.yaml, or use image, name, pod or namespace)"


def warnings(when: str, head: str = "", kind: str = MAIN, profile: str = "restricted") -> list[str]:
    """Compile a rule with these conditions, and return what is said of them: the way below `when`, and the sentence."""
    text = f"version: 1\n{head}rules:\n  - {{name: r, profile: {profile}, when: {when}}}\n"
    outcome = compile_sources([*built_in(), Source(kind, "f", text.encode())], KERNEL_DEFAULTS, "", 4096)
    assert outcome.policy is not None
    found = [str(finding).partition(": warning: rules[0].when.")[2] for finding in outcome.findings]
    assert "" not in found
    return found


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{engine: bare, image: x}", "image: bare knows no image: the rule never applies"),
        ("{engine: docker, pod: x}", "pod: docker knows no pod: the rule never applies"),
        ("{namespace: x, engine: podman}", "namespace: podman knows no namespace: the rule never applies"),
        ("{engine: nerdctl, namespace: x, pod: y}", "namespace: nerdctl knows no namespace: the rule never applies"),
        ("{engine: [docker, bare], pod: x}", "pod: docker and bare know no pod: the rule never applies"),
        ("{engine: '*o*r', pod: x}", "pod: docker knows no pod"),
        ("{engine: nerdctl, image: x}", "image: nerdctl knows no image"),
        ("{engine: podman, pod: x}", "pod: podman knows no pod"),
        ("{engine: 'podma?', namespace: x}", "namespace: podman knows no namespace"),
        ("{engine: docker, not: {pod: x}}", "not.pod: docker knows no pod"),
        ("{engine: docker, not: {not: {pod: x}}}", "not.not.pod: docker knows no pod"),
        ("{engine: docker, not: {pod: x, namespace: y}}", "not.pod: docker knows no pod"),
        (
            "{not: {engine: [containerd, cri-o]}, pod: x}",
            "pod: podman, docker, nerdctl and bare know no pod: the rule never applies",
        ),
    ],
)
def test_a_condition_that_its_engines_never_meet_is_a_warning(when: str, said: str) -> None:
    """The fact is unknown, and a condition on it never holds, excluded or not."""
    found = warnings(when)
    assert len(found) == 1
    assert found[0].startswith(said)
    assert "known there: " in found[0]


@pytest.mark.parametrize(
    "when",
    [
        "{image: registry.example/x}",
        "{pod: x, namespace: y}",
        "{engine: docker, image: x, name: y}",
        "{engine: [docker, cri-o], pod: x}",
        "{engine: [docker, containerd], image: x}",
        "{engine: bare, name: x, runtime: crun, privileged: true, ipc: host, rootless: true}",
        "{engine: docker, not: {pod: x, image: y}}",
        "{engine: docker, not: {not: {pod: x}, image: y}}",
        "{engine: docker, not: {engine: docker}, pod: x}",
        "{not: {engine: bare, name: x}, pod: y}",
        "{not: {engine: cri-o}, namespace: x}",
        "{rootless: true}",
        "{not: {rootless: false}}",
    ],
)
def test_a_condition_that_may_hold_is_none(when: str) -> None:
    """For one of the engines at least, or because something else below `not` is known."""
    assert warnings(when) == []


@pytest.mark.parametrize("engine", list(KNOWN))
@pytest.mark.parametrize("fact", sorted(FACTS))
def test_the_table_is_what_is_told(engine: str, fact: str) -> None:
    """A rule for one engine and one fact is warned of where the table has no such fact."""
    never = any("the rule never applies" in each for each in warnings(f"{{engine: {engine}, {fact}: x}}"))
    assert never is (fact not in KNOWN[engine])


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{engine: dockr}", ["engine: no engine that is known is called 'dockr' (did you mean 'docker'?)"]),
        (
            "{engine: [podman, Docker]}",
            ["engine[1]: no engine that is known is called 'Docker' (did you mean 'docker'?)"],
        ),
        ("{engine: crio}", ["engine: no engine that is known is called 'crio' (did you mean 'cri-o'?)"]),
        (
            "{engine: lxd*}",
            [f"engine: no engine that is known is called 'lxd*' (known: {', '.join(list(KNOWN)[:-1])} and bare)"],
        ),
        ("{not: {engine: dockr}}", ["not.engine: no engine that is known is called 'dockr' (did you mean 'docker'?)"]),
        ("{runtime: rnc}", ["runtime: no runtime that is known is called 'rnc' (did you mean 'runc'?)"]),
        (
            "{runtime: [crun, crunn]}",
            ["runtime[1]: no runtime that is known is called 'crunn' (did you mean 'crun'?)"],
        ),
        ("{runtime: [crun*, '*', 'r?nc', kata*, runsc, youki], engine: ['*', 'cri*']}", []),
    ],
)
def test_a_name_that_nobody_has_is_a_warning(when: str, said: list[str]) -> None:
    """Engines and runtimes are few and known, a glob of them has to match one."""
    assert warnings(when) == said


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{image: x, pod: y}", ["image: " + POD]),
        ("{image: x, namespace: y}", ["image: " + POD]),
        ("{namespace: y, not: {image: x}}", ["not.image: " + POD]),
        ("{image: x, not: {namespace: y}}", ["image: " + POD]),
        ("{engine: containerd, image: x}", ["image: " + POD]),
        ("{engine: [cri-o, 'contain*'], image: x}", ["image: " + POD]),
        ("{engine: cri-o, image: x, ipc: [private, shared]}", ["image: " + POD]),
        ("{pod: y, name: x}", ["name: " + POD.replace("image", "name")]),
        ("{engine: cri-o, name: x}", ["name: " + POD.replace("image", "name")]),
        ("{name: x, image: y, pod: z}", ["name: " + POD.replace("image", "name")]),
        ("{engine: containerd, name: x}", []),
        ("{engine: [containerd, cri-o], name: x}", []),
        ("{engine: cri-o, image: x, ipc: shared}", []),
        ("{namespace: y, not: {pod: z, image: x}}", []),
        ("{name: y, not: {namespace: y, image: x}}", []),
        ("{engine: docker, image: x}", []),
        ("{image: x}", []),
    ],
)
def test_an_image_decides_nothing_about_a_pod(when: str, said: list[str]) -> None:
    """Its limits are the sandbox's, which has no image of the user's; who joins it is only checked against them."""
    assert warnings(when) == said


def test_an_image_decides_where_members_may_widen() -> None:
    """With `shared: widen` a rule for those who join a pod has a say in its limits."""
    head = "profiles: {wide: {shared: widen}}\n"
    assert warnings("{namespace: y, image: x}", head, profile="wide") == []
    chosen = "{annotation: a, among: [baseline, wide], else: restricted}"
    assert warnings("{namespace: y, image: x}", head, profile=chosen) == []


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (
            "{annotations: {a.b/c: x}}",
            [f"annotations.a.b/c: annotation a.b/c is not in trust_annotations: the rule never applies {LISTED}"],
        ),
        (
            "{not: {annotations: {z: x}}}",
            [f"not.annotations.z: annotation z is not in trust_annotations: the rule never applies {LISTED}"],
        ),
        (
            "{not: {annotations: {z: x}, name: y}}",
            [f"not.annotations.z: annotation z is not in trust_annotations: the condition never holds {LISTED}"],
        ),
        ("{annotations: {t: x}}", []),
        (
            "{annotations: {t: x, z: y}}",
            [f"annotations.z: annotation z is not in trust_annotations: the rule never applies {LISTED}"],
        ),
    ],
)
def test_an_annotation_that_is_not_trusted_is_a_warning(when: str, said: list[str]) -> None:
    """Whoever starts a container sets it as they like."""
    assert warnings(when, "trust_annotations: [t]\n") == said


def test_a_drop_in_on_its_own_does_not_tell_what_is_trusted() -> None:
    """That stands in policy.yaml."""
    assert warnings("{annotations: {z: x}}", kind=DROP_IN) == []


def test_a_drop_in_with_policy_yaml_is_held_against_it() -> None:
    """Whichever of the two has the rule."""
    sources = [
        Source(MAIN, "main", b"version: 1\ntrust_annotations: [t]\n"),
        Source(
            DROP_IN,
            "drop",
            b"version: 1\nrules:\n"
            b"  - {name: a, profile: baseline, when: {annotations: {t: x}}}\n"
            b"  - {name: b, profile: baseline, when: {annotations: {z: x}}}\n",
        ),
    ]
    outcome = compile_sources([*built_in(), *sources], KERNEL_DEFAULTS, "", 4096)
    assert [(finding.file, finding.line) for finding in outcome.findings] == [("drop", 4)]
