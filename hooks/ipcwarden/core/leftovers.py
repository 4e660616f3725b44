"""What a member of a shared namespace left: sorted by what is proven of it and what becomes of it, and told."""

from __future__ import annotations

from ipcwarden.core.attribution import PLAUSIBLE, PROVEN, SEVERAL, Verdict, attribute, why_not, why_nothing
from ipcwarden.core.objects import KINDS
from ipcwarden.core.ranges import ranges_of
from ipcwarden.core.selection import Expectations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias, TypeVar

    from ipcwarden.core.attribution import Sight, Terms
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Chosen, Inventory, Object, Table
    from ipcwarden.core.policy import Selector

    # Kind, verdict, why they stay (empty: they are to go), and the objects as indices.
    Group: TypeAlias = tuple[str, Verdict, str, list[int]]
    # Objects by kind, each as its id, the bytes that it holds and claims, and its stamp.
    Plan: TypeAlias = dict[str, list[list[int]]]
    # Objects by kind, each as its id, the bytes that it holds and claims, and why it stays.
    Stayed: TypeAlias = dict[str, list[tuple[int, int, int, str]]]
    Row = TypeVar("Row")

# What an object is known by beside its id, which is given again; an array by its semaphores' pids, too.
STAMPS = {
    "shm": ("key", "cuid", "ctime", "attach", "detach", "cpid", "lpid"),
    "sem": ("key", "cuid", "ctime", "otime"),
    "msg": ("key", "cuid", "ctime", "send", "recv", "lspid", "lrpid"),
}
OTHERS = "others"  # why what another's end has told of and left standing is not removed under a later one's terms
_QUIET = ("", "young", OTHERS)  # why what stays alarms nobody: it goes now or later, or the end that told it first did


def leftovers_in(
    inventory: Inventory,
    sight: Sight,
    before: Mapping[str, frozenset[int]],
    terms: Sequence[Terms],
    now: float,
    told: Mapping[str, frozenset[int]],
) -> list[Group]:
    """Return what was not there `before` and nobody living is seen to use.

    `terms` are those of all that may have left it, `now` is in seconds since 1970; `told` are ids by kind that others'
    ends have told of, without proof.
    """
    found: list[Group] = []
    nothing = next((why for each in terms if (why := why_nothing(each))), "")
    for kind, verdict, indices in attribute(inventory, sight, before):
        if not verdict.is_leftover:
            continue
        again = _those_of(inventory, kind, indices, told.get(kind, frozenset()))
        fresh = [index for index in indices if index not in again] if again else indices
        by_why: dict[str, list[int]] = {nothing: fresh} if nothing and fresh else {}
        for index in fresh if not nothing else ():
            by_why.setdefault(why_not(inventory.object(kind, index), verdict, terms, now), []).append(index)
        found += [(kind, verdict, why, these) for why, these in by_why.items()]
        found += [(kind, verdict.shaded(SEVERAL), OTHERS, sorted(again))] if again else []
    return found


def _those_of(inventory: Inventory, kind: str, indices: Iterable[int], ids: frozenset[int]) -> set[int]:
    column = inventory.tables[kind].column("id") if ids else []
    return {index for index in indices if column[index] in ids} if ids else set()


def doubted(inventory: Inventory, groups: Iterable[Group], terms: Sequence[Terms]) -> list[Group]:
    """Return what would be removed, at once or once it is old enough, if another look were not to doubt it."""
    clear = Verdict(PLAUSIBLE, ("creator-gone", "last-user-gone"))
    found: list[Group] = []
    for kind, verdict, why, indices in groups:
        if why == verdict.confidence and verdict.is_passing:
            objects = ((index, inventory.object(kind, index)) for index in indices)
            these = [index for index, each in objects if why_not(each, clear, terms, 0) in ("", "young")]
            found += [(kind, verdict, why, these)] if these else []
    return found


def chosen_in(groups: Iterable[Group]) -> dict[str, list[int]]:
    """Return the objects of all groups by kind, in the kernel's order."""
    found: dict[str, list[int]] = {}
    for kind, _, _, indices in groups:
        found.setdefault(kind, []).extend(indices)
    return {kind: sorted(indices) for kind, indices in found.items()}


def expected_in(inventory: Inventory, chosen: Chosen, expect: Sequence[Selector]) -> dict[str, list[int]]:
    """Return which of the objects that were `chosen` a profile announces."""
    expectations = Expectations(expect)
    return {
        kind: [index for index in indices if expectations.takes(inventory.object(kind, index))]
        for kind, indices in (chosen.items() if expect else ())
    }


def leftovers_told(inventory: Inventory, groups: Sequence[Group], expect: Sequence[Selector]) -> dict[str, Document]:
    """Return leftovers as a record tells them, but for their fate.

    Beside that `removing` is what is to go, as ids and totals, `left` the ids of what is told, proven or not, but for
    what others' ends have told of before; and `alarming` the number of those that stay for good and were not expected.
    """
    chosen, going = chosen_in(groups), chosen_in(each for each in groups if not each[2])
    expected = expected_in(inventory, chosen, expect)
    shown = inventory.largest(chosen=chosen)
    marks = _marks(inventory, groups, expected, {_name_of_object(each) for each in shown})
    staying = sum(len(indices) for _, _, why, indices in groups if why not in _QUIET)
    told: dict[str, Document] = {
        "leftovers": inventory.totals(chosen),
        "objects": [{**each, **marks[_name_of_object(each)]} for each in shown],
        "objects_omitted": sum(map(len, chosen.values())) - len(shown),
        "alarming": staying - _how_many(groups, expected),
        "removing": {"ids": _ids(inventory, going), "totals": inventory.totals(going)},
        "left": {
            "proven": _ids(inventory, chosen_in(each for each in groups if each[1].confidence == PROVEN)),
            "unproven": _ids(inventory, chosen_in(each for each in groups if _is_told_first(each))),
        },
    }
    return {**told, "expected": inventory.totals(expected)} if expect else told


def _is_told_first(group: Group) -> bool:
    kind, verdict, why, _ = group
    return kind != "mqueue" and verdict.confidence != PROVEN and why != OTHERS


def everything_told(inventory: Inventory, expect: Sequence[Selector]) -> dict[str, Document]:
    """Return all that is in a namespace as a record tells it, but for its fate, and how much of it is `alarming`."""
    every = {kind: range(len(inventory.tables.get(kind, inventory.queues))) for kind in KINDS}
    expected = expected_in(inventory, every, expect)
    names = {_name_of_object(inventory.object(kind, index)) for kind in expected for index in expected[kind]}
    shown = inventory.largest()
    told: dict[str, Document] = {
        "totals": inventory.totals(),
        "objects": [{**each, "expected": True} if _name_of_object(each) in names else {**each} for each in shown],
        "objects_omitted": len(inventory) - len(shown),
        "alarming": len(inventory) - len(names),
    }
    return {**told, "expected": inventory.totals(expected)} if expect else told


def _ids(inventory: Inventory, chosen: Chosen) -> dict[str, Document]:
    columns = {kind: inventory.tables[kind].column("id") for kind in chosen}
    return {kind: ranges_of(columns[kind][index] for index in indices) for kind, indices in chosen.items()}


def _how_many(groups: Iterable[Group], expected: Mapping[str, list[int]]) -> int:
    sets = {kind: frozenset(indices) for kind, indices in expected.items()}
    staying = (group for group in groups if group[2] not in _QUIET)
    return sum(len(sets.get(kind, frozenset()).intersection(indices)) for kind, _, _, indices in staying)


def _marks(
    inventory: Inventory, groups: Iterable[Group], expected: Mapping[str, list[int]], names: set[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, Document]]:
    """Return what is said of each object that is named."""
    found: dict[tuple[str, str], dict[str, Document]] = {}
    sets = {kind: frozenset(indices) for kind, indices in expected.items()}
    for kind, verdict, why, indices in groups:
        ids = inventory.tables[kind].column("id") if kind in inventory.tables else None
        for index in indices:
            name = (kind, str(ids[index])) if ids is not None else _name_of_object(inventory.queues[index])
            if name in names:
                mark: dict[str, Document] = {"confidence": verdict.confidence, "evidence": list(verdict.evidence)}
                mark.update({"why": why} if why else {})
                mark.update({"expected": True} if index in sets.get(kind, frozenset()) else {})
                found[name] = mark
    return found


def _name_of_object(found: Object) -> tuple[str, str]:
    return str(found["kind"]), str(found.get("id", found.get("name", found.get("name_hex"))))


def stamps_of(table: Table, indices: Iterable[int], semaphores: Mapping[int, frozenset[int]]) -> Iterator[list[int]]:
    """Give what each of these objects is known by beside its id; `semaphores` are the pids that we see of arrays'."""
    columns = [table.column(name) for name in STAMPS[table.kind]]
    ids = table.column("id")
    pids = semaphores if table.kind == "sem" else {}
    for index in indices:
        yield [*[column[index] for column in columns], *sorted(pids.get(ids[index], ()))]


def planned(inventory: Inventory, groups: Iterable[Group], why: str, semaphores: Mapping[int, frozenset[int]]) -> Plan:
    """Return the objects that stay for this reason (empty: that are to go); `semaphores` as `stamps_of` takes them."""
    found: Plan = {}
    for kind, _, reason, indices in groups:
        if reason == why and kind in inventory.tables:
            table = inventory.tables[kind]
            columns = [table.column(name) for name in ("id", "bytes", "claimed")]
            stamps = zip(indices, stamps_of(table, indices, semaphores), strict=True)
            rows = ([*[column[index] for column in columns], *stamp] for index, stamp in stamps)
            found.setdefault(kind, []).extend(rows)
    return found


def still_there(inventory: Inventory, groups: Iterable[Group], ids: Mapping[str, frozenset[int]]) -> Stayed:
    """Return which of these ids are there and will not go."""
    whys = {(kind, index): why for kind, _, why, indices in groups if kind in ids for index in indices}
    found: Stayed = {}
    for kind, these in ids.items():
        table = inventory.tables[kind]
        rows = zip(table.column("id"), table.column("bytes"), table.column("claimed"), strict=True)
        for index, (number, held, claimed) in enumerate(rows):
            why = whys.get((kind, index), "in-use")
            if number in these and why:
                found.setdefault(kind, []).append((number, held, claimed, why))
    return found


def removed_told(
    objects: Iterable[dict[str, Document]], totals: Mapping[str, Mapping[str, int]], stayed: Stayed
) -> dict[str, Document]:
    """Return what a record says once the removal is done: the objects with their fates, and what was `removed`, if any.

    `totals` are those of the plan, `stayed` what is there of it all the same.
    """
    whys = {(kind, row[0]): row[3] for kind, rows in stayed.items() for row in rows}
    told: list[Document] = []
    for each in objects:
        why = each.get("why") or whys.get((str(each["kind"]), each.get("id", -1)))  # type: ignore[arg-type]  # a number
        told.append({**each, "fate": "held", "why": why} if why else {**each, "fate": "removed"})
    removed: dict[str, Document] = {}
    for kind in KINDS:
        left = stayed.get(kind, [])
        minus = {"count": len(left), "bytes": sum(row[1] for row in left), "claimed": sum(row[2] for row in left)}
        removed[kind] = {name: number - minus[name] for name, number in totals[kind].items()}
    gone = sum(total["count"] for total in totals.values()) - sum(map(len, stayed.values()))
    return {"objects": told, **({"removed": removed} if gone else {})}


def merged(first: Mapping[str, list[Row]], second: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Return what both have of each kind."""
    return {kind: [*first.get(kind, ()), *second.get(kind, ())] for kind in (*first, *second)}


def without(plan: Plan, ids: Mapping[str, Container[int]], but: bool = False) -> Plan:
    """Return a plan without the objects of these ids; `but` for nothing else than them."""
    found = {kind: [row for row in rows if (row[0] in ids.get(kind, ())) is but] for kind, rows in plan.items()}
    return {kind: rows for kind, rows in found.items() if rows}
