"""What kernels before 6.18 lack, and hosts whose process 1 keeps its mount namespace to itself: every stage copes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipcwarden import syscalls
from ipcwarden.core.state import parse_state
from ipcwarden.errors import KernelError
from ipcwarden.host.namespace import Features
from ipcwarden.stages import collection
from ipcwarden.stages.create import create
from ipcwarden.stages.poststart import poststart
from ipcwarden.stages.site import HOME, Site
from ipcwarden.stages.teardown import poststop
from support import namespace
from support.sandbox import WANTED
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipcwarden.core.state import ContainerState
    from support.sandbox import Container

FEATURES = {
    "all": Features(),
    "no pidfd namespaces": Features(pidfd_namespaces=False),
    "no ids": Features(ids=False),
    "no handles": Features(handles=False),
    "none": Features(pidfd_namespaces=False, ids=False, handles=False),
}
UNREADABLE = "/no/such/namespace"
LEFT = ("--shm=2", "--sem=1", "--msg=1", "--mqueue=1")
COUNTS = {"shm": 2, "sem": 1, "msg": 1, "mqueue": 1}
every = pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)


class Stages:
    """The stages, each in a child as the hook would be, with features, a home and a mount namespace of the test's."""

    def __init__(self, container: Container, features: Features, home: str = HOME, within: Path | None = None) -> None:
        self.container, self.features, self.home, self.within = container, features, home, within

    def create(self) -> None:
        """Run the creation stage."""
        self._run("createRuntime", lambda site: create(site, site.policy(), self._state("creating")))

    def poststart(self) -> None:
        """Run poststart."""
        self._run("poststart", lambda site: poststart(site, self._state("created")))

    def poststop(self) -> None:
        """Run poststop."""
        self._run("poststop", lambda site: poststop(site, self._state("stopped")))

    def collect(self) -> None:
        """Run gc on what is due."""

        def collect(site: Site) -> None:
            collection.tidy(site)
            for due in collection.find_due(site, release=False):
                collection.collect(site, due, older_than=0)

        self._run("gc", collect)

    def _state(self, status: str) -> ContainerState:
        return parse_state(self.container.state(status).encode())

    def _run(self, stage: str, task: Callable[[Site], None]) -> None:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                if self.within:
                    syscalls.setns(os.open(self.within, os.O_RDONLY), syscalls.CLONE_NEWNS)
                site = Site(str(self.container.root), stage, self.features, self.home)
                if stage != "createRuntime":
                    site.go_home()  # as the hook and gc do; creation does so itself, when it has read the bundle
                task(site)
            except BaseException as error:
                os.write(writer, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        if said.startswith("KernelError: "):
            raise KernelError(said)
        assert not said


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Make a mount namespace like the one that podman --userns runs its runtime in; it ends with the test."""
    script = "mount --make-rprivate / && echo made && read end"
    command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"made\n"
        yield Path(f"/proc/{keeper.pid}/ns/mnt")
        keeper.communicate(b"\n")


def pinned_in(mounts: Path) -> str:
    """Return the mounts of a mount namespace that pin something."""
    table = run("nsenter", f"--mount={mounts}", "cat", "/proc/self/mountinfo").check().stdout
    return "".join(line for line in table.splitlines() if " - nsfs " in line)


def counts(record: dict[str, dict[str, dict[str, int]]]) -> dict[str, int]:
    """Return how many objects of each kind a record lists as left."""
    return {kind: each["count"] for kind, each in record["leftovers"].items()}


def set_in(container: Container, file: str, value: str) -> None:
    """Write a limit from outside, as a runtime does."""
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", f"echo {value} > /proc/sys/{file}").check()


@every
def test_creation(container: Container, features: Features) -> None:
    """The limits are in force, the pin holds, and the ledger has of the identity what there is."""
    Stages(container, features).create()
    found = namespace.limits(container.namespace)
    assert found["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    entry = container.entry()
    assert entry["state"] == "applied"
    assert bool(entry["namespace"]["id"]) is features.ids
    assert bool(entry["namespace"]["handle"]) is features.handles
    [pin] = container.pins()
    pinned = (container.root / "run" / "ipcwarden" / "pins" / pin).stat()
    assert os.path.samestat(pinned, container.namespace.stat())


@every
def test_creation_again(container: Container, features: Features) -> None:
    """Both creation stages are one."""
    stages = Stages(container, features)
    stages.create()
    stages.create()
    assert [record["event"] for record in container.records()] == ["applied"]


@every
def test_poststart(container: Container, features: Features) -> None:
    """What the runtime has overruled is put right."""
    stages = Stages(container, features)
    stages.create()
    set_in(container, "kernel/shmmax", "123456")
    stages.poststart()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    assert [record["event"] for record in container.records()] == ["applied", "verified"]


@every
@pytest.mark.parametrize("finish", [Stages.poststop, Stages.collect], ids=["poststop", "gc"])
def test_the_end(container: Container, features: Features, finish: Callable[[Stages], None]) -> None:
    """What the container left is listed and freed; that it is gone for good is claimed only where it can be proven."""
    stages = Stages(container, features)
    stages.create()
    container.leave(*LEFT)
    container.kill()
    finish(stages)
    record = container.records()[-1]
    assert record["event"] == ("teardown" if finish is Stages.poststop else "collected")
    assert counts(record) == COUNTS
    assert record["namespace"]["destroyed"] is (True if features.handles else None)
    assert container.pins() == container.entries() == []
    assert list((container.root / "run" / "ipcwarden" / "namespaces").iterdir()) == []


@every
def test_a_joiner(start: Callable[..., Container], features: Features) -> None:
    """Who shares a namespace is known with and without ids."""
    owner = start()
    Stages(owner, features).create()
    joiner = start(ipc=str(owner.namespace))
    joiner.configure(json.dumps({"linux": {"namespaces": [{"type": "ipc", "path": str(owner.namespace)}]}}))
    Stages(joiner, features).create()
    assert joiner.records()[-1]["namespace"]["shared"] is True
    [room] = (owner.root / "run" / "ipcwarden" / "namespaces").iterdir()
    assert len(list(room.iterdir())) == 2


def test_home_is_where_pins_are_made(container: Container, elsewhere: Path) -> None:
    """Where the machine's mount namespace is another than ours it has the pin, and each stage goes there."""
    stages = Stages(container, Features(handles=False), home=str(elsewhere))
    stages.create()
    assert container.pins()[0] in pinned_in(elsewhere)
    assert container.pins()[0] not in pinned_in(Path("/proc/self/ns/mnt"))
    stages.poststart()
    container.leave(*LEFT)
    container.kill()
    stages.poststop()
    assert counts(container.records()[-1]) == COUNTS
    assert pinned_in(elsewhere) == ""


@pytest.mark.parametrize("finish", [Stages.poststop, Stages.collect], ids=["poststop", "gc"])
def test_a_pin_of_another_mount_namespace(
    container: Container, elsewhere: Path, finish: Callable[[Stages], None]
) -> None:
    """Where home cannot be read, a pin made in the engine's own mount namespace is reached by its file handle."""
    Stages(container, Features(), home=UNREADABLE, within=elsewhere).create()
    assert container.pins()[0] in pinned_in(elsewhere)
    assert container.pins()[0] not in pinned_in(Path("/proc/self/ns/mnt"))
    here = Stages(container, Features(), home=UNREADABLE)
    set_in(container, "kernel/shmmax", "123456")
    here.poststart()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    container.leave(*LEFT)
    container.kill()
    finish(here)
    record = container.records()[-1]
    assert counts(record) == COUNTS
    assert record["namespace"]["destroyed"] is True
    assert pinned_in(elsewhere) == ""
    assert container.pins() == container.entries() == []


def test_a_pin_that_nothing_leads_to(container: Container, elsewhere: Path) -> None:
    """Without handles poststop says so and keeps the entry; whoever looks from where the pin is finishes it."""
    features = Features(handles=False)
    Stages(container, features, home=UNREADABLE, within=elsewhere).create()
    container.leave(*LEFT)
    container.kill()
    with pytest.raises(KernelError, match="the pin is not mounted here"):
        Stages(container, features, home=UNREADABLE).poststop()
    assert len(container.entries()) == 1
    Stages(container, features, home=UNREADABLE, within=elsewhere).collect()
    assert counts(container.records()[-1]) == COUNTS
    assert container.pins() == container.entries() == []


def test_gc_is_the_last_to_try(container: Container, elsewhere: Path) -> None:
    """Where nothing leads to the pin gc records that, and frees the namespace all the same."""
    features = Features(handles=False)
    Stages(container, features, home=UNREADABLE, within=elsewhere).create()
    container.kill()
    Stages(container, features, home=UNREADABLE).collect()
    record = container.records()[-1]
    assert (record["event"], record["reason"]) == ("error", "namespace")
    assert "the pin is not mounted here" in record["message"]
    assert pinned_in(elsewhere) == ""
    assert container.pins() == container.entries() == []
