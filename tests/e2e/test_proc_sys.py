"""Binds that bring a writable /proc/sys along, by whatever path: judged by what the runtime has mounted."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.engine import BareEngine, PodmanEngine
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.engine import Engine
    from support.shell import Result
    from support.warden import Warden

POLICY = """
version: 1
profiles: {strict: {on_violation: clamp, writable_proc_sys: refuse}}
rules: [{name: everything, profile: strict}]
"""
HOOKS = pytest.mark.parametrize("engine", ["runc", "crun", "podman-runc", "podman-crun"], indirect=True)


def govern(engine: Engine, warden: Warden) -> None:
    """Put the policy in force, with hooks."""
    warden.compile(POLICY)
    engine.govern(warden)


def refused(warden: Warden) -> list[list[str]]:
    """Return the kinds of violations of each refusal."""
    return [[each["kind"] for each in record["violations"]] for record in warden.audit(event="refused")]


@contextmanager
def procfs_below(directory: Path) -> Iterator[Path]:
    """Mount a procfs in a directory that looks like any other."""
    (directory / "proc").mkdir(parents=True)
    run("mount", "-t", "proc", "proc", directory / "proc").check()
    try:
        yield directory
    finally:
        run("umount", directory / "proc").check()


def bind(engine: Engine, source: Path | str, option: str = "rw") -> Result:
    """Run a container with something bound to /tmp."""
    if isinstance(engine, PodmanEngine):
        return engine.run("true", flags=[f"--volume={source}:/tmp:{option}"])
    assert isinstance(engine, BareEngine)
    bundle = engine.bundle("true")
    file = bundle / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    mount = {"destination": "/tmp", "type": "bind", "source": str(source), "options": ["rbind", option]}
    config["mounts"].append(mount)
    file.write_text(json.dumps(config), encoding="utf-8")
    return engine.runtime.run(bundle, bundle.name)


@HOOKS
@pytest.mark.parametrize("target", ["/proc/sys", "/proc", "/proc/sys/kernel"])
def test_a_link_to_proc_sys(engine: Engine, warden: Warden, scratch: Path, target: str) -> None:
    """A link is what it leads to."""
    govern(engine, warden)
    (scratch / "link").symlink_to(target)
    assert bind(engine, scratch / "link").code != 0
    assert refused(warden) == [["writable_proc_sys"]]


@HOOKS
def test_a_link_that_cannot_be_written(engine: Engine, warden: Warden, scratch: Path) -> None:
    """Read-only it does no harm, although crun makes it so only after the creation stage."""
    govern(engine, warden)
    (scratch / "link").symlink_to("/proc/sys")
    bind(engine, scratch / "link", "ro").check()
    [record] = warden.audit(event="applied")
    assert "writable_proc_sys" not in record


@HOOKS
def test_a_procfs_further_down(engine: Engine, warden: Warden, scratch: Path) -> None:
    """A tree with a procfs in it brings that along."""
    govern(engine, warden)
    with procfs_below(scratch / "tree") as tree:
        assert bind(engine, tree).code != 0
    assert refused(warden) == [["writable_proc_sys"]]
    bind(engine, tree).check()


@HOOKS
def test_a_link_of_the_kernels(engine: Engine, warden: Warden) -> None:
    """A way through /proc/self/root is none round."""
    govern(engine, warden)
    assert bind(engine, "/proc/self/root/proc/sys").code != 0
    assert refused(warden) == [["writable_proc_sys"]]


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun", "docker", "ctr"], indirect=True)
def test_what_engines_mount(engine: Engine, warden: Warden) -> None:
    """What engines mount of their own accord is read-only where it matters."""
    govern(engine, warden)
    engine.run("true").check()
    [record] = warden.audit(event="applied")
    assert "writable_proc_sys" not in record
