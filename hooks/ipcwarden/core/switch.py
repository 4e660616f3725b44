"""The kill switch: a file that lets containers start undecided, until a moment or until somebody takes it away.

Whatever a file of root's says, its being there is enough: an operator's touch at three in the morning must do.
"""

from __future__ import annotations

from ipcwarden.core.documents import parse
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

SWITCH_VERSION = 1
_MOMENT = "0000-00-00T00:00:00"


@value
class Switch:
    """What the switch says.  `until` is RFC 3339 in UTC, None for no end; `by` the uid of who set it, None if unknown.

    `fault` is why the file must not be obeyed, empty where it may.
    """

    until: str | None = None
    reason: str = ""
    by: int | None = None
    fault: str = ""


def parse_switch(data: bytes) -> Switch:
    """Read the switch's file; what cannot be read in it is as if it were not there, but the switch is."""
    try:
        document = parse(data)
    except ValueError:
        document = None
    found = document if isinstance(document, dict) else {}
    until, reason, by = found.get("until"), found.get("reason"), found.get("by")
    return Switch(
        until=until if isinstance(until, str) and _is_moment(until) else None,
        reason=reason if isinstance(reason, str) else "",
        by=by if isinstance(by, int) and not isinstance(by, bool) else None,
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


def _is_moment(text: str) -> bool:
    """Tell whether a text is RFC 3339 in UTC, to the second or finer."""
    shape = "".join("0" if "0" <= each <= "9" else each for each in text)
    whole, _, fraction = shape.removesuffix("Z").partition(".")
    return shape.endswith("Z") and whole == _MOMENT and not fraction.strip("0")
