"""What could have changed a container's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipcwarden.core.causes import causes_of

if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

CASES: dict[str, tuple[dict[str, Document], bool, list[str]]] = {
    "nothing known": ({}, False, ["host"]),
    "writable": ({"writable_proc_sys": True}, False, ["writable_proc_sys", "host"]),
    "privileged": (
        {"writable_proc_sys": True, "privileged": True},
        False,
        ["writable_proc_sys", "privileged", "host"],
    ),
    "user namespace": ({"user_namespace": True}, False, ["user_namespace", "host"]),
    "shared": ({}, True, ["joiner", "host"]),
    "damaged": ({"privileged": "yes"}, False, ["host"]),
}


@pytest.mark.parametrize(("entry", "shared", "causes"), CASES.values(), ids=CASES)
def test_causes_are_what_the_entry_tells(entry: dict[str, Document], shared: bool, causes: list[str]) -> None:
    """The container's own ways come first, and the host's root can always have done it."""
    assert causes_of(entry, shared) == causes
