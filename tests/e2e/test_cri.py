"""What the CRI tells of its pods, and what becomes of them beside what test_pods holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import namespace
from support.cri import CriError

if TYPE_CHECKING:
    from support.cri import Cri
    from support.warden import Warden

POLICY = """
version: 1
profiles:
  team:
    sysctls:
      kernel.shmmax: {default: 64MiB, max: 1GiB}
      kernel.shmall: {max: 25% of memory}
      kernel.msgmnb: 4096
    host_ipc: refuse
rules:
  - name: production
    when: {engine: containerd, namespace: "prod-*"}
    profile: team
"""


def govern(cri: Cri, warden: Warden) -> None:
    """Put a policy in force and register the wrapper."""
    warden.compile(POLICY)
    cri.govern(warden)


def test_records_name_the_pod(cri: Cri, warden: Warden) -> None:
    """The records of the sandbox and of a container tell which pod's they are."""
    govern(cri, warden)
    pod = cri.pod(namespace="prod-shop")
    ended = pod.run("true")
    pod.remove()
    told = [(record["event"], record["container"]["id"]) for record in warden.audit() if record["container"]]
    assert told == [("applied", pod.id), ("applied", ended.id), ("teardown", ended.id), ("teardown", pod.id)]
    for name in (pod.id, ended.id):
        container = warden.audit(container=name)[0]["container"]
        assert (container["engine"], container["pod"], container["namespace"]) == ("containerd", pod.name, "prod-shop")
    assert warden.pins() == warden.ledger() == []


def test_percentages_are_of_the_pod_s_memory(cri: Cri, warden: Warden) -> None:
    """A share of the memory is one of what the pod may use: the sandbox itself has no limit."""
    govern(cri, warden)
    pod = cri.pod(namespace="prod-shop", memory=64 << 20)
    limits = namespace.values(pod.run("limits").check().stdout)
    assert int(limits["kernel.shmall"]) * 4096 == 16 << 20


def test_pod_in_the_host_s_namespace_is_refused(cri: Cri, warden: Warden) -> None:
    """A pod with hostIPC does not run where the policy says so."""
    govern(cri, warden)
    with pytest.raises(CriError, match="host"):
        cri.pod(namespace="prod-shop", ipc="host")
    assert [violation["kind"] for violation in warden.audit(event="refused")[0]["violations"]] == ["host_ipc"]


def test_pods_that_no_rule_is_for_are_left_alone(cri: Cri, warden: Warden) -> None:
    """A pod of another namespace has the kernel's limits and leaves a record that says why."""
    govern(cri, warden)
    pod = cri.pod(namespace="kube-system")
    assert namespace.values(pod.run("limits").check().stdout)["kernel.msgmnb"] == "16384"
    assert warden.audit(container=pod.id)[0]["reason"] == "no-rule"


def test_pod_that_ends_after_a_restart_of_containerd(cri: Cri, warden: Warden) -> None:
    """A pod's end is audited whether or not containerd is still the one that started it."""
    govern(cri, warden)
    pod = cri.pod(namespace="prod-shop")
    pod.start("leave", "--shm=2", "--wait").wait_for("made shm=2")
    cri.restart()
    pod.remove()
    teardown = warden.audit(event="teardown")[-1]
    assert (teardown["container"]["id"], teardown["leftovers"]["shm"]["count"]) == (pod.id, 2)
    assert warden.pins() == warden.ledger() == []
