"""Drift is every difference."""

from __future__ import annotations

import pytest

from ipcwarden.core.findings import drift


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
