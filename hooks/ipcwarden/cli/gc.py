"""ipcwarden gc: audit and free what containers left whose poststop never came."""

from __future__ import annotations

import os
import re
import signal
import time

import click

from ipcwarden import privileges
from ipcwarden.cli import extract
from ipcwarden.cli.child import ask
from ipcwarden.cli.rootless import demand_namespace
from ipcwarden.core.alarms import short
from ipcwarden.core.documents import serialize
from ipcwarden.core.policy import STALE_PINS
from ipcwarden.errors import PolicyError, WardenError
from ipcwarden.host.membership import due_in, has_due, names
from ipcwarden.stages.collection import Due, adopt, collect, find_due, find_stale, strays, tidy
from ipcwarden.stages.company import protect_joined
from ipcwarden.stages.reaping import collect_due
from ipcwarden.stages.site import Site, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.cli import Settings
    from ipcwarden.core.documents import Document

GC_VERSION = 1
_PATIENCE = 120  # seconds
_MINUTE = 60
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


class Report:
    """What became of each: `collected`, `waiting`, `failed`, `stale` or one of `more`.

    Told at once to people, at the end to programs.  What is `stuck` is stale although it was to be collected.
    """

    def __init__(self, as_json: bool, *more: str) -> None:
        self._as_json = as_json
        self.stuck = False
        self._found: dict[str, list[Document]] = {
            each: [] for each in ("collected", "waiting", "failed", "stale", *more)
        }

    @property
    def failed(self) -> bool:
        """Tell whether anything is left to be tried again."""
        return self.stuck or bool(self._found["failed"])

    def add(self, what: str, container: str, reason: str, said: str = "", **more: Document) -> None:
        """Note what became of one; `said` is for people."""
        self._found[what].append({"container": container, "reason": reason, **more})
        if said and not self._as_json:
            click.echo(f"{said} ({reason})")

    def add_waiting(self, container: str, reason: str, records: int) -> None:
        """Note that so many records could not be delivered."""
        if records:
            waiting = "1 record waits" if records == 1 else f"{records} records wait"
            self.add("failed", container, reason, error=f"{waiting} in the ledger until the log can be written")

    def end(self, **more: Document) -> None:
        """Tell programs; `more` comes first."""
        if self._as_json:
            click.echo(serialize({**more, **self._found}))


@click.command("gc")
@click.option(
    "--older-than", type=Age(), default=0.0, metavar="AGE", help="Leave alone what is gone for less: 60s, 5m."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--release", is_flag=True, help="Living containers too: audit and unpin all, before the package goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, older_than: float, dry_run: bool, release: bool, as_json: bool) -> int:
    """Audit, record and free the namespaces of containers that are gone; finish what hooks left half-way.

    Living containers are never touched, unless --release asks for it; only the limits that a joiner's runtime has
    changed for them are put back.  What one that is gone has left in a namespace that others live in, and was too young
    to be removed then, or could not be told, is looked at again.
    """
    site = Site(settings.root, "gc")
    site.go_home()
    report = Report(as_json)
    # Without the directory no hook has run since the boot, and a look must not leave any.
    if os.path.isdir(str(site.places.entries)):
        if not dry_run:
            demand_namespace(site, "gc")
        (_foresee if dry_run else collect_all)(site, release, older_than, report)
    report.end(version=GC_VERSION)
    return 1 if report.failed else 0


def _foresee(site: Site, release: bool, older_than: float, report: Report) -> None:
    for each in find_due(site, release):
        what, verb = ("waiting", "wait with") if each.is_young(older_than) else ("collected", "collect")
        report.add(what, each.container, each.reason, f"would {verb} {called_in_full(each)}", **known_of(each))
    for name in strays(site):
        report.add("collected", name.rpartition("-")[0] or name, "no entry", f"would collect the pin {name}")
    for room in names(site.namespaces):
        for found in due_in(site.namespaces, room):
            each = told_of(extract.at(found, "subject", "container"), "due")
            said = f"would remove, of what {called_in_full(each)} left, what is old enough and nobody's"
            report.add("waiting", each.container, each.reason, said, **known_of(each))
    _warn(site, report)


def collect_all(site: Site, release: bool, older_than: float, report: Report) -> None:
    """Finish whatever is due, and put back the limits of namespaces that others have joined."""
    found = find_due(site, release)
    privileges.load_prctl()
    tidy(site)
    for each in found:
        _collect(site.root, each, older_than, report)
    # Only now: an unreadable entry's pin is a stray.
    for stray in [stray for name in strays(site) if (stray := adopt(site, name))]:
        _collect(site.root, stray, older_than, report)
    for room in [name for name in names(site.namespaces) if has_due(site.namespaces, name)]:
        _remove_due(site.root, room, report)
    _keep_limits(site.root, report)
    report.stuck = not all(each.is_young(older_than) for each in _warn(site, report))


def stale_after(site: Site) -> int:
    """Return the seconds after which a pin is stale."""
    try:
        return site.policy().stale_pins
    except PolicyError:
        return STALE_PINS


def _warn(site: Site, report: Report) -> list[Due]:
    """Tell of pins that hold the memory of containers that are long gone."""
    found = find_stale(site, stale_after(site))
    for each in found:
        assert each.seen is not None
        seconds = int(time.time()) - each.seen
        since = f"{seconds // 60} min" if seconds >= _MINUTE else f"{seconds} s"
        complain(f"the namespace of {called_in_full(each)} is still pinned, {since} after it was found gone")
        report.add("stale", each.container, each.reason, "", **known_of(each), seconds=seconds)
    return found


def called_in_full(which: Due) -> str:
    """Return what people call a container: its name, its id where it has no other, and its image."""
    called = ", ".join(part for part in (short(which.container), which.image) if part)
    return f"{which.name} ({called})" if which.name and which.name != which.container else short(which.container)


def known_of(which: Due) -> dict[str, Document]:
    """Return what a finding says of a container beside its id, as far as that is known."""
    return {key: value for key, value in (("name", which.name), ("image", which.image)) if value}


def told_of(found: Document, reason: str, key: str = "") -> Due:
    """Return a record's container as one that there is something to tell of; `key` is its entry's."""
    container, name, image = (extract.text(found, part) for part in ("id", "name", "image"))
    return Due(key, reason, container or key, name=name, image=image)


def _remove_due(root: str, room: str, report: Report) -> None:
    """Remove, in a child likewise, what members of a shared namespace have left that was too young then."""
    try:
        found, waiting = work(
            root, "gc", lambda site: [extract.at(each, "container") for each in collect_due(site, room)]
        )
    except WardenError as error:
        complain(f"cannot remove what is due in the namespace {room}: {error}")
        report.add("failed", "", "due", error=str(error))
        return
    for container in found if isinstance(found, list) else []:
        each = told_of(container, "due")
        report.add(
            "collected", each.container, each.reason, f"removed what {called_in_full(each)} left", **known_of(each)
        )
    report.add_waiting("", "due", waiting)


def _keep_limits(root: str, report: Report) -> None:
    """Put back, in a child likewise, what joiners' runtimes wrote of whom nobody has heard since."""
    try:
        _, waiting = work(root, "gc", protect_joined)
    except WardenError as error:
        complain(f"cannot put back the limits of namespaces that several are in: {error}")
        report.add("failed", "", "limits", error=str(error))
        return
    if waiting:
        complain("what was put back is not in the log: its records wait in the ledger until that can be written")
    report.add_waiting("", "limits", waiting)


def _collect(root: str, which: Due, older_than: float, report: Report) -> None:
    """Finish one entry in a child that joins its namespace: whatever happens there, this process stays where it is."""
    try:
        collected, waiting = work(root, "gc", lambda site: collect(site, which, older_than) is not None)
    except WardenError as error:
        complain(f"cannot collect {called_in_full(which)}: {error}")
        report.add("failed", which.container, which.reason, "", **known_of(which), error=str(error))
        return
    if waiting:
        report.add_waiting(which.container, which.reason, waiting)
    elif collected:
        report.add("collected", which.container, which.reason, f"collected {called_in_full(which)}", **known_of(which))
    elif which.reason == "undelivered":
        records = "1 record" if which.records == 1 else f"{which.records} records"
        said = f"delivered {records} of {called_in_full(which)}"
        report.add("collected", which.container, which.reason, said, **known_of(which), delivered=which.records)
    elif which.is_young(older_than):
        report.add("waiting", which.container, which.reason, "", **known_of(which))


def work(root: str, stage: str, job: Callable[[Site], Document]) -> tuple[Document, int]:
    """Return what `job` returns in a child that may join a namespace, and how many records the log did not take.

    Those are in the ledger.  Raises the `WardenError` that it raises.
    """

    def done() -> Document:
        site = site_in_child(root, stage)
        return {"result": job(site), "waiting": site.waiting}

    answer = ask(done)
    return extract.at(answer, "result"), extract.number(answer, "waiting")


def site_in_child(root: str, stage: str) -> Site:
    """Return what a child works on that joins a namespace, with no more rights than that takes."""
    signal.alarm(_PATIENCE)  # a lock that never comes free must not keep a timer's pass for ever
    privileges.settle()
    full = privileges.drop_with_prctl(privileges.POSTSTOP)
    site = Site(root, stage)
    site.privileges = "full" if full else "partial"
    return site
