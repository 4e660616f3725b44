"""proc_pid_mountinfo(5): what a runtime has really mounted, whatever way config.json speaks of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_MANGLED = ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\043", b"#"), (b"\\134", b"\\"))


def opens_proc_sys(mountinfo: bytes, root: str, shielded: Collection[str]) -> bool:
    """Tell whether some /proc/sys below `root`, a container's root file system, is mounted so that it can be written.

    Runtimes make the paths `shielded` read-only later on; what is mounted further down stays as it is.
    """
    for line in mountinfo.split(b"\n"):
        mount, _, system = line.partition(b" - ")
        if not system.startswith(b"proc "):
            continue
        fields = mount.split(b" ")
        source, place = _path_of(fields[3]), _path_of(fields[4])
        if not place.startswith(f"{root}/") or b"ro" in (*fields[5].split(b","), *system.split(b" ")[2].split(b",")):
            continue
        destination = place[len(root) :]
        there = f"{destination}/sys" if source == "/" else destination if f"{source}/".startswith("/sys/") else ""
        if there and not {destination, there} & {*shielded}:
            return True
    return False


def _path_of(field: bytes) -> str:
    for mangled, plain in _MANGLED:
        field = field.replace(mangled, plain)
    return field.decode("utf-8", "surrogateescape")
