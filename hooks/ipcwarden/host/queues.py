"""POSIX message queues of the current IPC namespace, told apart over time (mq_overview(7)): names are used again."""

from __future__ import annotations

import posix

from ipcwarden.syscalls import mount_mqueue


def queue_inodes() -> dict[str, int]:
    """Return the inode numbers of all queues by name, without its slash; nothing where they cannot be listed.

    An ordinary user's engine lists those of namespaces of its own only.
    """
    found: dict[str, int] = {}
    try:
        directory = mount_mqueue()
    except OSError:
        return found
    try:
        for name in posix.listdir(directory):
            try:
                found[name] = posix.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
            except FileNotFoundError:
                continue  # it was unlinked while we looked
    finally:
        posix.close(directory)
    return found
