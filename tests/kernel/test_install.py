"""What only root can see about registration: other users' files on the way to the interpreter and the hook."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipcwarden.registration.changes import Change, Directory
from ipcwarden.registration.entry import RegistrationError
from ipcwarden.registration.interpreter import check

if TYPE_CHECKING:
    from collections.abc import Iterator

SOMEBODY = 1000


@pytest.fixture
def safe() -> Iterator[Path]:
    """Make a directory that is root's on the whole way to it, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/run", prefix="ipcwarden-test.") as path:
        yield Path(path)


@pytest.fixture
def link(safe: Path) -> Path:
    """Make a link to the system's Python two directories below, all of it root's."""
    (safe / "opt" / "bin").mkdir(parents=True)
    (safe / "opt" / "bin" / "python").symlink_to("/usr/bin/python3")
    return safe / "opt" / "bin" / "python"


def test_link_of_root_is_followed(link: Path) -> None:
    """Root's link in root's directories leads to a good interpreter."""
    assert check(str(link)).path == str(link)


@pytest.mark.parametrize("parent", [0, 1], ids=["its directory", "further up"])
@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o1777, 0), (0o755, SOMEBODY)])
def test_directory_of_others_is_refused(link: Path, parent: int, mode: int, owner: int) -> None:
    """Whoever can write a directory on the way can put another program there."""
    os.chown(link.parents[parent], owner, 0)
    link.parents[parent].chmod(mode)
    with pytest.raises(RegistrationError, match=f"'{link.parents[parent]}': (others can write it|it belongs to uid)"):
        check(str(link))


def test_link_of_others_is_refused(link: Path) -> None:
    """A link's owner could change it, were the directory not in the way."""
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(RegistrationError, match=f"'{link}': it belongs to uid {SOMEBODY}"):
        check(str(link))


@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o755, SOMEBODY)])
def test_program_of_others_is_refused(link: Path, safe: Path, mode: int, owner: int) -> None:
    """The program at the end of the links counts."""
    program = safe / "python"
    shutil.copy("/usr/bin/python3", program)
    os.chown(program, owner, 0)
    program.chmod(mode)
    link.unlink()
    link.symlink_to("../../python")
    with pytest.raises(RegistrationError, match=f"'{program}': "):
        check(str(link))


def test_wrapper_is_refused(safe: Path) -> None:
    """A script that starts a Python says nothing about who can write that Python."""
    (safe / "python").write_text('#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
    (safe / "python").chmod(0o755)
    with pytest.raises(RegistrationError, match="it is a wrapper of '/usr/bin/python3"):
        check(str(safe / "python"))


def test_older_python_is_refused(safe: Path) -> None:
    """What answers as Python 3.10 does not get to run the hook."""
    (safe / "python").write_text(f"#!/bin/sh\necho 3 10 cpython-310 6f0d0d0a {safe}/python\n")
    (safe / "python").chmod(0o755)
    with pytest.raises(RegistrationError, match=r"it is Python 3\.10, older than 3\.11"):
        check(str(safe / "python"))


def test_edited_file_stays_its_owner_s(safe: Path) -> None:
    """A user's bundle edited by root is still the user's."""
    (safe / "config.json").write_text("before")
    os.chown(safe / "config.json", SOMEBODY, SOMEBODY)
    Change(Directory(str(safe)), "config.json", b"before", b"after").make()
    status = (safe / "config.json").stat()
    assert (status.st_uid, status.st_gid) == (SOMEBODY, SOMEBODY)
