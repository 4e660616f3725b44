"""sweep: what a timer's one pass finds in living containers, once; and what it leaves alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.host.procfs import started
from support import namespace
from support.bundle import PAYLOADS
from support.sandbox import WANTED, config, profile, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sandbox import Container
    from support.shell import Result

SHMMAX = str(WANTED["kernel.shmmax"])


def ipcwarden(root: Path, *arguments: str) -> Result:
    """Run any verb."""
    return run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, *arguments)


def sweep(root: Path, *options: str) -> Result:
    """Run ipcwarden sweep."""
    return ipcwarden(root, "sweep", "--older-than", "0", *options)


def change(container: Container, value: str) -> None:
    """Write a limit as the host's root can."""
    command = f"echo {value} >/proc/sys/kernel/shmmax"
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", command).check()


def rewrite(container: Container, **changes: Any) -> None:
    """Change the only ledger entry."""
    [name] = container.entries()
    file = container.root / "run" / "ipcwarden" / "containers" / name
    file.write_text(json.dumps({**container.entry(), **changes}))


def told(container: Container, event: str) -> list[dict[str, Any]]:
    """Return the records of an event; each is valid."""
    found = [record for record in container.records() if record["event"] == event]
    for each in found:
        validate(each, "audit-v1")
    return found


def test_refuses_the_hosts_namespace(container: Container) -> None:
    """An entry whose pin leads to the host's namespace is not followed there: nothing is looked at, nothing noted."""
    container.create().check()
    [pin] = container.pins()
    file = container.root / "run" / "ipcwarden" / "pins" / pin
    run("umount", file).check()
    run("mount", "--bind", "/proc/1/ns/ipc", file).check()
    status = os.stat("/proc/1/ns/ipc")
    theirs = container.entry()["namespace"]
    rewrite(container, namespace={**theirs, "id": 0, "device": status.st_dev, "inode": status.st_ino, "handle": ""})
    before = container.entry()
    result = sweep(container.root)
    assert result.code == 1
    assert "it is the host's" in result.stderr
    assert container.entry() == before
    assert told(container, "drift") == []
    run("umount", file).check()
    rewrite(container, namespace=theirs)


def test_leaves_nothing_where_nothing_was(root: Path) -> None:
    """Where no hook has run yet it says nothing, and makes no directories."""
    assert sweep(root).check().stdout == ""
    assert not (root / "run").exists()


def test_is_quiet_where_all_is_well(container: Container) -> None:
    """Where nothing has changed nothing is said, recorded or written."""
    container.create().check()
    before = (container.entry(), container.pins(), container.records())
    result = sweep(container.root).check()
    assert result.stdout + result.stderr == ""
    assert (container.entry(), container.pins(), container.records()) == before


def test_tells_drift_once(container: Container) -> None:
    """A limit that somebody has changed is recorded once, not every minute; it stays as it is."""
    container.create().check()
    change(container, "77777777")
    assert container.id in sweep(container.root).check().stdout
    sweep(container.root).check()
    [record] = told(container, "drift")
    assert record["drift"] == [{"name": "kernel.shmmax", "wanted": SHMMAX, "found": "77777777"}]
    assert (record["stage"], record["container"]["id"], record["causes"]) == ("sweep", container.id, ["host"])
    assert record["namespace"]["shared"] is False
    assert namespace.limits(container.namespace)["kernel.shmmax"] == "77777777"


def test_tells_each_change_and_its_end(container: Container) -> None:
    """Another change is another record, and one with no drift says that all is as it was put in force."""
    container.create().check()
    for value in ("77777777", "88888888", SHMMAX, SHMMAX):
        change(container, value)
        sweep(container.root).check()
    assert [[each["found"] for each in record["drift"]] for record in told(container, "drift")] == [
        ["77777777"],
        ["88888888"],
        [],
    ]


def test_tells_what_could_have_changed_it(container: Container) -> None:
    """A container that can write /proc/sys, or has CAP_SYS_ADMIN, is named before the host's root."""
    document = json.loads((container.bundle / "config.json").read_text())
    document["process"] = {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}
    container.configure(document)
    container.create().check()
    change(container, "77777777")
    sweep(container.root).check()
    [record] = told(container, "drift")
    assert record["causes"] == ["writable_proc_sys", "privileged", "host"]


@pytest.fixture
def journal(root: Path) -> Iterator[Callable[[], list[str]]]:
    """Give what the system's journal has been told."""
    file = root / "run" / "systemd" / "journal" / "socket"
    file.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(file))
        ours.setblocking(False)

        def messages() -> list[str]:
            found = []
            try:
                while True:
                    found.append(ours.recv(1 << 16).decode())
            except BlockingIOError:
                return found

        yield messages


@pytest.mark.parametrize(("drift", "alarms"), [("report", 1), ("expected", 0)])
def test_expected_drift_is_no_alarm(
    start: Callable[..., Container], root: Path, journal: Callable[[], list[str]], drift: str, alarms: int
) -> None:
    """Drift is told to the system's journal, but where the profile expects it; it is recorded all the same."""
    put_in_force(root, profile(drift=drift))
    container = start()
    container.create().check()
    change(container, "77777777")
    sweep(root).check()
    sweep(root).check()
    assert len(told(container, "drift")) == 1
    assert [f"'{container.id}'" in each for each in journal()] == [True] * alarms


def test_gives_poststart_time(container: Container) -> None:
    """A runtime may still write what poststart is to put right: what has just started waits for a later pass."""
    container.create().check()
    change(container, "77777777")
    sweep(container.root, "--older-than", "1h").check()
    assert told(container, "drift") == []


def test_nothing_drifts_that_was_not_enforced(container: Container) -> None:
    """Where policy only watches no limits were put in force, and none have changed."""
    put_in_force(container.root, mode="permissive")
    container.create().check()
    change(container, "77777777")
    sweep(container.root).check()
    assert told(container, "drift") == []


def test_a_namespace_drifts_once(container: Container, start: Callable[..., Container]) -> None:
    """Of a namespace that several are in, the one whose limits they are tells; then they are put back, as gc does."""
    container.create().check()
    start(ipc=str(container.namespace)).create().check()
    change(container, "77777777")
    sweep(container.root).check()
    [record] = told(container, "drift")
    assert (record["namespace"]["shared"], record["causes"]) == (True, ["joiner", "host"])
    assert namespace.limits(container.namespace)["kernel.shmmax"] == SHMMAX
    sweep(container.root).check()
    assert [each["drift"] for each in told(container, "drift")[1:]] == [[]]


def test_who_is_spoken_for_says_nothing(start: Callable[..., Container]) -> None:
    """A drift is not over because another, whose limits they are as well, is the one to tell of it by now."""
    joiner, container = start(), start()
    joiner.id, container.id = "a", "b"  # the first by its key speaks
    container.create().check()
    change(container, "77777777")
    sweep(container.root).check()
    joiner.kill()
    joiner.process = start(ipc=str(container.namespace)).process
    joiner.configure(config(str(container.namespace)))
    joiner.create().check()
    change(container, "77777777")
    sweep(container.root).check()
    found = [(each["container"]["id"], bool(each["drift"])) for each in told(container, "drift")]
    assert found == [(container.id, True), (joiner.id, True)]


def test_the_dead_speak_for_nobody(container: Container, start: Callable[..., Container]) -> None:
    """Where the one whose limits they are has died, another that lives tells of them."""
    container.create().check()
    joiner = start(ipc=str(container.namespace))
    joiner.create().check()
    container.kill()
    change(joiner, "77777777")
    sweep(container.root).check()
    assert [each["container"]["id"] for each in told(joiner, "drift")] == [joiner.id]


def test_peaks_rise_and_stay(container: Container) -> None:
    """The most that was in use stays in the entry when less is; only what rises is written."""
    container.create().check()
    container.leave("--shm=3", "--sem=2")
    sweep(container.root).check()
    peaks = container.entry()["peaks"]
    assert (peaks["kernel.shmmni"], peaks["kernel.sem.semmni"]) == (3, 2)
    run("nsenter", f"--ipc={container.namespace}", "ipcrm", "--all").check()
    container.leave("--msg=1")
    sweep(container.root).check()
    assert container.entry()["peaks"] == {**peaks, "kernel.msgmni": 1, "kernel.msgmnb": 16}
    shown = json.loads(ipcwarden(container.root, "show", container.id, "--json").check().stdout)
    validate(shown, "show-v1")
    assert shown["peaks"] == {name: str(number) for name, number in container.entry()["peaks"].items()}


def test_a_broken_container_stops_no_pass(start: Callable[..., Container]) -> None:
    """One whose pin is gone is told of, with 1, and the others are looked at all the same."""
    containers = [start() for _ in range(3)]
    for each in containers:
        each.create().check()
        change(each, "77777777")
    broken = containers[0]
    [pin] = [name for name in broken.pins() if name.startswith(f"{broken.id}-")]
    run("umount", broken.root / "run" / "ipcwarden" / "pins" / pin).check()
    file = broken.root / "run" / "ipcwarden" / "containers" / f"{pin}.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "namespace": {**document["namespace"], "handle": ""}}))
    result = sweep(broken.root)
    assert result.code == 1
    assert f"cannot look at {broken.id}" in result.stderr
    assert {each["container"]["id"] for each in told(broken, "drift")} == {each.id for each in containers[1:]}
    file.write_text(json.dumps(document))


def test_collects_what_has_no_poststop(container: Container) -> None:
    """What gc finishes is finished."""
    container.create().check()
    container.leave("--shm=3")
    container.kill()
    assert "collected" in sweep(container.root).check().stdout
    assert told(container, "collected")[0]["leftovers"]["shm"]["count"] == 3
    assert container.pins() == container.entries() == []


def test_speaks_of_containers_by_name(container: Container) -> None:
    """People read the name, the beginning of the id and the image, programs the whole id and each of the others."""
    container.create().check()
    subject = container.entry()["subject"]
    known = {"id": "417c5187be32" + "0" * 52, "name": "web", "image": "busybox"}
    rewrite(container, subject={**subject, "container": {**subject["container"], **known}})
    change(container, "77777777")
    assert sweep(container.root).check().stdout.startswith("web (417c5187be32, busybox) has other limits: ")
    change(container, SHMMAX)
    found = json.loads(sweep(container.root, "--json").check().stdout)
    validate(found, "sweep-v1")
    assert [[each[name] for name in ("container", "name", "image")] for each in found["drift"]] == [[*known.values()]]


def test_two_at_once(start: Callable[..., Container]) -> None:
    """Two passes at once give one record a change."""
    containers = [start() for _ in range(4)]
    for each in containers:
        each.create().check()
        change(each, "77777777")
    root = containers[0].root
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os._exit(sweep(root).code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert sorted(each["container"]["id"] for each in told(containers[0], "drift")) == sorted(c.id for c in containers)


@pytest.mark.parametrize("when", ["before", "after"])
def test_is_told_to_programs(container: Container, when: str) -> None:
    """--json prints one document, whatever was found."""
    container.create().check()
    if when == "after":
        change(container, "77777777")
    found = json.loads(sweep(container.root, "--json").check().stdout)
    validate(found, "sweep-v1")
    assert [each["container"] for each in found["drift"]] == ([container.id] if when == "after" else [])


def on_record(container: Container) -> None:
    """Let runc's own record tell of a container, as if runc had started it."""
    file = container.root / "run" / "runc" / container.id / "state.json"
    file.parent.mkdir(parents=True)
    labels = [f"bundle={container.bundle}"]
    pid = container.process.pid
    state = {"init_process_pid": pid, "init_process_start": started(pid), "config": {"labels": labels}}
    file.write_text(json.dumps(state), encoding="utf-8")


def test_tells_the_ungoverned_once(container: Container) -> None:
    """A container that no hook has seen is recorded once, as long as it lives."""
    on_record(container)
    assert container.id in sweep(container.root).check().stdout
    assert sweep(container.root).check().stdout == ""
    [record] = told(container, "ungoverned")
    assert (record["container"]["id"], record["container"]["bundle"]) == (container.id, str(container.bundle))
    assert (record["stage"], record["pid"], record["rootless"]) == ("sweep", container.process.pid, False)
    assert record["namespace"]["inode"] == container.namespace.stat().st_ino
    remembered = container.root / "run" / "ipcwarden" / "ungoverned.json"
    assert len(json.loads(remembered.read_text())["namespaces"]) == 1
    container.kill()
    sweep(container.root).check()
    assert json.loads(remembered.read_text())["namespaces"] == []


def test_a_namespace_is_ungoverned_once(container: Container, start: Callable[..., Container]) -> None:
    """A pod of containers is one namespace, and the first of them tells of it."""
    other = start(ipc=str(container.namespace))
    for each in (container, other):
        on_record(each)
    sweep(container.root).check()
    [record] = told(container, "ungoverned")
    assert record["namespace"]["shared"] is True


def governed(start: Callable[..., Container]) -> Container:
    """Start one that is governed."""
    container = start()
    container.create().check()
    return container


def in_the_hosts(start: Callable[..., Container]) -> Container:
    """Start one in the host's namespace."""
    return start(ipc="host")


def joined(start: Callable[..., Container]) -> Container:
    """Start one that joins one that is governed."""
    return start(ipc=str(governed(start).namespace))


def without_a_rule(start: Callable[..., Container]) -> Container:
    """Start one that the policy has no rule for."""
    container = start()
    put_in_force(container.root, when=[("name", ("nobody",))])
    return container


@pytest.mark.parametrize("one", [governed, in_the_hosts, joined, without_a_rule])
def test_leaves_alone(start: Callable[..., Container], one: Callable[..., Container]) -> None:
    """What is governed, or is not to be, is not told of."""
    container = one(start)
    on_record(container)
    assert sweep(container.root).check().stdout == ""
    assert told(container, "ungoverned") == []


def test_without_a_policy_nobody_is_governed(container: Container) -> None:
    """What runs while no policy is in force is recorded, with what is known of it."""
    (container.root / "var/lib/ipcwarden/policy.compiled").unlink()
    on_record(container)
    sweep(container.root).check()
    [record] = told(container, "ungoverned")
    assert (record["policy"], record["container"]["engine"]) == (None, "bare")


def test_leaves_alone_what_is_younger(container: Container) -> None:
    """A container's creation may be under way: what has just started waits for a later pass."""
    on_record(container)
    sweep(container.root, "--older-than", "1h").check()
    assert told(container, "ungoverned") == []
    sweep(container.root).check()
    assert len(told(container, "ungoverned")) == 1


def test_tells_programs_of_the_ungoverned(container: Container) -> None:
    """--json has what is known of it."""
    on_record(container)
    found = json.loads(sweep(container.root, "--json").check().stdout)
    validate(found, "sweep-v1")
    assert [(each["container"], each["engine"]) for each in found["ungoverned"]] == [(container.id, "bare")]


@pytest.mark.parametrize("end", ["poststop", "gc"])
def test_peaks_survive_into_the_record(container: Container, end: str) -> None:
    """The record of the end has the most that was seen, whether sweep saw it or only the end."""
    container.create().check()
    container.leave("--shm=3", "--sem=2")
    sweep(container.root).check()
    run("nsenter", f"--ipc={container.namespace}", "ipcrm", "--all").check()
    container.leave("--shm=1", "--msg=2")
    container.kill()
    (container.poststop() if end == "poststop" else sweep(container.root)).check()
    [record] = told(container, "teardown" if end == "poststop" else "collected")
    names = ("kernel.shmmni", "kernel.sem.semmni", "kernel.msgmni")
    assert [record["peaks"][name] for name in names] == ["3", "2", "2"]


def test_the_end_tells_what_could_have_changed_it(container: Container) -> None:
    """What has drifted at the end has its causes there, too; a record without drift has none."""
    container.create().check()
    change(container, "77777777")
    container.kill()
    container.poststop().check()
    [record] = told(container, "teardown")
    assert record["causes"] == ["host"]


def test_nothing_used_leaves_no_peaks(container: Container) -> None:
    """Where nothing was ever in use the record of the end is as short as before."""
    container.create().check()
    sweep(container.root).check()
    container.kill()
    container.poststop().check()
    [record] = told(container, "teardown")
    assert {"peaks", "causes"} & record.keys() == set()


def test_notes_what_is_made_in_the_hosts_namespace(start: Callable[..., Container]) -> None:
    """Of a container in the host's namespace it is noted what its processes have made, while they can be told."""
    container = start(ipc="host")
    leave = str(PAYLOADS / "leave")
    inside = ["unshare", "--pid", "--fork", "--kill-child", leave, "--wait"]
    with subprocess.Popen(inside, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline()
        pid = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()[0]
        container.create(pid=int(pid)).check()
        making = ["nsenter", f"--pid=/proc/{pid}/ns/pid", leave, "--shm=2", "--wait"]
        with subprocess.Popen(making, stdout=subprocess.PIPE) as second:
            assert second.stdout is not None
            assert second.stdout.readline()
            sweep(container.root).check()
            seen = container.entry()["seen"]
            first.kill()
    made = [number for begin, end in seen["shm"] for number in range(begin, end + 1)]
    assert len(made) == 2
    run("ipcrm", *(f"--shmem-id={number}" for number in made)).check()
    assert sweep(container.root).check().stdout.startswith("collected")


def test_beside_hooks(start: Callable[..., Container]) -> None:
    """Passes that go on while containers end keep no namespace alive, and lose and double no record."""
    containers = [start() for _ in range(8)]
    for each in containers:
        each.create().check()
    root = containers[0].root
    child = os.fork()
    if not child:
        os._exit(max(sweep(root).code for _ in range(4)))
    for each in containers:
        each.kill()
        each.poststop().check()
    assert os.waitpid(child, 0)[1] == 0
    ends = told(containers[0], "teardown") + told(containers[0], "collected")
    assert sorted(each["container"]["id"] for each in ends) == sorted(each.id for each in containers)
    assert {each["namespace"]["destroyed"] for each in ends} == {True}
