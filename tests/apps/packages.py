"""Debian packages, unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Packages:
    """A root file system that tests/apps/root has made."""

    root: Path

    @property
    def flags(self) -> list[str]:
        """The flags of podman's that put the packages into a container beside its own /bin."""
        directories = (self.root / name for name in ("usr", "lib", "lib64"))
        return [f"--volume={each.resolve()}:/{each.name}:ro" for each in directories if each.exists()]

    def directory_of(self, program: str) -> str:
        """Return where a program is in a container; `program` is a glob, for paths that have a version."""
        [found] = self.root.glob(program)
        return f"/{found.parent.relative_to(self.root)}"
