"""How much of each limit objects use, and the most that was ever seen."""

from __future__ import annotations

import pytest

from ipcwarden.core.objects import Inventory, Table, mqueue
from ipcwarden.core.usage import raised_peaks, usage_in, usage_of

OBJECTS = {
    ("shm", "size"): [5000, 1],
    ("shm", "claimed"): [8192, 4096],
    ("sem", "nsems"): [3, 20, 1],
    ("msg", "usedbytes"): [16, 700],
    ("mqueue", "maxmsg"): [10, 4],
    ("mqueue", "msgsize"): [64, 8192],
}


def test_objects_are_counted_as_the_kernel_does() -> None:
    """Limits of a namespace as a whole are used by the sum or the number, limits of one object by the largest."""
    assert usage_of(lambda kind, name: OBJECTS[kind, name], 4096) == {
        "kernel.shmall": 3,
        "kernel.shmmax": 5000,
        "kernel.shmmni": 2,
        "kernel.sem.semmsl": 20,
        "kernel.sem.semmns": 24,
        "kernel.sem.semmni": 3,
        "kernel.msgmnb": 700,
        "kernel.msgmni": 2,
        "fs.mqueue.queues_max": 2,
        "fs.mqueue.msg_max": 10,
        "fs.mqueue.msgsize_max": 8192,
    }


def test_nothing_uses_nothing() -> None:
    """In an empty namespace nothing of any limit is used."""
    assert set(usage_of(lambda *_: [], 4096).values()) == {0}


@pytest.mark.parametrize(
    ("before", "now", "peaks"),
    [
        ({}, {"kernel.shmmni": 0}, {}),
        ({}, {"kernel.shmmni": 2}, {"kernel.shmmni": 2}),
        ({"kernel.shmmni": 5}, {"kernel.shmmni": 2}, {"kernel.shmmni": 5}),
        ({"kernel.shmmni": 5}, {"kernel.shmmni": 7, "kernel.msgmni": 1}, {"kernel.shmmni": 7, "kernel.msgmni": 1}),
        ({"kernel.shmmni": 5}, {}, {"kernel.shmmni": 5}),
    ],
    ids=["nothing", "first", "falls", "rises", "unseen"],
)
def test_peaks_only_rise(before: dict[str, int], now: dict[str, int], peaks: dict[str, int]) -> None:
    """The most that was ever in use stays, whatever is in use now."""
    assert raised_peaks(before, now) == peaks


def test_an_inventory_is_counted() -> None:
    """What the kernel lists is counted; of a queue that could not be opened no more than that it is there."""
    segments = Table("shm", b"head\n 0 0 600 5000 7 8 0 0 0 0 0 1 2 3 4096 0\n", 4096)
    empty = {kind: Table(kind, b"head\n", 4096) for kind in ("sem", "msg")}
    queues = [mqueue(b"a", (0, 0, 0o600), (1, 2), (10, 64, 0, None)), mqueue(b"b", (0, 0, 0o600), (1, 2), None)]
    used = usage_in(Inventory({"shm": segments, **empty}, queues), 4096)
    assert {name: number for name, number in used.items() if number} == {
        "kernel.shmall": 2,
        "kernel.shmmax": 5000,
        "kernel.shmmni": 1,
        "fs.mqueue.queues_max": 2,
        "fs.mqueue.msg_max": 10,
        "fs.mqueue.msgsize_max": 64,
    }
