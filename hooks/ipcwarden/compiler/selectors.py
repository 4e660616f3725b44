"""`keep`, `reap` and `expect`: objects that are meant, as they were written and as core/selection.py takes them."""

from __future__ import annotations

import re

from ipcwarden.compiler.amounts import bytes_of, seconds_of
from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence, Spoilt, shown, text_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.compiler.amounts import Machine
    from ipcwarden.compiler.findings import Place, Report
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.compiler.profiles import Resolved
    from ipcwarden.core.policy import Selector

LISTS = ("keep", "reap", "expect")
_AGE = 60  # seconds, where `reap` does not say
_PRIVATE = "0x00000000"  # IPC_PRIVATE
_MOST = (1 << 32) - 1  # of a key; of uids it is the one that nobody has
_COUNTS = (1, (1 << 31) - 1)
_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,9}")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,8}")
_BARE_HEX = re.compile(r"(?=.*[a-fA-F])[0-9a-fA-F]{1,8}")
_NAME = re.compile(r"/?[^/\x00-\x1f\x7f]{1,255}")


@value
class Item:
    """One entry of a list, and where it stands."""

    at: Place
    selector: Selector


@value
class Selection:
    """One of `LISTS` in the profile that wrote it; None drops the inherited one."""

    at: Place
    profile: str
    items: tuple[Item, ...] | None

    def selectors(self) -> tuple[Selector, ...]:
        """Return what the policy in force stores."""
        return tuple(item.selector for item in self.items or ())


class Selectors:
    """Reads one profile's lists."""

    def __init__(self, profile: str, machine: Machine, report: Report) -> None:
        self._profile = profile
        self._machine = machine
        self._report = report
        self._readers: dict[str, Callable[[Node], int | str | None]] = {
            "key": self._key,
            "owner": self._owner,
            "name": self._name,
            "age": lambda node: seconds_of(node, report),
            "count": self._count,
            "bytes": lambda node: bytes_of(node, report),
        }

    def in_profile(self, entries: dict[str, Node]) -> dict[str, Selection]:
        """Return the lists that a profile writes."""
        found: dict[str, Selection] = {}
        for what in LISTS:
            node = entries.get(what)
            if isinstance(node, Sequence):
                items = [self._item(what, item) for item in node.items if isinstance(item, Mapping)]
                found[what] = Selection(node.at, self._profile, tuple(item for item in items if item))
            elif isinstance(node, Scalar):
                found[what] = Selection(node.at, self._profile, None)
        return found

    def _item(self, what: str, node: Mapping) -> Item | None:
        """Return a selector; None where something of it is wrong: without a word it would mean more."""
        kind = text_of(node.entries.get("kind"))
        selector: Selector = {"kind": kind or ""}
        for key, read in self._readers.items():
            if key not in node.entries:
                continue
            child, given = node.entries[key], None
            if kind == "mqueue" and key == "key":
                self._report.error(child.at, "a POSIX message queue has no key", "give its name, such as '/jobs-*'")
            elif kind and kind != "mqueue" and key == "name":
                self._report.error(child.at, f"what is of kind {kind} has no name", "give its key, such as 0x0052e2c1")
            elif not isinstance(child, Spoilt):
                given = read(child)
            if given is not None:
                selector[key] = given
        whole = kind is not None and selector.keys() == node.keys.keys()
        if what == "reap":
            selector.setdefault("age", _AGE)
        return Item(node.at, selector) if whole else None

    def _key(self, node: Node) -> str | None:
        """Return a key as objects have it."""
        text = _text(node)
        if text == "private":
            return _PRIVATE
        if _DECIMAL.fullmatch(text) or _HEX.fullmatch(text):
            number = int(text, 16 if text[1:2] in ("x", "X") else 10)
            if -(_MOST + 1) // 2 <= number <= _MOST:  # ipcs -m shows the one, /proc/sysvipc the other
                return f"0x{number & _MOST:08x}"
        hint = "write private" if text.lower() in ("ipc_private", "private", "none") else ""
        if _BARE_HEX.fullmatch(text):
            hint = f"write 0x{text.lower():0>8}"
        self._report.error(node.at, f"must be a key, such as 0x0052e2c1, 5432001 or private, not {shown(node)}", hint)
        return None

    def _owner(self, node: Node) -> int | None:
        written = node.value if isinstance(node, Scalar) else None
        if isinstance(written, int) and not isinstance(written, bool):
            if 0 <= written < _MOST:
                return written
        elif isinstance(written, str) and written and not written.isdigit():
            uid = self._machine.uid_of(written)
            if uid is None:
                hint = "give the uid that the object's owner has on this host"
                self._report.error(node.at, f"there is no user {shown(node)} on this host", hint)
            return uid
        hint = f"write {written}" if isinstance(written, str) and written.isdigit() else ""
        self._report.error(node.at, f"must be a uid or a user's name, such as 999 or postgres, not {shown(node)}", hint)
        return None

    def _name(self, node: Node) -> str | None:
        text = text_of(node) or ""
        if _NAME.fullmatch(text):
            return text if text.startswith("/") else f"/{text}"
        hint = "a queue's name has no other slash than the first" if "/" in text[1:] else ""
        self._report.error(node.at, f"must be a glob of a queue's name, such as '/jobs-*', not {shown(node)}", hint)
        return None

    def _count(self, node: Node) -> int | None:
        number = node.value if isinstance(node, Scalar) else None
        low, high = _COUNTS
        if isinstance(number, int) and not isinstance(number, bool) and low <= number <= high:
            return number
        hint = "left out, it is any number of them"
        self._report.error(node.at, f"must be a count of {low} to {high}, not {shown(node)}", hint)
        return None


def _text(node: Node) -> str:
    return str(node.value) if isinstance(node, Scalar) and not isinstance(node.value, bool) else ""


def check(profile: Resolved, report: Report) -> None:
    """Warn of what a profile's lists say in vain, where this very profile has a part in it."""
    reap, keep = profile.selections.get("reap"), profile.selections.get("keep")
    if reap is None or not reap.items:
        return
    own = reap.profile == profile.name
    if own and profile.settings.get("leftovers") != "remove":
        message = (
            "without 'leftovers: remove' nothing is removed at a container's end: only 'ipcwarden reap' goes by it"
        )
        report.warning(reap.at, message, "add 'leftovers: remove', if that is meant")
    for item in reap.items:
        kept = next((each for each in (keep.items or () if keep else ()) if _covers(each, item)), None)
        if kept and keep and (own or keep.profile == profile.name):
            there, other, word = (item.at, kept.at, "keep") if own else (kept.at, item.at, "reap")
            message = f"'{word}' ({other.file}:{other.line}) means the same objects: they are kept"
            report.warning(there, message, "leave one of them out")


def _covers(kept: Item, reaped: Item) -> bool:
    """Tell whether all that is to be reaped is to be kept."""
    return all(reaped.selector.get(word) == given for word, given in kept.selector.items())
