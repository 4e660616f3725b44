"""An ordinary user's own containers: read from anywhere, entered only from within their engine's user namespace."""

from __future__ import annotations

from ipcwarden.errors import KernelError
from ipcwarden.host.procfs import in_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.stages.site import Site


def demand_namespace(site: Site, verb: str) -> None:
    """Raise `KernelError` where `verb` has to join namespaces that are out of reach, and say how."""
    if site.places.rootless and not in_user_namespace():
        raise KernelError(
            "cannot enter the containers' namespaces: they are in the user namespace of your engine",
            f"podman unshare ipcwarden {verb}",
        )
