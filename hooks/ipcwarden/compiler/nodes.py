"""A source as a tree in which everything knows its place."""

from __future__ import annotations

from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ipcwarden.compiler.findings import Place

    Node: TypeAlias = "Scalar | Mapping | Sequence | Spoilt"
    Plain: TypeAlias = bool | int | str | list["Plain"] | dict[str, "Plain"] | None
    Step: TypeAlias = str | int


@value
class Scalar:
    """Text, a whole number, true, false or null; `text` is how it was written."""

    at: Place
    value: bool | int | str | None
    text: str


@value
class Mapping:
    """Keys, where each stands, and what it leads to."""

    at: Place
    keys: dict[str, Place]
    entries: dict[str, Node]


@value
class Sequence:
    """A list."""

    at: Place
    items: list[Node]


@value
class Spoilt:
    """What an error was already reported for: nothing that follows from it is worth another one."""

    at: Place


def plain(node: Node) -> Plain:
    """Return a tree as what a YAML loader gives; what is spoilt becomes null."""
    match node:
        case Scalar():
            return node.value
        case Mapping():
            return {key: plain(child) for key, child in node.entries.items()}
        case Sequence():
            return [plain(child) for child in node.items]
        case Spoilt():
            return None


def find(node: Node, way: tuple[Step, ...]) -> Node:
    """Return what lies at the end of a way that `plain` has shown to exist."""
    for step in way:
        if isinstance(node, Mapping):
            node = node.entries[str(step)]
        elif isinstance(node, Sequence):
            node = node.items[int(step)]
    return node


def without(node: Node, spoilt: set[tuple[Step, ...]], unknown: set[tuple[Step, ...]]) -> Node:
    """Return the tree with some nodes spoilt and some keys left out."""
    return _prune(node, (), spoilt, unknown)


def _prune(node: Node, way: tuple[Step, ...], spoilt: set[tuple[Step, ...]], unknown: set[tuple[Step, ...]]) -> Node:
    if way in spoilt:
        return Spoilt(node.at)
    if isinstance(node, Mapping):
        kept = {key: child for key, child in node.entries.items() if (*way, key) not in unknown}
        return Mapping(node.at, node.keys, {k: _prune(child, (*way, k), spoilt, unknown) for k, child in kept.items()})
    if isinstance(node, Sequence):
        return Sequence(node.at, [_prune(child, (*way, n), spoilt, unknown) for n, child in enumerate(node.items)])
    return node


def text_of(node: Node | None) -> str | None:
    """Return a node's text; None where it is spoilt, missing or not text."""
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def shown(node: Node) -> str:
    """Return what somebody has written, for a message."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=str(text)):
            return f"'{text if len(text) <= 60 else text[:57] + '...'}'" if text else "nothing"
        case _:
            return node.text if isinstance(node, Scalar) else "nothing"
