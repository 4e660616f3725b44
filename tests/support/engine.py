"""One interface to all that starts containers, so that one test speaks for every engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from support.bundle import FIRST_ID, make_bundle
from support.shell import Result, text, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from support.bundle import Options
    from support.podman import Podman
    from support.runtime import Runtime
    from support.warden import Warden

EVERY = (
    *("runc", "crun", "native-runc", "native-crun"),
    *("podman-runc", "podman-crun", "rootless-runc", "rootless-crun", "docker", "ctr"),
)

_numbers = count(1)


def but(*names: str) -> list[str]:
    """Name every engine but those that cannot do what a test is about."""
    assert set(names) <= set(EVERY)
    return [name for name in EVERY if name not in names]


def fresh(prefix: str) -> str:
    """Make a name that is used only once in a session."""
    return f"{prefix}-{next(_numbers)}"


@dataclass(frozen=True)
class Ended(Result):
    """A container that ran to its end, or never got to run."""

    id: str  # empty if the engine never made it
    bundle: Path | None  # None where the engine makes it


class Running(ABC):
    """A container that was started and stays until it is stopped."""

    def __init__(self, name: str) -> None:
        self.id = name

    @property
    @abstractmethod
    def pid(self) -> int:
        """The first process, as the host numbers it."""

    @property
    @abstractmethod
    def ipc(self) -> str:
        """What another container of the same engine gives as its option `ipc` to join this one."""

    @property
    def namespace(self) -> Path:
        """The IPC namespace, as long as the first process lives."""
        return Path(f"/proc/{self.pid}/ns/ipc")

    @abstractmethod
    def output(self) -> str:
        """Read its standard output so far; engines keep it until the container is removed."""

    @abstractmethod
    def execute(self, *args: str) -> Result:
        """Run another program in it."""

    @abstractmethod
    def stop(self) -> None:
        """Kill it.  See `Engine.stop_tears_down`."""

    @abstractmethod
    def remove(self) -> None:
        """Kill it if it lives, and delete it: its poststop hooks have run when this returns."""

    def wait_for(self, line: str) -> None:
        """Wait until its output has something in it."""
        until(lambda: line in self.output(), f"{line!r} from {self.id}")


class Engine(ABC):
    """Something that starts containers and runs hooks."""

    name: str
    stop_tears_down: bool  # whether poststop runs when a container stops, or only when it is removed
    first_id = FIRST_ID  # the host's id of the root of a container with `userns`

    def __init__(self) -> None:
        self._running: list[Running] = []

    @abstractmethod
    def govern(self, warden: Warden) -> None:
        """Let ipcwarden's hooks run for every container from now on."""

    @abstractmethod
    def run(self, *args: str, **options: Unpack[Options]) -> Ended:
        """Run a container to its end, whatever that is; its poststop hooks have run when this returns."""

    @abstractmethod
    def start(self, *args: str, **options: Unpack[Options]) -> Running:
        """Start a container that stays."""

    def close(self) -> None:
        """Remove the containers that a failed test left."""
        while self._running:
            self._running.pop().remove()


class BareEngine(Engine):
    """A runtime and bundles, with nothing between the test and the runtime."""

    stop_tears_down = False

    def __init__(self, runtime: Runtime, bundles: Path, rootfs: Path, *, cgroup: str) -> None:
        super().__init__()
        self.name = runtime.program
        self.runtime = runtime
        self._bundles = bundles
        self._rootfs = rootfs
        self._cgroup = cgroup
        self._warden: Warden | None = None

    def govern(self, warden: Warden) -> None:
        """Install the hooks into every bundle made from now on."""
        self._warden = warden

    def run(self, *args: str, **options: Unpack[Options]) -> Ended:
        """Call the runtime's `run`."""
        bundle = self.bundle(*args, **options)
        result = self.runtime.run(bundle, bundle.name)
        return Ended(result.command, result.code, result.stdout, result.stderr, bundle.name, bundle)

    def start(self, *args: str, **options: Unpack[Options]) -> BareContainer:
        """Call the runtime's `create` and `start`."""
        bundle = self.bundle(*args, **options)
        container = BareContainer(self.runtime, bundle.name)
        self._running.append(container)
        self.runtime.create(bundle, bundle.name).check()
        self.runtime.start(bundle.name).check()
        return container

    def bundle(self, *args: str, **options: Unpack[Options]) -> Path:
        """Make a bundle, its name that of the container to be, with hooks if governed."""
        assert "flags" not in options, "flags are engines', and this is none"
        name = fresh(self.name)
        bundle = make_bundle(self._bundles / name, self._rootfs, args, cgroup=f"{self._cgroup}/{name}", **options)
        if self._warden:
            self._warden.install_bundle(bundle)
        return bundle


class NativeEngine(BareEngine):
    """A runtime whose place the wrapper takes; bundles are left as they are made."""

    def __init__(self, runtime: Runtime, bundles: Path, rootfs: Path, *, cgroup: str) -> None:
        super().__init__(runtime, bundles, rootfs, cgroup=cgroup)
        self.name = f"native-{runtime.program}"
        self._config = bundles.with_suffix(".json")

    def govern(self, warden: Warden) -> None:
        """Call the wrapper from now on; install, which puts it there, gets a configuration that nobody reads."""
        warden.install_docker(self._config)
        self.runtime.program = str(warden.wrapper(self.runtime.program))


class BareContainer(Running):
    """A container that a runtime was told to create and start."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        super().__init__(name)
        self._runtime = runtime

    @property
    def pid(self) -> int:
        """The first process, by the runtime's state."""
        state = self._runtime.state(self.id)
        assert state is not None, f"{self.id} is gone"
        return int(state["pid"])

    @property
    def ipc(self) -> str:
        """The namespace's path."""
        return str(self.namespace)

    def output(self) -> str:
        """Read the file that is its standard output."""
        return text(self._runtime.output(self.id))

    def execute(self, *args: str) -> Result:
        """Call the runtime's `exec`."""
        return self._runtime.execute(self.id, *args)

    def stop(self) -> None:
        """Kill it and wait: the runtime still knows it, no hook has run."""
        self._runtime.stop(self.id)

    def remove(self) -> None:
        """Call the runtime's `delete`."""
        if self._runtime.state(self.id):
            self._runtime.delete(self.id, force=True).check()


class PodmanEngine(Engine):
    """podman with one of the runtimes, rootful or rootless."""

    stop_tears_down = True

    def __init__(self, podman: Podman, scratch: Path) -> None:
        super().__init__()
        self.name = f"{'rootless' if podman.user else 'podman'}-{podman.runtime}"
        self.podman = podman
        self._scratch = scratch
        if podman.user:
            self._scratch = podman.user.make(scratch / "rootless")
            self.first_id = podman.user.first_id
        self.hooks_dir: Path | None = None

    def govern(self, warden: Warden) -> None:
        """Name a directory with the hooks in every podman call from now on."""
        self.hooks_dir = self._scratch / "hooks.d"
        self.hooks_dir.mkdir(exist_ok=True)
        warden.install_podman(self.hooks_dir)

    def run(self, *args: str, **options: Unpack[Options]) -> Ended:
        """Do what `podman run --rm` does, call by call.

        podman 5 deletes its --cidfile with the container, and an attached podman misses what a short-lived container
        says before it listens: the log has all of it.
        """
        made = self.podman.create(args, hooks_dir=self.hooks_dir, **options)
        name = made.stdout.strip()
        if not name:
            return Ended(made.command, made.code, made.stdout, made.stderr, "", None)
        ended = self.podman.start(name, "--attach", hooks_dir=self.hooks_dir)
        said = self.podman("logs", name)
        self.podman.remove(name).check()
        return Ended(
            ended.command, ended.code, said.stdout, said.stderr if ended.code == 0 else ended.stderr, name, None
        )

    def start(self, *args: str, **options: Unpack[Options]) -> PodmanContainer:
        """Call `podman create` and `podman start`."""
        name = self.podman.create(args, hooks_dir=self.hooks_dir, **options).check().stdout.strip()
        container = PodmanContainer(self.podman, name)
        self._running.append(container)
        self.podman.start(name, hooks_dir=self.hooks_dir).check()
        return container

    @contextmanager
    def pod(self, *flags: str) -> Iterator[str]:
        """Make a pod, to be joined with the flag --pod; it ends with the block, members and all.

        Its infra container starts with the first member, and with that call's hooks.
        """
        name = fresh("pod")
        self.podman.create_pod(name, *flags).check()
        try:
            yield name
        finally:
            self.podman.remove_pod(name).check()


class PodmanContainer(Running):
    """A container in podman's storage."""

    def __init__(self, podman: Podman, name: str) -> None:
        super().__init__(name)
        self._podman = podman

    @property
    def pid(self) -> int:
        """The first process, as podman tells it."""
        return int(self._podman.inspect(self.id)["State"]["Pid"])

    @property
    def ipc(self) -> str:
        """The container, by podman's word for joining."""
        return f"container:{self.id}"

    def output(self) -> str:
        """Call `podman logs`."""
        return self._podman("logs", self.id).check().stdout

    def execute(self, *args: str) -> Result:
        """Call `podman exec`."""
        return self._podman("exec", self.id, *args)

    def stop(self) -> None:
        """Call `podman stop`, which runs poststop."""
        self._podman.stop(self.id).check()

    def remove(self) -> None:
        """Call `podman rm`."""
        self._podman.remove(self.id).check()
