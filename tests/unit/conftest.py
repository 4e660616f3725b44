"""What unit tests share: the built hook, and examples that are no matter of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from ipcwarden import unit

if TYPE_CHECKING:
    from pathlib import Path

settings.register_profile("unit", deadline=None)  # a busy machine is slow, which says nothing about the code
settings.load_profile("unit")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the hook, as `install` would put it somewhere."""
    directory = tmp_path_factory.mktemp("built")
    unit.write(directory)
    return directory
