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
from ipcwarden.stages.native import amend, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.stages.site import Site

_MAX_CONFIG_BYTES = 64 << 20  # whatever it is, podman wants it back


def precreate(site: Site, allow: bool) -> None:
    """Handle one container's config.json: standard input to standard output.

    Raises `PolicyError` and other faults of the host's, unless these are to be allowed: then nothing is handed back.
    """
    try:
        data = read_all(0, _MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read config.json on stdin: {error}") from error
    try:
        after = data if site.is_disabled() else _amended(site, data)
    except WardenError as error:
        if error.of_host and not allow:
            raise
        after = data
    _hand_back(after)


def _amended(site: Site, data: bytes) -> bytes:
    policy = site.policy()
    try:
        document = parse_config(data)
        spec = spec_of(document)
        for container, bundle in storage_bundles(spec.root_path, spec.cgroups_path, spec.hostname_source):
            if _is_there(bundle):
                return amend(site, policy, container, bundle, document, None, {})
    except DeadlineError:
        pass  # what takes that long to read was made to
    return data


def _is_there(bundle: str) -> bool:
    try:
        return not unsafe(posix.lstat(bundle))
    except OSError:
        return False


def _hand_back(data: bytes) -> None:
    try:
        while data:
            data = data[posix.write(1, data) :]
    except OSError as error:
        raise RecordError(f"cannot hand config.json back: {why(error)}") from error
