"""Namespaces: the host's is never joined, pins hold and go, and every fallback of older kernels works."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipcwarden import syscalls
from ipcwarden.core.sysctls import SEM_FIELDS
from ipcwarden.errors import ApplyError, DeadlineError, KernelError, NamespaceError
from ipcwarden.files import read
from ipcwarden.host import namespace
from ipcwarden.host.namespace import Features, Identity
from ipcwarden.host.procfs import read_limits, write_limits
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipcwarden.core.documents import Document
    from support.sandbox import Container

FEATURES = {
    "all": Features(),
    "no pidfd namespaces": Features(pidfd_namespaces=False),
    "no ids": Features(ids=False),
    "no handles": Features(handles=False),
    "none": Features(pidfd_namespaces=False, ids=False, handles=False),
}
every = pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)


@pytest.fixture
def own() -> Iterator[int]:
    """Open the namespace that the tests are in."""
    fd = namespace.open_own()
    yield fd
    os.close(fd)


@pytest.fixture
def theirs(container: Container) -> Iterator[int]:
    """Open a container's namespace."""
    fd = os.open(container.namespace, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def pins(scratch: Path) -> Iterator[int]:
    """Open a directory for pins."""
    (scratch / "pins").mkdir()
    fd = os.open(scratch / "pins", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def in_child(task: Callable[[], object]) -> None:
    """Run a task in a child that may join what it likes; fail where it fails."""
    child = os.fork()
    if not child:
        status = 1
        try:
            task()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_never_joins_our_own(own: int) -> None:
    """The namespace that we come from is turned away."""
    with pytest.raises(NamespaceError, match="the host's"):
        namespace.join(own, namespace.hosts(own))


def test_never_joins_that_of_process_1(theirs: int) -> None:
    """The namespace of process 1 is turned away, even from within another."""

    def task() -> None:
        syscalls.setns(theirs, syscalls.CLONE_NEWIPC)
        untouchable = namespace.hosts(namespace.open_own())
        with pytest.raises(NamespaceError, match="the host's"):
            namespace.join(os.open("/proc/1/ns/ipc", os.O_RDONLY), untouchable)

    in_child(task)


def test_never_joins_the_machines(theirs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the machine's own namespace is turned away, whatever else is known."""
    monkeypatch.setattr(namespace, "INITIAL_INODE", os.fstat(theirs).st_ino)
    with pytest.raises(NamespaceError, match="the host's"):
        namespace.join(theirs, frozenset())


def test_the_number_is_the_kernels() -> None:
    """IPC_NS_INIT_INO of linux/nsfs.h."""
    assert namespace.INITIAL_INODE == 4026531839


@every
def test_opens_by_process(container: Container, features: Features, theirs: int) -> None:
    """A process' namespace is found with and without PIDFD_GET_IPC_NAMESPACE."""
    fd = namespace.open_of(container.process.pid, features)
    assert os.path.sameopenfile(fd, theirs)
    os.close(fd)


@every
def test_a_dead_process(container: Container, features: Features) -> None:
    """A process that has ended is said to be gone."""
    container.kill()
    with pytest.raises(NamespaceError, match="cannot find process"):
        namespace.open_of(container.process.pid, features)


@every
def test_a_zombie(container: Container, features: Features) -> None:
    """A process that has only to be reaped has no namespace any more."""
    container.process.kill()
    os.waitid(os.P_PID, container.process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NamespaceError, match="cannot open the IPC namespace"):
        namespace.open_of(container.process.pid, features)


@every
def test_identity(theirs: int, own: int, features: Features) -> None:
    """The same namespace is the same, another is not."""
    identity = namespace.identify(theirs, features)
    assert identity.same_as(namespace.identify(theirs, Features()))
    assert not identity.same_as(namespace.identify(own, features))


def test_ids_differ_where_inodes_are_used_again() -> None:
    """An inode number is given to the next namespace at once; the id never comes back."""

    def made() -> Identity:
        syscalls.unshare(syscalls.CLONE_NEWIPC)
        fd = namespace.open_own()
        found = namespace.identify(fd, Features())
        os.close(fd)
        return found

    def task() -> None:
        one, two = made(), made()
        assert one.id != two.id
        assert not one.same_as(Identity(two.id, one.device, one.inode, b""))

    in_child(task)


def test_what_is_no_ipc_namespace() -> None:
    """A file, and a namespace of another kind, are refused before anybody joins them."""
    for path in ("/proc/self/status", "/proc/self/ns/mnt"):
        fd = os.open(path, os.O_RDONLY)
        with pytest.raises(KernelError, match="not an IPC namespace"):
            namespace.identify(fd, Features())
        os.close(fd)


@every
def test_pin_and_open(container: Container, theirs: int, pins: int, features: Features) -> None:
    """A pin leads to its namespace after the last process has ended, until it is taken away."""
    identity = namespace.identify(theirs, features)
    namespace.pin(pins, "p", theirs)
    container.kill()
    fd = namespace.open_pinned(pins, "p", identity)
    assert identity.same_as(namespace.identify(fd, features))
    os.close(fd)
    namespace.unpin(pins, "p")
    assert os.listdir(pins) == []


def test_a_pin_that_is_not_mounted(theirs: int, pins: int) -> None:
    """Where the pin lies in another mount namespace the file handle leads there."""
    identity = namespace.identify(theirs, Features())
    os.close(os.open("p", os.O_CREAT, 0o400, dir_fd=pins))
    fd = namespace.open_pinned(pins, "p", identity)
    assert os.path.sameopenfile(fd, theirs)
    os.close(fd)
    with pytest.raises(KernelError, match="not mounted here"):
        namespace.open_pinned(pins, "p", namespace.identify(theirs, Features(handles=False)))


def test_a_pin_on_another_namespace(theirs: int, own: int, pins: int) -> None:
    """A pin that leads elsewhere than the ledger says is not used."""
    namespace.pin(pins, "p", theirs)
    with pytest.raises(KernelError, match="not mounted here"):
        namespace.open_pinned(pins, "p", namespace.identify(own, Features(handles=False)))
    namespace.unpin(pins, "p")


def test_unpin_reaches_every_mount_namespace(theirs: int, pins: int, container: Container) -> None:
    """A copy of the pin in a mount namespace made later goes with the pin."""
    identity = namespace.identify(theirs, Features())
    namespace.pin(pins, "p", theirs)
    script = "mount --make-rprivate / && echo ready && read end"
    other = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    namespace.unpin(pins, "p")
    mounts = run("nsenter", "-t", str(other.pid), "-m", "cat", "/proc/self/mountinfo").check().stdout
    assert "/pins/p" not in mounts
    container.kill()
    assert namespace.destroyed(identity) is False  # this test's own descriptor
    other.communicate(b"\n")


def test_death_is_proven(container: Container) -> None:
    """A namespace is gone when nothing holds it, and not before; without handles nobody knows."""
    fd = os.open(container.namespace, os.O_RDONLY)
    identity = namespace.identify(fd, Features())
    unprovable = namespace.identify(fd, Features(handles=False))
    container.kill()
    assert namespace.destroyed(identity) is False
    os.close(fd)
    assert namespace.destroyed(identity) is True
    assert namespace.destroyed(unprovable) is None


def test_a_visit_leaves_us_where_we_are(container: Container, theirs: int, own: int) -> None:
    """What a visitor sees is what is there, and the namespace does not live on because of the visit."""
    container.leave("--shm=2")

    def look() -> Document:
        return read("/proc/sysvipc/shm", 1 << 16).count(b"\n") - 1

    def task() -> None:
        before = os.readlink("/proc/thread-self/ns/ipc")
        assert namespace.visit(theirs, namespace.hosts(own), own, look) == 2
        assert namespace.visit_in_child(theirs, namespace.hosts(own), look) == 2
        assert os.readlink("/proc/thread-self/ns/ipc") == before

    in_child(task)
    identity = namespace.identify(theirs, Features())
    assert namespace.visit_in_child(theirs, namespace.hosts(own), look) == 2
    held = os.dup2(own, theirs)  # the last of our descriptors
    container.kill()
    assert namespace.destroyed(identity) is True
    assert held == theirs


def test_a_visit_to_our_own(own: int) -> None:
    """A child turns the host's namespace away, too, and what it says is told."""
    with pytest.raises(KernelError, match="it is the host's"):
        namespace.visit_in_child(own, namespace.hosts(own), lambda: 1)


def test_a_visit_without_an_answer(theirs: int, own: int) -> None:
    """A child that ends before it has told anything is an error, not an empty namespace."""
    with pytest.raises(KernelError, match="without an answer"):
        namespace.visit_in_child(theirs, namespace.hosts(own), lambda: os._exit(0))


def test_a_visit_that_takes_too_long(theirs: int, own: int) -> None:
    """Our own deadline ends a child, and leaves none behind."""

    def overrun(_number: int, _frame: object) -> None:
        raise DeadlineError("too late")

    children = Path(f"/proc/self/task/{os.getpid()}/children")
    others = children.read_text(encoding="ascii")
    before = signal.signal(signal.SIGALRM, overrun)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(DeadlineError):
            namespace.visit_in_child(theirs, namespace.hosts(own), signal.pause)  # type: ignore[arg-type]  # for ever
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert children.read_text(encoding="ascii") == others


def test_a_refused_value_changes_nothing(theirs: int) -> None:
    """write_limits puts everything back, kernel.sem's first fields too, and says what was refused."""

    def task() -> None:
        syscalls.setns(theirs, syscalls.CLONE_NEWIPC)
        before = read_limits()
        wanted = {"kernel.shmmax": 5, **dict(zip(SEM_FIELDS, (1, 2, 3, 40000), strict=True))}
        with pytest.raises(ApplyError, match=r"cannot set kernel\.sem to 1 2 3 40000: numerical result"):
            write_limits(wanted, before)
        assert read_limits() == before

    in_child(task)
