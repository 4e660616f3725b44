"""config.json (runtime-spec, config.md), as far as IPC is concerned, distrusted: the container's user shaped it."""

from __future__ import annotations

from ipcwarden.core.documents import Repeated, parse
from ipcwarden.core.sysctls import FILES, numbers
from ipcwarden.errors import StateError
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

MAX_SPEC_BYTES = 2 << 20  # an honest one has some ten KiB; reading 16 MiB takes longer than a hook may
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
    request = _request_of(document)
    if any(name == TABLE for name, _ in request.malformed):
        document = {"linux": document.get("linux")}  # refused for that; what else it asks for hardly matters
    linux = _section(document, "linux")
    namespaces = _namespaces(linux)
    paths = [path for kind, path in namespaces if kind == "ipc"]
    if len(paths) > 1:
        raise StateError("cannot use config.json: its 'linux.namespaces' lists ipc twice")
    return Spec(
        request=request,
        ipc="host" if not paths else "shared" if paths[0] else "private",
        ipc_path=paths[0] if paths else "",
        user_namespace=any(kind == "user" for kind, _ in namespaces),
        memory_limit=_memory_of(linux),
        privileged=_is_privileged(document),
    )


def _member(section: dict[str, Document], name: str, place: str) -> Document:
    """Return a member that every runtime reads as we do.  Raises `StateError` for one with a second spelling."""
    alike = _spelled_like(section, name)
    if alike and [key for key, _ in alike] != [name]:
        keys = ", ".join(repr(key) for key, _ in alike)
        raise StateError(f"cannot use config.json: it has {place}{name} as {keys}, which runtimes read differently")
    return section.get(name)


def _section(section: dict[str, Document], name: str, place: str = "") -> dict[str, Document]:
    found = _member(section, name, place)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise StateError(f"cannot use config.json: its '{place}{name}' is not an object")
    return found


def _namespaces(linux: dict[str, Document]) -> list[tuple[str, str]]:
    found = _member(linux, "namespaces", "linux.")
    wrong = StateError("cannot use config.json: its 'linux.namespaces' is not a list of {type, path}")
    if found is None:
        return []
    if not isinstance(found, list):
        raise wrong
    pairs = []
    for each in found:
        if not isinstance(each, dict):
            raise wrong
        kind = _member(each, "type", "linux.namespaces.")
        path = _member(each, "path", "linux.namespaces.") or ""
        if not isinstance(kind, str) or not isinstance(path, str):
            raise wrong
        pairs.append((kind, path))
    return pairs


def _memory_of(linux: dict[str, Document]) -> int | None:
    resources = _section(linux, "resources", "linux.")
    limit = _member(_section(resources, "memory", "linux.resources."), "limit", "linux.resources.memory.")
    if isinstance(limit, bool) or not isinstance(limit, int | None):
        raise StateError("cannot use config.json: its 'linux.resources.memory.limit' is not a whole number")
    return limit if limit is not None and limit > 0 else None  # -1 and 0 are how engines write "unlimited"


def _is_privileged(document: dict[str, Document]) -> bool:
    # There is no flag.  This capability is what --privileged gives, and what it takes to undo every other shield.
    capabilities = _section(_section(document, "process"), "capabilities", "process.")
    bounding = _member(capabilities, "bounding", "process.capabilities.")
    # crun, as C, reads a name up to its first NUL, and in any letter case.
    names = bounding if isinstance(bounding, list) else []
    return any(isinstance(name, str) and name.partition("\0")[0].upper() == "CAP_SYS_ADMIN" for name in names)


def _pairs(section: Document) -> list[tuple[str, Document]]:
    if isinstance(section, Repeated):
        return section.pairs
    return list(section.items()) if isinstance(section, dict) else []


def _spelled_like(section: Document, name: str) -> list[tuple[str, Document]]:
    # runc, as every Go program, obeys any letter case, and folds as Unicode does; crun wants the exact key, which for C
    # ends at the first NUL.
    return [(key, content) for key, content in _pairs(section) if key.partition("\0")[0].casefold() == name]


def _request_of(document: dict[str, Document]) -> Request:
    tables = [
        (top, key, table)
        for top, linux in _spelled_like(document, "linux")
        for key, table in _spelled_like(linux, "sysctl")
        if table is not None
    ]
    raw: dict[str, str] = {}
    found: dict[str, int] = {}
    malformed: dict[str, str] = {}
    for top, bottom, table in tables:
        spelling = f"{top}.{bottom}"
        if spelling != TABLE or len(tables) > 1 or len(_spelled_like(document, "linux")) > 1:
            malformed[TABLE] = spelling if spelling != TABLE else malformed.get(TABLE, TABLE)
        if not isinstance(table, dict):
            raise StateError("cannot use config.json: its 'linux.sysctl' is not an object")
        for name, key, content in _governed(table):
            text = content if isinstance(content, str) else repr(content)
            fields = numbers(name, text) if isinstance(content, str) else None
            if fields is None or raw.get(name, text) != text or key not in (name, name.replace(".", "/")):
                malformed[name] = text if raw.get(name, text) == text else f"{raw[name]} and {text}"
            raw[name] = text
            found.update(zip(FILES[name], fields or (), strict=False))
    for name in malformed:
        for field in FILES.get(name, ()):
            found.pop(field, None)
    return Request(raw, {} if TABLE in malformed else found, tuple(malformed.items()))


def _governed(table: dict[str, Document]) -> list[tuple[str, str, Document]]:
    """Return what a table says of governed sysctls: name, key as it is written, content."""
    found = []
    for key, content in _pairs(table):
        plain = key.partition("\0")[0].replace("/", ".")
        name = ".".join(part for part in plain.split(".") if part)
        if name in FILES:
            found.append((name, key, content))
    return found
