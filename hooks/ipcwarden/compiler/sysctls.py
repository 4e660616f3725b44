"""A profile's rules for sysctls, as they were written: sixteen names, each with its bounds."""

from __future__ import annotations

from ipcwarden.compiler.amounts import SHARE_KEYS, Machine, amount_of
from ipcwarden.compiler.nodes import Mapping, Scalar, Spoilt, shown
from ipcwarden.core.sysctls import SEM_FIELDS, numbers
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ipcwarden.compiler.findings import Place, Report
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.core.policy import Amount

    Drafts: TypeAlias = "dict[str, Draft]"

BOUNDS = ("set", "min", "default", "max")
_FIELDS = {name.rpartition(".")[2]: name for name in SEM_FIELDS}


@value
class Bound:
    """One of `BOUNDS`: an amount (None: its error is reported), how it was written, where, and in which profile."""

    amount: Amount | None
    text: str
    at: Place
    profile: str


@value
class Draft:
    """One profile's rule for one name: bounds that add to inherited ones, or None to drop the inherited rule."""

    at: Place
    bounds: dict[str, Bound] | None


class Sysctls:
    """Reads one profile's `sysctls`."""

    def __init__(self, profile: str, machine: Machine, report: Report) -> None:
        self._profile = profile
        self._machine = machine
        self._report = report

    def drafts(self, node: Node | None) -> Drafts:
        """Return the rules by name, in the order of the document."""
        found: Drafts = {}
        if isinstance(node, Mapping):
            for key, child in node.entries.items():
                found.update(self._sem(child) if key == "kernel.sem" else {key: self._rule(key, child)})
        return found

    def _rule(self, name: str, node: Node) -> Draft:
        if isinstance(node, Scalar) and node.value is None:
            return Draft(node.at, None)
        if isinstance(node, Mapping):
            bounds = [key for key in node.entries if key in BOUNDS]
            if bounds and node.entries.keys() & SHARE_KEYS:
                self._report.error(
                    node.at, "mixes bounds with a share of memory", "write {max: {of_limit: ...}} for a bound of memory"
                )
            elif bounds or not node.entries.keys() & SHARE_KEYS:
                return Draft(node.at, {key: self._bound(name, node.entries[key]) for key in bounds})
            else:
                return Draft(node.at, {"set": self._bound(name, node)})
            node = Spoilt(node.at)
        return Draft(node.at, {"set": self._bound(name, node)})

    def _bound(self, name: str, node: Node) -> Bound:
        text = node.text if isinstance(node, Scalar) else "a share of memory"
        return Bound(amount_of(name, node, self._machine, self._report), text, node.at, self._profile)

    def _sem(self, node: Node) -> Drafts:
        if isinstance(node, Scalar) and node.value is None:
            return {name: Draft(node.at, None) for name in SEM_FIELDS}
        if not isinstance(node, Mapping):
            return {name: Draft(node.at, {"set": bound}) for name, bound in self._four(node).items()}
        fields = [key for key in node.entries if key in _FIELDS]
        bounds = [key for key in node.entries if key in BOUNDS]
        if fields and bounds:
            self._report.error(
                node.at, f"mixes the field {fields[0]} with {bounds[0]} of all fields", "give each field its own rule"
            )
            return {name: Draft(node.at, {"set": Bound(None, "", node.at, self._profile)}) for name in SEM_FIELDS}
        if fields:
            return {_FIELDS[key]: self._rule(_FIELDS[key], node.entries[key]) for key in fields}
        read = {key: self._four(node.entries[key]) for key in bounds}
        return {name: Draft(node.at, {key: read[key][name] for key in bounds}) for name in SEM_FIELDS}

    def _four(self, node: Node) -> dict[str, Bound]:
        """Return the bounds of all fields that are written in one text."""
        text = str(node.value) if isinstance(node, Scalar) and not isinstance(node.value, bool) else ""
        four = numbers("kernel.sem", text)
        if four is None:
            if text != "kernel" and not isinstance(node, Spoilt):
                wanted = "must be four numbers, such as '250 32000 100 128', or 'kernel'"
                hint = "in the order SEMMSL SEMMNS SEMOPM SEMMNI, without units, blanks between"
                self._report.error(node.at, f"{wanted}, not {shown(node)}", hint)
            bound = Bound(text if text == "kernel" else None, text, node.at, self._profile)
            return dict.fromkeys(SEM_FIELDS, bound)
        return {name: self._field(name, number, node.at) for name, number in zip(SEM_FIELDS, four, strict=True)}

    def _field(self, name: str, number: int, at: Place) -> Bound:
        low, high = self._machine.range_of(name)
        if low <= number <= high:
            return Bound(number, str(number), at, self._profile)
        self._report.error(at, f"{name} must be {low} to {high}, not {number}")
        return Bound(None, str(number), at, self._profile)
