"""What an engine's own records say of a container: never what its user could have written.

podman and Docker tell hooks and runtimes neither name nor image, in state or config.json; both stand in records of
their own.  Kubernetes' names stand in annotations, which somebody else may have set: they need a record beside them
that says whose container it is.  docs/engines.md has what each engine can tell, and from which document.
"""

from __future__ import annotations

import posix

from ipcwarden.core.documents import parse
from ipcwarden.core.facts import Facts
from ipcwarden.core.names import (
    CRI_NAMESPACE,
    Names,
    cri_names,
    cri_places,
    docker_homes,
    docker_names,
    is_docker_namespace,
    nerdctl_places,
    storage_homes,
    storage_names,
    task_place,
)
from ipcwarden.files import read, unsafe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.spec import Spec

_MAX_RECORDS = 64 << 20
_MAX_NAME = 4096
STORAGE_RECORDS = ("containers.json", "volatile-containers.json")  # since podman 5 the latter has --rm containers
_RUNTIMES = ("runc", "crun", "youki", "kata-runtime", "runsc")


def facts_of(
    container: str, bundle: str, spec: Spec, program: str | None, rootless: bool, trusted: tuple[str, ...] = ()
) -> Facts:
    """Return what is known of a container.

    `program` is the executable that started the hook, or what the wrapper starts; `trusted` are the keys of annotations
    that policy believes, whoever wrote them.
    """
    names = names_of(container, bundle, spec)
    return Facts(
        engine=names.engine,
        runtime=program if program in _RUNTIMES else None,
        name=names.name,
        image=names.image,
        pod=names.pod,
        namespace=names.namespace,
        annotations={key: spec.annotations[key] for key in trusted if key in spec.annotations},
        privileged=spec.privileged,
        user_namespace=spec.user_namespace,
        rootless=rootless,
        ipc=spec.ipc,
        is_sandbox=names.is_sandbox,
    )


def names_of(container: str, bundle: str, spec: Spec) -> Names:
    """Return which engine's container it is, and what that calls it."""
    place = task_place(container, bundle)
    if place is not None and _are_roots(bundle, bundle.rsplit("/", 1)[0], bundle.rsplit("/", 2)[0]):
        state, namespace = place
        if is_docker_namespace(namespace):
            return _docker(container, spec)
        return _containerd(container, state, namespace, spec)
    homes = storage_homes(container, bundle, spec.root_path)
    return _storage(container, homes) if homes else Names("bare", name=container)


def _docker(container: str, spec: Spec) -> Names:
    for home in docker_homes(container, spec.hostname_source, spec.root_path):
        found = docker_names(container, _document(f"{home}/config.v2.json"))
        if found is not None:
            return found
    return Names("docker")


def _containerd(container: str, state: str, namespace: str, spec: Spec) -> Names:
    ordinary, sandbox = cri_places(container, state)
    if namespace == CRI_NAMESPACE and (_are_roots(ordinary) or _are_roots(sandbox)):
        return cri_names(spec.annotations, not _are_roots(ordinary))
    places = nerdctl_places(container, namespace, spec.annotations)
    if places is not None and _are_roots(places[0]):
        _, record, name = places
        return Names("nerdctl", name=name if _word(record) == container else None)
    return Names("containerd", name=container)


def _storage(container: str, homes: list[str]) -> Names:
    found = None
    records: list[Document] = []
    for path in [f"{home}/{file}" for home in homes for file in STORAGE_RECORDS]:
        more = _document(path)
        records += more if isinstance(more, list) else []
        found = storage_names(container, records)
        if found is not None and (found.engine != "cri-o" or found.pod is not None):
            return found
    # Whoever's it is, a bundle that lies here is not simply bare, and whose it is nobody says.
    return found or Names(None)


def _are_roots(*directories: str) -> bool:
    """Tell whether these are directories that only root, or we ourselves, can have made and can write."""
    try:
        return not any(unsafe(posix.lstat(directory)) for directory in directories)
    except (OSError, ValueError):  # annotations name some of them: with a NUL or half a surrogate pair it is no path
        return False


def _document(path: str) -> Document:
    try:
        return parse(read(path, _MAX_RECORDS, trusted=True))
    except (OSError, ValueError):
        return None  # not there, or not the engine's: what is unknown stays unknown


def _word(path: str) -> str:
    try:
        return read(path, _MAX_NAME, trusted=True).decode("utf-8", "replace").strip()
    except (OSError, ValueError):
        return ""
