"""`ipcwarden disable`: the kill switch.  Containers start undecided until it is taken back, or ends by itself."""

from __future__ import annotations

import os
import re
import time

import click

from ipcwarden import layout
from ipcwarden.core.documents import serialize
from ipcwarden.core.record import timestamp
from ipcwarden.core.switch import Switch, switch_document
from ipcwarden.errors import PolicyError, RecordError, printable, why
from ipcwarden.files import open_directory, write_atomically
from ipcwarden.host.procfs import login_uid
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings
    from ipcwarden.core.documents import Document

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 366 * 86400
_MAX_REASON = 500


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs of some versions only
    """A number with s, m, h or d, as seconds."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", value, re.ASCII)
        if not match:
            self.fail(f"'{value}' is no duration: write 90s, 30m, 2h or 1d", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]]
        if seconds > _LONGEST:
            self.fail(f"'{value}' is longer than 366 days: leave it out, for no end", param, ctx)
        return seconds


@click.command("disable")
@click.option("--for", "seconds", type=Duration(), metavar="TIME", help="End by itself after 90s, 30m, 2h or 1d.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever finds it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, seconds: int | None, reason: str, as_json: bool) -> None:
    """Let containers start ungoverned: no limit is decided on, written or refused.

    What runs already keeps its limits, and is audited and freed at its end.  Without --for this lasts until
    `ipcwarden enable`.
    """
    site = Site(settings.root, "disable")
    switch = Switch(_after(seconds) if seconds else None, reason[:_MAX_REASON], login_uid())
    _put(settings.root, switch)
    report(site, "disabled", {"until": switch.until, "reason": switch.reason, "uid": switch.by})
    until = f"until {spoken(switch.until)}" if switch.until else "until ipcwarden enable"
    because = f": {printable(switch.reason)}" if switch.reason else ""
    site.alert(printable(f"disabled by uid {switch.by} {until}: containers start ungoverned{because}"))
    document: dict[str, Document] = {"disabled": True, "changed": True, **switch_document(switch)}
    click.echo(serialize(document) if as_json else f"disabled {until}: containers start ungoverned{because}")


def spoken(moment: str) -> str:
    """Return a moment as people read it."""
    return f"{moment[:19].replace('T', ' ')} UTC"


def report(site: Site, event: str, about: dict[str, Document]) -> None:
    """Tell the audit log of the switch.  Where neither log nor ledger can be written, that is only said."""
    try:
        site.policy()
    except PolicyError:
        pass  # the switch is for such hosts, too
    try:
        site.deliver(site.record(event, **about), event)
    except RecordError as error:
        click.echo(f"ipcwarden: cannot record it: {error}", err=True)


def _after(seconds: int) -> str:
    moment = int(time.time()) + seconds
    return timestamp(moment * 10**9, tuple(time.gmtime(moment)))[:19] + "Z"


def _put(root: str, switch: Switch) -> None:
    """Write the switch's file.  Raises `PolicyError`."""
    place = layout.beneath(root, f"{layout.SOURCES}/{layout.SWITCH}")
    try:
        try:
            directory = open_directory(root, layout.SOURCES, error=PolicyError)
        except FileNotFoundError:
            directory = open_directory(root, layout.SOURCES, create=0o755, error=PolicyError)
        try:
            write_atomically(directory, layout.SWITCH, f"{serialize(switch_document(switch))}\n".encode("ascii"), 0o644)
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise PolicyError(f"cannot write '{place}': {why(error)}") from error
