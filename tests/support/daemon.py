"""Daemons that a session starts for itself: no service of the machine's is touched, and none is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from support.bundle import UNPACKED
from support.shell import text, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Where engines find their programs and one another's: what `make setup` unpacked is what the machine lacks.
_PLACES = [str(UNPACKED / "usr" / "sbin"), str(UNPACKED / "usr" / "bin")]
PATH = ":".join([*_PLACES, os.environ["PATH"]])
ENVIRONMENT = {**os.environ, "PATH": PATH}


def program(name: str) -> str:
    """Find an engine's program."""
    found = shutil.which(name, path=PATH)
    assert found, f"{name} is missing (run: make setup)"
    return found


class Daemon:
    """A program that serves until it is told to end."""

    def __init__(self, command: list[str], log: Path, serves: Callable[[], bool]) -> None:
        self._command = command
        self._log = log
        self._serves = serves
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves; fail with what it said if it ends instead."""
        with self._log.open("ab") as log:
            # A group of its own: no signal to the tests' is its.
            self._process = subprocess.Popen(
                self._command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        process = self._process
        until(lambda: process.poll() is not None or self._serves(), f"{self._command[0]} to serve")
        assert process.poll() is None, f"{self._command[0]} ended: {text(self._log)}"

    def reload(self) -> None:
        """Tell it to read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None
