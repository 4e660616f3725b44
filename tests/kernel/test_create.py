"""The creation stage, called as a runtime calls it, on real namespaces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support import namespace, sandbox
from support.sandbox import WANTED, config, profile, put_in_force

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container


def limits(container: Container) -> dict[str, int]:
    """Read what the container has, of what the policy speaks of; kernel.sem by its last field."""
    found = namespace.limits(container.namespace)
    found["kernel.sem.semmni"] = found["kernel.sem"].split()[3]
    return {name: int(found[name]) for name in WANTED}


def test_refuses_the_hosts_namespace(start: Callable[..., Container]) -> None:
    """A process in the host's namespace is refused where config.json asks for a private one; nothing is written."""
    container = start(ipc="host")
    container.configure(config("private"))
    before = namespace.limits(container.namespace)
    result = container.create()
    assert result.code == 69
    assert "the host's IPC namespace" in result.stderr
    assert namespace.limits(container.namespace) == before
    assert container.pins() == container.entries() == []


def test_refuses_a_path_to_the_hosts_namespace(start: Callable[..., Container]) -> None:
    """A path in config.json that leads to the host's namespace is no way in."""
    container = start(ipc="host")
    container.configure(config("/proc/1/ns/ipc"))
    assert container.create().code == 69
    assert [record["reason"] for record in container.records()] == ["namespace"]


def test_host_ipc_audit_touches_nothing(start: Callable[..., Container]) -> None:
    """Under `host_ipc: audit` a container that asks for the host's namespace starts, with one `skipped` record."""
    container = start(ipc="host")
    before = namespace.limits(container.namespace)
    container.create().check()
    assert [(r["event"], r["reason"]) for r in container.records()] == [("skipped", "host-ipc")]
    assert container.pins() == []
    assert namespace.limits(container.namespace) == before


def test_host_ipc_refuse(start: Callable[..., Container], root: Path) -> None:
    """Under `host_ipc: refuse` it does not start."""
    put_in_force(root, profile(host_ipc="refuse"))
    container = start(ipc="host")
    assert container.create().code == 77
    [record] = container.records()
    assert (record["event"], record["violations"][0]["kind"]) == ("refused", "host_ipc")


def test_applies_defaults_and_bounds(container: Container) -> None:
    """A container that asks for nothing gets what its profile says."""
    container.create().check()
    assert limits(container) == WANTED


def test_keeps_the_fields_of_sem_it_does_not_govern(container: Container) -> None:
    """Of kernel.sem only the fields with a rule change."""
    container.create().check()
    assert namespace.limits(container.namespace)["kernel.sem"].split()[:3] == ["32000", "1024000000", "500"]


def test_grants_a_request_within_bounds(container: Container) -> None:
    """What the container asks for and may have is in force, whoever writes it."""
    container.configure(config(sysctl={"kernel.shmmax": "1000000", "kernel.domainname": "x", "net.ipv4.x": "0 1"}))
    container.create().check()
    assert limits(container)["kernel.shmmax"] == 1000000
    [record] = container.records()
    [shmmax] = [each for each in record["sysctls"] if each["name"] == "kernel.shmmax"]
    assert (shmmax["requested"], shmmax["found"], shmmax["why"]) == ("1000000", "1000000", "request")


def test_refuses_all_violations_in_one_line(container: Container) -> None:
    """A request beyond bounds ends with 77 and one line with every violation; nothing is left."""
    container.configure(config(sysctl={"kernel.shmmax": "9999999999", "kernel.sem": "1 2 3 4"}))
    before = namespace.limits(container.namespace)
    result = container.create()
    assert result.code == 77
    assert result.stderr.count("\n") == 1
    assert "kernel.shmmax=9999999999" in result.stderr
    assert "kernel.sem.semmni=4" in result.stderr
    assert container.pins() == container.entries() == []
    assert namespace.limits(container.namespace) == before


def test_poststop_of_a_refused_container_is_silent(container: Container) -> None:
    """Runc runs poststop after a refusal: it writes nothing and ends well."""
    container.configure(config(sysctl={"kernel.shmmax": "9999999999"}))
    container.create()
    before = container.records()
    result = container.poststop().check()
    assert result.stderr == ""
    assert container.records() == before


def test_clamps(container: Container, root: Path) -> None:
    """Under `clamp` the container gets the nearest allowed value."""
    put_in_force(root, profile(on_violation="clamp"))
    container.configure(config(sysctl={"kernel.shmmax": "9999999999"}))
    container.create().check()
    assert limits(container)["kernel.shmmax"] == 1 << 30
    [record] = container.records()
    assert record["decision"] == "clamped"
    assert record["violations"][0]["kind"] == "bound"


def test_permissive_writes_nothing(container: Container, root: Path) -> None:
    """In permissive mode what would be refused starts, audited, with its limits untouched."""
    put_in_force(root, mode="permissive")
    before = namespace.limits(container.namespace)
    container.configure(config(sysctl={"kernel.shmmax": "9999999999"}))
    container.create().check()
    assert namespace.limits(container.namespace) == before
    [record] = container.records()
    assert (record["event"], record["decision"], record["enforced"]) == ("applied", "refused", False)
    assert len(container.pins()) == 1


def test_pins_the_namespace(container: Container) -> None:
    """The namespace outlives its last process, under the entry's name."""
    container.create().check()
    container.leave("--shm=2")
    container.kill()
    [pin] = container.pins()
    assert f"{pin}.json" in container.entries()
    assert namespace.counts(container.root / "run" / "ipcwarden" / "pins" / pin)["shm"] == 2


def test_is_idempotent(container: Container) -> None:
    """Prestart and createRuntime both registered: the second finds its work done, and leaves no second record."""
    container.create(stage="prestart").check()
    first = (container.entry(), container.pins())
    container.create().check()
    assert (container.entry(), container.pins()) == first
    assert [record["event"] for record in container.records()] == ["applied"]


def test_the_second_hook_puts_right(container: Container) -> None:
    """What changed between two creation hooks is put right."""
    container.create(stage="prestart").check()
    sandbox.run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 5 >/proc/sys/kernel/shmmax").check()
    container.create().check()
    assert limits(container) == WANTED


def test_no_rule_leaves_alone(container: Container, root: Path) -> None:
    """A container that no rule matches is neither pinned nor changed, and is recorded as skipped."""
    put_in_force(root, when=[("engine", ("podman",))])
    before = namespace.limits(container.namespace)
    container.create().check()
    assert [(r["event"], r["reason"]) for r in container.records()] == [("skipped", "no-rule")]
    assert container.pins() == container.entries() == []
    assert namespace.limits(container.namespace) == before


def test_user_namespace_of_the_container(start: Callable[..., Container]) -> None:
    """In a namespace that a user namespace owns not even root may write: the hook becomes its owner for that."""
    container = start(userns=True)
    container.create().check()
    assert limits(container) == WANTED


def test_all_or_nothing(container: Container, root: Path) -> None:
    """When the kernel refuses one value, all are as before, kernel.sem's half-written fields too; nothing is left."""
    impossible = {**profile().sysctls, "kernel.sem.semmsl": (250, None, None, None)}
    impossible["kernel.sem.semmni"] = (40000, None, None, None)  # ERANGE, after the first three fields have changed
    put_in_force(root, profile(sysctls=impossible))
    before = namespace.limits(container.namespace)
    result = container.create()
    assert result.code == 71
    assert "kernel.sem" in result.stderr
    assert namespace.limits(container.namespace) == before
    assert container.pins() == container.entries() == []


def test_a_joined_namespace_is_as_before_when_the_ledger_fails(start: Callable[..., Container]) -> None:
    """Where nothing can be recorded nothing is changed, in a namespace that others live in too."""
    owner = start()
    member = start(ipc=str(owner.namespace))
    before = namespace.limits(owner.namespace)
    run_directory = member.root / "run"
    run_directory.mkdir()
    sandbox.run("mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "tmpfs", run_directory).check()
    try:
        member.create().check()
        member.kill()
        member.poststop().check()
        assert namespace.limits(owner.namespace) != before
        member = start(ipc=str(owner.namespace))
        sandbox.run("nsenter", f"--ipc={owner.namespace}", "sh", "-c", "echo 12345 >/proc/sys/kernel/shmmax").check()
        before = namespace.limits(owner.namespace)
        (run_directory / "filler").write_bytes(bytes(12288))  # room for one version of the entry, not for two
        assert member.create().code == 74
        assert namespace.limits(owner.namespace) == before
    finally:
        sandbox.run("umount", run_directory).check()


def test_a_refusal_stands_where_nothing_can_be_recorded(container: Container) -> None:
    """Neither log nor ledger: the violation is refused all the same, under --on-error allow too."""
    container.configure(config(sysctl={"kernel.shmmax": "9999999999"}))
    for name in ("run", "var/log"):
        (container.root / name).mkdir(parents=True)
        sandbox.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", container.root / name).check()
        (container.root / name / "filler").write_bytes(bytes(4096))
    try:
        assert container.create("--on-error", "allow").code == 77
    finally:
        for name in ("run", "var/log"):
            sandbox.run("umount", container.root / name).check()


def test_a_dead_hook_is_started_again(container: Container) -> None:
    """An entry that a killed hook left as `creating` is begun anew, with one pin."""
    container.create().check()
    file = container.root / "run" / "ipcwarden" / "containers" / container.entries()[0]
    file.write_text(json.dumps({**container.entry(), "state": "creating"}))
    container.create().check()
    assert container.entry()["state"] == "applied"
    assert len(container.pins()) == 1


def test_another_life_of_the_same_container(container: Container, start: Callable[..., Container]) -> None:
    """An entry whose poststop never came is set aside, audited later, and does not hinder the next start."""
    container.create().check()
    container.leave("--msg=1")
    container.kill()
    again = start()
    again.id, again.bundle = container.id, container.bundle
    again.create().check()
    assert len(again.entries()) == len(again.pins()) == 2
    assert limits(again) == WANTED


def test_one_id_under_two_runtime_roots(start: Callable[..., Container]) -> None:
    """Two containers with one id and different bundles are two."""
    one, other = start(), start()
    other.id = one.id
    one.create().check()
    other.create().check()
    one.kill()
    one.poststop().check()
    assert [record["container"]["bundle"] for record in one.records() if record["event"] == "teardown"] == [
        str(one.bundle)
    ]
    assert len(other.pins()) == 1


def test_one_id_and_one_bundle_under_two_runtime_roots(start: Callable[..., Container]) -> None:
    """Two runtimes' roots may even share the bundle: each poststop takes the life that has ended."""
    one, other = start(), start()
    other.id, other.bundle = one.id, one.bundle
    one.leave("--shm=1")
    other.leave("--sem=2")
    one.create().check()
    other.create().check()
    one.kill()
    one.poststop().check()
    assert one.records()[-1]["leftovers"]["shm"]["count"] == 1
    assert len(other.pins()) == 1
    other.kill()
    other.poststop().check()
    assert other.records()[-1]["leftovers"]["sem"]["count"] == 2
    assert other.pins() == other.entries() == []


@pytest.mark.parametrize("mode", ["refuse", "clamp"])
def test_malformed_request_is_refused(container: Container, root: Path, mode: str) -> None:
    """A value that kernel and people read differently is never guessed, under clamp either."""
    put_in_force(root, profile(on_violation=mode))
    container.configure(config(sysctl={"kernel/shmmax": "0x10"}))
    result = container.create()
    assert result.code == 77
    assert "canonical" in result.stderr
