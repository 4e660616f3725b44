"""podman, with storage, configuration and state of its own."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from support.bundle import FIRST_ID, UNPACKED
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

    from support.bundle import Options
    from support.shell import Result

IMAGE = "registry.example/tests/payload:1"

# No network, no registry, no journal; the sysctl that distributions let podman add to every container; limits that root
# may set without CAP_SYS_RESOURCE.
_CONTAINERS_CONF = """\
[containers]
default_sysctls = ["net.ipv4.ping_group_range=0 0"]
default_ulimits = ["nofile=1024:4096", "nproc=1000:1000"]
log_driver = "k8s-file"
netns = "none"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "{runtime}"

[network]
network_config_dir = "{home}/network"
"""
_STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{home}/storage"
runroot = "{home}/run"
"""


class Podman:
    """One podman that runs its containers with one runtime."""

    def __init__(self, runtime: str, home: Path, rootfs: Path, *, cgroup: str) -> None:
        home.mkdir(parents=True)
        self.runtime = runtime
        self._home = home
        self.hooks_dir = home / "no-hooks"
        self.hooks_dir.mkdir()
        self._cgroup = cgroup
        self._program = _program()
        self._env = {**os.environ, "HOME": str(home)}
        for variable, name, template in (
            ("CONTAINERS_CONF", "containers.conf", _CONTAINERS_CONF),
            ("CONTAINERS_STORAGE_CONF", "storage.conf", _STORAGE_CONF),
        ):
            (home / name).write_text(template.format(home=home, runtime=runtime), encoding="utf-8")
            self._env[variable] = str(home / name)

        archive = home / "image.tar"
        run("tar", "--directory", rootfs, "--create", "--file", archive, ".").check()
        self("import", archive, IMAGE).check()

    def __call__(self, *arguments: str | Path, hooks_dir: Path | None = None) -> Result:
        """Run a podman command."""
        # From a directory of its own: conmon writes a file `oom` where it was started.
        command = ("env", "-C", self._home, self._program, "--hooks-dir", hooks_dir or self.hooks_dir)
        return run(*command, *arguments, env=self._env)

    def script(self, hooks_dir: Path) -> str:
        """Return a shell script that calls this podman with hooks from a directory, for people to see it called."""
        names = ("HOME", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
        env = " ".join(f"{name}={self._env[name]}" for name in names)
        cgroup = f'case $1 in run) shift; set -- run --cgroup-parent={self._cgroup} "$@";; esac'
        return f'#!/bin/sh\n{cgroup}\nexec env {env} {self._program} --hooks-dir {hooks_dir} "$@"\n'

    def run(
        self, args: Sequence[str], *flags: str | Path, hooks_dir: Path | None = None, **options: Unpack[Options]
    ) -> Result:
        """Run a container of the payload image, in the background if a flag says `--detach`."""
        return self._make("run", args, flags, hooks_dir, options)

    def create(
        self, args: Sequence[str], *flags: str | Path, hooks_dir: Path | None = None, **options: Unpack[Options]
    ) -> Result:
        """Create a container of the payload image.  No hook runs."""
        return self._make("create", args, flags, hooks_dir, options)

    def start(self, name: str, *, hooks_dir: Path | None = None) -> Result:
        """Start a created or stopped container: hooks are looked up now."""
        return self("start", name, hooks_dir=hooks_dir)

    def stop(self, name: str) -> Result:
        """Kill a container; its poststop hooks have run when this returns."""
        return self("stop", "--time", "0", name)

    def remove(self, name: str) -> Result:
        """Remove a container, stopping it first if need be."""
        return self("rm", "--force", "--time", "0", name)

    def inspect(self, name: str) -> dict[str, Any]:
        """Ask what podman knows about a container."""
        found: dict[str, Any] = json.loads(self("container", "inspect", name).check().stdout)[0]
        return found

    def close(self) -> None:
        """Remove every container, the image and the storage with its mounts."""
        self("system", "reset", "--force").check()

    def _make(
        self, verb: str, args: Sequence[str], flags: Sequence[str | Path], hooks_dir: Path | None, options: Options
    ) -> Result:
        cgroup = f"--cgroup-parent={self._cgroup}"
        return self(verb, cgroup, *flags, *_flags(options), IMAGE, *args, hooks_dir=hooks_dir)


def _flags(options: Options) -> list[str]:
    """Spell a container's wishes as podman's flags."""
    sysctl = options.get("sysctl", {})
    assert not isinstance(sysctl, str), "podman writes config.json itself"
    assert "members" not in options, "podman writes config.json itself"

    flags = [f"--sysctl={name}={value}" for name, value in sysctl.items()]
    flags += [f"--annotation={name}={value}" for name, value in options.get("annotations", {}).items()]
    match options.get("ipc", "private"):
        case "private":
            pass  # podman's own default, which others can join
        case "host":
            flags += ["--ipc=host"]
        case path if path.startswith("container:"):
            flags += [f"--ipc={path}"]
        case path:
            flags += [f"--ipc=ns:{path}"]
    if options.get("userns"):
        flags += [f"--uidmap=0:{FIRST_ID}:65536", f"--gidmap=0:{FIRST_ID}:65536"]
    if options.get("writable_proc_sys"):
        flags += ["--security-opt=unmask=/proc/sys"]
    if "memory" in options:
        flags += [f"--memory={options['memory']}"]
    return flags


def _program() -> str:
    """Find the machine's podman, or the one that `make setup` unpacked because installing it would start a service."""
    return shutil.which("podman") or str(UNPACKED / "usr" / "bin" / "podman")
