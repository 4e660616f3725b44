"""What tests of real namespaces and real containers share; unit tests ask for none of it."""

from __future__ import annotations

import os
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import residue

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = count(1)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses a directory of its own, which it would leave
def pytest_configure(config: pytest.Config) -> None:
    """Let pytest's `tmp_path` go away with the session; `--basetemp` names one that stays."""
    if config.option.basetemp is None:
        directory = tempfile.TemporaryDirectory(prefix="ipcwarden-pytest.", dir=os.environ.get("IPCWARDEN_LAB"))
        config.option.basetemp = directory.name
        config.add_cleanup(directory.cleanup)


@pytest.fixture(scope="session")
def lab() -> Path:
    """Name the session's directory, which user namespaces' roots can reach, other than pytest's."""
    directory = os.environ.get("IPCWARDEN_LAB")
    if directory is None:
        pytest.exit("these tests need a machine of their own: call `make test`, or tests/support/machine pytest ...")
    return Path(directory)


@pytest.fixture(scope="session")
def nothing_is_left(lab: Path) -> Iterator[None]:
    """No test leaves a mount, a process or an object, or changes the host's limits."""
    before = residue.look()
    yield
    residue.nothing_since(before)


@pytest.fixture
def scratch(lab: Path) -> Path:
    """Give a test a directory of its own."""
    directory = lab / f"test-{next(_numbers)}"
    directory.mkdir()
    return directory
