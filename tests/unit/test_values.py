"""Values are frozen, equal by content, and cannot be made wrongly."""

from __future__ import annotations

import pytest

from ipcwarden.values import value


@value
class Point:
    """A value with a default."""

    x: int
    y: int = 2


@value
class Place:
    """Another class with the same fields."""

    x: int
    y: int = 2


@pytest.mark.parametrize("point", [Point(1, 2), Point(1), Point(x=1), Point(1, y=2), Point(y=2, x=1)])
def test_takes_fields_in_order_and_by_name(point: Point) -> None:
    """Fields come by position, by name or from their default."""
    assert (point.x, point.y) == (1, 2)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((), {}),
        ((), {"y": 1}),
        ((1, 2, 3), {}),
        ((1,), {"z": 1}),
        ((), {"z": 1, "y": 1}),
        ((), {"x": 1, "y": 1, "z": 1}),
    ],
)
def test_refuses_missing_and_unknown_fields(given: tuple[int, ...], named: dict[str, int]) -> None:
    """A value has all its fields and no others."""
    with pytest.raises(TypeError, match="Point takes x, y"):
        Point(*given, **named)


def test_equals_by_content() -> None:
    """Two values of one class with equal fields are equal."""
    assert Point(1, 2) == Point(1)


@pytest.mark.parametrize("other", [Point(1, 3), Place(1, 2), (1, 2), {"x": 1, "y": 2}, None])
def test_differs_from_everything_else(other: object) -> None:
    """Another content and another class make a difference."""
    assert Point(1, 2) != other


def test_cannot_be_changed() -> None:
    """A field cannot be set once the value is made."""
    point = Point(1)
    with pytest.raises(AttributeError, match=r"Point\.x is frozen"):
        point.x = 5  # type: ignore[misc]
    assert point.x == 1


def test_cannot_lose_a_field() -> None:
    """A field cannot be deleted."""
    point = Point(1)
    with pytest.raises(AttributeError, match=r"Point\.x is frozen"):
        del point.x
    assert point.x == 1


def test_cannot_gain_a_field() -> None:
    """What is no field cannot be set either."""
    with pytest.raises(AttributeError, match=r"Point\.z is frozen"):
        Point(1).z = 5  # type: ignore[attr-defined]


def test_defaults_are_kept_apart() -> None:
    """One value's fields are not another's defaults."""
    Point(1, 7)
    assert Point(1).y == 2


def test_shows_its_fields() -> None:
    """The text of a value is how it can be made again."""
    point = Point(1, -3)
    assert eval(repr(point)) == point


def test_cannot_be_hashed() -> None:
    """A value may hold dicts, so none is a key."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))
