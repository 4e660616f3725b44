"""poststart: what a runtime overruled is put right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support import namespace
from support.sandbox import call, put_in_force
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container


def overrule(container: Container, name: str, value: str) -> None:
    """Write a limit as a runtime would."""
    path = f"/proc/sys/{name.replace('.', '/')}"
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", f"echo {value} >{path}").check()


def test_is_silent_when_nothing_differs(container: Container) -> None:
    """Where the limits are as decided there is no second record."""
    container.create().check()
    container.poststart().check()
    assert [record["event"] for record in container.records()] == ["applied"]


def test_is_silent_without_an_entry(container: Container) -> None:
    """A container that is not governed is none of its business."""
    container.poststart().check()
    assert container.records() == []


def test_is_silent_when_the_container_has_ended(container: Container, start: Callable[..., Container]) -> None:
    """Under crun it may come after the user's process: governed or not, that is no error."""
    container.create().check()
    stranger = start(ipc="host")
    for each in (container, stranger):
        each.process.kill()
        os.waitid(os.P_PID, each.process.pid, os.WEXITED | os.WNOWAIT)
        each.poststart("running").check()
    assert [record["event"] for record in container.records()] == ["applied"]


def test_puts_right_before_the_user_process(container: Container) -> None:
    """Runc up to 1.5 calls it in state `created`: the value is put right, and all is well."""
    container.create().check()
    overrule(container, "kernel.shmmax", "99999999999")
    container.poststart("created").check()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == "67108864"
    verified = container.records()[-1]
    assert (verified["event"], verified["late"]) == ("verified", False)
    assert [(each["name"], each["found"]) for each in verified["sysctls"]] == [("kernel.shmmax", "99999999999")]


def test_too_much_too_late_ends_the_container(container: Container) -> None:
    """Runc 1.6 and crun call it in state `running`: whoever had too much does not go on."""
    container.create().check()
    overrule(container, "fs.mqueue.queues_max", "-1")
    result = container.poststart("running")
    assert result.code == 77
    assert "fs.mqueue.queues_max=-1" in result.stderr
    assert namespace.limits(container.namespace)["fs.mqueue.queues_max"] == "64"
    assert container.records()[-1]["late"] is True


def test_too_little_too_late_is_put_right(container: Container) -> None:
    """Less than was decided harms nobody: put right and recorded, no more."""
    container.create().check()
    overrule(container, "kernel.shmmax", "4096")
    container.poststart("running").check()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == "67108864"
    assert container.records()[-1]["event"] == "verified"


def test_faulty_input(container: Container, root: Path) -> None:
    """A state that cannot be used ends the container, but in permissive mode."""
    container.create().check()
    assert call("poststart", "{", root).code == 65
    put_in_force(root, mode="permissive")
    call("poststart", "{", root).check()


def test_a_fault_of_the_host(container: Container) -> None:
    """A lost pin is met as --on-error says."""
    container.create().check()
    [pin] = container.pins()
    path = container.root / "run" / "ipcwarden" / "containers" / container.entries()[0]
    path.write_text(path.read_text().replace('"handle":"', '"handle":"00'))
    run("umount", container.root / "run" / "ipcwarden" / "pins" / pin).check()
    state = container.state("created")
    assert call("poststart", state, container.root).code == 69
    call("poststart", state, container.root, "--on-error", "allow").check()


def test_permissive_writes_nothing(container: Container, root: Path) -> None:
    """In permissive mode nothing is put right."""
    put_in_force(root, mode="permissive")
    container.create().check()
    overrule(container, "kernel.shmmax", "4096")
    container.poststart().check()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == "4096"
    assert [record["event"] for record in container.records()] == ["applied"]


@pytest.mark.parametrize("name", ["kernel.msgmax", "kernel.shmmni"])
def test_leaves_alone_what_has_no_rule(container: Container, name: str) -> None:
    """What no rule speaks of is the runtime's."""
    container.create().check()
    overrule(container, name, "77")
    container.poststart().check()
    assert namespace.limits(container.namespace)[name] == "77"
