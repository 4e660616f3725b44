"""Programs that end, and conditions that come true."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
# What `make` has built. Tests start it as other users, who may not be able to enter the checkout: tests/support/machine
# has put a copy where they can reach it.
BUILT = Path(os.environ.get("IPCWARDEN_LAB", REPOSITORY)) / "build"
DEADLINE = 30.0


@dataclass(frozen=True)
class Result:
    """How a program ended and what it said."""

    command: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def check(self) -> Result:
        """Return the result of a program that ended well; say everything about any other."""
        said = f"stdout: {self.stdout}\nstderr: {self.stderr}"
        assert self.code == 0, f"{' '.join(self.command)}\nended with {self.code}\n{said}"
        return self


def run(
    *command: str | Path, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = DEADLINE
) -> Result:
    """Run a program to its end, whatever that is.  Bytes that are not UTF-8 come back as surrogates."""
    arguments = tuple(map(str, command))
    done = subprocess.run(
        arguments,
        env=env,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )
    return Result(arguments, done.returncode, done.stdout, done.stderr)


def run_into(stdout: Path, stderr: Path, *command: str | Path, timeout: float = DEADLINE) -> Result:
    """Run a program whose children go on writing to its output after its end.

    Files, because reading a pipe to its end waits for every process that inherited it.
    """
    arguments = tuple(map(str, command))
    with stdout.open("wb") as out, stderr.open("wb") as err:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=timeout, check=False)
    return Result(arguments, done.returncode, text(stdout), text(stderr))


def text(file: Path) -> str:
    """Read what a program wrote to a file so far."""
    return file.read_text(encoding="utf-8", errors="surrogateescape")


def until(condition: Callable[[], T], what: str, *, deadline: float = DEADLINE) -> T:
    """Wait until a condition is truthy and return its value; fail with `what` was waited for."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline:g} s for {what}"
        time.sleep(0.01)
    return value
