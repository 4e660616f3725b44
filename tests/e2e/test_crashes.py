"""Whatever is killed on the way: the container's end is recorded once, pin and entry go, nobody else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace, sandbox
from support.shell import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.engine import BareEngine, Engine
    from support.warden import Warden

MIB = 1 << 20
LEAVE = ("leave", "--shm=1", "--sem=1", "--wait")
MADE = "made shm=1 sem=1"

bare = pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)


@pytest.fixture
def governed(engine: BareEngine, warden: Warden) -> Iterator[BareEngine]:
    """Govern an engine on which a neighbour lives; whatever the test does, gc then leaves that one's life alone."""
    sandbox.put_in_force(warden.root)
    engine.govern(warden)
    neighbour = engine.start("leave", "--shm=3", "--wait")
    neighbour.wait_for("made shm=3")
    [pin], [entry] = warden.pins(), warden.ledger()
    before = entry.read_bytes()
    yield engine
    assert (warden.pins(), warden.ledger(), entry.read_bytes()) == ([pin], [entry], before)
    assert namespace.counts(neighbour.namespace)["shm"] == 3
    neighbour.remove()
    assert warden.pins() == warden.ledger() == []


def has_ended_once(warden: Warden, container: str, *, left: int = 1) -> None:
    """Let gc do what poststop has not done, and check that the container's end stands in the log, once.

    `left` are the segments that it left, and that were seen through the pin.
    """
    assert warden.gc()["failed"] == []
    ends = [record for record in warden.audit(container=container) if record["event"] not in ("applied", "verified")]
    assert [record["event"] for record in ends] in (["teardown"], ["collected"])
    assert ends[0]["namespace"]["destroyed"] is True
    assert ends[0]["leftovers"]["shm"]["count"] == left


@bare
def test_out_of_memory(governed: BareEngine, warden: Warden) -> None:
    """A container that the kernel kills because its shared memory is more than its cgroup may have."""
    swap = {"swap": 48 * MIB} if len(Path("/proc/swaps").read_text(encoding="ascii").splitlines()) > 1 else {}
    bundle = governed.bundle("leave", "--shm=2", f"--shm-size={50 * MIB}", "--wait", memory=48 * MIB)
    edit(bundle, lambda config: config["linux"]["resources"]["memory"].update(swap))
    result = governed.runtime.run(bundle, bundle.name)
    assert result.code == 128 + signal.SIGKILL
    has_ended_once(warden, bundle.name)
    [teardown] = warden.audit(container=bundle.name, event="teardown")
    assert teardown["leftovers"]["shm"]["claimed"] == 50 * MIB


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's config.json."""
    file = bundle / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config)
    file.write_text(json.dumps(config), encoding="utf-8")


@bare
def test_init_killed(governed: BareEngine, warden: Warden) -> None:
    """A container whose first process is killed from outside, and which somebody deletes later."""
    container = governed.start(*LEAVE)
    container.wait_for(MADE)
    os.kill(container.pid, signal.SIGKILL)
    until(lambda: (governed.runtime.state(container.id) or {}).get("status") == "stopped", "its end")
    governed.runtime.delete(container.id).check()
    has_ended_once(warden, container.id)


@bare
def test_deleted_while_it_runs(governed: BareEngine, warden: Warden) -> None:
    """`delete --force` on a container that runs."""
    container = governed.start(*LEAVE)
    container.wait_for(MADE)
    governed.runtime.delete(container.id, force=True).check()
    has_ended_once(warden, container.id)


@bare
def test_runtime_killed_while_the_container_runs(governed: BareEngine, warden: Warden, scratch: Path) -> None:
    """`run` is killed, its container lives on until somebody deletes it."""
    bundle = governed.bundle(*LEAVE)
    output = scratch / "output"
    command = [governed.runtime.program, "--root", str(governed.runtime.states), "run", "--bundle", str(bundle)]
    with output.open("wb") as file:
        process = subprocess.Popen([*command, bundle.name], stdin=subprocess.DEVNULL, stdout=file)
    until(lambda: MADE in output.read_text(), "the container to run")
    process.kill()
    process.wait()
    assert warden.gc()["collected"] == []
    governed.runtime.delete(bundle.name, force=True).check()
    has_ended_once(warden, bundle.name)


@bare
def test_runtime_killed_before_start(governed: BareEngine, warden: Warden) -> None:
    """The runtime is killed between the creation hook and the start: it knows nothing of the container any more."""
    bundle = governed.bundle("leave", "--wait")
    kill = {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}
    edit(bundle, lambda config: config["hooks"]["createRuntime"].append(kill))
    assert governed.runtime.create(bundle, bundle.name).code != 0
    [entry] = [json.loads(file.read_text()) for file in warden.ledger() if file.name.startswith(bundle.name)]
    until(lambda: not Path(f"/proc/{entry['pid']}").exists(), "its first process to end")
    has_ended_once(warden, bundle.name, left=0)


@bare
def test_state_lost(governed: BareEngine, warden: Warden) -> None:
    """Somebody removes what the runtime knows, and kills the container: there is nothing left to delete."""
    container = governed.start(*LEAVE)
    container.wait_for(MADE)
    pid = container.pid
    shutil.rmtree(governed.runtime.states / container.id)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    has_ended_once(warden, container.id)


@bare
def test_hook_killed_at_its_timeout(governed: BareEngine, warden: Warden) -> None:
    """The runtime's timeout passes while the creation hook, which has pinned, stands still."""
    bundle = governed.bundle("leave", "--wait")
    edit(bundle, stand_still)
    assert governed.runtime.create(bundle, bundle.name).code != 0
    has_ended_once(warden, bundle.name, left=0)


def stand_still(config: dict[str, Any]) -> None:
    """Let the creation hook stand still once it has pinned; the runtime waits a second for it."""
    [hook] = config["hooks"]["createRuntime"]
    strace = [
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=move_mount",
        "-e",
        "inject=move_mount:delay_exit=60000000",
    ]
    hook["args"] = [*strace, "setpriv", "--pdeathsig=KILL", *hook["args"]]  # who kills strace, kills the hook
    hook["path"] = shutil.which("strace")
    hook["env"] = [f"PATH={os.environ['PATH']}"]
    hook["timeout"] = 1


@pytest.mark.parametrize("engine", ["ctr"], indirect=True)
def test_shim_killed(governed: Engine, warden: Warden) -> None:
    """containerd's shim, the parent of the container, is killed."""
    container = governed.start(*LEAVE)
    container.wait_for(MADE)
    status = Path(f"/proc/{container.pid}/status").read_text(encoding="ascii")
    [shim] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")]
    assert "shim" in Path(f"/proc/{shim}/comm").read_text(encoding="ascii")
    os.kill(shim, signal.SIGKILL)
    until(lambda: len(warden.pins()) == 1, "containerd to delete the container")
    has_ended_once(warden, container.id)
    container.remove()
