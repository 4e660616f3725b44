"""podman, with storage, configuration and state of its own."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from support.bundle import FIRST_ID, UNPACKED
from support.daemon import program
from support.image import IMAGE, INFRA, INFRA_COMMAND, write_archive
from support.shell import run
from support.user import User

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

    from support.bundle import Options
    from support.shell import Result

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
helper_binaries_dir = ["{unpacked}/usr/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"]
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
    """One podman that runs its containers with one runtime, as root or as the ordinary user."""

    def __init__(self, runtime: str, home: Path, rootfs: Path, *, cgroup: str, rootless: bool = False) -> None:
        self.runtime = runtime
        self.user = User(home) if rootless else None
        if self.user is None:
            home.mkdir(parents=True)
        self._home = home
        self.hooks_dir = home / "no-hooks"
        self.hooks_dir.mkdir()
        # No cgroup is an ordinary user's to give away, other than with a session of systemd's.
        self._cgroup = [] if rootless else [f"--cgroup-parent={cgroup}"]
        self._program = program("podman")
        self._env = self.user.env.copy() if self.user else {**os.environ, "HOME": str(home)}
        self._env["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"  # of podman 5, in every call's standard error
        for variable, name, template in (
            ("CONTAINERS_CONF", "containers.conf", _CONTAINERS_CONF),
            ("CONTAINERS_STORAGE_CONF", "storage.conf", _STORAGE_CONF),
        ):
            (home / name).write_text(template.format(home=home, runtime=runtime, unpacked=UNPACKED), encoding="utf-8")
            self._env[variable] = str(home / name)

        for name, command in ((IMAGE, ()), (INFRA, INFRA_COMMAND)):
            archive = write_archive(home / "image.tar", rootfs, name, command)
            self("load", "--quiet", "--input", archive).check()

    def __call__(self, *arguments: str | Path, hooks_dir: Path | None = None) -> Result:
        """Run a podman command."""
        podman = (self._program, "--hooks-dir", hooks_dir or self.hooks_dir, *arguments)
        command = self.user.command(*podman) if self.user else podman
        # From a directory of its own: conmon writes a file `oom` where it was started.
        return run("env", "-C", self._home, *command, env=self._env)

    def script(self, hooks_dir: Path) -> str:
        """Return a shell script that calls this podman with hooks from a directory, for people to see it called."""
        names = ("HOME", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "PODMAN_IGNORE_CGROUPSV1_WARNING")
        env = " ".join(f"{name}={self._env[name]}" for name in names)
        cgroup = f'case $1 in run) shift; set -- run {" ".join(self._cgroup)} "$@";; esac'
        return f'#!/bin/sh\n{cgroup}\nexec env {env} {self._program} --hooks-dir {hooks_dir} "$@"\n'

    def run(
        self, args: Sequence[str], *more: str | Path, hooks_dir: Path | None = None, **options: Unpack[Options]
    ) -> Result:
        """Run a container of the payload image, in the background if one of the flags `more` says `--detach`."""
        return self._make("run", args, more, hooks_dir, options)

    def create(
        self, args: Sequence[str], *more: str | Path, hooks_dir: Path | None = None, **options: Unpack[Options]
    ) -> Result:
        """Create a container of the payload image.  No hook runs."""
        return self._make("create", args, more, hooks_dir, options)

    def start(self, name: str, *flags: str, hooks_dir: Path | None = None) -> Result:
        """Start a created or stopped container: hooks are looked up now."""
        return self("start", *flags, name, hooks_dir=hooks_dir)

    def stop(self, name: str) -> Result:
        """Kill a container; its poststop hooks have run when this returns."""
        return self("stop", "--time", "0", name)

    def remove(self, name: str) -> Result:
        """Remove a container, stopping it first if need be."""
        return self("rm", "--force", "--time", "0", name)

    def create_pod(self, name: str, *flags: str) -> Result:
        """Create a pod whose members share the IPC namespace of its infra container, which starts with the first."""
        return self("pod", "create", *self._cgroup, "--share=ipc", f"--infra-image={INFRA}", *flags, name)

    def remove_pod(self, name: str) -> Result:
        """Remove a pod with its members, stopping them first if need be."""
        return self("pod", "rm", "--force", "--time", "0", name)

    def infra(self, pod: str) -> str:
        """Return the id of a pod's infra container."""
        found: Any = json.loads(self("pod", "inspect", pod).check().stdout)
        if isinstance(found, list):  # since podman 5
            [found] = found
        return str(found["InfraContainerID"])

    def inspect(self, name: str) -> dict[str, Any]:
        """Ask what podman knows about a container."""
        found: dict[str, Any] = json.loads(self("container", "inspect", name).check().stdout)[0]
        return found

    def close(self) -> None:
        """Remove every container, the images and the storage with its mounts."""
        self("system", "reset", "--force").check()
        if self.user:
            self("system", "migrate").check()  # ends the process that holds the user's namespaces between two commands

    def _make(
        self, verb: str, args: Sequence[str], flags: Sequence[str | Path], hooks_dir: Path | None, options: Options
    ) -> Result:
        own = self._flags(options)
        cgroup = [] if any(flag.startswith("--pod=") for flag in own) else self._cgroup  # a member's is the pod's
        return self(verb, *cgroup, *flags, *own, IMAGE, *args, hooks_dir=hooks_dir)

    def _flags(self, options: Options) -> list[str]:
        flags = _flags(options)
        if options.get("userns"):
            # The user's own id is 0 in the namespace that podman makes for it, the others follow.
            first = 1 if self.user else FIRST_ID
            flags += [f"--uidmap=0:{first}:65536", f"--gidmap=0:{first}:65536"]
        assert not (self.user and "memory" in options), "limits of memory are nothing that an ordinary user can give"
        return flags


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
    if options.get("writable_proc_sys"):
        flags += ["--security-opt=unmask=/proc/sys"]
    if "memory" in options:
        flags += [f"--memory={options['memory']}"]
    return [*flags, *options.get("flags", ())]
