"""Findings of the compiler, for people and for programs."""

from __future__ import annotations

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipcwarden import compiler
    from ipcwarden.core.documents import Document

_NAMES = ("severity", "file", "line", "column", "path", "message", "hint")


def show(outcomes: Iterable[compiler.Outcome], err: bool = False) -> None:
    """Print findings for people: a line each, none of them twice."""
    for line in dict.fromkeys(str(finding) for outcome in outcomes for finding in outcome.findings):
        click.echo(line, err=err)


def rows(outcomes: Iterable[compiler.Outcome]) -> list[Document]:
    """Return findings for programs: an object each, none of them twice."""
    found = dict.fromkeys(
        tuple((name, getattr(finding, name)) for name in _NAMES) for outcome in outcomes for finding in outcome.findings
    )
    return [dict(each) for each in found]


def count(outcomes: Sequence[compiler.Outcome], severity: str) -> int:
    """Return how many different findings of a severity there are."""
    return len({str(f) for outcome in outcomes for f in outcome.findings if f.severity == severity})


def summary(outcomes: Sequence[compiler.Outcome]) -> str:
    """Return how it went, in one line."""
    files = counted(len({file for outcome in outcomes for file in outcome.files}), "file")
    errors, warnings = count(outcomes, "error"), count(outcomes, "warning")
    if not errors and not warnings:
        return f"{files}: nothing is wrong"
    return f"{files}: {counted(errors, 'error')}, {counted(warnings, 'warning')}"


def counted(number: int, noun: str) -> str:
    """Return a number of things as people write it."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
