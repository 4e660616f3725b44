"""What is known of a container from what engines leave on a disk, and what is not believed.

The documents are recorded ones (tests/unit/data/engines), put where the engine had them, as root's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.facts import Facts
from ipcwarden.core.policy import Policy
from ipcwarden.core.spec import parse_spec
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.host.cgroups import parent_memory
from ipcwarden.host.engines import facts_of
from ipcwarden.stages.case import open_case
from ipcwarden.stages.site import Site
from support import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.recorded import Recorded

IMAGE = "registry.example/tests/payload:1"
NOBODY = 65534
CRI = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "forged",
    "io.kubernetes.cri.image-name": "registry.corp/forged:1",
    "io.kubernetes.cri.sandbox-name": "forged",
    "io.kubernetes.cri.sandbox-namespace": "forged",
}
CRIO = {
    "io.container.manager": "cri-o",
    "io.kubernetes.cri-o.ContainerType": "sandbox",
    "io.kubernetes.cri-o.ImageName": "registry.corp/forged:1",
    "io.kubernetes.cri-o.KubeName": "forged",
    "io.kubernetes.cri-o.Namespace": "forged",
    "io.kubernetes.cri-o.SandboxID": "forged",
}
PODMAN = {"io.container.manager": "libpod", "io.podman.annotations.infra.name": "forged"}
NERDCTL = {"nerdctl/name": "forged", "nerdctl/namespace": "default", "nerdctl/state-dir": "/var/lib/nerdctl/1935db59"}


@pytest.fixture
def unpack(scratch: Path) -> Callable[[str], Recorded]:
    """Put what an engine left where it was."""

    def unpack(name: str) -> Recorded:
        document = recorded.load(name, scratch)
        document.unpack()
        return document

    return unpack


def known(document: Recorded, *trusted: str, bundle: str = "", **annotations: str) -> Facts:
    """Read the facts, with annotations that a user has added."""
    config: dict[str, Any] = {**document.config}
    config["annotations"] = {**config.get("annotations", {}), **annotations}
    spec = parse_spec(json.dumps(config).encode())
    return facts_of(document.container, bundle or document.bundle, spec, "runc", False, trusted)


def names(facts: Facts) -> tuple[object, ...]:
    """Take what engines name."""
    return facts.engine, facts.name, facts.image, facts.pod, facts.namespace, facts.is_sandbox


CRI_CONTAINER = ("containerd", "db", IMAGE, "postgres-0", "prod", False)
CRI_SANDBOX = ("containerd", None, None, "postgres-0", "prod", True)
EXPECTED = {
    "containerd-1.6.20-cri-container": CRI_CONTAINER,
    "containerd-1.6.20-cri-sandbox": CRI_SANDBOX,
    "containerd-1.6.20-ctr": ("containerd", "db", None, None, None, False),
    "containerd-1.7.24-cri-container": CRI_CONTAINER,
    "containerd-1.7.24-cri-sandbox": CRI_SANDBOX,
    "containerd-2.1.9-cri-container": CRI_CONTAINER,
    "containerd-2.1.9-cri-sandbox": CRI_SANDBOX,
    "cri-o-1.36-container-from-source": ("cri-o", "db", IMAGE, "postgres-0", "prod", False),
    "cri-o-1.36-sandbox-from-source": ("cri-o", None, None, "postgres-0", "prod", True),
    "docker-20.10.24": ("docker", "db", IMAGE, None, None, False),
    "docker-20.10.24-hostname": ("docker", "dc", IMAGE, None, None, False),
    "docker-26.1.5": ("docker", "db", IMAGE, None, None, False),
    "docker-28.5.2": ("docker", "db", IMAGE, None, None, False),
    "nerdctl-2.3-from-source": ("nerdctl", "db", None, None, None, False),
    "podman-4.3.1-container": ("podman", "db", IMAGE, None, None, False),
    "podman-4.3.1-pod-infra": ("podman", "79ccb15275cb-infra", IMAGE, None, None, False),
    "podman-4.3.1-pod-member": ("podman", "app", IMAGE, None, None, False),
    "podman-5.4.2-pod-infra": ("podman", "14d1a79480ff-infra", IMAGE, None, None, False),
    "podman-5.4.2-removed-at-its-end": ("podman", "volatile", IMAGE, None, None, False),
    "podman-5.8.6-pod-infra": ("podman", "b9690d3cf29e-infra", IMAGE, None, None, False),
    "podman-5.8.6-removed-at-its-end": ("podman", "volatile", IMAGE, None, None, False),
}


@pytest.mark.parametrize("name", recorded.NAMES)
def test_knows_what_engines_record(unpack: Callable[[str], Recorded], name: str) -> None:
    """Of every recorded container engine, name, image, pod and namespace are known as far as the engine tells."""
    assert names(known(unpack(name))) == EXPECTED[name]


@pytest.mark.parametrize("forged", [CRI, CRIO, PODMAN, NERDCTL], ids=["cri", "cri-o", "podman", "nerdctl"])
@pytest.mark.parametrize("name", [name for name in recorded.NAMES if "cri-" not in name and "nerdctl" not in name])
def test_believes_no_annotation(unpack: Callable[[str], Recorded], name: str, forged: dict[str, str]) -> None:
    """Another engine's annotations on a container change nothing of what is known of it."""
    assert names(known(unpack(name), **forged)) == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in recorded.NAMES if "-cri-" in name])
def test_believes_no_other_annotation_of_a_pods(unpack: Callable[[str], Recorded], name: str) -> None:
    """The CRI's own annotations stand, and no other engine's are looked at beside them."""
    assert names(known(unpack(name), **CRIO, **NERDCTL)) == EXPECTED[name]


@pytest.mark.parametrize("name", ["cri-o-1.36-container-from-source", "cri-o-1.36-sandbox-from-source"])
def test_believes_no_annotation_of_cri_o(unpack: Callable[[str], Recorded], name: str) -> None:
    """CRI-O lets a pod's user overwrite CRI-O's own annotations: they are not asked."""
    assert names(known(unpack(name), **CRIO)) == EXPECTED[name]


@pytest.mark.parametrize("name", recorded.NAMES)
def test_believes_no_bundle_of_somebody_elses(unpack: Callable[[str], Recorded], name: str) -> None:
    """A bundle that lies as an engine's would, but is not root's, or whose record is not, is no engine's."""
    document = unpack(name)
    for path in [document.bundle, *document.files, *document.directories]:
        os.chown(path, NOBODY, NOBODY)
    found = known(document)
    if "containerd" in name or "docker" in name or "nerdctl" in name:
        assert names(found) == ("bare", document.container, None, None, None, False)
    else:
        assert names(found) == (None, None, None, None, None, False)


@pytest.mark.parametrize("name", [name for name in recorded.NAMES if "ctr" not in name])
def test_believes_no_record_of_somebody_elses(unpack: Callable[[str], Recorded], name: str) -> None:
    """A record that others can write says nothing: no name, no image, no pod, no namespace."""
    document = unpack(name)
    for path in [*document.files, *document.directories]:
        Path(path).chmod(0o777)
    engine, called, *others = names(known(document))
    assert others == [None, None, None, False]
    assert called in (None, document.container)
    assert engine in ("docker", "containerd", "nerdctl", None)


@pytest.mark.parametrize("annotations", [CRI, {**CRI, "io.kubernetes.cri.container-type": "sandbox"}])
def test_believes_no_pod_that_the_cri_does_not_know(
    unpack: Callable[[str], Recorded], annotations: dict[str, str]
) -> None:
    """A container that ctr or nerdctl starts in Kubernetes' own namespace of containerd is none of the CRI's."""
    document = unpack("containerd-1.6.20-cri-container")
    Path(document.directories[0]).rmdir()
    assert names(known(document, **annotations)) == ("containerd", document.container, None, None, None, False)


def test_asks_the_cri_what_is_a_sandbox(unpack: Callable[[str], Recorded]) -> None:
    """What the CRI keeps a container's directory for is no sandbox, whatever an annotation says."""
    document = unpack("containerd-1.6.20-cri-container")
    assert not known(document, **{"io.kubernetes.cri.container-type": "sandbox"}).is_sandbox


def test_believes_no_name_that_is_another_containers(unpack: Callable[[str], Recorded]) -> None:
    """A name that nerdctl has given to another container is not this one's."""
    document = unpack("nerdctl-2.3-from-source")
    store = Path(next(iter(document.files)))
    store.with_name("other").write_text("f" * 64)
    assert names(known(document, **{"nerdctl/name": "other"}))[:2] == ("nerdctl", None)


@pytest.mark.parametrize("odd", ["\0", "\ud800", "x" * 5000])
def test_an_annotation_that_is_no_path_leads_nowhere(unpack: Callable[[str], Recorded], odd: str) -> None:
    """A place that the kernel cannot even be asked for is as one that is not there: the container is containerd's."""
    document = unpack("nerdctl-2.3-from-source")
    claimed = f"/{odd}/containers/default/{document.container}"
    assert known(document, **{"nerdctl/state-dir": claimed}).engine == "containerd"


def test_knows_an_empty_bundle_as_bare(scratch: Path) -> None:
    """A bundle of nobody's is bare, and its name its id."""
    facts = facts_of("c", str(scratch), parse_spec(b"{}"), "/usr/bin/other", True)
    assert facts == Facts(
        "bare", None, name="c", annotations={}, privileged=False, user_namespace=False, rootless=True, ipc="host"
    )


def test_knows_nothing_of_what_only_lies_as_podmans(scratch: Path) -> None:
    """A bundle that lies as podman's do, without a record, is nobody's that we know."""
    bundle = scratch / "overlay-containers" / "c" / "userdata"
    assert names(facts_of("c", str(bundle), parse_spec(b"{}"), None, False)) == (None, None, None, None, None, False)


def test_finds_a_pod_that_another_file_has(unpack: Callable[[str], Recorded]) -> None:
    """A sandbox that an older CRI-O has recorded among lasting containers is found all the same."""
    document = unpack("cri-o-1.36-container-from-source")
    volatile = Path(next(iter(document.files)))
    sandbox, container = json.loads(volatile.read_text())
    volatile.write_text(json.dumps([sandbox]))
    volatile.with_name("containers.json").write_text(json.dumps([container]))
    assert names(known(document)) == EXPECTED["cri-o-1.36-container-from-source"]


def test_finds_podmans_volatile_containers(unpack: Callable[[str], Recorded]) -> None:
    """Since podman 5 containers with --rm stand in a file of their own."""
    document = unpack("podman-4.3.1-container")
    records = Path(next(iter(document.files)))
    records.rename(records.with_name("volatile-containers.json"))
    records.write_text("[]")
    assert names(known(document)) == EXPECTED["podman-4.3.1-container"]


def test_knows_trusted_annotations_alone(unpack: Callable[[str], Recorded]) -> None:
    """Policy names the annotations that it believes: those are facts, and no others."""
    document = unpack("docker-20.10.24")
    found = known(document, "team", "tier", team="db", other="x")
    assert found.annotations == {"team": "db"}


@pytest.mark.parametrize("file", ["{}/memory.max", "memory/{}/memory.limit_in_bytes"])
def test_reads_a_pods_limit(scratch: Path, file: str) -> None:
    """The parent's limit is read where either version of cgroups has it."""
    limit = scratch / file.format("kubepods/pod1")
    limit.parent.mkdir(parents=True)
    limit.write_text("268435456\n")
    assert parent_memory("/kubepods/pod1/c", str(scratch)) == 256 << 20


def test_knows_no_limit_of_a_missing_cgroup(scratch: Path) -> None:
    """A parent that is not there, or has no limit, says nothing."""
    assert parent_memory("/kubepods/pod1/c", str(scratch)) is None


def limit_of(document: Recorded, root: Path) -> int | None:
    """Open the case of a container, and take what bounds its memory, in bytes."""
    policy = Policy("enforcing", "", KERNEL_DEFAULTS, (), ())
    return open_case(Site(str(root), "explain"), policy, document.container, document.bundle, "runc").memory.limit


@pytest.fixture
def parent(lab: Path) -> Iterator[Callable[[int], str]]:
    """Make a cgroup with a limit of memory in bytes, and give it as the parent of a container's."""
    made: list[Path] = []

    def make(limit: int) -> str:
        root = next(path for path in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")) if path.is_dir())
        made.append(root / f"{lab.name}-parent")
        made[0].mkdir()
        file = "memory.limit_in_bytes" if root.name == "memory" else "memory.max"
        (made[0] / file).write_text(str(limit))
        return f"/{made[0].name}"

    yield make
    for directory in made:
        directory.rmdir()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("containerd-1.6.20-cri-sandbox", 256 << 20),
        ("containerd-1.7.24-cri-sandbox", 256 << 20),
        ("containerd-2.1.9-cri-sandbox", 256 << 20),
        ("containerd-1.6.20-cri-container", None),
        ("containerd-1.6.20-ctr", None),
        ("podman-4.3.1-pod-infra", None),
    ],
)
def test_decides_a_sandbox_with_its_pods_memory(
    unpack: Callable[[str], Recorded], scratch: Path, name: str, expected: int | None
) -> None:
    """What the CRI says that a pod may use bounds its sandbox, and nobody else."""
    assert limit_of(unpack(name), scratch) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("containerd-1.6.20-cri-sandbox", 64 << 20),
        ("cri-o-1.36-sandbox-from-source", 64 << 20),
        ("podman-4.3.1-pod-infra", 64 << 20),
        ("cri-o-1.36-container-from-source", None),
        ("docker-20.10.24", None),
        ("containerd-1.6.20-ctr", None),
    ],
)
def test_decides_a_sandbox_with_its_parents_limit(
    unpack: Callable[[str], Recorded], parent: Callable[[int], str], scratch: Path, name: str, expected: int | None
) -> None:
    """The pod's cgroup bounds its sandbox, and podman's containers without a limit of their own: one is the infra."""
    document = unpack(name)
    document.config["linux"]["cgroupsPath"] = f"{parent(64 << 20)}/c"
    document.configure(document.config)
    assert limit_of(document, scratch) == expected


def test_decides_by_a_containers_own_limit(
    unpack: Callable[[str], Recorded], parent: Callable[[int], str], scratch: Path
) -> None:
    """A container's own limit counts where it has one."""
    document = unpack("podman-4.3.1-container")
    document.config["linux"].update(cgroupsPath=f"{parent(64 << 20)}/c", resources={"memory": {"limit": 32 << 20}})
    document.configure(document.config)
    assert limit_of(document, scratch) == 32 << 20
