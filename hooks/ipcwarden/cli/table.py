"""Tables for people: lsipc's columns, amounts in units, and nothing that a hostile name could draw on a terminal."""

from __future__ import annotations

import functools
import pwd
import sys

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ipcwarden.cli import extract
from ipcwarden.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from rich.console import RenderableType

    from ipcwarden.core.documents import Document

_WIDE = 1 << 20  # a file or a pipe has no edge
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AMOUNTS = frozenset(("size", "usedbytes", "msgsize"))
_TEXTS = frozenset(("key", "owner", "perms", "status", "name", "confidence", "fate", "users"))
_EXTRA = ("users", "waiters", "confidence", "fate")
_SOMETIMES = frozenset((*_EXTRA, "usedbytes"))  # shown where there is something to tell
_WIDE_ONLY = frozenset(("perms", "cpid", "lpid", "lspid", "lrpid"))
_WHOLE = tuple(name.upper() for name in ("key", "id", "owner", "size", "confidence"))

# Headings and columns as lsipc(1) has them; KEYS is what the records call them.
OBJECTS = {
    "shm": (
        "Shared memory segments",
        ("key", "id", "owner", "perms", "size", "nattch", "status", "cpid", "lpid"),
    ),
    "sem": ("Semaphore arrays", ("key", "id", "owner", "perms", "nsems")),
    "msg": ("Message queues", ("key", "id", "owner", "perms", "usedbytes", "msgs", "lspid", "lrpid")),
    "mqueue": ("POSIX message queues", ("name", "owner", "perms", "usedbytes", "msgs", "maxmsg", "msgsize")),
}


def size(count: int) -> str:
    """Return bytes as people read them: exact where that is short, else with one digit after the point."""
    amount, unit = float(count), 0
    while abs(amount) >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


@functools.cache
def user(uid: str) -> str:
    """Return a user's name, where the host knows one."""
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError, OverflowError):
        return uid


def queue_name(found: dict[str, Document]) -> str:
    """Return a POSIX queue's name, with its slash."""
    return extract.text(found, "name") or "/" + escaped(extract.text(found, "name_hex"))


def escaped(name_hex: str) -> str:
    """Return a name that is not printable: each byte of it is a character, which `plain` escapes."""
    try:
        return bytes.fromhex(name_hex.removesuffix("...")).decode("latin-1") + "..." * name_hex.endswith("...")
    except ValueError:
        return "?"


def plain(text: str) -> Text:
    """Return a text that is shown as it is: no markup, and control characters escaped."""
    return Text(printable(text))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = (), whole: Sequence[str] = ()
) -> Table:
    """Return a table; columns named in `right` hold numbers, those in `whole` keep to one line on any terminal."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        made.add_column(column, justify=justify, overflow="fold", no_wrap=column in whole)
    for row in rows:
        made.add_row(*map(plain, row))
    return made


def objects(found: list[dict[str, Document]], narrow: bool = False) -> list[RenderableType]:
    """Return IPC objects as tables, one a kind; `narrow` ones without what is of little use once processes are gone."""
    sometimes = _SOMETIMES | {"nattch", "status"} if narrow else _SOMETIMES
    shown: list[RenderableType] = []
    for kind, (title, columns) in OBJECTS.items():
        rows = [each for each in found if each.get("kind") == kind]
        keys = [key for key in (*columns, *_EXTRA) if key not in sometimes or any(_is_told(row, key) for row in rows)]
        keys = [key for key in keys if not (narrow and key in _WIDE_ONLY)]
        if rows:
            numbers = [key.upper() for key in keys if key not in _TEXTS]
            cells = [[_cell(row, key) for key in keys] for row in rows]
            shown += [Text(title, style="bold"), table([key.upper() for key in keys], cells, numbers, _WHOLE), Text()]
    return shown


def _is_told(row: dict[str, Document], key: str) -> bool:
    return key in row and (key == "usedbytes" or row[key] not in (0, [], ""))


def _cell(row: dict[str, Document], key: str) -> str:
    if key in row and row[key] is None:
        return "?"
    text = extract.text(row, key)
    if key == "name":
        return queue_name(row)
    if key == "owner":
        return user(text)
    if key == "fate":
        expected = ", expected" if row.get("expected") is True else ""
        return ": ".join(part for part in (text, extract.text(row, "why")) if part) + expected or "-"
    if key == "users":
        seen = [f"{extract.text(each, 'command')} {extract.number(each, 'pid')}" for each in extract.rows(row, "users")]
        return ", ".join(seen) or "-"
    return size(extract.number(row, key)) if key in _AMOUNTS and key in row else text or "-"


def files(found: list[dict[str, Document]]) -> RenderableType:
    """Return the files of a /dev/shm as a table."""
    rows = [
        (
            extract.text(each, "name") or escaped(extract.text(each, "name_hex")),
            user(extract.text(each, "owner")),
            extract.text(each, "perms"),
            size(extract.number(each, "size")),
            size(extract.number(each, "bytes")),
        )
        for each in found
    ]
    return table(("NAME", "OWNER", "PERMS", "LENGTH", "HELD"), rows, ("LENGTH", "HELD"))


def indented(parts: Iterable[RenderableType]) -> list[RenderableType]:
    """Return parts that stand below what precedes them."""
    return [Padding(part, (0, 0, 0, 2)) for part in parts]


def show(*parts: RenderableType) -> None:
    """Print to standard output: with colours on a terminal, else plain and as wide as it takes."""
    console = _console()
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def width() -> int:
    """Return how many characters fit on a line of standard output."""
    return _console().width


def _console() -> Console:
    width = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)


def note(sentence: str) -> None:
    """Print a line to standard error."""
    click.echo(f"ipcwarden: {printable(sentence)}", err=True)
