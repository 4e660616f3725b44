"""Ends of several members, known and unknown: what may be another's is not taken for one's, or removed as one's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from support.pod import collected, counts, due, end_of, gc, join, pod, standing, stop, told
from support.sandbox import SLOW_TO_SEE, hunt, profile, put_in_force

if TYPE_CHECKING:
    from pathlib import Path

    from support.pod import Start

KEEPS = profile(leftovers="remove", keep=({"kind": "shm"},))
REMOVES = profile(leftovers="remove")
NOBODY = [("name", ("nobody",))]


def test_what_may_be_another_dead_ones(start: Start, root: Path) -> None:
    """While another one's end is not recorded it goes only as both say; that end tells it again, and takes nothing."""
    put_in_force(root, KEEPS)
    stays = start(own_pids=True)
    stays.create().check()
    keeper = join(start, stays)
    put_in_force(root, REMOVES)
    goes = join(start, stays)
    keeper.work("--shm=1")
    keeper.kill()
    record = stop(goes)
    assert told(record) == {"shm": ("plausible", "held", "keep")}
    assert record["objects"][0]["evidence"] == ["creator-gone", "last-user-gone", "several-gone"]
    keeper.poststop().check()
    assert told(end_of(keeper)) == {"shm": ("plausible", "held", "others")}
    assert standing(stays) == [1, 0, 0, 0]


def test_what_all_dead_ones_would_remove(start: Start, root: Path) -> None:
    """Where all who may have left it say so it goes, though nobody can tell whose it was."""
    stays, goes = pod(start, root)
    other = join(start, stays)
    other.work("--shm=1")
    other.kill()
    assert told(stop(goes)) == {"shm": ("plausible", "removed", "")}
    other.poststop().check()
    assert counts(end_of(other)) == [0] * 4
    assert standing(stays) == [0] * 4


def test_what_an_earlier_end_left_standing(start: Start, root: Path) -> None:
    """What an end has told of without proof is not removed as a later one's, when there is nobody to doubt any more."""
    stays, goes = pod(start, root)
    put_in_force(root, KEEPS)
    keeper = join(start, stays)
    keeper.work("--shm=1")
    admin = start(ipc=str(stays.namespace))
    assert told(stop(keeper)) == {"shm": ("unknown", "held", "keep")}
    admin.kill()
    assert told(stop(goes)) == {"shm": ("plausible", "held", "others")}
    assert standing(stays) == [1, 0, 0, 0]


def test_a_guest_that_has_gone(start: Start, root: Path) -> None:
    """What was made once an ungoverned container was in there may be its: it stays, and nothing is proven."""
    stays, goes = pod(start, root)
    put_in_force(root, REMOVES, when=NOBODY)
    guest = start(ipc=str(stays.namespace), own_pids=True)
    guest.create().check()
    guest.work("--shm=1")
    guest.kill()
    guest.poststop().check()
    record = stop(goes)
    assert told(record) == {"shm": ("plausible", "held", "not-named")}
    assert record["objects"][0]["evidence"][-1] == "strangers"
    assert standing(stays) == [1, 0, 0, 0]


def test_a_stranger_that_has_gone(start: Start, root: Path) -> None:
    """So it is with a container of which no hook has told, once an end has seen it in there."""
    stays, first = pod(start, root)
    goes, stranger = join(start, stays), start(ipc=str(stays.namespace), own_pids=True)
    first.work("--shm=1")
    stranger.work("--shm=1")
    assert told(stop(first)) == {"shm": ("proven", "removed", "")}
    stranger.kill()
    assert told(stop(goes)) == {"shm": ("plausible", "held", "not-named")}
    assert standing(stays) == [1, 0, 0, 0]


def test_one_that_is_created_meanwhile_is_no_stranger(start: Start, root: Path) -> None:
    """A container that is in there before its hook has run is a member from then on."""
    stays, first = pod(start, root)
    other = start(ipc=str(stays.namespace), own_pids=True)
    stop(first)
    other.create().check()
    other.work("--shm=1")
    assert told(stop(other)) == {"shm": ("proven", "removed", "")}
    assert standing(stays) == [0] * 4


def test_what_could_not_be_told_is_due(start: Start, root: Path) -> None:
    """What would go but for one that could not be asked is judged again, and goes by a later look."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    stays.work(*SLOW_TO_SEE)
    with hunt(stays, signal.SIGKILL):
        assert told(stop(goes))["shm"] == ("unknown", "held", "unknown")
    gc(root)
    [record] = collected(goes)
    assert (told(record), counts(record, "removed")) == ({"shm": ("proven", "removed", "")}, [1, 0, 0, 0])
    assert standing(stays) == [0, 15, 0, 0]
    assert due(root) is None


def test_what_could_not_be_told_may_be_of_one_that_has_ended_since(start: Start, root: Path) -> None:
    """Whoever lived then, and does not by the time of the later look, has a say in it, too."""
    stays, goes = pod(start, root)
    put_in_force(root, KEEPS)
    keeper = join(start, stays)
    keeper.work("--shm=1")
    goes.work("--shm=1")
    stays.work(*SLOW_TO_SEE)
    with hunt(stays, signal.SIGKILL):
        assert told(stop(goes))["shm"][0] == "unknown"
    stop(keeper)
    gc(root)
    assert collected(goes) == []
    assert standing(stays) == [2, 15, 0, 0]
