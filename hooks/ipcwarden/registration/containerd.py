"""containerd's config.toml with and without our wrapper, for its CRI plugin: text in, text out.

Always the file that has the CRI plugin's section, never a drop-in: of two files with one plugin's section containerd
1.x takes the last one whole (mergeConfig in services/server/config/config.go), so that a drop-in of ours would lose all
that the other one says.  And always whole tables: 1.x takes a `runtimes` table in place of its defaults.

ctr, nerdctl and Docker do not read that section.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden.layout import PROGRAMS
from ipcwarden.registration.places import ConfigError
from ipcwarden.registration.tables import append, block, parse, set_string, string_at, table_at, undo, with_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ipcwarden.registration.tables import Path, Table

FILE = ("etc/containerd", "config.toml")
HANDLER = "ipcwarden"
RUNC_SHIM = "io.containerd.runc.v2"
# Where there is no config.toml, containerd 2.2 and later reads these by itself.
_DROP_INS = 'imports = ["conf.d/*.toml"]\n'
# The CRI plugin by the version of the file (docs/PLUGINS.md, docs/cri/config.md).
_PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime", 4: "io.containerd.cri.v1.runtime"}


@dataclass(frozen=True)
class Handler:
    """A runtime handler of the CRI plugin: its name, and the program that the shim runs, empty for runc in its PATH."""

    name: str
    path: str


def default_of(text: str | None) -> Handler:
    """Return the handler that containers get without a RuntimeClass, as it is without us.

    Raises `ValueError` with what is wrong with the file, or why we cannot stand before that handler.
    """
    document = parse(_without_us(text) or "")
    version = _version(document)
    if version is None:
        return Handler("runc", "")
    top = _top(version)
    if string_at(document, (*top, "default_runtime", "runtime_type")):
        raise ConfigError("its 'default_runtime' is older than runtime handlers: use 'default_runtime_name'")
    name = string_at(document, (*top, "default_runtime_name")) or "runc"
    handler = table_at(document, (*top, "runtimes", name))
    kind = handler.get("runtime_type", RUNC_SHIM)
    if kind != RUNC_SHIM:
        raise ConfigError(f"its default handler '{name}' is a '{kind}', which runs no program as runc is run")
    return Handler(name, string_at(document, (*top, "runtimes", name, "options", "BinaryName")))


def register(text: str | None, wrapper: str, handler: str | None, version: int) -> str:
    """Return a config.toml whose default handler runs our wrapper; or that has a handler of its own for that.

    `version` is what a new file gets; None for `text` is no file.  An older registration of ours is replaced.
    Raises `ValueError` with what is wrong with the file.
    """
    before = _without_us(text)
    default = default_of(before)
    if before is None or _version(parse(before)) is None:
        return _new(before, wrapper, handler, version)
    document = parse(before)
    runtimes: Path = (*_top(_version(document) or version), "runtimes")
    there = table_at(document, runtimes)
    if handler is None:
        if default.name in there:
            return set_string(before, (*runtimes, default.name, "options", "BinaryName"), wrapper)
        tables = {default.name: _runtime({}, wrapper)}
    else:
        if handler in there:
            raise ConfigError(f"it has a handler '{handler}' that is none of ours")
        tables = {} if default.name in there else {default.name: _runtime({})}
        tables[handler] = _runtime(there.get(default.name, {}), wrapper)
    added = "".join(block((*runtimes, name), table) for name, table in tables.items())
    return append(before, added, with_value(document, runtimes, {**there, **tables}))


def unregister(text: str) -> str | None:
    """Return a config.toml without our wrapper; None where there was no file.  Raises as `register` does."""
    return _without_us(text)


def registered(text: str) -> list[Handler]:
    """Return the handlers that run a wrapper of ours.  Raises `ValueError`."""
    document = parse(text)
    version = _version(document)
    runtimes = table_at(document, (*_top(version), "runtimes")) if version else {}
    found = [Handler(name, string_at(runtimes, (name, "options", "BinaryName"))) for name in runtimes]
    return [handler for handler in found if f"/{PROGRAMS}/" in handler.path]


def default_name(text: str) -> str:
    """Return the name of the handler that containers get without a RuntimeClass.  Raises `ValueError`."""
    document = parse(text)
    version = _version(document)
    return (string_at(document, (*_top(version), "default_runtime_name")) if version else "") or "runc"


def imports(text: str) -> list[str]:
    """Return the files, or patterns, that containerd reads after this one.  Raises `ValueError`."""
    named = parse(text).get("imports", [])
    return [each for each in named if isinstance(each, str)] if isinstance(named, list) else []


def overrides(text: str, version: int) -> bool:
    """Tell whether an imported file has a say in the runtimes of a file of that version.  Raises `ValueError`."""
    plugins = table_at(parse(text), ("plugins",))
    if version == 2:
        return _PLUGINS[2] in plugins
    return any("containerd" in table_at(plugins, (name,)) for name in _PLUGINS.values())


def version_of(text: str) -> int | None:
    """Return the version that the file says it has; None where it says nothing at all.  Raises `ValueError`."""
    return _version(parse(text))


def _without_us(text: str | None) -> str | None:
    if text is None:
        return None
    before = undo(text)
    # What does not name us is nobody's business here, whatever is wrong with it.
    left = registered(before) if before is not None and f"/{PROGRAMS}/" in before else []
    if left:
        raise ConfigError(
            f"its handler '{left[0].name}' runs ipcwarden's wrapper, but what install wrote beside that is gone: "
            "put back the BinaryName that it had"
        )
    return before


def _version(document: Table) -> int | None:
    if not document:
        return None
    disabled = document.get("disabled_plugins")
    if isinstance(disabled, list) and {"cri", *_PLUGINS.values()} & {
        each for each in disabled if isinstance(each, str)
    }:
        raise ConfigError("its disabled_plugins has the CRI plugin, so that it would govern nothing")
    version = document.get("version")
    if not isinstance(version, int) or version not in _PLUGINS:
        said = "no version" if version is None else f"version {version!r}"
        raise ConfigError(f"it has {said}: containerd config migrate writes one that has version 2 or later")
    return version


def _top(version: int) -> Path:
    return ("plugins", _PLUGINS[version], "containerd")


def _new(before: str | None, wrapper: str, handler: str | None, version: int) -> str:
    tables = {"runc": _runtime({}), handler or "runc": _runtime({}, wrapper)}
    runtimes = (*_top(version), "runtimes")
    added = "".join(block((*runtimes, name), table) for name, table in tables.items())
    head = f"version = {version}\n{_DROP_INS if version > 2 else ''}\n"
    return append(before, head + added, parse(head + added))


def _runtime(like: Any, wrapper: str = "") -> Table:
    """Return a handler as another one is, but with our wrapper."""
    table = {"runtime_type": RUNC_SHIM, **(like if isinstance(like, dict) else {})}
    return {**table, "options": {**table.get("options", {}), "BinaryName": wrapper}} if wrapper else table
