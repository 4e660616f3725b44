"""The fast door's import list, stage by stage, on real containers: nothing more than these is ever loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.imports import run_and_list_imports
from support.sandbox import HOOK
from support.shell import run

if TYPE_CHECKING:
    from support.sandbox import Container

# Beyond what an empty `python3 -I -S` has, and the stage's unit.
C = {"_ctypes", "_json", "_blake2", "gc"}


def loaded(container: Container, stage: str, status: str) -> set[str]:
    """Run a stage that ends well, and return what it loaded."""
    ran = run_and_list_imports(HOOK, "--root", container.root, stage, stdin=container.state(status))
    assert ran.result.code == 0, ran.said
    return set(ran.modules)


@pytest.mark.parametrize("stage", ["prestart", "createRuntime"])
def test_creation(container: Container, stage: str) -> None:
    """Deciding, pinning, applying and recording loads four modules."""
    assert loaded(container, stage, "creating") == C | {"_ipcwarden_create"}


def test_poststart(container: Container) -> None:
    """Reading back and putting right loads four modules."""
    container.create().check()
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 7 >/proc/sys/kernel/shmmax").check()
    assert loaded(container, "poststart", "created") == C | {"_ipcwarden_poststart"}


def test_poststop(container: Container) -> None:
    """Auditing objects of all four kinds and freeing them loads four modules."""
    container.create().check()
    container.leave("--shm=1", "--sem=1", "--msg=1", "--mqueue=1")
    container.kill()
    assert loaded(container, "poststop", "stopped") == C | {"_ipcwarden_poststop"}
