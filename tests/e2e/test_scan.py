"""`ipcwarden scan` on containers of real engines: who they are, found without any hook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.image import IMAGE
from support.schema import validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.cri import Cri
    from support.engine import Engine, Running
    from support.podman import Podman
    from support.warden import Warden

POLICY = """
version: 1
profiles: {team: {sysctls: {kernel.shmmax: {max: 64MiB}, kernel.shmmni: {set: 2}}}}
rules: [{name: everything, profile: team}]
"""


@pytest.fixture
def candidate(scratch: Path) -> Path:
    """Write a policy that is not in force."""
    file = scratch / "candidate.yaml"
    file.write_text(POLICY, encoding="utf-8")
    return file


def scan(warden: Warden, *options: str | Path, code: int = 0) -> dict[str, Any]:
    """Scan; the answer is valid."""
    result = warden("scan", "--json", *options)
    assert result.code == code, result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    validate(found, "scan-v1")
    return found


def of(found: dict[str, Any], container: Running) -> dict[str, Any]:
    """Return what is said of a container, which lives where its first process does, and nowhere else."""
    [(inode, tenant)] = [
        (room["inode"], tenant)
        for room in found["namespaces"]
        for tenant in room["containers"]
        if tenant["pid"] == container.pid
    ]
    assert inode == container.namespace.stat().st_ino
    said: dict[str, Any] = tenant
    return said


@pytest.mark.parametrize(
    ("engine", "name"),
    [("podman-runc", "podman"), ("podman-crun", "podman"), ("docker", "docker"), ("ctr", "containerd")],
    indirect=["engine"],
)
def test_an_engines_container_is_found_ungoverned(engine: Engine, name: str, warden: Warden, candidate: Path) -> None:
    """With its engine, its image, and what it asks for."""
    container = engine.start("leave", "--shm=3", "--wait", sysctl={"kernel.shmmax": "68719476736"})
    container.wait_for("made")
    found = scan(warden, "--policy", candidate, code=1)
    tenant = of(found, container)
    assert (tenant["container"]["engine"], tenant["governed"]) == (name, None)
    assert IMAGE in (tenant["container"]["image"] or IMAGE)
    assert (tenant["verdict"], tenant["rule"]) == ("refused", "everything")
    assert [(each["name"], each["requested"]) for each in tenant["violations"]] == [("kernel.shmmax", "68719476736")]
    assert tenant["excess"] == [{"name": "kernel.shmmni", "used": "3", "wanted": "2"}]
    assert sum(len(room["containers"]) for room in found["namespaces"]) == 1
    swept = json.loads(warden("sweep", "--older-than", "0", "--json").check().stdout)["ungoverned"]
    assert [(each["container"], each["engine"], each["image"]) for each in swept] == [
        (tenant["container"]["id"], name, tenant["container"]["image"])
    ]
    container.remove()


@pytest.mark.parametrize("engine", ["podman-runc", "docker", "ctr"], indirect=True)
def test_what_is_executed_in_a_container_is_the_containers(engine: Engine, warden: Warden, candidate: Path) -> None:
    """It makes no second one."""
    container = engine.start("leave", "--shm=1", "--wait")
    container.wait_for("made")
    container.execute("sh", "-c", "sleep 1000 >/dev/null 2>&1 </dev/null &").check()
    found = scan(warden, "--policy", candidate)
    assert of(found, container)["verdict"] == "fits"
    assert sum(len(room["containers"]) for room in found["namespaces"]) == 1
    assert [room["others"] for room in found["namespaces"]] == [[], []]
    container.remove()


@pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
def test_a_bare_container_is_found_by_the_ledger(engine: Engine, warden: Warden) -> None:
    """Where nothing else tells: its runtime's records lie where nobody looks, and its parent is whoever called it."""
    warden.compile(POLICY)
    engine.govern(warden)
    container = engine.start("leave", "--shm=1", "--wait")
    container.wait_for("made")
    tenant = of(scan(warden), container)
    assert tenant["governed"]["profile"] == "team"
    assert (tenant["container"]["id"], tenant["verdict"]) == (container.id, "fits")
    container.remove()


def test_a_rootless_container_is_called_so(podman: Callable[[str], Podman], warden: Warden, candidate: Path) -> None:
    """An ordinary user's podman is told by its monitor's owner."""
    engine = podman("rootless-runc")
    engine.run(["leave", "--shm=1", "--wait"], "--detach", "--name=theirs").check()
    pid = engine.inspect("theirs")["State"]["Pid"]
    found = scan(warden, "--policy", candidate)
    [tenant] = [each for room in found["namespaces"] for each in room["containers"] if each["pid"] == pid]
    assert (tenant["rootless"], tenant["facts"]["rootless"]) == (True, True)
    assert any("rootless" in note for note in tenant["notes"])
    engine.remove("theirs").check()


def test_all_of_a_pod_live_in_one_namespace(cri: Cri, warden: Warden, scratch: Path) -> None:
    """The sandbox owns it and asks for limits; who joins is judged by what it would get."""
    file = scratch / "pods.yaml"
    file.write_text(POLICY.replace("everything,", 'everything, when: {engine: containerd, namespace: "team-*"},'))
    pod = cri.pod(namespace="team-a", sysctl={"kernel.shmmax": "68719476736"})
    containers = [pod.start("leave", "--shm=2", "--wait") for _ in range(2)]
    for each in containers:
        each.wait_for("made")
    found = scan(warden, "--policy", file, code=1)
    [room] = [room for room in found["namespaces"] if room["inode"] == pod.namespace.stat().st_ino]
    said = {tenant["container"]["id"]: tenant for tenant in room["containers"]}
    assert said.keys() == {pod.id, *(each.id for each in containers)}
    assert {tenant["container"]["namespace"] for tenant in said.values()} == {"team-a"}
    assert {tenant["container"]["pod"] for tenant in said.values()} == {pod.name}
    assert (said[pod.id]["verdict"], said[containers[0].id]["verdict"]) == ("refused", "fits")
    assert said[pod.id]["excess"] == [{"name": "kernel.shmmni", "used": "4", "wanted": "2"}]


@pytest.mark.parametrize("engine", ["podman-runc", "docker"], indirect=True)
def test_a_container_in_the_hosts_namespace_is_the_hosts_guest(engine: Engine, warden: Warden, candidate: Path) -> None:
    """It is left alone there, and called by its name."""
    container = engine.start("sleep", "1000", ipc="host")
    found = scan(warden, "--policy", candidate)
    assert of(found, container)["verdict"] == "host-ipc"
    assert found["namespaces"][0]["host"]
    assert container.pid in [each["pid"] for each in found["namespaces"][0]["containers"]]
    container.remove()


@pytest.mark.parametrize("engine", ["podman-runc"], indirect=True)
def test_a_joiners_wishes_are_compared_with_the_owners_limits(engine: Engine, warden: Warden, candidate: Path) -> None:
    """Two containers, one namespace: the one that made it is judged first."""
    owner = engine.start("leave", "--wait")
    joiner = engine.start("leave", "--wait", ipc=owner.ipc)
    for each in (owner, joiner):
        each.wait_for("made")
    found = scan(warden, "--policy", candidate)
    assert {of(found, each)["verdict"] for each in (owner, joiner)} == {"fits"}
    assert {each["why"] for each in of(found, joiner)["sysctls"]} == {"in_force"}
    assert max(len(room["containers"]) for room in found["namespaces"]) == 2
    for each in (joiner, owner):
        each.remove()
