"""gc: every life that nobody else finishes is finished, and nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.policy import Policy, pack, unpack
from support import namespace
from support.sandbox import HOOK, PYTHON, put_in_force
from support.schema import validate
from support.shell import REPOSITORY, run, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sandbox import Container
    from support.shell import Result


IPCWARDEN = REPOSITORY / ".venv" / "bin" / "ipcwarden"


def gc(root: Path, *options: str, before: tuple[str, ...] = ()) -> Result:
    """Run ipcwarden gc; `before` is a program that runs it."""
    return run(*before, IPCWARDEN, "--root", root, "gc", *options)


def rewrite(container: Container, **changes: Any) -> None:
    """Change the only ledger entry."""
    [name] = container.entries()
    file = container.root / "run" / "ipcwarden" / "containers" / name
    file.write_text(json.dumps({**container.entry(), **changes}))


def test_collects_what_has_no_poststop(container: Container) -> None:
    """The leftovers of a container whose poststop never came are audited, recorded as collected, and freed."""
    container.create().check()
    container.leave("--shm=3")
    container.kill()
    assert "collected" in gc(container.root).check().stdout
    record = container.records()[-1]
    assert (record["event"], record["stage"], record["leftovers"]["shm"]["count"]) == ("collected", "gc", 3)
    assert record["namespace"]["destroyed"] is True
    assert container.pins() == container.entries() == []


def test_leaves_nothing_where_nothing_was(root: Path) -> None:
    """Where no hook has run yet it makes no directories."""
    gc(root).check()
    gc(root, "--dry-run").check()
    assert not (root / "run").exists()


def test_leaves_the_living_alone(container: Container) -> None:
    """A container that runs keeps its pin and its entry."""
    container.create().check()
    before = (container.entry(), container.pins())
    gc(container.root).check()
    assert (container.entry(), container.pins()) == before


def test_a_container_without_its_first_thread_lives(start: Callable[..., Container]) -> None:
    """A process whose first thread has ended looks like a zombie while the others run: it is left alone."""
    container = start(threads=True)
    container.create().check()
    assert container.process.stdin is not None
    container.process.stdin.write("end\n")
    container.process.stdin.flush()
    status = Path(f"/proc/{container.process.pid}/status")
    until(lambda: "zombie" in status.read_text(), "the first thread to end")
    gc(container.root).check()
    assert len(container.pins()) == 1


def test_leaves_another_process_of_the_same_number(container: Container) -> None:
    """A pid that has been given to another process does not make a dead container a living one."""
    container.create().check()
    rewrite(container, started=1)
    gc(container.root).check()
    assert container.records()[-1]["event"] == "collected"


def test_dry_run_changes_nothing(container: Container) -> None:
    """--dry-run only says what would be done."""
    container.create().check()
    container.kill()
    before = (container.entry(), container.pins(), container.records())
    assert container.id in gc(container.root, "--dry-run").check().stdout
    assert (container.entry(), container.pins(), container.records()) == before


def test_older_than_gives_poststop_time(container: Container) -> None:
    """What is gone for less than the age is noted, and collected by a later gc."""
    container.create().check()
    container.kill()
    gc(container.root, "--older-than", "1h").check()
    assert len(container.pins()) == 1
    seen = container.entry()["gone_since"]
    gc(container.root, "--older-than", "1h").check()
    assert container.entry()["gone_since"] == seen
    rewrite(container, gone_since=seen - 3600)
    gc(container.root, "--older-than", "1h").check()
    assert container.pins() == container.entries() == []


def test_dry_run_knows_the_age(container: Container) -> None:
    """What a real run would leave alone is not announced as collected."""
    container.create().check()
    container.kill()
    said = gc(container.root, "--dry-run", "--older-than", "1h").check().stdout
    assert "would wait" in said
    assert "would collect" not in said


def test_release_takes_the_living_too(container: Container) -> None:
    """Before the package goes every pin is freed; what a living container has is present, not left over."""
    container.create().check()
    container.leave("--shm=1")
    gc(container.root, "--release").check()
    assert container.pins() == container.entries() == []
    record = container.records()[-1]
    assert (record["event"], record["present"]["shm"]["count"]) == ("collected", 1)
    assert namespace.counts(container.namespace)["shm"] == 1


@pytest.mark.parametrize("state", ["creating", "stopping"])
def test_finishes_half_way_entries(container: Container, state: str) -> None:
    """An entry that a killed hook left half-way is brought to its end."""
    container.create().check()
    container.leave("--msg=2")
    container.kill()
    rewrite(container, state=state, **({"findings": {}} if state == "stopping" else {}))
    gc(container.root).check()
    assert container.records()[-1]["event"] == "collected"
    assert container.pins() == container.entries() == []


def test_a_hook_that_died_before_pinning(container: Container) -> None:
    """An entry without a pin, its namespace gone, is recorded and forgotten."""
    container.create().check()
    [pin] = container.pins()
    run("umount", container.root / "run" / "ipcwarden" / "pins" / pin).check()
    (container.root / "run" / "ipcwarden" / "pins" / pin).unlink()
    rewrite(container, state="creating")
    container.kill()
    gc(container.root).check()
    assert container.records()[-1]["event"] == "collected"
    assert container.entries() == []


def test_a_lost_pin_is_said(container: Container) -> None:
    """Where somebody took the pin away, what was left cannot be known: the record says so."""
    container.create().check()
    [pin] = container.pins()
    run("umount", container.root / "run" / "ipcwarden" / "pins" / pin).check()
    container.kill()
    gc(container.root).check()
    record = container.records()[-1]
    assert (record["event"], record["reason"]) == ("error", "namespace")
    assert container.pins() == container.entries() == []


def test_delivers_what_waits(container: Container) -> None:
    """Records that the log could not take are delivered, in order, once it can."""
    log = container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.parent.mkdir(parents=True)
    log.mkdir()
    container.create().check()
    container.kill()
    container.poststop().check()
    log.rmdir()
    gc(container.root).check()
    assert [record["event"] for record in container.records()] == ["applied", "teardown"]
    assert container.entries() == []


def test_delivers_for_the_living(container: Container) -> None:
    """A record that waits is delivered while its container goes on."""
    log = container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.parent.mkdir(parents=True)
    log.mkdir()
    container.create().check()
    log.rmdir()
    gc(container.root).check()
    assert [record["event"] for record in container.records()] == ["applied"]
    assert len(container.pins()) == 1
    gc(container.root).check()
    assert len(container.records()) == 1


@pytest.mark.parametrize(("lives", "records"), [(True, 1), (False, 2)], ids=["living", "gone"])
@pytest.mark.parametrize("command", ["gc", "sweep"])
def test_says_what_it_cannot_deliver(container: Container, command: str, lives: bool, records: int) -> None:
    """A record that the log still does not take is a failure, told once; when it does, that is told as well."""
    log = container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.mkdir(parents=True)
    container.create().check()
    if not lives:
        container.kill()
        container.poststop().check()
    waiting = run(IPCWARDEN, "--root", container.root, command, "--older-than", "0", "--json")
    found = json.loads(waiting.stdout)
    validate(found, f"{command}-v1")
    [failed] = found["failed"]
    assert (waiting.code, failed["container"], failed["reason"]) == (1, container.id, "undelivered")
    assert waiting.stderr.count("\n") == 1
    assert "in the ledger until the log can be written\n" in waiting.stderr
    log.rmdir()
    delivered = run(IPCWARDEN, "--root", container.root, command, "--older-than", "0").check()
    noun = "record" if records == 1 else "records"
    assert delivered.stdout == f"delivered {records} {noun} of {container.id} (undelivered)\n"


def test_says_that_an_end_is_not_in_the_log(container: Container) -> None:
    """Nor is what has been freed told as collected while nobody can read what was in it."""
    container.create().check()
    container.kill()
    log = container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.unlink()
    log.mkdir()
    result = gc(container.root, "--json")
    found = json.loads(result.stdout)
    validate(found, "gc-v1")
    assert (result.code, len(found["failed"]), found["collected"]) == (1, 1, [])


def test_a_stray_pin_is_audited(container: Container) -> None:
    """A pin whose entry is gone is no secret: it is audited under what its name tells, and freed."""
    container.create().check()
    container.leave("--sem=1")
    container.kill()
    (container.root / "run" / "ipcwarden" / "containers" / container.entries()[0]).unlink()
    gc(container.root).check()
    record = container.records()[-1]
    assert (record["event"], record["container"]["id"]) == ("collected", container.id)
    assert record["leftovers"]["sem"]["count"] == 1
    assert container.pins() == []


MISSHAPEN = {
    "torn": "{",
    "a list": "[]",
    "another version": '{"version":9}',
    "no pin": '{"version":1,"state":"applied","namespace":{"id":1,"device":1,"inode":1,"handle":""}}',
    "half a namespace": '{"version":1,"state":"applied","pin":"x","namespace":{}}',
}


@pytest.mark.parametrize("content", MISSHAPEN.values(), ids=MISSHAPEN)
def test_an_unreadable_entry_hides_nothing(start: Callable[..., Container], content: str) -> None:
    """A damaged entry is put away, its pin audited as a stray, and the other entries are collected all the same."""
    damaged, other = start(), start()
    damaged.create().check()
    damaged.leave("--shm=1")
    entries = damaged.root / "run" / "ipcwarden" / "containers"
    [name] = damaged.entries()
    (entries / name).write_text(content)
    other.create().check()
    damaged.kill()
    other.kill()
    result = gc(damaged.root)
    assert result.code == 1
    assert "unreadable" in result.stderr
    collected = {r["container"]["id"]: r["leftovers"] for r in damaged.records() if r["event"] == "collected"}
    assert collected[damaged.id]["shm"]["count"] == 1
    assert other.id in collected
    assert damaged.pins() == []
    assert damaged.entries() == [name.removesuffix(".json") + ".unreadable"]
    gc(damaged.root).check()


@pytest.mark.parametrize("subject", ["{}", '{"container":{}}', '{"container":null}'])
def test_an_entry_without_a_name_is_finished(container: Container, subject: str) -> None:
    """An entry that does not say which container it is about does not stop gc."""
    container.create().check()
    rewrite(container, subject=json.loads(subject))
    container.kill()
    gc(container.root).check()
    assert container.pins() == container.entries() == []


def test_drafts_of_the_dead_are_removed(container: Container) -> None:
    """What a killed hook was writing does not stay."""
    container.create().check()
    draft = container.root / "run" / "ipcwarden" / "containers" / ".draft.1"
    draft.write_text("{")
    gc(container.root).check()
    assert not draft.exists()


def test_an_earlier_boot(container: Container) -> None:
    """What an earlier boot left in the ledger is closed, and nothing is invented about it."""
    container.create().check()
    rewrite(container, boot="00000000-0000-0000-0000-000000000000")
    gc(container.root).check()
    record = container.records()[-1]
    assert record["event"] == "collected"
    assert "leftovers" not in record


def test_two_at_once(start: Callable[..., Container]) -> None:
    """Two gcs at once give one record a container."""
    containers = [start() for _ in range(4)]
    for each in containers:
        each.create().check()
        each.kill()
    root = containers[0].root
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os._exit(gc(root).code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    collected = [record["container"]["id"] for record in containers[0].records() if record["event"] == "collected"]
    assert sorted(collected) == sorted(each.id for each in containers)


# What keeps gc from freeing a pin for as long as it lasts.
HELD = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=umount2", "-e", "inject=umount2:error=EBUSY")


def test_what_cannot_be_freed_is_noted(container: Container) -> None:
    """Where a pin cannot be freed gc says why, notes since when, and tries again the next time."""
    container.create().check()
    container.leave("--shm=1")
    container.kill()
    result = gc(container.root, before=HELD)
    assert (result.code, "cannot unmount the pin" in result.stderr) == (1, True)
    seen = container.entry()["gone_since"]
    gc(container.root, before=HELD)
    assert container.entry()["gone_since"] == seen
    gc(container.root).check()
    assert [record["event"] for record in container.records()] == ["applied", "collected"]
    assert container.pins() == container.entries() == []


@pytest.fixture
def stale(container: Container) -> Container:
    """Give a container that a gc has found gone longer ago than the policy lets pass, ten minutes."""
    container.create().check()
    container.kill()
    rewrite(container, gone_since=int(time.time()) - 700)
    return container


@pytest.mark.parametrize(
    ("options", "before", "code"),
    [((), HELD, 1), (("--older-than", "1h"), (), 0), (("--dry-run",), (), 0)],
    ids=["cannot be freed", "waits", "dry run"],
)
def test_a_stale_pin(stale: Container, options: tuple[str, ...], before: tuple[str, ...], code: int) -> None:
    """A pin that is kept for too long is told on standard error and to programs; 1 where it was to be freed."""
    result = gc(stale.root, *options, "--json", before=before)
    assert result.code == code
    assert f"the namespace of {stale.id} is still pinned, 11 min after it was found gone\n" in result.stderr
    found = json.loads(result.stdout)
    validate(found, "gc-v1")
    [told] = found["stale"]
    assert (told["container"], told["seconds"] // 10) == (stale.id, 70)


def test_what_is_freed_is_not_stale(stale: Container) -> None:
    """However late gc comes: what it frees is worth no warning."""
    result = gc(stale.root, "--json").check()
    assert (json.loads(result.stdout)["stale"], result.stderr) == ([], "")


def test_the_policy_says_what_is_stale(stale: Container) -> None:
    """`stale_pins` of the policy in force is the time that may pass."""
    file = stale.root / "var" / "lib" / "ipcwarden" / "policy.compiled"
    given = unpack(file.read_bytes())
    file.write_bytes(
        pack(Policy(given.mode, given.release, given.kernel, given.rules, given.profiles, stale_pins=3600))
    )
    assert gc(stale.root, "--older-than", "1h").check().stderr == ""


def test_a_pin_beside_others_is_not_stale(stale: Container) -> None:
    """Where somebody else is in the namespace the pin holds nothing that they do not hold anyway."""
    pin = stale.root / "run" / "ipcwarden" / "pins" / stale.pins()[0]
    other = subprocess.Popen(["nsenter", f"--ipc={pin}", "cat"], stdin=subprocess.PIPE)
    until(lambda: other.pid in namespace.members(pin), "somebody to be in the namespace")
    try:
        assert gc(stale.root, "--older-than", "1h").check().stderr == ""
    finally:
        other.communicate()


def test_beside_poststops(start: Callable[..., Container]) -> None:
    """A gc and the containers' own poststops at once give one record a container."""
    containers = [start() for _ in range(6)]
    for each in containers:
        each.create().check()
        each.kill()
    root = containers[0].root
    hook = [PYTHON, "-I", "-S", str(HOOK), "--root", str(root), "poststop"]
    poststops = [subprocess.Popen(hook, stdin=subprocess.PIPE, text=True) for _ in containers]
    collecting = subprocess.Popen([IPCWARDEN, "--root", root, "gc"], stdout=subprocess.PIPE, text=True)
    assert collecting.stdout is not None
    first = collecting.stdout.readline()  # it is at it
    for each, poststop in zip(containers, poststops, strict=True):
        poststop.communicate(each.state("stopped"))
    collecting.communicate()
    assert [each.returncode for each in (collecting, *poststops)] == [0] * 7
    assert first.startswith("collected")
    ends = [record["container"]["id"] for record in containers[0].records() if record["event"] != "applied"]
    assert sorted(ends) == sorted(each.id for each in containers)
    assert containers[0].pins() == containers[0].entries() == []


def test_a_dead_member_among_the_living(start: Callable[..., Container]) -> None:
    """A member of a namespace that others live in is collected: its pin and entry go, theirs and the objects stay."""
    owner = start()
    owner.create().check()
    owner.leave("--shm=1")
    [kept] = owner.pins()
    member, another = (start(ipc=str(owner.namespace)) for _ in range(2))
    for each in (member, another):
        each.create().check()
    member.kill()
    gc(owner.root).check()
    assert [(r["container"]["id"], r["stage"]) for r in owner.records() if r["event"] == "collected"] == [
        (member.id, "gc")
    ]
    assert kept in owner.pins()
    assert len(owner.pins()) == len(owner.entries()) == 2
    assert namespace.counts(owner.namespace)["shm"] == 1


def test_what_has_no_end_yet(start: Callable[..., Container]) -> None:
    """`audit --unfinished` knows real lives: one that runs, one that ended unseen, and after gc only the first."""
    runs, ended = start(), start()
    for each in (runs, ended):
        each.create().check()
    ended.kill()

    def unfinished() -> dict[str, str]:
        lines = run(IPCWARDEN, "--root", runs.root, "audit", "--unfinished", "--json").check().stdout.splitlines()
        return {record["container"]["id"]: record["unfinished"] for record in map(json.loads, lines)}

    assert unfinished() == {runs.id: "running", ended.id: "unknown"}
    gc(runs.root).check()
    assert unfinished() == {runs.id: "running"}


def overrule(container: Container) -> None:
    """Write a limit as a runtime does."""
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 77777777 >/proc/sys/kernel/shmmax").check()


def shmmax(container: Container) -> str:
    """Read one limit of a container's namespace."""
    return namespace.limits(container.namespace)["kernel.shmmax"]


@pytest.mark.parametrize("governed", [True, False], ids=["governed", "no rule"])
def test_puts_back_what_a_joiner_left(container: Container, start: Callable[..., Container], governed: bool) -> None:
    """Of a joiner that never started, and whose poststop never came, nothing stays in force."""
    container.create().check()
    if not governed:
        put_in_force(container.root, when=[("name", ("nobody",))])
    joiner = start(ipc=str(container.namespace))
    joiner.create().check()
    overrule(joiner)
    joiner.kill()
    gc(container.root).check()
    assert shmmax(container) == "67108864"
    [verified] = [record for record in container.records() if record["event"] == "verified"]
    assert (verified["stage"], verified["container"]["id"]) == ("gc", container.id)
    [room] = (container.root / "run" / "ipcwarden" / "namespaces").iterdir()
    assert [f"{file.name}.json" for file in room.iterdir() if file.name != ".strangers"] == container.entries()


def test_leaves_alone_what_nobody_has_joined(container: Container) -> None:
    """What a container has changed in a namespace that is its alone is for its teardown to tell."""
    container.create().check()
    overrule(container)
    gc(container.root).check()
    assert shmmax(container) == "77777777"


def test_one_namespace_does_not_hide_the_others(container: Container, start: Callable[..., Container]) -> None:
    """Where the limits of one cannot be put back gc says so, and goes on with the others."""
    other = start()
    for each in (container, other):
        each.create().check()
    put_in_force(container.root, when=[("name", ("nobody",))])
    for each in (container, other):
        joiner = start(ipc=str(each.namespace))
        joiner.create().check()
        overrule(joiner)
        joiner.kill()
    pins = container.root / "run" / "ipcwarden" / "pins"
    broken = min(container.pins())
    run("umount", pins / broken).check()
    [entry] = [name for name in container.entries() if name.startswith(broken)]
    file = container.root / "run" / "ipcwarden" / "containers" / entry
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "namespace": {**document["namespace"], "handle": ""}}))
    result = gc(container.root)
    assert result.code == 1
    assert "cannot put back" in result.stderr
    whole = other if entry.startswith(container.id) else container
    assert shmmax(whole) == "67108864"
    file.write_text(json.dumps(document))
