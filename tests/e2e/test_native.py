"""The native doors, where they differ from hooks alone: the runtime itself applies what was decided."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.engine import PodmanEngine
from support.shell import run

if TYPE_CHECKING:
    from support.engine import BareEngine, Engine, Running
    from support.warden import Warden

POLICY = """
version: 1
profiles:
  team:
    sysctls:
      kernel.shmmax: {{default: 64MiB, max: 1GiB}}
      kernel.sem: {{semmni: 128}}
    rlimits: {{msgqueue: 100KiB}}
    nested_ipc: deny
    on_violation: {on_violation}
rules: [{{name: everything, profile: team}}]
"""
TOO_MUCH = {"kernel.shmmax": "68719476736"}
FORGED = ["--annotation", '"org.ipcwarden.requested={""kernel.shmmax"":""5""}"']  # podman reads it as CSV
PRECREATE = "10-ipcwarden-precreate.json"

native = pytest.mark.parametrize("engine", ["native-runc", "native-crun"], indirect=True)
podman = pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)


def govern(
    engine: Engine, warden: Warden, on_violation: str = "clamp", on_error: str = "refuse", policy: str = POLICY
) -> None:
    """Put a policy in force and install a native door."""
    warden.compile(policy.format(on_violation=on_violation))
    engine.govern(warden)
    if isinstance(engine, PodmanEngine):
        assert engine.hooks_dir is not None
        options = ("--hooks-dir", engine.hooks_dir, "--precreate", "--on-error", on_error)
        warden("install", "podman", *options).check()
        # podman is told of one directory here; that of the precreate hook is its own for the sake of builds.
        shutil.copy(warden.root / "usr/share/ipcwarden/precreate.d" / PRECREATE, engine.hooks_dir)


def shmmax(limits: str) -> str:
    """Return a limit from what the payload prints."""
    return namespace.values(limits)["kernel.shmmax"]


def applied(warden: Warden) -> dict[str, Any]:
    """Return the record of the one creation."""
    [record] = warden.audit(event="applied")
    return record


@pytest.mark.parametrize(
    "engine", ["native-runc", "native-crun", "podman-runc", "podman-crun", "docker", "ctr"], indirect=True
)
def test_the_runtime_applies_what_was_decided(engine: Engine, warden: Warden) -> None:
    """The container has what policy gives from the runtime itself: nothing has to be put right at poststart."""
    govern(engine, warden)
    ended = engine.run("limits", sysctl=TOO_MUCH)
    found = namespace.values(ended.check().stdout)
    assert (found["kernel.shmmax"], found["kernel.sem"].split()[3]) == ("1073741824", "128")
    assert warden.audit(event="verified") == []
    record = applied(warden)
    assert (record["decision"], record["violations"][0]["requested"]) == ("clamped", TOO_MUCH["kernel.shmmax"])
    assert [(s["name"], s["requested"], s["why"]) for s in record["sysctls"]] == [
        ("kernel.shmmax", TOO_MUCH["kernel.shmmax"], "bound"),
        ("kernel.sem.semmni", None, "set"),
    ]
    assert warden.pins() == warden.ledger() == []


@pytest.mark.parametrize(
    "engine", ["native-runc", "native-crun", "podman-runc", "podman-crun", "docker", "ctr"], indirect=True
)
def test_a_violation_is_refused_once(engine: Engine, warden: Warden) -> None:
    """The creation stage refuses, with its line and the only record."""
    govern(engine, warden, on_violation="refuse")
    ended = engine.run("limits", sysctl=TOO_MUCH)
    assert ended.code != 0
    assert "kernel.shmmax " not in ended.stdout
    assert "77" in ended.stderr
    assert [record["event"] for record in warden.audit()] == ["policy", "refused"]
    assert warden.pins() == warden.ledger() == []


@native
def test_a_joiner_does_not_even_touch(engine: Engine, warden: Warden) -> None:
    """What a joiner asks for is taken out before a runtime reads it: the owner's limit is never another."""
    govern(engine, warden)
    owner = engine.start("leave", "--wait")
    ended = engine.run("limits", ipc=owner.ipc, sysctl={"kernel.shmmax": "134217728"})
    assert shmmax(ended.check().stdout) == "67108864"
    record = warden.audit(container=ended.id, event="applied")[0]
    assert (record["decision"], [v["kind"] for v in record["violations"]]) == ("clamped", ["owner"])
    assert warden.audit(event="verified") == []
    owner.remove()


@native
def test_the_hosts_namespace_is_left_alone(engine: Engine, warden: Warden) -> None:
    """Nothing is written for a container in the host's namespace, which a runtime would refuse to start then."""
    govern(engine, warden)
    engine.run("limits", ipc="host").check()
    assert [record.get("reason") for record in warden.audit()] == [None, "host-ipc", None]


@podman
def test_an_annotation_does_not_imitate_the_native_door(engine: Engine, warden: Warden) -> None:
    """What a user writes into the annotation is not what the record says was asked for."""
    warden.compile(POLICY.format(on_violation="clamp"))
    engine.govern(warden)  # hooks alone
    engine.run("true", flags=FORGED).check()
    assert [s["requested"] for s in applied(warden)["sysctls"]] == [None, None]


@podman
def test_the_native_door_writes_over_the_annotation(engine: Engine, warden: Warden) -> None:
    """With precreate the annotation says what config.json asked for, whatever the user wrote there."""
    govern(engine, warden)
    asked = {"kernel.shmmax": "134217728"}
    engine.run("true", sysctl=asked, flags=FORGED).check()
    assert applied(warden)["sysctls"][0]["requested"] == "134217728"


@podman
@pytest.mark.parametrize(("on_error", "starts"), [("refuse", False), ("allow", True)])
def test_precreate_without_a_policy(engine: Engine, warden: Warden, on_error: str, starts: bool) -> None:
    """A fault of the host's is what --on-error says, before there is a container."""
    govern(engine, warden, on_error=on_error)
    (warden.root / "var/lib/ipcwarden/policy.compiled").unlink()
    ended = engine.run("limits")
    assert (ended.code == 0) is starts
    stages = [record["stage"] for record in warden.audit(event="error")]
    assert stages == (["createRuntime"] if starts else ["precreate"])


@podman
def test_a_podman_container_that_cannot_be_made(engine: Engine, warden: Warden) -> None:
    """podman runs no poststop for it; with precreate runc does, and under crun gc finds the pin."""
    govern(engine, warden)
    assert engine.run("/no/such/program").code != 0
    warden.gc()
    assert [record["event"] for record in warden.audit()][-1] in ("teardown", "collected")
    assert warden.pins() == warden.ledger() == []


@native
def test_poststop_comes_for_a_creation_that_fails(engine: BareEngine, warden: Warden) -> None:
    """A container that was asked for more than its runtime can do leaves nothing that gc does not find."""
    govern(engine, warden)
    bundle = engine.bundle("limits", sysctl={"net.ipv4.no_such_thing": "1"})
    assert engine.runtime.run(bundle, bundle.name).code != 0
    warden.gc()
    assert warden.pins() == warden.ledger() == []


@native
def test_exit_codes_and_streams_are_the_containers(engine: BareEngine, warden: Warden) -> None:
    """What runs through the wrapper ends as it would without."""
    govern(engine, warden)
    assert engine.run("sh", "-c", "exit 7").code == 7
    bundle = engine.bundle("sh", "-c", "cat")
    ended = run(engine.runtime.program, "run", "--bundle", bundle, bundle.name, stdin="through\n")
    assert (ended.code, ended.stdout) == (0, "through\n")


ONLY_OWNERS = POLICY.replace("name: everything", "name: owners, when: {{ipc: private}}")
WATCHED = ONLY_OWNERS.replace("team}}]", "team}}, {{name: others, profile: team, mode: permissive}}]")
JOINERS = {"governed": POLICY, "no rule": ONLY_OWNERS, "permissive": WATCHED}


def in_force(container: Running) -> str:
    """Read the limit of a container that runs."""
    return namespace.limits(container.namespace)["kernel.shmmax"]


@pytest.mark.parametrize("joiner", JOINERS)
@pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
def test_a_joiner_that_cannot_start_leaves_nothing(engine: Engine, warden: Warden, joiner: str) -> None:
    """With hooks alone an owner has its limits again once it is certain that a joiner's program is not to be had."""
    warden.compile(JOINERS[joiner].format(on_violation="clamp"))
    engine.govern(warden)
    owner = engine.start("leave", "--wait")
    assert engine.run("/no/such/program", ipc=owner.ipc, sysctl=TOO_MUCH).code != 0
    assert in_force(owner) == "67108864"
    owner.remove()
    warden.gc()  # crun runs no poststop for what it could not start


@pytest.mark.parametrize("joiner", JOINERS)
@pytest.mark.parametrize(
    "engine", ["native-runc", "native-crun", "podman-runc", "podman-crun", "docker"], indirect=True
)
def test_no_joiner_even_touches(engine: Engine, warden: Warden, joiner: str) -> None:
    """Whoever governs it, and whether it starts or not, a native door leaves its runtime nothing to write."""
    govern(engine, warden, policy=JOINERS[joiner])
    owner = engine.start("leave", "--wait")
    engine.run("true", ipc=owner.ipc, sysctl=TOO_MUCH).check()
    assert engine.run("/no/such/program", ipc=owner.ipc, sysctl=TOO_MUCH).code != 0
    assert in_force(owner) == "67108864"
    assert warden.audit(event="verified") == []
    if joiner == "permissive":
        watched = [each for each in warden.audit(event="applied") if each["rule"] == "others"]
        asked = {s["requested"] for each in watched for s in each["sysctls"] if s["name"] == "kernel.shmmax"}
        assert (len(watched), asked) == (2, {TOO_MUCH["kernel.shmmax"]})
    owner.remove()
    warden.gc()  # crun runs no poststop for what it could not start


@native
def test_a_joiner_widens_no_further_than_it_may(engine: Engine, warden: Warden) -> None:
    """What policy grants is all that its runtime gets to write, whether it starts or not."""
    govern(engine, warden, policy=POLICY.replace("nested_ipc: deny", "shared: widen"))
    owner = engine.start("leave", "--wait")
    assert engine.run("/no/such/program", ipc=owner.ipc, sysctl=TOO_MUCH).code != 0
    assert in_force(owner) == "1073741824"
    assert warden.audit(event="verified") == []
    owner.remove()
    warden.gc()  # crun runs no poststop for what it could not start


@podman
@pytest.mark.parametrize("joiner", JOINERS)
def test_gc_puts_back_what_no_poststop_comes_for(engine: Engine, warden: Warden, joiner: str) -> None:
    """podman with hooks alone runs no poststop for a container that it could not make: gc finds what runc wrote."""
    warden.compile(JOINERS[joiner].format(on_violation="clamp"))
    engine.govern(warden)
    owner = engine.start("leave", "--wait")
    assert engine.run("/no/such/program", ipc=owner.ipc, sysctl=TOO_MUCH).code != 0
    warden.gc()
    assert in_force(owner) == "67108864"
    owner.remove()


@podman
def test_the_next_hook_puts_back_what_no_poststop_comes_for(engine: Engine, warden: Warden) -> None:
    """So does whatever comes next in that namespace."""
    warden.compile(ONLY_OWNERS.format(on_violation="clamp"))
    engine.govern(warden)
    owner = engine.start("leave", "--wait")
    assert engine.run("/no/such/program", ipc=owner.ipc, sysctl=TOO_MUCH).code != 0
    assert shmmax(engine.run("limits", ipc=owner.ipc).check().stdout) == "67108864"
    owner.remove()


@native
def test_what_the_door_writes_is_not_refused(engine: Engine, warden: Warden) -> None:
    """A profile that refuses what it does not list takes the fields of kernel.sem that the door has to write, too."""
    warden.compile(
        "version: 1\nprofiles: {strict: {unlisted: refuse, sysctls: {kernel.sem: {semmni: 128}}}}\n"
        "rules: [{name: all, profile: strict}]\n"
    )
    engine.govern(warden)
    assert namespace.values(engine.run("limits").check().stdout)["kernel.sem"].split()[3] == "128"
