"""TOML as text with places: what is not edited stays as it was written, comments and order and all.

Edits are made line by line and carry what undoes them in comments of ours.  Each one is judged by the standard
library's parser: the text must afterwards say what it said and what it was to say, and nothing else.  What is written
in a way that cannot be edited so is refused.
"""

from __future__ import annotations

import json
import re
import tomllib
from copy import deepcopy
from dataclasses import dataclass

from ipcwarden.registration.places import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeAlias

    Path: TypeAlias = tuple[str, ...]
    Table: TypeAlias = dict[str, Any]

_BEGIN, _END = "# ipcwarden: from here", "# ipcwarden: to here"
# What stood before a block of ours, and how many line ends were put before it.
_LINES_BEFORE = {"": 1, ", behind an unfinished line": 2, ", in a file of its own": 0}
_, _UNFINISHED, _ALONE = _LINES_BEFORE
_WAS, _ADDED = " # ipcwarden: was ", " # ipcwarden: added"
_NAME = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_ASSIGNMENT = re.compile(rf"([ \t]*)((?:{_NAME}[ \t]*\.[ \t]*)*)({_NAME})[ \t]*=[ \t]*")
_STRING = re.compile(r"""("(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*(?:#.*)?\r?""")


@dataclass(frozen=True)
class Line:
    """A header, or a key with its value, which may go on over several lines of text.

    `path` leads there from the top; `value` is where a key's value starts, None for a header; `prefix` is what stands
    in a dotted key before its last name.
    """

    start: int
    end: int
    path: Path
    indent: str
    value: int | None = None
    prefix: str = ""


def parse(text: str) -> Table:
    """Parse a document.  Raises `ValueError`."""
    return tomllib.loads(text)


def table_at(document: Table, path: Path) -> Table:
    """Return the table that a document has there, an empty one if none.  Raises `ValueError` if it is no table."""
    here: Any = document
    for number, name in enumerate(path, 1):
        here = here.get(name, {})
        if not isinstance(here, dict):
            raise ConfigError(f"its '{dotted(path[:number])}' is not a table")
    return dict(here)


def string_at(document: Table, path: Path) -> str:
    """Return the string that a document has there, an empty one if none.  Raises `ValueError` if it is no string."""
    found = table_at(document, path[:-1]).get(path[-1], "")
    if not isinstance(found, str):
        raise ConfigError(f"its '{dotted(path)}' is not a string")
    return found


def with_value(document: Table, path: Path, value: Any) -> Table:
    """Return a document that has a value there.  Raises `ValueError` where something on the way is no table."""
    table_at(document, path[:-1])
    document = deepcopy(document)
    here = document
    for name in path[:-1]:
        here = here.setdefault(name, {})
    here[path[-1]] = value
    return document


def dotted(path: Path) -> str:
    """Write a path as TOML does."""
    return ".".join(name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name) for name in path)


def block(path: Path, members: Table) -> str:
    """Write a table with a header of its own, and those in it likewise."""
    own = {name: value for name, value in members.items() if not isinstance(value, dict)}
    indent = "  " * max(0, len(path) - 3)
    text = f"{indent}[{dotted(path)}]\n" + "".join(
        f"{indent}  {dotted((name,))} = {_written(value)}\n" for name, value in own.items()
    )
    return text + "".join(block((*path, name), value) for name, value in members.items() if isinstance(value, dict))


def set_string(text: str, path: Path, value: str) -> str:
    """Return a document that has a string there, in place of another one or of none.  Raises `ValueError`."""
    wanted = with_value(parse(text), path, value)
    return _demand(_with_string(text, path, value), wanted, f"set {dotted(path)} = {_quoted(value)} by hand")


def append(text: str | None, added: str, wanted: Table) -> str:
    """Return a document with what is added behind it, which then says what is wanted.  Raises `ValueError`.

    Without a text there was no file.
    """
    how = _ALONE if text is None else "" if not text or text.endswith("\n") else _UNFINISHED
    newline = "\r\n" if text and "\r\n" in text else "\n"
    gap = newline * (_LINES_BEFORE[how] if text else 0)
    written = f"{_BEGIN}{how}\n{added}{_END}\n".replace("\n", newline)
    return _demand(f"{text or ''}{gap}{written}", wanted, "add it by hand")


def undo(text: str) -> str | None:
    """Return a document as it was before all that we have put in; None where there was no file."""
    alone = False
    while (begin := _line_of(text, _BEGIN)) >= 0:
        end = _line_of(text, _END, begin)
        how = text[begin : _end_of_line(text, begin)].rstrip("\r").removeprefix(_BEGIN)
        if end < 0 or how not in _LINES_BEFORE:
            raise ConfigError(f"what follows its line '{_BEGIN}' is not as it was written")
        alone = alone or how == _ALONE
        head, tail = text[:begin], text[_end_of_line(text, end) + 1 :]
        if head.replace("\r", "").endswith("\n\n") or head.strip("\r") == "\n":  # unless somebody took it away
            for _number in range(_LINES_BEFORE[how]):
                head = head.removesuffix("\n").removesuffix("\r")
        text = f"{head}\n{tail}" if tail and head and not head.endswith("\n") else f"{head}{tail}"
    for line in reversed([each for each in _raw_lines(text) if _WAS in each[2] or _ADDED in each[2]]):
        text = _undone(text, *line)
    return None if alone and not text else text


def lines(text: str) -> Iterator[Line]:
    """Yield all headers and keys of a document, which is known to be TOML."""
    table: Path = ()
    start = 0
    while start < len(text):
        end = _end_of_line(text, start)
        bare = text[start:end].strip(" \t\r")
        indent = text[start:end][: text[start:end].find(bare)] if bare else ""
        if bare.startswith("["):
            table = _path_of(parse(bare))
            yield Line(start, end, table, indent)
        elif bare and not bare.startswith("#"):
            while not _is_whole(text[start:end]) and end < len(text):
                end = _end_of_line(text, end + 1)
            found = _ASSIGNMENT.match(text, start)
            assert found, "it is TOML"
            names = _path_of(parse(f"{found[2]}{found[3]} = {{}}"))
            yield Line(start, end, (*table, *names), found[1], found.end(), found[2])
        start = end + 1


def _with_string(text: str, path: Path, value: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    setting = f"{dotted(path[-1:])} = {_quoted(value)}{_ADDED}"
    there = list(lines(text))
    for line in there:
        if line.path == path and line.value is not None and (old := _STRING.fullmatch(text, line.value, line.end)):
            return f"{text[: line.value]}{_quoted(value)}{_WAS}{old[0]}{text[line.end :]}"
    for line, behind in zip(there, [*there, None][1:], strict=True):
        if line.path == path[:-1] and line.value is None:
            same = behind is not None and behind.value is not None
            indent = behind.indent if same and behind is not None else f"{line.indent}  "
            return _with_line(text, line.end, f"{indent}{setting}", newline)
    for line in there:
        if line.path[:-1] == path[:-1] and line.prefix:
            return _with_line(text, line.end, f"{line.indent}{line.prefix}{setting}", newline)
    return append(text, block(path[:-1], {path[-1]: value}), with_value(parse(text), path, value))


def _with_line(text: str, end: int, line: str, newline: str) -> str:
    """Put a line behind the one that ends there."""
    if end == len(text):
        return f"{text}{newline}{line}"
    return f"{text[: end + 1]}{line}{newline}{text[end + 1 :]}"


def _undone(text: str, start: int, end: int, line: str) -> str:
    if _WAS in line:
        found = _ASSIGNMENT.match(text, start)
        was = text.index(_WAS, start) + len(_WAS)
        return text[: found.end()] + text[was:] if found else text
    if end == len(text):
        return text[:start].removesuffix("\n").removesuffix("\r")
    return text[:start] + text[end + 1 :]


def _demand(after: str, wanted: Table, hint: str) -> str:
    try:
        good = parse(after) == wanted
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"it is written in a way that is not edited here: {hint}")
    return after


def _is_whole(statement: str) -> bool:
    try:
        parse(f"{statement}\n")  # a carriage return must not stand alone
    except ValueError:
        return False
    return True


def _path_of(document: Table) -> Path:
    """Return the way to the only thing in a document; into a list of tables nothing leads."""
    path: list[str] = []
    here: Any = document
    while isinstance(here, dict) and here:
        [(name, here)] = here.items()
        path.append(name)
    return (*path, "[]") if isinstance(here, list) else tuple(path)


def _raw_lines(text: str) -> Iterator[tuple[int, int, str]]:
    start = 0
    while start < len(text):
        end = _end_of_line(text, start)
        yield start, end, text[start:end]
        start = end + 1


def _line_of(text: str, beginning: str, start: int = 0) -> int:
    return next((at for at, _, line in _raw_lines(text) if at >= start and line.startswith(beginning)), -1)


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _quoted(value: str) -> str:
    # JSON's strings are TOML's, but for DEL, and for what is outside of the first plane.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    raise ConfigError(f"{value!r} is not copied here: add it by hand")
