"""Where processes are that objects of the host's IPC namespace have pids of."""

from __future__ import annotations

import posix
import time

from ipcwarden.core.hostipc import GONE, INSIDE, NOBODY, OUTSIDE, UNTOLD, is_in_cgroup
from ipcwarden.host.cgroups import cgroups_of
from ipcwarden.host.pidspace import pid_namespace
from ipcwarden.host.procfs import started

_CLOCK_OF_STARTS = 7  # CLOCK_BOOTTIME
_CLOCKS_DIFFER = 1  # seconds that two clocks may seem to


class Whereabouts:
    """Tells where processes are: among a container's, elsewhere, or gone."""

    def __init__(self, cgroup: str, space: tuple[int, int] | None) -> None:
        """Take the container's cgroup, as `core.hostipc.distinct_cgroup` gave it, and its pid namespace."""
        self._cgroup = cgroup
        self._space = space if space != pid_namespace("self") else None  # in the host's everybody is
        self._known: dict[int, tuple[float, str]] = {}

    def at(self, pid: int, when: int) -> str:
        """Return where the process is that had a number then, in seconds since 1970: another may have it by now."""
        if not pid:
            return NOBODY
        if pid not in self._known:
            start = started(pid)
            running = time.clock_gettime(_CLOCK_OF_STARTS) - start / posix.sysconf("SC_CLK_TCK")
            self._known[pid] = (time.time() - running, self._place_of(pid) if start else GONE)
        since, place = self._known[pid]
        return place if since <= when + _CLOCKS_DIFFER else GONE

    def _place_of(self, pid: int) -> str:
        if self._space and pid_namespace(pid) == self._space:
            return INSIDE
        if self._cgroup:
            return INSIDE if is_in_cgroup(cgroups_of(pid), self._cgroup) else OUTSIDE
        return OUTSIDE if self._space else UNTOLD
