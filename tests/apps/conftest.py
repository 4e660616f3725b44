"""Applications of Debian's packages in containers, governed as on any host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.packages import Packages
from support.bundle import make_rootfs
from support.engine import BareEngine, PodmanEngine
from support.podman import Podman
from support.runtime import Runc
from support.schema import LOGS, validate_log
from support.shell import REPOSITORY
from support.warden import Warden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(nothing_is_left: None) -> None:
    """No test leaves anything."""


@pytest.fixture(autouse=True)
def _records_are_valid(scratch: Path) -> Iterator[None]:
    """Hold every record that a test has caused to its schema."""
    yield
    assert sum(validate_log(logs.parents[2]) for logs in scratch.glob(f"*/{LOGS}"))


@pytest.fixture(scope="session")
def packages() -> Packages:
    """Give the packages, which `make test-apps` has unpacked."""
    return Packages((REPOSITORY / "build" / "apps" / "root").resolve(strict=True))


@pytest.fixture
def runc(scratch: Path, packages: Packages, lab: Path) -> Iterator[BareEngine]:
    """Give runc, whose containers have the packages and nothing else."""
    engine = BareEngine(Runc(scratch / "runc"), scratch / "bundles", packages.root, cgroup=f"/{lab.name}")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def _podman(lab: Path, _nothing_is_left: None) -> Iterator[Podman]:
    podman = Podman("runc", lab / "podman", make_rootfs(lab / "rootfs"), cgroup=f"/{lab.name}")
    yield podman
    podman.close()


@pytest.fixture
def podman(_podman: Podman, scratch: Path) -> Iterator[PodmanEngine]:
    """Give podman, whose containers have the payloads; and the packages, with their `flags`."""
    engine = PodmanEngine(_podman, scratch)
    yield engine
    engine.close()


@pytest.fixture
def warden(scratch: Path) -> Warden:
    """Give ipcwarden's commands on an empty root."""
    return Warden(scratch / "root")
