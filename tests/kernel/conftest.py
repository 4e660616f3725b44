"""Real namespaces and objects, below a root of their own, and hooks called as a runtime calls them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from support import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.sandbox import Container

_numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(nothing_is_left: None) -> None:
    """No test leaves anything."""


@pytest.fixture
def root(scratch: Path) -> Path:
    """Give a root with a policy in force."""
    directory = scratch / "root"
    directory.mkdir()
    sandbox.put_in_force(directory)
    return directory


@pytest.fixture
def start(root: Path, scratch: Path) -> Iterator[Callable[..., Container]]:
    """Start containers; they end with the test."""
    started: list[Container] = []

    def start(**options: object) -> Container:
        name = f"c{next(_numbers)}"
        started.append(sandbox.start(root, scratch / "bundles" / name, name=name, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for container in started:
        container.kill()
        container.poststop()


@pytest.fixture
def container(start: Callable[..., Container]) -> Container:
    """Start a container with a private IPC namespace."""
    return start()
