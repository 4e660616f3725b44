"""OCI bundles: a root filesystem of busybox and the payload programs, and a config.json that says what a test wants."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from support.shell import BUILT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

FIRST_ID = 100_000  # the host's id of a user namespace's root
PAYLOADS = BUILT / "payload"
UNPACKED = BUILT / "engines"  # what `make setup` does not install on a machine that lacks it

# No more than what Docker and podman give to a container's root.
_CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_SYS_CHROOT",
]
# Stands in config.json for a test's own text until all else is written.
_RAW = "\0raw\0"


class Options(TypedDict, total=False):
    """What a container asks for; each may be left out."""

    sysctl: (
        Mapping[str, str] | str
    )  # text is put into config.json as it stands, for spellings that no JSON library writes
    ipc: str  # "private" (as when left out), "host", or the path of a namespace
    userns: bool  # ids 0-65535 are the host's from FIRST_ID on
    annotations: Mapping[str, str]
    writable_proc_sys: bool
    memory: int  # limit in bytes
    flags: Sequence[str]  # more of the engine's own, such as "--privileged"
    members: str  # more members of config.json's outermost object, as text: '"Linux": {}'


def make_rootfs(directory: Path) -> Path:
    """Make a root filesystem with busybox and the payload programs in /bin."""
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
        (directory / name).mkdir(parents=True)
    shutil.copy(_busybox(), directory / "bin")
    for applet in ("cat", "sh", "sleep", "true"):
        (directory / "bin" / applet).symlink_to("busybox")
    for program in PAYLOADS.iterdir():
        shutil.copy(program, directory / "bin")
    return directory


def _busybox() -> Path:
    """Find the busybox that needs no library."""
    unpacked = (UNPACKED / folder / "busybox" for folder in ("bin", "usr/bin"))
    return next(filter(Path.exists, unpacked), Path("/bin/busybox"))


def make_bundle(directory: Path, rootfs: Path, args: Sequence[str], *, cgroup: str, **options: Unpack[Options]) -> Path:
    """Make a bundle that runs a program from `rootfs` in the named cgroup."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(_config(rootfs, args, cgroup, options), encoding="utf-8")
    return directory


def _config(rootfs: Path, args: Sequence[str], cgroup: str, options: Options) -> str:
    sysctl = options.get("sysctl", {})
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "hostname": "container",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": _mounts(options),
        "annotations": dict(options.get("annotations", {})),
        "linux": {
            "cgroupsPath": cgroup,
            "sysctl": _RAW if isinstance(sysctl, str) else dict(sysctl),
            "namespaces": _namespaces(options),
            "readonlyPaths": [] if options.get("writable_proc_sys") else ["/proc/sys"],
        },
    }
    if options.get("userns"):
        mappings = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
        config["linux"] |= {"uidMappings": mappings, "gidMappings": mappings}
    if "memory" in options:
        config["linux"]["resources"] = {"memory": {"limit": options["memory"]}}

    text = json.dumps(config, indent=2)
    if isinstance(sysctl, str):
        text = text.replace(json.dumps(_RAW), sysctl)
    if members := options.get("members"):
        text = f"{text.removesuffix('}')}, {members}}}"
    return text


def _namespaces(options: Options) -> list[dict[str, str]]:
    kinds = ["pid", "mount", "uts"] + ["user"] * options.get("userns", False)
    namespaces = [{"type": kind} for kind in kinds]
    match options.get("ipc", "private"):
        case "host":
            return namespaces
        case "private":
            return [*namespaces, {"type": "ipc"}]
        case path:
            return [*namespaces, {"type": "ipc", "path": path}]


def _mounts(options: Options) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "mode=1777"]},
    ]
    if options.get("ipc", "private") == "private":
        mounts += [
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec"]}
        ]
    return mounts
