"""A stay in a container's IPC namespace, for a child process: nobody else of ours is in there meanwhile."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

from ipcwarden.host.namespace import join, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipcwarden.host.membership import Room
    from ipcwarden.stages.site import Site


@contextmanager
def inside(site: Site, room: Room | None, opened: Callable[[], int]) -> Iterator[None]:
    """Join the namespace that is `opened`, whose room is locked, and return before the next one may come.

    In a user namespace nobody can return: there the room stays locked until this process ends.  Raises
    `NamespaceError`.
    """
    # A job that is stopped at a terminal would keep every hook waiting.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    returned = True
    try:
        fd = opened()
        try:
            join(fd, site.hosts)
            returned = False
        finally:
            os.close(fd)
        yield
    finally:
        if not returned and not site.places.rootless:
            leave(site.own)
            returned = True
        if room and returned:
            room.leave()
