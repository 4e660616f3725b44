"""Least privilege (capabilities(7)): what a stage needs and nothing else.

Hooks make the system calls themselves, which costs a tenth of a millisecond; the CLI and gc use python-prctl where
that is there and works.  Both ways leave the same /proc/self/status.
"""

from __future__ import annotations

import posix

from ipcwarden.syscalls import Capabilities, capbset_drop, capbset_read, capget, capset, set_no_new_privs

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETGID, CAP_SETUID = 1, 2, 6, 7
CAP_IPC_OWNER, CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 15, 18, 19, 21

# Read config.json in a bundle of podman's, which belongs to the container's root where there is a user namespace.
DOCUMENTS = (CAP_DAC_READ_SEARCH,)
# Open the container's namespace, mount the pin, join, become the namespace's root to write, and the process' user and
# group to lower its RLIMIT_MSGQUEUE.
CREATE = (CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID)
# Join through the pin, become whoever it takes to write and to lower; look into a container that has no pin of its own.
POSTSTART = (CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID)
# Join, mount the queues, open queues of mode 0600, unmount the pin, see who else holds the namespace; become the root
# of one that others stay in, to write; ask others' semaphores who operated on them, and become nobody to ask that in a
# container's pid namespace; remove what was left in it.
POSTSTOP = (CAP_SYS_ADMIN, CAP_DAC_OVERRIDE, CAP_SYS_PTRACE, CAP_SETUID, CAP_SETGID, CAP_IPC_OWNER)


def _mask(keep: tuple[int, ...]) -> int:
    return sum(1 << capability for capability in keep)


def drop_directly(keep: tuple[int, ...]) -> bool:
    """Keep only these capabilities, in every set and for good; return whether that was possible in full."""
    mask = _mask(keep)
    full = True
    try:
        set_no_new_privs()
        for capability in range(64):
            try:
                if not mask >> capability & 1:
                    capbset_drop(capability)
            except OSError as error:
                if error.errno == 22:  # past the kernel's last capability
                    break
                full = full and not capbset_read(capability)
        have = capget()
        capset(Capabilities(have.effective & mask, have.permitted & mask, 0))
    except OSError:
        return False
    return full


def narrow(keep: tuple[int, ...]) -> bool:
    """Give up more of the capabilities that are left; return whether that was possible."""
    mask = _mask(keep)
    try:
        have = capget()
        if have.permitted & ~mask:
            capset(Capabilities(have.effective & mask, have.permitted & mask, 0))
    except OSError:
        return False
    return True


def drop_with_prctl(keep: tuple[int, ...]) -> bool:
    """Do as `drop_directly` does, through python-prctl; where that is missing or broken, directly."""
    try:
        # Built against newer kernel headers its import dies with NameError, so any exception will do.
        import prctl

        prctl.set_no_new_privs(1)
        prctl.capbset.limit(*keep)
        prctl.cap_inheritable.limit()
        prctl.cap_effective.limit(*keep)
        prctl.cap_permitted.limit(*keep)
    except Exception:
        return drop_directly(keep)
    return narrow(keep)  # what the library has no name for, it has left


def load_prctl() -> None:
    """Load python-prctl, where it is there, once for all children that are going to need it: it takes milliseconds."""
    try:
        import prctl  # noqa: F401
    except Exception:  # noqa: S110  # whatever is wrong with it, whoever needs it does without
        pass


def settle() -> None:
    """Leave the caller's directory and file mode mask behind."""
    posix.umask(0o077)
    posix.chdir("/")
