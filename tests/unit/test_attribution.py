"""Whose an object is follows from who has a pid for it; whether it goes, from that and the profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.attribution import (
    CREATOR,
    IN_USE,
    RECEIVER,
    USER,
    Sign,
    Terms,
    Verdict,
    View,
    changes,
    judge,
    uses,
    view_of,
    why_not,
)
from ipcwarden.core.objects import Table

if TYPE_CHECKING:
    from ipcwarden.core.objects import Object

NOBODY = View({})


def sees(kind: str, bits: int) -> View:
    """Make a view with a pid for object 7."""
    return View({kind: {7: bits}})


MADE = sees("shm", CREATOR)
USED = sees("sem", USER)
CASES: dict[str, tuple[Any, ...]] = {
    # kind, sign, our view, living views, doubt -> confidence, evidence
    "attached": ("shm", Sign("attached", CREATOR), MADE, [NOBODY], (), "in-use", "attached"),
    "waiters": ("sem", Sign("waiters"), USED, [NOBODY], (), "in-use", "waiters"),
    "notify": ("mqueue", Sign("notify"), NOBODY, [NOBODY], (), "in-use", "notify"),
    "a living maker": ("shm", Sign("", CREATOR), MADE, [NOBODY, MADE], (), "in-use", "creator-lives"),
    "a living user": ("shm", Sign("", CREATOR), MADE, [sees("shm", USER)], (), "in-use", "last-user-lives"),
    "both": ("shm", Sign("", CREATOR), MADE, [MADE, sees("shm", USER)], (), "in-use", "creator-lives last-user-lives"),
    "a living receiver": ("msg", Sign(), sees("msg", USER), [sees("msg", RECEIVER)], (), "in-use", "last-user-lives"),
    "use beats doubt": ("shm", Sign("", CREATOR), MADE, [MADE], ("no-answer",), "in-use", "creator-lives"),
    "maker gone": ("shm", Sign("", CREATOR), MADE, [NOBODY, NOBODY], (), "proven", "creator-gone"),
    "nobody lives": ("shm", Sign("", CREATOR), MADE, [], (), "proven", "creator-gone"),
    "both gone": (
        "shm",
        Sign("", CREATOR | USER),
        sees("shm", CREATOR | USER),
        [NOBODY],
        (),
        "proven",
        "creator-gone last-user-gone",
    ),
    "user gone": ("sem", Sign("", USER), USED, [NOBODY], (), "proven", "last-user-gone"),
    "both ends gone": (
        "msg",
        Sign("", USER | RECEIVER),
        sees("msg", USER | RECEIVER),
        [NOBODY],
        (),
        "proven",
        "last-user-gone",
    ),
    "never used": ("msg", Sign(), NOBODY, [NOBODY], (), "plausible", "never-used"),
    "queue": ("mqueue", Sign(), NOBODY, [NOBODY], (), "plausible", "no-pids"),
    "doubt": ("shm", Sign("", CREATOR), MADE, [NOBODY], ("no-answer",), "unknown", "no-answer"),
    "doubt of a queue": ("mqueue", Sign(), NOBODY, [], ("no-pid-namespace",), "unknown", "no-pid-namespace"),
    "maker out of sight": ("shm", Sign("", CREATOR), NOBODY, [NOBODY], (), "unknown", "out-of-sight"),
    "half out of sight": ("shm", Sign("", CREATOR | USER), MADE, [NOBODY], (), "unknown", "out-of-sight"),
    "unread by us": ("sem", Sign("", USER), View({}, frozenset({7})), [NOBODY], (), "unknown", "too-many"),
    "unread by them": ("sem", Sign("", USER), USED, [View({}, frozenset({7}))], (), "unknown", "too-many"),
    "another unread": ("sem", Sign("", USER), USED, [View({}, frozenset({8}))], (), "proven", "last-user-gone"),
}


@pytest.mark.parametrize(
    ("kind", "sign", "ours", "living", "doubt", "confidence", "evidence"), CASES.values(), ids=CASES
)
def test_judges(
    kind: str, sign: Sign, ours: View, living: list[View], doubt: tuple[str, ...], confidence: str, evidence: str
) -> None:
    """Each sort of evidence comes to its verdict."""
    verdict = judge(kind, 7, sign, ours, living, doubt)
    assert verdict == Verdict(confidence, tuple(evidence.split()))
    assert verdict.is_leftover is (confidence != IN_USE)


BITS = st.integers(0, 7)
VIEWS = st.builds(sees, st.just("shm"), BITS)


@given(st.lists(VIEWS, max_size=3), VIEWS, BITS, st.booleans())
def test_proves_nothing_that_the_living_have_a_pid_for(living: list[View], ours: View, used: int, doubt: bool) -> None:
    """Whatever else is seen: one living pid, or one that could not be asked, and nothing is proven."""
    verdict = judge("shm", 7, Sign("", used), ours, living, ("no-answer",) if doubt else ())
    if doubt or any(view.pids["shm"][7] for view in living):
        assert verdict.confidence != "proven"


ANCIENT: Object = {"kind": "shm", "key": "0x00000000", "owner": "0", "ctime": 10, "detach": 40, "attach": 90}
KEYED: Object = {**ANCIENT, "key": "0x00001234"}
QUEUE: Object = {"kind": "msg", "key": "0x00000000", "owner": "0", "ctime": 10, "send": 20, "recv": 30}
POSIX: Object = {"kind": "mqueue", "name": "/q", "owner": "0", "ctime": 10}
PROOF = Verdict("proven", ("creator-gone",))
MAYBE = Verdict("plausible", ("never-used",))
DARK = Verdict("unknown", ("no-answer",))
NAMED = ({"kind": "shm", "key": "0x00001234", "age": 60}, {"kind": "mqueue", "age": 0}, {"kind": "msg", "age": 60})
ALL = {"leftovers": "remove", "reap": NAMED}
DECISIONS: dict[str, tuple[Any, ...]] = {
    "report": (ANCIENT, PROOF, {"leftovers": "report", "reap": NAMED}, 1000, "report"),
    "permissive": (ANCIENT, PROOF, {**ALL, "mode": "permissive"}, 1000, "permissive"),
    "private at once": (ANCIENT, PROOF, {"leftovers": "remove"}, 40, ""),
    "kept": (ANCIENT, PROOF, {**ALL, "keep": ({"kind": "shm"},)}, 1000, "keep"),
    "keyed": (KEYED, PROOF, {"leftovers": "remove"}, 1000, "not-named"),
    "keyed and named": (KEYED, PROOF, ALL, 100, ""),
    "keyed and young": (KEYED, PROOF, ALL, 99, "young"),
    "the clock went back": (KEYED, PROOF, ALL, 5, "young"),
    "msg": (QUEUE, PROOF, {"leftovers": "remove"}, 1000, "not-named"),
    "msg and named": (QUEUE, PROOF, ALL, 90, ""),
    "msg and young": (QUEUE, PROOF, ALL, 89, "young"),
    "queue": (POSIX, MAYBE, ALL, 1000, "queue"),
    "plausible": (QUEUE, MAYBE, ALL, 1000, "plausible"),
    "unknown": (ANCIENT, DARK, ALL, 1000, "unknown"),
    "in use": (KEYED, Verdict("in-use", ("attached",)), ALL, 1000, "in-use"),
}


@pytest.mark.parametrize(("found", "verdict", "terms", "now", "why"), DECISIONS.values(), ids=DECISIONS)
def test_decides(found: Object, verdict: Verdict, terms: dict[str, Any], now: float, why: str) -> None:
    """Only what is proven goes, and of that only what nobody else could find or the profile names."""
    assert why_not(found, verdict, Terms(**terms), now) == why


SHM = b"""key shmid
0 7 600 9 21 0 0 0 0 0 0 0 0 50 0 0
0 8 600 9 22 23 0 0 0 0 0 60 70 50 0 0
"""
SEM = b"""key semid
0 7 600 1 0 0 0 0 0 50
0 8 600 1 0 0 0 0 60 50
"""
MSG = b"""key msqid
0 7 600 0 0 0 0 0 0 0 0 0 0 50
0 8 600 0 0 22 0 0 0 0 0 60 0 50
0 9 600 0 0 22 23 0 0 0 0 60 70 50
"""
TABLES = {kind: Table(kind, text, 4096) for kind, text in (("shm", SHM), ("sem", SEM), ("msg", MSG))}


def test_sees_all_pids() -> None:
    """What a table or a semaphore has a pid of is seen; 0 is nobody."""
    view = view_of(TABLES, {8: frozenset({22})}, frozenset({7}))
    assert view.pids == {"shm": {7: CREATOR, 8: CREATOR | USER}, "sem": {8: USER}, "msg": {8: USER, 9: USER | RECEIVER}}
    assert view.unread == frozenset({7})


def test_sees_who_lives() -> None:
    """Of those that live only a process counts that was there when the object was last changed."""
    started = {22: 65, 23: 10}
    view = view_of(TABLES, {8: frozenset({22, 21})}, frozenset(), lambda pid, when: started.get(pid, 99) <= when)
    assert view.pids == {"shm": {8: CREATOR | USER}, "sem": {}, "msg": {9: USER | RECEIVER}}


def test_age_counts_from_the_last_change() -> None:
    """Of a segment detaching counts, of an array the last operation, of a queue the last message."""
    assert {kind: changes(table) for kind, table in TABLES.items()} == {
        "shm": [50, 70],
        "sem": [50, 60],
        "msg": [50, 60, 70],
    }


def test_times_tell_what_was_used() -> None:
    """What has been attached, operated on, sent to or received from has a pid of who did."""
    assert {kind: uses(table) for kind, table in TABLES.items()} == {
        "shm": [CREATOR, CREATOR | USER],
        "sem": [0, USER],
        "msg": [0, USER, USER | RECEIVER],
    }
