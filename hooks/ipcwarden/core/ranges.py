"""Sets of numbers that mostly follow one another, as the ledger keeps them: ids and inode numbers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipcwarden.core.documents import Document


def ranges_of(numbers: Iterable[int]) -> list[Document]:
    """Return numbers as `[[first, last], ...]`, ascending."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number <= found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return list(found)  # type: ignore[arg-type]  # lists of numbers are documents


def numbers_in(ranges: Document) -> frozenset[int]:
    """Return the numbers of what `ranges_of` gave; none for anything else."""
    found: set[int] = set()
    for pair in ranges if isinstance(ranges, list) else []:
        first, last = pair  # type: ignore[misc,str-unpack]  # two numbers, as written
        found.update(range(first, last + 1))  # type: ignore[arg-type,operator]
    return frozenset(found)
