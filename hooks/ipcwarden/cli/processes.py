"""Who runs on this host: every process with its IPC namespace, and what tells which container it is of."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from glob import glob

from ipcwarden.cli import extract
from ipcwarden.core.documents import parse
from ipcwarden.files import read
from ipcwarden.host.procfs import slurp, started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

# Programs that start containers and stay their parents, by the 15 characters that the kernel keeps.
MONITORS = ("conmon", "containerd-shim", "runc", "crun")
_CONTAINER = re.compile(r"(?:libpod-|docker-|cri-containerd-|crio-)([0-9a-f]{64})(?:\.scope)?")
_BARE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_STATE = 4 << 20
# Where runtimes keep their own records, root's, in the engines' and their own default places.
_RUNC = ("run/runc/*/state.json", "run/containerd/runc/*/*/state.json", "run/docker/runtime-runc/*/*/state.json")
_CRUN = ("run/crun/*/status",)


@dataclass(frozen=True)
class Process:
    """One process.  `container` is the id in its cgroup's path; `arguments` and `directory` are monitors' only."""

    pid: int
    parent: int
    start: int  # clock ticks since boot
    uid: int
    command: str
    namespace: tuple[int, int]  # device and inode
    container: str = ""
    arguments: tuple[str, ...] = ()
    directory: str = ""


@dataclass(frozen=True)
class Claim:
    """What a record of root's says of a container's first process; what is not known is empty."""

    container: str
    bundle: str
    runtime: str = ""


def processes() -> list[Process]:
    """Return every process that is ours to see, by pid; what ends while we look is left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                found.append(_process(int(name)))
            except (OSError, ValueError, IndexError):
                continue
    return sorted(found, key=lambda each: each.pid)


def _process(pid: int) -> Process:
    place = f"/proc/{pid}"
    head, _, tail = slurp(f"{place}/stat").rpartition(b") ")
    fields = tail.split()
    command = head.partition(b" (")[2].decode("utf-8", "backslashreplace")
    namespace = os.stat(f"{place}/ns/ipc")
    arguments: tuple[str, ...] = ()
    directory = ""
    if command in MONITORS:
        words = slurp(f"{place}/cmdline").removesuffix(b"\0").split(b"\0")
        arguments = tuple(word.decode("utf-8", "surrogateescape") for word in words)
        directory = os.readlink(f"{place}/cwd")
    return Process(
        pid,
        int(fields[1]),
        int(fields[19]),
        os.stat(place).st_uid,
        command,
        (namespace.st_dev, namespace.st_ino),
        container_in(slurp(f"{place}/cgroup").decode("utf-8", "replace")),
        arguments,
        directory,
    )


def container_in(cgroups: str) -> str:
    """Return the id of the container that a /proc/PID/cgroup names, or an empty string.

    The outermost, where an engine runs in a container; not a pod's, nor that of conmon, which is beside the container.
    """
    bare = ""
    for line in cgroups.splitlines():
        parts = line.split(":", 2)[-1].split("/")
        if any("conmon" in part for part in parts):
            continue
        for part in parts:
            if match := _CONTAINER.fullmatch(part):
                return match[1]
            if not bare and _BARE_ID.fullmatch(part):
                bare = part
    return bare


def runtimes_claims(root: str) -> dict[int, Claim]:
    """Return what runc and crun have on record of running containers, by the pid of the first process."""
    found: dict[int, Claim] = {}
    for program, patterns, read_one in (("runc", _RUNC, _of_runc), ("crun", _CRUN, _of_crun)):
        for pattern in patterns:
            for file in glob(f"{glob_escaped(root)}/{pattern}"):
                try:
                    document = parse(read(file, _MAX_STATE, trusted=True))
                except (OSError, ValueError):
                    continue  # it has just gone, or is not root's word
                pid, start, bundle = read_one(document)
                if pid and start == started(pid):
                    container = os.path.basename(os.path.dirname(file))
                    found[pid] = Claim(container, bundle, program)
    return found


def glob_escaped(root: str) -> str:
    """Return a root as the beginning of a pattern that means itself."""
    return re.sub(r"([*?[])", r"[\1]", root.rstrip("/"))


def _of_runc(document: Document) -> tuple[int, int, str]:
    labels = extract.texts(document, "config", "labels")
    bundle = next((each.removeprefix("bundle=") for each in labels if each.startswith("bundle=")), "")
    return extract.number(document, "init_process_pid"), extract.number(document, "init_process_start"), bundle


def _of_crun(document: Document) -> tuple[int, int, str]:
    start = extract.number(document, "process-start-time")
    return extract.number(document, "pid"), start, extract.text(document, "bundle")
