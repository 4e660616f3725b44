"""What a member left is told as far as it fits, with what is proven of it and why it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipcwarden.core.attribution import CREATOR, Sight, Terms, Verdict
from ipcwarden.core.leftovers import (
    chosen_in,
    doubted,
    everything_told,
    expected_in,
    leftovers_in,
    leftovers_told,
    merged,
    planned,
    removed_told,
    stamps_of,
    still_there,
    without,
)
from ipcwarden.core.objects import Inventory, Table

if TYPE_CHECKING:
    from ipcwarden.core.objects import Object

SHM = b"""key shmid
0 7 600 9 21 0 0 0 0 0 0 0 0 50 4096 0
17 8 600 9 21 0 0 0 0 5 0 0 0 51 8192 0
18 9 600 9 21 0 1 0 0 0 0 0 0 52 0 0
19 10 600 9 21 0 0 0 0 0 0 0 0 990 0 0
"""
QUEUES: list[Object] = [
    {"kind": "mqueue", "name": "/q", "owner": "0", "bytes": 48, "claimed": 96, "ctime": 1},
    {"kind": "mqueue", "name_hex": "ff", "owner": "0", "bytes": 0, "claimed": 0, "ctime": 1},
]
SIGHT = Sight({"shm": bytes([CREATOR] * 4)})


def inventory() -> Inventory:
    """Make a namespace with four segments, of which one is attached, and two queues."""
    tables = {"shm": Table("shm", SHM, 4096), "sem": Table("sem", b"key\n", 4096), "msg": Table("msg", b"key\n", 4096)}
    return Inventory(tables, QUEUES, [1, 2])


TERMS = Terms("remove", "enforcing", (), ({"kind": "shm", "key": "0x00000013", "age": 60},))


def test_sorts_by_what_becomes_of_it() -> None:
    """What is alike in proof and fate is one group; what is in use, or was there before, is in none."""
    groups = leftovers_in(inventory(), SIGHT, {"mqueue": frozenset({2})}, [TERMS], 1000, {})
    assert [(kind, verdict.confidence, why, indices) for kind, verdict, why, indices in groups] == [
        ("shm", "proven", "", [0]),
        ("shm", "proven", "not-named", [1]),
        ("shm", "proven", "young", [3]),
        ("mqueue", "plausible", "queue", [0]),
    ]
    assert chosen_in(groups) == {"shm": [0, 1, 3], "mqueue": [0]}


def test_what_may_be_anothers_goes_as_all_say() -> None:
    """Where several may have left it nothing is removed that one of them only reports, keeps, or does not name."""
    found = inventory()
    for others, why in ((Terms(), "report"), (Terms("remove", "permissive"), "permissive")):
        assert {group[2] for group in leftovers_in(found, SIGHT, {}, [TERMS, others], 1000, {})} == {why}
    keeps = Terms("remove", "enforcing", ({"kind": "shm"},))
    groups = leftovers_in(found, SIGHT, {}, [TERMS, keeps], 1000, {})
    assert [(kind, why) for kind, _, why, _ in groups] == [("shm", "keep"), ("mqueue", "queue"), ("mqueue", "queue")]


def test_what_others_have_told_of_is_told_again() -> None:
    """What another's end has told of without proof may be that one's: it is not removed now, or noted once more."""
    found = inventory()
    told = {"shm": frozenset({7, 9})}
    for terms, why in ((TERMS, "not-named"), (Terms(), "report")):
        groups = leftovers_in(found, SIGHT, {}, [terms], 1000, told)
        [again] = [group for group in groups if group[2] == "others"]
        assert again == ("shm", Verdict("plausible", ("creator-gone", "several-gone")), "others", [0])
        assert next(group[3][0] for group in groups if group[2] == why) == 1
        record = leftovers_told(found, groups, ())
        assert record["left"] == {"proven": {"shm": [[8, 8], [10, 10]]}, "unproven": {}}
        assert record["alarming"] == sum(len(group[3]) for group in groups if group[2] not in ("others", "young"))
    groups = leftovers_in(found, SIGHT, {}, [Terms()], 1000, {"shm": frozenset({7, 8, 9, 10})})
    assert [(kind, why) for kind, _, why, _ in groups] == [("shm", "others")] + [("mqueue", "report")] * 2


def test_what_another_look_may_prove() -> None:
    """Of what is not known now is due what would be removed without the doubt, if that may pass."""
    found = inventory()
    for word, indices in (("no-answer", [0, 3]), ("too-many", [0, 3]), ("no-baseline", [])):
        groups = leftovers_in(found, Sight(SIGHT.ours, doubt=(word,)), {}, [TERMS], 1000, {})
        assert {group[2] for group in groups} == {"unknown", "queue"}
        due = doubted(found, groups, [TERMS])
        assert [index for group in due for index in group[3]] == indices
        assert leftovers_told(found, groups, ())["left"] == {
            "proven": {},
            "unproven": {"shm": [[7, 8], [10, 10]]},
        }
    groups = leftovers_in(found, Sight(SIGHT.ours, doubt=("no-answer",)), {}, [Terms("remove")], 1000, {})
    assert planned(found, doubted(found, groups, [Terms("remove")]), "unknown", {}) == {
        "shm": [[7, 4096, 4096, 0, 0, 50, 0, 0, 21, 0]]
    }
    assert doubted(found, groups, [Terms("remove", "enforcing", ({"kind": "shm"},))]) == []


def test_tells_each_with_its_evidence() -> None:
    """A record's objects come with confidence, evidence and why they stay, the largest first."""
    found = inventory()
    told = leftovers_told(found, leftovers_in(found, SIGHT, {}, [TERMS], 1000, {}), ())
    assert told["leftovers"] == found.totals({"shm": [0, 1, 3], "mqueue": [0, 1]})
    assert told["objects"] == [
        {**found.object("shm", 1), "confidence": "proven", "evidence": ["creator-gone"], "why": "not-named"},
        {**found.object("shm", 0), "confidence": "proven", "evidence": ["creator-gone"]},
        {**QUEUES[0], "confidence": "plausible", "evidence": ["no-pids"], "why": "queue"},
        {**found.object("shm", 3), "confidence": "proven", "evidence": ["creator-gone"], "why": "young"},
        {**QUEUES[1], "confidence": "plausible", "evidence": ["no-pids"], "why": "queue"},
    ]
    assert (told["objects_omitted"], told["alarming"]) == (0, 3)
    assert told["removing"] == {"ids": {"shm": [[7, 7]]}, "totals": found.totals({"shm": [0]})}
    assert told["left"] == {"proven": {"shm": [[7, 8], [10, 10]]}, "unproven": {}}
    assert "expected" not in told


def test_what_is_expected_alarms_nobody() -> None:
    """What `expect` takes is marked, summed up, and not counted among what alarms."""
    found = inventory()
    groups = leftovers_in(found, SIGHT, {}, [TERMS], 1000, {})
    told = leftovers_told(found, groups, ({"kind": "mqueue", "name": "/q"}, {"kind": "shm", "key": "0x00000013"}))
    assert [each.get("expected") for each in told["objects"]] == [None, None, True, True, None]  # type: ignore[union-attr]
    assert told["expected"] == found.totals({"shm": [3], "mqueue": [0]})
    assert told["alarming"] == 2
    assert expected_in(found, {"shm": [0]}, ()) == {}


def test_tells_what_does_not_fit() -> None:
    """Objects beyond what a record holds are counted."""
    line = b"0 %d 600 9 21 0 0 0 0 0 0 0 0 50 0 0\n"
    table = Table("shm", b"key\n" + b"".join(line % number for number in range(150)), 4096)
    many = Inventory({"shm": table}, [])
    sight = Sight({"shm": bytes([CREATOR] * len(table))})
    told = leftovers_told(many, leftovers_in(many, sight, {}, [Terms()], 1000, {}), ())
    assert told["objects_omitted"] == 50


def test_plans_by_stamp() -> None:
    """What is to go is noted with all that it is known by; POSIX queues never are."""
    found = inventory()
    groups = leftovers_in(found, SIGHT, {}, [TERMS], 1000, {})
    assert planned(found, groups, "", {}) == {"shm": [[7, 4096, 4096, 0, 0, 50, 0, 0, 21, 0]]}
    assert planned(found, groups, "not-named", {7: {1}}) == {"shm": [[8, 8192, 4096, 17, 5, 51, 0, 0, 21, 0]]}
    assert planned(found, groups, "queue", {}) == {}


def test_an_array_is_known_by_its_semaphores() -> None:
    """The pids that they have are part of its stamp: its times have no fractions of seconds."""
    table = Table("sem", b"key semid\n7 3 600 2 0 0 5 0 60 50\n", 4096)
    assert list(stamps_of(table, [0], {3: frozenset({32, 31})})) == [[7, 5, 50, 60, 31, 32]]
    assert list(stamps_of(table, [0], {})) == [[7, 5, 50, 60]]


def test_tells_all_of_a_private_namespace() -> None:
    """Of a namespace where nobody lives all is told, and what of it was to be expected."""
    found = inventory()
    told = everything_told(found, ({"kind": "shm", "key": "0x00000011"},))
    assert (told["totals"], told["alarming"]) == (found.totals(), 5)
    assert told["expected"] == found.totals({"shm": [1]})
    assert [each.get("expected") for each in told["objects"]] == [True, None, None, None, None, None]  # type: ignore[union-attr]
    assert "expected" not in everything_told(found, ())


def test_tells_what_stays_after_all() -> None:
    """Of an earlier plan that stays which is there and not to go now: in use by then, or for a reason."""
    found = inventory()
    groups = leftovers_in(found, SIGHT, {}, [TERMS], 1000, {})
    ids = {"shm": frozenset({7, 8, 9, 99})}
    assert still_there(found, groups, ids) == {"shm": [(8, 8192, 4096, "not-named"), (9, 0, 4096, "in-use")]}


def test_tells_the_fates() -> None:
    """What was planned and is gone was removed; the rest is held, and why."""
    found = inventory()
    rows: list[dict[str, object]] = [
        {"kind": "shm", "id": 7},
        {"kind": "shm", "id": 8},
        {"kind": "mqueue", "name": "/q", "why": "queue"},
    ]
    totals = found.totals({"shm": [0, 1]})
    told = removed_told(rows, totals, {"shm": [(8, 8192, 4096, "changed")]})  # type: ignore[arg-type]
    assert told["objects"] == [
        {"kind": "shm", "id": 7, "fate": "removed"},
        {"kind": "shm", "id": 8, "fate": "held", "why": "changed"},
        {"kind": "mqueue", "name": "/q", "fate": "held", "why": "queue"},
    ]
    assert told["removed"] == found.totals({"shm": [0]})
    nothing = {"shm": [(7, 4096, 4096, "in-use"), (8, 8192, 4096, "changed")]}
    assert "removed" not in removed_told(rows, totals, nothing)  # type: ignore[arg-type]


def test_plans_add_up() -> None:
    """Two plans are one; some ids are taken out of one, or all others."""
    both = merged({"shm": [[1]]}, {"shm": [[2]], "msg": [[3]]})
    assert both == {"shm": [[1], [2]], "msg": [[3]]}
    assert without(both, {"shm": {1}, "msg": {3}}) == {"shm": [[2]]}
    assert without(both, {"shm": {1}}, but=True) == {"shm": [[1]]}
