"""Nobody but root can have prepared what is read, and nobody sees half of what is written."""

from __future__ import annotations

import errno
import os
import resource
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ipcwarden.errors import PolicyError, RecordError
from ipcwarden.files import (
    open_directory,
    open_regular,
    read,
    read_all,
    unsafe,
    write_atomically,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ME = os.geteuid()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a root with a/b/c in it, as a package would make it."""
    for path in ("a", "a/b", "a/b/c"):
        (tmp_path / path).mkdir()
        (tmp_path / path).chmod(0o755)
    return tmp_path


@pytest.fixture(autouse=True)
def _mask() -> Iterator[None]:
    """Make files as the hook does, whose mask lets nobody else in."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Give a descriptor."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def status(mode: int, uid: int) -> os.stat_result:
    """Return what stat(2) would say of a file."""
    return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "group_too", "wrong"),
    [
        (0o100644, 0, True, ""),
        (0o100600, ME, True, ""),
        (0o100755, 0, True, ""),
        (0o104755, 0, True, ""),
        (0o100644, 4242, True, "it belongs to uid 4242, not to root"),
        (0o100600, 4243, True, "it belongs to uid 4243, not to root"),
        (0o100646, 0, True, "others can write it (mode 0646)"),
        (0o100664, 0, True, "others can write it (mode 0664)"),
        (0o100622, ME, True, "others can write it (mode 0622)"),
        (0o041777, 0, True, "others can write it (mode 1777)"),
        (0o100664, 0, False, ""),
        (0o100646, 0, False, "others can write it (mode 0646)"),
        (0o041777, 0, False, "others can write it (mode 1777)"),
    ],
)
def test_tells_what_is_unsafe(mode: int, uid: int, group_too: bool, wrong: str) -> None:
    """A file is safe where it is root's or ours, and where nobody else can write it."""
    assert unsafe(status(mode, uid), group_too) == wrong


def test_opens_a_directory(root: Path) -> None:
    """A directory on a safe way is opened."""
    fd = open_directory(str(root), "a/b/c")
    try:
        assert os.path.samestat(os.fstat(fd), (root / "a/b/c").stat())
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_makes_what_is_missing(root: Path) -> None:
    """Missing parts are made, the last one with its own mode, those before so that everybody can look."""
    os.close(open_directory(str(root), "a/x/y/z", create=0o700))
    modes = [stat.S_IMODE((root / path).stat().st_mode) for path in ("a/x", "a/x/y", "a/x/y/z")]
    assert modes == [0o755, 0o755, 0o700]


def test_makes_nothing_unasked(root: Path) -> None:
    """Without a mode a missing part is an error of its own, and stays missing."""
    with pytest.raises(FileNotFoundError):
        open_directory(str(root), "a/x/y")
    assert not (root / "a/x").exists()


def test_leaves_what_is_there_as_it_is(root: Path) -> None:
    """Making what is there already changes nothing."""
    os.close(open_directory(str(root), "a/b", create=0o700))
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("path", "mode"),
    [("a", 0o777), ("a", 0o757), ("a/b", 0o1777), ("a/b/c", 0o757), ("a/b/c", 0o775), ("a/b/c", 0o722)],
)
def test_refuses_where_others_can_write(root: Path, path: str, mode: int) -> None:
    """One directory on the way that others can write spoils all below it; the last must not be the group's either."""
    (root / path).chmod(mode)
    with pytest.raises(RecordError, match=f"cannot use '{root}/{path}': others can write it .*chmod go-w"):
        open_directory(str(root), "a/b/c")


def test_refuses_a_root_that_others_can_write(root: Path) -> None:
    """The root itself is the first directory on the way."""
    root.chmod(0o757)
    with pytest.raises(RecordError, match=f"cannot use '{root}': others can write it"):
        open_directory(str(root), "a/b/c")


@pytest.mark.parametrize("path", [".", "a"])
def test_lets_a_group_write_on_the_way(root: Path, path: str) -> None:
    """Distributions have directories of a group on the way; what counts there is that others cannot write."""
    (root / path).chmod(0o775)
    os.close(open_directory(str(root), "a/b/c"))


@pytest.mark.skipif(ME != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("path", ["a", "a/b/c"])
def test_refuses_a_strangers_directory(root: Path, path: str) -> None:
    """A directory of somebody else's on the way is refused."""
    os.chown(root / path, 4242, -1)
    with pytest.raises(RecordError, match=f"cannot use '{root}/{path}': it belongs to uid 4242"):
        open_directory(str(root), "a/b/c")


def test_follows_a_link_on_the_way(root: Path) -> None:
    """A link in a directory that only root can write is root's own word: /run may be one."""
    (root / "l").symlink_to("a/b")
    os.close(open_directory(str(root), "l/c"))


def test_checks_where_a_link_leads(root: Path) -> None:
    """What a link leads to is checked as what it stands for."""
    (root / "a/b").chmod(0o777)
    (root / "l").symlink_to("a/b")
    with pytest.raises(RecordError, match=f"cannot use '{root}/l': others can write it"):
        open_directory(str(root), "l/c")


@pytest.mark.parametrize("create", [0, 0o700])
def test_follows_no_link_at_the_end(root: Path, create: int) -> None:
    """The directory itself must not be a link, wherever it leads."""
    (root / "a/l").symlink_to("b")
    with pytest.raises(RecordError, match=f"cannot open the directory '{root}/a/l': "):
        open_directory(str(root), "a/l", create)


@pytest.mark.parametrize("create", [0, 0o700])
def test_takes_no_file_for_a_directory(root: Path, create: int) -> None:
    """A file where a directory should be is an error of the caller's kind."""
    (root / "a/f").touch()
    with pytest.raises(PolicyError, match=f"cannot open the directory '{root}/a/f': not a directory"):
        open_directory(str(root), "a/f/g", create, error=PolicyError)


def test_makes_nothing_through_a_link_to_nowhere(root: Path) -> None:
    """A link whose target is missing is not made a directory."""
    (root / "a/l").symlink_to("nowhere")
    with pytest.raises(RecordError, match="cannot open the directory"):
        open_directory(str(root), "a/l", create=0o700)
    assert not (root / "a/nowhere").exists()


def test_closes_what_it_opened(root: Path) -> None:
    """No refusal leaves a descriptor open."""
    (root / "a/b").chmod(0o777)
    (root / "a/f").touch()
    before = os.listdir("/proc/self/fd")
    for path, error in [("a/b/c", RecordError), ("a/f/g", RecordError), ("a/x/y", FileNotFoundError)]:
        with pytest.raises(error):
            open_directory(str(root), path)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_reads_to_the_end(tmp_path: Path, size: int) -> None:
    """A file is read whole, in however many pieces, up to exactly its limit."""
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert read(str(tmp_path / "f"), size) == data


@pytest.mark.parametrize("size", [1, 65536, 200_000])
def test_reads_no_byte_past_the_limit(tmp_path: Path, size: int) -> None:
    """One byte more than allowed is refused."""
    (tmp_path / "f").write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"it is larger than {size - 1} bytes"):
        read(str(tmp_path / "f"), size - 1)


def test_puts_short_reads_together() -> None:
    """A pipe that is written piece by piece is read to its end."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        for piece in (b"one ", b"two ", b"three"):
            os.write(writer, piece)
        os._exit(0)
    os.close(writer)
    try:
        assert read_all(reader, 100) == b"one two three"
    finally:
        os.close(reader)
        os.wait()


def test_reads_relative_to_a_directory(root: Path) -> None:
    """A name is looked up in the directory that was checked."""
    (root / "a/f").write_bytes(b"here")
    (root / "a/f").chmod(0o666)  # who does not ask for trust reads anybody's
    with opened(root / "a", os.O_RDONLY | os.O_DIRECTORY) as directory:
        assert read("f", 10, directory) == b"here"


def test_follows_no_link(tmp_path: Path) -> None:
    """A link that somebody planted is not followed."""
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("f")
    with pytest.raises(OSError, match=r"symbolic links") as refusal:
        read(str(tmp_path / "l"), 10)
    assert refusal.value.errno == errno.ELOOP


def test_waits_for_no_fifo(tmp_path: Path) -> None:
    """A FIFO that somebody planted keeps nobody waiting."""
    os.mkfifo(tmp_path / "f")
    with pytest.raises(ValueError, match="it is not a regular file"):
        read(str(tmp_path / "f"), 10)


@pytest.mark.parametrize("path", [".", "/dev/null"])
def test_reads_regular_files_only(tmp_path: Path, path: str) -> None:
    """Directories and devices are no files."""
    with pytest.raises(ValueError, match="it is not a regular file"):
        read(str(tmp_path / path), 10)


def test_keeps_no_descriptor_of_what_it_refuses(tmp_path: Path) -> None:
    """A refused file is closed, an untrusted one and one too large as well."""
    file = tmp_path / "f"
    file.write_bytes(b"12")
    file.chmod(0o666)
    before = os.listdir("/proc/self/fd")
    for path, trusted in [("/dev/null", False), (str(file), True), (str(file), False)]:
        with pytest.raises(ValueError, match="it "):
            read(path, 1, trusted=trusted)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("mode", "trusted"), [(0o600, True), (0o755, True), (0o666, False), (0o664, False)])
def test_reads_what_it_may(tmp_path: Path, mode: int, trusted: bool) -> None:
    """A trusted file is nobody else's to write; others need not be."""
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "f").chmod(mode)
    assert read(str(tmp_path / "f"), 10, trusted=trusted) == b"x"


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_trusts_nothing_that_others_can_write(tmp_path: Path, mode: int) -> None:
    """A trusted file that others can write is refused."""
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "f").chmod(mode)
    with pytest.raises(ValueError, match="others can write it"):
        read(str(tmp_path / "f"), 10, trusted=True)


@pytest.mark.skipif(ME != 0, reason="only root can give a file away")
def test_trusts_nothing_of_a_strangers(tmp_path: Path) -> None:
    """A trusted file of somebody else's is refused."""
    (tmp_path / "f").write_bytes(b"x")
    os.chown(tmp_path / "f", 4242, -1)
    with pytest.raises(ValueError, match="it belongs to uid 4242"):
        read(str(tmp_path / "f"), 10, trusted=True)


def test_makes_a_file_with_its_mode(tmp_path: Path) -> None:
    """A file can be made while it is opened."""
    os.close(open_regular(str(tmp_path / "f"), os.O_WRONLY | os.O_CREAT, None, 0o600))
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """Give a descriptor of the test's directory."""
    with opened(tmp_path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        yield fd


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file grow past some size, as a full disk would (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_writes_a_file_with_its_mode(tmp_path: Path, directory: int, mode: int) -> None:
    """A new file has its content and its mode, whatever the mask says."""
    write_atomically(directory, "f", b"new", mode)
    assert ((tmp_path / "f").read_bytes(), stat.S_IMODE((tmp_path / "f").stat().st_mode)) == (b"new", mode)


def test_replaces_and_never_overwrites(tmp_path: Path, directory: int) -> None:
    """Whoever has the old file open goes on reading the old one."""
    (tmp_path / "f").write_bytes(b"old")
    with opened(tmp_path / "f") as old:
        write_atomically(directory, "f", b"new", 0o600)
        assert os.read(old, 10) == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"


def test_replaces_a_link_itself(tmp_path: Path, directory: int) -> None:
    """A link in the file's place is replaced, not written through."""
    (tmp_path / "victim").write_bytes(b"old")
    (tmp_path / "f").symlink_to("victim")
    write_atomically(directory, "f", b"new", 0o600)
    assert (tmp_path / "victim").read_bytes() == b"old"
    assert (tmp_path / "f").read_bytes() == b"new"


def test_leaves_nothing_else_behind(tmp_path: Path, directory: int) -> None:
    """Success leaves the file alone in the directory."""
    write_atomically(directory, "f", b"new", 0o600)
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("size", [0, 2])
def test_keeps_the_old_file_on_a_full_disk(tmp_path: Path, directory: int, size: int) -> None:
    """Where nothing or only a part can be written, the old file stays, and no draft is left."""
    (tmp_path / "f").write_bytes(b"old")
    with full_at(size), pytest.raises(OSError, match=r"."):
        write_atomically(directory, "f", b"new", 0o600)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_keeps_what_cannot_be_replaced(tmp_path: Path, directory: int) -> None:
    """Where the rename fails, what was there stays, and no draft is left."""
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(directory, "f", b"new", 0o600)
    assert os.listdir(tmp_path) == ["f"]


def test_writes_through_no_planted_draft(tmp_path: Path, directory: int) -> None:
    """A link where the draft will be is not written through."""
    (tmp_path / "victim").write_bytes(b"old")
    (tmp_path / f".f.{os.getpid()}").symlink_to("victim")
    with pytest.raises(OSError, match=r".") as refusal:
        write_atomically(directory, "f", b"new", 0o600)
    assert refusal.value.errno == errno.ELOOP
    assert (tmp_path / "victim").read_bytes() == b"old"


def test_overwrites_an_old_draft(tmp_path: Path, directory: int) -> None:
    """What a killed process of the same number had written is not in the way, nor in the file."""
    (tmp_path / f".f.{os.getpid()}").write_bytes(b"something longer")
    write_atomically(directory, "f", b"new", 0o600)
    assert (tmp_path / "f").read_bytes() == b"new"


def test_tells_a_short_write(tmp_path: Path) -> None:
    """A write that stops half-way is a full disk, not a success."""
    with opened(tmp_path / "f", os.O_WRONLY | os.O_CREAT) as fd, full_at(2):
        with pytest.raises(OSError, match="no space left on device") as refusal:
            write_whole(fd, b"three")
        assert refusal.value.errno == errno.ENOSPC
