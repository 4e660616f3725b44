"""What cgroups limit (cgroups(7)); a container's own does not exist yet when hooks and wrappers ask."""

from __future__ import annotations

from ipcwarden.core.cgroups import parent_cgroup, parse_limit
from ipcwarden.files import read

_ROOT = "/sys/fs/cgroup"
_MAX_LIMIT = 4096
_MAX_CGROUPS = 1 << 16


def parent_memory(cgroups_path: str, root: str = _ROOT) -> int | None:
    """Return the limit, in bytes, of the cgroup that a container's own is made in; None where it has none."""
    parent = parent_cgroup(cgroups_path)
    for path in (f"{root}/{parent}/memory.max", f"{root}/memory/{parent}/memory.limit_in_bytes"):
        try:
            return parse_limit(read(path, _MAX_LIMIT))
        except (OSError, ValueError):
            continue  # the other version of cgroups, or a parent that the runtime has yet to make
    return None


def cgroups_of(pid: int | str) -> bytes:
    """Return the cgroups of a process, or of `self` (proc_pid_cgroup(5)); nothing where it is gone."""
    try:
        return read(f"/proc/{pid}/cgroup", _MAX_CGROUPS)
    except (OSError, ValueError):
        return b""
