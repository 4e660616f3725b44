"""docs/threat-model.md names a test for each way round, and none that there is not."""

from __future__ import annotations

import re

from support.shell import REPOSITORY

_NAMED = re.compile(r"`(test_\w+)`")
_DEFINED = re.compile(r"^def (test_\w+)\(", re.MULTILINE)


def ways() -> list[str]:
    """Return the rows of the table of ways round."""
    text = (REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")
    section = text.partition("## Ways round")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| **")]


def test_every_test_that_is_named_exists() -> None:
    """Who looks for the test that shows something finds it."""
    defined = {
        name
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        for name in _DEFINED.findall(file.read_text(encoding="utf-8"))
    }
    named = {name for row in ways() for name in _NAMED.findall(row)}
    assert named
    assert named <= defined


def test_every_way_round_has_a_test_or_says_so() -> None:
    """A way round without a test is told as one."""
    rows = [[cell.strip() for cell in row.strip("|").rsplit("|", 1)] for row in ways()]
    assert [row[0][:40] for row in rows if row[1] != "none" and not _NAMED.search(row[1])] == []
    assert [row[0].split("**")[1] for row in rows if row[1] == "none"] == [
        "Hide objects.",
        "Have a user namespace under containerd 1.7",
        "Restore from a checkpoint",
        "Exhaust memory",
    ]
