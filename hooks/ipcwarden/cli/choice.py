"""Which container is meant, where several may be."""

from __future__ import annotations

from ipcwarden.errors import UsageError

_NAMED = 4  # of those that it may be, in a message
MANY = _NAMED + 1  # enough to say that there are more


def named(text: str) -> str:
    """Return what a container is asked for by.  Raises `UsageError` if it is empty, and so any container's prefix."""
    if not text:
        raise UsageError(
            "cannot look for a container by an empty text", "write its id, its name, or a prefix of its id"
        )
    return text


def some(names: list[str]) -> str:
    """Return names as a message has them: the first, and whether there are more."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def the_one(text: str, alike: list[str]) -> str:
    """Return the only one of `alike`, or an empty string if there is none.  Raises `UsageError` if there are more."""
    if len(alike) > 1:
        raise UsageError(f"cannot tell which container '{text}' is: {some(alike)}", "write more of the id")
    return alike[0] if alike else ""
