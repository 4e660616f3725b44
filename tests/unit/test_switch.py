"""The kill switch as a value, and as a file that root alone may have put there."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from ipcwarden.core.record import timestamp
from ipcwarden.core.switch import Switch, is_switched_off, parse_switch, switch_document
from ipcwarden.host.switch import read_switch

if TYPE_CHECKING:
    from pathlib import Path

NOON = timestamp(1_795_435_200 * 10**9 + 123_456_789, (2026, 11, 23, 12, 0, 0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name the switch's file, in directories that nobody else writes."""
    tmp_path.chmod(0o755)
    file = tmp_path / "etc" / "ipcwarden" / "disabled"
    file.parent.mkdir(parents=True, mode=0o755)
    return file


def root_of(file: Path) -> str:
    """Return the root that the file is below."""
    return str(file.parents[2])


@pytest.mark.parametrize("switch", [Switch(), Switch("2026-11-23T14:00:00Z", 'why "not"\n', 1000)])
def test_says_what_was_written(switch: Switch) -> None:
    """What is written into the file is what is read out of it."""
    assert parse_switch(json.dumps(switch_document(switch)).encode()) == switch


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"off please",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[1]",
        b"null",
        b'{"until": 1795435200}',
        b'{"until": "tomorrow", "reason": 7, "by": "root"}',
        b'{"until": "2026-11-23T14:00:00+00:00", "by": true}',
        b'{"until": "2026-11-23 14:00:00Z"}',
        b'{"until": "2026-11-23T14:00:00.1x2Z"}',
        b'{"until": "\\u0662026-11-23T14:00:00Z"}',
    ],
)
def test_is_on_whatever_it_says(content: bytes) -> None:
    """What cannot be read in the file takes nothing from its being there: no end, no reason, nobody."""
    assert parse_switch(content) == Switch()
    assert is_switched_off(parse_switch(content), NOON)


def test_keeps_what_can_be_read() -> None:
    """One odd member hides no other."""
    assert parse_switch(b'{"until": "2026-11-23T14:00:00Z", "reason": [], "by": 5}') == Switch(
        "2026-11-23T14:00:00Z", "", 5
    )


@pytest.mark.parametrize(
    ("until", "on"),
    [
        (None, True),
        ("2026-11-23T12:00:01Z", True),
        ("2026-11-23T12:00:01.000000Z", True),
        ("2026-11-24T00:00:00Z", True),
        ("2027-01-01T00:00:00Z", True),
        ("2026-11-23T12:00:00Z", False),
        ("2026-11-23T12:00:00.900000Z", False),
        ("2026-11-23T11:59:59Z", False),
        ("1999-12-31T23:59:59Z", False),
    ],
)
def test_ends_at_its_moment(until: str | None, on: bool) -> None:
    """It is on until its end, to the second; without one until somebody takes it away."""
    assert is_switched_off(Switch(until), NOON) is on


def test_is_off_without_one() -> None:
    """Where there is no switch, containers are governed."""
    assert not is_switched_off(None, NOON)


def test_is_off_where_anybody_may_have_set_it() -> None:
    """A switch that is not to be trusted switches nothing, end or no end."""
    assert not is_switched_off(Switch(fault="others can write it"), NOON)
    assert not is_switched_off(Switch("2027-01-01T00:00:00Z", fault="others can write it"), NOON)


def test_finds_none(tmp_path: Path) -> None:
    """A root without the file, or without its directory, has no switch."""
    assert read_switch(str(tmp_path)) is None
    (tmp_path / "etc" / "ipcwarden").mkdir(parents=True)
    assert read_switch(str(tmp_path)) is None


def test_reads_the_file(file: Path) -> None:
    """The file's content is what is returned."""
    file.write_text('{"version": 1, "until": "2026-11-23T14:00:00Z", "reason": "outage", "by": 0}')
    file.chmod(0o644)
    assert read_switch(root_of(file)) == Switch("2026-11-23T14:00:00Z", "outage", 0)


@pytest.mark.parametrize("content", [b"", b"x" * 65537])
def test_obeys_a_touch(file: Path, content: bytes) -> None:
    """An empty file is a switch, and so is one that is too large to be ours."""
    file.write_bytes(content)
    file.chmod(0o644)
    assert read_switch(root_of(file)) == Switch()


def test_distrusts_a_file_that_others_can_write(file: Path) -> None:
    """Whoever is not root must not have been able to set it: that is its fault, and it is not obeyed."""
    file.touch()
    file.chmod(0o666)
    assert read_switch(root_of(file)) == Switch(fault="others can write it (mode 0666)")


def test_distrusts_a_directory_that_others_can_write(file: Path) -> None:
    """Nor must they have been able to put it there."""
    file.touch()
    file.parent.chmod(0o777)
    switch = read_switch(root_of(file))
    assert switch is not None
    assert "others can write it (mode 0777)" in switch.fault


@pytest.mark.parametrize("make", ["link", "pipe", "directory"])
def test_distrusts_what_is_no_file(file: Path, make: str) -> None:
    """A link, a pipe or a directory of that name switches nothing, and is not waited for."""
    {"link": lambda: file.symlink_to("/dev/null"), "pipe": lambda: os.mkfifo(file), "directory": file.mkdir}[make]()
    switch = read_switch(root_of(file))
    assert switch is not None
    assert switch.fault


def test_distrusts_a_place_that_is_no_directory(tmp_path: Path) -> None:
    """Where the sources' directory is none, there is no switch that can be obeyed."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ipcwarden").touch()
    assert read_switch(str(tmp_path)) == Switch(fault="not a directory")
