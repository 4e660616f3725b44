"""The audit log as readers see it: rotated files included, a record at a time, oldest first."""

from __future__ import annotations

import gzip
import heapq
import os
import re
import zlib
from contextlib import ExitStack
from dataclasses import dataclass

from ipcwarden.cli import extract
from ipcwarden.cli.choice import MANY, the_one
from ipcwarden.core.documents import parse, serialize
from ipcwarden.errors import RecordError, why
from ipcwarden.files import open_place, open_regular
from ipcwarden.host.account import places_at
from ipcwarden.layout import LOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import BinaryIO, Self

    from ipcwarden.core.documents import Document

# `event` of schemas/audit-v1.schema.json, where each is described.
EVENTS = (
    "applied",
    "refused",
    "verified",
    "teardown",
    "collected",
    "skipped",
    "error",
    "policy",
    "disabled",
    "enabled",
    "ungoverned",
    "drift",
)
_FILES = re.compile(re.escape(LOG) + r"([.-][0-9]+)*(\.gz)?")  # as logrotate names them
_LONGEST = 1 << 20  # of a line; no record has more than 64 KiB
_WINDOW = 128  # hooks that end at the same moment append in any order
_PLAIN = re.compile(r"[A-Za-z0-9_.:@-]+")  # what no writer of JSON escapes


@dataclass(frozen=True)
class Record:
    """One record: the line as it was found, and what it says."""

    line: bytes
    document: dict[str, Document]

    @property
    def time(self) -> str:
        """When it was made (RFC 3339)."""
        return extract.text(self.document, "time")

    @property
    def json(self) -> str:
        """The record as one line of printable ASCII."""
        text = self.line.strip().decode("utf-8")
        return text if text.isascii() and text.isprintable() else serialize(self.document)


def record_of(line: bytes) -> Record | None:
    """Return the record that a line is, or None."""
    try:
        document = parse(line)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    is_record = isinstance(document.get("time"), str) and isinstance(document.get("event"), str)
    return Record(line, document) if is_record else None


@dataclass(frozen=True)
class Filter:
    """Which records are wanted: those of an event, and of a container by exact id or exact name; empty is any."""

    event: str = ""
    container: str = ""
    name: str = ""

    def takes(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        return (
            (not self.event or record.document["event"] == self.event)
            and (not self.container or extract.text(record.document, "container", "id") == self.container)
            and (not self.name or extract.text(record.document, "container", "name") == self.name)
        )

    @property
    def needles(self) -> list[bytes]:
        """What a wanted record's line holds for certain: lines without are never parsed."""
        events = [f'"{self.event}"'] if self.event else []
        return [each.encode() for each in events] + _needles(self.container) + _needles(self.name)


def _needles(text: str) -> list[bytes]:
    return [text.encode("ascii")] if _PLAIN.fullmatch(text) else []


class Log:
    """The files of a host's log, held open: what is rotated while we read is read all the same, and once.

    `skipped` counts lines that are no records, of what was read last; `notes` says what could not be read at all.
    Raises `RecordError` where the log cannot be read.
    """

    def __init__(self, root: str) -> None:
        place = places_at(root).logs
        self.path = str(place)
        self.skipped = 0
        self.notes: list[str] = []
        self._files: list[tuple[str, BinaryIO]] = []
        self._open = ExitStack()
        try:
            directory = open_place(place)
        except FileNotFoundError:
            return
        except RecordError as error:
            raise RecordError(str(error.args[0]), error.hint or "only root reads the log") from error
        with ExitStack() as stack:
            try:
                self._files = self._open_all(directory, stack)
            finally:
                os.close(directory)
            self._files.sort(key=lambda file: self._first_time(*file))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def exists(self) -> bool:
        """Tell whether there is any log."""
        return bool(self._files)

    def read(self, wanted: Filter) -> Iterator[Record]:
        """Yield the wanted records, oldest first.

        Those that gc delivered later stand where they were delivered: nothing is kept but a window of a few.
        """
        self.skipped = 0
        return _in_order(record for record in self._records(wanted.needles) if wanted.takes(record))

    def find(self, text: str) -> Filter:
        """Return the filter for a container: its id, else its name, else a unique prefix of its id.

        Raises `UsageError` where several ids begin like that; where none does, the filter takes nothing.
        """
        named, alike = False, dict[str, None]()
        for record in self._records(_needles(text)):
            container, name = (extract.text(record.document, "container", key) for key in ("id", "name"))
            if container == text:
                return Filter(container=text)
            named = named or name == text
            if container.startswith(text) and len(alike) < MANY:
                alike[container] = None
        if named:
            return Filter(name=text)
        return Filter(container=the_one(text, list(alike)) or text)

    def _open_all(self, directory: int, stack: ExitStack) -> list[tuple[str, BinaryIO]]:
        """Open every file of the log, until a listing shows none that is new: rotation renames them meanwhile."""
        opened: dict[tuple[int, int], tuple[str, BinaryIO]] = {}
        while True:
            names = sorted(name for name in os.listdir(directory) if name.startswith(LOG))
            before = len(opened)
            for name in filter(_FILES.fullmatch, names):
                # logrotate compresses beside the file, and then removes that.
                if name.removesuffix(".gz") not in [other for other, _ in opened.values() if other != name]:
                    self._open_one(directory, name, opened, stack)
            if len(opened) == before:
                foreign = [name for name in names if not _FILES.fullmatch(name)]
                self.notes += [f"'{self.path}/{name}' is not read: not a name of the log's" for name in foreign]
                return list(opened.values())

    def _open_one(
        self, directory: int, name: str, opened: dict[tuple[int, int], tuple[str, BinaryIO]], stack: ExitStack
    ) -> None:
        try:
            fd = open_regular(name, os.O_RDONLY, directory)
        except FileNotFoundError:
            return  # it was rotated while we looked
        except (OSError, ValueError) as error:
            reason = why(error) if isinstance(error, OSError) else error
            raise RecordError(f"cannot read '{self.path}/{name}': {reason}", "only root reads the log") from error
        file: BinaryIO = stack.enter_context(os.fdopen(fd, "rb"))
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) in opened:
            file.close()
            return
        if name.endswith(".gz"):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))  # type: ignore[assignment]  # it reads alike
        opened[status.st_dev, status.st_ino] = (name, file)

    def _first_time(self, name: str, file: BinaryIO) -> str:
        records = (record for record in map(record_of, self._lines(name, file)) if record)
        first = next(records, None)
        return first.time if first else ""

    def _records(self, needles: list[bytes]) -> Iterator[Record]:
        for name, file in self._files:
            for line in self._lines(name, file):
                if all(needle in line for needle in needles) or line.count(b"{") != line.count(b"}"):
                    record = record_of(line)
                    if record:
                        yield record
                    else:
                        self.skipped += 1

    def _lines(self, name: str, file: BinaryIO) -> Iterator[bytes]:
        """Yield a file's lines; of one too long to be a record its beginning."""
        try:
            file.seek(0)
            while line := file.readline(_LONGEST):
                if line.strip():
                    yield line
                while len(line) == _LONGEST and not line.endswith(b"\n"):
                    line = file.readline(_LONGEST)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            note = f"'{self.path}/{name}' is damaged ({error}): its rest is skipped"
            self.notes += [] if note in self.notes else [note]
        except OSError as error:
            raise RecordError(f"cannot read '{self.path}/{name}': {why(error)}", "is the disk failing?") from error


def _in_order(records: Iterable[Record]) -> Iterator[Record]:
    waiting: list[tuple[str, int, Record]] = []
    for place, record in enumerate(records):
        heapq.heappush(waiting, (record.time, place, record))
        if len(waiting) > _WINDOW:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
