"""The runtimes that our wrappers run: found when they are installed, and such that nobody but root can replace them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from ipcwarden.errors import why
from ipcwarden.layout import PROGRAMS
from ipcwarden.registration.entry import ENVIRONMENT, RegistrationError
from ipcwarden.registration.interpreter import resolve

NAMES = ("runc", "crun")
DIRECTORIES = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin")
_HINT = "--runtime names another one"


@dataclass(frozen=True)
class Runtime:
    """A runtime that was checked: where it is, and what it says of its version."""

    path: str
    version: str

    @property
    def name(self) -> str:
        """The name that it is known by."""
        return os.path.basename(self.path)

    @property
    def wrapper(self) -> str:
        """The name of the file that stands before it."""
        return f"ipcwarden-{self.name}"


def check(path: str) -> Runtime:
    """Return a runtime that root may be made to run.  Raises `RegistrationError`."""
    attempt = f"cannot stand before the runtime '{path}'"
    if not path.startswith("/"):
        raise RegistrationError(f"{attempt}: it is not an absolute path", "write its whole path")
    try:
        real = resolve(path)
    except OSError as error:
        raise RegistrationError(f"{attempt}: {why(error)}", _HINT) from error
    except ValueError as error:
        raise RegistrationError(f"{attempt}: {error}", _HINT) from error
    if any(f"/{PROGRAMS}/" in each for each in (path, real)):
        raise RegistrationError(f"{attempt}: it is ipcwarden's own", _HINT)
    return Runtime(path, version(path, attempt))


def version(path: str, attempt: str) -> str:
    """Ask a program for its version as an engine does.  Raises `RegistrationError`, which says `attempt`."""
    try:
        done = subprocess.run(
            [path, "--version"],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RegistrationError(f"{attempt}: {why(error) if isinstance(error, OSError) else error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise RegistrationError(f"{attempt}: --version ended with {done.returncode}: {said}")
    return done.stdout.decode("utf-8", "replace")


def find(name: str, directories: tuple[str, ...] = DIRECTORIES) -> Runtime:
    """Return the first runtime of that name that is good.  Raises `RegistrationError`."""
    reasons = []
    for directory in directories:
        path = f"{directory}/{name}"
        if not os.path.lexists(path):
            continue
        try:
            return check(path)
        except RegistrationError as error:
            reasons.append(str(error.args[0]))
    reason = "; ".join(reasons) or f"there is no {name} in {', '.join(directories)}"
    raise RegistrationError(reason, f"install {name}, or name a runtime with --runtime")


def beside(wanted: Runtime) -> list[Runtime]:
    """Return the runtime that is wanted and the other good ones that are there, each under a name of its own."""
    found = [wanted]
    for name in NAMES:
        if name != wanted.name:
            try:
                found.append(find(name))
            except RegistrationError:
                pass  # nothing is registered that would need it
    return found
