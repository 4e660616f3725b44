"""Lives without an end: of which containers the log tells that they were governed, and not what became of them."""

from __future__ import annotations

import os
from collections import Counter

from ipcwarden.cli import extract
from ipcwarden.cli.logs import Record, record_of
from ipcwarden.files import open_place
from ipcwarden.host.ledger import keys, peek
from ipcwarden.stages.life import is_living

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipcwarden.core.documents import Document
    from ipcwarden.layout import Place

    Life = tuple[str, str, str, int]

ENDS = {"running": "still runs", "boot": "with its boot", "unknown": "no end recorded"}


def life_of(document: dict[str, Document]) -> Life:
    """Return what tells the life that a record is about from all others.

    Before Linux 6.18 a namespace has no number but its inode's, which the kernel uses again.
    """
    number = extract.number(document, "namespace", "id") or extract.number(document, "namespace", "inode")
    container, bundle = (extract.text(document, "container", name) for name in ("id", "bundle"))
    return extract.text(document, "boot"), container, bundle, number


def unfinished(records: Iterable[Record]) -> list[Record]:
    """Return the beginnings without an end, oldest first; one that was delivered late may stand after its end.

    Nothing is kept of a life that has both.
    """
    begun: dict[Life, list[bytes]] = {}
    ended: Counter[Life] = Counter()
    for record in records:
        life = life_of(record.document)
        if record.document["event"] == "applied":
            if not _take_one(ended, life):
                begun.setdefault(life, []).append(record.line)
        elif _is_end(record.document):
            lines = begun.pop(life, None)
            if lines is None:
                ended[life] += 1
            elif lines[1:]:
                begun[life] = lines[1:]
    found = [record for lines in begun.values() for record in map(record_of, lines) if record]
    return sorted(found, key=lambda record: record.time)


def _take_one(ended: Counter[Life], life: Life) -> bool:
    if life not in ended:
        return False
    ended[life] -= 1
    if not ended[life]:
        del ended[life]
    return True


def _is_end(document: dict[str, Document]) -> bool:
    """Tell whether a record ends a life that `applied` began: it says what became of the container's own namespace.

    One that only lists what was `removed` is about objects: by reap, or later than the end.
    """
    namespace = extract.at(document, "namespace")
    if not isinstance(namespace, dict) or document["event"] not in ("teardown", "collected", "error"):
        return False
    of_objects = "removed" in document and "present" not in document
    return "destroyed" in namespace and not namespace.get("host") and not of_objects


def running(entries: Place, boot: str) -> set[Life]:
    """Return the lives that the ledger says go on.  Raises `RecordError`."""
    try:
        directory = open_place(entries)
    except FileNotFoundError:
        return set()
    try:
        found = [peek(directory, key) for key in keys(directory)]
    finally:
        os.close(directory)
    return {
        life_of({**document, "container": extract.at(document, "subject", "container")})
        for document in found
        if is_living(document, boot)
    }


def end_of(record: Record, boot: str, alive: set[Life]) -> str:
    """Return what is known about the end of a life: a key of `ENDS`."""
    if life_of(record.document) in alive:
        return "running"
    return "unknown" if extract.text(record.document, "boot") == boot else "boot"
