"""`ipcwarden audit`: what became of containers, from the log."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice

import click
from rich.text import Text

from ipcwarden.cli import extract, table
from ipcwarden.cli.choice import named
from ipcwarden.cli.lives import ENDS, end_of, running, unfinished
from ipcwarden.cli.logs import EVENTS, Filter, Log
from ipcwarden.cli.summary import container_of, moment_of, what
from ipcwarden.core.documents import serialize
from ipcwarden.errors import RecordError, UsageError
from ipcwarden.files import open_place
from ipcwarden.host.account import places_at
from ipcwarden.host.ledger import keys, peek
from ipcwarden.host.procfs import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ipcwarden.cli import Settings
    from ipcwarden.cli.logs import Record

_COLUMNS = ("TIME (UTC)", "EVENT", "CONTAINER", "IMAGE", "PROFILE", "DECISION", "WHAT")
_NARROW = tuple(name for name in _COLUMNS if name not in ("IMAGE", "PROFILE"))
_BEGINNING = ("TIME (UTC)", "CONTAINER", "IMAGE", "PROFILE")
_WIDE = 100  # characters of a terminal on which every column has room
_CHUNK = 50  # records of one write
_PAGE = 500  # rows of one table, so that a log of any size is shown while it is read


@click.command("audit")
@click.option("--json", "as_json", is_flag=True, help="Print records as they are, one a line, for programs.")
@click.option(
    "--container", metavar="ID", help="Only this container's: its id, its name, or a prefix that no other id has."
)
@click.option("--event", type=click.Choice(EVENTS), help="Only this event's.")
@click.option("--unfinished", "only_unfinished", is_flag=True, help="Only the beginnings of lives without an end.")
@click.pass_obj
def command(settings: Settings, as_json: bool, container: str | None, event: str | None, only_unfinished: bool) -> None:
    """Print the audit records, oldest first, of rotated files too.

    With --container what a record tells of the end is listed as well: IPC objects, with what became of each and why it
    stayed, the most that was in use, and the files in /dev/shm.
    """
    if only_unfinished and event:
        raise UsageError("cannot print lives without an end, and an event: a life has several", "leave out --event")
    with Log(settings.root) as log:
        wanted = Filter() if container is None else log.find(named(container))
        records = log.read(replace(wanted, event=event or ""))
        if only_unfinished:
            count = _show_unfinished(settings.root, records, as_json)
        else:
            count = _print(records) if as_json else _show(records, with_objects=container is not None)
        _tell(settings.root, log, container if not only_unfinished else None, count)


def _show_unfinished(root: str, records: Iterator[Record], as_json: bool) -> int:
    entries, boot = places_at(root).entries, boot_id()
    alive = running(entries, boot)
    found = unfinished(records)
    alive |= running(entries, boot)  # what has begun, or ended, while the log was read
    ends = [end_of(record, boot, alive) for record in found]
    if as_json:
        for record, end in zip(found, ends, strict=True):
            click.echo(serialize({**record.document, "unfinished": end}))
    elif found:
        rows = [[*_row(record, _BEGINNING), ENDS[end]] for record, end in zip(found, ends, strict=True)]
        table.show(table.table(("SINCE (UTC)", *_BEGINNING[1:], "END"), rows, whole=("SINCE (UTC)",)))
    else:
        table.note("every life that the log tells of has an end")
    return len(found)


def _print(records: Iterator[Record]) -> int:
    count = 0
    while page := list(islice(records, _CHUNK)):
        click.echo("\n".join(record.json for record in page))  # every echo is flushed
        count += len(page)
    return count


def _show(records: Iterator[Record], with_objects: bool) -> int:
    count = 0
    columns = _COLUMNS if table.width() >= _WIDE else _NARROW
    while page := list(islice(_until_details(records) if with_objects else records, _PAGE)):
        table.show(table.table(columns, (_row(each, columns) for each in page), whole=_COLUMNS[:2]))
        count += len(page)
        if with_objects and (details := _details(page[-1])):
            table.show(Text(), *table.indented(details))
    return count


def _until_details(records: Iterator[Record]) -> Iterator[Record]:
    """Yield records up to one below which there is more to tell of it."""
    for record in records:
        yield record
        if _details(record):
            return


def _details(record: Record) -> list[RenderableType]:
    """Return what a record lists: the objects, the most that was in use, the files in /dev/shm."""
    document = record.document
    shown = table.objects(extract.rows(document, "objects"), narrow=table.width() < _WIDE)
    if shown and (omitted := extract.number(document, "objects_omitted")):
        shown += [Text(f"and {omitted} smaller ones that the record does not list"), Text()]
    if isinstance(peaks := extract.at(document, "peaks"), dict) and peaks:
        rows = [(name, extract.text(peaks, name)) for name in peaks]
        shown += [
            Text("The most that was in use", style="bold"),
            table.table(("LIMIT", "PEAK"), rows, ("PEAK",)),
            Text(),
        ]
    if files := extract.rows(document, "dev_shm", "files"):
        shown += [Text("Files in /dev/shm", style="bold"), table.files(files)]
        omitted = extract.number(document, "dev_shm", "files_omitted")
        shown += [Text(f"and {omitted} smaller ones that the record does not list")] if omitted else []
        shown += [Text()]
    return shown


def _row(record: Record, columns: tuple[str, ...]) -> list[str]:
    document = record.document
    cells = [moment_of(document), extract.text(document, "event"), container_of(document)]
    cells += [extract.text(document, "container", "image"), extract.text(document, "profile")]
    cells += [extract.text(document, "decision"), what(document)]
    return [cell or "-" for name, cell in zip(_COLUMNS, cells, strict=True) if name in columns]


def _tell(root: str, log: Log, container: str | None, count: int) -> None:
    if not log.exists:
        table.note(f"there is no log in '{log.path}': nothing has been recorded")
    elif container is not None and not count:
        table.note(f"no such record of a container '{container}'")
    for note in log.notes:
        table.note(note)
    if log.skipped:
        lines = "1 line is no record" if log.skipped == 1 else f"{log.skipped} lines are no records"
        table.note(f"{lines}: skipped")
    if waiting := _undelivered(root):
        records = "1 record waits" if waiting == 1 else f"{waiting} records wait"
        table.note(f"{records} in the ledger, not shown here: ipcwarden gc delivers them to the log")


def _undelivered(root: str) -> int:
    """Count the records that could not be written to the log yet, as far as we may see them."""
    try:
        entries = open_place(places_at(root).entries)
    except (FileNotFoundError, RecordError):
        return 0
    try:
        return sum(_waiting_in(entries, key) for key in keys(entries))
    finally:
        os.close(entries)


def _waiting_in(entries: int, key: str) -> int:
    try:
        return len(extract.texts(peek(entries, key), "undelivered"))
    except RecordError:
        return 0
