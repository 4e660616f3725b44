"""Totals are exact, the largest objects come first, and drift is every difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.findings import MOST_OBJECTS, drift, largest, totals

if TYPE_CHECKING:
    from ipcwarden.core.objects import Object

KIND = st.sampled_from(["shm", "sem", "msg", "mqueue"])
AMOUNT = st.integers(0, 2**64)
OBJECTS = st.lists(st.fixed_dictionaries({"kind": KIND, "bytes": AMOUNT, "claimed": AMOUNT}), max_size=12)
NOTHING = {"count": 0, "bytes": 0, "claimed": 0}


def test_adds_up_by_kind() -> None:
    """Each kind has its count, what is held and what is claimed; a kind without objects has zeros."""
    objects: list[Object] = [
        {"kind": "shm", "bytes": 1, "claimed": 10},
        {"kind": "msg", "bytes": 5, "claimed": 5},
        {"kind": "shm", "bytes": 2, "claimed": 20},
    ]
    assert totals(objects) == {
        "shm": {"count": 2, "bytes": 3, "claimed": 30},
        "sem": NOTHING,
        "msg": {"count": 1, "bytes": 5, "claimed": 5},
        "mqueue": NOTHING,
    }


@given(OBJECTS)
def test_forgets_no_object(objects: list[Object]) -> None:
    """All kinds' totals together are all objects."""
    found = totals(objects)
    for key, whole in (
        ("count", len(objects)),
        ("bytes", sum(int(each["bytes"]) for each in objects)),
        ("claimed", sum(int(each["claimed"]) for each in objects)),
    ):
        assert sum(kind[key] for kind in found.values()) == whole  # type: ignore[index,call-overload,misc]


@given(OBJECTS, st.integers(0, 12))
def test_leaves_out_the_smallest(objects: list[Object], most: int) -> None:
    """What is shown holds at least as much as anything that is not."""
    shown = largest(objects, most)
    rest = list(objects)
    for each in shown:
        rest.remove(each)
    assert len(shown) == min(most, len(objects))
    least = min((int(each["bytes"]) for each in shown), default=2**65)
    assert all(int(each["bytes"]) <= least for each in rest) or not shown


def test_puts_the_largest_first() -> None:
    """Bytes held count first, then bytes claimed, then the kernel's order."""
    sizes = [(0, 0, 1), (1, 5, 2), (7, 0, 3), (1, 9, 4), (1, 5, 5)]
    objects: list[Object] = [{"kind": "shm", "bytes": held, "claimed": claimed, "id": n} for held, claimed, n in sizes]
    assert [each["id"] for each in largest(objects)] == [3, 4, 2, 5, 1]


def test_shows_a_hundred() -> None:
    """However many there are, a record's list is bounded."""
    objects: list[Object] = [{"kind": "shm", "bytes": n, "claimed": 0} for n in range(32768)]
    assert len(largest(objects)) == MOST_OBJECTS == 100


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        ({}, {"a": 1}, []),
        ({"a": 1}, {"a": 1, "b": 9}, []),
        ({"a": 1}, {"a": 2}, [{"name": "a", "wanted": "1", "found": "2"}]),
        ({"a": 2}, {"a": 1}, [{"name": "a", "wanted": "2", "found": "1"}]),
        ({"a": 0}, {"a": -1}, [{"name": "a", "wanted": "0", "found": "-1"}]),
        (
            {"b": 1, "c": 3, "a": 18446744073709551615},
            {"a": 18446744073709551614, "b": 2, "c": 3},
            [
                {"name": "b", "wanted": "1", "found": "2"},
                {"name": "a", "wanted": "18446744073709551615", "found": "18446744073709551614"},
            ],
        ),
    ],
)
def test_tells_what_differs(wanted: dict[str, int], found: dict[str, int], expected: object) -> None:
    """Drift is every wanted limit that is not in force, lower ones too, in texts that keep 64 bits."""
    assert drift(wanted, found) == expected
