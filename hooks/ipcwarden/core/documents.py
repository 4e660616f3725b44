"""JSON without the json package (6 ms: it imports re): the same C scanner and encoder, called directly."""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Document: TypeAlias = bool | int | float | str | list["Document"] | dict[str, "Document"] | None


class Repeated(dict[str, "Document"]):
    """An object that held a key more than once.  Readers differ on which one counts: `pairs` has them all."""

    def __init__(self, pairs: list[tuple[str, Document]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _object(pairs: list[tuple[str, Document]]) -> dict[str, Document]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(pairs)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


class _Context:
    """What `json.JSONDecoder` is to the scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}  # noqa: RUF012  (the scanner clears it itself)


def _single(pairs: list[tuple[str, Document]]) -> dict[str, Document]:
    found = dict(pairs)
    if len(found) < len(pairs):
        last = {key: at for at, (key, _) in enumerate(pairs)}
        twice = next(key for at, (key, _) in enumerate(pairs) if last[key] != at)
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


class _StrictContext(_Context):
    """What knows no second key of one name."""

    object_pairs_hook = staticmethod(_single)


def parse(data: bytes, context: type[_Context] = _Context) -> Document:
    """Parse one JSON document (RFC 8259).

    Raises `ValueError` for anything else: not UTF-8, NaN, a second document, or nested too deeply to be honest.
    """
    text = data.decode("utf-8").strip(" \t\r\n")
    try:
        document, end = _scan(text, context)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if end != len(text):
        raise ValueError(f"something follows the document, at character {end + 1}")
    return document


def parse_strictly(data: bytes) -> Document:
    """Do so, and raise `ValueError` for a key that stands twice in one object, too: it could not be written again."""
    return parse(data, _StrictContext)


def _scan(text: str, context: type[_Context]) -> tuple[Document, int]:
    try:
        found: tuple[Document, int] = _json.make_scanner(context)(text, 0)  # type: ignore[arg-type]  # any such object
    except (StopIteration, SystemError):
        # The scanner's errors live in the json package, which knows the place: without it Python 3.11 says SystemError.
        import json

        try:
            return json.loads(text), len(text)
        except ValueError as error:
            raise ValueError(str(error).lower()) from None
    return found


def _not_json(unknown: object) -> Document:
    raise TypeError(f"{unknown!r} has no place in JSON")


def serialize(document: object) -> str:
    """Return `document` as one line of ASCII JSON without blanks, keys in the order they were put."""
    encode = _json.make_encoder(None, _not_json, _json.encode_basestring_ascii, None, ":", ",", False, False, False)
    return "".join(encode(document, 0))


def utf8_of(document: object) -> bytes:
    """Return `document` as `serialize` does, but as UTF-8, with nothing escaped but what that cannot say."""
    encode = _json.make_encoder(None, _not_json, _json.encode_basestring, None, ":", ",", False, False, False)
    # Half a surrogate pair is what UTF-8 cannot say; Python writes it as JSON does.
    return "".join(encode(document, 0)).encode("utf-8", "backslashreplace")
