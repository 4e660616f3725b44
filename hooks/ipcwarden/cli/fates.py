"""What `reap` does with each object of a namespace, and why: decided, and told to people."""

from __future__ import annotations

from rich.text import Text

from ipcwarden.cli import extract, table
from ipcwarden.cli.summary import amounts
from ipcwarden.core.attribution import PLAUSIBLE, PROVEN, UNKNOWN
from ipcwarden.core.selection import selected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from ipcwarden.core.attribution import Terms, Verdict
    from ipcwarden.core.documents import Document
    from ipcwarden.core.objects import Object

MOST_ROWS = 100
_COLUMNS = ("KIND", "KEY", "ID", "OWNER", "SIZE", "LAST USE", "FATE", "WHY")
_CHANGES = ("ctime", "mtime", "detach", "otime", "send", "recv")
_EVIDENCE = {
    "attached": "attached",
    "waiters": "somebody waits for it",
    "notify": "somebody waits for a message",
    "creator-lives": "a container that lives made it",
    "last-user-lives": "a container that lives used it last",
    "creator-gone": "whoever made it is gone",
    "last-user-gone": "whoever used it last is gone",
    "never-used": "nobody has used it",
    "no-pids": "nothing tells who has it open",
    "too-many": "too many semaphores to ask",
    "out-of-sight": "by a process that cannot be seen from here",
    "no-answer": "a process that lives could not be asked",
    "no-pid-namespace": "a process that lives is in the host's pid namespace",
}


def why_kept(found: Object, verdict: Verdict, kinds: Sequence[str], members: Sequence[Terms]) -> str:
    """Return why an object stays, or an empty string: then it is freed.

    in-use, queue, plausible, unknown, keep or not-named.  `kinds` are those that the operator names: with them nothing
    else is freed, and of them everything.  Neither age nor mode counts: the operator asks.
    """
    if not verdict.is_leftover:
        return verdict.confidence
    if found["kind"] == "mqueue":
        return "queue"
    if verdict.confidence != PROVEN:
        return verdict.confidence
    if any(selected(each.keep, found) for each in members):
        return "keep"
    if kinds:
        named = found["kind"] in kinds
    else:
        named = is_private(found) or any(selected(each.reap, found) for each in members)
    return "" if named else "not-named"


def is_private(found: Object) -> bool:
    """Tell whether an object is a segment that nobody finds by a key."""
    return found["kind"] == "shm" and found["key"] == "0x00000000"


def reason(told: dict[str, Document]) -> str:
    """Return in words why an object has the fate that it has."""
    evidence = ", ".join(_EVIDENCE.get(word, word) for word in extract.texts(told, "evidence"))
    match why := extract.text(told, "why"):
        case "":
            return evidence
        case "in-use":
            holders = [f"{extract.text(each, 'pid')} {extract.text(each, 'command')}" for each in _holders(told)]
            return f"in use: {evidence}{' by ' + ', '.join(holders) if holders else ''}"
        case "queue":
            return f"a queue: {_EVIDENCE['no-pids']}"
        case "keep":
            return "keep: the policy says so"
        case "not-named":
            return f"not named: --kind {extract.text(told, 'kind')} frees it"
    return f"{why}: {evidence}" if why in (PLAUSIBLE, UNKNOWN) else why


def _holders(told: dict[str, Document]) -> list[dict[str, Document]]:
    return extract.rows(told, "users")


def ago(seconds: float) -> str:
    """Return a time that has passed as people say it: in the largest unit of which there is one."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def tables(objects: Sequence[dict[str, Document]], dry_run: bool, now: float) -> list[RenderableType]:
    """Return objects as a table for people: what is freed first, then by size."""
    ranked = sorted(objects, key=lambda each: (each["fate"] != "removed", -extract.number(each, "bytes")))
    rows = [_row(each, dry_run, now) for each in ranked[:MOST_ROWS]]
    omitted = len(ranked) - len(rows)
    more = [Text(f"and {omitted} more: --json has all")] if omitted else []
    return [table.table(_COLUMNS, rows, ("ID", "SIZE", "LAST USE"), _COLUMNS[:-1]), *more, Text()] if rows else []


def _row(told: dict[str, Document], dry_run: bool, now: float) -> list[str]:
    fate = "freed" if told["fate"] == "removed" else "kept"
    used = max(extract.number(told, name) for name in _CHANGES)
    name = extract.text(told, "key") or extract.text(told, "name") or f"hex {extract.text(told, 'name_hex')}"
    return [
        str(told["kind"]),
        name,
        extract.text(told, "id") or "-",
        table.user(extract.text(told, "owner")),
        table.size(extract.number(told, "bytes")),
        ago(now - used) if used else "never",
        f"would be {fate}" if dry_run else fate,
        reason(told),
    ]


def in_all(freed: Document, kept: Document, dry_run: bool) -> str:
    """Return in one line what was freed in all, and what is kept, of totals as records have them."""
    would = "would be " if dry_run else ""
    return f"{would}freed: {amounts(freed) or 'nothing'}; {would}kept: {amounts(kept) or 'nothing'}"
