"""What a container's /dev/shm comes to: where it is from, and its files as a record tells them."""

from __future__ import annotations

import pytest

from ipcwarden.core.shmfiles import MOST_FILES, ShmFile, files_document, shm_source
from ipcwarden.core.spec import Mount


def mount(source: str, kind: str = "bind", *options: str, to: str = "/dev/shm") -> Mount:
    """Make one of config.json's mounts."""
    return Mount(to, kind, source, options)


def file(name: bytes = b"left", inode: int = 1, blocks: int = 8, links: int = 1, **changes: int) -> ShmFile:
    """Make a file of a page."""
    parts = {"uid": 0, "gid": 0, "mode": 0o100600, "links": links, "size": 100, "blocks": blocks, "ctime": 7, **changes}
    return ShmFile(name, inode, **parts)


@pytest.mark.parametrize(
    ("mounts", "source"),
    [
        ([], ""),
        ([mount("/run/c1/shm")], "/run/c1/shm"),
        ([mount("/run/c1/shm", "none", "rbind", "rw")], "/run/c1/shm"),
        ([mount("/run/c1/shm", "", "bind")], "/run/c1/shm"),
        ([mount("shm", "tmpfs", "nosuid")], ""),
        ([mount("relative")], ""),
        ([mount("/etc", to="/etc")], ""),
        ([mount("/run/c1/shm"), mount("shm", "tmpfs")], ""),
        ([mount("shm", "tmpfs"), mount("/run/c1/shm")], "/run/c1/shm"),
    ],
)
def test_finds_what_is_bound_there(mounts: list[Mount], source: str) -> None:
    """Only a bind mount has a place that the host sees, and the last mount is on top."""
    assert shm_source(mounts) == source


def test_tells_a_file() -> None:
    """What it holds is what counts, not how long it says it is."""
    assert files_document([file(uid=999, gid=5, mode=0o101644, size=1 << 40)]) == {
        "count": 1,
        "bytes": 4096,
        "files": [
            {"name": "left", "owner": "999", "gid": 5, "perms": "1644", "size": 1 << 40, "bytes": 4096, "ctime": 7}
        ],
        "files_omitted": 0,
    }


@pytest.mark.parametrize("name", [b"line\nbreak", b"\xff\xfe", b"tab\t", b"\x7f"])
def test_odd_names_are_told_in_hex(name: bytes) -> None:
    """A name that is not printable ASCII reaches no terminal."""
    [told] = files_document([file(name)])["files"]  # type: ignore[misc,str-unpack]  # a list
    assert told["name_hex"] == name.hex()  # type: ignore[index,call-overload]  # an object
    assert "name" not in told  # type: ignore[operator]  # likewise


def test_the_largest_come_first() -> None:
    """Of many files the largest are told, the others counted."""
    found = files_document(file(b"%d" % number, number, blocks=number) for number in range(2500))
    names = [each["name"] for each in found["files"]]  # type: ignore[union-attr,call-overload,index]  # a list of objects
    assert names == [str(number) for number in range(2499, 2499 - MOST_FILES, -1)]
    assert (found["count"], found["files_omitted"]) == (2500, 2500 - MOST_FILES)
    assert found["bytes"] == sum(range(2500)) * 512


def test_a_file_with_two_names_holds_its_memory_once() -> None:
    """Names are counted, memory is not counted twice."""
    found = files_document([file(b"one", 3, links=2), file(b"two", 3, links=2), file(b"other", 4)])
    assert (found["count"], found["bytes"]) == (3, 8192)


def test_tells_what_is_new() -> None:
    """Where it is known what was there before, the rest is new."""
    found = files_document([file(b"old", 3), file(b"fresh", 4)], old=frozenset((3,)))
    assert [each.get("new") for each in found["files"]] == [None, True]  # type: ignore[union-attr]  # a list of objects
