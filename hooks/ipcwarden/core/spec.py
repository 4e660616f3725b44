"""config.json (runtime-spec, config.md), as far as IPC is concerned, distrusted: the container's user shaped it."""

from __future__ import annotations

from ipcwarden.core.documents import Repeated, parse
from ipcwarden.core.sysctls import FILES, numbers
from ipcwarden.errors import StateError
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

MAX_SPEC_BYTES = 16 << 20
TABLE = "linux.sysctl"


@value
class Request:
    """The governed part of `linux.sysctl`: raw texts by name of `sysctls.FILES`, and numbers by `sysctls.NAMES`.

    `malformed` has the names whose value nobody can be sure of, with what was written; the name `TABLE` where it is the
    whole table that has another spelling, or a second one.
    """

    raw: dict[str, str]
    numbers: dict[str, int]
    malformed: tuple[tuple[str, str], ...] = ()


@value
class Spec:
    """What config.json asks for.  `ipc` is private, shared (`ipc_path`: somebody's namespace) or host."""

    request: Request
    ipc: str
    ipc_path: str
    user_namespace: bool
    memory_limit: int | None  # bytes
    privileged: bool


def parse_spec(data: bytes) -> Spec:
    """Read a config.json.  Raises `StateError` where it cannot be used."""
    try:
        document = parse(data)
    except ValueError as error:
        raise StateError(f"cannot read config.json as JSON: {error}") from error
    if not isinstance(document, dict):
        raise StateError("cannot use config.json: it is not an object")
    linux = _section(document, "linux")
    ipc, path = _ipc_of(linux)
    return Spec(
        request=_request_of(document),
        ipc=ipc,
        ipc_path=path,
        user_namespace=any(kind == "user" for kind, _ in _namespaces(linux)),
        memory_limit=_memory_of(linux),
        privileged=_is_privileged(document, linux),
    )


def _section(document: dict[str, Document], name: str) -> dict[str, Document]:
    found = document.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise StateError(f"cannot use config.json: its '{name}' is not an object")
    return found


def _namespaces(linux: dict[str, Document]) -> list[tuple[str, str]]:
    found = linux.get("namespaces")
    pairs = []
    for each in [] if found is None else found if isinstance(found, list) else [None]:
        kind, path = (each.get("type"), each.get("path") or "") if isinstance(each, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str):
            raise StateError("cannot use config.json: its 'linux.namespaces' is not a list of {type, path}")
        pairs.append((kind, path))
    return pairs


def _ipc_of(linux: dict[str, Document]) -> tuple[str, str]:
    paths = [path for kind, path in _namespaces(linux) if kind == "ipc"]
    if len(paths) > 1:
        raise StateError("cannot use config.json: its 'linux.namespaces' lists ipc twice")
    if not paths:
        return "host", ""
    return ("shared", paths[0]) if paths[0] else ("private", "")


def _memory_of(linux: dict[str, Document]) -> int | None:
    limit = _section(_section(linux, "resources"), "memory").get("limit")
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise StateError("cannot use config.json: its 'linux.resources.memory.limit' is not a whole number")
    return limit if limit > 0 else None  # -1 and 0 are how engines write "unlimited"


def _is_privileged(document: dict[str, Document], linux: dict[str, Document]) -> bool:
    # There is no flag: this is what engines make of --privileged, and what makes it dangerous.
    bounding = _section(_section(document, "process"), "capabilities").get("bounding")
    shields = (linux.get("maskedPaths"), linux.get("readonlyPaths"), linux.get("seccomp"))
    return isinstance(bounding, list) and "CAP_SYS_ADMIN" in bounding and not any(shields)


def _pairs(section: Document) -> list[tuple[str, Document]]:
    if isinstance(section, Repeated):
        return section.pairs
    return list(section.items()) if isinstance(section, dict) else []


def _spelled_like(section: Document, name: str) -> list[tuple[str, Document]]:
    # runc, as every Go program, obeys any letter case, and folds as Unicode does; crun wants the exact key.
    return [(key, content) for key, content in _pairs(section) if key.casefold() == name]


def _request_of(document: dict[str, Document]) -> Request:
    tables = [
        (top, key, table)
        for top, linux in _spelled_like(document, "linux")
        for key, table in _spelled_like(linux, "sysctl")
        if table is not None
    ]
    strange = [f"{top}.{key}" for top, key, _ in tables if (top, key) != ("linux", "sysctl")]
    if strange or len(tables) > 1:
        return Request({}, {}, ((TABLE, strange[0] if strange else TABLE),))
    if not tables:
        return Request({}, {})
    table = tables[0][2]
    if not isinstance(table, dict):
        raise StateError("cannot use config.json: its 'linux.sysctl' is not an object")
    raw: dict[str, str] = {}
    found: dict[str, int] = {}
    malformed: dict[str, str] = {}
    for key, content in _pairs(table):
        name = ".".join(part for part in key.replace("/", ".").split(".") if part)
        if name not in FILES:
            continue
        text = content if isinstance(content, str) else repr(content)
        fields = numbers(name, text) if isinstance(content, str) else None
        if fields is None or raw.get(name, text) != text or key not in (name, name.replace(".", "/")):
            malformed[name] = text if raw.get(name, text) == text else f"{raw[name]} and {text}"
        raw[name] = text
        found.update(zip(FILES[name], fields or (), strict=False))
    for name in malformed:
        for field in FILES[name]:
            found.pop(field, None)
    return Request(raw, found, tuple(malformed.items()))
