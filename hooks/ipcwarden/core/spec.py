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
MSGQUEUE = "RLIMIT_MSGQUEUE"
_HOOK_STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


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
class Mount:
    """One of `mounts`."""

    destination: str
    type: str
    source: str
    options: tuple[str, ...]


@value
class Spec:
    """What config.json asks for.  `ipc` is private, shared (`ipc_path`: somebody's namespace) or host.

    `proc_sys_writable` tells whether some /proc/sys in the container can be written or made to be, `shielded` which
    paths the runtime makes read-only; `msgqueue` is what is asked for RLIMIT_MSGQUEUE (soft, hard), `hostname_source`
    what is mounted on /etc/hostname (empty: nothing).
    """

    request: Request
    ipc: str
    ipc_path: str
    user_namespace: bool
    memory_limit: int | None  # bytes
    privileged: bool
    annotations: dict[str, str]
    proc_sys_writable: bool
    msgqueue: tuple[int, int] | None  # bytes
    hostname_source: str
    cgroups_path: str
    root_path: str
    seccomp: Document
    shielded: tuple[str, ...]
    mounts: tuple[Mount, ...]
    uid: int = 0  # of the first process, as the container numbers it; read where it shares the host's namespace alone


def parse_spec(data: bytes) -> Spec:
    """Read a config.json.  Raises `StateError` where it cannot be used."""
    try:
        document = parse(data)
    except ValueError as error:
        raise StateError(f"cannot read config.json as JSON: {error}") from error
    if not isinstance(document, dict):
        raise StateError("cannot use config.json: it is not an object")
    return spec_of(document)


def spec_of(document: dict[str, Document]) -> Spec:
    """Return what a config.json asks for.  Raises `StateError` where it cannot be used."""
    request = request_of(document)
    if any(name == TABLE for name, _ in request.malformed):
        document = {"linux": document.get("linux")}  # refused for that; what else it asks for hardly matters
    linux = section_of(document, "linux")
    namespaces = _namespaces(linux)
    paths = [path for kind, path in namespaces if kind == "ipc"]
    if len(paths) > 1:
        raise StateError("cannot use config.json: its 'linux.namespaces' lists ipc twice")
    hooks = section_of(document, "hooks")
    for stage in _HOOK_STAGES:
        list_of(hooks, stage, "hooks.")
    mounts = _mounts(document)
    privileged = _is_privileged(document)
    return Spec(
        request=request,
        ipc="host" if not paths else "shared" if paths[0] else "private",
        ipc_path=paths[0] if paths else "",
        user_namespace=any(kind == "user" for kind, _ in namespaces),
        memory_limit=_memory_of(linux),
        privileged=privileged,
        annotations=_annotations(document),
        proc_sys_writable=privileged or _can_write_proc_sys(linux, mounts),
        msgqueue=_msgqueue_of(document),
        hostname_source=next((mount.source for mount in mounts if mount.destination == "/etc/hostname"), ""),
        cgroups_path=_text(linux, "cgroupsPath", "linux."),
        root_path=_text(section_of(document, "root"), "path", "root."),
        seccomp=_member(linux, "seccomp", "linux."),
        shielded=(*_shielded(linux), *(mount.destination for mount in mounts if "ro" in mount.options)),
        mounts=tuple(mounts),
        uid=0 if paths else _uid_of(document),
    )


def _member(section: dict[str, Document], name: str, place: str) -> Document:
    """Return a member that every runtime reads as we do.  Raises `StateError` for one with a second spelling."""
    alike = _spelled_like(section, name)
    if alike and [key for key, _ in alike] != [name]:
        keys = ", ".join(repr(key) for key, _ in alike)
        raise StateError(f"cannot use config.json: it has {place}{name} as {keys}, which runtimes read differently")
    return section.get(name)


def section_of(section: dict[str, Document], name: str, place: str = "") -> dict[str, Document]:
    """Return the object that a member is, empty where there is none.  Raises `StateError`."""
    found = _member(section, name, place)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise StateError(f"cannot use config.json: its '{place}{name}' is not an object")
    return found


def _text(section: dict[str, Document], name: str, place: str) -> str:
    found = _member(section, name, place)
    if not isinstance(found, str | None):
        raise StateError(f"cannot use config.json: its '{place}{name}' is not a text")
    return found or ""


def list_of(section: dict[str, Document], name: str, place: str = "") -> list[Document]:
    """Return the list that a member is, empty where there is none.  Raises `StateError`."""
    found = _member(section, name, place)
    if not isinstance(found, list | None):
        raise StateError(f"cannot use config.json: its '{place}{name}' is not a list")
    return found or []


def _objects(section: dict[str, Document], name: str, place: str = "") -> list[dict[str, Document]]:
    found = list_of(section, name, place)
    objects = [each for each in found if isinstance(each, dict)]
    if len(objects) != len(found):
        raise StateError(f"cannot use config.json: its '{place}{name}' is not a list of objects")
    return objects


def _namespaces(linux: dict[str, Document]) -> list[tuple[str, str]]:
    place = "linux.namespaces."
    found = _objects(linux, "namespaces", "linux.")
    pairs = [(_text(each, "type", place), _text(each, "path", place)) for each in found]
    if not all(kind for kind, _ in pairs):
        raise StateError("cannot use config.json: its 'linux.namespaces' has one without a type")
    return pairs


def _mounts(document: dict[str, Document]) -> list[Mount]:
    return [
        Mount(
            _plain(_text(each, "destination", "mounts.")),
            _text(each, "type", "mounts."),
            _plain(_text(each, "source", "mounts.")),
            tuple(str(option) for option in list_of(each, "options", "mounts.")),
        )
        for each in _objects(document, "mounts")
    ]


def _plain(path: str) -> str:
    """Return a path as short as it goes without looking: what two spellings of it have in common."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def _can_write_proc_sys(linux: dict[str, Document], mounts: list[Mount]) -> bool:
    """Tell whether a container with no more than usual capabilities has a way to write its own /proc/sys.

    Any procfs does, wherever it is mounted and whosever pids it shows: what is written is the writer's namespace.
    """
    shielded = _shielded(linux)
    return any(
        "ro" not in mount.options
        and (mount.type == "proc" or _reaches_proc_sys(mount))
        and not (mount.destination == "/proc" and shielded & {"/proc/sys", "/proc"})
        and mount.destination not in shielded
        for mount in mounts
    )


def _shielded(linux: dict[str, Document]) -> set[str]:
    return {
        _plain(path)
        for name in ("readonlyPaths", "maskedPaths")
        for path in list_of(linux, name, "linux.")
        if isinstance(path, str)
    }


def _reaches_proc_sys(mount: Mount) -> bool:
    if mount.source == "/":
        return "rbind" in mount.options
    return mount.source == "/proc" or f"{mount.source}/".startswith("/proc/sys/")


def _annotations(document: dict[str, Document]) -> dict[str, str]:
    found = section_of(document, "annotations")
    texts = {key: text for key, text in found.items() if isinstance(text, str)}
    if len(texts) != len(found):
        raise StateError("cannot use config.json: its 'annotations' is not an object of texts")
    return texts


def _msgqueue_of(document: dict[str, Document]) -> tuple[int, int] | None:
    place = "process.rlimits."
    asked = []
    for each in _objects(section_of(document, "process"), "rlimits", "process."):
        kind = _text(each, "type", place)
        if kind.partition("\0")[0] == MSGQUEUE != kind:
            raise StateError(f"cannot use config.json: its {kind!r} is a limit to crun alone")
        if kind == MSGQUEUE:
            soft, hard = _member(each, "soft", place), _member(each, "hard", place)
            if not _is_whole(soft) or not _is_whole(hard):
                raise StateError(f"cannot use config.json: its {MSGQUEUE} is not {{soft, hard}} in whole numbers")
            asked.append((int(soft), int(hard)))  # type: ignore[arg-type]  # whole
    if len(asked) > 1:
        raise StateError(f"cannot use config.json: its 'process.rlimits' lists {MSGQUEUE} twice")
    return asked[0] if asked else None


def _uid_of(document: dict[str, Document]) -> int:
    user = section_of(section_of(document, "process"), "user", "process.")
    uid = _member(user, "uid", "process.user.")
    return int(uid) if _is_whole(uid) else 0  # type: ignore[arg-type]  # whole; runtimes refuse all else


def _is_whole(number: Document) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _memory_of(linux: dict[str, Document]) -> int | None:
    resources = section_of(linux, "resources", "linux.")
    limit = _member(section_of(resources, "memory", "linux.resources."), "limit", "linux.resources.memory.")
    if isinstance(limit, bool) or not isinstance(limit, int | None):
        raise StateError("cannot use config.json: its 'linux.resources.memory.limit' is not a whole number")
    return limit if limit is not None and limit > 0 else None  # -1 and 0 are how engines write "unlimited"


def _is_privileged(document: dict[str, Document]) -> bool:
    # There is no flag.  This capability is what --privileged gives, and what it takes to undo every other shield.
    capabilities = section_of(section_of(document, "process"), "capabilities", "process.")
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
    folded = name.casefold()
    return [(key, content) for key, content in _pairs(section) if key.partition("\0")[0].casefold() == folded]


def request_of(document: dict[str, Document]) -> Request:
    """Return the governed part of a config.json's `linux.sysctl`, whatever else it says.  Raises `StateError`."""
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
        for name, key, content in governed(table):
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


def governed(table: dict[str, Document]) -> list[tuple[str, str, Document]]:
    """Return what a table says of governed sysctls: (name, key as it is written, content) each."""
    found = []
    for key, content in _pairs(table):
        plain = key.partition("\0")[0].replace("/", ".")
        name = ".".join(part for part in plain.split(".") if part)
        if name in FILES:
            found.append((name, key, content))
    return found
