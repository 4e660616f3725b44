"""Whose an object is follows from who has a pid for it; whether it goes, from that and the profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.attribution import (
    CREATOR,
    IN_USE,
    OLD_ID,
    RECEIVER,
    SEVERAL,
    UNREAD,
    USER,
    Sight,
    Terms,
    Verdict,
    aligned,
    attribute,
    changes,
    given_again,
    judge,
    uses,
    view_of,
    why_not,
)
from ipcwarden.core.objects import Inventory, Table

if TYPE_CHECKING:
    from ipcwarden.core.attribution import View
    from ipcwarden.core.objects import Object

CASES: dict[str, tuple[Any, ...]] = {
    # kind, use, used, ours, alive, unread, doubt -> confidence, evidence
    "attached": ("shm", "attached", CREATOR, CREATOR, 0, False, (), "in-use", "attached"),
    "waiters": ("sem", "waiters", 0, USER, 0, True, ("no-answer",), "in-use", "waiters"),
    "notify": ("mqueue", "notify", 0, 0, 0, False, (), "in-use", "notify"),
    "a living maker": ("shm", "", CREATOR, CREATOR, CREATOR, False, (), "in-use", "creator-lives"),
    "a living user": ("shm", "", CREATOR, CREATOR | USER, USER, False, (), "in-use", "last-user-lives"),
    "both live": ("shm", "", CREATOR, CREATOR, CREATOR | USER, False, (), "in-use", "creator-lives last-user-lives"),
    "a living receiver": ("msg", "", USER, USER, RECEIVER, False, (), "in-use", "last-user-lives"),
    "use beats doubt": ("shm", "", CREATOR, CREATOR, CREATOR, False, ("no-answer",), "in-use", "creator-lives"),
    "maker gone": ("shm", "", CREATOR, CREATOR, 0, False, (), "proven", "creator-gone"),
    "both gone": ("shm", "", CREATOR | USER, CREATOR | USER, 0, False, (), "proven", "creator-gone last-user-gone"),
    "user gone": ("sem", "", 0, USER, 0, False, (), "plausible", "last-user-gone"),
    "both ends gone": ("msg", "", USER | RECEIVER, USER | RECEIVER, 0, False, (), "plausible", "last-user-gone"),
    "never used": ("msg", "", 0, 0, 0, False, (), "plausible", "never-used"),
    "queue": ("mqueue", "", 0, 0, 0, False, (), "plausible", "no-pids"),
    "doubt": ("shm", "", CREATOR, CREATOR, 0, False, ("no-answer",), "unknown", "no-answer"),
    "doubt of a queue": ("mqueue", "", 0, 0, 0, False, ("no-pid-namespace",), "unknown", "no-pid-namespace"),
    "maker out of sight": ("shm", "", CREATOR, 0, 0, False, (), "unknown", "out-of-sight"),
    "half out of sight": ("shm", "", CREATOR | USER, CREATOR, 0, False, (), "unknown", "out-of-sight"),
    "unread": ("sem", "", USER, USER, 0, True, (), "unknown", "too-many"),
}


@pytest.mark.parametrize(
    ("kind", "use", "used", "ours", "alive", "unread", "doubt", "confidence", "evidence"), CASES.values(), ids=CASES
)
def test_judges(
    kind: str,
    use: str,
    used: int,
    ours: int,
    alive: int,
    unread: bool,
    doubt: tuple[str, ...],
    confidence: str,
    evidence: str,
) -> None:
    """Each sort of evidence comes to its verdict."""
    verdict = judge(kind, use, used, ours, alive, unread, doubt)
    assert verdict == Verdict(confidence, tuple(evidence.split()))
    assert verdict.is_leftover is (confidence != IN_USE)
    assert verdict.is_orphan is (confidence not in (IN_USE, "unknown") and "gone" in evidence)


SHADES: dict[str, tuple[Any, ...]] = {
    # kind, used and ours, shade -> evidence, whether it is an orphan
    "others are dead, too": ("shm", CREATOR, ("several-gone",), "creator-gone several-gone", True),
    "strangers were there": ("shm", CREATOR | USER, ("strangers",), "creator-gone last-user-gone strangers", True),
    "its id is old": ("shm", CREATOR, ("old-id",), "creator-gone old-id", False),
    "both": ("sem", USER, ("several-gone", "old-id"), "last-user-gone several-gone old-id", False),
    "never used": ("msg", 0, ("strangers",), "never-used strangers", False),
    "a queue": ("mqueue", 0, ("several-gone",), "no-pids several-gone", False),
}


@pytest.mark.parametrize(("kind", "bits", "shade", "evidence", "is_orphan"), SHADES.values(), ids=SHADES)
def test_others_may_have_left_it(kind: str, bits: int, shade: tuple[str, ...], evidence: str, is_orphan: bool) -> None:
    """Where another may have left it nothing is proven, and of what has had another's id nothing is known."""
    verdict = judge(kind, "", bits, bits, 0, False, (), shade)
    assert verdict == Verdict("plausible", tuple(evidence.split()))
    assert verdict.is_orphan is is_orphan


ANCIENT: Object = {"kind": "shm", "key": "0x00000000", "owner": "0", "ctime": 10, "detach": 40, "attach": 90}
KEYED: Object = {**ANCIENT, "key": "0x00001234"}
QUEUE: Object = {"kind": "msg", "key": "0x00000000", "owner": "0", "ctime": 10, "send": 20, "recv": 30}
POSIX: Object = {"kind": "mqueue", "name": "/q", "owner": "0", "ctime": 10}
PROOF = Verdict("proven", ("creator-gone",))
USED = Verdict("plausible", ("last-user-gone",))
MAYBE = Verdict("plausible", ("never-used",))
STRANGE = Verdict("plausible", ("creator-gone", "strangers"))
SHARED = Verdict("plausible", ("creator-gone", "several-gone"))
AGAIN = Verdict("plausible", ("creator-gone", "old-id"))
DARK = Verdict("unknown", ("no-answer",))
NAMED = ({"kind": "shm", "key": "0x00001234", "age": 60}, {"kind": "mqueue", "age": 0}, {"kind": "msg", "age": 60})
ALL: dict[str, Any] = {"leftovers": "remove", "reap": NAMED}
ALL_SHM: dict[str, Any] = {"leftovers": "remove", "reap": ({"kind": "shm", "age": 70},)}
KEEPS: dict[str, Any] = {"leftovers": "remove", "keep": ({"kind": "shm"},)}
REPORTS: dict[str, Any] = {"leftovers": "report"}
REMOVES: dict[str, Any] = {"leftovers": "remove"}
DECISIONS: dict[str, tuple[Any, ...]] = {
    "report": (ANCIENT, PROOF, [{"leftovers": "report", "reap": NAMED}], 1000, "report"),
    "permissive": (ANCIENT, PROOF, [{**ALL, "mode": "permissive"}], 1000, "permissive"),
    "private at once": (ANCIENT, PROOF, [REMOVES], 40, ""),
    "kept": (ANCIENT, PROOF, [{**ALL, "keep": ({"kind": "shm"},)}], 1000, "keep"),
    "keyed": (KEYED, PROOF, [REMOVES], 1000, "not-named"),
    "keyed and named": (KEYED, PROOF, [ALL], 100, ""),
    "keyed and young": (KEYED, PROOF, [ALL], 99, "young"),
    "the clock went back": (KEYED, PROOF, [ALL], 5, "young"),
    "msg": (QUEUE, USED, [REMOVES], 1000, "not-named"),
    "msg and named": (QUEUE, USED, [ALL], 90, ""),
    "msg and young": (QUEUE, USED, [ALL], 89, "young"),
    "queue": (POSIX, MAYBE, [ALL], 1000, "queue"),
    "plausible": (QUEUE, MAYBE, [ALL], 1000, "plausible"),
    "unknown": (ANCIENT, DARK, [ALL], 1000, "unknown"),
    "in use": (KEYED, Verdict("in-use", ("attached",)), [ALL], 1000, "in-use"),
    "an old id": (ANCIENT, AGAIN, [ALL_SHM], 1000, "plausible"),
    "private, perhaps a stranger's": (ANCIENT, STRANGE, [ALL], 1000, "not-named"),
    "perhaps a stranger's, and named": (ANCIENT, STRANGE, [ALL_SHM], 110, ""),
    "all remove": (ANCIENT, SHARED, [REMOVES, ALL], 40, ""),
    "one reports": (ANCIENT, SHARED, [ALL, REPORTS], 1000, "report"),
    "one only watches": (ANCIENT, SHARED, [REMOVES, {**ALL, "mode": "permissive"}], 1000, "permissive"),
    "one keeps": (ANCIENT, SHARED, [REMOVES, KEEPS], 1000, "keep"),
    "one does not name it": (KEYED, SHARED, [ALL, REMOVES], 1000, "not-named"),
    "too young for one, not named by the other": (KEYED, SHARED, [ALL, REMOVES], 41, "not-named"),
    "too young for one": (KEYED, SHARED, [ALL, ALL_SHM], 109, "young"),
    "old enough for all": (KEYED, SHARED, [ALL, ALL_SHM], 110, ""),
}


@pytest.mark.parametrize(("found", "verdict", "terms", "now", "why"), DECISIONS.values(), ids=DECISIONS)
def test_decides(found: Object, verdict: Verdict, terms: list[dict[str, Any]], now: float, why: str) -> None:
    """Only an orphan goes, where nobody else could find it or each profile that may be meant names it."""
    assert why_not(found, verdict, [Terms(**each) for each in terms], now) == why


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


POSIX_QUEUES: list[Object] = [
    {"kind": "mqueue", "name": "/old"},
    {"kind": "mqueue", "name": "/new"},
    {"kind": "mqueue", "name": "/awaited", "notify": 9},
]
ALL_BITS = {"shm": bytes([3, 3]), "sem": bytes([2, 2]), "msg": bytes([0, 6, 6])}


def verdicts(sight: Sight, before: dict[str, frozenset[int]]) -> dict[tuple[str, int], str]:
    """Say how sure the verdict of each object is that was not there before, by kind and id or inode."""
    inventory = Inventory(TABLES, POSIX_QUEUES, [1, 2, 3])
    return {
        (kind, (inventory.inodes if kind == "mqueue" else TABLES[kind].column("id"))[index]): verdict.confidence
        for kind, verdict, indices in attribute(inventory, sight, before)
        for index in indices
    }


def test_attributes_all_that_was_not_there_before() -> None:
    """Each object is judged once by its own evidence, but for what a joiner found."""
    living = {"shm": bytes([CREATOR, 0]), "sem": bytes([0, UNREAD])}
    before = {"mqueue": frozenset({1}), "msg": frozenset({7})}
    assert verdicts(Sight(ALL_BITS, ({}, living)), before) == {
        ("shm", 7): "in-use",
        ("shm", 8): "proven",
        ("sem", 7): "plausible",
        ("sem", 8): "unknown",
        ("msg", 8): "plausible",
        ("msg", 9): "plausible",
        ("mqueue", 2): "plausible",
        ("mqueue", 3): "in-use",
    }


def test_an_id_of_before_may_be_anothers() -> None:
    """What was made or changed since somebody joined is judged though its id is an old one, and never proven."""
    inventory = Inventory(TABLES, POSIX_QUEUES, [1, 2, 3])
    before = {"shm": frozenset({7}), "msg": frozenset({8}), "mqueue": frozenset({1})}
    assert given_again(inventory, before, 50) == dict.fromkeys(("shm", "sem", "msg"), frozenset())
    old = given_again(inventory, before, 49)
    assert old == {"shm": frozenset({7}), "sem": frozenset(), "msg": frozenset({8})}
    sight = Sight(ALL_BITS, shade=("strangers",), old=old)
    found = {
        (kind, index): each.evidence for kind, each, indices in attribute(inventory, sight, {}) for index in indices
    }
    aged = {each for each, evidence in found.items() if OLD_ID in evidence}
    assert aged == {("shm", 0), ("msg", 1)}
    assert found["shm", 0] == ("creator-gone", "last-user-gone", "strangers", "old-id")
    assert found["shm", 1] == ("creator-gone", "last-user-gone", "strangers")
    assert found["mqueue", 0] == ("no-pids", "strangers")


def test_doubts_that_pass() -> None:
    """What could not be asked may be known another time; what cannot be known never is."""
    assert Verdict("unknown", ("no-answer", "too-many")).is_passing
    assert not Verdict("unknown", ("no-answer", "no-baseline")).is_passing
    assert not Verdict("plausible", ()).is_passing


def test_a_shade_makes_plausible() -> None:
    """What may be another's is not proven any more, and is told so once."""
    shaded = Verdict("proven", ("creator-gone",)).shaded(SEVERAL)
    assert shaded == Verdict("plausible", ("creator-gone", "several-gone"))
    assert shaded.shaded(SEVERAL) == shaded
    unknown = Verdict("unknown", ("no-answer",))
    assert unknown.shaded(SEVERAL) == unknown


def test_who_waits_uses() -> None:
    """An array that somebody waits for is in use, and a segment that is attached."""
    attached = Table("shm", b"key shmid\n0 7 600 9 21 0 1 0 0 0 0 0 0 50 0 0\n", 4096)
    inventory = Inventory({"shm": attached, "sem": TABLES["sem"]}, [])
    sight = Sight({**ALL_BITS, "shm": bytes([CREATOR])}, awaited=frozenset({7}))
    found = {(kind, indices[0]): verdict.evidence for kind, verdict, indices in attribute(inventory, sight, {})}
    assert found == {("shm", 0): ("attached",), ("sem", 0): ("waiters",), ("sem", 1): ("last-user-gone",)}


SEEN = st.fixed_dictionaries(
    {
        kind: st.binary(min_size=len(table), max_size=len(table)).map(lambda seen: bytes(bits & 7 for bits in seen))
        for kind, table in TABLES.items()
    }
)


@given(SEEN, st.lists(SEEN, max_size=3), st.booleans())
def test_proves_nothing_that_the_living_have_a_pid_for(ours: View, living: list[View], doubt: bool) -> None:
    """Whatever else is seen: one living pid, or one that could not be asked, and nothing is proven."""
    found = verdicts(Sight(ours, tuple(living), doubt=("no-answer",) if doubt else ()), {})
    proven = {each for each, confidence in found.items() if confidence == "proven"}
    alive = {
        (kind, number)
        for view in living
        for kind, seen in view.items()
        for number, bits in zip(TABLES[kind].column("id"), seen, strict=True)
        if bits
    }
    assert not proven & alive
    assert not (proven and doubt)


def test_sees_all_pids() -> None:
    """What a table or a semaphore has a pid of is seen; 0 is nobody."""
    assert view_of(TABLES, {8: frozenset({22})}, frozenset({7})) == {
        "shm": bytes([CREATOR, CREATOR | USER]),
        "sem": bytes([UNREAD, USER]),
        "msg": bytes([0, USER, USER | RECEIVER]),
    }


def test_sees_who_lives() -> None:
    """Of those that live only a process counts that was there when the object was last changed."""
    started = {22: 65, 23: 10}
    view = view_of(TABLES, {8: frozenset({22, 21})}, frozenset(), lambda pid, when: started.get(pid, 99) <= when)
    assert view == {
        "shm": bytes([0, CREATOR | USER]),
        "sem": bytes([0, 0]),
        "msg": bytes([0, 0, USER | RECEIVER]),
    }


def test_what_is_seen_is_of_the_same_objects() -> None:
    """What comes or goes between two looks moves nothing: each object has what was seen under its id."""
    assert aligned(bytes([1, 2, 4]), [7, 9, 8], [8, 6, 7]) == bytes([4, 0, 1])


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
