"""`ipcwarden audit --unfinished`: lives without an end, on logs and ledgers made here."""

from __future__ import annotations

import json
import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.cli import Settings, audit, lives, logs
from ipcwarden.core.record import line_of
from ipcwarden.errors import RecordError, UsageError
from ipcwarden.host.procfs import boot_id, started

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

EARLIER = "11111111-2222-3333-4444-555555555555"


def record(event: str, container: str = "c1", space: int = 1, second: int = 0, **more: Any) -> dict[str, Any]:
    """Return a record about a container in the namespace number `space`."""
    namespace = {"id": space, "inode": 4026532182, "shared": False}
    if event != "applied":
        namespace |= {"destroyed": True, "holders": []}
    about = {"id": container, "bundle": f"/srv/{container}", "name": container}
    time = f"2026-11-24T02:{second // 60:02d}:{second % 60:02d}.000000Z"
    begin = {"version": 1, "time": time, "event": event, "boot": boot_id(), "container": about}
    return {**begin, "namespace": namespace, **more}


def write(root: Path, *records: dict[str, Any]) -> None:
    """Write a log."""
    file = root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(map(line_of, records)))


def run_here(root: Path, applied: dict[str, Any], **changes: Any) -> None:
    """Write the ledger's entry of a life whose first process is this one."""
    directory = root / "run" / "ipcwarden" / "containers"
    directory.mkdir(parents=True, exist_ok=True)
    entry = {
        "version": 1,
        "state": "applied",
        "boot": boot_id(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
        "pin": "p",
        "namespace": {"id": applied["namespace"]["id"], "device": 4, "inode": 4026532182, "handle": ""},
        "subject": {"container": applied["container"]},
    }
    (directory / f"{applied['container']['id']}.json").write_text(json.dumps({**entry, **changes}))


def run(root: Path, *arguments: str) -> Result:
    """Run `ipcwarden audit --unfinished`; what it raises is raised."""
    command = ["--unfinished", *arguments]
    return CliRunner().invoke(audit.command, command, obj=Settings(str(root)), catch_exceptions=False)


def found(root: Path, *arguments: str) -> dict[str, str]:
    """Return what is said of the containers whose lives have no end."""
    printed = [json.loads(line) for line in run(root, "--json", *arguments).stdout.splitlines()]
    return {each["container"]["id"]: each["unfinished"] for each in printed}


ENDS = {
    "teardown": record("teardown", second=1),
    "collected": record("collected", second=1),
    "error": record("error", second=1, message="cannot open the pin"),
    "of a member": record("teardown", second=1, removed={}, present={}),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_end_ends_a_life(tmp_path: Path, end: dict[str, Any]) -> None:
    """A teardown, a collected, and an error that says what became of the namespace."""
    write(tmp_path, record("applied"), end)
    assert found(tmp_path) == {}
    assert "every life that the log tells of has an end" in run(tmp_path).stderr


NO_ENDS = {
    "another container's": record("teardown", "c2"),
    "another bundle's": record("teardown", container={"id": "c1", "bundle": "/other"}),
    "another namespace's": record("teardown", space=2),
    "another boot's": record("teardown", boot=EARLIER),
    "in the host's namespace": record("teardown", namespace={"id": 1, "destroyed": False, "host": True}),
    "objects removed later": record("collected", removed={}, leftovers={}),
    "an error that ends nothing": record("error", namespace=None),
    "a verification": record("verified"),
}


@pytest.mark.parametrize("other", NO_ENDS.values(), ids=NO_ENDS)
def test_what_ends_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    """Only its own end ends a life."""
    write(tmp_path, record("applied"), other)
    assert found(tmp_path) == {"c1": "unknown"}


def test_before_namespaces_had_numbers(tmp_path: Path) -> None:
    """Where the kernel gives none, the inode tells namespaces apart."""
    spaces = [{"id": None, "inode": inode, "destroyed": None} for inode in (7, 8)]
    write(tmp_path, *(record("applied", namespace=each) for each in spaces), record("teardown", namespace=spaces[0]))
    [line] = run(tmp_path, "--json").stdout.splitlines()
    assert json.loads(line)["namespace"]["inode"] == 8


def test_a_late_beginning(tmp_path: Path) -> None:
    """A beginning that gc delivered after the end has one all the same."""
    write(tmp_path, record("teardown", second=5), *(record("skipped", str(n), second=9) for n in range(200)))
    with (tmp_path / "var" / "log" / "ipcwarden" / "audit.jsonl").open("ab") as log:
        log.write(line_of(record("applied", second=1)))
    assert found(tmp_path) == {}


def test_names_what_is_known(tmp_path: Path) -> None:
    """What still runs, what went with an earlier boot, and of what no end is recorded; the record stays as it was."""
    lost, runs, rebooted = (record("applied", each, second=n) for n, each in enumerate(("lost", "runs", "rebooted")))
    rebooted["boot"] = EARLIER
    write(tmp_path, lost, runs, rebooted)
    run_here(tmp_path, runs)
    assert found(tmp_path) == {"lost": "unknown", "runs": "running", "rebooted": "boot"}
    assert json.loads(run(tmp_path, "--json").stdout.splitlines()[0]) == {**lost, "unfinished": "unknown"}


@pytest.mark.parametrize("changes", [{"started": 1}, {"boot": EARLIER}, {"pid": 1 << 22}])
def test_an_entry_is_no_proof_of_life(tmp_path: Path, changes: dict[str, Any]) -> None:
    """An entry whose process is gone says nothing of an end, and nothing is made up."""
    write(tmp_path, record("applied"))
    run_here(tmp_path, record("applied"), **changes)
    assert found(tmp_path) == {"c1": "unknown"}


def test_a_life_before_the_present_one(tmp_path: Path) -> None:
    """A container that runs again does not end the life that it had before."""
    before, now = record("applied", space=1), record("applied", space=2, second=9)
    write(tmp_path, before, now)
    run_here(tmp_path, now)
    printed = [json.loads(line) for line in run(tmp_path, "--json").stdout.splitlines()]
    assert [(each["namespace"]["id"], each["unfinished"]) for each in printed] == [(1, "unknown"), (2, "running")]


def test_a_table_for_people(tmp_path: Path) -> None:
    """One line a life, with what is known of its end."""
    write(tmp_path, record("applied", profile="team"), record("applied", "c2", boot=EARLIER, second=3))
    heading, first, second = run(tmp_path).stdout.splitlines()
    assert heading.split() == ["SINCE", "(UTC)", "CONTAINER", "IMAGE", "PROFILE", "END"]
    assert first.split() == ["2026-11-24", "02:00:00", "c1", "-", "team", "no", "end", "recorded"]
    assert second.split() == ["2026-11-24", "02:00:03", "c2", "-", "-", "with", "its", "boot"]


def test_of_one_container(tmp_path: Path) -> None:
    """--container narrows it down."""
    write(tmp_path, record("applied"), record("applied", "c2"))
    assert found(tmp_path, "--container", "c2") == {"c2": "unknown"}


def test_not_of_one_event(tmp_path: Path) -> None:
    """--event makes no sense with it."""
    with pytest.raises(UsageError, match="--event"):
        run(tmp_path, "--event", "applied")


def test_changes_nothing(tmp_path: Path) -> None:
    """It only looks."""
    write(tmp_path, record("applied"))
    run_here(tmp_path, record("applied"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    run(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_ledger_that_cannot_be_read(tmp_path: Path) -> None:
    """Then nobody knows what still runs, and that is said."""
    write(tmp_path, record("applied"))
    run_here(tmp_path, record("applied"))
    (tmp_path / "run" / "ipcwarden" / "containers").chmod(0o777)
    with pytest.raises(RecordError, match="others can write it"):
        run(tmp_path)


def test_remembers_only_open_lives() -> None:
    """A log of any length takes no more memory than the lives that are open at one time."""
    pairs = (record(event, f"c{n}", n) for n in range(20_000) for event in ("applied", "teardown"))
    stream = (logs.Record(line_of(each), each) for each in pairs)
    tracemalloc.start()
    assert lives.unfinished(stream) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


EVENTS = st.tuples(st.sampled_from(["applied", "teardown"]), st.integers(0, 2))


@given(st.lists(EVENTS, max_size=20), st.randoms())
def test_in_any_order(events: list[tuple[str, int]], random: Any) -> None:
    """However records are delivered, as many lives are open as have begun more often than they have ended."""
    shuffled = events.copy()
    random.shuffle(shuffled)
    for order in (events, shuffled):
        records = [record(event, f"c{which}") for event, which in order]
        found = [each.line for each in lives.unfinished(logs.Record(line_of(each), each) for each in records)]
        for which in range(3):
            left = events.count(("applied", which)) - events.count(("teardown", which))
            assert found.count(line_of(record("applied", f"c{which}"))) == max(0, left)
