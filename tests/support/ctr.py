"""Containers that ctr starts, each from a config.json of the test's own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from support.bundle import make_bundle
from support.engine import Ended, Engine, Running, fresh
from support.shell import text, until

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Unpack

    from support.bundle import Options
    from support.containerd import Containerd
    from support.shell import Result
    from support.warden import Warden


class CtrEngine(Engine):
    """containerd without the CRI, whose way in is ctr's own --runc-binary."""

    name = "ctr"
    stop_tears_down = False

    def __init__(self, containerd: Containerd, scratch: Path, rootfs: Path, *, cgroup: str) -> None:
        super().__init__()
        self.containerd = containerd
        self._scratch = scratch
        self._rootfs = rootfs
        self._cgroup = cgroup
        self._runtime: list[str] = []

    def govern(self, warden: Warden) -> None:
        """Name the wrapper in every call from now on; install, which puts it there, gets a copy of what it edits."""
        config = self._scratch / "config.toml"
        shutil.copy(self.containerd.config, config)
        warden.install_containerd(config)
        self._runtime = [f"--runc-binary={warden.wrapper('runc')}"]

    def run(self, *args: str, **options: Unpack[Options]) -> Ended:
        """Call `ctr run --rm`."""
        name = fresh(self.name)
        result = self.containerd("run", "--rm", *self._flags(name, args, options), name)
        return Ended(result.command, result.code, result.stdout, result.stderr, name, None)

    def start(self, *args: str, **options: Unpack[Options]) -> CtrContainer:
        """Call `ctr run --detach`."""
        name = fresh(self.name)
        output = self._scratch / f"{name}.stdout"
        container = CtrContainer(self.containerd, name, output)
        self._running.append(container)
        self.containerd(
            "run", "--detach", f"--log-uri=file://{output}", *self._flags(name, args, options), name
        ).check()
        return container

    def _flags(self, name: str, args: tuple[str, ...], options: Options) -> list[str]:
        """Write config.json.  containerd writes it again for the bundle, from what it knows of it."""
        assert not isinstance(options.get("sysctl"), str), "containerd reads config.json and writes it again"
        assert "members" not in options, "containerd reads config.json and writes it again"
        bundle = make_bundle(self._scratch / name, self._rootfs, args, cgroup=f"{self._cgroup}/{name}", **options)
        return [*self._runtime, f"--config={bundle / 'config.json'}", *options.get("flags", ())]


class CtrContainer(Running):
    """A container of containerd's."""

    def __init__(self, containerd: Containerd, name: str, output: Path) -> None:
        super().__init__(name)
        self._containerd = containerd
        self._output = output

    @property
    def pid(self) -> int:
        """The first process, as containerd tells it."""
        task = self._task()
        assert task is not None, f"{self.id} is gone"
        return int(task[1])

    @property
    def ipc(self) -> str:
        """The namespace's path."""
        return str(self.namespace)

    def output(self) -> str:
        """Read the file that is its standard output."""
        return text(self._output)

    def execute(self, *args: str) -> Result:
        """Call `ctr task exec`."""
        return self._containerd("task", "exec", f"--exec-id={fresh('exec')}", self.id, *args)

    def stop(self) -> None:
        """Kill it and wait: containerd still knows it, no hook has run."""
        self._containerd("task", "kill", "--signal=KILL", self.id).check()
        until(lambda: (self._task() or ["", "", "STOPPED"])[2] == "STOPPED", f"{self.id} to be stopped")

    def remove(self) -> None:
        """Call `ctr task delete` and `ctr container delete`."""
        if self._task():
            self._containerd("task", "delete", "--force", self.id).check()
        if self.id in self._containerd("container", "list", "--quiet").check().stdout.split():
            self._containerd("container", "delete", self.id).check()

    def _task(self) -> list[str] | None:
        """Find its line in ctr's table: name, pid, status."""
        table = self._containerd("task", "list").check().stdout
        return next((words for words in map(str.split, table.splitlines()) if words[0] == self.id), None)
