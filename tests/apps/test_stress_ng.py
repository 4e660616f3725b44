"""stress-ng killed while it works: what it leaves is audited completely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.census import audited, census
from support import namespace
from support.shell import until

if TYPE_CHECKING:
    from support.engine import BareEngine, Running
    from support.runtime import Runtime
    from support.warden import Warden

BASELINE = """
version: 1
rules:
  - {name: everything, profile: baseline}
"""
# stress-ng makes as many queues as it may: with few of them a record has room for each object.
FEW = """
version: 1
profiles:
  few:
    extends: baseline
    sysctls: {kernel.msgmni: 16}
rules:
  - {name: everything, profile: few}
"""
# Its temporary files go to where even a container with a read-only root may write.
STRESS = ["stress-ng", "--shm-sysv=2", "--sem-sysv=2", "--msg=2", "--mq=2", "--temp-path=/dev/shm", "--quiet"]
MOST = 100  # objects in a record


def stands_still(runtime: Runtime, container: Running) -> bool:
    """Pause a container that would leave objects of every kind: they come and go while it works."""
    runtime.pause(container.id).check()
    segments = [each["status"] or "" for each in namespace.objects(container.namespace, "shm")]
    found = all(namespace.counts(container.namespace).values()) and not all("dest" in status for status in segments)
    if not found:
        runtime.resume(container.id).check()
    return found


@pytest.mark.parametrize("policy", [BASELINE, FEW], ids=["baseline", "few"])
def test_killed_as_a_whole(runc: BareEngine, warden: Warden, policy: str) -> None:
    """The record tells exactly what stood in the namespace, its largest objects one by one, and that all is freed."""
    warden.compile(policy)
    runc.govern(warden)
    container = runc.start(*STRESS)
    until(lambda: stands_still(runc.runtime, container), "objects of every kind")
    container.stop()
    [pin] = warden.pins()
    stood = census(pin)
    container.remove()

    [record] = warden.audit(container=container.id, event="teardown")
    assert all(kind["count"] for kind in stood.totals.values())
    assert record["leftovers"] == stood.totals
    listed = audited(record["objects"])
    assert [each["bytes"] for each in record["objects"]] == stood.sizes[:MOST]
    assert record["objects_omitted"] == max(0, len(stood.objects) - MOST)
    told = {which: {name: each[name] for name in stood.objects[which]} for which, each in listed.items()}
    assert told == {which: stood.objects[which] for which in listed}
    assert {each["fate"] for each in record["objects"]} == {"freed"}
    assert record["namespace"]["destroyed"] is True
    assert warden.pins() == warden.ledger() == []
