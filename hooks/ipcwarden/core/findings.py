"""What an inventory means: totals, drift, and which objects go into a record."""

from __future__ import annotations

from ipcwarden.core.objects import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Object

MOST_OBJECTS = 100


def totals(objects: list[Object]) -> dict[str, Document]:
    """Return {shm, sem, msg, mqueue}: {count, bytes (held), claimed}."""
    found: dict[str, Document] = {}
    for kind in KINDS:
        these = [each for each in objects if each["kind"] == kind]
        found[kind] = {
            "count": len(these),
            "bytes": sum(int(each["bytes"]) for each in these),
            "claimed": sum(int(each["claimed"]) for each in these),
        }
    return found


def largest(objects: list[Object], most: int = MOST_OBJECTS) -> list[Object]:
    """Return at most `most` objects, the largest first: bytes held, then claimed, then the kernel's order."""
    return sorted(objects, key=lambda each: (-int(each["bytes"]), -int(each["claimed"])))[:most]


def drift(wanted: dict[str, int], found: dict[str, int]) -> list[Document]:
    """Return where the limits found are not those that were put in force, as a record's `drift[]`."""
    return [
        {"name": name, "wanted": str(number), "found": str(found[name])}
        for name, number in wanted.items()
        if found[name] != number
    ]
