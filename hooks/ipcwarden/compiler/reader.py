"""YAML as policies are written in it: what would make two readers see two things is an error with its place.

The tree is built from the parser's events, since constructors would guess: 010 is 8 or 10, `on` is true or text.
"""

from __future__ import annotations

import re

import yaml

from ipcwarden.compiler.findings import Place, Report
from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence, Spoilt
from ipcwarden.core.sysctls import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipcwarden.compiler.nodes import Node

MAX_DEPTH = 24  # a policy needs 8
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it
_WORDS: dict[str, bool | None] = {"null": None, "true": True, "false": False}
# What YAML forbids, line breaks that editors don't show, and what turns the direction of the text that they show.
_FORBIDDEN = re.compile(
    "[^\t\n\r -~\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_UNCLOSED = "found unexpected end of stream"  # inside of quotes


class _Unusable(Exception):
    """The file cannot be read any further; the reason is reported."""


def read(file: str, data: bytes, report: Report) -> Node | None:
    """Return the one document of a source, or None where there is no tree to be had; reports what is wrong."""
    report.opened(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        before = data[: failure.start].decode("utf-8", "replace")
        at = _place_after(file, before)
        report.error(at, f"byte 0x{data[failure.start]:02x} is not UTF-8", "save the file as UTF-8")
        return None
    if found := _FORBIDDEN.search(text):
        at = _place_after(file, text[: found.start()])
        report.error(at, f"the character U+{ord(found[0]):04X} has no place in a policy", "remove it")
        return None
    try:
        return _Builder(file, report, yaml.parse(text, Loader=_LOADER)).document()
    except _Unusable:
        return None
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        if failure.context_mark and failure.problem == _UNCLOSED:
            mark = failure.context_mark  # where it opens
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        context = f"{failure.context}: " if failure.context else ""
        tab = mark is not None and text[mark.index : mark.index + 1] == "\t"
        hint = "indent with blanks, not with tabs" if tab else _hint(str(failure.problem))
        report.error(Place(file, line, column, ""), f"it is not YAML: {context}{failure.problem}", hint)
    except (yaml.YAMLError, ValueError, OverflowError) as failure:  # an escape beyond Unicode in the pure parser
        report.error(Place(file, 1, 1, ""), f"it is not YAML: {failure}")
    return None


def _hint(problem: str) -> str:
    if problem == _UNCLOSED:
        return "the quote that opens here is not closed"
    return "put a text with a colon in it into quotes" if problem.startswith("mapping values are not allowed") else ""


def _place_after(file: str, before: str) -> Place:
    line, _, last = before.rpartition("\n")
    return Place(file, line.count("\n") + (2 if "\n" in before else 1), len(last) + 1, "")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


class _Builder:
    """Turns the events of one stream into a tree."""

    def __init__(self, file: str, report: Report, events: Iterator[yaml.Event]) -> None:
        self._file = file
        self._report = report
        self._events = events

    def document(self) -> Node | None:
        """Return the stream's only document."""
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            self._report.error(self._place(event, ""), "the file is empty", "a policy starts with 'version: 1'")
            return None
        root = self._node(next(self._events), "", 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._report.error(self._place(event, ""), "a second document starts here", "one file holds one document")
        return root

    def _place(self, event: yaml.Event, path: str) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, path)

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        at = self._place(event, path)
        if depth > MAX_DEPTH:
            self._report.error(at, f"it is nested deeper than {MAX_DEPTH} levels", "no policy needs that")
            raise _Unusable
        if isinstance(event, yaml.AliasEvent):
            self._report.error(
                at, f"the alias '*{event.anchor}' cannot be used", "write the value again, or use extends"
            )
            return Spoilt(at)
        self._plainly(event, at)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(at, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(at, depth)
        return _scalar(at, event)

    def _plainly(self, event: yaml.Event, at: Place) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None:
            self._report.error(at, f"the anchor '&{anchor}' cannot be used", "to share settings, use extends")
        if tag is not None:
            self._report.error(at, f"the tag '{tag}' cannot be used", "write the value without it")

    def _sequence(self, at: Place, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{at.path}[{len(items)}]", depth + 1))
        return Sequence(at, items)

    def _mapping(self, at: Place, depth: int) -> Mapping:
        keys: dict[str, Place] = {}
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, place = self._key(event, at.path, depth)
            child = self._node(next(self._events), place.path, depth + 1)
            if key is None:
                continue
            if key in keys:
                first = keys[key]
                self._report.error(place, f"the key '{key}' stands here twice", f"first in line {first.line}")
            else:
                keys[key], entries[key] = place, child
        return Mapping(at, keys, entries)

    def _key(self, event: yaml.Event, path: str, depth: int) -> tuple[str | None, Place]:
        at = self._place(event, path)
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, path, depth + 1)
            if not isinstance(event, yaml.AliasEvent):
                self._report.error(at, "a key must be a single word or text", "a mapping or a list cannot be one")
            return None, at
        self._plainly(event, at)
        key = str(event.value)
        at = self._place(event, _below(path, key))
        if key == "<<" and event.implicit[0]:
            self._report.error(at, "the merge key '<<' cannot be used", "to share settings, use extends")
            return None, at
        return key, at


def _scalar(at: Place, event: yaml.Event) -> Scalar:
    text = str(getattr(event, "value", ""))
    if not getattr(event, "implicit", (False,))[0]:
        return Scalar(at, text, text)  # quoted
    if text in _WORDS:
        return Scalar(at, _WORDS[text], text)
    number = canonical(text)
    return Scalar(at, text if number is None else number, text)
