"""Cgroups that no runtime makes."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def limit_memory(cgroup: str, limit: int) -> None:
    """Make a cgroup and limit its memory, in bytes: of version 1 where that has the memory, else of version 2."""
    controller = _ROOT / "memory"
    if controller.is_dir():
        made, file = controller / cgroup.lstrip("/"), "memory.limit_in_bytes"
        made.mkdir(parents=True)
    else:
        made, file = _ROOT / cgroup.lstrip("/"), "memory.max"
        made.mkdir(parents=True)
        for parent in [*made.relative_to(_ROOT).parents][::-1]:
            (_ROOT / parent / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
    (made / file).write_text(str(limit), encoding="ascii")


def enter(cgroup: str, pid: int) -> Path:
    """Move a process into a cgroup, which is made if it is missing; return the file that takes others."""
    controller = _ROOT / "pids" if (_ROOT / "pids").is_dir() else _ROOT
    made = controller / cgroup.lstrip("/")
    made.mkdir(parents=True, exist_ok=True)
    file = made / "cgroup.procs"
    file.write_text(str(pid), encoding="ascii")
    return file
