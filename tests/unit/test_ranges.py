"""Numbers that mostly follow one another take little room in the ledger."""

from __future__ import annotations

import random

import pytest

from ipcwarden.core.ranges import numbers_in, ranges_of


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [
        ([], []),
        ([7], [[7, 7]]),
        ([3, 1, 2], [[1, 3]]),
        ([5, 5, 9, 6], [[5, 6], [9, 9]]),
    ],
)
def test_joins_neighbours(numbers: list[int], ranges: list[list[int]]) -> None:
    """What follows one another is one range, in whatever order and however often it is given."""
    assert ranges_of(numbers) == ranges


def test_nothing_is_lost() -> None:
    """The numbers come back, all of them and no others."""
    numbers = {random.randrange(2000) for _ in range(1000)}
    assert numbers_in(ranges_of(numbers)) == numbers


def test_what_is_missing_holds_nothing() -> None:
    """An entry without ranges has no numbers."""
    assert numbers_in(None) == frozenset()
