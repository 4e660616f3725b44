"""What install and uninstall are about to change: read from the files that are there, not yet changed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ipcwarden.errors import StateError, why
from ipcwarden.registration import bundle, hooksd
from ipcwarden.registration.changes import Change, Directory
from ipcwarden.registration.entry import RegistrationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    from ipcwarden.registration.entry import Registration

    P = ParamSpec("P")
    T = TypeVar("T")

_CONFIG = "config.json"
_BACKUP = ".ipcwarden-backup"


@dataclass(frozen=True)
class ConfigFile:
    """An engine's own configuration, which we edit; `text` is None where there is no file."""

    directory: Directory
    name: str
    text: str | None

    @property
    def path(self) -> str:
        """The file's path."""
        return f"{self.directory.path}/{self.name}"

    def judged(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function on the file's text.  Raises `RegistrationError` with what it finds wrong with the file."""
        try:
            return function(*arguments, **options)
        except ValueError as error:
            raise RegistrationError(f"cannot edit '{self.path}': {error}", "nothing was changed") from error

    def changes(self, before: str | None, after: str | None) -> list[Change]:
        """Return what makes the file say what comes `after`; `before` is what it said before any registration.

        The backup, of a file as it was before we edited it, comes first, and goes when nothing of the edit is left.
        """
        changes = []
        backup = _read(self.directory, f"{self.name}{_BACKUP}")
        if after != self.text:
            changes.append(Change(self.directory, self.name, _encoded(self.text), _encoded(after)))
        if before == self.text and after != self.text and before is not None and backup != _encoded(before):
            new = Change(self.directory, f"{self.name}{_BACKUP}", backup, _encoded(before), copy_of=self.name)
            changes.insert(0, new)
        if backup is not None and backup == _encoded(after):
            changes.append(Change(self.directory, f"{self.name}{_BACKUP}", backup, None))
        return changes


def config_file(root: str, default: tuple[str, str], named: str | None) -> ConfigFile:
    """Read an engine's configuration: the file that is named, or the default one.  Raises `RegistrationError`."""
    if named is None:
        directory, name = Directory(root, default[0]), default[1]
    else:
        above, name = os.path.split(named)
        directory = Directory(*os.path.split(above))
    content = _read(directory, name, "name the file itself with --config")
    try:
        text = None if content is None else content.decode("utf-8")
    except ValueError as error:
        raise RegistrationError(f"cannot edit '{directory.path}/{name}': {error}", "nothing was changed") from error
    return ConfigFile(directory, name, text)


def bundle_changes(path: str, registration: Registration | None) -> list[Change]:
    """Return how a bundle's config.json changes; without a registration, ours is taken out.  Raises `StateError`."""
    directory = Directory(path)
    try:
        before = directory.read(_CONFIG)
        if before is None:
            raise StateError(f"cannot edit '{path}/{_CONFIG}': there is none", "is this a bundle? runc spec makes one")
        text = before.decode("utf-8")
        after = (bundle.unregister(text) if registration is None else bundle.register(text, registration)).encode()
    except OSError as error:
        raise StateError(f"cannot edit '{path}/{_CONFIG}': {_reason(error)}") from error
    except ValueError as error:
        raise StateError(f"cannot edit '{path}/{_CONFIG}': {error}", "nothing was changed") from error
    return [Change(directory, _CONFIG, before, after)] if before != after else []


def podman_changes(root: str, hooks_dir: str | None, registration: Registration | None) -> list[Change]:
    """Return how a hooks.d directory changes; without a registration, our files go.  Raises `RegistrationError`."""
    directory = Directory(root, hooksd.DIRECTORY) if hooks_dir is None else Directory(*os.path.split(hooks_dir))
    present = {name: _read(directory, name) for name in hooksd.NAMES}
    foreign = [name for name, content in present.items() if content is not None and not hooksd.is_ours(content)]
    if registration is None:
        ours = [name for name, content in present.items() if content is not None and name not in foreign]
        return [Change(directory, name, present[name], None) for name in ours]
    for name in foreign:
        raise RegistrationError(
            f"cannot write '{directory.path}/{name}': a file of that name is there, and does not register ipcwarden",
            "move it away, or name another directory with --hooks-dir",
        )
    documents = hooksd.documents(registration)
    changes = [Change(directory, name, present[name], documents[name]) for name in reversed(hooksd.NAMES)]
    return [change for change in changes if change.before != change.after]


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _read(directory: Directory, name: str, hint: str = "move it away") -> bytes | None:
    try:
        return directory.read(name)
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else error
        raise RegistrationError(f"cannot read '{directory.path}/{name}': {reason}", hint) from error


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == 40 else why(error)  # ELOOP: links are never followed
