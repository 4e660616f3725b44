"""What a container's process has mounted, as proc_pid_mountinfo(5) tells it."""

from __future__ import annotations

import pytest

from ipcwarden.core.mounts import opens_proc_sys, shm_size, short_shm
from ipcwarden.core.spec import Mount

ROOT = "/var/lib/root fs"
ELSEWHERE = "24 1 0:22 / /proc rw,nosuid shared:5 - proc proc rw\n25 1 8:1 / / rw - ext4 /dev/sda rw\n"


def opened(place: str, source: str, options: str, system: str, *shielded: str) -> bool:
    """Judge a mount at a place in the container, among what the host has mounted."""
    root = ROOT.replace(" ", "\\040")
    line = f"30 25 0:40 {source} {root}{place} {options} master:7 - {system}\n"
    return opens_proc_sys(f"{ELSEWHERE}{line}".encode(), ROOT, shielded)


@pytest.mark.parametrize(
    ("place", "source", "shielded"),
    [
        ("/proc", "/", ()),
        ("/proc", "/", ("/proc/kcore",)),
        ("/s", "/sys", ("/proc/sys",)),
        ("/s", "/sys/kernel", ("/proc/sys",)),
        ("/run/proc", "/", ("/run", "/proc/sys")),
        ("/with\\011tab", "/", ("/with",)),
    ],
)
def test_a_way_to_write(place: str, source: str, shielded: tuple[str, ...]) -> None:
    """Any procfs that can be written is a way, wherever it comes from; what is read-only above it changes nothing."""
    assert opened(place, source, "rw,relatime", "proc proc rw", *shielded)


@pytest.mark.parametrize(
    ("place", "source", "options", "system", "shielded"),
    [
        ("/proc", "/", "ro", "proc proc rw", ()),
        ("/proc", "/", "rw", "proc proc ro,hidepid=2", ()),
        ("/proc", "/", "rw", "proc proc rw", ("/proc/sys",)),
        ("/proc", "/", "rw", "proc proc rw", ("/proc",)),
        ("/s", "/sys", "rw", "proc proc rw", ("/s",)),
        ("/s", "/", "rw", "proc proc rw", ("/s/sys",)),
        ("/with\\011tab", "/", "rw", "proc proc rw", ("/with\ttab",)),
        ("/s", "/sysrq-trigger", "rw", "proc proc rw", ()),
        ("/s", "/1/attr", "rw", "proc proc rw", ()),
        ("/s", "/", "rw", "sysfs sysfs rw", ()),
        ("-other/s", "/", "rw", "proc proc rw", ()),
    ],
)
def test_no_way_to_write(place: str, source: str, options: str, system: str, shielded: tuple[str, ...]) -> None:
    """What is read-only or will be, is no sysctl, or lies outside of the container, is none."""
    assert not opened(place, source, options, system, *shielded)


def test_nothing_is_known_of_a_process_that_is_gone() -> None:
    """Without mounts there is no way either."""
    assert not opens_proc_sys(b"", ROOT, ())


def shm(*options: str, type: str = "tmpfs", destination: str = "/dev/shm") -> Mount:  # noqa: A002
    """Mount something where POSIX shared memory is."""
    return Mount(destination, type, "shm", ("nosuid", *options))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (("size=65536k",), 64 << 20),
        (("size=64M",), 64 << 20),
        (("size=1g",), 1 << 30),
        (("size=2T",), 2 << 40),
        (("size=1p",), 1 << 50),
        (("size=1e",), 1 << 60),
        (("size=65537",), 65537),
        (("size=1k", "mode=1777", "size=2k"), 2048),
        ((), None),
        (("size=50%",), None),
        (("size=0",), None),
        (("size=0k",), None),
        (("size=",), None),
        (("size=k",), None),
        (("size=0x10",), None),
        (("size=010",), None),
        (("size=-1",), None),
        (("size=1kk",), None),
        (("mpol=size=1k",), None),
    ],
)
def test_how_large_dev_shm_is_to_be(options: tuple[str, ...], size: int | None) -> None:
    """As the kernel reads a tmpfs's size; a share of memory and no bound are no bytes."""
    assert shm_size([shm(destination="/dev"), shm(*options)]) == size


def test_what_is_mounted_last_counts() -> None:
    """A bind mount has a size that config.json does not know."""
    assert shm_size([shm("size=1k"), shm("size=2k")]) == 2048
    assert shm_size([shm("size=1k"), shm("rbind", type="bind")]) is None
    assert shm_size([shm("size=1k", type="bind")]) is None
    assert shm_size([shm("size=1k", destination="/dev/shm2")]) is None
    assert shm_size([]) is None


@pytest.mark.parametrize(
    ("least", "told"),
    [
        (None, {}),
        (65536, {}),
        (65537, {"dev_shm": {"size": 65536, "warn_below": 65537}}),
    ],
)
def test_too_small_a_dev_shm_is_told(least: int | None, told: dict[str, object]) -> None:
    """Where the profile wants more, and the size is known."""
    assert short_shm([shm("size=64k")], least) == told
    assert short_shm([shm()], least) == {}
