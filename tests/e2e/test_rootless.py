"""An ordinary user's podman: governed by the host's policy, with ledger, pins and log of the user's own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.schema import validate
from support.shell import run

if TYPE_CHECKING:
    from support.engine import PodmanEngine
    from support.shell import Result
    from support.user import User
    from support.warden import Warden

POLICY = """
version: 1
profiles:
  team:
    sysctls:
      kernel.shmmax: {{default: 64MiB, max: 1GiB}}
      kernel.sem: {{semmni: 128}}
      fs.mqueue.queues_max: 32
    on_violation: {on_violation}
    help: "ask #platform"
rules:
  - name: users
    when: {{rootless: true, engine: podman}}
    profile: team
"""
WANTED = {"kernel.shmmax": "67108864", "fs.mqueue.queues_max": "32"}
LEAVE = ["leave", "--shm=2", "--sem=3", "--msg=1", "--mqueue=2"]
MADE = "made shm=2 sem=3 msg=1 mqueue=2"
LEFT = {"shm": 2, "sem": 3, "msg": 1, "mqueue": 2}

pytestmark = pytest.mark.parametrize("engine", ["rootless-runc", "rootless-crun"], indirect=True)
mapped = pytest.mark.parametrize(
    "options",
    [{}, {"userns": True}, {"flags": ["--userns=keep-id"]}],
    ids=["private", "uidmap", "keep-id"],
)


def user_of(engine: PodmanEngine) -> User:
    """Return the user whose podman it is."""
    assert engine.podman.user is not None
    return engine.podman.user


def ipcwarden(engine: PodmanEngine, warden: Warden, *arguments: str) -> Result:
    """Run the command as the user."""
    command = (Path(sys.executable).with_name("ipcwarden"), "--root", warden.root, *arguments)
    return run(*user_of(engine).command(*command), env=environment(engine))


def unshared(engine: PodmanEngine, warden: Warden, *arguments: str) -> Result:
    """Run the command as the user does within the engine's user namespace."""
    program = Path(sys.executable).with_name("ipcwarden")
    return engine.podman("unshare", program, "--root", warden.root, *arguments)


def environment(engine: PodmanEngine) -> dict[str, str]:
    """Return the user's environment, and what Python needs."""
    return user_of(engine).env | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def audit(engine: PodmanEngine, warden: Warden, container: str) -> list[dict[str, Any]]:
    """Read what the user's log says of a container; every record is valid."""
    result = ipcwarden(engine, warden, "audit", "--json", "--container", container)
    records = [json.loads(line) for line in result.check().stdout.splitlines()]
    for record in records:
        validate(record, "audit-v1")
    return records


def ledger(engine: PodmanEngine) -> list[Path]:
    """List entries, pins and members."""
    return sorted((user_of(engine).runtime_dir / "ipcwarden").glob("*/*"))


def govern(engine: PodmanEngine, warden: Warden, on_violation: str = "refuse") -> None:
    """Put a policy in force and register the hooks, all root's."""
    warden.compile(POLICY.format(on_violation=on_violation))
    directory = warden.root.parent / "hooks.d"
    directory.mkdir()
    warden.install_podman(directory)
    engine.hooks_dir = directory


def of_policy(limits: dict[str, str]) -> dict[str, str]:
    """Choose what the policy speaks of."""
    return {name: limits[name] for name in WANTED}


def counts(record: dict[str, Any]) -> dict[str, int]:
    """Reduce what was left to counts."""
    return {kind: total["count"] for kind, total in record["leftovers"].items()}


@mapped
def test_limits_from_inside(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """The container sees the limits of its profile; the user's log has its life, root's has nothing."""
    govern(engine, warden)
    ended = engine.run("limits", **options)
    assert of_policy(namespace.values(ended.check().stdout)) == WANTED
    applied, *_, teardown = audit(engine, warden, ended.id)
    assert (applied["event"], applied["enforced"], applied["privileges"]) == ("applied", True, "full")
    assert (applied["rule"], applied["unknown"]) == ("users", [])
    assert (teardown["event"], teardown["namespace"]["destroyed"]) == ("teardown", True)
    assert teardown["privileges"] == "full"
    assert ledger(engine) == warden.pins() == warden.ledger() == []
    assert [record["event"] for record in warden.audit()] == ["policy"]


@mapped
def test_leftovers(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """What a container leaves is found by a later `podman stop`, through the pin."""
    govern(engine, warden)
    container = engine.start(*LEAVE, "--wait", **options)
    container.wait_for(MADE)
    assert len(ledger(engine)) == 3
    container.stop()
    record = audit(engine, warden, container.id)[-1]
    assert (record["event"], record["namespace"]["destroyed"]) == ("teardown", True)
    assert counts(record) == LEFT
    assert ledger(engine) == []


def test_a_refusal(engine: PodmanEngine, warden: Warden) -> None:
    """A request beyond bounds does not start, and the record says why."""
    govern(engine, warden)
    ended = engine.run("limits", sysctl={"kernel.shmmax": "99999999999"})
    assert ended.code != 0
    assert "kernel.shmmax" not in ended.stdout
    [record] = audit(engine, warden, ended.id)
    assert (record["event"], record["violations"][0]["name"]) == ("refused", "kernel.shmmax")
    assert ledger(engine) == []


def test_a_clamp(engine: PodmanEngine, warden: Warden) -> None:
    """A request beyond bounds is clamped, whoever writes last."""
    govern(engine, warden, "clamp")
    container = engine.start("leave", "--wait", sysctl={"kernel.shmmax": "99999999999"})
    container.wait_for("made")
    assert namespace.limits(container.namespace)["kernel.shmmax"] == str(1 << 30)
    assert audit(engine, warden, container.id)[0]["decision"] == "clamped"


def test_precreate(engine: PodmanEngine, warden: Warden) -> None:
    """What is clamped before the runtime reads config.json is overruled by none, and the record has what was asked."""
    govern(engine, warden, "clamp")
    assert engine.hooks_dir is not None
    warden("install", "podman", "--precreate", "--hooks-dir", engine.hooks_dir).check()
    [registration] = (warden.root / "usr" / "share" / "ipcwarden" / "precreate.d").iterdir()
    shutil.copy(registration, engine.hooks_dir)
    ended = engine.run("limits", sysctl={"kernel.shmmax": "99999999999"})
    assert namespace.values(ended.check().stdout)["kernel.shmmax"] == str(1 << 30)
    applied, teardown = audit(engine, warden, ended.id)
    assert (applied["event"], applied["decision"], teardown["event"]) == ("applied", "clamped", "teardown")
    [asked] = [each["requested"] for each in applied["sysctls"] if each["name"] == "kernel.shmmax"]
    assert asked == "99999999999"


def test_a_joiner(engine: PodmanEngine, warden: Warden) -> None:
    """Who joins changes nothing of the owner's limits."""
    govern(engine, warden)
    owner = engine.start("leave", "--wait")
    owner.wait_for("made")
    engine.run("limits", ipc=owner.ipc, sysctl={"kernel.shmmax": "4096"})
    assert of_policy(namespace.limits(owner.namespace)) == WANTED


def test_a_pod(engine: PodmanEngine, warden: Warden) -> None:
    """A pod's namespace is the infra container's: a member's end finds it in use, the last one's frees it."""
    govern(engine, warden)
    with engine.pod() as pod:
        member = engine.start(*LEAVE, "--wait", flags=[f"--pod={pod}"])
        member.wait_for(MADE)
        infra = engine.podman.infra(pod)
        assert of_policy(namespace.limits(member.namespace)) == WANTED
        member.stop()
        assert audit(engine, warden, member.id)[-1]["present"]["shm"]["count"] == LEFT["shm"]
        member.remove()
    last = audit(engine, warden, infra)[-1]
    assert counts(last) == LEFT
    assert last["namespace"]["destroyed"] is True
    assert ledger(engine) == []


def test_facts(engine: PodmanEngine, warden: Warden) -> None:
    """Name and image come from the user's storage, as root's do from root's."""
    govern(engine, warden)
    ended = engine.run("limits", flags=["--name=mine"])
    told = audit(engine, warden, ended.check().id)[0]["container"]
    assert (told["engine"], told["name"]) == ("podman", "mine")
    assert told["runtime"] == engine.podman.runtime
    assert told["image"]


def test_gc(engine: PodmanEngine, warden: Warden) -> None:
    """A container whose poststop never came is collected within the user namespace; outside, gc says where to go."""
    govern(engine, warden)
    assert engine.run("/no/such/program").code != 0
    assert len(ledger(engine)) == 3
    refused = ipcwarden(engine, warden, "gc")
    assert refused.code == 69
    assert "podman unshare ipcwarden gc" in refused.stderr
    told = json.loads(unshared(engine, warden, "gc", "--json").check().stdout)
    assert [each["reason"] for each in told["collected"]] == ["gone"]
    assert ledger(engine) == []
    assert audit(engine, warden, told["collected"][0]["container"])[-1]["event"] == "collected"


def test_show(engine: PodmanEngine, warden: Warden) -> None:
    """A running container's limits are shown within the user namespace."""
    govern(engine, warden)
    container = engine.start("leave", "--wait")
    container.wait_for("made")
    shown = json.loads(unshared(engine, warden, "show", container.id, "--json").check().stdout)
    assert of_policy(shown["limits"]) == WANTED
    assert "podman unshare ipcwarden show" in ipcwarden(engine, warden, "show", container.id).stderr
