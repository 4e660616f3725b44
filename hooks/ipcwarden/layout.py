"""Where things lie, relative to `--root` (the host's own root by default), or among a user's own directories."""

from __future__ import annotations

from ipcwarden.values import value

SOURCES = "etc/ipcwarden"  # policy.yaml, policy.d/
SWITCH = "disabled"  # among the sources
SITE_PROFILES = "usr/share/ipcwarden/profiles"
STATE = "var/lib/ipcwarden"  # the policy in force
COMPILED = "policy.compiled"
PREVIOUS = "policy.previous"
RUN = "run/ipcwarden"
LOGS = "var/log/ipcwarden"
LOG = "audit.jsonl"
PROGRAMS = "usr/libexec/ipcwarden"


def beneath(root: str, path: str) -> str:
    """Return the absolute path of one of the above."""
    return f"{root.rstrip('/')}/{path}"


@value
class Place:
    """A directory below `base`, which is there, with nobody but its owners able to write on the way from there.

    `owners` are the uids that may own what is there; without any these are root's and our own.
    """

    base: str
    path: str
    owners: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return its absolute path."""
        return beneath(self.base, self.path)

    def below(self, name: str) -> Place:
        """Return a directory that is in it."""
        return Place(self.base, f"{self.path}/{name}", self.owners)


@value
class Places:
    """Where what hooks read and write lies: for root below one root directory, for an ordinary user's own engine not.

    The first of `policies` that has a policy in force is the one that binds, the last is where `compile` puts one.
    The base of a place is empty where the user has no directory for it.  `owners` are the uids that may own what
    the host says, as in `Place`.
    """

    sources: Place
    policies: tuple[Place, ...]
    run: Place
    logs: Place
    rootless: bool = False
    owners: tuple[int, ...] = ()

    @property
    def entries(self) -> Place:
        """The ledger."""
        return self.run.below("containers")

    @property
    def pins(self) -> Place:
        """The pins."""
        return self.run.below("pins")

    @property
    def namespaces(self) -> Place:
        """Who is in which namespace."""
        return self.run.below("namespaces")


def host_places(root: str) -> Places:
    """Return where things lie for root."""
    return Places(Place(root, SOURCES), (Place(root, STATE),), run=Place(root, RUN), logs=Place(root, LOGS))
