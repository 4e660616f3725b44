"""Which objects a profile's `keep`, `reap` and `expect` mean.

A selector is a dict that the policy in force and the ledger hold as it is: `kind`, and of the rest what was given.
`key` is as objects have it, `owner` a uid, `name` a glob of a POSIX queue's name with its slash; `age` in seconds is
`reap`'s alone, `count` and `bytes` (held, as objects count them) are `expect`'s upper bounds.
"""

from __future__ import annotations

from ipcwarden.core.policy import glob_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Object
    from ipcwarden.core.policy import Selector

_NO_BOUND = 1 << 99  # beyond all that there can be


def selected(selectors: Iterable[Selector], found: Object) -> Selector | None:
    """Return the first selector that means an object, whatever its age."""
    for selector in selectors:
        if _means(selector, found):
            return selector
    return None


def _means(selector: Selector, found: Object) -> bool:
    if selector["kind"] != found["kind"]:
        return False
    if "key" in selector and selector["key"] != found["key"]:
        return False
    if "owner" in selector and str(selector["owner"]) != found["owner"]:
        return False
    return "name" not in selector or glob_matches(str(selector["name"]), queue_name(found))


def queue_name(found: Object) -> str:
    """Return a POSIX queue's name as text, with its slash: bytes that are no UTF-8 are surrogates."""
    if "name" in found:
        return str(found["name"])
    return "/" + bytes.fromhex(str(found["name_hex"])).decode("utf-8", "surrogateescape")


class Expectations:
    """What is left of the objects that `expect` announces, while they are found one by one."""

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self._left = [
            (each, int(each.get("count", _NO_BOUND)), int(each.get("bytes", _NO_BOUND))) for each in selectors
        ]

    def takes(self, found: Object) -> bool:
        """Tell whether an object was to be expected, and count it.  What exceeds a bound counts for nobody."""
        size = int(found["bytes"])
        for place, (selector, count, room) in enumerate(self._left):
            if count > 0 and size <= room and _means(selector, found):
                self._left[place] = (selector, count - 1, room - size)
                return True
        return False


def selectors_of(stored: Document) -> list[Selector]:
    """Return selectors that the ledger has kept; what is none is left out as a whole."""
    found: list[Selector] = []
    for each in stored if isinstance(stored, list) else []:
        if isinstance(each, dict) and isinstance(each.get("kind"), str):
            selector = {word: plain for word, plain in each.items() if isinstance(plain, int | str)}
            if selector.keys() == each.keys():
                found.append(selector)
    return found
