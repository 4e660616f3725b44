"""A condition's key names one fact; what is not known is None."""

from __future__ import annotations

import pytest

from ipcwarden.core.facts import Facts, fact

KNOWN = Facts(
    engine="podman",
    image="registry/app:1",
    annotations={"team": "db", "engine": "docker", "": "none", "a.b/c": "dotted"},
    privileged=False,
    user_namespace=True,
    ipc="private",
)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("engine", "podman"),
        ("image", "registry/app:1"),
        ("privileged", False),
        ("user_namespace", True),
        ("ipc", "private"),
        ("runtime", None),
        ("pod", None),
        ("rootless", None),
        ("annotations.team", "db"),
        ("annotations.a.b/c", "dotted"),
        ("annotations.", "none"),
        ("annotations.engine", "docker"),
        ("annotations.missing", None),
        ("annotations.Team", None),
    ],
)
def test_tells_a_fact(key: str, expected: object) -> None:
    """A field and an annotation are told by their name, false apart from unknown, an annotation apart from a field."""
    assert fact(KNOWN, key) is expected


def test_knows_no_annotation_where_none_are_known() -> None:
    """Without any annotations every one of them is unknown."""
    assert fact(Facts(), "annotations.team") is None


def test_refuses_a_key_that_names_nothing() -> None:
    """A condition that nobody could meet is a fault of ours, not false."""
    with pytest.raises(KeyError):
        fact(KNOWN, "hostname")
