"""`ipcwarden check`: what is wrong with the policy, before it is in force."""

from __future__ import annotations

import json

import click

from ipcwarden import compiler, layout
from ipcwarden.cli import findings
from ipcwarden.cli.switch import tell_if_off
from ipcwarden.compiler import activation
from ipcwarden.errors import PolicyError, printable
from ipcwarden.host.account import places_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings
    from ipcwarden.core.documents import Document


@click.command("check")
@click.option("--strict", is_flag=True, help="Fail on warnings, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON list, for programs.")
@click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path())
@click.pass_obj
def command(settings: Settings, strict: bool, as_json: bool, files: tuple[str, ...]) -> int:
    """Check the policy, or FILEs each on its own.

    Everything that is wrong is printed at once, a line each: FILE:LINE:COLUMN, the path in the document, and what
    would be right.  Notes and a summary go to standard error.  Without FILE the installed sources are checked, and
    whether they are what is in force.
    """
    if files:
        outcomes, notes = [compiler.check(settings.root, path) for path in files], []
    else:
        outcome = compiler.load(settings.root)
        outcomes, notes = [outcome], _pending(settings.root, outcome)
    if as_json:
        click.echo(json.dumps(findings.rows(outcomes) + [_note(settings.root, note) for note in notes], indent=2))
    else:
        findings.show(outcomes)
        for note in notes:
            click.echo(f"note: {printable(note)}", err=True)
        click.echo(findings.summary(outcomes), err=True)
    tell_if_off(settings.root)
    errors, warnings = (findings.count(outcomes, severity) for severity in ("error", "warning"))
    return 1 if errors or (strict and warnings) else 0


def _note(root: str, note: str) -> Document:
    file = f"{places_at(root).policies[-1]}/{layout.COMPILED}"
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
