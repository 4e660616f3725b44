"""What engines left on a disk for one container: tests/unit/data/engines, each named by engine and version.

Recorded on a real machine, and shortened where it does not matter; `-from-source` in a name says that it was written
after that version's source instead, because the engine could not be run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.shell import REPOSITORY

_DIRECTORY = REPOSITORY / "tests" / "unit" / "data" / "engines"
_SCRATCH = "/scratch"  # what stands for the directory that an engine was given

NAMES = sorted(path.stem for path in _DIRECTORY.glob("*.json"))


@dataclass(frozen=True)
class Recorded:
    """One container; `files` are the engine's own records, a text or what a JSON file holds, by their paths."""

    container: str
    bundle: str
    state: dict[str, Any]
    config: dict[str, Any]
    files: dict[str, Any]
    directories: list[str]

    def unpack(self) -> str:
        """Put everything where it was, and return the bundle."""
        for directory in [*self.directories, self.bundle]:
            Path(directory).mkdir(parents=True)
        self.configure(self.config)
        for path, content in self.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return self.bundle

    def configure(self, config: dict[str, Any]) -> None:
        """Write another config.json."""
        (Path(self.bundle) / "config.json").write_text(json.dumps(config), encoding="utf-8")


def load(name: str, scratch: Path | str = _SCRATCH) -> Recorded:
    """Read what was recorded, as if the engine had been given the directory `scratch`."""
    text = (_DIRECTORY / f"{name}.json").read_text(encoding="utf-8")
    return Recorded(**json.loads(text.replace(f'"{_SCRATCH}/', f'"{scratch}/')))
