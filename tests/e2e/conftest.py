"""Every runtime and engine of this machine, governed by nothing until a test says so."""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import residue
from support.bundle import make_rootfs
from support.engine import BareEngine, Engine, PodmanEngine
from support.podman import Podman
from support.runtime import Crun, Runc
from support.warden import Warden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENGINES = ["runc", "crun", "podman-runc", "podman-crun"]

_numbers = count(1)


@pytest.fixture(scope="session")
def lab() -> Path:
    """Name the session's directory, which user namespaces' roots can reach, other than pytest's."""
    directory = os.environ.get("IPCWARDEN_LAB")
    if directory is None:
        pytest.exit("these tests run containers: call them with `make test-e2e` or `tests/support/machine pytest ...`")
    return Path(directory)


@pytest.fixture(scope="session")
def cgroup(lab: Path) -> str:
    """Name the cgroup that is the parent of every container's."""
    return f"/{lab.name}"


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(lab: Path) -> Iterator[None]:
    """No test leaves a mount, a process or an object, or changes the host's limits."""
    before = residue.look()
    yield
    residue.nothing_since(before)


@pytest.fixture(scope="session")
def rootfs(lab: Path) -> Path:
    """Make the root filesystem of every container."""
    return make_rootfs(lab / "rootfs")


@pytest.fixture(scope="session")
def podman(lab: Path, cgroup: str, rootfs: Path, _nothing_is_left: None) -> Iterator[Callable[[str], Podman]]:
    """Give podman with a runtime; one of each is made in a session."""
    made: dict[str, Podman] = {}
    with ExitStack() as stack:

        def get(runtime: str) -> Podman:
            if runtime not in made:
                made[runtime] = Podman(runtime, lab / f"podman-{runtime}", rootfs, cgroup=cgroup)
                stack.callback(made[runtime].close)
            return made[runtime]

        yield get


@pytest.fixture
def scratch(lab: Path) -> Path:
    """Give a test a directory of its own."""
    directory = lab / f"test-{next(_numbers)}"
    directory.mkdir()
    return directory


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
        case name:
            engine = PodmanEngine(podman(name.removeprefix("podman-")), scratch)
    yield engine
    engine.close()


@pytest.fixture
def warden(scratch: Path) -> Warden:
    """Give ipcwarden's commands on an empty root."""
    return Warden(scratch / "root")
