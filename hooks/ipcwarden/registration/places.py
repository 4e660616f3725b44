"""JSON as text with places: what is not edited stays as it was written, byte by byte.

Parsing and writing anew would not do: it loses repeated keys, and other spellings of one string (Go escapes every `&`)
and of one number, and so changes more of somebody else's file than we were asked to.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ipcwarden.core.documents import Repeated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


class ConfigError(ValueError):
    """A configuration that its readers would not read, or not all of them in one way."""


def check_keys(document: dict[str, Document], names: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless each of these members is there once, in this spelling, or not at all."""
    # Go (runc, dockerd) takes keys in any letter case and the last of two; crun the exact one and the first.
    pairs = document.pairs if isinstance(document, Repeated) else list(document.items())
    for name in names:
        spellings = [key for key, _ in pairs if key.casefold() == name.casefold()]
        if spellings not in ([], [name]):
            raise ConfigError(f"it says '{name}' as {', '.join(map(repr, spellings))}, which runtimes read differently")


@dataclass(frozen=True)
class Child:
    """A member of an object or an item of a list: where it starts, where its value starts, and where both end."""

    start: int
    value: int
    end: int
    key: str


@dataclass(frozen=True)
class Container:
    """An object or a list: where it starts and ends, and what it holds."""

    start: int
    end: int
    children: tuple[Child, ...]

    def named(self, key: str) -> Child | None:
        """Return the member of that name."""
        return next((child for child in self.children if child.key == key), None)


@dataclass(frozen=True)
class Style:
    """How a file is written: `newline` is empty where all stands on one line."""

    newline: str
    indent: str
    comma: str
    colon: str


def look(text: str, start: int = 0) -> Container:
    """Find the parts of the object or list that starts there; `text` is known to be JSON."""
    tokens = _TOKEN.finditer(text, start)
    start = next(tokens).start()
    children: list[Child] = []
    first = value = end = -1  # of the child that is being read
    key = ""
    depth = 1
    for token in tokens:
        word = token[0]
        if depth == 1 and word in {",", "}", "]"}:
            if first >= 0:
                children.append(Child(first, value, end, key))
            first, key = -1, ""
            if word != ",":
                return Container(start, token.end(), tuple(children))
            continue
        if depth == 1 and word == ":":
            key, value = json.loads(text[first:end]), -1
            continue
        first = token.start() if first < 0 else first
        value = token.start() if value < 0 or value < first else value
        end = token.end()
        depth += (word in {"{", "["}) - (word in {"}", "]"})
    raise ValueError("it ends too early")


def style_of(text: str) -> Style:
    """Find out how a document, an object, is written, by its first two members."""
    top = look(text)
    if not top.children:
        return Style("", "", " ", ": ")
    first = top.children[0]
    gap = text[top.start + 1 : first.start]
    colon = text[first.start : first.value]
    colon = colon[len(colon.rstrip(" \t:")) :]
    newline = "\r\n" if "\r\n" in gap else "\n" if "\n" in gap else ""
    second = top.children[1] if len(top.children) > 1 else None
    comma = text[first.end : second.start].partition(",")[2] if second else colon[-1:].strip(":")
    return Style(
        newline=newline,
        indent=gap.rpartition("\n")[2],
        comma=" " if "\n" in comma else comma,
        colon=colon if ":" in colon else ": ",
    )


def insert(text: str, container: Container, index: int, piece: tuple[str, Document], style: Style) -> str:
    """Put a key (empty in a list) and a value before the child `index` of a container, or behind the last one."""
    children = container.children
    if not children:
        margin = _margin(text, container.start)
        inner = margin + style.indent
        written = _write(piece, style, inner if style.newline else None)
        opening, closing = (f"{style.newline}{inner}", f"{style.newline}{margin}") if style.newline else ("", "")
        return f"{text[: container.start + 1]}{opening}{written}{closing}{text[container.end - 1 :]}"
    gap = text[container.start + 1 : children[0].start]
    if len(children) > 1:
        between = text[children[0].end : children[1].start]
    else:
        between = f",{gap}" if "\n" in gap else f",{style.comma}"
    written = _write(piece, style, between.rpartition("\n")[2] if "\n" in between else None)
    if index == 0:
        return f"{text[: children[0].start]}{written}{between}{text[children[0].start :]}"
    at = children[index - 1].end
    return f"{text[:at]}{between}{written}{text[at:]}"


def remove(text: str, container: Container, index: int) -> str:
    """Take away a child, and the comma that it needed."""
    children = container.children
    if len(children) == 1:
        return text[: container.start + 1] + text[container.end - 1 :]
    if index == 0:
        return text[: children[0].start] + text[children[1].start :]
    return text[: children[index - 1].end] + text[children[index].end :]


def replace(text: str, child: Child, value: Document, style: Style) -> str:
    """Put another value in place of a child's."""
    line = text.rfind("\n", 0, child.start) + 1
    alone = not text[line : child.start].strip() and style.newline
    written = _write(("", value), style, _margin(text, child.start) if alone else None)
    return text[: child.value] + written + text[child.end :]


def _margin(text: str, at: int) -> str:
    """Return the white space that the line of a place starts with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _write(piece: tuple[str, Document], style: Style, margin: str | None) -> str:
    """Write a piece on lines of its own that start with `margin`, or on one line."""
    key, value = piece
    if margin is None or not style.newline:
        written = json.dumps(value, separators=(f",{style.comma}", style.colon))
    else:
        written = json.dumps(value, indent=style.indent, separators=(",", style.colon))
        written = written.replace("\n", style.newline + margin)
    return f"{json.dumps(key)}{style.colon}{written}" if key else written
