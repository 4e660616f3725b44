"""A container's /dev/shm where the host sees it: noted at its creation, listed at its end, never changed."""

from __future__ import annotations

from ipcwarden.core.ranges import numbers_in, ranges_of
from ipcwarden.core.shmfiles import SHM, files_document, shm_source
from ipcwarden.host.procfs import real_path
from ipcwarden.host.tmpfs import open_shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.core.spec import Spec


def shm_noted(spec: Spec) -> dict[str, Document]:
    """Return what the ledger notes of what is bound to /dev/shm, if anything, and if it is not the host's own.

    With `path` goes `baseline`, the inode numbers that are there already, where that are any or others may be there.
    """
    source = shm_source(spec.mounts)
    path = (real_path(source) or source) if source else ""
    if not path or f"{path}/".startswith(f"{SHM}/"):
        return {}
    noted: dict[str, Document] = {"path": path}
    shelf = open_shelf(path)
    if shelf is not None:
        inodes = [file.inode for file in shelf.files()]
        shelf.close()
        if inodes or spec.ipc != "private":
            noted["baseline"] = ranges_of(inodes)
    return {"dev_shm": noted}


def shm_seen(document: dict[str, Document]) -> dict[str, Document]:
    """Return what a record says of what an entry noted; nothing where that is not to be seen any more."""
    noted = document.get("dev_shm")
    path = str(noted.get("path")) if isinstance(noted, dict) else ""
    shelf = open_shelf(path)
    if shelf is None or not isinstance(noted, dict):
        return {}
    try:
        found = files_document(shelf.files(), numbers_in(noted["baseline"]) if "baseline" in noted else None)
    finally:
        shelf.close()
    return {"dev_shm": {"path": path, "partial": shelf.partial, **found}}
