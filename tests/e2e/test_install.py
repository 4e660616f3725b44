"""What install writes is read by real engines as it is meant, and what uninstall leaves as if we had never been."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.daemon import program
from support.image import IMAGE
from support.shell import run, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.containerd import Containerd
    from support.cri import Cri, Pod
    from support.docker import Docker
    from support.podman import Podman
    from support.shell import Result
    from support.warden import Warden

LOOK = ("cat", "/proc/sys/fs/mqueue/queues_max")
KERNELS, OURS = "256\n", "32\n"
POLICY = """\
version: 1
profiles:
  p: {extends: baseline, sysctls: {fs.mqueue.queues_max: 32}, on_violation: clamp}
rules:
  - {name: all, profile: p}
"""


@pytest.fixture
def ward(warden: Warden) -> Warden:
    """Give ipcwarden with a policy in force."""
    warden.compile(POLICY)
    return warden


@pytest.fixture
def dockerd(docker: Docker) -> Iterator[Docker]:
    """Give Docker, whose configuration is put back afterwards."""
    yield docker
    docker.reset()


def look(docker: Docker, *flags: str) -> str:
    """Run a container that prints a limit."""
    return docker.run(LOOK, "--rm", *flags).check().stdout


def test_docker_governs_after_a_reload(dockerd: Docker, ward: Warden) -> None:
    """Every container, and the log knows its name."""
    assert look(dockerd) == KERNELS
    ward("install", "docker", "--config", dockerd.config).check()
    dockerd.reload()
    assert look(dockerd, "--name=shop") == OURS
    assert [record["event"] for record in ward.audit(container="shop")] == ["applied", "teardown"]


def test_docker_governs_whom_the_runtime_is_named_for(dockerd: Docker, ward: Warden) -> None:
    """And no other, with --no-default."""
    ward("install", "docker", "--config", dockerd.config, "--no-default").check()
    dockerd.reload()
    assert look(dockerd) == KERNELS
    assert look(dockerd, "--runtime=ipcwarden") == OURS


def test_docker_is_as_before_after_uninstall(dockerd: Docker, ward: Warden) -> None:
    """The file to the byte, and containers with it; dockerd takes a restart for that."""
    before = text(dockerd.config)
    ward("install", "docker", "--config", dockerd.config).check()
    dockerd.reload()
    ward("uninstall", "docker", "--config", dockerd.config).check()
    assert text(dockerd.config) == before
    dockerd.restart()
    assert look(dockerd) == KERNELS


def test_docker_s_containers_keep_their_runtime(dockerd: Docker, ward: Warden) -> None:
    """One that was created with ours runs on, and starts again, while the default is another one already."""
    ward("install", "docker", "--config", dockerd.config).check()
    dockerd.reload()
    name = dockerd.create(LOOK).check().stdout.strip()
    refused = ward("uninstall", "docker", "--config", dockerd.config)
    assert refused.code == 78
    assert f"1 containers were created with it and would not start any more: {dockerd.inspect(name)['Name'][1:]}" in (
        refused.stderr
    )
    ward("uninstall", "docker", "--config", dockerd.config, "--keep-runtime").check()
    dockerd.restart()
    assert dockerd("start", "--attach", name).check().stdout == OURS
    assert look(dockerd) == KERNELS
    dockerd.remove(name).check()
    ward("uninstall", "docker", "--config", dockerd.config).check()


def test_docker_stays_with_a_wrapper_that_is_written_anew(dockerd: Docker, ward: Warden) -> None:
    """Another answer to faults of the host's takes no reload."""
    ward("install", "docker", "--config", dockerd.config).check()
    dockerd.reload()
    ward("install", "docker", "--config", dockerd.config, "--on-error", "allow").check()
    (ward.root / "var/lib/ipcwarden/policy.compiled").unlink()
    assert look(dockerd) == KERNELS


def seen_in(pod: Pod) -> str:
    """Run a container of a pod that prints a limit."""
    return pod.run(*LOOK).stdout


def test_containerd_governs_pods_after_a_restart(cri: Cri, ward: Warden) -> None:
    """Of the default handler, with all else that is configured for it."""
    assert seen_in(cri.pod()) == KERNELS
    cri.govern(ward)
    pod = cri.pod(annotations={"org.example/x": "1"})
    assert seen_in(pod) == OURS
    assert pod.info["runtimeSpec"]["annotations"]["org.example/x"] == "1"


def test_containerd_governs_pods_of_the_handler(cri: Cri, ward: Warden) -> None:
    """Which is like the default one, that governs nobody."""
    cri.govern(ward, "--handler", "warden")
    assert seen_in(cri.pod()) == KERNELS
    pod = cri.pod(handler="warden", annotations={"org.example/x": "1"})
    assert seen_in(pod) == OURS
    assert pod.info["runtimeSpec"]["annotations"]["org.example/x"] == "1"


def test_containerd_is_as_before_after_uninstall(containerd: Containerd, cri: Cri, ward: Warden) -> None:
    """The file to the byte, and new pods with it; those that run are torn down by the wrapper that made them."""
    before = text(containerd.config)
    cri.govern(ward)
    old = cri.pod()
    ward("uninstall", "containerd", "--config", containerd.config).check()
    assert text(containerd.config) == before
    cri.restart()
    assert seen_in(cri.pod()) == KERNELS
    old.remove()
    assert [record["event"] for record in ward.audit()][-1] == "teardown"


@pytest.mark.parametrize("handler", [[], ["--handler", "warden"]], ids=["default", "handler"])
def test_containerd_reads_a_file_that_was_not_there(ward: Warden, handler: list[str]) -> None:
    """With nothing in it but what install wrote: the handlers are there, and run what they are to run."""
    said = run(program("containerd"), "--version").check().stdout
    version = "2" if re.search(r"\b1\.\d+\.\d+", said) else "3"
    ward("install", "containerd", "--config-version", version, *handler).check()
    file = ward.root / "etc/containerd/config.toml"
    dumped = tomllib.loads(run(program("containerd"), f"--config={file}", "config", "dump").check().stdout)
    [runtimes] = [
        plugin["containerd"]["runtimes"]
        for plugin in dumped["plugins"].values()
        if "runtimes" in plugin.get("containerd", {})
    ]
    programs = {name: each["options"].get("BinaryName", "") for name, each in runtimes.items()}
    wrapper = str(ward.wrapper("runc"))
    assert programs == ({"runc": "", "warden": wrapper} if handler else {"runc": wrapper})


class Site:
    """A podman that reads hooks where its configuration says, with our drop-in as part of it, and nowhere else."""

    def __init__(self, podman: Podman, ward: Warden, *options: str) -> None:
        ward("install", "podman", *options).check()
        drop_in = tomllib.loads(text(ward.root / "etc/containers/containers.conf.d/50-ipcwarden.conf"))
        [conf] = map(Path, re.findall(r"CONTAINERS_CONF=(\S+)", podman.script(ward.root)))
        merged = ward.root / "containers.conf"
        dirs = f"[engine]\nhooks_dir = {drop_in['engine']['hooks_dir']}"
        merged.write_text(text(conf).replace("[engine]", dirs), encoding="utf-8")
        self._user = podman.user
        self._env = {
            **(podman.user.env if podman.user else {**os.environ, "HOME": str(conf.parent)}),
            "CONTAINERS_CONF": str(merged),
            "CONTAINERS_STORAGE_CONF": str(conf.parent / "storage.conf"),
        }

    def __call__(self, *arguments: str) -> Result:
        """Run a podman command, from a directory that conmon may write to."""
        podman = (program("podman"), *arguments)
        command = self._user.command(*podman) if self._user else podman
        return run("env", "-C", Path(self._env["HOME"]), *command, env=self._env)

    def limits(self, *flags: str) -> str:
        """Run a container that asks for too much and prints what it has got."""
        return self("run", "--rm", *flags, "--sysctl=fs.mqueue.queues_max=64", IMAGE, *LOOK).check().stdout


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_podman_decides_before_the_runtime(
    podman: Callable[[str], Podman], ward: Warden, runtime: str, cgroup: str
) -> None:
    """What is too much is made less before runc sees it, so that there is nothing to put right afterwards."""
    site = Site(podman(runtime), ward, "--precreate")
    assert site.limits("--name=shop", f"--cgroup-parent={cgroup}") == OURS
    assert [record["event"] for record in ward.audit(container="shop")] == ["applied", "teardown"]


@pytest.mark.parametrize("runtime", ["rootless-runc", "rootless-crun"])
def test_ordinary_user_s_podman_reads_the_drop_in(podman: Callable[[str], Podman], ward: Warden, runtime: str) -> None:
    """As everybody's does, and the host's policy holds there too."""
    assert Site(podman(runtime), ward, "--precreate").limits() == OURS


def test_podman_builds_images_beside_precreate(podman: Callable[[str], Podman], ward: Warden, tmp_path: Path) -> None:
    """In a directory that podman reads by itself the stage would end every build."""
    site = Site(podman("runc"), ward, "--precreate")
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nRUN true\n", encoding="utf-8")
    build = ("build", "--quiet", "--network=host", "--isolation=chroot")
    built = site(*build, str(tmp_path)).check().stdout.strip()
    site("rmi", built).check()
    told = site(*build, "--no-cache", f"--hooks-dir={ward.root}/usr/share/ipcwarden/precreate.d", str(tmp_path))
    assert 'unknown stage "precreate"' in told.stderr


def test_containerd_s_own_defaults_are_edited(ward: Warden) -> None:
    """All of what it writes for a start, and it reads the same with one value more."""
    file = ward.root / "etc/containerd/config.toml"
    file.parent.mkdir()
    before = run(program("containerd"), "config", "default").check().stdout
    file.write_text(before, encoding="utf-8")
    ward("install", "containerd").check()
    changed = [line for line in text(file).splitlines() if line not in before.splitlines()]
    assert len(changed) == 1
    assert str(ward.wrapper("runc")) in changed[0]
    dumped = run(program("containerd"), f"--config={file}", "config", "dump").check().stdout
    assert str(ward.wrapper("runc")) in dumped
    ward("uninstall", "containerd").check()
    assert text(file) == before
