"""Pods whose members leak: what is told of it, what is removed, and what is never touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.engine import PodmanEngine
from support.schema import validate
from support.shell import until

if TYPE_CHECKING:
    from support.cri import Cri
    from support.engine import Engine, Running
    from support.warden import Warden

MIB = 1 << 20
KEYS = {"shm": 0x4711, "sem": 0x4712, "msg": 0x4713}
REAP = "\n".join(["    reap:", *(f"      - {{kind: {kind}, key: {key:#x}, age: 0s}}" for kind, key in KEYS.items())])
POLICY = """
version: 1
profiles:
  pods:
    extends: baseline
    leftovers: {leftovers}
    sysctls:
      kernel.shmall: 64MiB
{more}
rules:
  - {{name: everything, profile: pods}}
"""
MAKE = ["leave", "--shm=1", "--sem=1", "--sem-op", "--msg=1", "--mqueue=1"]
KEYED = [*MAKE, *(f"--{kind}-key={key}" for kind, key in KEYS.items()), "--mqueue-name=leaked", "--wait"]
LEAK = ["sh", "-c", f"leave --shm=1 && exec {' '.join(KEYED)}"]
HALF = ["leave", "--shm=1", f"--shm-size={32 * MIB}", "--shm-touch=0", "--wait"]

PRIVATE = "0x00000000"
LEAKED = {("shm", PRIVATE), *((kind, f"{key:#010x}") for kind, key in KEYS.items()), ("mqueue", "/leaked")}

one = pytest.mark.parametrize("engine", ["podman-runc"], indirect=True)
user_s = pytest.mark.parametrize("engine", ["rootless-runc"], indirect=True)
both = pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)


def member(engine: Engine, pod: str, *args: str) -> Running:
    """Start a member of a pod that is stopped by SIGKILL."""
    return engine.start(*args, flags=[f"--pod={pod}", "--stop-signal=KILL"])


def objects(found: Path) -> set[tuple[str, str]]:
    """Name the objects of a namespace: kind and id, or name."""
    listed = {(kind, each["id"]) for kind in KEYS for each in namespace.objects(found, kind)}
    return listed | {("mqueue", f"/{name}") for name in namespace.queues(found)}


def leak(engine: Engine, pod: str) -> tuple[Running, str, set[tuple[str, str]]]:
    """Let one member leave objects and die, one live that makes the same, as a worker of its does that has ended.

    Return the living one, the dead one's id, and what is the living one's.
    """
    keeper = member(engine, pod, *MAKE, "--mqueue-name=kept", "--wait")
    keeper.wait_for("made shm=1 sem=1")
    kept = objects(keeper.namespace)
    leaker = member(engine, pod, *LEAK)
    leaker.wait_for("made shm=1 sem=1")
    leaked = objects(keeper.namespace) - kept
    assert len(leaked) == 5
    keeper.execute(*MAKE, "--mqueue-name=worker").check()  # after the leaker has joined: it had none of this before
    kept = objects(keeper.namespace) - leaked
    leaker.stop()
    return keeper, leaker.id, kept


def told(record: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return how sure a record is of each object that the leaker left, and what became of it."""
    named = {(each["kind"], each.get("key", each.get("name"))): each for each in record["objects"]}
    return {each: (named[each]["confidence"], named[each]["fate"]) for each in LEAKED}


def expected(**fates: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return what `told` should: of arrays and queues nothing is proven; `fates` by kind where they are not removed."""
    sure = {each: "proven" if each[0] == "shm" else "plausible" for each in LEAKED}
    return {each: (sure[each], fates.get(each[0], "removed")) for each in LEAKED}


@both
def test_a_dead_member_s_objects_are_removed(engine: Engine, warden: Warden) -> None:
    """All that it has left, where `reap` names what has a key; a living one loses nothing."""
    assert isinstance(engine, PodmanEngine)
    warden.compile(POLICY.format(leftovers="remove", more=REAP))
    engine.govern(warden)
    with engine.pod() as pod:
        keeper, leaker, kept = leak(engine, pod)
        [record] = warden.audit(container=leaker, event="teardown")
        assert told(record) == expected(mqueue="held")
        assert objects(keeper.namespace) == {*kept, ("mqueue", "/leaked")}


@one
def test_what_nobody_named_waits_for_an_operator(engine: Engine, warden: Warden) -> None:
    """Without `reap` private segments go and the rest stays, until somebody names its kind."""
    assert isinstance(engine, PodmanEngine)
    warden.compile(POLICY.format(leftovers="remove", more=""))
    engine.govern(warden)
    with engine.pod() as pod:
        keeper, leaker, kept = leak(engine, pod)
        [record] = warden.audit(container=leaker, event="teardown")
        held = expected(**dict.fromkeys(("shm", "sem", "msg", "mqueue"), "held"))
        assert told(record) == {**held, ("shm", PRIVATE): ("proven", "removed")}

        infra = engine.podman.infra(pod)
        kinds = [f"--kind={kind}" for kind in KEYS]
        reaped: dict[str, Any] = json.loads(warden("reap", infra, *kinds, "--json").check().stdout)
        validate(reaped, "reap-v1")
        assert {kind: total["count"] for kind, total in reaped["freed"].items()} == {
            **dict.fromkeys(KEYS, 1),
            "mqueue": 0,
        }
        assert objects(keeper.namespace) == {*kept, ("mqueue", "/leaked")}
        [collected] = warden.audit(container=infra, event="collected")
        assert {each["kind"]: each["fate"] for each in collected["objects"]} == {
            **dict.fromkeys(KEYS, "removed"),
            "mqueue": "held",
        }


def test_a_kubernetes_pod_is_reaped_by_its_name(cri: Cri, warden: Warden) -> None:
    """What a container of it left whose sandbox and other containers live, recorded with the sandbox."""
    warden.compile(POLICY.format(leftovers="report", more=""))
    cri.govern(warden)
    pod = cri.pod()
    keeper = pod.start(*MAKE, "--mqueue-name=kept", "--wait")
    keeper.wait_for("made shm=1 sem=1")
    kept = objects(pod.namespace)
    leaker = pod.start(*KEYED)
    leaker.wait_for("made shm=1 sem=1")
    leaker.remove()
    [told] = warden.audit(container=leaker.id, event="teardown")
    name = f"{told['container']['namespace']}/{told['container']['pod']}"
    warden("reap", name, *(f"--kind={kind}" for kind in KEYS)).check()
    assert objects(pod.namespace) == {*kept, ("mqueue", "/leaked")}
    [collected] = warden.audit(container=pod.id, event="collected")
    assert {kind: total["count"] for kind, total in collected["removed"].items()} == {
        **dict.fromkeys(KEYS, 1),
        "mqueue": 0,
    }


@user_s
def test_a_user_reaps_what_is_the_user_s(engine: Engine, warden: Warden) -> None:
    """Within the user namespace of the engine an ordinary user does the same for containers of that user."""
    assert isinstance(engine, PodmanEngine)
    warden.compile(POLICY.format(leftovers="report", more=""))
    engine.hooks_dir = warden.root.parent / "hooks.d"  # root's
    engine.hooks_dir.mkdir()
    warden.install_podman(engine.hooks_dir)
    keeper = engine.start(*MAKE, "--mqueue-name=kept", "--wait", flags=["--ipc=shareable"])
    keeper.wait_for("made shm=1 sem=1")
    kept = objects(keeper.namespace)
    engine.run(*MAKE, "--mqueue-name=leaked", ipc=keeper.ipc).check()
    program = Path(sys.executable).with_name("ipcwarden")
    kinds = [f"--kind={kind}" for kind in KEYS]
    said = engine.podman("unshare", program, "--root", warden.root, "reap", keeper.id, *kinds).check().stdout
    assert said.splitlines()[-1].startswith("freed: 1 shm 4 KiB, 1 sem 64 B, 1 msg 88 B; kept: 1 shm 4 KiB, ")
    assert objects(keeper.namespace) == {*kept, ("mqueue", "/leaked")}


@one
@pytest.mark.parametrize(("leftovers", "working"), [("report", 2), ("remove", 10)])
def test_a_leaker_is_restarted(engine: Engine, warden: Warden, leftovers: str, working: int) -> None:
    """One that takes half of shmall and is killed starts twice under `report`; under `remove` ten times, and more."""
    assert isinstance(engine, PodmanEngine)
    warden.compile(POLICY.format(leftovers=leftovers, more=""))
    engine.govern(warden)
    with engine.pod() as pod:
        leaker = member(engine, pod, *HALF)
        for start in range(1, working + 1):
            until(lambda start=start: leaker.output().count("made") == start, f"start {start} to work")
            leaker.stop()
            engine.podman.start(leaker.id, hooks_dir=engine.hooks_dir).check()
        if leftovers == "report":
            until(lambda: "No space left" in engine.podman("logs", leaker.id).stderr, "the third start to fail")
