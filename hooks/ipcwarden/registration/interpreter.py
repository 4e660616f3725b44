"""The Python that runs our hooks as root: one that nobody else can have replaced, on the whole way to it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections import deque
from dataclasses import dataclass

from ipcwarden.errors import why
from ipcwarden.files import unsafe
from ipcwarden.registration.entry import ENVIRONMENT, RegistrationError

CANDIDATES = ("/usr/bin/python3", "/usr/libexec/platform-python")
OLDEST = (3, 11)
_PROBE = """\
import os, sys
from importlib.util import MAGIC_NUMBER
print(*sys.version_info[:2], sys.implementation.cache_tag, MAGIC_NUMBER.hex(), os.readlink("/proc/self/exe"))
"""
_MAX_LINKS = 40  # as the kernel's
_HINT = "--interpreter names another one"


@dataclass(frozen=True)
class Interpreter:
    """A Python that was checked: where it is, and what bytecode it reads (`tag` is in the file's name)."""

    path: str
    version: tuple[int, int]
    tag: str
    magic: bytes


def choose(wanted: str | None = None, candidates: tuple[str, ...] = CANDIDATES) -> Interpreter:
    """Check the interpreter that is wanted, or find the first good one.  Raises `RegistrationError`."""
    if wanted is not None:
        return check(wanted)
    reasons = []
    for path in candidates:
        try:
            return check(path)
        except RegistrationError as error:
            reasons.append(str(error.args[0]))
    raise RegistrationError("; ".join(reasons), "install python3, or name one with --interpreter")


def check(path: str) -> Interpreter:
    """Return an interpreter that can be trusted and is not too old.  Raises `RegistrationError`."""
    attempt = f"cannot register the interpreter '{path}'"
    if not path.startswith("/"):
        raise RegistrationError(f"{attempt}: it is not an absolute path", _HINT)
    try:
        real = resolve(path)
    except OSError as error:
        raise RegistrationError(f"{attempt}: {why(error)}", _HINT) from error
    except ValueError as error:
        raise RegistrationError(f"{attempt}: {error}", _HINT) from error
    if any(map(_is_in_venv, (path, real))):
        raise RegistrationError(f"{attempt}: it is a virtual environment's, which may go any time", _HINT)
    return _ask(path, real, attempt)


def resolve(path: str) -> str:
    """Walk to a program and return its own path.  Raises `OSError`, `ValueError` with what others can change."""
    parts, here, links = deque(path.split("/")), "/", 0
    _trust("/", os.lstat("/"))
    while parts:
        part = parts.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, part)
        status = os.lstat(there)
        _trust(there, status)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise ValueError("too many symbolic links")
            target = os.readlink(there)
            here = "/" if target.startswith("/") else here
            parts.extendleft(reversed(target.split("/")))
        else:
            here = there
    if not stat.S_ISREG(os.lstat(here).st_mode) or not os.access(here, os.X_OK):
        raise ValueError("it is not a program")
    return here


def _trust(path: str, status: os.stat_result) -> None:
    wrong = unsafe(status)
    if stat.S_ISLNK(status.st_mode) and status.st_uid in (0, os.geteuid()):
        wrong = ""  # a link's mode means nothing: whoever can write the directory can replace it
    if wrong:
        raise ValueError(f"'{path}': {wrong}")


def _is_in_venv(path: str) -> bool:
    directory = os.path.dirname(path)
    return any(os.path.lexists(os.path.join(each, "pyvenv.cfg")) for each in (directory, os.path.dirname(directory)))


def _ask(path: str, real: str, attempt: str) -> Interpreter:
    try:
        answer = subprocess.run(
            [path, "-I", "-S", "-c", _PROBE],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.split(maxsplit=4)
        version, tag, magic = (int(answer[0]), int(answer[1])), answer[2], bytes.fromhex(answer[3])
        program = answer[4].rstrip("\n")
    except OSError as error:
        raise RegistrationError(f"{attempt}: {why(error)}", _HINT) from error
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        raise RegistrationError(f"{attempt}: it does not answer as Python {_dotted(OLDEST)} would", _HINT) from error
    if version < OLDEST:
        raise RegistrationError(f"{attempt}: it is Python {_dotted(version)}, older than {_dotted(OLDEST)}", _HINT)
    if program != real:
        raise RegistrationError(f"{attempt}: it is a wrapper of '{program}', which was not checked", _HINT)
    return Interpreter(path, version, tag, magic)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
