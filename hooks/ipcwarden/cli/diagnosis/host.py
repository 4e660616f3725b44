"""What hooks need of the host itself: a ledger, a log, a kernel."""

from __future__ import annotations

import os
import posix
from dataclasses import dataclass

from ipcwarden.cli.diagnosis.finding import NOTE, PROBLEM, WARNING, Finding
from ipcwarden.errors import RecordError, WardenError, why
from ipcwarden.files import O_FILE, open_place, open_regular, unsafe
from ipcwarden.host.namespace import identify, open_own
from ipcwarden.host.procfs import read_limits
from ipcwarden.layout import LOG
from ipcwarden.stages.collection import find_due, find_stale, strays
from ipcwarden.stages.site import HOME
from ipcwarden.syscalls import pidfd_ipc_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.host.namespace import Features
    from ipcwarden.layout import Place
    from ipcwarden.stages.collection import Due
    from ipcwarden.stages.site import Site

_LITTLE = 64 << 20  # bytes: some thousand records
_SHOWN = 5  # names in one line


@dataclass(frozen=True)
class Room:
    """A directory that is written to: why that cannot be, and how much is left where it lies, None if not known."""

    path: str
    fault: str = ""
    hint: str = ""
    free: int | None = None
    read_only: bool = False


def look_at_place(place: Place, file: str = "") -> Room:
    """See whether a directory can be used, and a file in it be appended to; what is missing hooks make themselves."""
    path = str(place)
    fault = hint = ""
    try:
        directory = open_place(place)
        try:
            if file:
                _open_to_append(directory, file)
        finally:
            os.close(directory)
    except FileNotFoundError:
        pass
    except WardenError as error:
        fault, hint = str(error.args[0]), error.hint
    except (OSError, ValueError) as error:
        fault = f"cannot append to '{path}/{file}': {why(error) if isinstance(error, OSError) else error}"
    while path != "/" and not os.path.exists(path):
        path = os.path.dirname(path)
    try:
        status = os.statvfs(path)
    except OSError:
        return Room(str(place), fault, hint)
    free = status.f_bavail * status.f_frsize
    return Room(str(place), fault, hint, free, bool(status.f_flag & os.ST_RDONLY))


def _open_to_append(directory: int, name: str) -> None:
    try:
        fd = open_regular(name, posix.O_WRONLY | posix.O_APPEND | O_FILE, directory)
    except FileNotFoundError:
        return
    try:
        wrong = unsafe(posix.fstat(fd))
    finally:
        posix.close(fd)
    if wrong:
        raise ValueError(wrong)


def judge_room(check: str, room: Room) -> list[Finding]:
    """Judge the log's directory, or the ledger's."""
    if room.fault:
        return [Finding(check, PROBLEM, room.path, room.fault, room.hint or "only root may write there")]
    if room.read_only:
        message = "it lies on a file system that is mounted read-only"
        return [Finding(check, PROBLEM, room.path, message, "mount one that can be written there")]
    if room.free is not None and room.free < _LITTLE:
        severity = WARNING if room.free else PROBLEM
        message = f"{room.free >> 20} MiB are left on its file system"
        return [Finding(check, severity, room.path, message, "make room; ipcwarden gc delivers what waits")]
    return []


def judge_pins(due: list[Due], lost: list[str], path: str, stale: list[Due]) -> list[Finding]:
    """Judge what gc would do: `due` are entries, `lost` pins that no entry speaks of, `stale` those of long ago."""
    found = []
    if stale:
        message = f"{_some([each.container for each in stale])} ended long ago, and nothing has freed their namespaces"
        hint = "ipcwarden gc frees them, or says why not; a timer for ipcwarden sweep would have done it"
        found.append(Finding("pins", PROBLEM, path, message, hint))
    for reason, severity, said in (
        ("gone", WARNING, "ended, and no poststop came"),
        ("unfinished", WARNING, "were left half-way by a hook"),
        ("undelivered", WARNING, "have records that are not in the log"),
        ("unreadable", PROBLEM, "are no entries that can be read"),
    ):
        names = [each.container for each in due if each.reason == reason and each not in stale]
        if names:
            found.append(Finding("pins", severity, path, f"{_some(names)} {said}", "ipcwarden gc --older-than 60s"))
    if lost:
        found.append(Finding("pins", PROBLEM, path, f"{_some(lost)}: pins without an entry", "ipcwarden gc"))
    return found


def look_at_pins(site: Site, seconds: int) -> tuple[list[Due], list[str], list[Due]]:
    """Return what gc would find, and what of that is stale after so many seconds.  Raises `RecordError`."""
    if not site.has_ledger():
        return [], [], []
    try:
        return find_due(site, release=False), strays(site), find_stale(site, seconds)
    except OSError as error:
        raise RecordError(f"cannot read '{site.places.run}': {why(error)}") from error


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more


@dataclass(frozen=True)
class Kernel:
    """What this kernel has: what it lacks has a fallback, but for `fault`."""

    fault: str = ""
    pidfd_namespaces: bool = True
    ids: bool = True
    handles: bool = True
    home: str = ""  # why process 1's mount namespace cannot be seen


def look_at_kernel(features: Features, home: str = HOME) -> Kernel:
    """Ask it; a feature that is turned off is one that it lacks."""
    fault = reason = ""
    try:
        read_limits()
        fd = open_own()
    except WardenError as error:
        return Kernel(str(error))
    try:
        identity = identify(fd, features)
    finally:
        os.close(fd)
    by_pidfd = features.pidfd_namespaces and _has_pidfd_namespaces()
    try:
        os.stat(home)
    except OSError as error:
        reason = why(error)
    return Kernel(fault, by_pidfd, bool(identity.id), bool(identity.handle), reason)


def _has_pidfd_namespaces() -> bool:
    pidfd = os.pidfd_open(os.getpid())
    try:
        os.close(pidfd_ipc_namespace(pidfd))
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def judge_kernel(kernel: Kernel, release: str) -> list[Finding]:
    """Judge it."""
    if kernel.fault:
        return [Finding("kernel", PROBLEM, release, kernel.fault, "CONFIG_SYSVIPC, CONFIG_POSIX_MQUEUE, CONFIG_IPC_NS")]
    lacks = [
        (kernel.ids, "it has no ids of namespaces (Linux 6.18): inodes, which are used again, tell them apart"),
        (kernel.handles, "it has no handles of namespaces (Linux 6.18): records say null for `destroyed`"),
        (kernel.pidfd_namespaces, "it opens no namespace by pidfd (Linux 6.11): /proc is used"),
    ]
    found = [Finding("kernel", NOTE, release, message) for has, message in lacks if not has]
    if kernel.home:
        message = f"{kernel.home}: a pin of podman's --userns may lie where its poststop cannot see it"
        hint = "" if kernel.handles else "ipcwarden gc frees those"
        found.append(Finding("kernel", NOTE, HOME, message, hint))
    return found


def log_of(site: Site) -> Room:
    """See whether the log can be written."""
    return look_at_place(site.places.logs, LOG)
