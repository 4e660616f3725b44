"""CRI-O's drop-in with our runtime (crio.conf(5), crio.conf.d(5)), beside the configuration that others wrote.

CRI-O reads crio.conf first, then every file of crio.conf.d in the order of their names; the last word counts, and
runtimes are added to those that are there.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden.layout import PROGRAMS
from ipcwarden.registration.places import ConfigError
from ipcwarden.registration.tables import block, parse, string_at, table_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipcwarden.registration.tables import Table

DIRECTORY, NAME = "etc/crio/crio.conf.d", "10-ipcwarden.conf"
MAIN = ("etc/crio", "crio.conf")
HANDLER = "ipcwarden"
_RUNTIME = ("crio", "runtime")
_RUNTIMES = (*_RUNTIME, "runtimes")
_HEAD = "# Written by ipcwarden install crio; ipcwarden uninstall crio removes it.\n"


@dataclass(frozen=True)
class Default:
    """The handler that pods get without us: its name, empty if no file says, and all that files say of it."""

    name: str
    members: Table

    @property
    def path(self) -> str:
        """Its program, empty where CRI-O looks for one of its name."""
        path = self.members.get("runtime_path", "")
        return path if isinstance(path, str) else ""


def default_of(texts: Sequence[str]) -> Default:
    """Return the default handler by configurations in the order in which CRI-O reads them, without ours.

    Raises `ValueError` with what is wrong with them, or why we cannot stand before that handler.
    """
    documents = [parse(text) for text in texts]
    name = ""
    for document in documents:
        name = string_at(document, (*_RUNTIME, "default_runtime")) or name
    members: Table = {}
    for document in documents:
        members |= table_at(document, (*_RUNTIMES, name)) if name else {}
    kind = members.get("runtime_type") or "oci"
    if kind != "oci":
        raise ConfigError(f"its default handler '{name}' is of type '{kind}', which runs no program as runc is run")
    return Default(name, members)


def document(wrapper: str, handler: str | None, default: Default, runtime: str) -> str:
    """Return the drop-in: a handler like the default one but for the program, named or as the new default.

    `runtime` is the name of the runtime behind the wrapper: its containers stay where they are looked for.
    """
    name = handler or HANDLER
    members = {"runtime_type": "oci", "runtime_root": f"/run/{runtime}", **default.members, "runtime_path": wrapper}
    chosen = "" if handler else block(_RUNTIME, {"default_runtime": name}) + "\n"
    return f"{_HEAD}\n{chosen}{block((*_RUNTIMES, name), members)}"


def registered(text: str) -> dict[str, str]:
    """Return the handlers of a file that run a wrapper of ours, with its path.  Raises `ValueError`."""
    runtimes = table_at(parse(text), _RUNTIMES)
    found = {name: string_at(runtimes, (name, "runtime_path")) for name in runtimes}
    return {name: path for name, path in found.items() if f"/{PROGRAMS}/" in path}


def overrides(text: str, handler: str | None) -> bool:
    """Tell whether a file that is read after ours takes back what ours says.  Raises `ValueError`."""
    document = parse(text)
    chosen = string_at(document, (*_RUNTIME, "default_runtime"))
    return (handler is None and chosen != "") or (handler or HANDLER) in table_at(document, _RUNTIMES)
