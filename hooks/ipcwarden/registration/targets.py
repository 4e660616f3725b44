"""What install and uninstall are about to change: read from the files that are there, not yet changed."""

from __future__ import annotations

import os

from ipcwarden.errors import StateError, why
from ipcwarden.registration import bundle, hooksd
from ipcwarden.registration.changes import Change, Directory
from ipcwarden.registration.entry import RegistrationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.registration.entry import Registration

_CONFIG = "config.json"


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


def _read(directory: Directory, name: str) -> bytes | None:
    try:
        return directory.read(name)
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else error
        raise RegistrationError(f"cannot read '{directory.path}/{name}': {reason}", "move it away") from error


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == 40 else why(error)  # ELOOP: links are never followed
