"""The kill switch, as hooks meet it: containers start as without ipcwarden, and what is governed ends as ever."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace, sandbox
from support.sandbox import call, config
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sandbox import Container
    from support.shell import Result

PROGRAM = Path(sys.executable).with_name("ipcwarden")
GREEDY = config(sysctl={"kernel.shmmax": "68719476736"})
FRESH, GOVERNED = "18446744073692774399", "67108864"


def ipcwarden(root: Path, *arguments: str) -> Result:
    """Run a verb, which must end well."""
    return run(PROGRAM, "--root", root, *arguments).check()


@pytest.fixture
def switch(root: Path) -> Path:
    """Name the switch's file, in a directory that is there."""
    file = root / "etc" / "ipcwarden" / "disabled"
    file.parent.mkdir(parents=True)
    return file


def shmmax(container: Container) -> str:
    """Return what is in force now."""
    return namespace.limits(container.namespace)["kernel.shmmax"]


def told(container: Container) -> list[tuple[Any, ...]]:
    """Return the events of a container, with their reasons."""
    return [(each["event"], each.get("reason")) for each in container.records() if each["container"]]


def silently(result: Result) -> None:
    """Check that a hook has ended well and said nothing."""
    assert (result.code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("stage", ["createRuntime", "prestart"])
def test_a_container_is_left_alone(container: Container, stage: str) -> None:
    """Nothing is pinned, written or refused, whatever it asks for, to its end: one record says why."""
    ipcwarden(container.root, "disable")
    container.configure(GREEDY)
    silently(container.create(stage=stage))
    silently(container.poststart())
    assert shmmax(container) == FRESH
    assert (container.pins(), container.entries()) == ([], [])
    container.kill()
    silently(container.poststop())
    assert told(container) == [("skipped", "disabled")]
    record = container.records()[-1]
    assert (record["decision"], record["enforced"], record["rule"]) == ("none", False, None)
    assert record["container"]["id"] == container.id


@pytest.mark.parametrize("content", [b"", b"off please", b'{"until": 5}'])
def test_a_touch_will_do(container: Container, switch: Path, content: bytes) -> None:
    """Whatever the file says."""
    switch.write_bytes(content)
    container.configure(GREEDY)
    silently(container.create())
    assert told(container) == [("skipped", "disabled")]


@pytest.mark.parametrize("policy", [None, b"damaged"])
def test_no_policy_is_needed(container: Container, switch: Path, policy: bytes | None) -> None:
    """Where there is none, or one that nobody can use, a container starts all the same."""
    file = container.root / "var" / "lib" / "ipcwarden" / "policy.compiled"
    if policy is None:
        file.unlink()
    else:
        file.write_bytes(policy)
    assert container.create().code == 78
    switch.touch()
    silently(container.create())
    assert told(container)[-1] == ("skipped", "disabled")


def test_no_document_is_needed(container: Container, switch: Path) -> None:
    """A config.json that nobody could use is not even read."""
    container.configure("{")
    assert container.create().code == 65
    switch.touch()
    silently(container.create())


def test_a_hook_that_hangs_stops_no_container(container: Container, switch: Path) -> None:
    """Our own deadline, a fault of the host's, is none with the switch on: here it passes while the log is opened."""
    late = ["strace", "-qq", "-o", "/dev/null", "-P", "audit.jsonl"]
    late += ["-e", "trace=openat", "-e", "inject=openat:signal=ALRM"]
    words = [sandbox.PYTHON, "-I", "-S", sandbox.HOOK, "--root", container.root, "createRuntime"]
    assert run(*late, *words, stdin=container.state("creating")).code == 75
    switch.touch()
    assert run(*late, *words, stdin=container.state("creating")).code == 0


def test_a_log_that_cannot_be_written_stops_no_container(container: Container, switch: Path) -> None:
    """Nor does a ledger: the switch is for such hosts, too."""
    (container.root / "var" / "log").mkdir(parents=True)
    for place in ("run", "var/log/ipcwarden"):
        (container.root / place).touch()
    switch.touch()
    assert container.create().code == 0


def test_it_ends_by_itself(container: Container, switch: Path) -> None:
    """From its moment on containers are governed again."""
    switch.write_text('{"version": 1, "until": "2026-01-01T00:00:00Z", "reason": "", "by": 0}')
    container.configure(GREEDY)
    assert container.create().code == 77


def test_it_lasts_until_its_moment(container: Container) -> None:
    """Until then they are not."""
    ipcwarden(container.root, "disable", "--for", "1h")
    container.configure(GREEDY)
    silently(container.create())


def test_it_is_taken_back(container: Container) -> None:
    """After `enable` containers are governed again."""
    ipcwarden(container.root, "disable")
    ipcwarden(container.root, "enable")
    container.create().check()
    assert shmmax(container) == GOVERNED


@pytest.mark.parametrize("spoil", ["owner", "mode", "directory", "link"])
def test_what_others_may_have_set_is_not_obeyed(container: Container, switch: Path, spoil: str) -> None:
    """Closed is how this fails: the container is governed."""
    switch.touch(0o644)
    if spoil == "owner":
        os.chown(switch, 1000, 1000)
    elif spoil == "mode":
        switch.chmod(0o666)
    elif spoil == "directory":
        switch.parent.chmod(0o777)
    else:
        switch.unlink()
        switch.symlink_to("/dev/null")
    container.configure(GREEDY)
    assert container.create().code == 77


def test_a_governed_container_ends_as_ever(container: Container, switch: Path) -> None:
    """What it left is listed, recorded and freed."""
    container.create().check()
    container.leave("--shm", "2")
    switch.touch()
    container.kill()
    silently(container.poststop())
    [teardown] = [each for each in container.records() if each["event"] == "teardown"]
    assert teardown["leftovers"]["shm"]["count"] == 2
    assert (container.pins(), container.entries()) == ([], [])


def test_gc_goes_on(container: Container, switch: Path) -> None:
    """For governed containers whose poststop never came."""
    container.create().check()
    switch.touch()
    container.kill()
    assert "collected" in ipcwarden(container.root, "gc").stdout
    assert container.pins() == []


def overrule(container: Container) -> None:
    """Write a limit as a runtime does."""
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 77777777 >/proc/sys/kernel/shmmax").check()


def test_a_governed_container_keeps_its_limits(container: Container, switch: Path) -> None:
    """Who was created before it was on gets what was decided, though runc writes after the creation hook."""
    container.create().check()
    overrule(container)
    switch.touch()
    silently(container.poststart())
    assert shmmax(container) == GOVERNED
    assert container.records()[-1]["joiner"] is None


def test_a_joiner_changes_no_governed_container(start: Callable[..., Container], switch: Path) -> None:
    """What a runtime writes into a governed namespace on a joiner's behalf goes, before and after the hook."""
    owner = start()
    owner.create().check()
    joiner = start(ipc=str(owner.namespace))
    switch.touch()
    overrule(joiner)
    silently(joiner.create())
    assert shmmax(owner) == GOVERNED
    overrule(joiner)
    silently(joiner.poststart("running"))  # late, and refused all the same is nobody
    assert shmmax(owner) == GOVERNED
    overrule(joiner)
    joiner.kill()
    silently(joiner.poststop())
    assert shmmax(owner) == GOVERNED


@pytest.mark.parametrize("stage", ["createRuntime", "poststart"])
def test_a_joiner_whose_state_is_refused(start: Callable[..., Container], switch: Path, stage: str) -> None:
    """Nor does one of whom nobody can tell where it is."""
    owner = start()
    owner.create().check()
    joiner = start(ipc=str(owner.namespace))
    switch.touch()
    overrule(joiner)
    assert call(stage, joiner.state("creating", id="j x"), joiner.root).code == 0
    assert shmmax(owner) == GOVERNED
