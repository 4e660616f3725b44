"""dockerd and its client, with storage, configuration and state of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.daemon import ENVIRONMENT, Daemon, program
from support.engine import Ended, Engine, Running, fresh
from support.image import IMAGE, write_archive
from support.shell import run, text, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

    from support.bundle import Options
    from support.shell import Result
    from support.warden import Warden

# What a container can ask for that this engine cannot be told.
UNSUPPORTED = {
    "annotations": "Docker knows annotations from version 24 on",
    "members": "Docker writes config.json itself",
    "userns": "Docker gives user namespaces to all containers of a daemon or to none",
}


class Docker:
    """One dockerd, with a containerd that it starts itself."""

    def __init__(self, home: Path, rootfs: Path, *, cgroup: str) -> None:
        home.mkdir(parents=True)
        self._home = home
        self._log = home / "log"
        self.config = home / "daemon.json"  # a test may edit it, and call `reload` or `restart`
        self._settings = json.dumps(
            {
                "hosts": [f"unix://{home}/socket"],
                "pidfile": str(home / "pid"),
                "data-root": str(home / "data"),
                "exec-root": str(home / "run"),
                "storage-driver": "overlay2",
                "exec-opts": ["native.cgroupdriver=cgroupfs"],
                "cgroup-parent": cgroup,
                "bridge": "none",
                "iptables": False,
                "ip6tables": False,
                "ip-forward": False,
            },
            indent=4,
        )
        self.config.write_text(self._settings, encoding="utf-8")
        self._undone = 0  # reloads that came before the last restart
        self._daemon = Daemon([program("dockerd"), f"--config-file={self.config}"], self._log, self._serves)
        self._daemon.start()
        self("load", "--quiet", "--input", write_archive(home / "image.tar", rootfs, IMAGE)).check()

    def __call__(self, *arguments: str | Path) -> Result:
        """Run a docker command."""
        return run(*self._client(), *arguments, env=ENVIRONMENT)

    def script(self) -> str:
        """Return a shell script that calls this docker, for people to see it called."""
        network = 'case $1 in run) shift; set -- run --network=none "$@";; esac'
        return f'{network}\nexec {" ".join(map(str, self._client()))} "$@"'

    def reload_script(self, settings: Path) -> str:
        """Return one that has dockerd read what `settings`, another daemon.json, says, as its service's reload does."""
        merge = f"jq -s '.[0] * .[1]' {self.config} {settings} >{self._home}/new"
        known = f"grep -c 'Reloaded configuration' {self._log}"
        wait = f'until [ "$({known})" -gt "$before" ]; do sleep 0.05; done'
        put = f"mv {self._home}/new {self.config}"
        return f"before=$({known})\n{merge} && {put} && kill -HUP $(cat {self._home}/pid)\n{wait}"

    def run(self, args: Sequence[str], *more: str | Path, **options: Unpack[Options]) -> Result:
        """Run a container of the payload image, in the background if one of the flags `more` says `--detach`."""
        return self._make("run", args, more, options)

    def create(self, args: Sequence[str], *more: str | Path, **options: Unpack[Options]) -> Result:
        """Create a container of the payload image.  No runtime is called."""
        return self._make("create", args, more, options)

    def stop(self, name: str) -> Result:
        """Kill a container; its poststop hooks have run when this returns."""
        return self("stop", "--time", "0", name)

    def remove(self, name: str) -> Result:
        """Remove a container, killing it first if need be."""
        return self("rm", "--force", name)

    def inspect(self, name: str) -> dict[str, Any]:
        """Ask what Docker knows about a container."""
        found: dict[str, Any] = json.loads(self("container", "inspect", name).check().stdout)[0]
        return found

    def reload(self) -> None:
        """Let dockerd read its configuration again, without a restart."""
        known = self._reloads()
        self._daemon.reload()
        until(lambda: self._reloads() > known, "dockerd to read its configuration again")

    def restart(self) -> None:
        """Stop dockerd, which stops its containers, and start it."""
        self._daemon.stop()
        self._daemon.start()

    def reset(self) -> None:
        """Undo what a test did to the configuration; what is named there no more, a reload would leave as it is."""
        if text(self.config) != self._settings or self._reloads() > self._undone:
            self.config.write_text(self._settings, encoding="utf-8")
            self.restart()
            self._undone = self._reloads()

    def close(self) -> None:
        """Remove every container and end dockerd and its containerd."""
        if names := self("ps", "--all", "--quiet", "--no-trunc").check().stdout.split():
            self("rm", "--force", *names).check()
        self._daemon.stop()

    def _make(self, verb: str, args: Sequence[str], flags: Sequence[str | Path], options: Options) -> Result:
        return self(verb, "--network=none", *flags, *_flags(options), IMAGE, *args)

    def _client(self) -> tuple[str, ...]:
        return program("docker"), f"--config={self._home}/client", f"--host=unix://{self._home}/socket"

    def _serves(self) -> bool:
        return self("version").code == 0

    def _reloads(self) -> int:
        return text(self._log).count("Reloaded configuration")


class DockerEngine(Engine):
    """Docker, whose way in is the runtime that its configuration names."""

    name = "docker"
    stop_tears_down = True

    def __init__(self, docker: Docker, scratch: Path) -> None:
        super().__init__()
        self.docker = docker
        self._scratch = scratch

    def govern(self, warden: Warden) -> None:
        """Make the wrapper the runtime of every container from now on."""
        warden.install_docker(self.docker.config)
        self.docker.reload()

    def run(self, *args: str, **options: Unpack[Options]) -> Ended:
        """Call `docker run --rm`."""
        cidfile = self._scratch / fresh("cid")
        result = self.docker.run(args, "--rm", "--cidfile", cidfile, **options)
        name = text(cidfile) if cidfile.exists() else ""
        return Ended(result.command, result.code, result.stdout, result.stderr, name, None)

    def start(self, *args: str, **options: Unpack[Options]) -> DockerContainer:
        """Call `docker create` and `docker start`."""
        name = self.docker.create(args, **options).check().stdout.strip()
        container = DockerContainer(self.docker, name)
        self._running.append(container)
        self.docker("start", name).check()
        return container

    def close(self) -> None:
        """Remove the containers that a failed test left, and govern none any more."""
        super().close()
        self.docker.reset()


class DockerContainer(Running):
    """A container in Docker's storage."""

    def __init__(self, docker: Docker, name: str) -> None:
        super().__init__(name)
        self._docker = docker

    @property
    def pid(self) -> int:
        """The first process, as Docker tells it."""
        return int(self._docker.inspect(self.id)["State"]["Pid"])

    @property
    def ipc(self) -> str:
        """The container, by Docker's word for joining."""
        return f"container:{self.id}"

    def output(self) -> str:
        """Call `docker logs`."""
        return self._docker("logs", self.id).check().stdout

    def execute(self, *args: str) -> Result:
        """Call `docker exec`."""
        return self._docker("exec", self.id, *args)

    def stop(self) -> None:
        """Call `docker stop`, which has the runtime delete it."""
        self._docker.stop(self.id).check()

    def remove(self) -> None:
        """Call `docker rm`."""
        self._docker.remove(self.id)  # removed twice, it is still gone


def _flags(options: Options) -> list[str]:
    """Spell a container's wishes as docker's flags."""
    for option, reason in UNSUPPORTED.items():
        assert not options.get(option), reason
    sysctl = options.get("sysctl", {})
    assert not isinstance(sysctl, str), "Docker writes config.json itself"

    # Not Docker's default, private, which nobody can join.
    ipc = options.get("ipc", "private")
    flags = [f"--ipc={'shareable' if ipc == 'private' else ipc}"]
    flags += [f"--sysctl={name}={value}" for name, value in sysctl.items()]
    if options.get("writable_proc_sys"):
        flags += ["--security-opt=systempaths=unconfined"]
    if "memory" in options:
        flags += [f"--memory={options['memory']}"]
    return [*flags, *options.get("flags", ())]
