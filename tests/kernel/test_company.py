"""Namespaces that several live in: the owner's limits stay, whatever joins and in whatever order they stop."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.digests import entry_key
from ipcwarden.core.policy import Rule
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.host.namespace import Features, identify
from support import namespace
from support.sandbox import HOOK, PYTHON, call, config, profile, put_in_force, put_policy
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container

SHMMAX = "67108864"  # what the profile gives
HUGE = str(1 << 40)


def overrule(container: Container, name: str = "kernel.shmmax", value: str = HUGE) -> None:
    """Write a limit as crun does before any hook, and runc after the creation hook."""
    path = f"/proc/sys/{name.replace('.', '/')}"
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", f"echo {value} >{path}").check()


def shmmax(container: Container) -> str:
    """Read one limit of a container's namespace."""
    return namespace.limits(container.namespace)["kernel.shmmax"]


def joining(start: Callable[..., Container], owner: Container, **sysctl: str) -> Container:
    """Start a container in another's namespace that asks for something."""
    joiner = start(ipc=str(owner.namespace))
    joiner.configure(config(str(owner.namespace), sysctl={name.replace("__", "."): v for name, v in sysctl.items()}))
    return joiner


def owner_only(root: Path, owner: Container, **others: Any) -> None:
    """Govern the owner by its name, and others as told, or not at all."""
    rules = [Rule("owner", (("name", (owner.id,)),), 0, "enforcing")]
    rules += [Rule("others", (), 0, others["mode"])] if others else []
    put_policy(root, rules, [profile()])


@pytest.mark.parametrize("others", [{}, {"mode": "permissive"}], ids=["no rule", "permissive"])
def test_a_joiner_that_is_not_governed(start: Callable[..., Container], root: Path, others: dict[str, str]) -> None:
    """A joiner without a rule, or only watched, changes nothing: crun's write is undone at once, runc's after it."""
    owner = start()
    owner_only(root, owner, **others)
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax=HUGE)
    overrule(joiner)
    joiner.create().check()
    assert shmmax(owner) == SHMMAX
    overrule(joiner)
    joiner.poststart("created").check()
    assert shmmax(owner) == SHMMAX
    verified = [record for record in owner.records() if record["event"] == "verified"]
    assert [(r["container"]["id"], r["joiner"]["id"], r["enforced"]) for r in verified] == [
        (owner.id, joiner.id, True)
    ] * 2


def test_a_joiner_that_is_late(start: Callable[..., Container], root: Path) -> None:
    """A joiner without a rule that already runs with too much does not go on."""
    owner = start()
    owner_only(root, owner)
    owner.create().check()
    joiner = joining(start, owner)
    joiner.create().check()
    overrule(joiner)
    assert joiner.poststart("running").code == 77
    assert shmmax(owner) == SHMMAX


BROKEN: dict[str, Callable[[Container], object]] = {
    "config.json is a link": lambda joiner: (
        (joiner.bundle / "config.json").rename(joiner.bundle / "real"),
        (joiner.bundle / "config.json").symlink_to("real"),
    ),
    "config.json is gone": lambda joiner: (joiner.bundle / "config.json").unlink(),
    "no policy": lambda joiner: (joiner.root / "var/lib/ipcwarden/policy.compiled").unlink(),
    "refused": lambda joiner: joiner.configure(config("/proc/self/ns/ipc", sysctl={"kernel.shmmax": HUGE})),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_joiner_that_fails(start: Callable[..., Container], spoil: Callable[[Container], object]) -> None:
    """What crun wrote for a joiner that never starts is undone, whatever it fails by; the owner stays as it was."""
    owner = start()
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax=HUGE)
    spoil(joiner)
    overrule(joiner)
    assert joiner.create().code in (65, 77, 78)
    assert shmmax(owner) == SHMMAX
    assert len(owner.pins()) == len(owner.entries()) == 1


@pytest.mark.parametrize(
    "changes",
    [{"id": "j x"}, {"id": "j\n"}, {"annotations": {"a": "x" * (1 << 20)}}, {"bundle": "/b\n"}],
    ids=["blank in id", "newline in id", "huge annotations", "newline in bundle"],
)
def test_a_joiner_whose_state_is_refused(start: Callable[..., Container], changes: dict[str, Any]) -> None:
    """What crun wrote for a joiner whose state we do not take is undone in every namespace that is somebody's."""
    owner = start()
    owner.create().check()
    joiner = joining(start, owner)
    overrule(joiner)
    assert joiner.create(**changes).code == 65
    assert shmmax(owner) == SHMMAX


@pytest.mark.parametrize("content", ['{"version":9}', "fifo"])
def test_a_joiner_whose_entry_cannot_be_taken(start: Callable[..., Container], content: str) -> None:
    """Nor does an entry of its that cannot be read leave the owner with the joiner's values."""
    owner = start()
    owner.create().check()
    joiner = joining(start, owner)
    entry = joiner.root / "run" / "ipcwarden" / "containers" / f"{entry_key(joiner.id, str(joiner.bundle))}.json"
    os.mkfifo(entry) if content == "fifo" else entry.write_text(content)
    overrule(joiner)
    assert joiner.create().code == 74
    assert shmmax(owner) == SHMMAX


@pytest.mark.parametrize("failing", [1, 2], ids=["creating", "applied"])
def test_a_joiner_whose_ledger_fails(start: Callable[..., Container], failing: int) -> None:
    """Whichever of its writes to the ledger fails, the owner's limits are in force afterwards."""
    owner = start()
    owner.create().check()
    joiner = joining(start, owner)
    overrule(joiner)
    strace = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        f"inject=rename,renameat,renameat2:error=ENOSPC:when={failing}",
    ]
    command = [*strace, PYTHON, "-I", "-S", str(HOOK), "--root", str(joiner.root), "createRuntime"]
    result = run(*command, stdin=joiner.state("creating"))
    assert result.code == 74
    assert shmmax(owner) == SHMMAX


MISLEADING = {
    "LINUX for runc": '"LINUX":{"namespaces":[{"type":"ipc","path":"/proc/self/ns/ipc"}]}',
    "linux twice": '"linux":{"namespaces":[{"type":"ipc"}]}',
    "linux and a NUL for crun": '"linux\\u0000":{"namespaces":[{"type":"ipc","path":"/proc/self/ns/ipc"}]}',
}


@pytest.mark.parametrize("more", MISLEADING.values(), ids=MISLEADING)
def test_a_config_that_misstates_its_namespaces(start: Callable[..., Container], more: str) -> None:
    """What counts is the namespace that the process is in, whatever config.json says to whom."""
    owner = start()
    owner.create().check()
    joiner = start(ipc=str(owner.namespace))
    joiner.configure('{"linux":{"namespaces":[{"type":"ipc"}],"sysctl":{}},' + more + "}")
    overrule(joiner)
    joiner.create()
    assert shmmax(owner) == SHMMAX


def test_a_path_that_stands_twice(start: Callable[..., Container]) -> None:
    """Members of a namespace's entry that runtimes read differently are refused."""
    owner = start()
    owner.create().check()
    joiner = start(ipc=str(owner.namespace))
    joiner.configure('{"linux":{"namespaces":[{"type":"ipc","path":"/proc/self/ns/ipc","path":""}]}}')
    assert joiner.create().code == 65
    assert shmmax(owner) == SHMMAX


def test_a_new_process_in_the_same_namespace(start: Callable[..., Container]) -> None:
    """A joiner whose poststop was lost is another life when it starts again: it is decided anew."""
    owner = start()
    owner.create().check()
    joiner = joining(start, owner)
    joiner.create().check()
    joiner.kill()
    again = joining(start, owner, kernel__shmmax=HUGE)
    again.id, again.bundle = joiner.id, joiner.bundle
    again.configure(config(str(owner.namespace), sysctl={"kernel.shmmax": HUGE}))
    assert again.create().code == 77
    again.configure(config(str(owner.namespace)))
    again.create().check()
    assert len(owner.entries()) == 3


def test_a_refusal_leaves_the_other_life_alone(start: Callable[..., Container]) -> None:
    """A start that is refused under the id and bundle of a running container does not touch that one."""
    one, other = start(), start()
    other.id, other.bundle = one.id, one.bundle
    one.create().check()
    other.configure(config(sysctl={"kernel.shmmax": HUGE}))
    assert other.create().code == 77
    other.poststop().check()  # runc runs it after a refusal
    assert len(one.pins()) == len(one.entries()) == 1
    other.configure("{")
    assert other.create().code == 65
    other.poststop().check()
    one.leave("--sem=1")
    one.kill()
    one.poststop().check()
    assert one.records()[-1]["leftovers"]["sem"]["count"] == 1


def test_poststart_is_about_its_own_process(start: Callable[..., Container], root: Path) -> None:
    """Two lives under one id and bundle: each poststart puts right its own namespace."""
    put_in_force(root, profile(on_violation="clamp"))
    one, other = start(), start()
    other.id, other.bundle = one.id, one.bundle
    one.configure(config(sysctl={"kernel.shmmax": HUGE}))
    one.create().check()
    other.create().check()
    overrule(one)
    one.poststart("created").check()
    assert shmmax(one) == str(1 << 30)


def test_a_refused_joiner_of_somebodys_namespace(start: Callable[..., Container]) -> None:
    """In a namespace that nobody governs only what the joiner's runtime wrote for it is taken back."""
    stranger = start()
    overrule(stranger, value="1048576")
    joiner = joining(start, stranger, kernel__shmmax=HUGE)
    assert joiner.create().code == 77
    assert shmmax(stranger) == "1048576"  # runc has written nothing
    overrule(joiner)
    assert joiner.create().code == 77
    assert shmmax(stranger) == SHMMAX  # crun had


def test_a_hidden_request_is_taken_back(start: Callable[..., Container]) -> None:
    """A second table, which only some runtimes obey, is refused; what the plain one had put in force goes."""
    stranger = start()
    joiner = start(ipc=str(stranger.namespace))
    plain = '"linux":{"namespaces":[{"type":"ipc","path":"/x"}],"sysctl":{"kernel.msgmax":"777777"}}'
    joiner.configure("{" + plain + ',"Linux":{"sysctl":{"kernel.shmmax":"5"}}}')
    overrule(joiner, "kernel.msgmax", "777777")
    assert joiner.create().code == 77
    assert namespace.limits(stranger.namespace)["kernel.msgmax"] == str(KERNEL_DEFAULTS["kernel.msgmax"])


@pytest.mark.parametrize("first", ["owner", "member"])
def test_both_dead_before_the_first_poststop(start: Callable[..., Container], first: str) -> None:
    """Of members that all are dead the last one's record has the leftovers, once; nothing is held by anybody."""
    owner = start()
    owner.create().check()
    member = start(ipc=str(owner.namespace))
    member.create().check()
    owner.leave("--shm=1")
    owner.kill()
    member.kill()
    for each in (owner, member) if first == "owner" else (member, owner):
        each.poststop().check()
    *_, present, leftovers = owner.records()
    assert (present["present"]["shm"]["count"], "leftovers" in present) == (1, False)
    assert (leftovers["leftovers"]["shm"]["count"], leftovers["namespace"]["destroyed"]) == (1, True)
    assert {each["fate"] for each in leftovers["objects"]} == {"freed"}


def test_a_joiner_of_a_permissive_owner(start: Callable[..., Container], root: Path) -> None:
    """Where nobody enforces, what stands in the namespace counts, and an enforcing joiner leaves it as it is."""
    owner = start()
    rules = [Rule("owner", (("name", (owner.id,)),), 0, "permissive"), Rule("others", (), 0, "enforcing")]
    put_policy(root, rules, [profile(on_violation="clamp")])
    owner.create().check()
    overrule(owner, value="1048576")  # runc writes what the owner asks for after the hook
    joiner = joining(start, owner)
    joiner.create().check()
    assert shmmax(owner) == "1048576"


def test_a_killed_hook_loses_nobodys_membership(start: Callable[..., Container], root: Path) -> None:
    """A life whose membership is lost gets it back by gc: its limits are kept from joiners."""
    owner = start()
    owner_only(root, owner)
    owner.create().check()
    [room] = (root / "run" / "ipcwarden" / "namespaces").iterdir()
    for each in room.iterdir():
        each.unlink()
    room.rmdir()
    run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", root, "gc").check()
    joiner = joining(start, owner)
    overrule(joiner)
    joiner.create().check()
    assert shmmax(owner) == SHMMAX


def test_three_under_one_key(start: Callable[..., Container]) -> None:
    """Lives that are set aside, two created at once, are all found by their poststops."""
    one, two, three = start(), start(), start()
    for each in (two, three):
        each.id, each.bundle = one.id, one.bundle
    one.create().check()
    command = [PYTHON, "-I", "-S", str(HOOK), "--root", str(one.root), "createRuntime"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for process, each in zip(both, (two, three), strict=True):
        process.communicate(each.state("creating"))
    assert [process.returncode for process in both] == [0, 0]
    assert len(one.pins()) == len(one.entries()) == 3
    for each in (one, two, three):
        each.kill()
        each.poststop().check()
    assert one.pins() == one.entries() == []
    assert [record["event"] for record in one.records()].count("teardown") == 3


def test_two_created_at_once(start: Callable[..., Container]) -> None:
    """Of two creations in one namespace one decides after the other: both end with the same limits in force."""
    owner = start()
    member = joining(start, owner, kernel__shmmax="1000000")
    delay = ["strace", "-f", "-o", "/dev/null", "-e", "inject=move_mount:delay_enter=700000"]
    command = [*delay, PYTHON, "-I", "-S", str(HOOK), "--root", str(owner.root), "createRuntime"]
    slow = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert slow.stdin is not None
    slow.stdin.write(owner.state("creating"))
    slow.stdin.close()
    while not owner.entries():
        pass
    fast = member.create()
    assert slow.wait() == 0
    assert fast.code == 77  # the owner's value differs from what it asks for
    assert shmmax(owner) == SHMMAX


def test_an_id_that_starts_with_a_dot(start: Callable[..., Container]) -> None:
    """Its entry is one like every other: gc leaves the living alone, and finds the dead."""
    container = start()
    container.id = ".hidden"
    container.create().check()
    warden = [REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", container.root]
    run(*warden, "gc").check()
    assert len(container.pins()) == len(container.entries()) == 1
    assert json.loads(run(*warden, "show", ".hidden", "--json").check().stdout)["container"]["id"] == ".hidden"
    container.kill()
    run(*warden, "gc").check()
    assert container.pins() == container.entries() == []


def test_rooms_go_with_their_last_member(start: Callable[..., Container]) -> None:
    """Nothing is left of a namespace whose members have all stopped."""
    owner = start()
    owner.create().check()
    member = start(ipc=str(owner.namespace))
    member.create().check()
    for each in (member, owner):
        each.kill()
        call("poststop", each.state("stopped"), each.root).check()
    assert list((owner.root / "run" / "ipcwarden" / "namespaces").iterdir()) == []


def never_started(start: Callable[..., Container], owner: Container) -> Container:
    """Create a joiner as runc does whose program cannot be started: what it asks for is written, and it is gone."""
    joiner = joining(start, owner)
    joiner.create().check()
    overrule(joiner)
    joiner.kill()
    return joiner


@pytest.mark.parametrize("others", [None, {}, {"mode": "permissive"}], ids=["governed", "no rule", "permissive"])
def test_a_joiner_that_never_starts(start: Callable[..., Container], root: Path, others: dict[str, str] | None) -> None:
    """No poststart comes for it: poststop puts back what runc has written, and says for whom."""
    owner = start()
    if others is not None:
        owner_only(root, owner, **others)
    owner.create().check()
    joiner = never_started(start, owner)
    assert shmmax(owner) == HUGE
    joiner.poststop().check()
    assert shmmax(owner) == SHMMAX
    [verified] = [record for record in owner.records() if record["event"] == "verified"]
    assert (verified["stage"], verified["container"]["id"], verified["joiner"]["id"]) == (
        "poststop",
        owner.id,
        joiner.id,
    )
    assert verified["sysctls"][0]["found"] == HUGE
    assert len(owner.pins()) == len(owner.entries()) == 1


def test_a_joiner_that_never_starts_in_a_user_namespace(start: Callable[..., Container], root: Path) -> None:
    """Where only the user namespace's root may write, too."""
    owner = start(userns=True)
    owner_only(root, owner)
    owner.create().check()
    joiner = joining(start, owner)
    joiner.create().check()
    pid = str(owner.process.pid)
    write = f"echo {HUGE} >/proc/sys/kernel/shmmax"
    run("nsenter", "-t", pid, "-U", "-i", "-S", "0", "-G", "0", "sh", "-c", write).check()
    joiner.kill()
    joiner.poststop().check()
    assert shmmax(owner) == SHMMAX


def test_one_of_two_guests_of_one_key(start: Callable[..., Container], root: Path) -> None:
    """Two runtimes' roots may run one bundle: the poststop of one does not make the other one forgotten."""
    owner = start()
    owner_only(root, owner)
    owner.create().check()
    one = joining(start, owner)
    other = joining(start, owner)
    other.id, other.bundle = one.id, one.bundle
    one.create().check()
    other.create().check()
    one.kill()
    one.poststop().check()
    overrule(other)
    other.kill()
    other.poststop().check()
    assert shmmax(owner) == SHMMAX


def test_nothing_of_a_guest_is_left(start: Callable[..., Container], root: Path) -> None:
    """Neither after its poststop nor after the owner's: a namespace that nobody governs any more is not kept."""
    owner = start()
    owner_only(root, owner)
    owner.create().check()
    gone, late = joining(start, owner), joining(start, owner)
    gone.create().check()
    late.create().check()
    gone.kill()
    gone.poststop().check()
    [room] = (root / "run" / "ipcwarden" / "namespaces").iterdir()
    assert len([file for file in room.iterdir() if file.name.startswith(".guest.")]) == 1
    owner.kill()
    owner.poststop().check()
    assert not room.exists()
    late.kill()
    late.poststop().check()


def test_what_was_widened_stays(start: Callable[..., Container], root: Path) -> None:
    """A joiner that was allowed to widen has done so, whether it starts or not; what it wrote beyond that goes."""
    put_in_force(root, profile(on_violation="clamp", shared="widen"))
    owner = start()
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax=HUGE)
    joiner.create().check()
    overrule(joiner)
    joiner.kill()
    joiner.poststop().check()
    assert shmmax(owner) == str(1 << 30)


def wide(root: Path, **settings: Any) -> None:
    """Let whoever joins widen shmmax up to a GiB."""
    put_in_force(root, profile(shared="widen", **settings))


def drifts(container: Container) -> list[Any]:
    """Return the drift of every teardown, oldest first."""
    return [record["drift"] for record in container.records() if record["event"] == "teardown"]


def test_a_joiner_widens_for_all(start: Callable[..., Container], root: Path) -> None:
    """What a joiner was allowed to raise is in force for all, outlives it, and is nobody's drift."""
    wide(root)
    owner = start()
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax="134217728")
    joiner.create().check()
    assert shmmax(owner) == "134217728"
    owner.create().check()  # the other creation stage
    owner.poststart().check()
    assert shmmax(owner) == "134217728"
    joiner.kill()
    joiner.poststop().check()
    other = joining(start, owner)
    overrule(other)
    other.create().check()
    assert shmmax(owner) == "134217728"
    for each in (owner, other):
        each.kill()
        each.poststop().check()
    assert drifts(owner) == [[], [], []]
    assert list((root / "run" / "ipcwarden" / "namespaces").iterdir()) == []


def test_a_joiner_never_narrows(start: Callable[..., Container], root: Path) -> None:
    """Who asks for less gets what is in force."""
    wide(root)
    owner = start()
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax="1000000")
    joiner.create().check()
    assert shmmax(owner) == SHMMAX
    assert joiner.records()[-1]["decision"] == "accepted"


@pytest.mark.parametrize(("on_violation", "code", "then"), [("refuse", 77, SHMMAX), ("clamp", 0, str(1 << 30))])
def test_a_joiner_widens_within_its_bounds(
    start: Callable[..., Container], root: Path, on_violation: str, code: int, then: str
) -> None:
    """Beyond its own profile's bounds nothing is widened, or under clamp no more than up to them."""
    wide(root, on_violation=on_violation)
    owner = start()
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax=HUGE)
    overrule(joiner)
    assert joiner.create().code == code
    assert shmmax(owner) == then


def test_drift_beyond_what_was_widened(start: Callable[..., Container], root: Path) -> None:
    """What is changed besides is drift from what has been in force since."""
    wide(root)
    owner = start()
    owner.create().check()
    joining(start, owner, kernel__shmmax="134217728").create().check()
    overrule(owner)
    owner.kill()
    owner.poststop().check()
    assert drifts(owner) == [[{"name": "kernel.shmmax", "wanted": "134217728", "found": HUGE}]]


@pytest.mark.parametrize("failing", [1, 2, 3], ids=["creating", "widened", "applied"])
def test_widening_fails_whole(start: Callable[..., Container], root: Path, failing: int) -> None:
    """Whichever write to the ledger fails, the owner's limits are what they were, and stay so."""
    wide(root)
    owner = start()
    owner.create().check()
    joiner = joining(start, owner, kernel__shmmax="134217728")
    inject = f"inject=rename,renameat,renameat2:error=ENOSPC:when={failing}"
    command = ["strace", "-f", "-o", "/dev/null", "-e", inject, PYTHON, "-I", "-S", str(HOOK), "--root", str(root)]
    assert run(*command, "createRuntime", stdin=joiner.state("creating")).code == 74
    assert shmmax(owner) == SHMMAX
    owner.poststart().check()
    assert shmmax(owner) == SHMMAX
    owner.kill()
    joiner.kill()
    owner.poststop().check()
    assert drifts(owner) == [[]]


def test_what_was_widened_ends_with_the_namespace(start: Callable[..., Container], root: Path) -> None:
    """An earlier namespace's of the same name is forgotten: its last member may have been killed while it left."""
    wide(root)
    owner = start()
    with owner.namespace.open("rb") as file:
        room = root / "run" / "ipcwarden" / "namespaces" / identify(file.fileno(), Features()).name
    room.mkdir(mode=0o700, parents=True)
    (room / ".widened").write_text('{"kernel.shmmax":"134217728"}')
    owner.create().check()
    owner.poststart().check()
    assert [each.name for each in room.iterdir()] == [entry_key(owner.id, str(owner.bundle))]
    assert shmmax(owner) == SHMMAX


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kernel.shmmax":"x"}'])
def test_what_was_widened_cannot_be_read(start: Callable[..., Container], root: Path, content: str) -> None:
    """Where it cannot be read, the owner's own limits are in force: less than was allowed, never more."""
    wide(root)
    owner = start()
    owner.create().check()
    joining(start, owner, kernel__shmmax="134217728").create().check()
    [room] = (root / "run" / "ipcwarden" / "namespaces").iterdir()
    (room / ".widened").write_text(content)
    owner.poststart().check()
    assert shmmax(owner) == SHMMAX


def test_a_joiner_is_decided_on_as_it_asked(start: Callable[..., Container]) -> None:
    """What a native door has taken out, before the runtime was known and with it the rule, is refused all the same."""
    owner = start()
    owner.create().check()
    joiner = joining(start, owner)
    asked = json.dumps({"kernel.shmmax": HUGE})
    joiner.configure({**config(str(owner.namespace)), "annotations": {"org.ipcwarden.requested": asked}})
    joiner.create().check()  # whoever wrote the annotation, it was no door
    joiner.kill()
    joiner.poststop().check()
    again = joining(start, owner)
    again.configure({**config(str(owner.namespace)), "annotations": {"org.ipcwarden.requested": asked}})
    assert again.create("--native").code == 77
    assert [v["requested"] for v in owner.records()[-1]["violations"]] == [HUGE]
