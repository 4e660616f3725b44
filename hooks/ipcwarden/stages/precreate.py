"""precreate (oci-hooks(5)): podman hands over config.json before the runtime reads it, and takes what it gets back.

Nobody sees what this stage says.  What cannot be decided here is handed back as it came: the creation stage decides
again, and says so.
"""

from __future__ import annotations

import posix

from ipcwarden.core.names import storage_bundles
from ipcwarden.core.spec import spec_of
from ipcwarden.errors import DeadlineError, RecordError, StateError, WardenError, why
from ipcwarden.files import read_all, unsafe
from ipcwarden.host.engines import STORAGE_RECORDS
from ipcwarden.stages.native import amend, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.stages.site import Site

_MAX_CONFIG_BYTES = 64 << 20  # whatever it is, podman wants it back


def take_config() -> bytes:
    """Return what podman hands over on standard input.  Raises `StateError`."""
    try:
        return read_all(0, _MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read config.json on stdin: {error}") from error


def precreate(site: Site, data: bytes) -> bytes:
    """Return the config.json that podman is to go on with.  Raises `PolicyError` and other faults of the host's."""
    try:
        return data if site.is_disabled() else _amended(site, data)
    except WardenError as error:
        if error.of_host:
            raise
        return data


def _amended(site: Site, data: bytes) -> bytes:
    policy = site.policy()
    document: dict[str, Document] = {}
    try:
        document = parse_config(data)
        spec = spec_of(document)
        sources = {mount.destination: mount.source for mount in spec.mounts}
        for container, bundle in storage_bundles(spec.root_path, spec.cgroups_path, sources):
            if _is_podmans(bundle):
                return amend(site, policy, container, bundle, document, None, {})
    except (DeadlineError, StateError, RecursionError, MemoryError, ValueError):
        pass  # what takes that long to read, or cannot be, was made to
    return _marked(site, document) or data


def _marked(site: Site, document: dict[str, Document]) -> bytes:
    """Return config.json with nothing changed but that our hooks are told of us; nothing where that cannot be done.

    What is not decided here has not been made sure of either (the filter): the creation stage is to know.
    """
    try:
        return amend(site, None, "", "", document, None, {}) if document else b""
    except (DeadlineError, StateError, RecursionError, MemoryError, ValueError):
        return b""


def _is_podmans(bundle: str) -> bool:
    """Tell whether a bundle is there that only root, or we ourselves, can have made, below records of podman's.

    It belongs to the container's root where there is a user namespace; but not the directory of all.
    """
    home = bundle.rsplit("/", 2)[0]
    return _is_ours(home) and _is_there(bundle) and any(_is_ours(f"{home}/{name}") for name in STORAGE_RECORDS)


def _is_ours(path: str) -> bool:
    try:
        return not unsafe(posix.lstat(path))
    except (OSError, ValueError):
        return False


def _is_there(path: str) -> bool:
    try:
        posix.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def hand_back(data: bytes) -> None:
    """Give podman a config.json on standard output.  Raises `RecordError`."""
    try:
        while data:
            data = data[posix.write(1, data) :]
    except OSError as error:
        raise RecordError(f"cannot hand config.json back: {why(error)}") from error
