"""`ipcwarden enable`: take the kill switch back."""

from __future__ import annotations

import os
import time

import click

from ipcwarden import layout
from ipcwarden.cli.disable import report, spoken
from ipcwarden.core.documents import serialize
from ipcwarden.core.record import timestamp
from ipcwarden.core.switch import Switch, is_switched_off
from ipcwarden.errors import PolicyError, printable, why
from ipcwarden.files import open_directory
from ipcwarden.host.procfs import login_uid
from ipcwarden.host.switch import read_switch
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings


@click.command("enable")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, as_json: bool) -> None:
    """Govern containers that start from now on again, after `ipcwarden disable`.

    What started in between stays as it is; `ipcwarden scan` lists it.
    """
    site = Site(settings.root, "enable")
    switch = read_switch(settings.root)
    now = time.time_ns()
    was_off = is_switched_off(switch, timestamp(now, tuple(time.gmtime(now // 10**9))))
    if switch is not None:
        _take_away(settings.root)
    if was_off:
        uid = login_uid()
        report(site, "enabled", {"uid": uid})
        site.alert(f"enabled by uid {uid}: containers that start from now on are governed")
    told = "enabled: containers that start from now on are governed"
    if not was_off:
        told = f"nothing to do: it was enabled{_why_on(switch)}"
    click.echo(serialize({"disabled": False, "changed": was_off}) if as_json else told)


def _why_on(switch: Switch | None) -> str:
    if switch is None:
        return ""
    if switch.fault:
        return printable(f"; the switch, which was not obeyed ({switch.fault}), is removed")
    return f"; the switch, which ended at {spoken(switch.until or '')}, is removed"


def _take_away(root: str) -> None:
    """Remove the switch's file.  Raises `PolicyError`."""
    place = layout.beneath(root, f"{layout.SOURCES}/{layout.SWITCH}")
    try:
        directory = open_directory(root, layout.SOURCES, error=PolicyError)
        try:
            os.unlink(layout.SWITCH, dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileNotFoundError:
        pass  # somebody was faster
    except OSError as error:
        raise PolicyError(f"cannot remove '{place}': {why(error)}") from error
