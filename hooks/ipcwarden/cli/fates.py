"""What `reap` does with each object of a namespace, and why: decided, and told to people."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from ipcwarden.cli import extract, table
from ipcwarden.cli.summary import amounts
from ipcwarden.core.attribution import PLAUSIBLE, PROVEN, UNKNOWN, is_private_segment
from ipcwarden.core.selection import selected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from ipcwarden.core.attribution import Terms, Verdict
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Inventory, Object

_MOST_ROWS = 100
_COLUMNS = ("KIND", "KEY", "ID", "OWNER", "SIZE", "LAST USE", "FATE", "WHY")
_CHANGES = ("ctime", "mtime", "detach", "otime", "send", "recv")
_EVIDENCE = {
    "attached": "attached",
    "waiters": "somebody waits for it",
    "notify": "somebody waits for a message",
    "creator-lives": "a living container made it",
    "last-user-lives": "a living container used it last",
    "creator-lives last-user-lives": "a living container made and used it",
    "creator-gone": "whoever made it is gone",
    "last-user-gone": "whoever used it last is gone, its maker may live",
    "creator-gone last-user-gone": "whoever made and used it is gone",
    "never-used": "nobody has used it",
    "no-pids": "nothing tells who has it open",
    "too-many": "too many semaphores to ask",
    "out-of-sight": "by a process that cannot be seen from here",
    "no-answer": "a process that lives could not be asked",
    "no-pid-namespace": "a process that lives is in the host's pid namespace",
}
_SHADES = {"strangers": "it may be of one that was not governed"}


def why_kept(found: Object, verdict: Verdict, kinds: Sequence[str], members: Sequence[Terms]) -> str:
    """Return why an object stays, or an empty string: then it is freed.

    in-use, queue, plausible, unknown, keep or not-named.  `kinds` are those that the operator names: with them nothing
    else is freed, and of them every orphan.  Neither age nor mode counts: the operator asks.
    """
    if not verdict.is_leftover:
        return verdict.confidence
    if found["kind"] == "mqueue":
        return "queue"
    if not verdict.is_orphan:
        return verdict.confidence
    if any(selected(each.keep, found) for each in members):
        return "keep"
    if kinds:
        named = found["kind"] in kinds
    else:
        private = is_private_segment(found) and verdict.confidence == PROVEN
        named = private or any(selected(each.reap, found) for each in members)
    return "" if named else "not-named"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one object, known by its place in the inventory: `why` it stays, empty where it was freed."""

    kind: str
    index: int
    verdict: Verdict
    why: str


def chosen(outcomes: Iterable[Outcome]) -> dict[str, list[int]]:
    """Return objects as an inventory takes them."""
    found: dict[str, list[int]] = {}
    for each in outcomes:
        found.setdefault(each.kind, []).append(each.index)
    return found


def ranked(inventory: Inventory, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return them as records have objects: the largest first, by what they hold, then by what they claim."""
    columns = {kind: (each.column("bytes"), each.column("claimed")) for kind, each in inventory.tables.items()}
    queues = ([int(queue[name]) for queue in inventory.queues] for name in ("bytes", "claimed"))
    columns["mqueue"] = (next(queues), next(queues))
    return sorted(outcomes, key=lambda each: [-column[each.index] for column in columns[each.kind]])


def first(inventory: Inventory, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return what people are shown: what was freed, then what nobody uses and stays, then what is in use."""
    after = sorted(ranked(inventory, outcomes), key=lambda each: (bool(each.why), not each.verdict.is_leftover))
    return after[:_MOST_ROWS]


def told(inventory: Inventory, outcome: Outcome) -> dict[str, Document]:
    """Return an object with its fate, as records have it."""
    found: dict[str, Document] = {**inventory.object(outcome.kind, outcome.index)}
    found["fate"] = "held" if outcome.why else "removed"
    found["evidence"] = list(outcome.verdict.evidence)
    found.update({"confidence": outcome.verdict.confidence} if outcome.verdict.is_leftover else {})
    return {**found, "why": outcome.why} if outcome.why else found


def reason(found: dict[str, Document]) -> str:
    """Return in words why an object has the fate that it has."""
    said = extract.texts(found, "evidence")
    words = [word for word in said if word not in _SHADES]
    evidence = _EVIDENCE.get(" ".join(words)) or ", ".join(_EVIDENCE.get(word, word) for word in words)
    evidence = ", ".join([evidence, *(_SHADES[word] for word in said if word in _SHADES)])
    match why := extract.text(found, "why"):
        case "":
            return evidence
        case "in-use":
            holders = [
                f"{extract.text(each, 'pid')} {extract.text(each, 'command')}" for each in extract.rows(found, "users")
            ]
            return f"in use: {evidence}{' by ' + ', '.join(holders) if holders else ''}"
        case "queue":
            return f"a queue: {_EVIDENCE['no-pids']}"
        case "keep":
            return "keep: the policy says so"
        case "not-named":
            return f"not named: --kind {extract.text(found, 'kind')} frees it"
    return f"{why}: {evidence}" if why in (PLAUSIBLE, UNKNOWN) else why


def ago(seconds: float) -> str:
    """Return a time that has passed as people say it: in the largest unit of which there is one."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def tables(objects: Sequence[dict[str, Document]], omitted: int, dry_run: bool, now: float) -> list[RenderableType]:
    """Return objects as a table for people."""
    if not objects:
        return []
    rows = [_row(each, dry_run, now) for each in objects]
    more = [Text(f"and {omitted} more: --json has all")] if omitted else []
    return [table.table(_COLUMNS, rows, ("ID", "SIZE", "LAST USE"), _COLUMNS[:-1]), *more, Text()]


def _row(found: dict[str, Document], dry_run: bool, now: float) -> list[str]:
    fate = "freed" if found["fate"] == "removed" else "kept"
    used = max(extract.number(found, name) for name in _CHANGES)
    name = extract.text(found, "key") or table.queue_name(found)
    return [
        str(found["kind"]),
        name,
        extract.text(found, "id") or "-",
        table.user(extract.text(found, "owner")),
        table.size(extract.number(found, "bytes")),
        ago(now - used) if used else "never",
        f"would be {fate}" if dry_run else fate,
        reason(found),
    ]


def in_all(freed: Document, kept: Document, dry_run: bool) -> str:
    """Return in one line what was freed in all, and what is kept, of totals as records have them."""
    would = "would be " if dry_run else ""
    return f"{would}freed: {amounts(freed) or 'nothing'}; {would}kept: {amounts(kept) or 'nothing'}"
