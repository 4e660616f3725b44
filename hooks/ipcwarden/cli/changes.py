"""Changes to registrations: what they are asked with, made or only shown, and told."""

from __future__ import annotations

import json
import os

import click

from ipcwarden.errors import UsageError, printable
from ipcwarden.registration.changes import make_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipcwarden.registration.changes import Change

bundle_argument = click.argument(
    "bundle", metavar="DIR", type=click.Path(exists=True, file_okay=False, resolve_path=True)
)
hooks_dir_option = click.option(
    "--hooks-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, resolve_path=True),
    help="The directory that the engine reads.  [default: /usr/share/containers/oci/hooks.d below the root]",
)
config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False, resolve_path=False),
    callback=lambda _context, _option, path: path and os.path.abspath(path),
    help="The engine's own configuration, if it is not where that engine looks for it without being told.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change, as a patch, and change nothing.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print which files changed, for programs.")


def help_if_alone(context: click.Context) -> None:
    """Print a group's help where none of its verbs was named, which is wrong usage, and end."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(UsageError.exit_code)


def carry_out(
    changes: list[Change],
    dry_run: bool,
    as_json: bool,
    otherwise: str,
    programs: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Make changes or only show them, and say which; `programs` are the files of our own that were written."""
    if not dry_run:
        make_all(changes)
    paths = [*programs, *(change.path for change in changes)]
    if as_json:
        click.echo(json.dumps({"changed": bool(paths), "files": paths, "notes": list(notes)}))
        return
    if not paths:
        click.echo(otherwise)
    elif dry_run:
        for path in (*programs, *(change.path for change in changes if change.copy_of)):
            click.echo(printable(f"would write {path}"))
        click.echo("".join(change.shown() for change in changes if not change.copy_of), nl=False)
    else:
        removed = {change.path for change in changes if change.after is None}
        for path in paths:
            click.echo(printable(f"{'removed' if path in removed else 'wrote'} {path}"))
    for note in notes:
        click.echo(printable(f"note: {note}"))
