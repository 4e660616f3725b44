"""What engines' documents say of a container, and which documents are asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ipcwarden.core.names import (
    Names,
    cri_memory,
    cri_names,
    cri_places,
    docker_homes,
    docker_names,
    is_docker_namespace,
    nerdctl_places,
    storage_bundles,
    storage_homes,
    storage_names,
    task_place,
    three_above,
)
from ipcwarden.core.spec import parse_spec
from support import recorded
from support.documents import table

if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

IMAGE = "registry.example/tests/payload:1"
ID = "a" * 64


@pytest.mark.parametrize("name", recorded.NAMES)
def test_reads_every_recorded_config(name: str) -> None:
    """What engines write into config.json is what we take: it names the annotations, and where the root is."""
    document = recorded.load(name)
    spec = parse_spec(json.dumps(document.config).encode())
    assert spec.annotations == document.config.get("annotations", {})
    assert (spec.root_path, spec.ipc) == (document.config["root"]["path"], "shared" if spec.ipc_path else "private")
    assert document.state["bundle"] == document.bundle


@pytest.mark.parametrize("name", recorded.NAMES)
def test_says_what_was_recorded(name: str) -> None:
    """The document about engines tells recorded versions from those that were only read."""
    how = "by its source" if name.endswith("-from-source") else "recorded"
    rows = table("docs/engines.md", "What this rests on")
    assert [row for row in rows if name.startswith(_recording(row)) and row[2].startswith(how)]


def _recording(row: list[str]) -> str:
    engine, version, _ = row
    return f"{engine.partition(',')[0].lower()}-{version.rpartition(' ')[2]}"


@pytest.mark.parametrize(
    ("bundle", "expected"),
    [
        (f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}", ("/run/containerd", "k8s.io")),
        (f"/x/y/io.containerd.runtime.v2.task/default/{ID}", ("/x/y", "default")),
        (f"/io.containerd.runtime.v2.task/default/{ID}", ("", "default")),
        (f"/run/io.containerd.runtime.v2.task/default/{ID}b", None),
        (f"/run/io.containerd.runtime.v2.task/default/{ID}/userdata", None),
        (f"/run/io.containerd.runtime.v1.linux/default/{ID}", None),
        (f"io.containerd.runtime.v2.task/default/{ID}", None),
        ("/srv", None),
    ],
)
def test_knows_containerds_bundles(bundle: str, expected: tuple[str, str] | None) -> None:
    """A bundle of containerd's ends in its directory, a namespace and this container's id, wherever its state is."""
    assert task_place(ID, bundle) == expected


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        ("moby", True),
        ("plugins.moby", True),
        ("moby-100000.100000", True),
        ("plugins.moby-1000.1000", True),
        ("moby-", False),
        ("moby-x", False),
        ("mobydick", False),
        ("default", False),
        ("k8s.io", False),
    ],
)
def test_knows_dockers_namespaces(namespace: str, expected: bool) -> None:
    """Docker's namespaces have fixed names, and ids behind them where its users are remapped."""
    assert is_docker_namespace(namespace) is expected


@pytest.mark.parametrize("name", ["docker-20.10.24", "docker-20.10.24-hostname"])
def test_finds_dockers_record(name: str) -> None:
    """Docker's record is found by where the root file system is, whatever a user mounts on /etc/hostname."""
    document = recorded.load(name)
    spec = parse_spec(json.dumps(document.config).encode())
    homes = docker_homes(document.container, spec.hostname_source, spec.root_path)
    assert [f"{home}/config.v2.json" for home in homes] == list(document.files)


def test_finds_dockers_record_by_the_hostname() -> None:
    """A storage driver that puts root file systems elsewhere leaves /etc/hostname beside the record."""
    assert docker_homes("c", "/data/containers/c/hostname", "rootfs") == ["/data/containers/c"]
    assert docker_homes("c", "/data/containers/c/hostname", "/x/aufs/mnt/y") == [
        "/x/containers/c",
        "/data/containers/c",
    ]


@pytest.mark.parametrize(
    "source", ["", "hostname", "/data/containers/d/hostname", "/data/containers/c/name", "/hostname"]
)
def test_asks_nobody_elses_record(source: str) -> None:
    """What is mounted on /etc/hostname leads nowhere unless it lies in a directory that has this container's id."""
    assert docker_homes("c", source, "") == []


def test_reads_dockers_record() -> None:
    """Name and image are Docker's; the slash before the name is none of the name's."""
    document = recorded.load("docker-20.10.24")
    (record,) = document.files.values()
    assert docker_names(document.container, record) == Names("docker", "db", IMAGE)


@pytest.mark.parametrize("record", [None, [], {}, {"ID": "d", "Name": "/db"}, {"Name": "/db"}])
def test_wants_dockers_record_to_be_this_containers(record: Document) -> None:
    """A record that has not this id says nothing of this container."""
    assert docker_names("c", record) is None


@pytest.mark.parametrize("record", [{}, {"Name": 5, "Config": []}, {"Name": "", "Config": {"Image": ""}}])
def test_takes_no_more_than_docker_says(record: dict[str, Document]) -> None:
    """A record without a name or an image leaves them unknown."""
    assert docker_names("c", {"ID": "c", **record}) == Names("docker")


def test_reads_cri_annotations() -> None:
    """The CRI names pod, namespace, container and image."""
    document = recorded.load("containerd-1.6.20-cri-container")
    assert cri_names(document.config["annotations"], False) == Names("containerd", "db", IMAGE, "postgres-0", "prod")


def test_reads_cri_sandboxes() -> None:
    """A sandbox has a pod and its namespace, and neither name nor image, whatever else is said."""
    document = recorded.load("containerd-1.6.20-cri-sandbox")
    annotations = {**document.config["annotations"], "io.kubernetes.cri.container-name": "x"}
    assert cri_names(annotations, True) == Names("containerd", None, None, "postgres-0", "prod", True)
    assert cri_memory(annotations) == 256 << 20


def test_knows_nothing_where_the_cri_says_nothing() -> None:
    """Without annotations all is unknown."""
    assert cri_names({}, False) == Names("containerd")


@pytest.mark.parametrize("text", ["", "0", "00", "-1", "1e9", "\u0661", "1 "])
def test_takes_no_other_number_for_a_pods_memory(text: str) -> None:
    """No limit is written as 0, and only plain digits count."""
    assert cri_memory({"io.kubernetes.cri.sandbox-memory": text}) is None


def test_knows_no_memory_of_a_pod_that_is_silent() -> None:
    """Without the annotation a pod's memory is unknown."""
    assert cri_memory({}) is None


@pytest.mark.parametrize("name", ["containerd-1.6.20-cri-container", "containerd-1.6.20-cri-sandbox"])
def test_knows_the_cris_directories(name: str) -> None:
    """The CRI keeps a directory for each container and sandbox in containerd's state."""
    document = recorded.load(name)
    place = task_place(document.container, document.bundle)
    assert place is not None
    assert document.directories[0] in cri_places(document.container, place[0])


def test_finds_nerdctls_name() -> None:
    """The name that nerdctl claims leads to the file that gives it to one container."""
    document = recorded.load("nerdctl-2.3-from-source")
    places = nerdctl_places(document.container, "default", document.config["annotations"])
    assert places is not None
    home, record, name = places
    assert ([home], list(document.files), name) == (document.directories, [record], "db")


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"nerdctl/name": "db"},
        {"nerdctl/state-dir": "/d/containers/default/c"},
        {"nerdctl/name": "..", "nerdctl/state-dir": "/d/containers/default/c"},
        {"nerdctl/name": "../../x", "nerdctl/state-dir": "/d/containers/default/c"},
        {"nerdctl/name": "db", "nerdctl/state-dir": "d/containers/default/c"},
        {"nerdctl/name": "db", "nerdctl/state-dir": "/d/containers/default/other"},
        {"nerdctl/name": "db", "nerdctl/state-dir": "/d/containers/other/c"},
    ],
)
def test_follows_no_claim_that_is_not_nerdctls(annotations: dict[str, str]) -> None:
    """A directory that is another container's, or a name that would lead elsewhere, is not looked at."""
    assert nerdctl_places("c", "default", annotations) is None


@pytest.mark.parametrize(
    ("bundle", "root", "expected"),
    [
        ("/s/overlay-containers/c/userdata", "/s/overlay/l/merged", ["/s/overlay-containers"]),
        ("/s/vfs-containers/c/userdata", "/s/vfs/dir/l", ["/s/vfs-containers"]),
        (
            "/run/overlay-containers/c/userdata",
            "/s/overlay/l/merged",
            ["/run/overlay-containers", "/s/overlay-containers"],
        ),
        ("/s/overlay-containers/c/userdata", "rootfs", ["/s/overlay-containers"]),
        ("/s/overlay-containers/d/userdata", "/s/overlay/l/merged", []),
        ("/s/overlay-containers/c/userdata/x", "/s/overlay/l/merged", []),
        ("/s/containers/c/userdata", "/s/overlay/l/merged", []),
        ("/srv/c", "/s/overlay/l/merged", []),
    ],
)
def test_knows_the_storage_librarys_bundles(bundle: str, root: str, expected: list[str]) -> None:
    """podman's records lie two levels above the bundle, CRI-O's where the root file system is."""
    assert storage_homes("c", bundle, root) == expected


@pytest.mark.parametrize("name", [name for name in recorded.NAMES if name.startswith("podman")])
def test_finds_podmans_bundle(name: str) -> None:
    """Before podman has written config.json anywhere, what it says tells where that will be."""
    document = recorded.load(name)
    spec = parse_spec(json.dumps(document.config).encode())
    sources = {mount.destination: mount.source for mount in spec.mounts}
    expected = (document.container, document.bundle)
    assert storage_bundles(spec.root_path, spec.cgroups_path, sources)[0] == expected
    assert storage_bundles(spec.root_path, "", sources)[0] == expected
    assert storage_bundles(spec.root_path, spec.cgroups_path, {}) == [expected]
    elsewhere = storage_bundles("/home/x/root", "", sources)
    assert (expected in elsewhere, {container for container, _ in elsewhere}) == (True, {document.container})


OTHER = "b" * 64


@pytest.mark.parametrize(
    ("root", "cgroup", "sources", "expected"),
    [
        ("/s/vfs/dir/l", f"machine.slice:libpod:{ID}", {}, [ID]),
        ("/s/vfs/dir/l", f"/x/libpod-{ID}.scope", {}, [ID]),
        (
            "/s/vfs/dir/l",
            f"/x/libpod-{ID}",
            {"/etc/hostname": f"/r/vfs-containers/{OTHER}/userdata/hostname"},
            [ID, ID, OTHER, OTHER],
        ),
        ("/s/vfs/dir/l", "/x/libpod-c", {"/etc/hostname": "/r/vfs-containers/c/userdata/hostname"}, []),
        ("/s/vfs/dir/l", f"/x/{ID}", {"/etc/hostname": "/etc/hostname"}, []),
        ("/s/vfs/dir/l", "", {"/etc/hostname": f"/r/vfs/{ID}/userdata/hostname"}, []),
        ("/s/vfs/dir/l", "", {"/etc/hostname": f"r/vfs-containers/{ID}/userdata/hostname"}, []),
        ("/s/vfs/dir/l", "", {"/etc/hostname": f"/r/vfs-containers/{ID}/hostname"}, []),
        ("/s/vfs/dir/l", "", {"/dev/shm": f"/s/vfs-containers/{ID}/userdata/shm"}, []),
        ("rootfs", f"machine.slice:libpod:{ID}", {}, []),
    ],
)
def test_guesses_no_bundle(root: str, cgroup: str, sources: dict[str, str], expected: list[str]) -> None:
    """Only what has a whole id of podman's in it, and is the container's alone, says which container it is."""
    assert [container for container, _ in storage_bundles(root, cgroup, sources)] == expected


def test_finds_the_storage_of_a_root_elsewhere() -> None:
    """With --rootfs it is what else podman mounts that says where its storage is, whosever the shared memory is."""
    sources = {
        "/etc/hostname": f"/run/c/overlay-containers/{ID}/userdata/hostname",
        "/dev/shm": f"/var/c/overlay-containers/{OTHER}/userdata/shm",
    }
    assert storage_bundles("/fs", f"/x/libpod-{ID}", sources) == [
        (ID, f"/run/c/overlay-containers/{ID}/userdata"),
        (ID, f"/var/c/overlay-containers/{ID}/userdata"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"), [("/a/b/c/d", "/a"), ("/b/c/d", ""), ("a/b/c/d", ""), ("/c/d", ""), ("", ""), ("rootfs", "")]
)
def test_climbs_three_directories(path: str, expected: str) -> None:
    """Only an absolute path has something three directories above it."""
    assert three_above(path) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("podman-4.3.1-container", Names("podman", "db", IMAGE)),
        ("podman-4.3.1-pod-infra", Names("podman", "79ccb15275cb-infra", IMAGE)),
        ("podman-4.3.1-pod-member", Names("podman", "app", IMAGE)),
        ("cri-o-1.36-container-from-source", Names("cri-o", "db", IMAGE, "postgres-0", "prod")),
        ("cri-o-1.36-sandbox-from-source", Names("cri-o", None, None, "postgres-0", "prod", True)),
    ],
)
def test_reads_the_storage_librarys_records(name: str, expected: Names) -> None:
    """podman and CRI-O write the same file; only CRI-O's records have a pod, and annotations say nothing."""
    document = recorded.load(name)
    (records,) = document.files.values()
    assert storage_names(document.container, records) == expected


@pytest.mark.parametrize("records", [[], [None, 5, {}], [{"id": "d", "names": ["db"]}]])
def test_finds_no_record_of_somebody_else(records: list[Document]) -> None:
    """Where no record has this id, nothing is known."""
    assert storage_names("c", records) is None


@pytest.mark.parametrize(
    "more", [{}, {"names": []}, {"names": [5], "metadata": "{"}, {"names": "db", "metadata": "[]"}]
)
def test_takes_no_more_than_the_record_says(more: dict[str, Document]) -> None:
    """A record that is not as podman writes it leaves name and image unknown."""
    assert storage_names("c", [{"id": "c", **more}]) == Names("podman")


@pytest.mark.parametrize("missing", ["pod-id", "pod-name"])
def test_wants_both_of_a_pods_names(missing: str) -> None:
    """A record is CRI-O's if it has what CRI-O always writes."""
    about = {"pod-id": "p", "pod-name": "k8s_p", "image-name": "i"}
    del about[missing]
    assert storage_names("c", [{"id": "c", "metadata": json.dumps(about)}]) == Names("podman", None, "i")


def test_knows_no_pod_whose_record_is_gone() -> None:
    """A container of CRI-O's whose sandbox has no record is in a pod that nobody knows."""
    about = {"pod-id": "p", "pod-name": "k8s_p", "metadata-name": "db", "image-name": "i"}
    assert storage_names("c", [{"id": "c", "metadata": json.dumps(about)}]) == Names("cri-o", "db", "i")
