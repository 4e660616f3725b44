"""What each engine can tell of a container, and conditions that can therefore never hold."""

from __future__ import annotations

from ipcwarden.compiler.findings import did_you_mean, listed
from ipcwarden.compiler.nodes import Mapping, Sequence, text_of
from ipcwarden.core.policy import glob_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from ipcwarden.compiler.findings import Place, Report
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.compiler.rules import Rule
    from ipcwarden.core.policy import Condition

    Conditions: TypeAlias = tuple[Condition, ...]
    Known: TypeAlias = Callable[[str], bool]

FACTS = frozenset(("image", "name", "pod", "namespace"))  # what hangs on the engine; all else is known of everybody
# What is known of at least some of an engine's containers: containerd's CRI tells more than its ctr.
KNOWN = {
    "podman": frozenset(("image", "name")),
    "docker": frozenset(("image", "name")),
    "containerd": FACTS,
    "cri-o": FACTS,
    "nerdctl": frozenset(("name",)),
    "bare": frozenset(("name",)),
}
_CRI = frozenset(("containerd", "cri-o"))
_CTR = frozenset(("name",))
_OF_MEMBERS = frozenset(("image", "name"))  # of a pod; its sandbox has neither
RUNTIMES = ("runc", "crun", "youki", "kata-runtime", "runsc")
_NAMES = {"engine": tuple(KNOWN), "runtime": RUNTIMES}


def check(rule: Rule, trusted: tuple[str, ...] | None, widens: bool, report: Report) -> None:
    """Warn of conditions that can never hold.

    `trusted` are the annotations that are, None where that is not known; `widens` tells whether the rule's profile has
    a say in namespaces that are somebody's already.
    """
    if not rule.when:
        return
    mentioned = list(_mentioned(rule.when_node))
    for key, at, node in mentioned:
        if key in _NAMES:
            _check_names(key, node, report)
        elif key.startswith("annotations.") and trusted is not None and key[12:] not in trusted:
            _check_trust(rule.when, key, at, report)
    engines = [engine for engine in KNOWN if _possible(rule.when, engine)]
    able = [engine for engine in engines if can_hold(rule.when, _known_by(KNOWN[engine]))]
    if engines and not able:
        _tell_unknown(mentioned, engines, report)
    elif able and not widens and _is_late(rule.when, able):
        key, at = next((key, at) for key, at, _ in mentioned if key in _OF_MEMBERS)
        message = f"the sandbox decides the limits of a pod, and no {key} is known then"
        report.warning(at, message, "use pod, namespace or annotations")


def can_hold(when: Conditions, known: Known) -> bool:
    """Tell whether conditions can hold where the facts are known of which `known` says so."""
    return all(
        _can_fail(expected, known) if key == "not" and isinstance(expected, tuple) else known(key)
        for key, expected in when
    )


def _can_fail(when: Conditions, known: Known) -> bool:
    return any(
        can_hold(expected, known) if key == "not" and isinstance(expected, tuple) else known(key)
        for key, expected in when
    )


def _known_by(facts: frozenset[str]) -> Known:
    return lambda key: key not in FACTS or key in facts


def _mentioned(node: Node | None) -> Iterator[tuple[str, Place, Node]]:
    """Yield every condition, excluded ones too: its key as it is stored, where it stands, and what it wants."""
    if not isinstance(node, Mapping):
        return
    for key, child in node.entries.items():
        if key == "not":
            yield from _mentioned(child)
        elif key == "annotations" and isinstance(child, Mapping):
            for name, wanted in child.entries.items():
                yield f"annotations.{name}", child.keys[name], wanted
        else:
            yield key, node.keys[key], child


def _check_names(key: str, node: Node, report: Report) -> None:
    for item in node.items if isinstance(node, Sequence) else [node]:
        glob = text_of(item)
        if glob is not None and not any(glob_matches(glob, name) for name in _NAMES[key]):
            hint = did_you_mean(glob, _NAMES[key]) or f"known: {listed(_NAMES[key], 'and')}"
            report.warning(item.at, f"no {key} that is known is called '{glob}'", hint)


def _check_trust(when: Conditions, key: str, at: Place, report: Report) -> None:
    # Of several conditions below `not` another one may do.
    lost = "condition never holds" if can_hold(when, lambda other: other != key) else "rule never applies"
    message = f"annotation {key[12:]} is not in trust_annotations: the {lost}"
    report.warning(at, message, "list it in policy.yaml, or use image, name, pod or namespace")


def _possible(when: Conditions, engine: str) -> bool:
    for key, expected in when:
        if key == "engine" and not _any_matches(expected, engine):
            return False
        if key == "not" and isinstance(expected, tuple) and len(expected) == 1:
            excluded, globs = expected[0]
            if excluded == "engine" and _any_matches(globs, engine):
                return False
    return True


def _any_matches(globs: object, text: str) -> bool:
    return isinstance(globs, tuple) and any(glob_matches(glob, text) for glob in globs)


def _tell_unknown(mentioned: list[tuple[str, Place, Node]], engines: list[str], report: Report) -> None:
    known = frozenset.union(*(KNOWN[engine] for engine in engines))
    key, at = next((key, at) for key, at, _ in mentioned if key in FACTS - known)
    verb = "knows" if len(engines) == 1 else "know"
    hint = f"known there: {listed(sorted(known), 'and')}"
    report.warning(at, f"{listed(engines, 'and')} {verb} no {key}: the rule never applies", hint)


def _is_late(when: Conditions, engines: list[str]) -> bool:
    """Tell whether a rule is about pods alone, but takes only those who join a pod's namespace, never its sandbox."""
    pods = _CRI.issuperset(engines) and ("containerd" not in engines or not can_hold(when, _known_by(_CTR)))
    joiners = any(key == "ipc" and not _any_matches(expected, "private") for key, expected in when)
    return pods and not joiners and not can_hold(when, lambda key: key not in _OF_MEMBERS)
