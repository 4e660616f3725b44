"""What the system's journal is told of a container, in a line."""

from __future__ import annotations

from typing import Any

import pytest

from ipcwarden.core.alarms import called, counted

LONG = "417c5187be32" + "0" * 52


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"id": LONG, "name": "db"}, "container 'db' (417c5187be32)"),
        ({"id": "c1", "name": "c1"}, "container 'c1'"),
        ({"id": LONG, "name": None}, "container '417c5187be32'"),
        (
            {"id": LONG, "name": "db", "pod": "web-7f", "namespace": "shop"},
            "container 'db' (417c5187be32) of pod 'shop/web-7f'",
        ),
        ({"id": LONG, "name": "db", "pod": "web", "namespace": None}, "container 'db' (417c5187be32) of pod 'web'"),
        ({"id": LONG, "name": "a\nPRIORITY=0"}, r"container 'a\nPRIORITY=0' (417c5187be32)"),
        (None, "container 'c1-0123'"),
    ],
)
def test_a_container_is_called_by_its_names(container: Any, said: str) -> None:
    """By its name, the id that engines show and its pod, as far as these are known; never on two lines."""
    assert called(container, "c1-0123") == said


def test_objects_are_counted_by_kind() -> None:
    """A kind of which nothing is left is not named."""
    totals = {"shm": {"count": 3}, "sem": {"count": 1}, "msg": {"count": 2}, "mqueue": {"count": 0}}
    assert counted(totals) == "3 shm, 1 sem, 2 msg"
    assert counted(totals, {"shm": {"count": 2}, "sem": {"count": 1}}) == "1 shm, 2 msg"
    assert counted(None) == ""
