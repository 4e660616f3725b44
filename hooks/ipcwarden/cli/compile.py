"""`ipcwarden compile`: put the policy in force, or the one before."""

from __future__ import annotations

import os

import click

from ipcwarden import compiler, layout
from ipcwarden.cli import findings
from ipcwarden.cli.findings import counted
from ipcwarden.cli.switch import tell_if_off
from ipcwarden.compiler import activation
from ipcwarden.compiler.changes import changes
from ipcwarden.core.documents import serialize
from ipcwarden.errors import printable
from ipcwarden.host.account import places_at
from ipcwarden.host.procfs import login_uid
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings
    from ipcwarden.compiler.activation import Activation
    from ipcwarden.core.documents import Document
    from ipcwarden.core.policy import Policy


@click.command("compile")
@click.option("--rollback", is_flag=True, help="Put the previous policy in force instead, and keep this one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, rollback: bool, as_json: bool) -> int:
    """Check the policy's sources and put them in force.

    Containers that start from now on get the new policy.  With an error in the sources nothing changes.
    """
    outcomes: list[compiler.Outcome] = []
    if rollback:
        done = activation.roll_back(settings.root)
        sources = f"{places_at(settings.root).policies[-1]}/{layout.PREVIOUS}"
    else:
        outcome = compiler.load(settings.root)
        outcomes = [outcome]
        if not as_json:
            findings.show(outcomes, err=True)
        if outcome.policy is None:
            failed = f"{findings.summary(outcomes)}; the policy in force stays as it is"
            click.echo(serialize(_document(None, outcomes)) if as_json else failed)
            return 1
        done = activation.activate(settings.root, outcome.policy)
        sources = ", ".join(outcome.files)
    if done.changed:
        _record(settings.root, done.old, done.new)
    click.echo(serialize(_document(done, outcomes)) if as_json else _told(done, sources))
    for place in places_at(settings.root).policies[:-1]:
        if os.path.lexists(f"{place}/{layout.COMPILED}"):
            click.echo(f"note: the host has a policy in force, '{place}/{layout.COMPILED}': that one binds", err=True)
    tell_if_off(settings.root)
    return 0


def _record(root: str, old: Policy | None, new: Policy) -> None:
    """Tell the audit log that another policy is in force now."""
    site = Site(root, "compile")
    site.subject.update(policy=new.digest[:12], mode=new.mode)
    previous = old.digest[:12] if old else None
    site.deliver(site.record("policy", previous=previous, changes=changes(old, new), uid=login_uid()), "policy")


def _told(done: Activation, sources: str) -> str:
    new = done.new
    if not done.changed:
        return f"unchanged: {new.digest[:12]} is in force"
    rules, profiles = counted(len(new.rules), "rule"), counted(len(new.profiles), "profile")
    return printable(f"in force: {new.digest[:12]} ({new.mode}, {rules}, {profiles}) from {sources}")


def _document(done: Activation | None, outcomes: list[compiler.Outcome]) -> Document:
    """Return what --json prints; without an activation nothing was put in force, and `findings` says why."""
    new = done.new if done else None
    return {
        "changed": bool(done and done.changed),
        "policy": new.digest[:12] if new else None,
        "mode": new.mode if new else None,
        "rules": len(new.rules) if new else None,
        "profiles": len(new.profiles) if new else None,
        "findings": findings.rows(outcomes),
    }
