"""Wherever an end is killed: it is told once, what was to go goes, what is due stays due, and nothing lies about."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from support.pod import (
    collected,
    counts,
    due,
    end_of,
    gc,
    join,
    killed_at,
    let_time_pass,
    pod,
    reap,
    standing,
    stop,
    stop_at,
    told,
)
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from pathlib import Path

    from support.pod import Start
    from support.sandbox import Container

YOUNG = {"reap": reap(17, 18, 19, age=3600)}
KEYED = ("--shm=1", "--shm-key=17", "--sem=1", "--sem-op", "--sem-key=18", "--msg=1", "--msg-key=19")
# Where the ledger, what ends have told of, and what is due are put in place; where objects are looked at and removed.
CALLS = {"renameat": 12, "shmctl": 12, "unlink,unlinkat": 8}


def leak(container: Container) -> None:
    """Leave two segments that go at once, and one object of each kind that goes later."""
    container.work("--shm=2")
    container.work(*KEYED)


@pytest.mark.parametrize("calls", CALLS)
def test_is_as_if_it_had_not_been_killed(start: Start, root: Path, calls: str) -> None:
    """Killed at any of these calls, an end is finished by gc: one record, all removed or due, and no draft is left."""
    stays, goes = pod(start, root, **YOUNG)
    for number in range(1, CALLS[calls]):
        leak(goes)
        was_killed = stop_at(goes, calls, number, signal.SIGKILL) < 0
        gc(root)
        [end] = [each for each in goes.records() if each["container"]["id"] == goes.id and each["event"] != "applied"]
        assert (counts(end), counts(end, "removed")) == ([3, 1, 1, 0], [2, 0, 0, 0]), number
        assert (standing(stays), end["event"] in ("teardown", "collected")) == ([1, 1, 1, 0], True), number
        assert not list(root.glob("run/ipcwarden/**/*.new"))
        let_time_pass(root)
        gc(root)
        assert counts(collected(goes)[-1], "removed") == [1, 1, 1, 0], number
        assert (standing(stays), due(root)) == ([0] * 4, None), number
        if not was_killed:
            return
        goes = join(start, stays)
    pytest.fail("there are more such calls than expected")


def test_a_deadline_in_the_removal(start: Start, root: Path) -> None:
    """A hook whose time is over while it removes leaves the rest to gc, and what is due is due."""
    stays, goes = pod(start, root, **YOUNG)
    leak(goes)
    goes.work("--shm=9")
    assert stop_at(goes, "shmctl", 8, signal.SIGALRM) > 0
    assert standing(stays)[0] > 1
    gc(root)
    end = end_of(goes)
    assert (counts(end), counts(end, "removed")) == ([12, 1, 1, 0], [11, 0, 0, 0])
    let_time_pass(root)
    gc(root)
    assert standing(stays) == [0] * 4


def test_what_is_due_of_an_unfinished_end_is_not_told_twice(start: Start, root: Path) -> None:
    """What a killed hook was about to remove is left to its own end, whoever stops meanwhile."""
    stays, goes = pod(start, root)
    other = join(start, stays)
    goes.work("--shm=2")
    assert stop_at(goes, "shmctl", 4, signal.SIGKILL) < 0
    assert due(root) is not None
    stop(other)
    assert [each["event"] for each in goes.records() if each["event"] == "collected"] == []
    gc(root)
    [record] = collected(goes)
    assert counts(record) == [2, 0, 0, 0]
    assert (standing(stays), due(root)) == ([0] * 4, None)


def test_a_killed_removal_of_what_is_due(start: Start, root: Path) -> None:
    """What is due stays so until it is gone: the next gc removes the rest, and tells of all."""
    stays, goes = pod(start, root, reap=({"kind": "shm", "age": 3600},))
    goes.work("--shm=3", "--shm-key=17")
    stop(goes)
    let_time_pass(root)
    removals = 4
    assert killed_at("shmctl", removals, REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, "gc")
    assert 0 < standing(stays)[0] < 3
    gc(root)
    [record] = collected(goes)
    assert (counts(record, "removed"), {fate for _, fate, _ in told(record).values()}) == ([3, 0, 0, 0], {"removed"})
    assert (standing(stays), due(root)) == ([0] * 4, None)


@pytest.mark.parametrize("removals", [4, 6])
def test_the_last_end_tells_of_a_killed_removal(start: Start, root: Path, removals: int) -> None:
    """Where the last member ends before any gc comes again, its hook finishes what was begun: its room goes with it."""
    stays, goes = pod(start, root, reap=({"kind": "shm", "age": 3600},))
    goes.work("--shm=3", "--shm-key=17")
    stop(goes)
    let_time_pass(root)
    assert killed_at("shmctl", removals, REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, "gc")
    stop(stays)
    [record] = collected(goes)
    assert counts(record, "removed") == [3, 0, 0, 0]


def test_a_record_of_what_was_due_waits_for_the_log(start: Start, root: Path) -> None:
    """Where the log cannot be written the ledger keeps it, also once the namespace has gone."""
    stays, goes = pod(start, root, reap=({"kind": "shm", "age": 3600},))
    goes.work("--shm=3", "--shm-key=17")
    stop(goes)
    let_time_pass(root)
    log = root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.rename(log.with_name("aside"))
    log.mkdir()
    assert run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, "gc").code == 1
    assert (standing(stays), due(root)) == ([0] * 4, None)
    stays.kill()
    stays.poststop().check()
    log.rmdir()
    log.with_name("aside").rename(log)
    gc(root)
    [record] = collected(goes)
    assert counts(record, "removed") == [3, 0, 0, 0]


@pytest.mark.parametrize(("call", "number", "removed"), [("renameat", 2, 0), ("shmctl", 4, 1)])
def test_the_last_end_is_told_anew(start: Start, root: Path, call: str, number: int, removed: int) -> None:
    """Where the others end before a killed one is finished its record is the last: it tells of what they left, too."""
    stays, goes = pod(start, root)
    goes.work("--shm=3")
    stop_at(goes, call, number, signal.SIGKILL)
    stays.work("--sem=2", "--sem-op", "--msg=1")
    stop(stays)
    gc(root)
    record = end_of(goes)
    assert (counts(record), record["objects_omitted"]) == ([3, 2, 1, 0], 0)
    assert ("removed" in record) is bool(removed)
    assert sorted(each["fate"] for each in record["objects"]) == ["freed"] * (6 - removed) + ["removed"] * removed
