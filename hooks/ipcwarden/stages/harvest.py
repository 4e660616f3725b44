"""What `ipcwarden reap` removes: written ahead, removed, recorded, and finished by gc where a reap was killed.

The plan is an entry of the ledger, of state `reaping`, which is nobody's life: it speaks of no process and of no pin.
It is written a batch at a time, so that it stays small whatever is removed, with what the batches before have come to.
"""

from __future__ import annotations

import posix
import time

from ipcwarden.core.leftovers import STAMPS
from ipcwarden.core.objects import KINDS
from ipcwarden.core.record import line_of
from ipcwarden.host.inventory import take_inventory
from ipcwarden.host.ledger import REAPING, take
from ipcwarden.host.membership import enter
from ipcwarden.host.namespace import open_pinned
from ipcwarden.host.removal import remove
from ipcwarden.stages.company import company_in
from ipcwarden.stages.life import identity_document, identity_of, key_of_reaping
from ipcwarden.stages.site import moment
from ipcwarden.stages.teardown import tear_down

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipcwarden.core.documents import Document
    from ipcwarden.core.leftovers import Plan
    from ipcwarden.host.ledger import Entry
    from ipcwarden.host.namespace import Identity
    from ipcwarden.stages.site import Site

BATCH = 1024  # objects
INTERRUPTED = "interrupted"
_GONE, _FREED = "gone", "freed"  # somebody was faster; all of it went with the namespace


class Harvest:
    """One reap: `carry_out` in the namespace, then `end`.  `whys` are those of planned objects that stay or were gone.

    `told` is what its record will say: `uid`, `namespace`, `objects` with the fates that are planned,
    `objects_omitted`.
    """

    def __init__(self, site: Site, key: str, subject: Document, identity: Identity, told: dict[str, Document]) -> None:
        entry = take(site.entries, key_of_reaping(key, time.time_ns()), create=True)
        assert entry is not None
        self._site, self._entry = site, entry
        self.whys: dict[tuple[str, int], str] = {}
        nothing: dict[str, Document] = {kind: {"count": 0, "bytes": 0, "claimed": 0} for kind in KINDS}
        self._about: dict[str, Document] = {
            "subject": subject,
            "boot": site.boot,
            "reaping": {"identity": {"namespace": identity_document(identity)}, "removed": nothing, **told},
        }

    def carry_out(self, batches: Iterable[Plan], is_halted: Callable[[], bool]) -> None:
        """Remove what is planned in the current IPC namespace, each object while it is what was judged.

        Once `is_halted` nothing more goes.  Raises `RecordError` where a batch cannot be written ahead: it is not
        begun, and gc finishes what was.
        """
        for plan in batches:
            if not is_halted():
                self._entry.write(**self._about, state=REAPING, at=moment(), plan=plan)  # type: ignore[arg-type]  # numbers
            whys: dict[tuple[str, int], str] = {}
            for kind, rows in plan.items():
                for number, _, _, *stamp in rows:
                    why = INTERRUPTED if is_halted() else remove(kind, number, stamp)
                    if why:
                        whys[kind, number] = why
            told = self._about["reaping"]
            assert isinstance(told, dict)
            self._about["reaping"] = _settled(told, plan, whys)
            self.whys.update(whys)

    def end(self) -> None:
        """Record what was removed, if anything, and forget the plan; with the namespace's room free again."""
        self._entry.document.update(self._about)
        _record(self._site, self._entry, moment())

    def give_up(self) -> None:
        """Leave it to gc."""
        self._entry.release()


def conclude(site: Site, entry: Entry) -> dict[str, Document] | None:
    """Record what a reap that was killed has removed: what of its last batch is not there any more.

    Nothing more is removed.  Returns the record; None where nothing was removed.  Raises `WardenError`.
    """
    try:
        told: dict[str, Document] = entry.document["reaping"]  # type: ignore[assignment]  # as it was written
        plan: Plan = entry.document["plan"]  # type: ignore[assignment]  # likewise
        entry.document["reaping"] = _settled(told, plan, _not_removed(site, told, plan))
    except BaseException:
        entry.release()
        raise
    return _record(site, entry, str(entry.document["at"]))


def _not_removed(site: Site, told: dict[str, Document], plan: Plan) -> dict[tuple[str, int], str]:
    """Return what of a plan is there, and why; all of it where nobody is left through whom that could be seen."""
    whose = told["identity"]
    identity = identity_of(whose) if isinstance(whose, dict) else None
    assert identity is not None
    room = enter(site.namespaces, identity.name)
    if room is not None:
        try:
            for document in company_in(site, room, identity, "").values():
                fd = open_pinned(site.pins, str(document["pin"]), identity)
                try:
                    found = site.visit(fd, lambda: _standing(plan))
                finally:
                    posix.close(fd)
                assert isinstance(found, dict)
                return {(kind, number): INTERRUPTED for kind, ids in found.items() for number in ids}  # type: ignore[union-attr,misc]  # numbers
        finally:
            room.leave()
    return {(kind, row[0]): _FREED for kind, rows in plan.items() for row in rows}


def _standing(plan: Plan) -> dict[str, Document]:
    """Return the ids of what is planned and stands in the current IPC namespace, whatever has been done with it."""
    inventory = take_inventory(quietly=True)
    found: dict[str, Document] = {}
    for kind, rows in plan.items():
        planned_ones = {(row[0], row[3], row[4]) for row in rows}
        table = inventory.tables[kind]
        there = zip(*(table.column(name) for name in ("id", *STAMPS[kind][:2])), strict=True)
        found[kind] = [each[0] for each in there if each in planned_ones]
    return found


def _settled(told: dict[str, Document], plan: Plan, whys: Mapping[tuple[str, int], str]) -> dict[str, Document]:
    """Return what a record will say once a plan is carried out, but for what was not removed: `whys`."""
    before: dict[str, dict[str, int]] = told["removed"]  # type: ignore[assignment]  # as we have written it
    removed: dict[str, Document] = {}
    for kind, total in before.items():
        gone = [row for row in plan.get(kind, ()) if (kind, row[0]) not in whys]
        removed[kind] = {
            "count": total["count"] + len(gone),
            "bytes": total["bytes"] + sum(row[1] for row in gone),
            "claimed": total["claimed"] + sum(row[2] for row in gone),
        }
    objects: list[Document] = []
    for each in told["objects"]:  # type: ignore[union-attr]  # likewise
        assert isinstance(each, dict)
        why = whys.get((str(each["kind"]), each.get("id", -1)), "")  # type: ignore[arg-type]  # a number
        if why == _FREED:
            objects.append({**each, "fate": _FREED})
        elif why != _GONE:
            objects.append({**each, "fate": "held", "why": why} if why else each)
    return {**told, "removed": removed, "objects": objects}


def _record(site: Site, entry: Entry, at: str) -> dict[str, Document] | None:
    """Deliver the record of what was removed until `at`, and take the entry out of the ledger."""
    told, subject = entry.document["reaping"], entry.document["subject"]
    assert isinstance(told, dict)
    assert isinstance(subject, dict)
    removed: dict[str, dict[str, int]] = told["removed"]  # type: ignore[assignment]  # as we have written it
    if not any(total["count"] for total in removed.values()):
        entry.delete()
        return None
    site.subject.update(subject)
    more = {name: told[name] for name in ("namespace", "removed", "objects", "objects_omitted", "uid")}
    record = {**site.record("collected", time=at, **more), "stage": "reap"}
    try:
        line = line_of(record).decode("ascii").rstrip("\n")
        entry.write(state="recorded", undelivered=[line], plan={}, reaping={})
    except BaseException:
        entry.release()
        raise
    tear_down(site, entry, "collected")
    return record
