"""As much of protobuf's wire format as it takes to talk to a service whose messages one knows by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Value: TypeAlias = int | str | bytes


def message(*fields: tuple[int, Value]) -> bytes:
    """Write fields, each a number and its value; one that repeats is written as often.  A message is bytes."""
    return b"".join(_field(number, value) for number, value in fields)


def mapping(number: int, entries: Mapping[str, str]) -> list[tuple[int, Value]]:
    """Write a map as the fields that it is: a message of key and value for each entry."""
    return [(number, message((1, key), (2, value))) for key, value in entries.items()]


def parse(content: bytes) -> dict[int, list[int | bytes]]:
    """Read a message: the values of each number, in order."""
    found: dict[int, list[int | bytes]] = {}
    for number, value in _fields(content):
        found.setdefault(number, []).append(value)
    return found


def parse_mapping(entries: list[int | bytes]) -> dict[str, str]:
    """Read a map of strings."""
    pairs = (parse(entry) for entry in entries if isinstance(entry, bytes))
    return {_text(pair.get(1)): _text(pair.get(2)) for pair in pairs}


def _text(values: list[int | bytes] | None) -> str:
    [value] = values or [b""]
    assert isinstance(value, bytes)
    return value.decode()


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = content[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(content):
        tag = varint()
        match tag & 7:
            case 0:
                yield tag >> 3, varint()
            case 2:
                length = varint()
                yield tag >> 3, content[at : at + length]
                at += length
            case kind:
                raise ValueError(f"protobuf's wire type {kind} is none that the CRI uses")
