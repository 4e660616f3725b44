"""What ends of members have told of, so that no later one tells of it again, or removes it as its own; sets of ids."""

from __future__ import annotations

from ipcwarden.core.attribution import given_again
from ipcwarden.core.ranges import numbers_in, ranges_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Inventory

    Ids: TypeAlias = Mapping[str, frozenset[int]]  # by kind


def ids_in(noted: Document) -> dict[str, frozenset[int]]:
    """Return ids by kind of ranges as the ledger keeps them; none for anything else."""
    return {kind: numbers_in(ranges) for kind, ranges in noted.items()} if isinstance(noted, dict) else {}


def ids_of_both(first: Ids, second: Ids) -> dict[str, frozenset[int]]:
    """Return what is in either."""
    return {kind: first.get(kind, frozenset()) | second.get(kind, frozenset()) for kind in (*first, *second)}


def ids_less(first: Ids, second: Ids) -> dict[str, frozenset[int]]:
    """Return what is in the first and not in the second."""
    return {kind: ids - second.get(kind, frozenset()) for kind, ids in first.items()}


@value
class Told:
    """Ids by kind of what ends have told of: what is `proven` to be somebody's who has ended, and what is not.

    `at` is when that was noted last, in seconds since 1970: what was made or changed since may be another object.
    """

    proven: Ids
    unproven: Ids
    at: int = 0

    def less(self, other: Told) -> Told:
        """Return it without what another one has."""
        return Told(ids_less(self.proven, other.proven), ids_less(self.unproven, other.unproven), self.at)

    def given_again(self, inventory: Inventory) -> dict[str, frozenset[int]]:
        """Return under which of the ids something stands that was made or changed since."""
        return given_again(inventory, ids_of_both(self.proven, self.unproven), self.at)

    def without(self, ids: Ids) -> Told:
        """Return it without these ids."""
        return Told(ids_less(self.proven, ids), ids_less(self.unproven, ids), self.at)

    def with_more(self, inventory: Inventory, more: Mapping[str, Document], at: int) -> dict[str, Document]:
        """Return what of it stands there, and what one more end has told of, to be noted; nothing where none is.

        `more` as `leftovers_told` gives it.  Kind by kind: of each there may be tens of thousands.
        """
        noted: dict[str, Document] = {}
        for which, ids in (("proven", self.proven), ("unproven", self.unproven)):
            found: dict[str, Document] = {}
            also = more[which]
            assert isinstance(also, dict)
            for kind, table in inventory.tables.items():
                rest = ids.get(kind, frozenset()).intersection(table.column("id"))
                ranges = ranges_of(rest | numbers_in(also.get(kind))) if rest else also.get(kind)
                found.update({kind: ranges} if ranges else {})
            noted[which] = found
        return {"at": at, **noted} if any(noted.values()) else {}


def told_in(noted: Document) -> Told:
    """Return what `with_more`, or `leftovers_told` of one end, has noted; nothing for anything else."""
    if not isinstance(noted, dict):
        return Told({}, {})
    at = noted.get("at")
    return Told(ids_in(noted.get("proven")), ids_in(noted.get("unproven")), at if isinstance(at, int) else 0)
