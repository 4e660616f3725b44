"""`ipcwarden show`: a running container's limits, what it uses of them, and its objects."""

from __future__ import annotations

import os

import click
from rich.text import Text

from ipcwarden import privileges
from ipcwarden.cli import extract, table
from ipcwarden.cli.child import ask
from ipcwarden.cli.choice import named, some, the_one
from ipcwarden.cli.judgement import in_use
from ipcwarden.cli.rootless import demand_namespace
from ipcwarden.cli.stay import inside
from ipcwarden.core.documents import serialize
from ipcwarden.core.sysctls import BYTES, NAMES
from ipcwarden.core.usage import raised_peaks, usage_in
from ipcwarden.errors import NamespaceError, RecordError
from ipcwarden.files import open_place
from ipcwarden.host.inventory import attached, take_inventory, waiters
from ipcwarden.host.ledger import keys, peek
from ipcwarden.host.membership import VISIT_PATIENCE, enter
from ipcwarden.host.namespace import open_pinned
from ipcwarden.host.procfs import holders, read_limits
from ipcwarden.stages.life import identity_of, is_living, peaks_of, texts
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

    from ipcwarden.cli import Settings
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Inventory
    from ipcwarden.host.namespace import Identity
    from ipcwarden.layout import Place

_ALL = 1 << 22  # pids, the most that there can be
_MOST_CALLS = 1 << 17  # of semctl(2): a tenth of a second
_DESCRIPTIONS = {
    "kernel.shmall": "Shared memory pages",
    "kernel.shmmax": "Max size of shared memory segment (bytes)",
    "kernel.shmmni": "Shared memory segments",
    "kernel.shm_rmid_forced": "Free segments that nobody is attached to",
    "kernel.sem.semmsl": "Max semaphores per semaphore set",
    "kernel.sem.semmns": "Total number of semaphores",
    "kernel.sem.semopm": "Max number of operations per semop(2)",
    "kernel.sem.semmni": "Number of semaphore identifiers",
    "kernel.msgmax": "Max size of message (bytes)",
    "kernel.msgmnb": "Default max size of queue (bytes)",
    "kernel.msgmni": "Number of message queues",
    "fs.mqueue.queues_max": "POSIX message queues",
    "fs.mqueue.msg_max": "Max number of messages in POSIX queue",
    "fs.mqueue.msg_default": "Default number of messages in POSIX queue",
    "fs.mqueue.msgsize_max": "Max size of message in POSIX queue (bytes)",
    "fs.mqueue.msgsize_default": "Default size of message in POSIX queue (bytes)",
}


class NotRunning(NamespaceError):
    """There is no such container: what was asked for is known now, and it is not what was hoped for."""

    exit_code = 1


@click.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.argument("container", metavar="ID")
@click.pass_obj
def command(settings: Settings, as_json: bool, container: str) -> None:
    """Show the limits that are in force for a running container, what it uses of them, and its IPC objects.

    ID is the container's id, its name, or a prefix that no other running one's id has.
    """
    wanted = named(container)
    found = ask(lambda: look(settings.root, wanted))
    if as_json:
        keys = ("container", "limits", "usage", "peaks", "objects")
        click.echo(serialize({key: extract.at(found, key) for key in keys}))
        return
    table.show(
        *_headline(found),
        _table(found),
        Text(),
        *table.objects(extract.rows(found, "objects")),
    )


def look(root: str, text: str) -> Document:
    """Join a container's namespace through its pin and return what is there: for a child process, which stays there."""
    privileges.settle()
    site = Site(root, "show")
    site.go_home()
    privileges.drop_with_prctl(privileges.POSTSTOP)
    entry = choose(text, living(_open(site.places.entries, text), site.boot, is_living))
    identity = identity_of(entry)
    if identity is None:
        raise NamespaceError(
            f"cannot show '{text}': it shares the host's IPC namespace, which nobody governs",
            "ipcs shows what is there",
        )
    demand_namespace(site, f"show {text}")
    room = enter(site.namespaces, identity.name, create=True, within=VISIT_PATIENCE)
    assert room is not None
    members = room.members()
    shared = len(members) > 1 if members else bool(entry.get("joined"))
    with inside(site, room, lambda: open_pinned(site.pins, extract.text(entry, "pin"), identity)):
        inventory = take_inventory(quietly=True)
        return {
            "container": extract.at(entry, "subject", "container"),
            "limits": texts(read_limits()),
            "usage": inventory.totals(),
            "peaks": texts(raised_peaks(peaks_of(entry), usage_in(inventory, os.sysconf("SC_PAGE_SIZE")))),
            "objects": _used_objects(inventory, identity),
            "subject": entry["subject"],
            "shared": shared,
        }


def _used_objects(inventory: Inventory, identity: Identity) -> list[Document]:
    """Return all objects, and who can be seen to use them: `users` of segments, `waiters` for semaphores."""
    segments, arrays = inventory.tables["shm"], inventory.tables["sem"]
    mapped = {number for number, count in zip(segments.column("id"), segments.column("nattch"), strict=True) if count}
    users = attached(mapped, holders(identity.device, identity.inode, _ALL) if mapped else [])
    waiting, calls = {}, _MOST_CALLS
    for number, nsems in zip(arrays.column("id"), arrays.column("nsems"), strict=True):
        waiting[number] = waiters(number, nsems, calls)
        calls -= 0 if waiting[number] is None else 2 * nsems
    found: list[dict[str, Document]] = [dict(each) for each in inventory.objects()]
    for each in found:
        number = extract.number(each, "id")
        if each["kind"] == "shm" and number in mapped:
            each["users"] = list(users.get(number, []))
        elif each["kind"] == "sem":
            each["waiters"] = waiting[number]
    return list(found)


def _open(place: Place, text: str) -> int:
    try:
        return open_place(place)
    except FileNotFoundError:
        raise absent(text) from None
    except RecordError as error:
        raise RecordError(str(error.args[0]), error.hint or "only root sees the containers") from error


def absent(text: str, candidates: Iterable[dict[str, Document]] = ()) -> NotRunning:
    """Return the error for a container that is not there; `candidates` are the entries of those that are."""
    containers = [extract.at(each, "subject", "container") for each in candidates]
    names = sorted({extract.text(each, "name") or extract.text(each, "id") for each in containers})
    hint = f"those that do: {some(names)}" if names else "ipcwarden scan lists what runs, and whether it is governed"
    return NotRunning(f"no governed container '{text}' runs here", hint)


def living(
    entries: int, boot: str, lives: Callable[[dict[str, Document], str], bool]
) -> dict[str, dict[str, Document]]:
    """Return the entries of running containers by key; what cannot be read is left to gc."""
    found = {}
    for key in keys(entries):
        try:
            document = peek(entries, key)
        except RecordError:
            continue
        if document.get("state") == "applied" and lives(document, boot):
            found[key] = document
    return found


def choose(text: str, candidates: dict[str, dict[str, Document]]) -> dict[str, Document]:
    """Return the entry of the container that `text` is the id of, or the ledger key, or the name, or a unique prefix.

    Raises `UsageError` where several are: two runtimes may run one id, and then only the key tells them apart.
    """

    def called(key: str) -> tuple[str, str, str]:
        container = extract.at(candidates[key], "subject", "container")
        return extract.text(container, "id"), key, extract.text(container, "name")

    for alike in (
        [key for key in candidates if text in called(key)[:2]],
        [key for key in candidates if text == called(key)[2]],
        [key for key in candidates if any(each.startswith(text) for each in called(key)[:2])],
    ):
        if alike:
            return candidates[the_one(text, alike)]
    raise absent(text, candidates.values())


def _headline(found: Document) -> list[RenderableType]:
    names = [f"container {extract.text(found, 'container', 'name') or extract.text(found, 'container', 'id')}"]
    for key in ("image", "pod", "namespace"):
        names += [f"{key} {value}"] if (value := extract.text(found, "container", key)) else []
    for key in ("profile", "rule", "mode"):
        names += [f"{key} {value}"] if (value := extract.text(found, "subject", key)) else []
    shared = extract.at(found, "shared") is True
    others = [Text("It shares its namespace: usage and objects are those of all who are in it.")] if shared else []
    return [table.plain(", ".join(names)), *others, Text()]


def _table(found: Document) -> RenderableType:
    """Return a line for each limit, with what is used of it, and was at most, where that can be said."""
    usage = in_use(extract.rows(found, "objects"), os.sysconf("SC_PAGE_SIZE"))
    rows = [_row(found, usage, name) for name in NAMES]
    columns = ["LIMIT", "USED", "USE%"]
    if extract.at(found, "peaks"):
        columns.insert(2, "PEAK")
        rows = [[*row[:-1], extract.text(found, "peaks", row[0]) or "-", row[-1]] for row in rows]
    return table.table(("RESOURCE", "DESCRIPTION", *columns), rows, columns)


def _row(found: Document, usage: dict[str, int], name: str) -> list[str]:
    limit = extract.text(found, "limits", name)
    number = int(limit or 0)
    shown = f"{limit} ({table.size(number)})" if name in BYTES and number >= 1024 else limit
    if name not in usage:
        return [name, _DESCRIPTIONS[name], shown, "-", "-"]
    share = f"{100 * usage[name] / number:.2f}%" if number > 0 else "-"
    return [name, _DESCRIPTIONS[name], shown, str(usage[name]), share]
