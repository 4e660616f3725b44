"""Audit records, version 1 (schemas/audit-v1.schema.json): one JSON object a line, at most 64 KiB."""

from __future__ import annotations

from ipcwarden.core.documents import serialize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.facts import Facts
    from ipcwarden.core.plan import Plan, Violation

RECORD_VERSION = 1
MAX_RECORD_BYTES = 65536
_MAX_TEXT = 1024  # bytes of any one text in JSON: as long as an id may be, and forty such fit
_SHORT_TEXT = _MAX_TEXT // 12  # characters that fit, whatever they are: an escaped pair of surrogates takes 12 bytes


def timestamp(nanoseconds: int, clock: tuple[int, ...]) -> str:
    """Return RFC 3339 in UTC with microseconds.  `clock` is what time.gmtime makes of the seconds."""
    year, month, day, hour, minute, second = clock[:6]
    micro = nanoseconds // 1000 % 1000000
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{micro:06d}Z"


def container_of(container: str, bundle: str, facts: Facts) -> dict[str, Document]:
    """Return a record's `container`; what is not known is null."""
    return {
        "id": container,
        "bundle": bundle,
        "engine": facts.engine,
        "runtime": facts.runtime,
        "name": facts.name,
        "image": facts.image,
        "pod": facts.pod,
        "namespace": facts.namespace,
    }


def sysctls_of(plan: Plan, found: dict[str, int] | None) -> list[Document]:
    """Return a record's `sysctls[]`.  Numbers are texts: 64 bits are more than many JSON readers keep."""
    return [
        {
            "name": limit.name,
            "requested": limit.requested,
            "wanted": str(limit.wanted),
            "found": None if found is None else str(found[limit.name]),
            "why": limit.why,
        }
        for limit in plan.limits
    ]


def violations_of(violations: tuple[Violation, ...]) -> list[Document]:
    """Return a record's `violations[]`."""
    return [
        {
            "name": each.name,
            "requested": each.requested,
            "min": None if each.min is None else str(each.min),
            "max": None if each.max is None else str(each.max),
            "kind": each.kind,
        }
        for each in violations
    ]


def line_of(record: dict[str, Document]) -> bytes:
    """Return a record as the line that goes into the log, made to fit: texts are cut, then objects left out."""
    fitting = _cut(record)
    assert isinstance(fitting, dict)
    line = serialize(fitting)
    objects = fitting.get("objects")
    while len(line) >= MAX_RECORD_BYTES and isinstance(objects, list) and objects:
        # Drop as many as the excess needs, the smallest first: they are sorted.
        excess = len(line) - MAX_RECORD_BYTES + 64
        while objects and excess > 0:
            excess -= len(serialize(objects.pop())) + 1
            fitting["objects_omitted"] = int(fitting.get("objects_omitted") or 0) + 1  # type: ignore[arg-type]
        line = serialize(fitting)
    return line.encode("ascii") + b"\n"


def _cut(document: Document) -> Document:
    if isinstance(document, str):
        if len(document) <= _SHORT_TEXT:
            return document
        kept = document
        while (size := len(serialize(kept)) - 2) > _MAX_TEXT:
            kept = kept[: len(kept) * _MAX_TEXT // size]
        return kept if kept == document else f"{kept}..."
    if isinstance(document, list):
        return [_cut(each) for each in document]
    if isinstance(document, dict):
        return {key: _cut(each) for key, each in document.items()}
    return document
