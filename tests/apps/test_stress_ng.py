"""stress-ng killed while it works: what it leaves is audited completely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apps.census import audited, census
from support import namespace
from support.shell import until

if TYPE_CHECKING:
    from pathlib import Path

    from apps.census import Told
    from apps.packages import Packages
    from support.engine import BareEngine, PodmanEngine, Running
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
# All that it is proven to have left goes at once, beside whoever lives.
REMOVING = """
version: 1
profiles:
  removing:
    extends: baseline
    sysctls: {kernel.msgmni: 16}
    leftovers: remove
    reap: [{kind: shm, age: 0s}, {kind: sem, age: 0s}, {kind: msg, age: 0s}]
rules:
  - {name: everything, profile: removing}
"""
# Its temporary files go to where even a container with a read-only root may write.
STRESS = ["/usr/bin/stress-ng", "--shm-sysv=2", "--sem-sysv=2", "--msg=2", "--mq=2", "--temp-path=/dev/shm", "--quiet"]
MOST = 100  # objects in a record
MAKE = ["leave", "--shm=1", "--sem=1", "--sem-op", "--msg=1"]
PROCESSES = ("of the pod", "of the living", "of the member")  # the first ones of three containers


def leaves_every_kind(found: Path) -> bool:
    """Tell whether a namespace has objects of every kind that stay if whoever uses them ends: they come and go."""
    segments = [each["status"] or "" for each in namespace.objects(found, "shm")]
    return all(namespace.counts(found).values()) and not all("dest" in status for status in segments)


def stands_still(runtime: Runtime, container: Running) -> bool:
    """Pause a container that would leave objects of every kind; one that forks may outrun the freezer."""
    if runtime.pause(container.id).code:
        return False
    found = leaves_every_kind(container.namespace)
    if not found:
        runtime.resume(container.id).check()
    return found


def halted(member: Running, found: Path) -> bool:
    """Stop all processes of a container but the first, where they would leave objects of every kind."""
    member.execute("sh", "-c", "kill -STOP -1").check()
    every_kind = leaves_every_kind(found)
    if not every_kind:
        member.execute("sh", "-c", "kill -CONT -1").check()
    return every_kind


def expected(kind: str, told: Told) -> tuple[str, str]:
    """Tell how sure we can be that an object is a dead member's, and what becomes of it where policy says remove.

    The kernel notes a maker of segments alone, and a pid with whatever is operated on, sent or received.
    """
    if kind == "shm":
        return "proven", "removed"
    return "plausible", "removed" if any(told.get(name) for name in ("otime", "send", "recv")) else "held"


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


def test_killed_beside_the_living(podman: PodmanEngine, warden: Warden, packages: Packages) -> None:
    """The record tells all that the dead left, and what is proven goes; a living one's objects stay as they are."""
    warden.compile(REMOVING)
    podman.govern(warden)
    with podman.pod() as pod:
        living = podman.start(*MAKE, "--mqueue=1", "--wait", flags=[f"--pod={pod}"])
        living.wait_for("made shm=1")
        member = podman.start("leave", "--wait", flags=[f"--pod={pod}", "--stop-signal=KILL", *packages.flags])
        member.wait_for("made")
        living.execute(*MAKE).check()  # by a process that has ended, after the member joined
        kept = census(living.namespace)

        member.execute("sh", "-c", f"{' '.join(STRESS)} >/dev/null 2>&1 &").check()
        until(lambda: halted(member, living.namespace), "objects of every kind")
        member.execute("sh", "-c", "kill -KILL -1").check()
        until(lambda: len(namespace.members(living.namespace)) == len(PROCESSES), "an end of what was killed")
        stood = census(living.namespace)
        member.stop()

        [record] = warden.audit(container=member.id, event="teardown")
        left = stood.beside(kept)
        assert record["leftovers"] == left.totals
        assert record["present"] == stood.totals
        told = {which: (each["confidence"], each["fate"]) for which, each in audited(record["objects"]).items()}
        assert told == {which: expected(which[0], each) for which, each in left.objects.items()}
        stay = {
            which: told for which, told in left.objects.items() if expected(which[0], told) == ("plausible", "held")
        }
        assert census(living.namespace).objects == kept.objects | stay
