"""What a JSON document says at a place, whatever else stands there: records may be other versions', or forged."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document


def at(document: Document, *path: str) -> Document:
    """Return what stands at `path`; None where nothing does."""
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def text(document: Document, *path: str) -> str:
    """Return the text or number at `path`, as text; empty where there is neither."""
    found = at(document, *path)
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""


def number(document: Document, *path: str) -> int:
    """Return the whole number at `path`; 0 where there is none."""
    found = at(document, *path)
    return found if isinstance(found, int) else 0


def rows(document: Document, *path: str) -> list[dict[str, Document]]:
    """Return the objects of the list at `path`."""
    found = at(document, *path)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def texts(document: Document, *path: str) -> list[str]:
    """Return the texts of the list at `path`."""
    found = at(document, *path)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
