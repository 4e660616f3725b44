"""Files of a hooks.d directory (oci-hooks(5), version 1.0.0), which podman and CRI-O read: one a stage."""

from __future__ import annotations

import json

from ipcwarden.core.documents import parse
from ipcwarden.registration import entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.registration.entry import Registration

# The one that engines read without being told.  podman (seen with 4.3.1) reads the one in /etc only where its
# configuration names it: files there would govern nothing, silently.
DIRECTORY = "usr/share/containers/oci/hooks.d"
_CREATE, _POSTSTART, _POSTSTOP = (f"10-ipcwarden-{part}.json" for part in ("create", "poststart", "poststop"))
# In the order of a container's life.  To be written in the other order and removed in this one: a container that starts
# in between may then have a poststop without a creation, which is silent, but never a pin without a poststop.
NAMES = (_CREATE, _POSTSTART, _POSTSTOP)
# In a directory of its own: see containersconf.
PRECREATE = "10-ipcwarden-precreate.json"


def documents(registration: Registration) -> dict[str, bytes]:
    """Return the files' contents by name."""
    return {name: _document(registration, stage) for name, stage in zip(NAMES, registration.stages, strict=True)}


def precreate_document(registration: Registration) -> bytes:
    """Return the content of the file for podman's own stage, before the runtime reads config.json."""
    return _document(registration, "precreate")


def _document(registration: Registration, stage: str) -> bytes:
    document = {
        "version": "1.0.0",
        "hook": registration.entry(stage),
        "when": {"always": True},
        "stages": [stage],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def is_ours(content: bytes) -> bool:
    """Tell whether a file registers ipcwarden's hook."""
    try:
        document: Document = parse(content)
    except ValueError:
        return False
    return isinstance(document, dict) and entry.is_ours(document.get("hook"))
