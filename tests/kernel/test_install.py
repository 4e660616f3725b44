"""What only root can see about registration: other users' files on the way to the interpreter and the hook."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipcwarden.registration import runtimes
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


@pytest.fixture
def runc(safe: Path) -> Path:
    """Make a runtime that answers for its version, in a directory of root's."""
    (safe / "sbin").mkdir()
    runc = safe / "sbin" / "runc"
    runc.write_text('#!/bin/sh\necho "runc version 9"\n')
    runc.chmod(0o755)
    return runc


def test_runtime_of_root_is_good(runc: Path) -> None:
    """It is called for its version."""
    assert runtimes.check(str(runc)) == runtimes.Runtime(str(runc), "runc version 9\n")


@pytest.mark.parametrize("which", ["sbin", "sbin/runc"])
@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o755, SOMEBODY)])
def test_runtime_of_others_is_refused(runc: Path, safe: Path, which: str, mode: int, owner: int) -> None:
    """Root would run what somebody else has put there."""
    os.chown(safe / which, owner, 0)
    (safe / which).chmod(mode)
    with pytest.raises(RegistrationError, match=f"'{safe / which}': (others can write it|it belongs to uid)"):
        runtimes.check(str(runc))


def test_runtime_that_fails_is_refused(runc: Path) -> None:
    """With what it says."""
    runc.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    with pytest.raises(RegistrationError, match="--version ended with 3: broken"):
        runtimes.check(str(runc))


def test_own_wrapper_is_no_runtime(runc: Path, safe: Path) -> None:
    """Neither by its path nor behind a link: it would call itself for ever."""
    (safe / "usr/libexec/ipcwarden").mkdir(parents=True)
    wrapper = safe / "usr/libexec/ipcwarden/ipcwarden-runc"
    runc.rename(wrapper)
    runc.symlink_to(wrapper)
    for each in (wrapper, runc):
        with pytest.raises(RegistrationError, match="it is ipcwarden's own"):
            runtimes.check(str(each))


def test_first_good_runtime_is_found(runc: Path, safe: Path) -> None:
    """One that others can replace is passed by, and named where there is no other."""
    (safe / "bin").mkdir(mode=0o777)
    shutil.copy(runc, safe / "bin" / "runc")
    (safe / "bin").chmod(0o777)
    directories = (str(safe / "none"), str(safe / "bin"), str(safe / "sbin"))
    assert runtimes.find("runc", directories).path == str(runc)
    runc.unlink()
    with pytest.raises(RegistrationError, match=f"'{safe}/bin': others can write it"):
        runtimes.find("runc", directories)


def test_copy_of_a_foreign_file_is_its_owner_s(safe: Path) -> None:
    """Whoever could read the file can read the copy, and nobody else."""
    (safe / "config").write_text("before")
    (safe / "config").chmod(0o640)
    os.chown(safe / "config", SOMEBODY, SOMEBODY)
    Change(Directory(str(safe)), "copy", None, b"before", copy_of="config").make()
    status = (safe / "copy").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (SOMEBODY, SOMEBODY, 0o640)
