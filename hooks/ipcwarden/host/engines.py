"""What an engine's own records say of a container: never what its user could have written.

podman (4 and 5) tells hooks neither name nor image, in state or config.json; both stand in the storage library's
containers.json, two levels above the bundle, or, for --rm containers of podman 5, in volatile-containers.json.
"""

from __future__ import annotations

from ipcwarden.core.documents import parse
from ipcwarden.core.facts import Facts
from ipcwarden.files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.spec import Spec

_MAX_RECORDS = 64 << 20
_RUNTIMES = ("runc", "crun", "youki", "kata-runtime", "runsc")


def facts_of(container: str, bundle: str, spec: Spec, program: str | None, rootless: bool) -> Facts:
    """Return what is known of a container; `program` is the executable that started the hook."""
    runtime = program if program in _RUNTIMES else None
    name: str | None = container
    image: str | None = None
    record = _podman_record(container, bundle)
    if record is not None:
        name, image = _name(record), _image(record)
    return Facts(
        engine="bare" if record is None else "podman",
        runtime=runtime,
        name=name,
        image=image,
        privileged=spec.privileged,
        user_namespace=spec.user_namespace,
        rootless=rootless,
        ipc=spec.ipc,
    )


def _podman_record(container: str, bundle: str) -> dict[str, Document] | None:
    above, _, rest = bundle.rpartition(f"/{container}/")
    if rest != "userdata":
        return None
    found: dict[str, Document] | None = None
    for file in ("containers.json", "volatile-containers.json"):
        try:
            records = parse(read(f"{above}/{file}", _MAX_RECORDS, trusted=True))
        except (OSError, ValueError):
            continue  # not there, not the engine's, or being written: what is unknown stays unknown
        found = found or {}
        for record in records if isinstance(records, list) else []:
            if isinstance(record, dict) and record.get("id") == container:
                return record
    return found


def _name(record: dict[str, Document]) -> str | None:
    names = record.get("names")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def _image(record: dict[str, Document]) -> str | None:
    try:
        about = parse(str(record.get("metadata", "")).encode("utf-8", "replace"))
    except ValueError:
        return None
    image = about.get("image-name") if isinstance(about, dict) else None
    return image if isinstance(image, str) and image else None
