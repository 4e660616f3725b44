"""A member of a shared namespace ends while others live: what is its, what is proven of it, and what is removed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.pod import KINDS, collected, counts, due, gc, join, let_time_pass, pod, reap, standing, stop, told
from support.sandbox import HOOK, PYTHON, SLOW_TO_SEE, hunt, profile, put_in_force
from support.schema import validate
from support.shell import run, until

if TYPE_CHECKING:
    from pathlib import Path

    from support.pod import Start
    from support.sandbox import Container

ALL = ("--shm=1", "--sem=1", "--sem-op", "--msg=1", "--mqueue=1")
KEYED = ("--shm=1", "--shm-key=17", "--sem=1", "--sem-op", "--sem-key=18", "--msg=1", "--msg-key=19")


def each_kind(fate: str, why: str = "") -> dict[str, tuple[str, str, str]]:
    """Say of each kind's object that the dead alone have used it: who made it is known of segments alone."""
    return {kind: ("proven" if kind == "shm" else "plausible", fate, why) for kind in KINDS}


def test_a_leaker_and_a_living_one(start: Start, root: Path) -> None:
    """What the dead left is its, proven as far as there are pids; private memory goes, what lives is not touched."""
    stays, goes = pod(start, root)
    stays.work(*ALL, "--mqueue-name=kept")  # a dead worker of the living
    goes.work(*ALL)
    record = stop(goes)
    assert told(record) == {
        **each_kind("held", "not-named"),
        "shm": ("proven", "removed", ""),
        "mqueue": ("plausible", "held", "queue"),
    }
    # Nobody has a pid of a POSIX queue: the one that the living has made since is not told from the leaker's.
    assert (counts(record), counts(record, "present")) == ([1, 1, 1, 2], [2, 2, 2, 2])
    assert counts(record, "removed") == [1, 0, 0, 0]
    assert standing(stays) == [1, 2, 2, 2]
    last = stop(stays)
    assert counts(last) == [1, 2, 2, 2]
    assert "confidence" not in last["objects"][0]


def test_what_was_there_before_is_not_its(start: Start, root: Path) -> None:
    """Whatever stood there when it joined is none of a joiner's leftovers, dead makers or not."""
    put_in_force(root, profile(leftovers="remove"))
    stays = start(own_pids=True)
    stays.create().check()
    stays.leave(*ALL)
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    record = stop(goes)
    assert (counts(record), counts(record, "present")) == ([0] * 4, [1] * 4)
    assert standing(stays) == [1] * 4


def test_reports_and_touches_nothing(start: Start, root: Path) -> None:
    """Under `report` the same is told, and all of it stays."""
    stays, goes = pod(start, root, leftovers="report", reap=reap(17, 18, 19))
    goes.work(*KEYED)
    record = stop(goes)
    assert told(record) == each_kind("held", "report")
    assert standing(stays) == [1, 1, 1, 0]


def test_permissive_mode_touches_nothing(start: Start, root: Path) -> None:
    """In permissive mode nothing is removed, whatever the profile says."""
    put_in_force(root, profile(leftovers="remove"), mode="permissive")
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    goes.work("--shm=1")
    assert told(stop(goes)) == {"shm": ("proven", "held", "permissive")}
    assert standing(stays) == [1, 0, 0, 0]


def test_removes_what_reap_names(start: Start, root: Path) -> None:
    """Keyed objects go where `reap` names them."""
    stays, goes = pod(start, root, reap=reap(17, 18, 19))
    goes.work(*KEYED)
    record = stop(goes)
    assert told(record) == each_kind("removed")
    assert standing(stays) == [0] * 4


def test_keeps_what_keep_names(start: Start, root: Path) -> None:
    """What `keep` names stays, private or named by `reap`."""
    stays, goes = pod(start, root, reap=reap(17, 18, 19), keep=({"kind": "shm"}, {"kind": "sem", "key": "0x00000012"}))
    goes.work(*KEYED)
    assert told(stop(goes)) == {
        "shm": ("proven", "held", "keep"),
        "sem": ("plausible", "held", "keep"),
        "msg": ("plausible", "removed", ""),
    }
    assert standing(stays) == [1, 1, 0, 0]


def test_never_used_is_no_proof(start: Start, root: Path) -> None:
    """An array that nobody has operated on, and a queue that nobody has sent to, may be a living one's: they stay."""
    stays, goes = pod(start, root, reap=({"kind": "sem", "age": 0}, {"kind": "msg", "age": 0}))
    goes.work("--sem=1", "--msg=1", "--msg-count=0")
    record = stop(goes)
    assert told(record) == dict.fromkeys(("sem", "msg"), ("plausible", "held", "plausible"))
    assert standing(stays) == [0, 1, 1, 0]


def test_what_is_attached_is_in_use(start: Start, root: Path) -> None:
    """A segment that a living one has attached is no leftover, whoever made it."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    [segment] = namespace.objects(stays.namespace, "shm")
    attach = f"import ctypes; ctypes.CDLL(None).shmat({segment['id']}, None, 0);print('there', flush=True); input()"
    command = ["nsenter", f"--ipc={stays.namespace}", f"--pid=/proc/{stays.pid}/ns/pid", PYTHON, "-c", attach]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        user.stdout.readline()
        record = stop(goes)
        assert (counts(record), counts(record, "present")) == ([0] * 4, [1, 0, 0, 0])
        user.communicate("\n")
    assert standing(stays) == [1, 0, 0, 0]


def test_what_is_waited_for_is_in_use(start: Start, root: Path) -> None:
    """An array that a living one waits for is no leftover, though none but the dead has ever operated on it."""
    stays, goes = pod(start, root, reap=reap(17, 18))
    goes.work("--sem=1", "--sem-op", "--sem-key=18")
    wait = """if not os.fork():
        os.closerange(0, 3)
        ctypes.CDLL(None).semop(0, (ctypes.c_short * 3)(0, -9, 0), 1)"""
    enter = ["nsenter", f"--ipc={stays.namespace}", f"--pid=/proc/{stays.pid}/ns/pid"]
    run(*enter, PYTHON, "-c", f"import ctypes, os\n{wait}").check()
    until(lambda: run(*enter, "ipcs", "-s", "-i", "0").check().stdout.split()[-3] == "1", "it to wait")
    record = stop(goes)
    assert (counts(record), counts(record, "present")) == ([0] * 4, [0, 1, 0, 0])
    assert standing(stays) == [0, 1, 0, 0]


def test_reads_no_queue_of_before(start: Start, root: Path) -> None:
    """Of POSIX queues those alone are read that were made since it joined: the times of the others' do not move."""
    put_in_force(root, profile(leftovers="remove"))
    stays = start(own_pids=True)
    stays.create().check()
    stays.work("--mqueue=1", "--mqueue-name=kept")
    goes = join(start, stays)
    goes.work("--mqueue=1", "--mqueue-name=left")

    def times() -> list[list[int]]:
        show = "mount -t mqueue ipcwarden /mnt; stat --format='%X %Y %Z' /mnt/kept* /mnt/left*"
        enter = ["nsenter", f"--ipc={stays.namespace}", "unshare", "--mount"]
        return [[*map(int, line.split())] for line in run(*enter, "sh", "-euc", show).check().stdout.splitlines()]

    before = times()
    until(
        lambda: time.clock_gettime(5) >= max(map(max, before)) + 1, "the file system's next second"
    )  # CLOCK_REALTIME_COARSE
    assert ["usedbytes" in each for each in stop(goes)["objects"]] == [True]
    assert [each == earlier for each, earlier in zip(times(), before, strict=True)] == [True, False]


@pytest.mark.parametrize("guest", [True, False], ids=["guest", "nobody knows it"])
def test_an_ungoverned_process_counts(start: Start, root: Path, guest: bool) -> None:
    """What belongs to one that lives there without being governed, or that nobody has told us of, is in use."""
    stays, goes = pod(start, root)
    put_in_force(root, profile(), when=[("name", ("nobody",))])
    other = start(ipc=str(stays.namespace), own_pids=True)
    if guest:
        other.create().check()
    other.work("--shm=1")
    goes.work("--shm=1")
    record = stop(goes)
    assert (counts(record), counts(record, "present")) == ([1, 0, 0, 0], [2, 0, 0, 0])
    assert standing(stays) == [1, 0, 0, 0]


def test_what_the_hosts_processes_use_is_unknown(start: Start, root: Path) -> None:
    """Where a process of the host's own pid namespace is in there nothing is proven, and nothing removed."""
    stays, goes = pod(start, root)
    start(ipc=str(stays.namespace))
    goes.work("--shm=1")
    record = stop(goes)
    assert told(record) == {"shm": ("unknown", "held", "unknown")}
    assert record["objects"][0]["evidence"] == ["no-pid-namespace"]
    assert standing(stays) == [1, 0, 0, 0]


def test_without_a_pid_namespace_nothing_is_known(start: Start, root: Path) -> None:
    """A container that had the host's pids leaves what nobody can tell from others'."""
    put_in_force(root, profile(leftovers="remove"))
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace))
    goes.create().check()
    goes.leave("--shm=1")
    assert told(stop(goes)) == {"shm": ("unknown", "held", "unknown")}
    assert standing(stays) == [1, 0, 0, 0]


def test_a_maker_that_left_the_namespace_lives(start: Start, root: Path) -> None:
    """What a process made that lives elsewhere now is in use."""
    stays, goes = pod(start, root)
    make = (
        "import ctypes,os,sys; c=ctypes.CDLL(None); own=os.open('/proc/self/ns/ipc', 0);"
        f"c.setns(os.open('{stays.namespace}', 0), 0); c.shmget(0, 9, 0o1600); c.setns(own, 0);"
        "print('made', flush=True); input()"
    )
    with subprocess.Popen([PYTHON, "-c", make], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        record = stop(goes)
        maker.communicate("\n")
    assert (counts(record), counts(record, "present")) == ([0] * 4, [1, 0, 0, 0])
    assert standing(stays) == [1, 0, 0, 0]


YOUNG = {"reap": reap(17, 18, 19, age=3600)}


@pytest.mark.parametrize("who", ["gc", "a later stop"])
def test_what_is_too_young_is_removed_later(start: Start, root: Path, who: str) -> None:
    """What is younger than `reap` wants stays due, and goes by a later look, which says who had left it."""
    stays, goes = pod(start, root, **YOUNG)
    later = start(ipc=str(stays.namespace), own_pids=True)
    later.create().check()
    goes.work(*KEYED)
    assert told(stop(goes)) == each_kind("held", "young")
    gc(root)
    assert standing(stays) == [1, 1, 1, 0]
    assert collected(goes) == []
    let_time_pass(root)
    gc(root) if who == "gc" else stop(later)
    assert standing(stays) == [0] * 4
    assert due(root) is None
    [record] = collected(goes)
    assert counts(record, "removed") == [1, 1, 1, 0]
    assert told(record) == each_kind("removed")
    assert record["stage"] == ("gc" if who == "gc" else "poststop")


def test_what_is_due_is_foreseen(start: Start, root: Path) -> None:
    """A dry run of gc says who has left something that is due, without a look into the namespace."""
    stays, goes = pod(start, root, **YOUNG)
    goes.work(*KEYED)
    stop(goes)
    said = gc(root, "--dry-run")
    assert said == f"would remove, of what {goes.id} left, what is old enough and nobody's (due)\n"
    told = json.loads(gc(root, "--dry-run", "--json"))
    validate(told, "gc-v1")
    assert told["waiting"] == [{"container": goes.id, "reason": "due", "name": goes.id}]
    let_time_pass(root)
    done = json.loads(gc(root, "--json"))
    validate(done, "gc-v1")
    assert (done["waiting"], done["collected"]) == ([], told["waiting"])
    assert standing(stays) == [0] * 4


def test_what_stays_beside_the_living_is_told_to_the_journal(start: Start, root: Path) -> None:
    """Whose they are, and how many of each kind; of what is removed, or was expected, nobody has to hear."""
    _, goes = pod(start, root, expect=({"kind": "sem"},))
    _, quiet = pod(start, root, expect=({"kind": "sem"},))
    path = root / "run" / "systemd" / "journal" / "socket"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        journal.settimeout(0)
        quiet.work("--shm=1", "--sem=2", "--sem-op")
        stop(quiet)
        with pytest.raises(BlockingIOError):
            journal.recv(4096)
        goes.work("--shm=1", "--msg=2")
        goes.work("--shm=1", "--shm-key=17")
        stop(goes)
        said = journal.recv(4096).decode()
    assert f"MESSAGE=container '{goes.id}' left 1 shm, 2 msg in an IPC namespace that others live in\n" in said


def test_nobody_is_told_to_have_left_what_another_has(start: Start, root: Path) -> None:
    """What is proven to be of one that ended before, and stands there still, is none of the next one's."""
    stays, goes = pod(start, root, leftovers="report")
    later = start(ipc=str(stays.namespace), own_pids=True)
    later.create().check()
    goes.work(*ALL)
    assert counts(stop(goes)) == [1, 1, 1, 1]
    later.work("--shm=1")
    assert counts(stop(later)) == [1, 1, 1, 1]  # nobody can tell who made anything but a segment
    assert counts(stop(stays)) == [2, 1, 1, 1]


def test_what_is_due_and_comes_into_use_stays(start: Start, root: Path) -> None:
    """What a living one has begun to use since is no longer due."""
    stays, goes = pod(start, root, **YOUNG)
    goes.work("--sem=1", "--sem-op", "--sem-key=18")
    stop(goes)
    operate = "import ctypes; assert ctypes.CDLL(None).semctl(0, 0, 16, 1) == 0"
    pids = f"--pid=/proc/{stays.pid}/ns/pid"
    run("nsenter", f"--ipc={stays.namespace}", pids, PYTHON, "-c", operate).check()
    let_time_pass(root)
    gc(root)
    assert standing(stays) == [0, 1, 0, 0]
    assert (due(root), collected(goes)) == (None, [])


def test_what_is_due_goes_with_the_namespace(start: Start, root: Path) -> None:
    """The last one's end tells of what was due, too, and nothing is noted of it any more."""
    stays, goes = pod(start, root, **YOUNG)
    goes.work(*KEYED)
    stop(goes)
    record = stop(stays)
    assert counts(record) == [1, 1, 1, 0]
    assert record["namespace"]["destroyed"] is True
    assert list((root / "run" / "ipcwarden" / "namespaces").iterdir()) == []


def test_gc_does_the_same(start: Start, root: Path) -> None:
    """Of a member whose poststop never came gc tells and removes the same."""
    stays, goes = pod(start, root)
    goes.work("--shm=2", "--msg=1")
    goes.kill()
    gc(root)
    [record] = collected(goes)
    assert (counts(record), counts(record, "removed")) == ([2, 0, 1, 0], [2, 0, 0, 0])
    assert standing(stays) == [0, 0, 1, 0]


def finish_half_way(container: Container) -> None:
    """Let poststop be killed once its findings are safe: at the first removal."""
    calls = "shmctl,semctl,msgctl"
    strace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", "inject=shmctl:signal=KILL:when=1"]
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(container.root), "poststop"]
    assert run(*strace, *hook, stdin=container.state("stopped")).code == -signal.SIGKILL


def test_a_removal_that_was_killed(start: Start, root: Path) -> None:
    """A gc that finds what a killed poststop was about to remove looks again, removes it, and tells all of it."""
    stays, goes = pod(start, root)
    goes.work("--shm=3")
    goes.kill()
    finish_half_way(goes)
    [entry] = [each for each in goes.entries() if each.startswith(goes.id)]
    document = json.loads((root / "run" / "ipcwarden" / "containers" / entry).read_text())
    assert document["state"] == "stopping"
    assert document["findings"]["member"]["removing"]["ids"] == {"shm": [[0, 2]]}
    assert standing(stays) == [3, 0, 0, 0]
    [first, *_] = namespace.objects(stays.namespace, "shm")
    run("nsenter", f"--ipc={stays.namespace}", "ipcrm", "-m", first["id"]).check()  # what it had got to
    gc(root)
    [record] = collected(goes)
    assert (counts(record), counts(record, "removed")) == ([3, 0, 0, 0], [3, 0, 0, 0])
    assert {each["fate"] for each in record["objects"]} == {"removed"}
    assert standing(stays) == [0] * 4


def test_what_comes_into_use_meanwhile_stays(start: Start, root: Path) -> None:
    """What a living one has begun to use since poststop was killed is not removed."""
    stays, goes = pod(start, root)
    goes.work("--shm=2")
    goes.kill()
    finish_half_way(goes)
    use = "import ctypes; c=ctypes.CDLL(None); c.shmat.restype=ctypes.c_void_p; assert c.shmat(1, None, 0) > 0"
    pids = f"--pid=/proc/{stays.pid}/ns/pid"
    run("nsenter", f"--ipc={stays.namespace}", pids, PYTHON, "-c", use).check()
    gc(root)
    [record] = collected(goes)
    assert (counts(record), counts(record, "removed")) == ([2, 0, 0, 0], [1, 0, 0, 0])
    assert {each["id"]: each.get("why") for each in record["objects"]} == {0: None, 1: "in-use"}
    assert standing(stays) == [1, 0, 0, 0]


EXPECT = ({"kind": "shm", "key": "0x00000011", "count": 1}, {"kind": "sem"})


def test_what_is_expected(start: Start, root: Path) -> None:
    """What `expect` announces is marked and summed up, as far as it goes; the rest alarms."""
    stays, goes = pod(start, root, expect=EXPECT)
    goes.work("--shm=2", "--shm-key=17", "--sem=1")
    record = stop(goes)
    assert counts(record, "expected") == [1, 1, 0, 0]
    assert {(each["kind"], each.get("key")): each.get("expected") for each in record["objects"]} == {
        ("shm", "0x00000011"): True,
        ("shm", "0x00000012"): None,
        ("sem", "0x00000000"): True,
    }
    stop(stays)


def test_what_is_expected_of_a_private_namespace(start: Start, root: Path) -> None:
    """So it is in a namespace of a container's own."""
    put_in_force(root, profile(expect=EXPECT))
    container = start()
    container.create().check()
    container.leave("--shm=2", "--shm-key=17")
    record = stop(container)
    assert counts(record, "expected") == [1, 0, 0, 0]
    assert [each.get("expected") for each in record["objects"]] == [True, None]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_living_one_that_lets_nobody_look(start: Start, root: Path, sent: signal.Signals) -> None:
    """Where the container's root kills or stops whoever looks from its pid namespace, nothing is proven or removed."""
    stays, goes = pod(start, root)
    goes.work("--shm=1")
    stays.work(*SLOW_TO_SEE)
    with hunt(stays, sent):
        record = stop(goes)
    assert told(record) == dict.fromkeys(("shm", "sem"), ("unknown", "held", "unknown"))
    assert {*(word for each in record["objects"] for word in each["evidence"])} == {"no-answer"}
    assert standing(stays) == [1, 15, 0, 0]


def test_a_namespace_of_a_user_namespaces(start: Start, root: Path) -> None:
    """What is left in a namespace that a user namespace owns is told and removed as in any other."""
    put_in_force(root, profile(leftovers="remove"))
    stays = start(userns=True, own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    stays.work("--shm=1")
    goes.work("--shm=1")
    record = stop(goes)
    assert (told(record), counts(record)) == ({"shm": ("proven", "removed", "")}, [1, 0, 0, 0])
    assert standing(stays) == [1, 0, 0, 0]


def test_a_private_namespace_costs_nothing(container: Container) -> None:
    """A container alone in its namespace has no baseline, and nobody is asked at its end."""
    container.create().check()
    assert "baseline" not in container.entry()
    container.leave("--shm=1")
    container.kill()
    strace = ["strace", "-f", "-qq", "-o", str(container.bundle / "calls"), "-e", "trace=fork,vfork,clone,clone3"]
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(container.root), "poststop"]
    run(*strace, *hook, stdin=container.state("stopped")).check()
    assert (container.bundle / "calls").read_text() == ""
    assert "confidence" not in container.records()[-1]["objects"][0]


def stop_together(*containers: Container) -> list[dict[str, Any]]:
    """End containers and run their poststop hooks side by side; return their records."""
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(containers[0].root), "poststop"]
    states = [each.state("stopped") for each in containers]
    for each in containers:
        each.kill()
    hooks = [subprocess.Popen(hook, stdin=subprocess.PIPE, text=True) for _ in containers]
    for running, state in zip(hooks, states, strict=True):
        assert running.stdin is not None
        running.stdin.write(state)
        running.stdin.close()
    assert [running.wait() for running in hooks] == [0] * len(hooks)
    names = {each.id for each in containers}
    ends = [each for each in containers[0].records() if each["event"] == "teardown"]
    return [each for each in ends if each["container"]["id"] in names]


def test_several_that_stop_together(start: Start, root: Path) -> None:
    """Members that stop at the same moment do not get in each other's way: each object is told once, and goes."""
    stays, first = pod(start, root)
    others = [start(ipc=str(stays.namespace), own_pids=True) for _ in range(5)]
    for each in others:
        each.create().check()
    for each in (first, *others):
        each.work("--shm=1")
    found = stop_together(first, *others)
    assert sum(counts(each)[0] for each in found) == 6
    assert sum(counts(each, "removed")[0] for each in found if "removed" in each) == 6
    assert standing(stays) == [0] * 4


def test_all_that_stop_together(start: Start, root: Path) -> None:
    """Where all members stop at the same moment the last one's end tells of all that stands, and sees it freed."""
    stays, first = pod(start, root, leftovers="report")
    other = start(ipc=str(stays.namespace), own_pids=True)
    other.create().check()
    first.work("--shm=1", "--shm-key=17")
    other.work("--shm=1", "--shm-key=18")
    found = stop_together(stays, first, other)
    [last] = [each for each in found if each["namespace"]["destroyed"]]
    assert counts(last) == [2, 0, 0, 0]
    assert {each["fate"] for each in last["objects"]} == {"freed"}
    assert [each for each in found if each is not last and "present" not in each] == []
