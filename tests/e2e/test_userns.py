"""Root's podman with user namespaces: limits that the container's root owns, and a runtime in mounts of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace

if TYPE_CHECKING:
    from support.engine import PodmanEngine
    from support.warden import Warden

POLICY = """
version: 1
profiles:
  mapped:
    sysctls:
      kernel.shmmax: {default: 64MiB, max: 1GiB}
      kernel.sem: {semmni: 128}
      fs.mqueue.queues_max: 32
    on_violation: clamp
rules:
  - name: mapped
    when: {user_namespace: true}
    profile: mapped
"""
WANTED = {"kernel.shmmax": "67108864", "fs.mqueue.queues_max": "32"}
LEAVE = ["leave", "--shm=2", "--sem=3", "--msg=1", "--mqueue=2"]
MADE = "made shm=2 sem=3 msg=1 mqueue=2"
LEFT = {"shm": 2, "sem": 3, "msg": 1, "mqueue": 2}
WAYS: dict[str, dict[str, Any]] = {"uidmap": {"userns": True}, "auto": {"flags": ["--userns=auto"]}}

pytestmark = [
    pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True),
    pytest.mark.parametrize("options", WAYS.values(), ids=WAYS),
]


def govern(engine: PodmanEngine, warden: Warden) -> None:
    """Put a policy in force and register the hooks."""
    warden.compile(POLICY)
    engine.govern(warden)


def of_policy(limits: dict[str, str]) -> dict[str, str]:
    """Choose what the policy speaks of."""
    return {name: limits[name] for name in WANTED}


def counts(record: dict[str, Any]) -> dict[str, int]:
    """Reduce what was left to counts."""
    return {kind: total["count"] for kind, total in record["leftovers"].items()}


def test_limits_from_inside(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """The container sees the limits of its profile, and its end is recorded by the call that ran it."""
    govern(engine, warden)
    ended = engine.run("limits", **options)
    assert of_policy(namespace.values(ended.check().stdout)) == WANTED
    applied, *_, teardown = warden.audit(container=ended.id)
    assert (applied["event"], applied["enforced"], applied["privileges"]) == ("applied", True, "full")
    assert (teardown["event"], teardown["namespace"]["destroyed"]) == ("teardown", True)
    assert warden.pins() == warden.ledger() == []


def test_a_stop_from_another_mount_namespace(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """The creation hook runs in mounts of the runtime's own; what it pinned there is found by `podman stop`."""
    govern(engine, warden)
    container = engine.start(*LEAVE, "--wait", **options)
    container.wait_for(MADE)
    conmon = int(engine.podman.inspect(container.id)["State"]["ConmonPid"])
    assert not Path(f"/proc/{conmon}/ns/mnt").samefile("/proc/self/ns/mnt")
    [pin] = warden.pins()
    assert pin.samefile(container.namespace)
    container.stop()
    record = warden.audit(container=container.id)[-1]
    assert (record["event"], record["stage"]) == ("teardown", "poststop")
    assert counts(record) == LEFT
    assert record["namespace"]["destroyed"] is True
    assert warden.pins() == warden.ledger() == []


def test_an_end_of_its_own(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """What a container leaves that ends by itself is found by podman's own cleanup, in the runtime's mounts."""
    govern(engine, warden)
    ended = engine.run(*LEAVE, **options)
    ended.check()
    assert counts(warden.audit(container=ended.id)[-1]) == LEFT
    assert warden.pins() == warden.ledger() == []


def test_a_request_beyond_bounds(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """A request is clamped where only the container's root may write."""
    govern(engine, warden)
    container = engine.start("leave", "--wait", sysctl={"kernel.shmmax": "99999999999"}, **options)
    container.wait_for("made")
    assert namespace.limits(container.namespace)["kernel.shmmax"] == str(1 << 30)
    assert warden.audit(container=container.id)[0]["decision"] == "clamped"


def test_gc(engine: PodmanEngine, warden: Warden, options: dict[str, Any]) -> None:
    """A container that never ran has no poststop, and was pinned in mounts that are gone: gc frees it."""
    govern(engine, warden)
    assert engine.run("/no/such/program", **options).code != 0
    assert len(warden.pins()) == 1
    [collected] = warden.gc()["collected"]
    assert collected["reason"] == "gone"
    assert warden.audit()[-1]["event"] == "collected"
    assert warden.audit()[-1]["namespace"]["destroyed"] is True
    assert warden.pins() == warden.ledger() == []
