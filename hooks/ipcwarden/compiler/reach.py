"""Which rules can never be reached, because one before them takes every container that they would."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ipcwarden.compiler.findings import Report
    from ipcwarden.compiler.rules import Rule
    from ipcwarden.core.policy import Condition

    Mark: TypeAlias = tuple[str, object]

_WILD = re.compile(r"[*?]")


def check(rules: list[Rule], report: Report) -> None:
    """Report rules that stand after one that takes every container that they would."""
    earlier_rules = _Earlier()
    for rule in rules:
        if rule.when is None:
            continue
        earlier = earlier_rules.covering(rule.when)
        if earlier is not None:
            place = f"{earlier.at.file}:{earlier.at.line}"
            message = f"the rule can never be reached: '{earlier.name}' ({place}) takes all that it would"
            report.error(rule.at, message, "put it before that rule, or remove it")
        earlier_rules.add(rule, rule.when)


class _Earlier:
    """Rules by a mark that whatever they cover has, too: of thousands of rules few have to be looked at.

    A mark is a condition's key with a truth value, or with a piece of a glob without wildcards: a glob covers only
    globs that have this piece.
    """

    def __init__(self) -> None:
        self._number = 0
        self._marked: dict[Mark, list[tuple[int, Rule, tuple[Condition, ...]]]] = {}
        self._lengths: dict[str, set[int]] = {}  # of the pieces, by key

    def add(self, rule: Rule, when: tuple[Condition, ...]) -> None:
        """Add a rule behind all others, by the marks of that condition that the fewest share."""
        choices = [_marks(key, expected) for key, expected in when] or [[("", None)]]
        fewest = min(choices, key=lambda marks: max(len(self._marked.get(mark, ())) for mark in marks))
        for mark in fewest:
            self._marked.setdefault(mark, []).append((self._number, rule, when))
            if isinstance(mark[1], str):
                self._lengths.setdefault(mark[0], set()).add(len(mark[1]))
        self._number += 1

    def covering(self, when: tuple[Condition, ...]) -> Rule | None:
        """Return the first rule that covers these conditions."""
        found = {
            number: (rule, general)
            for mark in self._marks_met(when)
            for number, rule, general in self._marked.get(mark, ())
        }
        return next((rule for _, (rule, general) in sorted(found.items(), key=_number) if covers(general, when)), None)

    def _marks_met(self, when: tuple[Condition, ...]) -> set[Mark]:
        met: set[Mark] = {("", None)}
        for key, expected in when:
            if key == "not" or not isinstance(expected, tuple):
                met.update(_marks(key, expected))
                continue
            glob = str(expected[0])  # who covers all of them covers this one
            for length in self._lengths.get(key, ()):
                met.update((key, glob[at : at + length]) for at in range(len(glob) - length + 1))
        return met


def _number(entry: tuple[int, object]) -> int:
    return entry[0]


def _marks(key: str, expected: object) -> list[Mark]:
    if key == "not" or not isinstance(expected, tuple):
        return [(key, None if key == "not" else expected)]
    return [(key, max(_WILD.split(str(glob)), key=len)) for glob in expected]


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
