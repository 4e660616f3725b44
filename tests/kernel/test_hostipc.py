"""Containers in the host's IPC namespace: what they leave there is told, and nothing is touched.

The host's namespace is the harness' own here, so each test removes what it makes.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.host.ledger import keys, take
from ipcwarden.stages.hostipc import observe
from ipcwarden.stages.site import Site
from ipcwarden.stages.whereabouts import Whereabouts
from support import cgroup, namespace
from support.bundle import PAYLOADS
from support.sandbox import PYTHON, config, profile, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.sandbox import Container

OURS = Path("/proc/self/ns/ipc")
CLI = REPOSITORY / ".venv" / "bin" / "ipcwarden"
_REMOVED = {"shm": "-m", "sem": "-s", "msg": "-q"}
_numbers = count(1)
_OPERATE = """
import ctypes, sys
libc = ctypes.CDLL(None)
def operate(queue, array):
    message = (ctypes.c_long * 3)(1)
    assert libc.msgsnd(queue, message, 8, 0) == 0 <= libc.msgrcv(queue, message, 8, 0, 0)
    assert libc.semop(array, (ctypes.c_short * 3)(0, 1, 0), 1) == 0
"""
# Makes a queue and an array, and uses both when it is told to.
_SERVE = f"""{_OPERATE}
made = libc.msgget(0, 0o1600), libc.semget(0, 1, 0o1600)
print(*made, flush=True)
sys.stdin.readline()
operate(*made)
print("used", flush=True)
sys.stdin.read()
"""
# Uses what somebody else has made, and waits.
_USE = f"""{_OPERATE}
import signal
operate(*map(int, sys.argv[1:]))
print("made", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _objects_are_removed() -> Iterator[None]:
    """Remove what a test has made in the namespace that is the host's here."""
    before = {kind: {each["id"] for each in namespace.objects(OURS, kind)} for kind in _REMOVED}
    queues = set(namespace.queues(OURS))
    yield
    made = {kind: [each["id"] for each in namespace.objects(OURS, kind)] for kind in _REMOVED}
    new = [(_REMOVED[kind], each) for kind, ids in made.items() for each in ids if each not in before[kind]]
    run("ipcrm", *(word for pair in new for word in pair)).check()
    for name in set(namespace.queues(OURS)) - queues:
        Path("/dev/mqueue", name).unlink()


@pytest.fixture
def host(start: Callable[..., Container], lab: Path) -> Callable[..., Container]:
    """Start containers in the host's namespace, each in a cgroup of its own."""
    group = f"/{lab.name}"

    def host(**document: Any) -> Container:
        container = start(ipc="host")
        cgroup.enter(f"{group}/{container.id}", container.process.pid)
        container.configure({**config("host"), **document})
        container.create().check()
        return container

    return host


@pytest.fixture
def worker(lab: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that make objects and wait, in a container's cgroup or nobody's."""
    started: list[subprocess.Popen[str]] = []

    def worker(*what: str, of: Container | None = None, program: Sequence[str] = ()) -> subprocess.Popen[str]:
        file = cgroup.enter(f"/{lab.name}/{of.id}", of.process.pid) if of else Path("/dev/null")
        script = f'echo $$ >"{file}"; exec "$@"'
        command = ["sh", "-c", script, "sh", *(program or (str(PAYLOADS / "leave"), *what, "--wait"))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("made")
        return process

    yield worker
    for process in started:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a program, and reap it."""
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def leave(*what: str, uid: int = 0) -> None:
    """Leave objects in the host's namespace, made by somebody who is gone."""
    run("setpriv", f"--reuid={uid}", "--clear-groups", PAYLOADS / "leave", *what).check()


def last(container: Container) -> dict[str, Any]:
    """Stop a container and return its last record, which is as the schema wants it."""
    container.kill()
    container.poststop().check()
    record: dict[str, Any] = container.records()[-1]
    validate(record, "audit-v1")
    return record


def judged(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return kind and confidence of what a record lists."""
    return sorted((each["kind"], each["confidence"]) for each in record["objects"])


def observed(container: Container) -> None:
    """Let somebody look at a living container."""
    site = Site(str(container.root), "sweep")
    for key in keys(site.entries):
        entry = take(site.entries, key)
        assert entry is not None
        observe(site, entry)
        entry.release()


def test_nothing_is_pinned_or_written(host: Callable[..., Container]) -> None:
    """The ledger follows the container; it has no pin and no limits, and the host's are as they were."""
    before = namespace.limits(OURS)
    container = host()
    entry = container.entry()
    assert (entry["state"], entry["host"]) == ("applied", True)
    assert not {"namespace", "pin", "limits", "sysctls"} & entry.keys()
    assert container.pins() == []
    assert [(each["event"], each["reason"]) for each in container.records()] == [("skipped", "host-ipc")]
    container.poststart().check()
    record = last(container)
    assert (record["event"], record["enforced"]) == ("teardown", False)
    assert namespace.limits(OURS) == before
    assert container.entries() == container.pins() == []


def test_nothing_is_removed(host: Callable[..., Container], root: Path) -> None:
    """Whatever the profile says of leftovers, the host's objects stay, and are held for the record."""
    put_in_force(root, profile(leftovers="remove"))
    container = host()
    leave("--shm=2", "--sem=1", "--msg=1", "--mqueue=1")
    before = namespace.counts(OURS)
    record = last(container)
    assert namespace.counts(OURS) == before
    assert {each["fate"] for each in record["objects"]} == {"held"}
    assert [record["leftovers"][kind]["count"] for kind in ("shm", "sem", "msg", "mqueue")] == [2, 1, 1, 1]
    status = OURS.stat()
    assert record["namespace"].pop("id") != 0
    assert record["namespace"] == {
        "inode": status.st_ino,
        "shared": True,
        "destroyed": False,
        "holders": [],
        "host": True,
    }


def test_what_was_there_before_is_not_told(host: Callable[..., Container]) -> None:
    """Everything that stood there when it started is somebody else's."""
    leave("--shm=1", "--sem=1", "--msg=1", "--mqueue=1", "--mqueue-name=before")
    container = host()
    record = last(container)
    assert record["objects"] == []
    assert {total["count"] for total in record["leftovers"].values()} == {0}


def test_a_queue_of_an_old_name_is_new(host: Callable[..., Container]) -> None:
    """A queue that takes the name of one that was there is another."""
    leave("--mqueue=1", "--mqueue-name=again")
    container = host()
    Path("/dev/mqueue/again").unlink()
    leave("--mqueue=1", "--mqueue-name=again")
    assert judged(last(container)) == [("mqueue", "unknown")]


def test_what_its_user_left_is_plausible(host: Callable[..., Container]) -> None:
    """Made by its uid while it lived, by a process that is gone: plausible, where the object has a pid at all."""
    container = host()
    leave("--shm=1", "--sem=1", "--msg=1", "--mqueue=1")
    record = last(container)
    assert judged(record) == [("mqueue", "unknown"), ("msg", "plausible"), ("sem", "unknown"), ("shm", "plausible")]
    evidence = {each["kind"]: each["evidence"] for each in record["objects"]}
    assert evidence["shm"] == ["creator-gone", "uid", "time"]
    assert evidence["msg"] == ["last-user-gone", "uid", "time"]
    assert evidence["sem"] == evidence["mqueue"] == ["uid", "time"]


@pytest.mark.parametrize(("uid", "confidence"), [(999, "plausible"), (998, "unknown")])
def test_the_uid_is_that_of_config_json(host: Callable[..., Container], uid: int, confidence: str) -> None:
    """What another user has made is told, too, and that nothing speaks for it."""
    container = host(process={"user": {"uid": uid}})
    leave("--shm=1", uid=999)
    assert judged(last(container)) == [("shm", confidence)]


def test_the_uid_is_as_the_host_numbers_it(start: Callable[..., Container]) -> None:
    """In a user namespace the container's users are others of the host's."""
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-c", "echo ready; read mapped; exec sleep 3600"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            Path(f"/proc/{process.pid}/uid_map").write_text("0 100000 65536", encoding="ascii")
            container = start(ipc="host")
            container.configure({**config("host"), "process": {"user": {"uid": 5}}})
            container.create(pid=process.pid).check()
            assert container.entry()["uid"] == 100_005
        finally:
            process.kill()  # or whatever failed would wait for it
    leave("--shm=1", uid=100_005)
    assert judged(last(container)) == [("shm", "plausible")]


def test_what_a_living_process_of_its_made_is_proven(
    host: Callable[..., Container], worker: Callable[..., Any]
) -> None:
    """A process in its cgroup that outlives it is its own: what that has made is proven, what it has used plausible."""
    container = host()
    worker("--shm=1", "--msg=1", of=container)
    record = last(container)
    assert judged(record) == [("msg", "plausible"), ("shm", "proven")]


def test_what_others_made_is_theirs(host: Callable[..., Container], worker: Callable[..., Any]) -> None:
    """What somebody has made who lives in another cgroup is not told, whosever uid it has."""
    container = host()
    worker("--shm=2", "--msg=1")
    record = last(container)
    assert record["objects"] == []


def test_what_others_have_attached_is_not_told(host: Callable[..., Container]) -> None:
    """A segment whose maker is gone, and that somebody elsewhere has mapped, is in use by that one."""
    container = host()
    leave("--shm=1")
    [segment] = namespace.objects(OURS, "shm")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(int(segment["id"]), None, 0)
    assert address != ctypes.c_void_p(-1).value
    record = last(container)
    libc.shmdt(ctypes.c_void_p(address))
    assert record["objects"] == []


def test_what_was_seen_is_proven(host: Callable[..., Container], worker: Callable[..., Any]) -> None:
    """Whoever looks while it lives notes what its processes have made: once they are gone no pid tells."""
    container = host()
    process = worker("--shm=1", "--msg=1", of=container)
    observed(container)
    end(process)
    leave("--shm=1")
    record = last(container)
    assert judged(record) == [("msg", "plausible"), ("shm", "plausible"), ("shm", "proven")]
    seen = [each["kind"] for each in record["objects"] if each["evidence"] == ["seen-alive"]]
    assert sorted(seen) == ["msg", "shm"]


def test_a_daemon_s_queue_is_none_of_its(host: Callable[..., Container], worker: Callable[..., Any]) -> None:
    """What somebody elsewhere uses is not told, though the container has used it, too, and was seen to."""
    container = host()
    with subprocess.Popen([PYTHON, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        queue, array = daemon.stdout.readline().split()
        client = worker(program=[PYTHON, "-c", _USE, queue, array], of=container)
        observed(container)
        seen = container.entry()["seen"]
        end(client)
        daemon.stdin.write("\n")
        daemon.stdin.flush()
        assert daemon.stdout.readline() == "used\n"
        record = last(container)
    assert seen == {"sem": [[int(array)] * 2], "msg": [[int(queue)] * 2]}
    assert record["objects"] == []


def test_what_was_seen_of_another_is_the_others(host: Callable[..., Container], worker: Callable[..., Any]) -> None:
    """What one container was seen to have made is not told as the other's."""
    first, second = host(), host()
    end_later = worker("--shm=1", of=second)
    observed(second)
    end(end_later)
    assert last(first)["objects"] == []
    assert judged(last(second)) == [("shm", "proven")]


@pytest.fixture
def enclosed(start: Callable[..., Container]) -> Iterator[Callable[[], tuple[Container, Path]]]:
    """Start containers in the host's namespace that have a pid namespace of their own, which is given, too."""
    started: list[subprocess.Popen[str]] = []

    def enclosed() -> tuple[Container, Path]:
        command = ["unshare", "--pid", "--fork", "--kill-child", str(PAYLOADS / "leave"), "--wait"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        parent = started[-1].pid
        [pid] = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        container = start(ipc="host")
        container.create(pid=pid).check()
        container.kill()
        container.process = started[-1]
        return container, Path(f"/proc/{pid}/ns/pid")

    yield enclosed
    for process in started:
        end(process)


def work_in(space: Path, *what: str) -> None:
    """Leave objects in the host's namespace as a worker in a pid namespace that is gone then."""
    run("nsenter", f"--pid={space}", PAYLOADS / "leave", *what).check()


def test_dead_workers_of_the_living_are_theirs(
    host: Callable[..., Container], enclosed: Callable[[], tuple[Container, Path]]
) -> None:
    """What a living container's pid namespace has a pid for is its own, dead or alive, and no other's leftover."""
    container = host()
    other, space = enclosed()
    work_in(space, "--shm=1", "--sem=1", "--sem-op", "--msg=1")
    assert last(container)["objects"] == []
    assert judged(last(other)) == [("msg", "plausible"), ("sem", "plausible"), ("shm", "plausible")]


def test_dead_workers_are_seen_while_it_lives(
    host: Callable[..., Container], enclosed: Callable[[], tuple[Container, Path]]
) -> None:
    """Whoever looks from its pid namespace while that lives sees what its dead workers have made."""
    container, space = enclosed()
    work_in(space, "--shm=1", "--sem=1", "--sem-op", "--msg=1")
    leave("--shm=1")
    observed(container)
    assert judged(last(container)) == [
        ("msg", "plausible"),
        ("sem", "plausible"),
        ("shm", "plausible"),
        ("shm", "proven"),
    ]


def test_semaphores_that_somebody_operated_on(host: Callable[..., Container], worker: Callable[..., Any]) -> None:
    """An array has the pid of who operated on it last, who need not have made it: gone, in the container, elsewhere."""
    container = host()
    leave("--sem=1", "--sem-op")
    worker("--sem=1", "--sem-op", of=container)
    worker("--sem=1", "--sem-op")
    record = last(container)
    assert judged(record) == [("sem", "plausible")] * 2
    assert sorted(each["evidence"][0] for each in record["objects"]) == ["last-user-gone", "last-user-lives"]


def test_a_number_that_is_used_again() -> None:
    """A living process that is younger than the object is not its maker, even if it has that pid."""
    places = Whereabouts(":/elsewhere", None)
    assert [places.at(os.getpid(), when) for when in (1, 1 << 40)] == ["gone", "outside"]


@pytest.mark.parametrize(("cgroup", "place"), [(":/elsewhere", "outside"), ("", "untold")])
def test_without_a_cgroup_nobody_can_tell(cgroup: str, place: str) -> None:
    """A container without namespace of pids and cgroup has nothing that tells its processes from others."""
    assert Whereabouts(cgroup, None).at(os.getpid(), 1 << 40) == place


def test_gc_tells_it_too(host: Callable[..., Container]) -> None:
    """Where poststop never came, gc tells what was left."""
    container = host()
    leave("--shm=1")
    container.kill()
    run(CLI, "--root", container.root, "gc").check()
    record = container.records()[-1]
    validate(record, "audit-v1")
    assert (record["event"], judged(record)) == ("collected", [("shm", "plausible")])
    assert container.entries() == []


def test_what_was_found_is_not_looked_for_again(host: Callable[..., Container]) -> None:
    """Where a hook was killed once the findings were safe, gc tells those, whatever has come since."""
    container = host()
    leave("--shm=1")
    findings = {
        "totals": {kind: {"count": 0, "bytes": 0, "claimed": 0} for kind in ("shm", "sem", "msg", "mqueue")},
        "objects": [],
        "objects_omitted": 0,
        "alarming": 0,
    }
    [name] = container.entries()
    file = container.root / "run" / "ipcwarden" / "containers" / name
    file.write_text(json.dumps({**container.entry(), "state": "stopping", "findings": findings}))
    container.kill()
    run(CLI, "--root", container.root, "gc").check()
    record = container.records()[-1]
    validate(record, "audit-v1")
    assert (record["event"], record["objects"]) == ("collected", [])


def test_gc_leaves_the_living_alone(host: Callable[..., Container]) -> None:
    """A container that runs keeps its entry; with --release what is there is present, not left over."""
    container = host()
    leave("--shm=1")
    before = container.entry()
    run(CLI, "--root", container.root, "gc").check()
    assert container.entry() == before
    run(CLI, "--root", container.root, "gc", "--release").check()
    record = container.records()[-1]
    assert ("leftovers" in record, record["present"]["shm"]["count"]) == (False, 1)


def test_of_an_earlier_boot_nothing_is_told(host: Callable[..., Container]) -> None:
    """Whatever is there now is of this boot."""
    container = host()
    leave("--shm=1")
    [name] = container.entries()
    file = container.root / "run" / "ipcwarden" / "containers" / name
    file.write_text(json.dumps({**container.entry(), "boot": "00000000-0000-0000-0000-000000000000"}))
    record = last(container)
    assert "leftovers" not in record
    assert "objects" not in record


def test_a_second_creation_stage_changes_nothing(host: Callable[..., Container]) -> None:
    """Both may be registered: one entry, one record, and the baseline is that of the first."""
    container = host()
    leave("--shm=1")
    before = container.entry()
    container.create(stage="prestart").check()
    assert container.entry() == before
    assert len(container.records()) == 1


def test_an_earlier_life_is_finished(host: Callable[..., Container], start: Callable[..., Container]) -> None:
    """A container that starts again under its id leaves the life whose poststop never came to gc."""
    container = host()
    container.kill()
    again = start(ipc="host")
    again.id, again.bundle = container.id, container.bundle
    again.create().check()
    assert len(again.entries()) == 2
    run(CLI, "--root", again.root, "gc").check()
    assert [each["event"] for each in again.records()] == ["skipped", "skipped", "collected"]
    assert len(again.entries()) == 1


def test_permissive_mode_tells_it_too(host: Callable[..., Container], root: Path) -> None:
    """Nothing would be changed anyway."""
    put_in_force(root, mode="permissive")
    container = host()
    leave("--shm=1")
    record = last(container)
    assert (record["mode"], judged(record)) == ("permissive", [("shm", "plausible")])


def test_files_of_its_user_in_dev_shm(host: Callable[..., Container]) -> None:
    """Where it has the host's /dev/shm, what its user has put there since is told, and nothing is removed."""
    place = Path("/dev/shm")
    mount = {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind"]}
    (place / "before").write_bytes(b"x")
    container = host(mounts=[mount], process={"user": {"uid": 999}})
    for name, uid in (("its", 999), ("others", 998)):
        (place / name).write_bytes(b"x")
        os.chown(place / name, uid, 0)
    found = last(container)["dev_shm"]
    assert (found["path"], found["count"], found["bytes"]) == ("/dev/shm", 1, 4096)
    assert [(each["name"], each["owner"], each["new"]) for each in found["files"]] == [("its", "999", True)]
    for name in ("before", "its", "others"):
        (place / name).unlink()


def test_leftovers_are_told_to_the_journal(host: Callable[..., Container], root: Path) -> None:
    """What nobody expects is somebody's business; what the profile expects is not."""
    put_in_force(root, profile(expect=({"kind": "shm", "count": 1},)))
    path = root / "run" / "systemd" / "journal" / "socket"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        journal.settimeout(0)
        container = host()
        leave("--shm=1")
        record = last(container)
        assert record["objects"][0]["expected"] is True
        assert record["expected"]["shm"]["count"] == 1
        with pytest.raises(BlockingIOError):
            journal.recv(4096)
        container = host()
        leave("--shm=2")
        assert [each.get("expected", False) for each in last(container)["objects"]].count(True) == 1
        assert b"left 1 object in the host's IPC namespace" in journal.recv(4096)


def test_show_says_that_it_is_not_governed(host: Callable[..., Container]) -> None:
    """Its limits and objects are the host's: there is nothing to show of it."""
    container = host()
    result = run(CLI, "--root", container.root, "show", container.id)
    assert (result.code, result.stdout) == (69, "")
    assert "shares the host's IPC namespace" in result.stderr


def test_many_objects(host: Callable[..., Container]) -> None:
    """Thousands are counted, the largest are told."""
    container = host()
    leave("--shm=3000", "--shm-touch=0")
    record = last(container)
    assert record["leftovers"]["shm"]["count"] == 3000
    assert (len(record["objects"]), record["objects_omitted"]) == (100, 2900)
