"""What limits that were found mean: drift."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document


def drift(wanted: dict[str, int], found: dict[str, int]) -> list[Document]:
    """Return where the limits found are not those that were put in force, as a record's `drift[]`."""
    return [
        {"name": name, "wanted": str(number), "found": str(found[name])}
        for name, number in wanted.items()
        if found[name] != number
    ]
