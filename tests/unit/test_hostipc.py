"""What a container may have left in the host's namespace: judged by what the kernel tells of each object."""

from __future__ import annotations

import pytest

from ipcwarden.core.attribution import Verdict
from ipcwarden.core.hostipc import (
    GONE,
    INSIDE,
    NOBODY,
    OUTSIDE,
    UNTOLD,
    Clues,
    HostLife,
    Trace,
    distinct_cgroup,
    host_uid,
    is_in_cgroup,
    judge_on_host,
    new_since,
    trace_of,
)
from ipcwarden.core.objects import Inventory, Table, mqueue

LIFE = HostLife(999, 1000, 2000, {"shm": frozenset((7,))})
TABLES = {
    "shm": b"head\n 0 3 600 4096 41 42 0 9 9 998 9 51 52 53 0 0\n 0 4 600 4096 41 42 1 9 9 998 9 51 52 53 0 0\n",
    "sem": b"head\n 1 5 600 5 9 9 997 9 54 55\n",
    "msg": b"head\n 1 6 600 16 1 43 44 9 9 996 9 56 57 58\n",
}
QUEUE = mqueue(b"left", (995, 9, 0o100600), (59, 60), (4, 16, 0, 0))


@pytest.mark.parametrize(
    ("kind", "trace", "verdict"),
    [
        ("shm", Trace(999, 1500, GONE), ("plausible", "creator-gone", "uid", "time")),
        ("shm", Trace(998, 1500, GONE), ("unknown", "creator-gone", "time")),
        ("shm", Trace(999, 2500, GONE), ("unknown", "creator-gone", "uid")),
        ("shm", Trace(999, 998, GONE), ("unknown", "creator-gone", "uid")),
        ("shm", Trace(999, 999, GONE), ("plausible", "creator-gone", "uid", "time")),
        ("shm", Trace(999, 1500, NOBODY), ("unknown", "uid", "time")),
        ("shm", Trace(0, 0, INSIDE), ("proven", "creator-lives")),
        ("shm", Trace(0, 0, INSIDE, (OUTSIDE,)), ("proven", "creator-lives")),
        ("shm", Trace(999, 1500, OUTSIDE), None),
        ("shm", Trace(999, 1500, GONE, (GONE, OUTSIDE)), None),
        ("shm", Trace(999, 1500, GONE, (UNTOLD,)), ("unknown", "creator-gone", "uid", "time", "in-use")),
        ("shm", Trace(999, 1500, UNTOLD), ("unknown", "uid", "time", "in-use")),
        ("shm", Trace(999, 1500, GONE, (INSIDE,)), ("plausible", "creator-gone", "uid", "time")),
        ("sem", Trace(999, 1500), ("unknown", "uid", "time")),
        ("sem", Trace(999, 1500, NOBODY, (GONE, INSIDE)), ("plausible", "last-user-lives")),
        ("msg", Trace(999, 1500, NOBODY, (GONE, NOBODY)), ("plausible", "last-user-gone", "uid", "time")),
        ("msg", Trace(0, 0, NOBODY, (OUTSIDE, INSIDE)), None),
        ("msg", Trace(999, 1500, NOBODY, (GONE, OUTSIDE)), None),
        ("msg", Trace(999, 1500, NOBODY, (NOBODY, NOBODY)), ("unknown", "uid", "time")),
        ("mqueue", Trace(1, 1), ("unknown",)),
    ],
)
def test_judges_by_what_the_kernel_tells(kind: str, trace: Trace, verdict: tuple[str, ...] | None) -> None:
    """Only what nobody elsewhere has made or uses is told, and no more is claimed than the evidence bears."""
    expected = Verdict(verdict[0], verdict[1:]) if verdict else None
    assert judge_on_host(kind, 1, trace, LIFE) == expected


SEEN = HostLife(999, 1000, 2000, dict.fromkeys(("shm", "sem", "msg"), frozenset((7,))))


@pytest.mark.parametrize(("kind", "confidence"), [("shm", "proven"), ("sem", "plausible"), ("msg", "plausible")])
def test_what_was_seen(kind: str, confidence: str) -> None:
    """Who made a segment was seen while it lived; of an array or a queue who used it last, and that is no maker."""
    assert judge_on_host(kind, 7, Trace(0, 0, NOBODY, (GONE,)), SEEN) == Verdict(confidence, ("seen-alive",))


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_what_was_seen_and_is_in_use_elsewhere(kind: str) -> None:
    """What somebody elsewhere uses now is no leftover, whoever had it before."""
    assert judge_on_host(kind, 7, Trace(0, 0, NOBODY, (OUTSIDE,)), SEEN) is None


def test_tells_what_is_new() -> None:
    """What the baseline has is left out; a kind that it lacks is new as a whole."""
    found = {"shm": [1, 2, 5], "sem": [1], "msg": []}
    assert new_since(found, {"shm": {1, 5}}) == {"shm": [1], "sem": [0], "msg": []}


def test_reads_each_kind() -> None:
    """Of each kind what it has: makers, users as of their own times, and nobody where the kernel keeps none."""
    inventory = Inventory({kind: Table(kind, text, 4096) for kind, text in TABLES.items()}, [QUEUE])
    clues = Clues(lambda pid, when: f"{pid}@{when}", {3: ["elsewhere"]}, {5: frozenset((46, 45))}, frozenset((5,)))

    def trace(kind: str, index: int = 0) -> Trace:
        return trace_of(inventory, kind, index, clues)

    assert trace("shm") == Trace(998, 53, "41@53")
    assert trace("shm", 1) == Trace(998, 53, "41@53", (UNTOLD,))
    assert trace("sem") == Trace(997, 55, NOBODY, ("45@54", "46@54", UNTOLD))
    assert trace("msg") == Trace(996, 58, NOBODY, ("43@56", "44@57"))
    assert trace("mqueue") == Trace(995, 59)


def test_tells_who_uses_it_now() -> None:
    """Whoever has a segment mapped counts, not who was last; nobody where nobody is told of."""
    inventory = Inventory({kind: Table(kind, text, 4096) for kind, text in TABLES.items()}, [])
    clues = Clues(lambda _pid, _when: GONE, {4: [OUTSIDE, INSIDE]}, {}, frozenset())
    assert trace_of(inventory, "shm", 1, clues).users == (OUTSIDE, INSIDE)
    assert trace_of(inventory, "sem", 0, clues).users == ()


V1 = b"9:name=systemd:/\n8:pids:/docker/c1\n7:cpu,cpuacct:/docker/c1\n0::/\n"


@pytest.mark.parametrize(
    ("theirs", "ours", "cgroup"),
    [
        (
            b"0::/machine.slice/libpod-1.scope/container\n",
            b"0::/user.slice\n",
            ":/machine.slice/libpod-1.scope/container",
        ),
        (V1, b"9:name=systemd:/\n8:pids:/\n7:cpu,cpuacct:/\n0::/\n", "pids:/docker/c1"),
        (V1, b"8:pids:/docker/c1\n7:cpu,cpuacct:/\n", "cpu,cpuacct:/docker/c1"),
        (b"0::/user.slice\n", b"0::/user.slice\n", ""),
        (b"0::/\n", b"0::/user.slice\n", ""),
        (b"0::/a:b\n", b"", ":/a:b"),
        (b"", b"0::/\n", ""),
    ],
)
def test_finds_a_cgroup_of_its_own(theirs: bytes, ours: bytes, cgroup: str) -> None:
    """Only a cgroup that is not the root's, and not ours too, tells a container's processes from others."""
    assert distinct_cgroup(theirs, ours) == cgroup


@pytest.mark.parametrize(
    ("theirs", "inside"),
    [(V1, True), (b"8:pids:/docker/c1/below\n", True), (b"8:pids:/docker/c10\n", False), (b"0::/docker/c1\n", False)],
)
def test_knows_who_is_in_a_cgroup(theirs: bytes, inside: bool) -> None:
    """In it or below it, by the same hierarchy."""
    assert is_in_cgroup(theirs, "pids:/docker/c1") is inside


@pytest.mark.parametrize(
    ("uid", "uid_map", "found"),
    [
        (5, b"         0          0 4294967295\n", 5),
        (5, b"0 100000 65536\n", 100_005),
        (1000, b"0 1000 1\n1 100000 65536\n", 100_999),
        (65536, b"0 100000 65536\n", -1),
        (0, b"", -1),
    ],
)
def test_numbers_a_user_as_we_do(uid: int, uid_map: bytes, found: int) -> None:
    """By the map of its process; who is nobody there is nobody's match."""
    assert host_uid(uid, uid_map) == found
