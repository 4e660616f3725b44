"""What rules and records know of a container while engines create it, and what its user cannot make them believe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.image import IMAGE

if TYPE_CHECKING:
    from pathlib import Path

    from support.cri import Cri
    from support.docker import Docker, DockerEngine
    from support.engine import Engine
    from support.warden import Warden

FORGED = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "forged",
    "io.kubernetes.cri.image-name": "registry.corp/forged:1",
    "io.kubernetes.cri.sandbox-name": "forged",
    "io.kubernetes.cri.sandbox-namespace": "forged",
    "io.kubernetes.cri-o.ContainerType": "sandbox",
    "io.kubernetes.cri-o.SandboxID": "forged",
    "nerdctl/name": "forged",
}
POLICY = """
version: 1
trust_annotations: [example.com/tier]
profiles:
  few: {{sysctls: {{kernel.msgmni: 5}}}}
  shared: {{sysctls: {{kernel.shmmax: 50% of memory}}}}
rules:
  - {{name: chosen, when: {when}, profile: {profile}}}
  - {{name: everything else, profile: baseline}}
"""


def govern(warden: Warden, when: str, profile: str = "few") -> None:
    """Put a policy in force whose first rule has conditions."""
    warden.compile(POLICY.format(when=when, profile=profile))


def told(record: dict[str, Any]) -> tuple[object, ...]:
    """Take what a record says of a container: its rule, and what its engine names."""
    about = record["container"]
    return record["rule"], *(about[name] for name in ("engine", "runtime", "name", "image", "pod", "namespace"))


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_docker_facts(engine: DockerEngine, warden: Warden) -> None:
    """Rules know Docker's image and name while the container is created."""
    govern(warden, "{engine: docker, name: db, image: '*/tests/*'}")
    engine.govern(warden)
    ended = engine.docker.run(["limits"], "--rm", "--name=db").check()
    assert namespace.values(ended.stdout)["kernel.msgmni"] == "5"
    (record,) = warden.audit(event="applied")
    assert told(record) == ("chosen", "docker", "runc", "db", IMAGE, None, None)


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_docker_users_cannot_hide_their_image(engine: DockerEngine, warden: Warden, scratch: Path) -> None:
    """A file that a user mounts on /etc/hostname does not lead away from Docker's record."""
    govern(warden, "{image: '*/tests/*'}")
    engine.govern(warden)
    docker: Docker = engine.docker
    (scratch / "hostname").write_text("mine\n")
    docker.run(["true"], "--rm", "--name=db", f"--volume={scratch}/hostname:/etc/hostname").check()
    (record,) = warden.audit(event="applied")
    assert told(record) == ("chosen", "docker", "runc", "db", IMAGE, None, None)


@pytest.mark.parametrize("engine", ["ctr"], indirect=True)
def test_ctr_facts(engine: Engine, warden: Warden) -> None:
    """A container of ctr's has its id for a name, whatever annotations it has."""
    govern(warden, "{image: '*'}")
    engine.govern(warden)
    ended = engine.run("true", annotations=FORGED).check()
    (record,) = warden.audit(event="applied")
    assert told(record) == ("everything else", "containerd", "runc", ended.id, None, None, None)
    assert record["unknown"] == ["image"]


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_podman_annotations_are_not_believed(engine: Engine, warden: Warden) -> None:
    """A container of podman's is what podman's record says, whatever annotations it has."""
    govern(warden, "{pod: forged}")
    engine.govern(warden)
    engine.run("true", annotations=FORGED).check()
    (record,) = warden.audit(event="applied")
    rule, known, _, name, image, *pod = told(record)
    assert (rule, known, image, pod) == ("everything else", "podman", IMAGE, [None, None])
    assert name != "forged"
    assert record["unknown"] == ["pod"]


@pytest.mark.parametrize("engine", ["podman-runc", "runc", "ctr"], indirect=True)
def test_trusted_annotations_choose_the_rule(engine: Engine, warden: Warden) -> None:
    """An annotation whose key policy trusts is a fact, on every engine."""
    govern(warden, "{annotations: {example.com/tier: gold}}")
    engine.govern(warden)
    engine.run("true", annotations={"example.com/tier": "gold"}).check()
    engine.run("true", annotations={"example.com/tier": "lead"}).check()
    assert [record["rule"] for record in warden.audit(event="applied")] == ["chosen", "everything else"]


def test_pod_facts(cri: Cri, warden: Warden) -> None:
    """Of a pod, sandbox and containers are known by pod and namespace; a container has a name and an image too."""
    govern(warden, "{pod: 'pod*', namespace: prod}")
    cri.govern(warden)
    pod = cri.pod(namespace="prod", annotations=FORGED)
    pod.run("true", annotations=FORGED)
    sandbox, container = warden.audit(event="applied")
    assert told(sandbox) == ("chosen", "containerd", "runc", None, None, pod.name, "prod")
    _, _, _, name, *others = told(container)
    assert others == [IMAGE, pod.name, "prod"]
    assert str(name).startswith("container")


def test_a_sandbox_has_its_pods_memory(cri: Cri, warden: Warden) -> None:
    """Amounts that are a share of memory are a share of the pod's, which the sandbox itself has no limit of."""
    govern(warden, "{namespace: prod}", "shared")
    cri.govern(warden)
    pod = cri.pod(namespace="prod", memory=256 << 20)
    assert namespace.limits(pod.namespace)["kernel.shmmax"] == str(128 << 20)
