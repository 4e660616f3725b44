"""The ways round a policy, with real runtimes: refused, put right or reported, as docs/threat-model.md says of each."""

from __future__ import annotations

import base64
import json
import platform
import shutil
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.seccomp import RAW_FILTER, narrowed
from ipcwarden.errors import StateError
from support.engine import PodmanEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engine import BareEngine, Engine
    from support.podman import Podman
    from support.warden import Warden

RUNTIMES = pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
# One instruction, BPF_RET with SECCOMP_RET_ALLOW.
ALLOW_ALL = base64.b64encode(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)).decode("ascii")
FLAGS = 0x7E020000  # of namespaces, all of them: what Docker's profile lets no clone have
OURS = ("clone", "clone3", "unshare", "setns")
# What every process may do still, and what none may any more.
KEPT = ("unshare-user", "clone-user", "thread", "i386-unshare-user", "i386-clone-user")
WAYS = ("unshare-both", "clone-both", "clone-high", "clone3-both", "i386-unshare-both", "i386-clone-both")
# Without privileges, flags that there are, and a kernel for programs of that width, nobody could before.
IN_VAIN = ("unshare-ipc", "unshare-high", "x32-unshare-both")


def filtered(podman: Podman) -> dict[str, Any]:
    """Return the filter that podman writes into a config.json."""
    name = podman.run(["sleep", "1000"], "--detach").check().stdout.strip()
    try:
        with open(podman.inspect(name)["OCIConfigPath"], encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)["linux"]["seccomp"]
    finally:
        podman.remove(name).check()
    return found


def as_docker(seccomp: dict[str, Any]) -> dict[str, Any]:
    """Return podman's filter with what Docker's says of the same calls instead."""
    rules = [{**rule, "names": [name for name in rule["names"] if name not in OURS]} for rule in seccomp["syscalls"]]
    condition = {"index": 0, "value": FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules += [
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [condition]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]
    return {**seccomp, "defaultErrnoRet": 1, "syscalls": [rule for rule in rules if rule["names"]]}


def tried(
    engine: BareEngine,
    seccomp: dict[str, Any] | None,
    userns: bool = False,
    annotations: dict[str, str] | None = None,
) -> dict[str, str]:
    """Try every way to another namespace in a container that has this filter."""
    bundle = engine.bundle("nest", userns=userns, annotations=annotations or {})
    file = bundle / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if seccomp is not None:
        config["linux"]["seccomp"] = seccomp
    file.write_text(json.dumps(config), encoding="utf-8")
    result = engine.runtime.run(bundle, bundle.name).check()
    return {way: found for way, _, found in (line.partition(" ") for line in result.stdout.splitlines())}


def of_all_actions(seccomp: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a filter that allows by one rule whatever podman's speaks of."""
    names = sorted({name for rule in seccomp["syscalls"] for name in rule["names"]})
    rules = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    return {"architectures": seccomp["architectures"], "syscalls": rules, **changes}


FILTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "none": lambda _: None,
    "podman": lambda theirs: theirs,
    "allow": lambda theirs: of_all_actions(theirs, defaultAction="SCMP_ACT_ALLOW", syscalls=[]),
    "kill others": lambda theirs: of_all_actions(theirs, defaultAction="SCMP_ACT_KILL_PROCESS"),
    "log": lambda theirs: of_all_actions(theirs, defaultAction="SCMP_ACT_LOG"),
}


@RUNTIMES
@pytest.mark.parametrize("userns", [False, True], ids=["host's users", "userns"])
@pytest.mark.parametrize("choose", FILTERS.values(), ids=FILTERS)
def test_nested_namespaces(
    engine: BareEngine, podman: Callable[[str], Podman], choose: Callable[[dict[str, Any]], Any], userns: bool
) -> None:
    """No process makes another IPC namespace, of any width; user namespaces, children and threads are as before."""
    before = choose(filtered(podman("runc")))
    loose = tried(engine, before, userns)
    assert {way: loose[way] for way in KEPT + WAYS} == dict.fromkeys(KEPT + WAYS, "ok")
    tight = tried(engine, narrowed(before, platform.machine()), userns)
    assert {way: tight[way] for way in KEPT} == dict.fromkeys(KEPT, "ok")
    refused = (*WAYS, *IN_VAIN)
    assert {way: tight[way] for way in refused} == {**dict.fromkeys(refused, "EPERM"), "clone3-both": "ENOSYS"}


@RUNTIMES
def test_a_filter_with_conditions(engine: BareEngine, podman: Callable[[str], Podman]) -> None:
    """What Docker's filter says of the same calls, with conditions on their flags, is as it was: it refuses more."""
    before = as_docker(filtered(podman("runc")))
    found = tried(engine, before)
    assert {found[way] for way in (*KEPT, *WAYS, *IN_VAIN)} == {"EPERM", "ENOSYS", "ok"}
    assert [way for way, result in found.items() if result == "ok"] == ["thread"]
    assert tried(engine, narrowed(before, platform.machine())) == found


@pytest.mark.parametrize("engine", ["crun"], indirect=True)
def test_a_raw_filter(engine: BareEngine) -> None:
    """An annotation makes crun load another filter than linux.seccomp: it is refused wherever seccomp is narrowed."""
    annotations = {RAW_FILTER: ALLOW_ALL}
    assert tried(engine, narrowed(None, platform.machine()), annotations=annotations)["unshare-both"] == "ok"
    with pytest.raises(StateError, match="makes crun ignore"):
        narrowed(None, platform.machine(), annotations)


POLICY = """
version: 1
profiles:
  tight:
    sysctls: {{kernel.shmmax: 64MiB}}
    rlimits: {{msgqueue: 100KiB}}
    nested_ipc: deny
    writable_proc_sys: {writable}
    on_violation: {on_violation}
rules: [{{name: everything, profile: tight}}]
"""
MOST = 100 * 1024
# With what podman would raise otherwise, which takes a privilege that a machine may lack.
MORE = ["--ulimit=msgqueue=409600:409600", "--ulimit=nofile=1024:4096", "--ulimit=nproc=1000:1000"]
HOOKS = ["runc", "crun", "podman-runc", "podman-crun"]
PRECREATE = "10-ipcwarden-precreate.json"


def compile_policy(warden: Warden, on_violation: str = "refuse", writable: str = "record") -> None:
    """Put a policy in force that closes every way round."""
    warden.compile(POLICY.format(on_violation=on_violation, writable=writable))


def decide_before(engine: Engine, warden: Warden) -> None:
    """Install a native door."""
    engine.govern(warden)
    if isinstance(engine, PodmanEngine):
        assert engine.hooks_dir is not None
        warden("install", "podman", "--hooks-dir", engine.hooks_dir, "--precreate").check()
        # podman is told of one directory here; that of the precreate hook is its own for the sake of builds.
        shutil.copy(warden.root / "usr/share/ipcwarden/precreate.d" / PRECREATE, engine.hooks_dir)


def of_event(warden: Warden, event: str) -> dict[str, Any]:
    """Return the only record of an event."""
    record: dict[str, Any]
    [record] = warden.audit(event=event)
    return record


def msgqueue(limits: str) -> tuple[int, int]:
    """Read RLIMIT_MSGQUEUE, soft and hard, from what /proc/self/limits has."""
    [line] = [line for line in limits.splitlines() if "msgqueue" in line]
    return int(line.split()[3]), int(line.split()[4])


@pytest.mark.parametrize(
    "engine", ["native-runc", "native-crun", "podman-runc", "podman-crun", "docker", "ctr"], indirect=True
)
def test_native_doors_deny_nested_namespaces(engine: Engine, warden: Warden) -> None:
    """Through every native door nobody inside makes another IPC namespace; children and threads are as before."""
    compile_policy(warden)
    decide_before(engine, warden)
    ended = engine.run("nest").check()
    found = {way: result for way, _, result in (line.partition(" ") for line in ended.stdout.splitlines())}
    refused = (*WAYS, *IN_VAIN)
    assert {way: found[way] for way in refused} == {**dict.fromkeys(refused, "EPERM"), "clone3-both": "ENOSYS"}
    assert found["thread"] == "ok"
    assert "nested_ipc" not in of_event(warden, "applied")


@pytest.mark.parametrize(
    "engine", ["native-runc", "native-crun", "podman-runc", "podman-crun", "docker", "ctr"], indirect=True
)
def test_what_is_executed_later_makes_no_namespace(engine: Engine, warden: Warden) -> None:
    """What is started in a running container has the filter that the container was started with."""
    compile_policy(warden)
    decide_before(engine, warden)
    running = engine.start("sleep", "1000")
    found = running.execute("nest").check().stdout
    assert "unshare-both EPERM" in found
    assert "clone-both EPERM" in found
    running.remove()


@pytest.mark.parametrize("engine", HOOKS, indirect=True)
def test_hooks_alone_say_that_they_deny_nothing(engine: Engine, warden: Warden) -> None:
    """Where hooks alone are registered, the record tells that another namespace is not denied."""
    compile_policy(warden)
    engine.govern(warden)
    assert "unshare-both ok" in engine.run("nest").check().stdout
    assert of_event(warden, "applied")["nested_ipc"] == "unenforced"


@pytest.mark.parametrize("engine", ["podman-crun"], indirect=True)
def test_an_annotation_that_brings_its_own_filter(engine: Engine, warden: Warden) -> None:
    """podman's user gives crun a filter that allows all: the container does not start."""
    compile_policy(warden)
    decide_before(engine, warden)
    ended = engine.run("nest", annotations={RAW_FILTER: ALLOW_ALL})
    assert (ended.code == 0, "ok" in ended.stdout) == (False, False)
    assert warden.audit(event="applied") == []
    assert warden.pins() == warden.ledger() == []


@pytest.mark.parametrize("engine", [*HOOKS, "native-runc", "native-crun", "docker", "ctr"], indirect=True)
def test_queues_are_bounded(engine: Engine, warden: Warden) -> None:
    """Whoever asks for nothing has no more of RLIMIT_MSGQUEUE than the profile gives, by hooks and native doors."""
    compile_policy(warden)
    engine.govern(warden)
    assert msgqueue(engine.run("cat", "/proc/self/limits").check().stdout) == (MOST, MOST)
    assert of_event(warden, "applied")["rlimits"]["msgqueue"]["wanted"] == str(MOST)


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_queues_of_another_user(engine: Engine, warden: Warden) -> None:
    """Who the container's process is in the end, and in whose user namespace, makes no difference."""
    compile_policy(warden)
    engine.govern(warden)
    found = engine.run("cat", "/proc/self/limits", userns=True, flags=["--user=1000:1000"]).check().stdout
    assert msgqueue(found) == (MOST, MOST)


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun", "docker"], indirect=True)
def test_asking_for_more_queues(engine: Engine, warden: Warden) -> None:
    """--ulimit msgqueue= beyond what the profile gives is refused."""
    compile_policy(warden)
    engine.govern(warden)
    assert engine.run("true", flags=MORE).code != 0
    assert [(v["name"], v["kind"]) for v in of_event(warden, "refused")["violations"]] == [
        ("RLIMIT_MSGQUEUE", "rlimit")
    ]


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_asking_for_more_queues_is_clamped(engine: Engine, warden: Warden) -> None:
    """Under clamp hooks alone lower what was asked for, under runc at poststart, under crun at once."""
    compile_policy(warden, on_violation="clamp")
    engine.govern(warden)
    ended = engine.run("cat", "/proc/self/limits", flags=MORE)
    assert msgqueue(ended.check().stdout) == (MOST, MOST)
    assert of_event(warden, "applied")["decision"] == "clamped"
    assert len(warden.audit(event="verified")) == (engine.name == "podman-runc")


@pytest.mark.parametrize("engine", [*HOOKS, "native-runc", "native-crun", "ctr"], indirect=True)
def test_a_writable_proc_sys_is_refused(engine: Engine, warden: Warden) -> None:
    """A container that could write its own limits does not start, whatever else it asks for."""
    compile_policy(warden, on_violation="clamp", writable="refuse")
    engine.govern(warden)
    engine.run("true").check()
    assert engine.run("true", writable_proc_sys=True).code != 0
    assert [v["kind"] for v in of_event(warden, "refused")["violations"]] == ["writable_proc_sys"]


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun", "docker"], indirect=True)
@pytest.mark.parametrize("ipc", ["private", "host"])
def test_a_privileged_container_is_refused(engine: Engine, warden: Warden, ipc: str) -> None:
    """So does a privileged one, in the host's namespace too, where it could write the host's limits."""
    compile_policy(warden, writable="refuse")
    engine.govern(warden)
    assert engine.run("true", ipc=ipc, flags=["--privileged"]).code != 0
    assert [v["kind"] for v in of_event(warden, "refused")["violations"]] == ["writable_proc_sys"]


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_a_privileged_container_is_recorded(engine: Engine, warden: Warden) -> None:
    """Where policy does not mind, the record says that the limits are the container's to change."""
    compile_policy(warden)
    engine.govern(warden)
    engine.run("true", flags=["--privileged"]).check()
    assert of_event(warden, "applied")["writable_proc_sys"] is True
