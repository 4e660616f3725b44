"""reap: in a living namespace what nobody uses goes, whoever left it, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.bundle import PAYLOADS
from support.sandbox import PYTHON, profile, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sandbox import Container
    from support.shell import Result

IPCWARDEN = REPOSITORY / ".venv" / "bin" / "ipcwarden"
# In a pid namespace of its own before it is in any IPC namespace: of the two processes only the inner one is in there.
ISOLATED = ("unshare", "--pid", "--fork", "--kill-child")
MAKE = ["--shm=1", "--sem=1", "--sem-op", "--msg=1", "--mqueue=1"]
# Attaches a segment that somebody else has made, until its input ends.
_ATTACH = """
import ctypes, sys
ctypes.CDLL(None).shmat(int(sys.argv[1]), None, 0)
print("attached", flush=True)
sys.stdin.read()
"""
KEYED = ["--shm-key=0x4711", "--sem-key=0x4712", "--msg-key=0x4713"]
REAP = {"kind": "shm", "key": "0x00004711", "age": 86400}


def reap(container: Container, *options: str, text: str = "") -> Result:
    """Run ipcwarden reap."""
    return run(IPCWARDEN, "--root", container.root, "reap", text or container.id, *options)


def reaped(container: Container, *options: str) -> dict[str, Any]:
    """Return what it tells programs."""
    told: dict[str, Any] = json.loads(reap(container, *options, "--json").check().stdout)
    validate(told, "reap-v1")
    return told


def fates(told: dict[str, Any]) -> dict[str, str]:
    """Return why each object stays, by kind and key or name: empty where it was freed."""
    return {f"{each['kind']} {each.get('key', each.get('name'))}": each.get("why", "") for each in told["objects"]}


def leave_dead(container: Container, *what: str) -> None:
    """Leave objects of a process that has gone, with its pid namespace."""
    run(*ISOLATED, "nsenter", f"--ipc={container.namespace}", PAYLOADS / "leave", *what).check()


@pytest.fixture
def isolated(start: Callable[..., Container]) -> Callable[..., Container]:
    """Start governed containers that have pid namespaces of their own, as engines make them."""

    def isolated(**options: Any) -> Container:
        container = start(own_pids=True, **options)
        container.create().check()
        return container

    return isolated


@pytest.fixture
def living(isolated: Callable[..., Container]) -> Container:
    """Give a governed container in whose namespace others have left things."""
    container = isolated()
    leave_dead(container, *MAKE, "--mqueue-name=dead")
    leave_dead(container, "--shm=1", "--sem=1", "--sem-op", "--msg=1", *KEYED)
    return container


def test_never_the_host_s_namespace(container: Container) -> None:
    """An entry and a pin that lead to the host's namespace lead nowhere."""
    container.create().check()
    run(*ISOLATED, PAYLOADS / "leave", "--shm=1").check()
    before = namespace.counts(Path("/proc/self/ns/ipc"))
    [pin] = container.pins()
    path = container.root / "run" / "ipcwarden" / "pins" / pin
    run("mount", "--bind", "/proc/self/ns/ipc", path).check()
    status = os.stat("/proc/self/ns/ipc")
    [name] = container.entries()
    file = container.root / "run" / "ipcwarden" / "containers" / name
    entry = container.entry()
    host = {"id": 0, "device": status.st_dev, "inode": status.st_ino, "handle": ""}
    room = container.root / "run" / "ipcwarden" / "namespaces" / f"{status.st_dev:x}-{status.st_ino:x}"
    file.write_text(json.dumps({**entry, "namespace": host}))
    room.mkdir()
    (room / name.removesuffix(".json")).touch()
    try:
        result = reap(container, "--kind=shm")
        assert (result.code, result.stdout) == (69, "")
        assert "host" in result.stderr
        assert namespace.counts(Path("/proc/self/ns/ipc")) == before
    finally:
        run("umount", path).check()
        run("ipcrm", "--all=shm").check()
        (room / name.removesuffix(".json")).unlink()
        room.rmdir()
        file.write_text(json.dumps(entry))


def test_never_for_a_container_in_the_host_s_namespace(start: Callable[..., Container]) -> None:
    """One that shares it is known, and nothing is removed for it."""
    container = start(ipc="host")
    container.create().check()
    run(*ISOLATED, PAYLOADS / "leave", "--shm=1").check()
    try:
        result = reap(container, "--kind=shm")
        assert (result.code, result.stdout) == (69, "")
        assert "shares the host's IPC namespace" in result.stderr
        assert namespace.counts(Path("/proc/self/ns/ipc"))["shm"] == 1
    finally:
        run("ipcrm", "--all=shm").check()


PRIVATE = {"shm 0x00000000": ""}
STAYS = {
    **dict.fromkeys(
        ("shm 0x00004711", "sem 0x00000000", "sem 0x00004712", "msg 0x00000000", "msg 0x00004713"), "not-named"
    ),
    "mqueue /dead": "queue",
}


def test_private_segments_go(living: Container) -> None:
    """Without being told more it frees what nobody could find any more."""
    assert fates(reaped(living)) == {**STAYS, **PRIVATE}
    assert namespace.counts(living.namespace) == {"shm": 1, "sem": 2, "msg": 2, "mqueue": 1}


def test_a_kind_goes_that_is_named(living: Container) -> None:
    """All of a kind, whether it has a key or not, and nothing of the others."""
    told = reaped(living, "--kind=sem", "--kind=msg")
    assert {name for name, why in fates(told).items() if not why} == {
        *("sem 0x00000000", "sem 0x00004712", "msg 0x00000000", "msg 0x00004713")
    }
    assert namespace.counts(living.namespace) == {"shm": 2, "sem": 0, "msg": 0, "mqueue": 1}
    assert told["freed"]["sem"]["count"] == 2
    assert told["kept"]["mqueue"]["count"] == 1


def test_the_living_lose_nothing(living: Container, isolated: Callable[..., Container]) -> None:
    """What workers of living containers made stays, though they have ended, and what a living process has attached."""
    other = isolated(ipc=str(living.namespace))
    living.work(*MAKE, "--mqueue-name=own")
    other.work("--shm=1", "--shm-key=0x1", "--sem=1", "--sem-key=0x1", "--sem-op", "--msg=1", "--msg-key=0x1")
    reaped(living, "--kind=shm", "--kind=sem", "--kind=msg")
    assert namespace.counts(living.namespace) == {"shm": 2, "sem": 2, "msg": 2, "mqueue": 2}


def test_what_nobody_operated_on_stays(living: Container) -> None:
    """An array that no process has used tells nobody's process: that it is nobody's is plausible, and not enough."""
    leave_dead(living, "--sem=1", "--sem-key=0x4799")
    told = reaped(living, "--kind=sem")
    [array] = [each for each in told["objects"] if each.get("key") == "0x00004799"]
    assert (array["fate"], array["why"], array["confidence"]) == ("held", "plausible", "plausible")


def test_attached_segments_stay(living: Container) -> None:
    """Whoever maps one is named, though the one who made it is gone."""
    command = (*ISOLATED, "nsenter", f"--ipc={living.namespace}")
    [segment] = [each for each in namespace.objects(living.namespace, "shm") if each["key"] != "0x00000000"]
    with subprocess.Popen(
        [*command, PYTHON, "-c", _ATTACH, segment["id"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        said = reap(living, "--kind=shm").check().stdout
        process.communicate()
    [line] = [line for line in said.splitlines() if "0x00004711" in line]
    assert "kept   in use: attached by " in line
    assert line.endswith(" python3")
    assert len(namespace.objects(living.namespace, "shm")) == 1


def put_terms(living: Container, **terms: Any) -> None:
    """Change what the ledger has of a container."""
    [name] = living.entries()
    file = living.root / "run" / "ipcwarden" / "containers" / name
    file.write_text(json.dumps({**living.entry(), **terms}))


def test_what_the_profile_names_goes(living: Container) -> None:
    """`reap` of the profile counts, its age does not: an operator asks for it now."""
    put_terms(living, reap=[REAP])
    assert fates(reaped(living))["shm 0x00004711"] == ""


def test_what_the_profile_keeps_stays(living: Container) -> None:
    """`keep` wins over everything."""
    put_terms(living, reap=[REAP], keep=[{"kind": "shm"}])
    told = fates(reaped(living, "--kind=shm"))
    assert (told["shm 0x00004711"], told["shm 0x00000000"]) == ("keep", "keep")
    assert namespace.counts(living.namespace)["shm"] == 2


def test_a_dry_run_changes_nothing(living: Container) -> None:
    """It says what would be, touches nothing and records nothing."""
    before = (namespace.counts(living.namespace), living.records())
    said = reap(living, "--kind=shm", "--dry-run").check().stdout
    assert said.splitlines()[-1].startswith("would be freed: 2 shm 8 KiB; would be kept: 2 sem 128 B, ")
    assert (namespace.counts(living.namespace), living.records()) == before


def test_it_is_recorded(living: Container) -> None:
    """Who did it, what went, and what else nobody uses."""
    put_in_force(living.root, profile(), mode="permissive")
    reaped(living)
    record = living.records()[-1]
    validate(record, "audit-v1")
    assert (record["event"], record["stage"], record["container"]["id"]) == ("collected", "reap", living.id)
    assert isinstance(record["uid"], int)
    assert record["removed"]["shm"] == {"count": 1, "bytes": 4096, "claimed": 4096}
    found = {each.get("key", each.get("name")): each for each in record["objects"] if each["kind"] in ("shm", "mqueue")}
    assert [found[key]["fate"] for key in ("0x00000000", "0x00004711", "/dead")] == ["removed", "held", "held"]
    assert found["0x00000000"]["confidence"] == "proven"
    assert record["namespace"]["holders"] == [{"pid": living.pid, "command": "leave"}]
    shown = run(IPCWARDEN, "--root", living.root, "audit", "--event=collected").check().stdout
    assert "1 shm 4 KiB removed by " in shown


def test_nothing_to_free_is_no_event(isolated: Callable[..., Container]) -> None:
    """In an empty namespace it says so, ends well, and records nothing."""
    container = isolated()
    before = container.records()
    assert reap(container).check().stdout == "freed: nothing; kept: nothing\n"
    assert container.records() == before


def test_the_record_waits_where_the_log_cannot_be_written(living: Container) -> None:
    """It is kept in the ledger, and gc delivers it."""
    log = living.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.rename(log.with_name("aside"))
    log.mkdir()
    assert "waits in the ledger" in reap(living).check().stderr
    log.rmdir()
    run(IPCWARDEN, "--root", living.root, "gc").check()
    assert [record["event"] for record in living.records()] == ["collected"]


def test_neither_mode_nor_switch_forbid_it(living: Container) -> None:
    """An operator asks for it: where policy only watches, and where it is switched off."""
    put_terms(
        living, leftovers="report", subject={**living.entry()["subject"], "mode": "permissive", "enforced": False}
    )
    run(IPCWARDEN, "--root", living.root, "disable", "--for=1h").check()
    assert fates(reaped(living))["shm 0x00000000"] == ""


def test_what_cannot_be_removed_is_a_failure(living: Container) -> None:
    """The exit code tells, and the table; there is no record of what did not happen."""
    failing = ("strace", "-f", "-o", "/dev/null", "-e", "trace=shmctl", "-e", "inject=shmctl:error=EPERM")
    result = run(*failing, IPCWARDEN, "--root", living.root, "reap", living.id)
    assert result.code == 1
    assert "freed: nothing" in result.stdout
    assert [record["event"] for record in living.records()] == ["applied"]


def is_waiting_for(file: Path) -> bool:
    """Tell whether somebody waits for a lock on a file."""
    place = f":{file.stat().st_ino} "
    return any("->" in line and place in line for line in Path("/proc/locks").read_text().splitlines())


def begin(living: Container, locked: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a reap that comes to wait for a lock on a file or directory; return that lock's descriptor, too."""
    fd = os.open(locked, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    command = [str(IPCWARDEN), "--root", str(living.root), "reap", living.id]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True, start_new_session=True), fd


def test_no_stage_comes_between(living: Container) -> None:
    """It waits for whoever has the namespace's directory locked."""
    [room] = (living.root / "run" / "ipcwarden" / "namespaces").iterdir()
    process, fd = begin(living, room)
    until(lambda: is_waiting_for(room), "it to wait")
    assert namespace.counts(living.namespace)["shm"] == 2
    os.close(fd)
    assert process.wait() == 0
    assert namespace.counts(living.namespace)["shm"] == 1


def test_an_interrupt_before_ends_it(living: Container) -> None:
    """Who has thought better of it while it waits gets nothing removed."""
    [room] = (living.root / "run" / "ipcwarden" / "namespaces").iterdir()
    process, fd = begin(living, room)
    until(lambda: is_waiting_for(room), "it to wait")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    until(lambda: not is_waiting_for(room), "nobody to wait")
    os.close(fd)
    assert namespace.counts(living.namespace)["shm"] == 2


def test_an_interrupt_after_loses_no_record(living: Container) -> None:
    """What has been removed is recorded, also where nobody waits for it any more."""
    log = living.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    process, fd = begin(living, log)
    until(lambda: left_by_reaps(living), "the plan")  # before it whoever counts is taken for one that uses them
    until(lambda: namespace.counts(living.namespace)["shm"] == 1, "the removal")
    os.killpg(process.pid, signal.SIGINT)
    process.wait()
    os.close(fd)

    def is_recorded() -> bool:
        run(
            IPCWARDEN, "--root", living.root, "gc"
        ).check()  # it may have waited too long for us, and left it in the ledger
        return living.records()[-1]["event"] == "collected"

    until(is_recorded, "the record")


MANY = 2500  # more than two batches of what is written ahead


@pytest.fixture
def crowded(isolated: Callable[..., Container]) -> Container:
    """Give a governed container in whose namespace others have left many segments."""
    container = isolated()
    leave_dead(container, f"--shm={MANY}", "--shm-touch=0")
    return container


def interrupted(living: Container, sent: str, call: int) -> Result:
    """Run a reap that gets a signal as it makes its nth call of shmctl(2), two for a segment."""
    inject = f"inject=shmctl:signal={sent}:when={call}"
    strace = ("strace", "-f", "-o", "/dev/null", "-e", "trace=shmctl", "-e", inject)
    return run(*strace, IPCWARDEN, "--root", living.root, "reap", living.id)


def gc(living: Container) -> dict[str, Any]:
    """Run ipcwarden gc."""
    told: dict[str, Any] = json.loads(run(IPCWARDEN, "--root", living.root, "gc", "--json").check().stdout)
    return told


def reaps(living: Container) -> list[dict[str, Any]]:
    """Return the records of reaps; each is valid."""
    found = [each for each in living.records() if each["stage"] == "reap"]
    for each in found:
        validate(each, "audit-v1")
    return found


def left_by_reaps(living: Container) -> list[str]:
    """List the ledger's entries of reaps."""
    return [name for name in living.entries() if "~reap~" in name]


@pytest.mark.parametrize("call", [2, 101, 2 * 1024 + 1, 3000])
def test_one_that_is_killed_is_recorded_once(crowded: Container, call: int) -> None:
    """Whatever it had removed when it was killed gc records, no more and no less; and removes nothing itself."""
    interrupted(crowded, "KILL", call)
    standing = namespace.counts(crowded.namespace)["shm"]
    assert standing == MANY - call // 2 + (1 if call % 2 == 0 else 0)
    assert [each["reason"] for each in gc(crowded)["collected"]] == ["unfinished"] * (standing < MANY)
    assert gc(crowded)["collected"] == []
    assert namespace.counts(crowded.namespace)["shm"] == standing
    assert [each["removed"]["shm"] for each in reaps(crowded)] == [
        {"count": MANY - standing, "bytes": 0, "claimed": 4096 * (MANY - standing)}
    ] * (standing < MANY)
    assert left_by_reaps(crowded) == []
    for record in reaps(crowded):
        assert (record["event"], record["container"]["id"]) == ("collected", crowded.id)
        assert isinstance(record["uid"], int)
        fates = [(each["fate"], each.get("why")) for each in record["objects"]]
        done = min(100, MANY - standing)
        assert fates == [("removed", None)] * done + [("held", "interrupted")] * (100 - done)


def test_one_that_was_killed_is_nobody_s_life(crowded: Container) -> None:
    """What it left in the ledger is taken for no container, and is no end's to finish.

    Where the namespace has gone before gc came, what was written down as done is told, and that the rest was freed.
    """
    interrupted(crowded, "KILL", 2 * 1024 + 301)
    [name] = left_by_reaps(crowded)
    run(IPCWARDEN, "--root", crowded.root, "show", crowded.id).check()
    crowded.kill()
    crowded.poststop().check()
    [end] = [each for each in crowded.records() if each["event"] == "teardown"]
    assert (end["leftovers"]["shm"]["count"], end["namespace"]["destroyed"]) == (MANY - 1024 - 150, True)
    assert crowded.entries() == [name]
    assert run(IPCWARDEN, "--root", crowded.root, "audit", "--unfinished", "--json").check().stdout == ""
    gc(crowded)
    [record] = reaps(crowded)
    assert record["removed"]["shm"]["count"] == 1024
    assert crowded.entries() == []


def test_what_goes_with_the_namespace_was_freed(crowded: Container) -> None:
    """Whether a reap or the namespace's end has taken it: it is gone, and not counted as removed."""
    interrupted(crowded, "KILL", 300)
    crowded.kill()
    crowded.poststop().check()
    gc(crowded)
    assert reaps(crowded) == []


@pytest.mark.parametrize(("sent", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_a_signal_ends_it_after_the_object_at_hand(crowded: Container, sent: str, code: int) -> None:
    """What it has removed by then is recorded and told, what it has not stays, and the exit code says which it was."""
    result = interrupted(crowded, sent, 301)
    standing = namespace.counts(crowded.namespace)["shm"]
    assert (result.code, standing) == (code, MANY - 151)
    assert result.stdout.splitlines()[-1] == f"freed: 151 shm 0 B; kept: {standing} shm 0 B"
    [record] = reaps(crowded)
    assert record["removed"]["shm"]["count"] == 151
    assert left_by_reaps(crowded) == []


def test_it_ends_when_only_it_is_told_to(crowded: Container, tmp_path: Path) -> None:
    """`kill` of the command, and not of the process that does the work for it, does the same."""
    calls = (
        tmp_path / "calls"
    )  # whoever counts the segments is in there, and takes away the proof that nobody uses them
    slowly = ["strace", "-f", "-o", str(calls), "-e", "trace=shmctl", "-e", "inject=shmctl:delay_enter=5000"]
    command = [*slowly, str(IPCWARDEN), "--root", str(crowded.root), "reap", crowded.id]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as strace:
        until(lambda: calls.exists() and "IPC_RMID" in calls.read_text(), "it to begin")
        [pid] = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()
        os.kill(int(pid), signal.SIGTERM)
        assert strace.wait() == 143
    [record] = reaps(crowded)
    assert record["removed"]["shm"]["count"] == MANY - namespace.counts(crowded.namespace)["shm"] < MANY


def test_a_pod_is_meant_by_its_name(living: Container, isolated: Callable[..., Container]) -> None:
    """What Kubernetes calls a pod means its namespace; the record is about the sandbox that made it."""
    subject = living.entry()["subject"]
    put_terms(living, subject={**subject, "container": {**subject["container"], "pod": "web", "namespace": "shop"}})
    isolated(ipc=str(living.namespace))
    assert reap(living, text="shop/web").check().stdout.splitlines()[-1].startswith("freed: 1 shm")
    assert living.records()[-1]["container"]["pod"] == "web"


def test_who_is_not_there(living: Container) -> None:
    """An unknown name ends as `show` does, and says who is there."""
    result = reap(living, text="nobody")
    said = f"ipcwarden: no governed container 'nobody' runs here (those that do: {living.id})\n"
    assert (result.code, result.stderr) == (1, said)
