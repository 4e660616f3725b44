"""Rules: the conditions as they are stored, and which rules can never be reached."""

from __future__ import annotations

from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence, text_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.compiler.findings import Place, Report
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.core.policy import Condition


@value
class Rule:
    """A rule as it was written; a name or profile that is None has its error reported already."""

    at: Place
    name: str | None
    name_at: Place
    when: tuple[Condition, ...] | None  # None: spoilt
    profile: str | None
    profile_at: Place
    mode: str | None


def in_document(root: Node, report: Report) -> list[Rule]:
    """Return a document's rules in their order."""
    rules = root.entries.get("rules") if isinstance(root, Mapping) else None
    items = rules.items if isinstance(rules, Sequence) else []
    return [_rule(item, report) for item in items if isinstance(item, Mapping)]


def _rule(node: Mapping, report: Report) -> Rule:
    name, profile, when = (node.entries.get(key) for key in ("name", "profile", "when"))
    conditions: tuple[Condition, ...] | None = ()
    if when is not None:
        conditions = _conditions(when, report)
    return Rule(
        node.at,
        text_of(name),
        name.at if name else node.at,
        conditions,
        text_of(profile),
        profile.at if profile else node.at,
        text_of(node.entries.get("mode")),
    )


def _conditions(node: Node, report: Report, denied: bool = False) -> tuple[Condition, ...] | None:
    """Return the conditions of `when` or `not`; None where one of them is spoilt."""
    if not isinstance(node, Mapping) or node.entries.keys() != node.keys.keys():
        return None  # what an unknown key asked for is not known, either
    found: list[Condition] = []
    for key, child in node.entries.items():
        if key == "annotations" and isinstance(child, Mapping):
            hint = "use image, name, pod or namespace"
            report.warning(node.keys[key], "no annotation is trusted by this version: the rule never applies", hint)
            given = [(f"annotations.{name}", child.entries[name]) for name in sorted(child.entries)]
        else:
            given = [(key, child)]
        for name, wanted in given:
            expected = _conditions(wanted, report, not denied) if name == "not" else _expected(wanted)
            if expected is None:
                return None
            if name == "rootless" and expected is not denied:
                message = "this version leaves rootless containers alone: the rule never applies"
                report.warning(node.keys[key], message, "remove it")
            found.append((name, expected))
    return tuple(found)


def _expected(node: Node) -> tuple[str, ...] | bool | None:
    if isinstance(node, Sequence):
        globs = [text_of(item) for item in node.items]
        return None if None in globs else tuple(glob for glob in globs if glob is not None)
    if isinstance(node, Scalar):
        return node.value if isinstance(node.value, bool) else (str(node.value),)
    return None


def check_reach(rules: list[Rule], report: Report) -> None:
    """Report rules that stand after one that takes every container that they would."""
    for number, rule in enumerate(rules):
        if rule.when is None:
            continue
        for earlier in rules[:number]:
            if earlier.when is not None and covers(earlier.when, rule.when):
                place = f"{earlier.at.file}:{earlier.at.line}"
                message = f"the rule can never be reached: '{earlier.name}' ({place}) takes all that it would"
                report.error(rule.at, message, "put it before that rule, or remove it")
                break


def covers(general: tuple[Condition, ...], special: tuple[Condition, ...]) -> bool:
    """Tell whether the first conditions surely hold wherever the second do; False where that is not plain to see.

    It is the same with unknown facts: a condition that holds has its fact known.
    """
    have = dict(special)
    return all(key in have and _covers(key, expected, have[key]) for key, expected in general)


def _covers(key: str, general: object, special: object) -> bool:
    if key == "not" and isinstance(general, tuple) and isinstance(special, tuple):
        return covers(special, general)  # the more is excluded, the less is left
    if isinstance(general, tuple) and isinstance(special, tuple):
        return all(any(glob_covers(wide, narrow) for wide in general) for narrow in special)
    return general is special


def glob_covers(wide: str, narrow: str) -> bool:
    """Tell whether `wide` surely matches all that `narrow` matches."""
    at = here = 0
    star, mark = -1, 0
    while here < len(narrow):
        if at < len(wide) and wide[at] == "*":
            star, mark, at = at, here, at + 1
        elif at < len(wide) and narrow[here] != "*" and wide[at] in ("?", narrow[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            mark += 1
            at, here = star + 1, mark
        else:
            return False
    return not wide[at:].strip("*")
