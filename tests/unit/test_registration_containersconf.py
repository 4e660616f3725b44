"""podman's drop-in: all directories that it read before, and ours."""

from __future__ import annotations

import pytest

from ipcwarden.registration.containersconf import document, hooks_dirs, is_ours, named
from ipcwarden.registration.tables import parse

DEFAULT, OURS = "/usr/share/containers/oci/hooks.d", "/usr/share/ipcwarden/precreate.d"


def test_document_names_each_directory_once() -> None:
    """In the order in which podman reads them."""
    assert parse(document([DEFAULT, "/x", DEFAULT, OURS])) == {"engine": {"hooks_dir": [DEFAULT, "/x", OURS]}}


@pytest.mark.parametrize(
    ("text", "dirs"),
    [
        ("", [DEFAULT]),
        ('[engine]\nruntime = "runc"', [DEFAULT]),
        ('[engine]\nhooks_dir = ["/x"]', ["/x"]),
        ('[engine]\nhooks_dir = ["/x", {append = true}]', [DEFAULT, "/x"]),
        ('[engine]\nhooks_dir = [{append=false}, "/x"]', ["/x"]),
        ("[engine]\nhooks_dir = []", []),
    ],
)
def test_directories_are_those_of_the_last_file(text: str, dirs: list[str]) -> None:
    """One that adds to those before it says so, since podman 5."""
    assert hooks_dirs(text, [DEFAULT]) == dirs


@pytest.mark.parametrize("text", ['[engine]\nhooks_dir = "/x"', "engine = 1", "x"])
def test_unusable_file_is_refused(text: str) -> None:
    """podman would not start with it either."""
    with pytest.raises(ValueError, match=r"."):
        named(text)


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (document([DEFAULT, f"/srv{OURS}"]), True),
        ('[engine]\nhooks_dir = ["/x"]', False),
        ("[engine]", False),
        ("x", False),
    ],
)
def test_drop_in_is_recognised(text: str, ours: bool) -> None:
    """By the directory that only ours names."""
    assert is_ours(text) == ours
