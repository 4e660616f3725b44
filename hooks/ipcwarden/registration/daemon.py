"""Docker's daemon.json with and without our runtime: text in, text out.

What others wrote stays as it was written, and `unregister` undoes `register` to the byte.  What it needs for that is
kept in our runtime's own entry: of a member at the top dockerd would say that it knows no such directive, and not start
(findConfigurationConflicts in moby's daemon/config/config.go, 20.10 to 29); inside of an entry it ignores what it does
not know.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ipcwarden.core.documents import parse
from ipcwarden.layout import PROGRAMS
from ipcwarden.registration.places import ConfigError, check_keys, insert, look, remove, replace, style_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.registration.places import Child, Style

FILE = ("etc/docker", "daemon.json")
NAME = "ipcwarden"
DATA_ROOT = "/var/lib/docker"
# dockerd's own names for the runc that it finds (daemon/runtime_unix.go): they can have no entry.
STOCK = ("runc", "io.containerd.runc.v2")
_RUNTIMES, _DEFAULT = "runtimes", "default-runtime"
_WAS = "ipcwarden.was"
_EMPTY = "{}\n"
_LAYOUT = '{\n    "as": "Docker\'s documentation has it"\n}'


@dataclass(frozen=True)
class Registered:
    """What a daemon.json says of us: the program, and whether containers get it that name no runtime."""

    path: str
    is_default: bool


@dataclass(frozen=True)
class Default:
    """The runtime that containers get without us: its name, and its program, None where that is dockerd's affair."""

    name: str
    path: str | None
    arguments: tuple[str, ...] = ()


def register(text: str | None, wrapper: str, default: bool, arguments: tuple[str, ...] = ()) -> str:
    """Return a daemon.json with our runtime; None is no file.  An older registration of ours is replaced.

    dockerd puts `arguments` before the runtime's own.  Raises `ValueError` with what is wrong with the file.
    """
    before = None if text is None else unregister(text)
    was: dict[str, Document] = {}
    if before is None or not _holds_something(before):
        was["text"] = before
    after = before if before and before.strip() else _EMPTY
    style = style_of(after if _holds_something(after) else _LAYOUT)
    top = look(after)
    current = _member(after, _DEFAULT)
    entry: dict[str, Document] = {"path": wrapper, **({"runtimeArgs": list(arguments)} if arguments else {})}
    if default:
        if current is None:
            after = insert(after, top, len(top.children), (_DEFAULT, NAME), style)
        else:
            was[_DEFAULT] = _value(after, current)
            after = replace(after, current, NAME, style)
    runtimes = _member(after, _RUNTIMES)
    if runtimes is None or not _value(after, runtimes):
        if runtimes is not None:
            was[_RUNTIMES] = _value(after, runtimes)
        entry = {**entry, _WAS: was} if was else entry
        if runtimes is not None:
            return replace(after, runtimes, {NAME: entry}, style)
        top = look(after)
        return insert(after, top, len(top.children), (_RUNTIMES, {NAME: entry}), style)
    entry = {**entry, _WAS: was} if was else entry
    listed = look(after, runtimes.value)
    return insert(after, listed, len(listed.children), (NAME, entry), style)


def unregister(text: str) -> str | None:
    """Return a daemon.json without our runtime; None where there was no file.  Raises as `register` does."""
    entry = _ours(text)
    if entry is None:
        return text
    was = _memory(entry)
    style = style_of(text)
    runtimes = _member(text, _RUNTIMES)
    assert runtimes is not None
    listed = look(text, runtimes.value)
    if len(listed.children) > 1:
        text = remove(text, listed, _index(listed.children, NAME))
    elif _RUNTIMES in was:
        text = replace(text, runtimes, {} if was[_RUNTIMES] is not None else None, style)
    else:
        top = look(text)
        text = remove(text, top, _index(top.children, _RUNTIMES))
    text = _restore_default(text, was, style)
    if _holds_something(text) or "text" not in was:
        return text
    before = was["text"]
    return before if isinstance(before, str) and not _holds_something(before) else None


def _restore_default(text: str, was: dict[str, Document], style: Style) -> str:
    place = _member(text, _DEFAULT)
    if place is None or _value(text, place) != NAME:
        return text  # somebody has chosen another one since
    old = was.get(_DEFAULT)
    if _DEFAULT in was and (old is None or isinstance(old, str)):
        return replace(text, place, old, style)
    top = look(text)
    return remove(text, top, _index(top.children, _DEFAULT))


def without_default(text: str) -> str:
    """Return a daemon.json that keeps our runtime for the containers made with it, and gives it to no others."""
    entry = _ours(text)
    return text if entry is None else _restore_default(text, _memory(entry), style_of(text))


def registered(text: str) -> Registered | None:
    """Return what the file says of us.  Raises as `register` does."""
    entry = _ours(text)
    if entry is None:
        return None
    place = _member(text, _DEFAULT)
    return Registered(str(entry.get("path", "")), place is not None and _value(text, place) == NAME)


def default_of(text: str) -> Default:
    """Return the default runtime that the file names.  Raises as `register` does.

    `path` is empty where the runtime is a shim that runs no program as runc is run.
    """
    document = _checked(text) if text.strip() else {}
    name = document.get(_DEFAULT) or STOCK[0]
    assert isinstance(name, str)
    runtimes = document.get(_RUNTIMES) or {}
    assert isinstance(runtimes, dict)
    entry = runtimes.get(name)
    if not isinstance(entry, dict):
        return Default(name, None if name in STOCK else "")
    path, arguments = entry.get("path"), entry.get("runtimeArgs")
    return Default(
        name,
        path if isinstance(path, str) else "",
        tuple(map(str, arguments)) if isinstance(arguments, list) else (),
    )


def data_root(text: str) -> str:
    """Return the directory of dockerd's own records."""
    root = (_checked(text) if text.strip() else {}).get("data-root")
    return root if isinstance(root, str) and root else DATA_ROOT


def _checked(text: str) -> dict[str, Document]:
    document = parse(text.encode())
    if not isinstance(document, dict):
        raise ConfigError("it is not an object")
    check_keys(document, (_RUNTIMES, _DEFAULT, "data-root"))
    runtimes = document.get(_RUNTIMES)
    if not isinstance(runtimes, dict | None):
        raise ConfigError(f"its '{_RUNTIMES}' is not an object")
    check_keys(runtimes or {}, (NAME,))
    if not isinstance(document.get(_DEFAULT), str | None):
        raise ConfigError(f"its '{_DEFAULT}' is not a string")
    return document


def _ours(text: str) -> dict[str, Document] | None:
    runtimes = (_checked(text) if text.strip() else {}).get(_RUNTIMES)
    if not isinstance(runtimes, dict) or NAME not in runtimes:
        return None
    entry = runtimes[NAME]
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(path, str) or f"/{PROGRAMS}/" not in path:
        raise ConfigError(f"it has a runtime '{NAME}' that is none of ours")
    return entry


def _memory(entry: dict[str, Document]) -> dict[str, Document]:
    memory = entry.get(_WAS)
    return memory if isinstance(memory, dict) else {}


def _holds_something(text: str) -> bool:
    return bool(text.strip() and look(text).children)


def _member(text: str, name: str) -> Child | None:
    return look(text).named(name)


def _index(children: tuple[Child, ...], key: str) -> int:
    return next(index for index, child in enumerate(children) if child.key == key)


def _value(text: str, child: Child) -> Document:
    value: Document = json.loads(text[child.value : child.end])
    return value
