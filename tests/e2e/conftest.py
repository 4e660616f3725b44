"""Every runtime and engine of this machine, governed by nothing until a test says so."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.bundle import make_rootfs
from support.containerd import Containerd
from support.cri import Cri
from support.ctr import CtrEngine
from support.docker import Docker, DockerEngine
from support.engine import BareEngine, Engine, NativeEngine, PodmanEngine, but
from support.podman import Podman
from support.runtime import Crun, Runc
from support.schema import LOGS, validate_log
from support.warden import Warden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENGINES = but("rootless-runc", "rootless-crun")  # those have tests of their own, as the user


@pytest.fixture(scope="session")
def cgroup(lab: Path) -> str:
    """Name the cgroup that is the parent of every container's."""
    return f"/{lab.name}"


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(nothing_is_left: None) -> None:
    """No test leaves anything."""


@pytest.fixture(autouse=True)
def _records_are_valid(scratch: Path) -> Iterator[None]:
    """Hold every record that a test has caused to its schema, once the test's engine has ended."""
    yield
    for logs in scratch.glob(f"*/{LOGS}"):
        assert validate_log(logs.parents[2])


@pytest.fixture(scope="session")
def rootfs(lab: Path) -> Path:
    """Make the root filesystem of every container."""
    return make_rootfs(lab / "rootfs")


@pytest.fixture(scope="session")
def podman(lab: Path, cgroup: str, rootfs: Path, _nothing_is_left: None) -> Iterator[Callable[[str], Podman]]:
    """Give podman by its runtime, or an ordinary user's (rootless-runc); one of each is made in a session."""
    made: dict[str, Podman] = {}
    with ExitStack() as stack:

        def get(name: str) -> Podman:
            if name not in made:
                whose, _, runtime = name.rpartition("-")
                home = lab / f"{whose or 'podman'}-{runtime}"
                made[name] = Podman(runtime, home, rootfs, cgroup=cgroup, rootless=whose == "rootless")
                stack.callback(made[name].close)
            return made[name]

        yield get


@pytest.fixture(scope="session")
def docker(lab: Path, cgroup: str, rootfs: Path, _nothing_is_left: None) -> Iterator[Docker]:
    """Give a dockerd, started for the first test that asks."""
    docker = Docker(lab / "docker", rootfs, cgroup=cgroup)
    yield docker
    docker.close()


@pytest.fixture(scope="session")
def containerd(lab: Path, rootfs: Path, _nothing_is_left: None) -> Iterator[Containerd]:
    """Give a containerd, started for the first test that asks."""
    containerd = Containerd(lab / "containerd", rootfs)
    yield containerd
    containerd.close()


@pytest.fixture
def cri(containerd: Containerd, scratch: Path, cgroup: str) -> Iterator[Cri]:
    """Give the CRI of containerd, without pods."""
    cri = Cri(containerd, scratch, cgroup=cgroup)
    yield cri
    cri.close()


@pytest.fixture(params=ENGINES)
def engine(
    request: pytest.FixtureRequest,
    scratch: Path,
    rootfs: Path,
    cgroup: str,
    podman: Callable[[str], Podman],
) -> Iterator[Engine]:
    """Each engine in turn; choose with `@pytest.mark.parametrize("engine", ["runc"], indirect=True)`."""
    engine: Engine
    match request.param:
        case "runc":
            engine = BareEngine(Runc(scratch / "runc"), scratch / "bundles", rootfs, cgroup=cgroup)
        case "crun":
            engine = BareEngine(Crun(scratch / "crun"), scratch / "bundles", rootfs, cgroup=cgroup)
        case "native-runc":
            engine = NativeEngine(Runc(scratch / "runc"), scratch / "bundles", rootfs, cgroup=cgroup)
        case "native-crun":
            engine = NativeEngine(Crun(scratch / "crun"), scratch / "bundles", rootfs, cgroup=cgroup)
        case "docker":
            engine = DockerEngine(request.getfixturevalue("docker"), scratch)
        case "ctr":
            engine = CtrEngine(request.getfixturevalue("containerd"), scratch, rootfs, cgroup=cgroup)
        case name:
            engine = PodmanEngine(podman(name.removeprefix("podman-")), scratch)
    yield engine
    engine.close()


@pytest.fixture
def warden(scratch: Path) -> Warden:
    """Give ipcwarden's commands on an empty root."""
    return Warden(scratch / "root")
