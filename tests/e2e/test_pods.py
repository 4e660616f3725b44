"""Pods: several containers in one IPC namespace, whose first one decides its limits for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.cri import CriError
from support.engine import PodmanEngine

if TYPE_CHECKING:
    from support.cri import Cri
    from support.engine import Engine
    from support.warden import Warden

MIB = 1 << 20
POLICY = """
version: 1
profiles:
  pods:
    sysctls:
      kernel.shmmax: {{default: 64MiB, max: 1GiB}}
      kernel.msgmni: {{max: 100}}
    on_violation: {on_violation}
  greedy:
    extends: pods
    shared: widen
    sysctls:
      kernel.shmmax: {{default: 256MiB, max: 1GiB}}
rules:
  - {{name: widening, when: {{image: '*/tests/*', ipc: shared}}, profile: {joiners}}}
  - {{name: everything else, profile: pods}}
"""
LEAVE = ["leave", "--shm=2", "--sem=1", "--wait"]
MADE = {"shm": 2, "sem": 1, "msg": 0, "mqueue": 0}

podman = pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)


def compile_policy(warden: Warden, on_violation: str = "refuse", joiners: str = "pods") -> None:
    """Put a policy in force; `joiners` is the profile of who joins a pod."""
    warden.compile(POLICY.format(on_violation=on_violation, joiners=joiners))


def shmmax(limits: str) -> int:
    """Return a limit from what the payload prints."""
    return int(namespace.values(limits)["kernel.shmmax"])


def events(warden: Warden, container: str) -> list[str]:
    """List the events of a container's life."""
    return [record["event"] for record in warden.audit(container=container)]


def run_in(engine: Engine, pod: str, *args: str, sysctl: dict[str, str] | None = None) -> Any:
    """Run a member of a podman pod to its end."""
    assert isinstance(engine, PodmanEngine)
    return engine.podman.run(args, "--rm", f"--pod={pod}", hooks_dir=engine.hooks_dir, sysctl=sysctl or {})


def test_a_cri_pod_lives(cri: Cri, warden: Warden) -> None:
    """The sandbox decides, with the pod's sysctls; two containers share it, one is started again; each is recorded."""
    compile_policy(warden)
    cri.govern(warden)
    pod = cri.pod(sysctl={"kernel.shmmax": str(128 * MIB)})
    assert namespace.limits(pod.namespace)["kernel.shmmax"] == str(128 * MIB)
    first = pod.start(*LEAVE)
    first.wait_for("made shm=2 sem=1")
    assert shmmax(pod.run("sh", "-c", "echo left >/dev/shm/left; limits").check().stdout) == 128 * MIB
    first.remove()  # as a kubelet does before it starts the next attempt
    assert namespace.counts(pod.namespace) == MADE
    again = pod.start(*LEAVE)
    again.wait_for("made shm=2 sem=1")
    _, ended = warden.audit(container=first.id)
    assert ended["event"] == "teardown"
    assert [(each["name"], each["new"]) for each in ended["dev_shm"]["files"]] == [("left", True)]
    pod.remove()
    assert events(warden, again.id) == ["applied", "teardown"]
    [last] = warden.audit(container=pod.id, event="teardown")
    assert (last["leftovers"]["shm"]["count"], last["namespace"]["destroyed"]) == (4, True)
    assert warden.pins() == warden.ledger() == []


def test_a_cri_pod_that_asks_for_too_much(cri: Cri, warden: Warden) -> None:
    """The kubelet is told in our words why the sandbox does not start, and nothing of it is left."""
    compile_policy(warden)
    cri.govern(warden)
    with pytest.raises(CriError, match=r"kernel\.shmmax=68719476736 is outside what is allowed"):
        cri.pod(sysctl={"kernel.shmmax": "68719476736"})
    [record] = warden.audit(event="refused")
    assert record["violations"][0]["requested"] == "68719476736"
    assert warden.pins() == warden.ledger() == []


def test_a_cri_pod_is_clamped(cri: Cri, warden: Warden) -> None:
    """Under `clamp` the runtime itself writes what policy gives, and the record tells what was asked for."""
    compile_policy(warden, on_violation="clamp")
    cri.govern(warden)
    pod = cri.pod(sysctl={"kernel.shmmax": "68719476736"})
    assert namespace.limits(pod.namespace)["kernel.shmmax"] == str(1024 * MIB)
    [record] = warden.audit(event="applied")
    assert record["decision"] == "clamped"
    assert [(s["requested"], s["wanted"]) for s in record["sysctls"] if s["requested"]] == [
        ("68719476736", str(1024 * MIB))
    ]
    assert warden.audit(event="verified") == []


def test_only_pods_of_our_handler(cri: Cri, warden: Warden) -> None:
    """Installed as a handler of its own, for a RuntimeClass, it governs the pods that ask for it and no others."""
    compile_policy(warden)
    cri.govern(warden, "--handler", "ipcwarden")
    before = namespace.limits(namespace.Path("/proc/self/ns/ipc"))["kernel.shmmax"]
    assert namespace.limits(cri.pod().namespace)["kernel.shmmax"] == before
    assert namespace.limits(cri.pod(handler="ipcwarden").namespace)["kernel.shmmax"] == str(64 * MIB)
    assert len(warden.audit(event="applied")) == 1


def test_a_cri_container_may_widen(cri: Cri, warden: Warden) -> None:
    """Under `shared: widen` a container's profile raises what the sandbox has, for all of the pod, and no drift."""
    compile_policy(warden, joiners="greedy")
    cri.govern(warden)
    pod = cri.pod()
    assert shmmax(pod.run("limits").check().stdout) == 256 * MIB
    assert namespace.limits(pod.namespace)["kernel.shmmax"] == str(256 * MIB)
    pod.remove()
    assert [record["drift"] for record in warden.audit(event="teardown")] == [[], []]


@podman
def test_a_podman_pod_lives(engine: Engine, warden: Warden) -> None:
    """podman's infra container decides first; members see its limits and leave its objects alone."""
    assert isinstance(engine, PodmanEngine)
    compile_policy(warden)
    engine.govern(warden)
    with engine.pod() as pod:
        assert shmmax(run_in(engine, pod, "limits").check().stdout) == 64 * MIB
        infra = engine.podman.infra(pod)
        assert events(warden, infra) == ["applied"]
        [left] = [each for each in warden.audit(event="teardown") if each["container"]["id"] != infra]
        assert {total["count"] for total in left["leftovers"].values()} == {0}
    assert events(warden, infra) == ["applied", "teardown"]
    assert warden.pins() == warden.ledger() == []


@podman
def test_a_podman_member_changes_nothing(engine: Engine, warden: Warden) -> None:
    """Under `shared: owner` what a member asks for is refused, and the pod has what it had."""
    assert isinstance(engine, PodmanEngine)
    compile_policy(warden)
    engine.govern(warden)
    with engine.pod() as pod:
        run_in(engine, pod, "true").check()
        ended = run_in(engine, pod, "limits", sysctl={"kernel.shmmax": str(128 * MIB)})
        assert ended.code != 0
        assert shmmax(run_in(engine, pod, "limits").check().stdout) == 64 * MIB
    assert [v["kind"] for record in warden.audit() for v in record.get("violations", ())] == ["owner"]


@podman
def test_a_podman_member_may_widen(engine: Engine, warden: Warden) -> None:
    """Under `shared: widen` an allowed request raises the limit for the next member, too, and that is no drift."""
    assert isinstance(engine, PodmanEngine)
    compile_policy(warden, joiners="greedy")
    engine.govern(warden)
    with engine.pod() as pod:
        ended = run_in(engine, pod, "limits", sysctl={"kernel.shmmax": str(512 * MIB)})
        assert shmmax(ended.check().stdout) == 512 * MIB
        assert shmmax(run_in(engine, pod, "limits").check().stdout) == 512 * MIB
    assert [record["drift"] for record in warden.audit(event="teardown")] == [[]] * 3
