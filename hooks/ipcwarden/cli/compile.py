"""`ipcwarden compile`: put the policy in force, or the one before."""

from __future__ import annotations

import click

from ipcwarden import compiler, layout
from ipcwarden.cli import check
from ipcwarden.compiler import activation
from ipcwarden.compiler.changes import changes
from ipcwarden.errors import printable
from ipcwarden.host.procfs import login_uid
from ipcwarden.stages.site import Site

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


def activated(root: str, old: Policy | None, new: Policy, sources: str) -> None:
    """Tell that another policy is in force now, people and the audit log."""
    site = Site(root, "compile")
    site.subject.update(policy=new.digest[:12], mode=new.mode)
    previous = old.digest[:12] if old else None
    record = site.record("policy", previous=previous, changes=changes(old, new), uid=login_uid())
    site.deliver(record, "policy")
    rules, profiles = check.counted(len(new.rules), "rule"), check.counted(len(new.profiles), "profile")
    click.echo(printable(f"in force: {new.digest[:12]} ({new.mode}, {rules}, {profiles}) from {sources}"))
