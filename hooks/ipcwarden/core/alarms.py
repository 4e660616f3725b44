"""What a line in the system's journal says of a container and of what it left: for who has no record at hand."""

from __future__ import annotations

from ipcwarden.core.objects import KINDS
from ipcwarden.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

_SHORT, _LONG = 12, 64  # characters of an id as engines show it, and as they make it


def short(container: str) -> str:
    """Return an id as engines show it."""
    return container[:_SHORT] if len(container) == _LONG else container


def called(container: Document, key: str) -> str:
    """Return what people call a record's container, on one line; `key` is its entry's, where nothing else is known."""
    known = container if isinstance(container, dict) else {}
    number, name = short(str(known.get("id") or key)), known.get("name")
    pod = "/".join(str(known[part]) for part in ("namespace", "pod") if known.get(part)) if known.get("pod") else ""
    said = f"container '{name}' ({number})" if name and name != number else f"container '{number}'"
    return printable(f"{said} of pod '{pod}'" if pod else said)


def counted(totals: Document, removed: Document = None) -> str:
    """Return how many objects of each kind a record's totals have, without those that were removed."""
    numbers = ((kind, _count(totals, kind) - _count(removed, kind)) for kind in KINDS)
    return ", ".join(f"{number} {kind}" for kind, number in numbers if number > 0)


def _count(totals: Document, kind: str) -> int:
    total = totals.get(kind) if isinstance(totals, dict) else None
    return int(str(total["count"])) if isinstance(total, dict) else 0
