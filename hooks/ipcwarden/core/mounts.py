"""Mounts: what a runtime has really mounted (proc_pid_mountinfo(5)), and how large /dev/shm is to be."""

from __future__ import annotations

from ipcwarden.core.shmfiles import SHM
from ipcwarden.core.sysctls import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ipcwarden.core.documents import Document
    from ipcwarden.core.spec import Mount

_SUFFIXES = "kmgtpe"  # each 1024 times the one before, as the kernel's memparse() has them
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


def shm_size(mounts: Iterable[Mount]) -> int | None:
    """Return how many bytes /dev/shm is to have (tmpfs(5)); None where config.json does not say that in bytes."""
    size = None
    for mount in mounts:
        if mount.destination == SHM:  # the last one is on top
            given = [option[5:].lower() for option in mount.options if option.startswith("size=")]
            size = _shm_bytes(given[-1]) if given and mount.type == "tmpfs" else None
    return size or None  # 0 is no bound


def _shm_bytes(text: str) -> int | None:
    suffix = _SUFFIXES.find(text[-1:]) + 1 if text else 0
    number = canonical(text[:-1] if suffix else text)
    return None if number is None else number << 10 * suffix


def short_shm(mounts: Iterable[Mount], least: int | None) -> dict[str, Document]:
    """Return what a record says of a /dev/shm that is smaller than a profile's `dev_shm`; else nothing."""
    size = shm_size(mounts)
    if least is None or size is None or size >= least:
        return {}
    return {"dev_shm": {"size": size, "warn_below": least}}


def _path_of(field: bytes) -> str:
    for mangled, plain in _MANGLED:
        field = field.replace(mangled, plain)
    return field.decode("utf-8", "surrogateescape")
