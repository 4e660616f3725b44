"""What this machine says: a fresh IPC namespace's values, the page, the boot options that matter, and its users."""

from __future__ import annotations

import mmap
import os
import pwd

from ipcwarden.compiler.amounts import Machine
from ipcwarden.core.sysctls import KERNEL_DEFAULTS, NAMES
from ipcwarden.errors import WardenError
from ipcwarden.host import procfs
from ipcwarden.syscalls import CLONE_NEWIPC, unshare


def this_machine() -> Machine:
    """Return what amounts mean here; without the privilege to make a namespace, what every kernel is known to have."""
    limits = _fresh_limits()
    release = os.uname().release if limits else ""
    return Machine(limits or KERNEL_DEFAULTS, release, mmap.PAGESIZE, "ipcmni_extend" in _boot_options(), uid_of)


def uid_of(name: str) -> int | None:
    """Return a user's uid, by getpwnam(3); None where nobody has that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # a name that no user can have
        return None


def _fresh_limits() -> dict[str, int] | None:
    """Return the values of a new namespace, made and left by a child: nothing of ours ever enters it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return dict(zip(NAMES, map(int, answer.split()), strict=True)) if answer else None


def _answer(writing: int) -> None:
    """Write the values into a pipe, or nothing where they cannot be had; never return."""
    try:
        unshare(CLONE_NEWIPC)
        limits = procfs.read_limits()
        os.write(writing, " ".join(str(limits[name]) for name in NAMES).encode("ascii"))
    except (OSError, WardenError):
        pass  # no answer is the answer
    finally:
        os._exit(0)


def _boot_options() -> list[str]:
    try:
        return procfs.slurp("/proc/cmdline").decode("utf-8", "replace").split()
    except OSError:
        return []
