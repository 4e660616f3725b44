"""/dev/shm of a container, where the host sees it: listed at its end as it stands, whatever has been made of it."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.record import MAX_RECORD_BYTES
from ipcwarden.core.shmfiles import files_document
from ipcwarden.host.tmpfs import Shelf, open_shelf
from support.sandbox import config, profile, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sandbox import Container

_numbers = count(1)


@pytest.fixture
def shm() -> Iterator[Path]:
    """Mount a tmpfs as an engine does for a container: on a directory of a file system that is none."""
    place = Path(f"/opt/ipcwarden-shm-{next(_numbers)}")
    place.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", place).check()
        stack.callback(run, "umount", "--quiet", "--lazy", place)
        yield place


def bind(container: Container, source: Path | str, ipc: str = "private") -> None:
    """Write a config.json that binds something to the container's /dev/shm."""
    mount = {"destination": "/dev/shm", "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
    container.configure({**config(ipc), "mounts": [mount]})


def last(container: Container) -> dict[str, Any]:
    """Stop a container, and return its last record, which is as the schema wants it."""
    container.kill()
    container.poststop().check()
    record: dict[str, Any] = container.records()[-1]
    assert record["event"] == "teardown"
    validate(record, "audit-v1")
    return record


def told(container: Container) -> dict[str, Any]:
    """Stop a container, and return what its last record says of /dev/shm."""
    found: dict[str, Any] = last(container)["dev_shm"]
    return found


def test_lists_what_was_left(container: Container, shm: Path) -> None:
    """Owner, length and the memory that a file holds are told, the largest first; nothing is changed."""
    bind(container, shm)
    container.create().check()
    (shm / "small").write_bytes(b"x")
    (shm / "large").write_bytes(b"x" * 10_000)
    os.chown(shm / "large", 999, 998)
    (shm / "large").chmod(0o640)
    before = {each.name: each.stat() for each in shm.iterdir()}
    found = told(container)
    assert (found["path"], found["count"], found["bytes"], found["partial"]) == (str(shm), 2, 4096 * 4, False)
    [large, small] = found["files"]
    assert large.pop("ctime") == int(before["large"].st_ctime)
    assert large == {"name": "large", "owner": "999", "gid": 998, "perms": "0640", "size": 10_000, "bytes": 12288}
    assert (small["name"], small["size"], small["bytes"]) == ("small", 1, 4096)
    assert {each.name: each.stat() for each in shm.iterdir()} == before


def test_gc_lists_it_too(container: Container, shm: Path) -> None:
    """Where poststop never came, gc tells what is there."""
    bind(container, shm)
    container.create().check()
    (shm / "left").write_bytes(b"x")
    container.kill()
    run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", container.root, "gc").check()
    record = container.records()[-1]
    assert (record["event"], record["dev_shm"]["count"]) == ("collected", 1)


def test_one_of_its_own_is_not_seen(container: Container) -> None:
    """A tmpfs that the runtime mounts is nowhere on the host: nothing is noted, nothing told."""
    mount = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}
    container.configure({**config(), "mounts": [mount]})
    container.create().check()
    assert "dev_shm" not in container.entry()
    assert "dev_shm" not in last(container)


@pytest.mark.parametrize("below", ["", "below"], ids=["itself", "below"])
@pytest.mark.parametrize("by", ["path", "link", "bind"])
def test_the_hosts_own_is_left_alone(container: Container, shm: Path, by: str, below: str) -> None:
    """What is the host's /dev/shm is not told as a container's, however config.json comes to it."""
    source = Path("/dev/shm") / below
    source.mkdir(exist_ok=True)
    if by == "link":
        (shm / "link").symlink_to(source)
        bind(container, shm / "link")
    elif by == "bind":
        (shm / "bound").mkdir()
        run("mount", "--bind", source, shm / "bound").check()
        bind(container, shm / "bound")
    else:
        bind(container, source)
    container.create().check()
    assert "dev_shm" not in last(container)
    if by == "bind":
        run("umount", shm / "bound").check()
    if below:
        source.rmdir()


def test_a_mount_that_has_gone(container: Container, shm: Path) -> None:
    """Whatever is where the mount was is not its content; the teardown goes on without."""
    bind(container, shm)
    container.create().check()
    run("umount", shm).check()
    (shm / "of the disk").touch()
    record = last(container)
    assert "dev_shm" not in record
    assert record["namespace"]["destroyed"] is True


def test_a_directory_of_the_disk(container: Container) -> None:
    """What is bound to /dev/shm and is no tmpfs is not listed."""
    bind(container, "/etc")
    container.create().check()
    assert "dev_shm" not in last(container)


@pytest.mark.parametrize(
    "source", ["/dev/shm\0", "relative", "/proc/self/root/../root", "/" + "x" * 5000, "/dev/null", "/gone", "/\udcff"]
)
def test_an_odd_source(container: Container, source: str) -> None:
    """A path that leads nowhere stops neither start nor end."""
    bind(container, source)
    container.create().check()
    assert "dev_shm" not in last(container)


def test_a_link_put_in_the_way(container: Container, shm: Path) -> None:
    """A part of the path that has become a link since is not followed, even to a tmpfs."""
    (shm / "way" / "shm").mkdir(parents=True)
    bind(container, shm / "way" / "shm")
    container.create().check()
    assert container.entry()["dev_shm"]["path"] == str(shm / "way" / "shm")
    (shm / "way").rename(shm / "other")
    (shm / "way").symlink_to("other")
    assert "dev_shm" not in last(container)


def test_links_are_not_followed(container: Container, shm: Path) -> None:
    """A link is told as itself, whether it leads to a file, to a directory, or round in a circle."""
    bind(container, shm)
    container.create().check()
    (shm / "passwd").symlink_to("/etc/passwd")
    (shm / "etc").symlink_to("/etc")
    (shm / "loop").symlink_to("loop")
    (shm / "up").symlink_to("..")
    found = told(container)
    assert (found["count"], found["bytes"]) == (4, 0)
    assert {each["name"] for each in found["files"]} == {"passwd", "etc", "loop", "up"}


def test_what_is_no_plain_file(container: Container, shm: Path) -> None:
    """Pipes and devices are neither opened nor waited for; a file with holes holds what is written."""
    bind(container, shm)
    container.create().check()
    os.mkfifo(shm / "pipe")
    os.mknod(shm / "device", 0o020600, os.makedev(1, 5))
    with (shm / "holes").open("wb") as file:
        file.truncate(1 << 40)
    found = {each["name"]: (each["size"], each["bytes"]) for each in told(container)["files"]}
    assert found == {"pipe": (0, 0), "device": (0, 0), "holes": (1 << 40, 0)}


def test_odd_names(container: Container, shm: Path) -> None:
    """Names are bytes: what is not printable ASCII is told in hex, and a long path is cut."""
    bind(container, shm)
    container.create().check()
    names = [b"line\nbreak", b"\xff\xfe", "é".encode(), b"n" * 255]
    for name in names:
        Path(os.fsdecode(os.fsencode(shm) + b"/" + name)).write_bytes(b"x")
    deep = shm / ("\n" * 255) / ("d" * 255) / ("d" * 255)
    deep.mkdir(parents=True)
    (deep / "x").touch()
    found = told(container)
    assert found["count"] == 5
    assert {each.get("name_hex", "")[:20] for each in found["files"]} == {
        *("", b"line\nbreak".hex(), "fffe", "c3a9", "0a" * 10)
    }


def test_directories_are_looked_into(container: Container, shm: Path) -> None:
    """Files in directories are told with their way; directories themselves hold nothing, and are not counted."""
    bind(container, shm)
    container.create().check()
    (shm / "a" / "b").mkdir(parents=True)
    (shm / "a" / "b" / "left").write_bytes(b"x")
    (shm / "a" / "closed").mkdir(mode=0)
    found = told(container)
    assert [each["name"] for each in found["files"]] == ["a/b/left"]
    assert found["partial"] is False


def test_too_deep_is_told(container: Container, shm: Path) -> None:
    """Directories without end are left at some depth, and the record says so."""
    bind(container, shm)
    container.create().check()
    deep = shm.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "hidden").write_bytes(b"x")
    (shm / "seen").write_bytes(b"x")
    found = told(container)
    assert ([each["name"] for each in found["files"]], found["partial"]) == (["seen"], True)


def test_another_mount_below_is_not_entered(container: Container, shm: Path) -> None:
    """What is mounted below it is no part of it."""
    bind(container, shm)
    container.create().check()
    (shm / "below").mkdir()
    run("mount", "--bind", "/etc", shm / "below").check()
    found = told(container)
    assert (found["count"], found["partial"]) == (0, True)
    run("umount", shm / "below").check()


def test_ten_thousand_files(container: Container, shm: Path) -> None:
    """All are counted, the largest are named, and the record stays below its size."""
    bind(container, shm)
    container.create().check()
    for number in range(10_000):
        (shm / f"{number:0200}").write_bytes(b"x" * (number >= 9_990))
    record = last(container)
    found = record["dev_shm"]
    assert (found["count"], found["bytes"], found["files_omitted"]) == (10_000, 10 * 4096, 10_000 - 20)
    assert {int(each["name"]) for each in found["files"][:10]} == set(range(9_990, 10_000))
    line = (container.root / "var" / "log" / "ipcwarden" / "audit.jsonl").read_bytes().splitlines()[-1]
    assert len(line) < MAX_RECORD_BYTES


def test_no_listing_is_endless(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many entries it ends, and says that there are more."""
    monkeypatch.setattr(Shelf, "MOST", 10)
    for number in range(11):
        (shm / str(number)).touch()
    shelf = open_shelf(str(shm))
    assert shelf is not None
    told = [(files_document(shelf.files())["count"], shelf.partial)]
    (shm / "0").unlink()
    told.append((files_document(shelf.files())["count"], shelf.partial))
    shelf.close()
    assert told == [(10, True), (10, False)]


def test_a_joiner_is_told_what_is_new(container: Container, start: Callable[..., Container], shm: Path) -> None:
    """In a pod all see one /dev/shm: what was there when a container joined is told from what has come since."""
    bind(container, shm)
    container.create().check()
    (shm / "before").write_bytes(b"x")
    joiner = start(ipc=str(container.namespace))
    bind(joiner, shm, str(container.namespace))
    joiner.create().check()
    (shm / "after").write_bytes(b"x")
    found = told(joiner)
    assert {each["name"]: each.get("new", False) for each in found["files"]} == {"before": False, "after": True}
    assert {each.get("new") for each in told(container)["files"]} == {None}


@pytest.mark.parametrize(("size", "told"), [("32k", {"size": 32768, "warn_below": 65536}), ("64k", None)])
def test_too_small_a_one_is_noted_at_creation(container: Container, root: Path, size: str, told: object) -> None:
    """Where config.json says how large it is; the end of the container tells nothing of a file system of its own."""
    put_in_force(root, profile(dev_shm=65536))
    mount = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [f"size={size}"]}
    container.configure({**config(), "mounts": [mount]})
    container.create().check()
    applied = container.records()[-1]
    validate(applied, "audit-v1")
    assert applied.get("dev_shm") == told
    assert "dev_shm" not in container.entry()
    assert "dev_shm" not in last(container)
