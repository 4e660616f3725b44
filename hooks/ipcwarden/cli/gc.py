"""ipcwarden gc: audit and free what containers left whose poststop never came."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import click

from ipcwarden import privileges
from ipcwarden.errors import WardenError
from ipcwarden.layout import ENTRIES, beneath
from ipcwarden.stages.collection import Due, adopt, collect, find_due, strays, tidy
from ipcwarden.stages.site import Site, complain

if TYPE_CHECKING:
    from ipcwarden.cli import Settings

_PATIENCE = 120  # seconds
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Age(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs of some versions only
    """Seconds, or a number with s, m, h or d."""

    name = "age"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float | int):
            return float(value)
        match = re.fullmatch(r"([0-9]+)([smhd]?)", value)
        if not match:
            self.fail(f"'{value}' is no age: write 90, 90s, 5m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


@click.command(short_help="Audit and free what containers left whose poststop never came.")
@click.option(
    "--older-than", type=Age(), default=0.0, metavar="AGE", help="Leave alone what is gone for less: 60s, 5m."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--release", is_flag=True, help="Living containers too: audit and unpin all, before the package goes.")
@click.pass_obj
def command(settings: Settings, older_than: float, dry_run: bool, release: bool) -> int:
    """Audit, record and free the namespaces of containers that are gone; finish what hooks left half-way.

    Living containers are never touched, unless --release asks for it.
    """
    site = Site(settings.root, "gc")
    site.go_home()
    if not os.path.isdir(beneath(settings.root, ENTRIES)):
        return 0  # no hook has run since the boot, and a look must not leave directories
    found = find_due(site, release)
    if dry_run:
        for each in found:
            verb = "would wait with" if each.is_young(older_than) else "would collect"
            click.echo(f"{verb} {each.container} ({each.reason})")
        for name in strays(site):
            click.echo(f"would collect the pin {name} (no entry)")
        return 0
    tidy(site)
    collected = [_collect_in_child(settings.root, each, older_than) for each in found]
    # Only now: an unreadable entry's pin is a stray.
    adopted = [stray for name in strays(site) if (stray := adopt(site, name))]
    collected += [_collect_in_child(settings.root, each, older_than) for each in adopted]
    return 0 if all(collected) else 1


def _collect_in_child(root: str, which: Due, older_than: float) -> bool:
    """Finish one entry in a child that joins its namespace: whatever happens there, this process stays where it is."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    status = 70
    signal.alarm(_PATIENCE)  # a lock that never comes free must not keep a timer's pass for ever
    try:
        privileges.settle()
        full = privileges.drop_with_prctl(privileges.POSTSTOP)
        site = Site(root, "gc")
        site.privileges = "full" if full else "partial"
        record = collect(site, which, older_than)
        if record is not None:
            click.echo(f"collected {which.container} ({which.reason})")
        status = 0
    except WardenError as error:
        complain(f"cannot collect {which.container}: {error}")
        status = error.exit_code
    except Exception as error:
        complain(f"cannot collect {which.container}: {type(error).__name__}: {error} (please report this)")
    finally:
        os._exit(status)
