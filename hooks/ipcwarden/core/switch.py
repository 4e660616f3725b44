"""The kill switch: a file that lets containers start undecided, until a moment or until somebody takes it away.

Whatever a file of root's says, its being there is enough: an operator's touch at three in the morning must do.
"""

from __future__ import annotations

from ipcwarden.core.documents import parse, serialize
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

SWITCH_VERSION = 1
_MOMENT = "0000-00-00T00:00:00"
_IN_UTC = ("Z", "+00:00", "-00:00")


@value
class Switch:
    """What the switch says.  `until` is RFC 3339 in UTC, None for no end; `by` the uid of who set it, None if unknown.

    `fault` is why the file must not be obeyed, empty where it may; `unclear` is what stands there for an end, and is no
    moment that anybody can read.
    """

    until: str | None = None
    reason: str = ""
    by: int | None = None
    fault: str = ""
    unclear: str = ""


def parse_switch(data: bytes) -> Switch:
    """Read the switch's file; what cannot be read in it is as if it were not there, but the switch is."""
    try:
        document = parse(data)
    except ValueError:
        document = None
    found = document if isinstance(document, dict) else {}
    until, reason, by = found.get("until"), found.get("reason"), found.get("by")
    end = _moment_of(until) if isinstance(until, str) else ""
    return Switch(
        until=end or None,
        reason=reason if isinstance(reason, str) else "",
        by=by if isinstance(by, int) and not isinstance(by, bool) else None,
        unclear="" if end or until is None else serialize(until),
    )


def switch_document(switch: Switch) -> dict[str, Document]:
    """Return what the file of a switch says."""
    return {"version": SWITCH_VERSION, "until": switch.until, "reason": switch.reason, "by": switch.by}


def is_switched_off(switch: Switch | None, now: str) -> bool:
    """Tell whether containers start undecided; `now` is RFC 3339 in UTC, as `record.timestamp` writes it."""
    if switch is None or switch.fault:
        return False
    # In UTC and in one form, the order of texts is that of time.
    return switch.until is None or now[: len(_MOMENT)] < switch.until[: len(_MOMENT)]


def _moment_of(text: str) -> str:
    """Return a moment of RFC 3339 in UTC as `record.timestamp` spells it; an empty text where it is none."""
    text = text.upper()
    offset = next((each for each in _IN_UTC if text.endswith(each)), None)
    if offset is None:
        return ""
    text = text.removesuffix(offset)
    if text[10:11] == " ":
        text = f"{text[:10]}T{text[11:]}"
    shape = "".join("0" if "0" <= each <= "9" else each for each in text)
    whole, _, fraction = shape.partition(".")
    return f"{text}Z" if whole == _MOMENT and not fraction.strip("0") else ""
