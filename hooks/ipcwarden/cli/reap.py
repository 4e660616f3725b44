"""ipcwarden reap: free the orphans in a living namespace now, and say what stays and why."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

import click

from ipcwarden import privileges
from ipcwarden.cli import extract, show, table
from ipcwarden.cli.child import ask
from ipcwarden.cli.choice import named, the_one
from ipcwarden.cli.fates import Outcome, chosen, first, in_all, ranked, tables, told, why_kept
from ipcwarden.cli.rootless import demand_namespace
from ipcwarden.cli.stay import inside
from ipcwarden.core.attribution import attribute
from ipcwarden.core.digests import entry_key
from ipcwarden.core.documents import serialize
from ipcwarden.core.leftovers import planned
from ipcwarden.core.objects import MOST_OBJECTS
from ipcwarden.errors import NamespaceError
from ipcwarden.host.inventory import attached, take_inventory
from ipcwarden.host.membership import enter
from ipcwarden.host.namespace import open_pinned
from ipcwarden.host.procfs import holders, login_uid
from ipcwarden.stages.company import company_in
from ipcwarden.stages.harvest import BATCH, Harvest
from ipcwarden.stages.life import identity_of, is_living
from ipcwarden.stages.orphans import look_around, terms_in
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipcwarden.cli import Settings
    from ipcwarden.core.attribution import Sight
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Inventory
    from ipcwarden.host.membership import Room
    from ipcwarden.host.namespace import Identity

_PATIENCE = 120  # seconds: for a lock that never comes free
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # these let us finish the object at hand, and record
_ALL = 1 << 22  # processes: more cannot be
_TOLD = ("container", "dry_run", "freed", "kept", "objects")


class Kind(click.Choice):  # type: ignore[type-arg]  # generic in the stubs of some versions only
    """A kind of objects of which something tells who uses them."""

    name = "kind"

    def __init__(self) -> None:
        super().__init__(("shm", "sem", "msg"))

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the kind."""
        if value == "mqueue":
            self.fail("mqueue: nothing tells who has a POSIX queue open, so none is ever removed", param, ctx)
        return str(super().convert(value, param, ctx))


_KIND_HELP = "All orphans of this kind, keyed too, and no others.  The maker of a sem or msg may still live."
_SHORT_ID = 12  # digits that podman shows


@click.command("reap")
@click.option("--kind", "kinds", multiple=True, type=Kind(), help=_KIND_HELP)
@click.option("--dry-run", is_flag=True, help="Only say what would be freed, and what would stay.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.argument("container", metavar="CONTAINER|POD")
@click.pass_obj
def command(settings: Settings, kinds: tuple[str, ...], dry_run: bool, as_json: bool, container: str) -> int:
    """Free what nobody living is seen to use in the IPC namespace of a running container or pod, in place of ipcrm.

    Without --kind that is private segments that are proven to be of processes that are gone, and what the profile's
    reap names; with it all of that kind of which nobody that the kernel tells of lives.  Of semaphores and message
    queues it tells only who used them last: their maker may still live.  What the profile's keep names, and POSIX
    queues, always stay.  CONTAINER is an id, a name, or a unique prefix of an id; POD a name, NAMESPACE/NAME, or the id
    of one of podman's.
    """
    wanted = named(container)
    # Who is ignored is a job that goes on where its terminal is closed.
    ends = [each for each in _ENDS if signal.getsignal(each) is not signal.SIG_IGN]
    found = ask(lambda: _reap(settings.root, wanted, kinds, dry_run, as_json, ends), ends)
    if as_json:
        click.echo(serialize({key: extract.at(found, key) for key in _TOLD}))
    else:
        table.show(
            *tables(extract.rows(found, "objects"), extract.number(found, "omitted"), dry_run, time.time()),
            table.plain(in_all(extract.at(found, "freed"), extract.at(found, "kept"), dry_run)),
        )
    if number := extract.number(found, "interrupted"):
        return 128 + number
    return 1 if extract.at(found, "failed") else 0


class _Halt:
    """Told to stop by a signal: `number` is which, 0 while there was none."""

    def __init__(self, ends: Sequence[signal.Signals]) -> None:
        self.number = 0
        for each in ends:
            signal.signal(each, self._note)

    def __bool__(self) -> bool:
        return bool(self.number)

    def _note(self, number: int, _frame: object) -> None:
        self.number = self.number or number


def _reap(
    root: str,
    text: str,
    kinds: Sequence[str],
    dry_run: bool,
    all_of_them: bool,
    ends: Sequence[signal.Signals],
) -> Document:
    """Free orphans and return what became of every object, or of the most important: for a child, which joins.

    Raises `NotRunning`, `UsageError`, and what a namespace or a record can fail by.
    """
    privileges.settle()
    site = Site(root, "reap")
    site.go_home()
    if not privileges.drop_with_prctl(privileges.POSTSTOP):
        site.privileges = "partial"
    if not site.has_ledger():
        raise show.absent(text)
    entry = choose(text, show.living(site.entries, site.boot, is_living))
    demand_namespace(site, f"reap {text}")
    identity = identity_of(entry)
    if identity is None:
        raise NamespaceError(
            f"cannot reap '{text}': it shares the host's IPC namespace, where nothing is ever removed",
            "ipcwarden audit tells what containers have left there",
        )
    signal.alarm(_PATIENCE)
    room = enter(site.namespaces, identity.name)
    signal.alarm(0)
    if room is None:
        raise show.absent(text)  # it has just ended
    halt = _Halt(ends)  # before, an interrupt ends us; from now on what is removed is recorded
    others = holders(identity.device, identity.inode)
    harvest: Harvest | None = None
    try:
        with inside(site, room, lambda: open_pinned(site.pins, extract.text(entry, "pin"), identity)):
            inventory, outcomes, sight = _judged(site, identity, room, kinds)
            if not dry_run and not all(each.why for each in outcomes):
                harvest = _write_ahead(site, entry, identity, others, inventory, outcomes)
                outcomes = _carried_out(harvest, inventory, outcomes, sight.semaphores, halt)
            freed, kept = ([each for each in outcomes if bool(each.why) is stays] for stays in (False, True))
            shown = outcomes if all_of_them else first(inventory, outcomes)
            found: dict[str, Document] = {
                "container": extract.at(entry, "subject", "container"),
                "dry_run": dry_run,
                "freed": inventory.totals(chosen(freed)),
                "kept": inventory.totals(chosen(kept)),
                "objects": _with_users([told(inventory, each) for each in shown], identity),
                "omitted": len(outcomes) - len(shown),
                "failed": any(each.why == "failed" for each in kept),
                "interrupted": halt.number,
            }
    except BaseException:
        if harvest:
            harvest.give_up()
        raise
    if harvest:
        harvest.end()
    return found


def _judged(site: Site, identity: Identity, room: Room, kinds: Sequence[str]) -> tuple[Inventory, list[Outcome], Sight]:
    """Return all that is in the namespace that we have joined, and what is to become of each: no `why`, it goes."""
    company = company_in(site, room, identity, "")
    inventory = take_inventory(quietly=True)
    sight = look_around(site, identity, inventory, company, {}).sight
    members = [terms_in(each) for each in company.values()]
    outcomes = [
        Outcome(kind, index, verdict, why_kept(inventory.object(kind, index), verdict, kinds, members))
        for kind, verdict, indices in attribute(inventory, sight, {})
        for index in indices
    ]
    return inventory, outcomes, sight


def _write_ahead(
    site: Site,
    entry: dict[str, Document],
    identity: Identity,
    others: Sequence[Document],
    inventory: Inventory,
    outcomes: Sequence[Outcome],
) -> Harvest:
    """Begin a record of what is to be removed, and of which other leftovers are not."""
    leftovers = ranked(inventory, [each for each in outcomes if each.verdict.is_leftover])
    shown = leftovers[:MOST_OBJECTS]
    container = extract.at(entry, "subject", "container")
    namespace: dict[str, Document] = {
        "id": identity.id or None,
        "inode": identity.inode,
        "shared": True,
        "destroyed": False,
        "holders": list(others),
    }
    record: dict[str, Document] = {
        "namespace": namespace,
        "objects": [told(inventory, each) for each in shown],
        "objects_omitted": len(leftovers) - len(shown),
        "uid": login_uid(),
    }
    key = entry_key(extract.text(container, "id"), extract.text(container, "bundle"))
    return Harvest(site, key, entry["subject"], identity, record)


def _carried_out(
    harvest: Harvest,
    inventory: Inventory,
    outcomes: Sequence[Outcome],
    semaphores: Mapping[int, frozenset[int]],
    halt: _Halt,
) -> list[Outcome]:
    """Remove what is to go, the largest first, and return what became of all that had not gone by itself."""
    going = ranked(inventory, [each for each in outcomes if not each.why])
    batches = (going[begin : begin + BATCH] for begin in range(0, len(going), BATCH))
    plans = (
        planned(inventory, [(kind, batch[0].verdict, "", each) for kind, each in chosen(batch).items()], "", semaphores)
        for batch in batches
    )
    harvest.carry_out(plans, lambda: bool(halt))
    ids = {kind: inventory.tables[kind].column("id") for kind in chosen(going)}
    found = []
    for each in outcomes:
        why = each.why or harvest.whys.get((each.kind, ids[each.kind][each.index]), "")
        if why != "gone":  # somebody was faster
            found.append(replace(each, why=why) if why != each.why else each)
    return found


def _with_users(objects: list[dict[str, Document]], identity: Identity) -> list[Document]:
    """Add to segments that are attached whose they are, as `show` does: `users`."""
    segments = {extract.number(each, "id"): each for each in objects if extract.number(each, "nattch")}
    if segments:
        for number, users in attached(segments, holders(identity.device, identity.inode, _ALL)).items():
            segments[number]["users"] = list(users)
    return list(objects)


def choose(text: str, candidates: dict[str, dict[str, Document]]) -> dict[str, Document]:
    """Return the entry of a container as `show` finds it, or of the one that owns the namespace of the pod `text`.

    A pod's name comes after a container's, and before a prefix.  podman's pods are known by their ids: nothing that
    only root writes tells their names.  Raises `UsageError` where several are meant.
    """
    exact = any(
        text in (key, *(extract.text(entry, "subject", "container", each) for each in ("id", "name")))
        for key, entry in candidates.items()
    )
    pods: dict[str, list[dict[str, Document]]] = {}
    for entry in candidates.values():
        namespace, pod = (extract.text(entry, "subject", "container", each) for each in ("namespace", "pod"))
        if pod and text in (pod, f"{namespace}/{pod}"):
            pods.setdefault(f"{namespace}/{pod}", []).append(entry)
        elif _is_infra_of(extract.text(entry, "subject", "container", "name"), text):
            pods.setdefault(text, []).append(entry)
    if exact or not pods:
        return show.choose(text, candidates)
    return min(pods[the_one(text, sorted(pods))], key=lambda entry: bool(entry.get("joined")))


def _is_infra_of(name: str, pod: str) -> bool:
    """Tell whether podman calls a container after the pod of this id, of which the name has the first twelve digits."""
    begins, infra, _ = name.partition("-infra")
    return bool(infra) and len(begins) >= _SHORT_ID and pod.startswith(begins)
