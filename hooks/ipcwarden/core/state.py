"""The state JSON that a runtime writes to a hook's standard input (runtime-spec, runtime.md, State), distrusted.

The same rules as data: schemas/state.schema.json; a test holds both to one verdict.
"""

from __future__ import annotations

from ipcwarden.core.documents import parse
from ipcwarden.errors import StateError
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

MAX_STATE_BYTES = 1 << 20
_MAX_ID = 1024
_MAX_PATH = 4096
_PID_LIMIT = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h


@value
class ContainerState:
    """The fields of a state that we use.  `pid` is 0 where there is none (runc leaves it out, crun writes 0)."""

    id: str
    bundle: str
    status: str
    pid: int
    annotations: dict[str, str]


def parse_state(data: bytes) -> ContainerState:
    """Read one state document.  Raises `StateError`, never a bare `ValueError`.

    Liberal where runtimes differ: unknown keys, any status, no `ociVersion`, no pid, annotations that are null.
    """
    if len(data) > MAX_STATE_BYTES:
        raise StateError(f"cannot use the state on stdin: it is larger than {MAX_STATE_BYTES} bytes")
    try:
        document = parse(data)
    except ValueError as error:
        hint = "" if data.strip() else "a hook is started by a runtime, which writes the container's state to it"
        raise StateError(f"cannot read the state on stdin as JSON: {error}", hint) from error
    wrong = fault_of(document)
    if wrong:
        raise StateError(f"cannot use the state on stdin: {wrong}")
    assert isinstance(document, dict)
    annotations = document.get("annotations") or {}
    return ContainerState(
        id=str(document["id"]),
        bundle=str(document["bundle"]),
        status=str(document.get("status", "")),
        pid=int(document.get("pid", 0)),  # type: ignore[arg-type]  # fault_of saw to it
        annotations=annotations,  # type: ignore[arg-type]  # so it did here
    )


def fault_of(state: Document) -> str:
    """Say what is wrong with a state document, or return an empty string."""
    if not isinstance(state, dict):
        return "it is not an object"
    container, bundle, status = state.get("id"), state.get("bundle"), state.get("status", "")
    pid, annotations = state.get("pid", 0), state.get("annotations")
    if not isinstance(container, str) or not 0 < len(container) <= _MAX_ID:
        return f"its id is not a text of 1 to {_MAX_ID} characters"
    if container in (".", "..") or not all("!" <= c <= "~" and c != "/" for c in container):
        return f"its id {container[:64]!r} holds '/', a blank or an unprintable character, or is a directory's name"
    if not isinstance(bundle, str) or not bundle.startswith("/") or len(bundle) > _MAX_PATH:
        return f"its bundle is not an absolute path of up to {_MAX_PATH} characters"
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in bundle):
        return "its bundle holds a control character or half a surrogate pair"
    if not isinstance(status, str):
        return "its status is not a text"
    whole = isinstance(pid, int) or (isinstance(pid, float) and pid.is_integer())
    if isinstance(pid, bool) or not whole or not 0 <= pid <= _PID_LIMIT:  # type: ignore[operator]  # whole
        return f"its pid {str(pid)[:32]} is not a whole number from 0 to {_PID_LIMIT}"
    if annotations is not None and (
        not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values())
    ):
        return "its annotations are not an object of texts"
    return ""
