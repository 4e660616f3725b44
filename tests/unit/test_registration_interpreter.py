"""Which Python may run the hooks.  What others could replace needs other users: tests/kernel/test_install.py."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from ipcwarden.registration.entry import RegistrationError
from ipcwarden.registration.interpreter import OLDEST, check, choose
from support.shell import run

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = "/usr/bin/python3"


def test_system_s_python_is_good() -> None:
    """Debian's own is root's, new enough and no virtual environment's."""
    assert check(SYSTEM).version >= OLDEST


def test_path_is_registered_as_it_was_named() -> None:
    """A link that moves with the distribution's Python stays a link."""
    assert check(SYSTEM).path == SYSTEM


def test_magic_is_the_interpreter_s() -> None:
    """The bytecode's magic number is what that Python says, not what runs this test."""
    said = run(SYSTEM, "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())").check().stdout
    assert check(SYSTEM).magic.hex() == said.strip()


def test_first_good_candidate_is_chosen(tmp_path: Path) -> None:
    """A missing one is passed over."""
    assert choose(candidates=(str(tmp_path / "none"), SYSTEM)).path == SYSTEM


def test_no_candidate_is_an_error_that_names_all(tmp_path: Path) -> None:
    """Who has no Python learns where it was looked for."""
    with pytest.raises(RegistrationError, match=r"first.*no such file.*second.*no such file.*--interpreter"):
        choose(candidates=("/usr/bin/first", "/usr/bin/second"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("python3", "not an absolute path"),
        ("/usr/bin/no-such-python", "no such file"),
        ("/usr/bin/python3/x", "not a directory"),
        ("/usr/bin", "it is not a program"),
        ("/etc/passwd", "it is not a program"),
        ("/bin/true", "does not answer as Python 3.11 would"),
    ],
)
def test_what_is_no_interpreter_is_refused(path: str, reason: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(RegistrationError, match=reason):
        check(path)


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="these tests do not run in a virtual environment")
def test_virtual_environment_s_is_refused() -> None:
    """It may be deleted any time, and its owner is who made it."""
    with pytest.raises(RegistrationError, match=r"virtual environment|others can write|belongs to"):
        check(sys.executable)


def test_directory_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """In /tmp anybody could have put it there."""
    assert os.stat("/tmp").st_mode & 0o002
    with pytest.raises(RegistrationError, match="others can write it"):
        check("/tmp/../tmp/python3")
