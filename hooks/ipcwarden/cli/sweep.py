"""ipcwarden sweep: one pass over all containers, for a timer."""

from __future__ import annotations

import os

import click

from ipcwarden import privileges
from ipcwarden.cli import extract
from ipcwarden.cli.gc import Age, Report, called_in_full, collect_all, known_of, told_of, work
from ipcwarden.cli.rootless import demand_namespace
from ipcwarden.cli.ungoverned import record_ungoverned
from ipcwarden.errors import WardenError
from ipcwarden.host.membership import RoomTaken
from ipcwarden.stages.site import Site, complain
from ipcwarden.stages.watch import in_words, living, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.cli import Settings
    from ipcwarden.core.documents import Document
    from ipcwarden.stages.collection import Due

SWEEP_VERSION = 1
STAGE = "sweep"
_SKIPPED = "taken"  # why a container was not looked at


@click.command("sweep")
@click.option(
    "--older-than",
    type=Age(),
    default=60.0,
    metavar="AGE",
    help="Leave alone what is gone, or has started, for less: 60s (the default), 5m.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, older_than: float, as_json: bool) -> int:
    """Make one pass over all containers: what a timer calls every minute.

    Of living containers limits that have changed are recorded, and the most that was in use is kept; containers that
    run ungoverned are recorded; what gc finishes is finished.  No limits of a living container are changed, but for
    what a joiner's runtime has written.  Ends with 1 where something could not be done, and will be tried again.
    """
    site = Site(settings.root, STAGE)
    site.go_home()
    report = Report(as_json, "drift", "ungoverned")
    if os.path.isdir(str(site.places.entries)):
        demand_namespace(site, STAGE)
        privileges.load_prctl()
        # Before gc puts back what it may: of that, too, it shall be told what could have changed it.
        for key, entry in living(site, older_than).items():
            _watch(site, told_of(extract.at(entry, "subject", "container"), "living", key), report)
        collect_all(site, False, older_than, report)
    _look_for_ungoverned(site, older_than, report)
    report.end(version=SWEEP_VERSION)
    return 1 if report.failed else 0


def _watch(site: Site, which: Due, report: Report) -> None:
    """Look at one container in a child, which joins its namespace: one that fails keeps no other from its turn."""
    called, known = called_in_full(which), known_of(which)
    try:
        record, waiting = work(site.root, STAGE, lambda child: _watched(child, which.key))
    except WardenError as error:
        complain(f"cannot look at {called}: {error}")
        report.add("failed", which.container, which.reason, "", **known, error=str(error))
        return
    report.add_waiting(which.container, which.reason, waiting)
    if record == _SKIPPED:
        report.add("waiting", which.container, _SKIPPED, "", **known)
    elif isinstance(record, dict):
        found = record["drift"]
        said = f"{called} has other limits: {in_words(found)}" if found else f"{called} has its limits again"
        reason = "drift" if found else "restored"
        report.add("drift", which.container, reason, said, **known, drift=found, causes=record["causes"])


def _watched(site: Site, key: str) -> Document:
    """Look at one; what another hook or command is at work at is left for the next pass."""
    try:
        return watch(site, key)
    except RoomTaken:
        return _SKIPPED


def _look_for_ungoverned(site: Site, older_than: float, report: Report) -> None:
    if site.places.rootless:
        return  # a user sees their own containers, and may well not want to govern them
    try:
        found, waiting = work(site.root, STAGE, lambda child: record_ungoverned(child, older_than))
    except WardenError as error:
        complain(f"cannot look for containers that nobody governs: {error}")
        report.add("failed", "", "ungoverned", error=str(error))
        return
    report.add_waiting("", "ungoverned", waiting)
    for each in found if isinstance(found, list) else []:
        who, pid = told_of(each, "no entry"), extract.number(each, "pid")
        known = {**known_of(who), **{key: extract.at(each, key) for key in ("pid", "engine", "image")}}
        report.add(
            "ungoverned", who.container, who.reason, f"{called_in_full(who)} runs ungoverned, pid {pid}", **known
        )
