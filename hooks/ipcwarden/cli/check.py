"""`ipcwarden check`: what is wrong with the policy, before it is in force."""

from __future__ import annotations

import json

import click

from ipcwarden import compiler, layout
from ipcwarden.compiler import activation
from ipcwarden.errors import PolicyError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings


@click.command("check", short_help="Check a policy, and say where and what is wrong.")
@click.option("--strict", is_flag=True, help="Fail on warnings, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON list, for programs.")
@click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path())
@click.pass_obj
def command(settings: Settings, strict: bool, as_json: bool, files: tuple[str, ...]) -> int:
    """Check the policy, or FILEs each on its own.

    Everything that is wrong is printed at once, a line each: FILE:LINE:COLUMN, the path in the document, and what
    would be right.  Without FILE the installed sources are checked, and whether they are what is in force.
    """
    if files:
        outcomes, notes = [compiler.check(settings.root, path) for path in files], []
    else:
        outcome = compiler.load(settings.root)
        outcomes, notes = [outcome], _pending(settings.root, outcome)
    findings = tuple(dict.fromkeys(_row(finding) for outcome in outcomes for finding in outcome.findings))
    if as_json:
        rows = [dict(row) for row in findings] + [_note(settings.root, note) for note in notes]
        click.echo(json.dumps(rows, indent=2))
    else:
        show(outcomes)
        for note in notes:
            click.echo(f"note: {printable(note)}")
        click.echo(summary(outcomes))
    errors, warnings = (count(outcomes, severity) for severity in ("error", "warning"))
    return 1 if errors or (strict and warnings) else 0


def show(outcomes: list[compiler.Outcome]) -> None:
    """Print findings for people: a line each, none of them twice."""
    for line in dict.fromkeys(str(finding) for outcome in outcomes for finding in outcome.findings):
        click.echo(line, err=True)


def count(outcomes: list[compiler.Outcome], severity: str) -> int:
    """Return how many different findings of a severity there are."""
    return len({str(f) for outcome in outcomes for f in outcome.findings if f.severity == severity})


def summary(outcomes: list[compiler.Outcome]) -> str:
    """Return how it went, in one line."""
    files = counted(len({file for outcome in outcomes for file in outcome.files}), "file")
    errors, warnings = count(outcomes, "error"), count(outcomes, "warning")
    if not errors and not warnings:
        return f"{files}: nothing is wrong"
    return f"{files}: {counted(errors, 'error')}, {counted(warnings, 'warning')}"


def counted(number: int, noun: str) -> str:
    """Return a number of things as people write it."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _row(finding: compiler.Finding) -> tuple[tuple[str, str | int], ...]:
    names = ("severity", "file", "line", "column", "path", "message", "hint")
    return tuple((name, getattr(finding, name)) for name in names)


def _note(root: str, note: str) -> dict[str, str | int]:
    file = layout.beneath(root, f"{layout.STATE}/{layout.COMPILED}")
    return {"severity": "note", "file": file, "line": 0, "column": 0, "path": "", "message": note, "hint": ""}


def _pending(root: str, outcome: compiler.Outcome) -> list[str]:
    """Say whether what was checked is in force."""
    try:
        current = activation.in_force(root)
    except PolicyError as error:
        return [str(error)]
    if current is None:
        return ["no policy is in force yet: run ipcwarden compile"]
    if outcome.policy is None or activation.same_sources(outcome.policy, current):
        return []
    return [f"pending: the sources differ from the policy in force, {current.digest[:12]}: run ipcwarden compile"]
