"""A container's parent cgroup, from config.json's `linux.cgroupsPath`, and what limits of memory read like."""

from __future__ import annotations

_NO_LIMIT = 1 << 62  # version 1 writes the largest multiple of a page that it can count to


def parent_cgroup(cgroups_path: str) -> str:
    """Return the path, below the hierarchy's root, of the cgroup that a container's own is made in; empty: the root's.

    `slice:prefix:name` is how systemd's drivers spell it; anything else is a path.
    """
    parts = cgroups_path.split(":")
    if len(parts) == 3 and (parts[0] or "system.slice").endswith(".slice"):
        return _path_of_slice(parts[0] or "system.slice")
    parts = [part for part in cgroups_path.split("/") if part not in ("", ".")]
    return "" if ".." in parts else "/".join(parts[:-1])


def _path_of_slice(name: str) -> str:
    """Return where systemd.slice(5) puts a slice: `a-b.slice` is `a.slice/a-b.slice`, and `-.slice` the root."""
    words = name.removesuffix(".slice").split("-")
    if "/" in name or "" in words:
        return ""
    return "/".join("-".join(words[:count]) + ".slice" for count in range(1, len(words) + 1))


def parse_limit(data: bytes) -> int | None:
    """Return the bytes that memory.max or memory.limit_in_bytes says; None where it is no limit."""
    text = data.strip()
    return int(text) if text.isdigit() and 0 < int(text) < _NO_LIMIT else None
