"""Selectors mean what they name and nothing else, and expectations are used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.objects import mqueue
from ipcwarden.core.selection import Expectations, queue_name, selected, selectors_of

if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Object
    from ipcwarden.core.policy import Selector

KINDS = st.sampled_from(["shm", "sem", "msg"])
KEYS = st.sampled_from(["0x00000000", "0x0052e2c1", "0x0052e2c2"])
OWNERS = st.sampled_from([0, 999])
SELECTORS = st.lists(st.fixed_dictionaries({"kind": KINDS}, optional={"key": KEYS, "owner": OWNERS}), max_size=4)
OBJECTS = st.fixed_dictionaries(
    {"kind": KINDS, "key": KEYS, "owner": OWNERS.map(str), "bytes": st.integers(0, 1 << 64), "id": st.integers(0, 9)}
)
SEGMENT: Object = {"kind": "shm", "key": "0x0052e2c1", "id": 7, "owner": "999", "cuid": 0, "bytes": 4096}


def queue(name: bytes) -> Object:
    """Make a POSIX queue that holds nothing."""
    return mqueue(name, (999, 999, 0o600), (0, 0), (10, 8192, 0, 0))


@pytest.mark.parametrize(
    ("selector", "means"),
    [
        ({"kind": "shm"}, True),
        ({"kind": "sem"}, False),
        ({"kind": "shm", "key": "0x0052e2c1"}, True),
        ({"kind": "shm", "key": "0x00000000"}, False),
        ({"kind": "shm", "owner": 999}, True),
        ({"kind": "shm", "owner": 0}, False),
        ({"kind": "shm", "key": "0x0052e2c1", "owner": 999}, True),
        ({"kind": "shm", "key": "0x0052e2c1", "owner": 99}, False),
        ({"kind": "shm", "key": "0x0052e2c2", "owner": 999}, False),
        ({"kind": "sem", "key": "0x0052e2c1", "owner": 999}, False),
        ({"kind": "shm", "age": 60, "count": 0, "bytes": 0}, True),
        ({"kind": "mqueue", "name": "*"}, False),
    ],
)
def test_all_that_a_selector_says_must_be_so(selector: Selector, means: bool) -> None:
    """Kind, key and owner (who created it counts for nothing); age and bounds are others' to judge."""
    assert selected((selector,), SEGMENT) is (selector if means else None)


@pytest.mark.parametrize(
    ("glob", "name", "means"),
    [
        ("/jobs", b"jobs", True),
        ("/jobs", b"jobs2", False),
        ("/jobs*", b"jobs2", True),
        ("/j?bs", b"jobs", True),
        ("/Jobs", b"jobs", False),
        ("jobs", b"jobs", False),
        ("*", b"jobs", True),
        ("/gr\u00f6\u00dfe", "gr\u00f6\u00dfe".encode(), True),
        ("/gr?ße", "gr\u00f6\u00dfe".encode(), True),
        ("/a*", b"a\xff\n", True),
        ("/a??", b"a\xff\n", True),
        ("/b*", b"a\xff\n", False),
    ],
)
def test_a_queue_is_selected_by_its_name(glob: str, name: bytes, means: bool) -> None:
    """As text, where it is UTF-8; each other byte is one character that no policy can spell."""
    selector: Selector = {"kind": "mqueue", "name": glob, "owner": 999}
    assert selected([selector], queue(name)) == (selector if means else None)


@given(st.binary(min_size=1, max_size=255))
def test_every_name_can_be_told_from_every_other(name: bytes) -> None:
    """Text and bytes lead to each other."""
    assert queue_name(queue(name)).encode("utf-8", "surrogateescape") == b"/" + name


@given(SELECTORS, OBJECTS)
def test_the_first_that_means_it_is_returned(selectors: list[Selector], found: Object) -> None:
    """Whatever comes after it."""
    alone = [each for each in selectors if selected([each], found) is not None]
    assert selected(selectors, found) is (alone[0] if alone else None)


def test_nothing_selects_nothing() -> None:
    """Neither selected nor expected."""
    assert selected((), SEGMENT) is None
    assert not Expectations(()).takes(SEGMENT)


def test_what_is_expected_is_used_up_by_number() -> None:
    """A bound of two takes two, and what it does not mean takes none of it."""
    expectations = Expectations([{"kind": "shm", "count": 2}])
    sem: Object = {"kind": "sem", "key": "0x00000001", "owner": "0", "bytes": 64}
    assert [expectations.takes(each) for each in (SEGMENT, sem, SEGMENT, SEGMENT)] == [True, False, True, False]


def test_what_is_expected_is_used_up_by_size() -> None:
    """What is too large for the rest is not expected, and leaves the rest to smaller ones."""
    expectations = Expectations([{"kind": "shm", "bytes": 10000}])
    sizes = [4096, 8192, 4096, 4096, 0]
    assert [expectations.takes({**SEGMENT, "bytes": size}) for size in sizes] == [True, False, True, False, True]


def test_a_later_selector_takes_what_is_too_much_for_an_earlier_one() -> None:
    """Bounds of several add up."""
    expectations = Expectations([{"kind": "shm", "count": 1}, {"kind": "shm", "owner": 999, "count": 1}])
    assert [expectations.takes(SEGMENT) for _ in range(3)] == [True, True, False]


@given(SELECTORS, st.lists(OBJECTS, max_size=8))
def test_without_bounds_whatever_is_selected_is_expected(selectors: list[Selector], objects: list[Object]) -> None:
    """As many of them as there are, and however large."""
    expectations = Expectations(selectors)
    for found in objects:
        assert expectations.takes(found) == (selected(selectors, found) is not None)


@given(st.integers(0, 4), st.integers(0, 1 << 20), st.lists(st.integers(0, 1 << 19), max_size=8))
def test_never_more_than_the_bounds_is_expected(count: int, room: int, sizes: list[int]) -> None:
    """Neither in number nor in bytes."""
    expectations = Expectations([{"kind": "shm", "count": count, "bytes": room}])
    taken = [size for size in sizes if expectations.takes({**SEGMENT, "bytes": size})]
    assert len(taken) <= count
    assert sum(taken) <= room


@pytest.mark.parametrize(
    ("stored", "selectors"),
    [
        (None, []),
        ({"kind": "shm"}, []),
        ([{"kind": "shm", "owner": 0}, {"kind": "sem"}], [{"kind": "shm", "owner": 0}, {"kind": "sem"}]),
        ([{"owner": 0}, {"kind": "sem", "key": None}, 5, {"kind": None}], []),
    ],
)
def test_selectors_come_back_from_the_ledger(stored: Document, selectors: list[Selector]) -> None:
    """What is no selector is left out as a whole: without one of its words it would mean more."""
    assert selectors_of(stored) == selectors
