"""The kill switch as a value, and as a file that root alone may have put there."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ipcwarden.cli import Settings, disable, enable, summary
from ipcwarden.core.record import timestamp
from ipcwarden.core.switch import Switch, is_switched_off, parse_switch, switch_document
from ipcwarden.errors import PolicyError
from ipcwarden.host.procfs import login_uid
from ipcwarden.host.switch import read_switch
from support.schema import validate

if TYPE_CHECKING:
    from pathlib import Path

    from click import Command

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
        b'{"until": null, "reason": 7, "by": "root"}',
        b'{"by": true}',
    ],
)
def test_is_on_whatever_it_says(content: bytes) -> None:
    """What cannot be read in the file takes nothing from its being there: no end, no reason, nobody."""
    assert parse_switch(content) == Switch()
    assert is_switched_off(parse_switch(content), NOON)


@pytest.mark.parametrize(
    "until",
    [
        "1795435200",
        "true",
        "[]",
        '""',
        '"tomorrow"',
        '"2026-11-23"',
        '"2026-11-23T10:00:00"',
        '"2026-11-23T10:00:00+01:00"',
        '"2026-11-23T10:00Z"',
        '"2026-11-23T10:00:00.1x2Z"',
        '"\\u0662026-11-23T10:00:00Z"',
    ],
)
def test_an_end_that_nobody_can_read_is_none(until: str) -> None:
    """It is on without an end, and remembers what stands there, for somebody to be told."""
    switch = parse_switch(f'{{"until": {until}}}'.encode())
    assert switch == Switch(unclear=until)
    assert is_switched_off(switch, NOON)


@pytest.mark.parametrize(
    "until",
    [
        "2026-11-23T14:00:00+00:00",
        "2026-11-23T14:00:00-00:00",
        "2026-11-23t14:00:00z",
        "2026-11-23 14:00:00Z",
        "2026-11-23 14:00:00+00:00",
    ],
)
def test_knows_utc_in_every_spelling(until: str) -> None:
    """RFC 3339 has more than one: date --rfc-3339=seconds writes another than ipcwarden does."""
    assert parse_switch(json.dumps({"until": until}).encode()) == Switch("2026-11-23T14:00:00Z")


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


def call(command: Command, root: Path, *arguments: str) -> str:
    """Run a verb; return what it prints."""
    result = CliRunner().invoke(command, arguments, obj=Settings(str(root)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def records(root: Path) -> list[dict[str, Any]]:
    """Read the log; every record is valid."""
    found: list[dict[str, Any]] = [
        json.loads(line) for line in (root / "var/log/ipcwarden/audit.jsonl").read_text().splitlines()
    ]
    for each in found:
        validate(each, "audit-v1")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give an empty root."""
    tmp_path.chmod(0o755)
    return tmp_path


def test_disable_and_enable(root: Path) -> None:
    """One sets the switch, the other takes it back; each is recorded, without any policy."""
    assert call(disable.command, root, "--reason", "outage\n") == (
        "disabled until ipcwarden enable: containers start ungoverned: outage\\n\n"
    )
    assert read_switch(str(root)) == Switch(None, "outage\n", login_uid())
    assert (root / "etc/ipcwarden/disabled").stat().st_mode & 0o777 == 0o644
    assert call(enable.command, root) == "enabled: containers that start from now on are governed\n"
    assert read_switch(str(root)) is None
    assert [(each["event"], each["uid"]) for each in records(root)] == [
        ("disabled", login_uid()),
        ("enabled", login_uid()),
    ]
    assert records(root)[0]["reason"] == "outage\n"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400)])
def test_disable_ends_by_itself(root: Path, text: str, seconds: int) -> None:
    """With --for the switch names the moment, and so do the record and what is printed for programs."""
    before = int(time.time())
    told = json.loads(call(disable.command, root, "--for", text, "--json"))
    end = datetime.fromisoformat(told["until"]).timestamp() - seconds
    assert before <= end <= time.time()
    switch = read_switch(str(root))
    assert switch == Switch(told["until"], "", login_uid())
    assert (told["disabled"], told["changed"]) == (True, True)
    [record] = records(root)
    assert record["until"] == told["until"]
    assert is_switched_off(switch, NOON)


@pytest.mark.parametrize("text", ["", "2", "0s", "-1h", "1.5h", "2 h", "1w", "٢h", "400d", "999999999d", "1h30m"])
def test_disable_refuses_what_is_no_duration(root: Path, text: str) -> None:
    """Nothing is switched then."""
    result = CliRunner().invoke(disable.command, ["--for", text], obj=Settings(str(root)))
    assert result.exit_code == 2
    assert read_switch(str(root)) is None


def test_disable_once_more_sets_another_end(root: Path) -> None:
    """The later word counts."""
    call(disable.command, root)
    call(disable.command, root, "--for", "1h")
    switch = read_switch(str(root))
    assert switch is not None
    assert switch.until is not None


def test_enable_twice(root: Path) -> None:
    """It says that it was enabled, and records nothing."""
    assert call(enable.command, root) == "nothing to do: it was enabled\n"
    assert json.loads(call(enable.command, root, "--json")) == {"disabled": False, "changed": False}
    assert list(root.iterdir()) == []


def test_enable_removes_a_switch_that_has_ended(file: Path) -> None:
    """It was enabled, which is said; the file goes all the same."""
    file.write_text('{"until": "2020-01-01T00:00:00Z"}')
    file.chmod(0o644)
    told = call(enable.command, file.parents[2])
    assert told == "nothing to do: it was enabled; the switch, which ended at 2020-01-01 00:00:00 UTC, is removed\n"
    assert not file.exists()


def test_enable_removes_a_switch_that_was_not_obeyed(file: Path) -> None:
    """One that others may have set."""
    file.touch()
    file.chmod(0o666)
    assert "which was not obeyed (others can write it (mode 0666)), is removed" in call(enable.command, file.parents[2])
    assert not file.exists()


def test_enable_takes_a_touch_back(file: Path) -> None:
    """A file that nobody but an operator's shell wrote was a switch."""
    file.touch(0o644)
    assert call(enable.command, file.parents[2]).startswith("enabled: ")
    assert [each["event"] for each in records(file.parents[2])] == ["enabled"]


def test_the_switch_is_set_even_where_nothing_can_be_recorded(root: Path) -> None:
    """A full or broken disk is one more reason for it: that is said, and is no failure."""
    (root / "var").touch()
    (root / "run").touch()
    result = CliRunner().invoke(disable.command, [], obj=Settings(str(root)), catch_exceptions=False)
    assert result.exit_code == 0
    assert "cannot record it: " in result.stderr
    assert read_switch(str(root)) is not None


@pytest.mark.parametrize("command", [disable.command, enable.command])
def test_what_others_can_write_is_no_place_for_a_switch(file: Path, command: Command) -> None:
    """Whoever owns the directory would own the switch."""
    file.touch()
    file.parent.chmod(0o777)
    with pytest.raises(PolicyError, match="others can write it"):
        call(command, file.parents[2])


def test_the_log_tells_people() -> None:
    """Who, until when and why."""
    switched = {"event": "disabled", "until": "2026-11-23T21:04:46Z", "reason": "outage", "uid": 0}
    assert summary.what(dict(switched)) == "containers start ungoverned, until 2026-11-23 21:04:46, by root; outage"
    assert summary.what({**switched, "until": None, "reason": ""}) == (
        "containers start ungoverned, without an end, by root"
    )
    assert summary.what({"event": "enabled", "uid": 0}) == "containers are governed again, by root"
