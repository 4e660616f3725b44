"""What could have changed a container's limits after they had been put in force, as far as its entry tells."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document


def causes_of(entry: dict[str, Document], shared: bool) -> list[Document]:
    """Return a record's `causes`, the likeliest first; `shared` tells that others have been in the namespace.

    `writable_proc_sys`: the container can write /proc/sys; uid 0 needs no capability for it.  `privileged`: it has
    CAP_SYS_ADMIN, and can mount /proc again.  `user_namespace`: since Linux 6.9 the root of the user namespace that
    owns the IPC namespace may write, and so may whoever owns that one from outside.  `joiner`: another container was
    there, whose runtime writes what it asks for.  `host`: the host's root, by nsenter(1), always can.
    """
    own = [word for word in ("writable_proc_sys", "privileged", "user_namespace") if entry.get(word) is True]
    return [*own, *(["joiner"] if shared else []), "host"]
