"""Commands that look into a namespace: no hook meets them in there, and they meet none."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support import namespace
from support.sandbox import HOOK, PYTHON, WANTED
from support.shell import REPOSITORY, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sandbox import Container

IPCWARDEN = REPOSITORY / ".venv" / "bin" / "ipcwarden"
VISITS = {"show": ("show",), "sweep": ("sweep", "--older-than=0"), "reap": ("reap",)}


@contextmanager
def at_work(container: Container) -> Iterator[None]:
    """Hold what a hook holds that is at work in the only namespace."""
    [room] = (container.root / "run" / "ipcwarden" / "namespaces").iterdir()
    fd = os.open(room, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


@pytest.fixture
def living(start: Callable[..., Container]) -> Container:
    """Give a governed container with a pid namespace of its own."""
    container = start(own_pids=True)
    container.create().check()
    return container


def test_show_says_that_others_are_at_work(living: Container) -> None:
    """It waits for a moment, and says in one line why it does not look."""
    with at_work(living):
        result = run(IPCWARDEN, "--root", living.root, "show", living.id)
    assert (result.code, result.stdout) == (75, "")
    assert result.stderr == (
        "ipcwarden: cannot enter the IPC namespace now: another hook or command is at work there (try again)\n"
    )
    run(IPCWARDEN, "--root", living.root, "show", living.id).check()


def test_sweep_leaves_it_for_the_next_pass(living: Container) -> None:
    """Where others are at work that is no failure, and what has changed is told the next time."""
    run("nsenter", f"--ipc={living.namespace}", "sh", "-c", "echo 77777777 >/proc/sys/kernel/shmmax").check()
    command = (IPCWARDEN, "--root", living.root, "sweep", "--older-than=0", "--json")
    with at_work(living):
        told = json.loads(run(*command).check().stdout)
    assert told["waiting"] == [{"container": living.id, "name": living.id, "reason": "taken"}]
    assert (told["failed"], told["drift"]) == ([], [])
    assert [each["container"] for each in json.loads(run(*command).check().stdout)["drift"]] == [living.id]


@pytest.mark.parametrize("verb", VISITS)
def test_an_end_meets_no_visitor(living: Container, verb: str) -> None:
    """A container that ends while a command looks is examined once that is out, and proven to be gone."""
    command = [str(IPCWARDEN), "--root", str(living.root), *VISITS[verb], *([] if verb == "sweep" else [living.id])]
    slowly = ["strace", "-f", "-o", "/dev/null", "-e", "trace=setns", "-e", "inject=setns:delay_exit=1500000:when=1"]
    with subprocess.Popen([*slowly, *command], stdout=subprocess.DEVNULL) as visitor:
        until(lambda: len(namespace.members(living.namespace)) > 1, "it to come in")
        living.kill()
        living.poststop().check()
        assert visitor.wait() == 0
    record = living.records()[-1]
    assert (record["event"], record["namespace"]["destroyed"]) == ("teardown", True)


def has_put_right(container: Container) -> bool:
    """Tell whether the limit that `change` wrote is as it was."""
    return namespace.limits(container.namespace)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])


TURNS: dict[str, tuple[str, str]] = {"creation": ("createRuntime", "creating"), "start": ("poststart", "created")}


@pytest.mark.parametrize(("stage", "status"), TURNS.values(), ids=TURNS)
def test_an_end_meets_no_hook_that_has_had_its_turn(living: Container, stage: str, status: str) -> None:
    """Before the next one is let in a hook has left the namespace, though its process has not ended."""
    run("nsenter", f"--ipc={living.namespace}", "sh", "-c", "echo 77777777 >/proc/sys/kernel/shmmax").check()
    is_met_by_nobody(living, living, stage, status, lambda: has_put_right(living))


def test_an_end_meets_no_hook_of_a_joiner(living: Container, start: Callable[..., Container]) -> None:
    """Nor one that has made a joiner known."""
    joiner = start(ipc=str(living.namespace), own_pids=True)
    is_met_by_nobody(living, joiner, "createRuntime", "creating", lambda: len(living.entries()) > 1)


def is_met_by_nobody(living: Container, whose: Container, stage: str, status: str, done: Callable[[], bool]) -> None:
    """Run a hook that takes long to end; whoever gets the room after it finds only containers in the namespace."""
    before = namespace.members(living.namespace)
    slowly = ["strace", "-o", "/dev/null", "-e", "trace=exit_group", "-e", "inject=exit_group:delay_enter=2000000"]
    command = [*slowly, PYTHON, "-I", "-S", str(HOOK), "--root", str(living.root), stage]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as hook:
        assert hook.stdin is not None
        hook.stdin.write(whose.state(status))
        hook.stdin.close()
        until(done, "it to have its turn")
        with at_work(living):
            assert namespace.members(living.namespace) == before
            assert hook.poll() is None
    assert hook.returncode == 0


def test_scan_says_that_others_are_at_work(living: Container) -> None:
    """What it cannot look into it names, and the rest is told."""
    with at_work(living):
        said = run(IPCWARDEN, "--root", living.root, "scan", "--json")
    assert "another hook or command is at work there" in said.stdout
    assert "another hook or command is at work there" not in run(IPCWARDEN, "--root", living.root, "scan").stdout
