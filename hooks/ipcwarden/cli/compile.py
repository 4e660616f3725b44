"""`ipcwarden compile`: put the policy in force, or the one before."""

from __future__ import annotations

import click

from ipcwarden import compiler, layout
from ipcwarden.cli import check
from ipcwarden.compiler import activation
from ipcwarden.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings
    from ipcwarden.core.policy import Policy


@click.command("compile", short_help="Put the policy in force.")
@click.option("--rollback", is_flag=True, help="Put the previous policy in force instead, and keep this one.")
@click.pass_obj
def command(settings: Settings, rollback: bool) -> int:
    """Check the policy's sources and put them in force.

    Containers that start from now on get the new policy.  With an error in the sources nothing changes.
    """
    if rollback:
        done = activation.roll_back(settings.root)
        sources = layout.beneath(settings.root, f"{layout.STATE}/{layout.PREVIOUS}")
    else:
        outcome = compiler.load(settings.root)
        check.show([outcome])
        if outcome.policy is None:
            click.echo(f"{check.summary([outcome])}; the policy in force stays as it is")
            return 1
        done = activation.activate(settings.root, outcome.policy)
        sources = ", ".join(outcome.files)
    if done.changed:
        activated(settings.root, done.old, done.new, sources)
    else:
        click.echo(f"unchanged: {done.new.digest[:12]} is in force")
    return 0


def activated(root: str, old: Policy | None, new: Policy, sources: str) -> None:  # noqa: ARG001
    """Tell that another policy is in force now."""
    rules, profiles = check.counted(len(new.rules), "rule"), check.counted(len(new.profiles), "profile")
    click.echo(printable(f"in force: {new.digest[:12]} ({new.mode}, {rules}, {profiles}) from {sources}"))
