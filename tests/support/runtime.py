"""The OCI runtimes, called as an engine calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.shell import run, run_into, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.shell import Result


class Runtime:
    """One runtime with a state directory of its own."""

    program: str

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.states = directory / "state"  # a directory a container

    def run(self, bundle: Path, name: str) -> Result:
        """Create, start, wait and delete: all of a container's life, every hook included."""
        return self._call("run", "--bundle", bundle, name)

    def create(self, bundle: Path, name: str) -> Result:
        """Create a container, up to the user's process, which waits.  Its output goes where `output` finds it."""
        stdout, stderr = self.output(name), self._directory / f"{name}.stderr"
        return run_into(stdout, stderr, self.program, "--root", self.states, "create", "--bundle", bundle, name)

    def output(self, name: str) -> Path:
        """Where a created container's standard output goes."""
        return self._directory / f"{name}.stdout"

    def start(self, name: str) -> Result:
        """Let the user's process of a created container go."""
        return self._call("start", name)

    def state(self, name: str) -> dict[str, Any] | None:
        """Ask what the runtime knows about a container; None if nothing."""
        result = self._call("state", name)
        return json.loads(result.stdout) if result.code == 0 else None

    def execute(self, name: str, *args: str) -> Result:
        """Run another program in a container."""
        return self._call("exec", name, *args)

    def kill(self, name: str, signal: str = "KILL") -> Result:
        """Send a signal to a container's first process."""
        return self._call("kill", name, signal)

    def stop(self, name: str) -> None:
        """End a container without deleting it: no hook runs."""
        self.kill(name).check()
        until(lambda: (self.state(name) or {}).get("status") == "stopped", f"{name} to be stopped")

    def pause(self, name: str) -> Result:
        """Let a container's processes stand still."""
        return self._call("pause", name)

    def resume(self, name: str) -> Result:
        """Let them go on."""
        return self._call("resume", name)

    def delete(self, name: str, *, force: bool = False) -> Result:
        """Delete a container, which is when its poststop hooks run."""
        return self._call("delete", *["--force"] * force, name)

    def _call(self, *arguments: str | Path) -> Result:
        return run(self.program, "--root", self.states, *arguments)


class Runc(Runtime):
    """runc writes config.json's sysctls after the creation hooks, and runs poststart before the user's process."""

    program = "runc"


class Crun(Runtime):
    """crun writes config.json's sysctls before the creation hooks, and runs poststart beside the user's process."""

    program = "crun"
