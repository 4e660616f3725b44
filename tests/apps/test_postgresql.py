"""PostgreSQL with its memory in System V segments: what a killed one leaves, and what half a killed one still uses."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from apps.census import Census, census
from support.schema import validate
from support.shell import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apps.packages import Packages
    from support.engine import PodmanEngine, Running
    from support.shell import Result
    from support.warden import Warden

UID = 999
POLICY = """
version: 1
profiles:
  postgres:
    extends: baseline
    leftovers: {leftovers}
{reap}
rules:
  - {{name: everything, profile: postgres}}
"""
NAMED = f"    reap: [{{kind: shm, owner: {UID}, age: 0s}}]"
SETTINGS = """
shared_memory_type = {shared}
dynamic_shared_memory_type = {dynamic}
shared_buffers = 1MB
max_connections = 10
listen_addresses = ''
unix_socket_directories = '/data'
"""
# Of the two settings: how many segments there are then, and how many files in /dev/shm.
KINDS = {("sysv", "sysv"): (3, 0), ("sysv", "posix"): (1, 2), ("mmap", "posix"): (1, 2)}
FOREVER = "do $$ begin loop perform 1; end loop; end $$"
# The process 1 that a container with several processes needs: it reaps whoever has lost his parent.
INIT = ["sh", "-c", "sleep 1000000 & wait"]


class Cluster:
    """One database cluster, and containers that have its directory at /data."""

    def __init__(self, podman: PodmanEngine, directory: Path, packages: Packages, kinds: tuple[str, str]) -> None:
        self.data = directory / "data"
        self.data.mkdir(mode=0o700)
        os.chown(self.data, UID, UID)
        users = directory / "passwd"
        users.write_text(f"postgres:x:{UID}:{UID}::/data:/bin/sh\n", encoding="ascii")
        volumes = [f"--volume={self.data}:/data", f"--volume={users}:/etc/passwd:ro"]
        self.segments, self.files = KINDS[kinds]
        self._podman = podman
        self._flags = [*packages.flags, *volumes, f"--user={UID}", "--stop-signal=KILL"]
        self._programs = packages.directory_of("usr/lib/postgresql/*/bin/postgres")
        initdb = self._program("initdb", "--no-locale", "--no-sync", "--auth=trust", "--username=postgres")
        podman.podman.run(initdb, "--rm", flags=self._flags).check()  # without hooks
        with (self.data / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write(SETTINGS.format(shared=kinds[0], dynamic=kinds[1]))

    @property
    def key(self) -> str:
        """The key of its main segment: the number of its directory's inode, if that is free."""
        return f"0x{self.data.stat().st_ino & 0xFFFFFFFF:08x}"

    def attached(self, counted: Census) -> int:
        """Return how many processes use its main segment."""
        [attached] = [told["nattch"] for told in counted.objects.values() if told["key"] == self.key]
        return int(attached)

    @property
    def log(self) -> str:
        """What the server has said where `start` started it."""
        return (self.data / "log").read_text(encoding="utf-8")

    def container(self, pod: str, *args: str) -> Running:
        """Start a member of a pod, which is stopped by SIGKILL."""
        return self._podman.start(*args, flags=[f"--pod={pod}", *self._flags])

    def serve(self, pod: str) -> Running:
        """Start a member of a pod that is the server and nothing else."""
        container = self.container(pod, *self._program("postgres"))
        until(lambda: self.ask(container, "select 1").code == 0, "PostgreSQL to answer")
        return container

    def start(self, container: Running) -> Result:
        """Start the server in a container that has another process 1."""
        return container.execute(*self._program("pg_ctl", "--wait", "--log=/data/log", "start"))

    def ask(self, container: Running, statement: str) -> Result:
        """Have a statement executed, and its rows printed."""
        return container.execute(*self._psql(statement))

    def keep_busy(self, container: Running) -> str:
        """Have a server process work until it is killed; return its pid in the container."""
        container.execute("sh", "-c", '"$@" >/dev/null 2>&1 &', "sh", *self._psql(FOREVER)).check()
        active = "select pid from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"

        def found() -> str:
            return self.ask(container, active).check().stdout.strip()

        return until(found, "a server process at work")

    def _psql(self, statement: str) -> list[str]:
        options = ("--host=/data", "--username=postgres", "--no-align", "--tuples-only", "--command", statement)
        return [f"{self._programs}/psql", *options]

    def _program(self, name: str, *options: str) -> list[str]:
        return [f"{self._programs}/{name}", "-D", "/data", *options]


@pytest.fixture(params=KINDS, ids="-".join)
def cluster(request: pytest.FixtureRequest, podman: PodmanEngine, scratch: Path, packages: Packages) -> Cluster:
    """Make a cluster, with each kind of shared memory in turn; the last is PostgreSQL's own choice."""
    return Cluster(podman, scratch, packages, request.param)


@pytest.fixture
def pod(podman: PodmanEngine) -> Iterator[str]:
    """Make a pod."""
    with podman.pod() as pod:
        yield pod


def govern(podman: PodmanEngine, warden: Warden, leftovers: str, reap: str) -> None:
    """Put a policy in force, for all that starts from now on."""
    warden.compile(POLICY.format(leftovers=leftovers, reap=reap))
    podman.govern(warden)


def live(podman: PodmanEngine, pod: str) -> Path:
    """Start a member that lives all the time, with objects of its own; return the pod's namespace."""
    living = podman.start("leave", "--shm=1", "--sem=1", "--sem-op", "--msg=1", "--wait", flags=[f"--pod={pod}"])
    living.wait_for("made shm=1")
    return living.namespace


def reap(warden: Warden, where: str) -> dict[str, Any]:
    """Free all segments that nobody uses, as an operator does, and tell what became of each."""
    reaped: dict[str, Any] = json.loads(warden("reap", where, "--kind=shm", "--json").check().stdout)
    validate(reaped, "reap-v1")
    return reaped


def test_killed_as_a_whole(podman: PodmanEngine, warden: Warden, cluster: Cluster, pod: str) -> None:
    """Its segments are proven to be a dead one's, and freed where `reap` names them; a new server finds its data."""
    govern(podman, warden, "remove", NAMED)
    shared = live(podman, pod)
    others = census(shared)
    server = cluster.serve(pod)
    cluster.ask(server, "create table kept as select 42 as answer").check()
    working = census(shared).beside(others)
    server.stop()

    [record] = warden.audit(container=server.id, event="teardown")
    told = {each["key"]: (each["owner"], each["confidence"], each["fate"]) for each in record["objects"]}
    assert told == dict.fromkeys((told["key"] for told in working.objects.values()), (str(UID), "proven", "removed"))
    assert cluster.key in told
    assert record["leftovers"]["shm"]["claimed"] == working.totals["shm"]["claimed"]
    assert len(told) == cluster.segments
    files = [(each["name"].partition(".")[0], each["owner"], each["new"]) for each in record["dev_shm"]["files"]]
    assert files == [("PostgreSQL", str(UID), True)] * cluster.files
    assert census(shared) == others

    again = cluster.serve(pod)
    assert cluster.ask(again, "select answer from kept").check().stdout.split() == ["42"]


def test_killed_and_not_named(podman: PodmanEngine, warden: Warden, cluster: Cluster, pod: str) -> None:
    """Where no `reap` names its segments they are told, with what proves whose they are, and stay for an operator."""
    govern(podman, warden, "remove", "")
    shared = live(podman, pod)
    others = census(shared)
    server = cluster.serve(pod)
    server.stop()

    [record] = warden.audit(container=server.id, event="teardown")
    held = [(each["key"], each["confidence"], each["fate"], each["why"]) for each in record["objects"]]
    left = census(shared).beside(others)
    assert sorted(held) == sorted((told["key"], "proven", "held", "not-named") for told in left.objects.values())
    assert cluster.key in {key for key, *_ in held}
    assert record["leftovers"] == left.totals

    assert reap(warden, podman.podman.infra(pod))["freed"] == left.totals
    assert census(shared) == others
    [collected] = warden.audit(event="collected")
    assert {each["key"] for each in collected["objects"] if each["fate"] == "removed"} == {key for key, *_ in held}
    assert collected["removed"] == left.totals


def test_the_postmaster_alone(podman: PodmanEngine, warden: Warden, cluster: Cluster, pod: str) -> None:
    """While one of its processes works on, nothing removes what that uses; PostgreSQL waits for it to end, too."""
    govern(podman, warden, "remove", NAMED)
    shared = live(podman, pod)
    others = census(shared)
    container = cluster.container(pod, *INIT)
    cluster.start(container).check()
    worker = cluster.keep_busy(container)
    container.execute("sh", "-c", "read pid </data/postmaster.pid && kill -KILL $pid").check()
    until(lambda: cluster.attached(census(shared)) == 1, "an end of all processes but one")
    used = census(shared).beside(others)

    warden.gc()
    warden("sweep").check()
    reaped = reap(warden, container.id)
    [segment] = [each for each in reaped["objects"] if each.get("key") == cluster.key]
    assert (segment["fate"], segment["why"], segment["evidence"]) == ("held", "in-use", ["attached"])
    assert reaped["freed"]["shm"]["count"] == 0
    assert census(shared).objects == others.objects | used.objects

    assert cluster.start(container).code != 0
    assert "pre-existing shared memory block" in cluster.log
    assert "is still in use" in cluster.log

    container.execute("sh", "-c", f"kill -KILL {worker}").check()
    until(lambda: cluster.attached(census(shared)) == 0, "an end of the last process")
    cluster.start(container).check()
    assert cluster.ask(container, "select 1").check().stdout.split() == ["1"]
