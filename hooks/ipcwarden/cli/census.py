"""Which containers live in which IPC namespaces: from processes alone, nothing is read here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ipcwarden.cli.processes import MONITORS, Claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipcwarden.cli.processes import Process

    Place = tuple[int, int]

_VALUED = ("-c", "--cid", "-b", "--bundle", "-r", "--runtime", "-id", "--id")


@dataclass(frozen=True)
class Resident:
    """A container, as far as can be told: what is not known of it is empty."""

    container: str
    bundle: str
    runtime: str
    pid: int  # its first process, as the host numbers it
    start: int
    rootless: bool | None  # whether an ordinary user's engine started it


@dataclass
class Household:
    """One IPC namespace, and who is in it."""

    place: Place
    hosts: bool
    processes: int = 0
    residents: list[Resident] = field(default_factory=list)
    nested: list[tuple[Resident, Process]] = field(default_factory=list)  # containers that some process left for here
    strangers: list[Process] = field(default_factory=list)  # of no container that is known


@dataclass(frozen=True)
class Origin:
    """Where a process comes from: the first one below what started its container, and what that is."""

    first: Process
    monitor: Process | None


def take(processes: Iterable[Process], hosts: Iterable[Place], claims: Mapping[int, Claim]) -> list[Household]:
    """Return all namespaces, the host's first, then in the order of their oldest process.

    `hosts` are the places that are the host's; `claims` tells of first processes by pid.
    """
    return _Census(processes, frozenset(hosts), claims).households()


class _Census:
    def __init__(self, processes: Iterable[Process], hosts: frozenset[Place], claims: Mapping[int, Claim]) -> None:
        self._by_pid = {each.pid: each for each in processes}
        self._hosts = hosts
        self._claims = claims
        self._names = {claim.container: _name_of(claim) for claim in claims.values()}

    def households(self) -> list[Household]:
        groups: dict[str, list[tuple[Process, Origin | None]]] = {}
        rooms: dict[Place, Household] = {}
        homeless: list[Process] = []
        for process in sorted(self._by_pid.values(), key=lambda each: (each.start, each.pid)):
            room = rooms.setdefault(process.namespace, Household(process.namespace, process.namespace in self._hosts))
            room.processes += 1
            origin = self._origin(process)
            name = self._name(process, origin)
            if name:
                groups.setdefault(name, []).append((process, origin))
            else:
                homeless.append(process)
        for members in groups.values():
            self._settle(members, rooms)
        for process in homeless:
            room = rooms[process.namespace]
            if not room.hosts:
                room.strangers.append(process)
        return sorted(rooms.values(), key=lambda room: not room.hosts)

    def _is_monitor(self, process: Process) -> bool:
        """Tell whether a process starts containers on this host: one in a container's namespace does so elsewhere."""
        return process.command in MONITORS and process.namespace in self._hosts and bool(process.arguments)

    def _origin(self, process: Process) -> Origin | None:
        if self._is_monitor(process):
            return None
        seen = set()
        while process.pid not in seen:
            if process.pid in self._claims:
                parent = self._by_pid.get(process.parent)
                return Origin(process, parent if parent and self._is_monitor(parent) else None)
            seen.add(process.pid)
            parent = self._by_pid.get(process.parent)
            if parent is None:
                return None
            if self._is_monitor(parent):
                return Origin(process, parent)
            process = parent
        return None  # pids that were used again while we looked

    def _name(self, process: Process, origin: Origin | None) -> str:
        """Return what tells a container from others: its id where that is known."""
        if self._is_monitor(process):
            return ""
        if process.container:
            return process.container
        if origin is None:
            return ""
        claim = self._claims.get(origin.first.pid)
        if claim is not None:
            return _name_of(claim)
        if origin.monitor and "exec" in origin.monitor.arguments:
            known = (self._names[word] for word in origin.monitor.arguments if word in self._names)
            return next(known, "")
        return self._told(origin).container or f"\0{origin.first.pid}"

    def _told(self, origin: Origin | None) -> Claim:
        """Return what a monitor's own command line says of the container that it has started."""
        monitor = origin.monitor if origin else None
        if monitor is None:
            return Claim("", "")
        words = list(monitor.arguments)
        values = {word: behind for word, behind in zip(words, [*words[1:], ""], strict=True) if word in _VALUED}
        values |= dict(word.split("=", 1) for word in words if word.startswith(("--bundle=", "--cid=", "--runtime=")))

        def given(*names: str) -> str:
            return next((values[name] for name in names if name in values), "")

        if monitor.command == "conmon":
            executes = any(word.startswith("--exec") or word == "-e" for word in words)
            runtime = os.path.basename(given("-r", "--runtime"))
            return Claim(given("-c", "--cid"), "" if executes else given("-b", "--bundle"), runtime)
        if monitor.command == "containerd-shim":
            return Claim(given("-id", "--id"), monitor.directory)
        if "run" not in words:
            return Claim("", "", monitor.command)
        bundle = os.path.join(monitor.directory, given("-b", "--bundle"))
        return Claim(words[-1], bundle.rstrip("/"), monitor.command)

    def _settle(self, members: list[tuple[Process, Origin | None]], rooms: dict[Place, Household]) -> None:
        """Put a container where its first process is; where others of its processes are, it is nested."""
        resident, home = self._resident(members)
        rooms[home].residents.append(resident)
        left: dict[Place, Process] = {}
        for process, _ in members:
            left.setdefault(process.namespace, process)
        for place, process in left.items():
            if place != home and not rooms[place].hosts:
                rooms[place].nested.append((resident, process))

    def _resident(self, members: list[tuple[Process, Origin | None]]) -> tuple[Resident, Place]:
        claimed = [each for each in members if each[0].pid in self._claims]
        first, origin = (claimed or members)[0]
        claim, told = self._claims.get(first.pid, Claim("", "")), self._told(origin)
        container = first.container or claim.container or told.container
        bundle = claim.bundle or told.bundle
        monitor = origin.monitor if origin else None
        if not claim.bundle and monitor and monitor.command == "containerd-shim" and first.container:
            # One shim serves all containers of a pod; their bundles lie side by side.
            bundle = f"{os.path.dirname(monitor.directory)}/{first.container}"
        rootless = monitor.uid != 0 if monitor else False if claim.container else None
        resident = Resident(container, bundle, claim.runtime or told.runtime, first.pid, first.start, rootless)
        return resident, first.namespace


def _name_of(claim: Claim) -> str:
    # Two runtimes' roots may run one id, unless an engine has made it: those are never used twice.
    return claim.container if len(claim.container) == 64 else f"{claim.container}\0{claim.bundle}"
