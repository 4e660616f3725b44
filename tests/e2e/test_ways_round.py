"""The ways round a policy, with real runtimes: refused, put right or reported, as docs/threat-model.md says of each."""

from __future__ import annotations

import base64
import json
import platform
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.seccomp import RAW_FILTER, narrowed
from ipcwarden.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engine import BareEngine
    from support.podman import Podman

RUNTIMES = pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
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
    allow_all = base64.b64encode(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)).decode(
        "ascii"
    )  # BPF_RET, SECCOMP_RET_ALLOW
    annotations = {RAW_FILTER: allow_all}
    assert tried(engine, narrowed(None, platform.machine()), annotations=annotations)["unshare-both"] == "ok"
    with pytest.raises(StateError, match="makes crun ignore"):
        narrowed(None, platform.machine(), annotations)
