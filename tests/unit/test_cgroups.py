"""A container's parent cgroup, and what a limit reads like."""

from __future__ import annotations

import pytest

from ipcwarden.core.cgroups import parent_cgroup, parse_limit
from support import recorded


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/kubepods/burstable/pod1/c", "kubepods/burstable/pod1"),
        ("/docker/c", "docker"),
        ("libpod_parent//p/./libpod-c", "libpod_parent/p"),
        ("/c", ""),
        ("", ""),
        ("/", ""),
        ("/a/../../b/c", ""),
        (
            "kubepods-burstable-pod1.slice:crio:c",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
        ),
        ("machine.slice:libpod:c", "machine.slice"),
        (":docker:c", "system.slice"),
        ("-.slice:docker:c", ""),
        ("a--b.slice:docker:c", ""),
        ("../a.slice:docker:c", ""),
        ("/a/b:c:d", "a"),
        ("/a/b:c", "a"),
    ],
)
def test_finds_the_parent(path: str, expected: str) -> None:
    """Both spellings lead to a path below the hierarchy's root, and to nowhere else."""
    assert parent_cgroup(path) == expected


def test_finds_the_pods_cgroup() -> None:
    """Both a sandbox and its containers lie in the pod's cgroup, in podman's pods too."""
    sandbox, ordinary = "containerd-1.6.20-cri-sandbox", "containerd-1.6.20-cri-container"
    assert _parent(sandbox) == _parent(ordinary) == "scratch/pod1"
    assert _parent("podman-4.3.1-pod-infra") == _parent("podman-4.3.1-pod-member")


def _parent(name: str) -> str:
    path: str = recorded.load(name).config["linux"]["cgroupsPath"]
    return parent_cgroup(path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"268435456\n", 268435456),
        (b"max\n", None),
        (b"9223372036854771712\n", None),
        (b"0\n", None),
        (b"", None),
        (b"-1\n", None),
    ],
)
def test_reads_a_limit(data: bytes, expected: int | None) -> None:
    """Version 1 writes a huge number and version 2 a word where there is no limit."""
    assert parse_limit(data) == expected
