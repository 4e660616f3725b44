"""What a container's process has mounted, as proc_pid_mountinfo(5) tells it."""

from __future__ import annotations

import pytest

from ipcwarden.core.mounts import opens_proc_sys

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
