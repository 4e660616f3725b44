"""podman's native door and nested namespaces: whosever the bundle is, and where the door cannot narrow a filter."""

from __future__ import annotations

import base64
import json
import shutil
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.seccomp import RAW_FILTER
from support.engine import PodmanEngine

if TYPE_CHECKING:
    from pathlib import Path

    from support.engine import Engine
    from support.warden import Warden

pytestmark = pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)

POLICY = """
version: 1
profiles: {{strict: {{on_violation: {on_violation}, nested_ipc: deny}}}}
rules: [{others}{{name: everything, profile: strict}}]
"""
OTHERS = "{name: others, when: {runtime: youki}, profile: strict}, "
PRECREATE = "10-ipcwarden-precreate.json"
WAYS = ("unshare-both", "clone-both", "clone-high", "clone3-both", "i386-unshare-both", "i386-clone-both")
# One instruction, BPF_RET with SECCOMP_RET_ALLOW.
ALLOW_ALL = base64.b64encode(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)).decode("ascii")
COMPARING = {"index": 0, "value": 0, "op": "SCMP_CMP_GE"}
CLONING = {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [COMPARING]}
GUESS = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [CLONING]}


def govern(engine: Engine, warden: Warden, on_violation: str = "refuse", others: str = "") -> None:
    """Put the policy in force, with hooks and the native door."""
    assert isinstance(engine, PodmanEngine)
    warden.compile(POLICY.format(on_violation=on_violation, others=others))
    engine.govern(warden)
    assert engine.hooks_dir is not None
    warden("install", "podman", "--hooks-dir", engine.hooks_dir, "--precreate").check()
    # podman is told of one directory here; that of the precreate hook is its own for the sake of builds.
    shutil.copy(warden.root / "usr/share/ipcwarden/precreate.d" / PRECREATE, engine.hooks_dir)


def results(output: str) -> set[str]:
    """Return what came of the ways to another namespace."""
    found = {way: result for way, _, result in (line.partition(" ") for line in output.splitlines())}
    return {found[way] for way in WAYS}


@pytest.mark.parametrize("flag", ["--uidmap=0:100000:65536", "--userns=auto", "--privileged", "--ipc=host"])
def test_narrows_for_everybody(engine: Engine, warden: Warden, flag: str) -> None:
    """The filter is narrowed whosever the bundle is, and in the host's namespace, too."""
    govern(engine, warden)
    assert results(engine.run("nest", flags=[flag]).check().stdout) == {"EPERM", "ENOSYS"}
    [record] = warden.audit(event="skipped" if flag == "--ipc=host" else "applied")
    assert "nested_ipc" not in record


@pytest.mark.parametrize("suffix", ["", ":O"])
def test_narrows_for_a_root_elsewhere(
    engine: PodmanEngine, warden: Warden, rootfs: Path, cgroup: str, scratch: Path, suffix: str
) -> None:
    """With --rootfs nothing but its other mounts says where podman's storage is, and that is enough."""
    govern(engine, warden)
    root = shutil.copytree(rootfs, scratch / "elsewhere" / "rootfs", symlinks=True)
    flags = ("--rm", f"--cgroup-parent={cgroup}", "--rootfs", f"{root}{suffix}")
    ended = engine.podman("run", *flags, "nest", hooks_dir=engine.hooks_dir).check()
    assert results(ended.stdout) == {"EPERM", "ENOSYS"}
    [record] = warden.audit(event="applied")
    assert (record["container"]["engine"], "nested_ipc" in record) == ("podman", False)


@pytest.mark.parametrize("on_violation", ["refuse", "clamp"])
@pytest.mark.parametrize(
    ("annotations", "seccomp"), [({RAW_FILTER: ALLOW_ALL}, None), ({}, GUESS)], ids=["raw filter", "guess"]
)
def test_what_cannot_be_narrowed_is_refused(
    engine: Engine,
    warden: Warden,
    scratch: Path,
    on_violation: str,
    annotations: dict[str, str],
    seccomp: dict[str, Any] | None,
) -> None:
    """The door cannot say so, but the creation stage does, whatever is clamped."""
    govern(engine, warden, on_violation)
    file = scratch / "filter.json"
    file.write_text(json.dumps(seccomp), encoding="utf-8")
    flags = [f"--security-opt=seccomp={file}"] if seccomp else []
    assert engine.run("nest", annotations=annotations, flags=flags).code != 0
    [record] = warden.audit(event="refused")
    assert [each["kind"] for each in record["violations"]] == ["nested_ipc"]


@pytest.mark.parametrize(("on_violation", "starts"), [("refuse", False), ("clamp", True)])
def test_what_has_not_been_narrowed_is_a_violation(
    engine: Engine, warden: Warden, on_violation: str, starts: bool
) -> None:
    """Rules that hang on the runtime, which the door does not know, leave a loose filter, and that is told."""
    govern(engine, warden, on_violation, OTHERS)
    assert (engine.run("nest").code == 0) is starts
    [record] = warden.audit(event="applied" if starts else "refused")
    assert [each["kind"] for each in record["violations"]] == ["nested_ipc"]
    assert record.get("nested_ipc") == ("unenforced" if starts else None)
