"""Whose engine it is: root's, or an ordinary user's own, whose things lie in that user's directories.

Rootless engines run their hooks in a user namespace of the user's, as its root, with next to no environment.  Where
the user's directories are (XDG Base Directory Specification) is then told by whoever started the hook: the runtime,
which podman gives XDG_RUNTIME_DIR, and sometimes HOME, or podman above it.  Neither has XDG_STATE_HOME in every case,
so that counts for nothing: what one hook writes another must find.
"""

from __future__ import annotations

import posix

from ipcwarden.files import is_private, read
from ipcwarden.layout import STATE, Place, Places, host_places

_UNMAPPED_UID = 65534  # who an owner looks like that has no number here (user_namespaces(7))
_MAX_ENVIRONMENT_BYTES = 4 << 20
_MAX_PROC_BYTES = 1 << 16  # of what /proc tells otherwise
_GENERATIONS = 8  # as many as anybody has seen, and more


def places_at(root: str) -> Places:
    """Return where things lie for whoever we run for.

    Below `root` where that is ours, as it is for root; else we run for an ordinary user, in podman's user namespace or
    outside of any, and only the host's policy and kill switch are below `root`.
    """
    us = posix.geteuid()
    try:
        owner = posix.stat(root).st_uid
    except OSError:
        owner = us  # whoever opens it says what is wrong
    if owner == us:
        return host_places(root)
    host, uid = posix.stat("/").st_uid, outer_uid(us)
    if us == host or uid == 0:
        return host_places(root)  # root, on a directory of somebody else's: whoever opens it says what is wrong
    return user_places(root, host, uid, environment())


def outer_uid(uid: int) -> int:
    """Return what `uid` of this user namespace is outside of it (user_namespaces(7)); 65534 where unmapped."""
    for line in read("/proc/self/uid_map", _MAX_PROC_BYTES).splitlines():
        first, outside, count = map(int, line.split())
        if first <= uid < first + count:
            return outside + uid - first
    return _UNMAPPED_UID


def user_places(root: str, host: int, uid: int, known: dict[bytes, bytes]) -> Places:
    """Return where things lie for the user `uid`, who has the environment `known`.

    `host` is the uid that the host's root has as seen from here.
    """
    # The host's root has no number in a user namespace, nor has anybody else who is not the user: all look alike.  But
    # who could have put something below `root`, where each directory is such a one's and nobody may write but its
    # owner?  From the root directory on, which is the host's, only the host's root, or whom that has let.
    owners = (host,)
    runtime = next(filter(is_private, (_directory(known, b"XDG_RUNTIME_DIR"), f"/run/user/{uid}")), "")
    home, settings = _directory(known, b"HOME"), _directory(known, b"XDG_CONFIG_HOME")
    sources = Place(settings, "ipcwarden") if settings else Place(home, ".config/ipcwarden")
    own = Place(home, ".local/state/ipcwarden")
    policies = (Place(root, STATE, owners), *((own,) if own.base else ()))
    return Places(sources, policies, run=Place(runtime, "ipcwarden"), logs=own, rootless=True, owners=owners)


def _directory(environment: dict[bytes, bytes], name: bytes) -> str:
    """Return the absolute path that a variable holds; an empty string for any other, as the specification says."""
    path = environment.get(name, b"").decode("utf-8", "surrogateescape")
    return path if path.startswith("/") else ""


def environment() -> dict[bytes, bytes]:
    """Return our own environment; without a HOME, what our ancestors have besides, the nearest first."""
    known, pid = dict(posix.environ), posix.getppid()
    for _ in range(_GENERATIONS):
        if b"HOME" in known:
            break
        try:
            content = read(f"/proc/{pid}/environ", _MAX_ENVIRONMENT_BYTES)
            pid = int(read(f"/proc/{pid}/stat", _MAX_PROC_BYTES).rpartition(b") ")[2].split()[1])
        except (OSError, ValueError):
            break  # it ended, or is not ours to see
        known = {**_variables(content), **known}
    return known


def _variables(content: bytes) -> dict[bytes, bytes]:
    pairs = (each.partition(b"=") for each in content.split(b"\0"))
    return {name: text for name, equals, text in pairs if equals}
