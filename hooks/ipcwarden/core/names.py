"""What engines' documents say of a container: which documents to ask, and what to take from them.

Who sets a container up can write most of config.json, its annotations above all.  So an annotation is believed only
where the engine has the last word on it, and a record only where it names this very container.
"""

from __future__ import annotations

from ipcwarden.core.documents import parse
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

CRI_NAMESPACE = "k8s.io"
_TASKS = "io.containerd.runtime.v2.task"
_CRI = "io.kubernetes.cri."
_CRI_STATE = "io.containerd.grpc.v1.cri"  # containerd 2 splits the plugin that had this name, and keeps its directory
_ID_LENGTH = 64
_DOCKER_NAMESPACES = ("moby", "plugins.moby")


@value
class Names:
    """What an engine calls a container.  None is unknown, or the container has no such thing.

    `pod` and `namespace` are Kubernetes'.  A sandbox holds a pod's namespaces and nothing else: it has neither name nor
    image of its own.
    """

    engine: str | None
    name: str | None = None
    image: str | None = None
    pod: str | None = None
    namespace: str | None = None
    is_sandbox: bool = False


def task_place(container: str, bundle: str) -> tuple[str, str] | None:
    """Return containerd's state directory and the containerd namespace, where a bundle lies as its tasks' do."""
    parts = bundle.rsplit("/", 3)
    return (parts[0], parts[2]) if len(parts) == 4 and (parts[1], parts[3]) == (_TASKS, container) else None


def is_docker_namespace(namespace: str) -> bool:
    """Tell whether containerd's namespace is Docker's: with userns-remap it has the remapped root's ids behind it."""
    plain, _, ids = namespace.partition("-")
    return plain in _DOCKER_NAMESPACES and (ids.replace(".", "", 1).isdigit() or namespace == plain)


def cri_places(container: str, state: str) -> tuple[str, str]:
    """Return where containerd's CRI keeps a directory for this container, and where, if it is a pod's sandbox."""
    return f"{state}/{_CRI_STATE}/containers/{container}", f"{state}/{_CRI_STATE}/sandboxes/{container}"


def cri_names(annotations: dict[str, str], is_sandbox: bool) -> Names:
    """Return what containerd's CRI says of a container of its own, in annotations that it writes last."""
    return Names(
        engine="containerd",
        name=None if is_sandbox else annotations.get(f"{_CRI}container-name") or None,
        image=None if is_sandbox else annotations.get(f"{_CRI}image-name") or None,
        pod=annotations.get(f"{_CRI}sandbox-name") or None,
        namespace=annotations.get(f"{_CRI}sandbox-namespace") or None,
        is_sandbox=is_sandbox,
    )


def cri_memory(annotations: dict[str, str]) -> int | None:
    """Return the memory in bytes that containerd's CRI says a pod may use, in its sandbox's annotations."""
    text = annotations.get(f"{_CRI}sandbox-memory", "")
    return int(text) if text.isascii() and text.isdigit() and text.strip("0") else None


def docker_homes(container: str, hostname_source: str, root_path: str) -> list[str]:
    """Return where Docker may keep a container's files: below its data-root, or with what it mounts on /etc/hostname.

    A user may have something else mounted there, but never moves the root file system.
    """
    data_root = three_above(root_path)
    beside, _, file = hostname_source.rpartition("/")
    homes = [f"{data_root}/containers/{container}"] if data_root else []
    if file == "hostname" and beside.endswith(f"/containers/{container}") and beside not in homes:
        homes.append(beside)
    return homes


def docker_names(container: str, document: Document) -> Names | None:
    """Return what config.v2.json says, where it is this container's."""
    if not isinstance(document, dict) or document.get("ID") != container:
        return None
    config = document.get("Config")
    name = _text_in(document, "Name")
    return Names("docker", name.removeprefix("/") if name else None, _text_in(config, "Image"))


def nerdctl_places(container: str, namespace: str, annotations: dict[str, str]) -> tuple[str, str, str] | None:
    """Return where nerdctl would keep this container's files, where it would store its name, and that name.

    The annotations are only claims.  The file of a name holds the id of the one container that has it.
    """
    home = annotations.get("nerdctl/state-dir", "")
    name = annotations.get("nerdctl/name", "")
    below = f"/containers/{namespace}/{container}"
    if not home.startswith("/") or not home.endswith(below) or "/" in name or name in ("", ".", ".."):
        return None
    return home, f"{home.removesuffix(below)}/names/{namespace}/{name}", name


def storage_homes(container: str, bundle: str, root_path: str) -> list[str]:
    """Return where the storage library of podman and CRI-O may keep its records, where a bundle lies as theirs do.

    podman's bundles lie beside the records; CRI-O's below its runroot, while the records are below its graphroot.
    """
    home, _, rest = bundle.rpartition(f"/{container}/")
    name = home.rpartition("/")[2]
    if rest != "userdata" or not name.endswith("-containers"):
        return []
    graph_root = three_above(root_path)
    return list(dict.fromkeys([home, *([f"{graph_root}/{name}"] if graph_root else [])]))


def storage_bundles(root_path: str, cgroups_path: str, sources: dict[str, str]) -> list[tuple[str, str]]:
    """Return which container of podman's a config.json may be of, as (id, bundle), the likeliest first.

    podman hands it over without saying.  It names its cgroup `libpod-ID` or `SLICE:libpod:ID`, and mounts files from
    the container's directories: what `sources` has, by destination.  Some of these are below its runroot, where no
    bundle is; the root file system is no help where it is not in podman's storage (--rootfs).
    """
    parts, data_root = root_path.rsplit("/", 3), three_above(root_path)
    homes = [f"{data_root}/{parts[1]}-containers"] if data_root else []
    names = [cgroups_path.rpartition("/")[2].rpartition("libpod")[2][1:].removesuffix(".scope")]
    for destination in ("/run/.containerenv", "/etc/hostname", *sources):
        beside, marker, _ = sources.get(destination, "").rpartition("/userdata/")
        home, _, name = beside.rpartition("/")
        if marker and home.startswith("/") and home.endswith("-containers"):
            homes.append(home)
            # The others are those of whichever container it shares them with.
            names += [name] if destination in ("/run/.containerenv", "/etc/hostname") else []
    ids = dict.fromkeys(name for name in names if len(name) == _ID_LENGTH and not name.strip("0123456789abcdef"))
    return [(name, f"{home}/{name}/userdata") for name in ids for home in dict.fromkeys(homes)]


def storage_names(container: str, records: list[Document]) -> Names | None:
    """Return what the storage library's records say of a container; None where they do not have it."""
    record = _record_of(container, records)
    if record is None:
        return None
    about = _metadata(record)
    pod_id = _text_in(about, "pod-id")
    if pod_id is None or _text_in(about, "pod-name") is None:
        names = record.get("names")
        name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
        return Names("podman", name, _text_in(about, "image-name"))
    pod = _metadata(_record_of(pod_id, records) or {})
    is_sandbox = pod_id == container
    return Names(
        engine="cri-o",
        name=None if is_sandbox else _text_in(about, "metadata-name"),
        image=None if is_sandbox else _text_in(about, "image-name"),
        pod=_text_in(pod, "metadata-name"),
        namespace=_text_in(pod, "namespace"),
        is_sandbox=is_sandbox,
    )


def three_above(path: str) -> str:
    """Return what lies three directories above a container's root file system: where all of an engine's data is.

    All storage drivers of Docker and of the storage library have this depth: overlay/LAYER/merged, vfs/dir/LAYER.
    """
    parts = path.rsplit("/", 3)
    return parts[0] if len(parts) == 4 and path.startswith("/") else ""


def _record_of(container: str, records: list[Document]) -> dict[str, Document] | None:
    for record in records:
        if isinstance(record, dict) and record.get("id") == container:
            return record
    return None


def _metadata(record: dict[str, Document]) -> Document:
    try:
        return parse(str(record.get("metadata", "")).encode("utf-8", "replace"))
    except ValueError:
        return None


def _text_in(document: Document, key: str) -> str | None:
    found = document.get(key) if isinstance(document, dict) else None
    return found if isinstance(found, str) and found else None
