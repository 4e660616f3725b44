"""The main job on every engine: a container runs under policy, and its teardown is audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import namespace
from support.engine import but
from support.image import IMAGE
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.engine import Engine, Running
    from support.warden import Warden

MIB = 1 << 20
POLICY = """
version: 1
profiles:
  team:
    sysctls:
      kernel.shmmax: {{default: 64MiB, max: 1GiB}}
      kernel.shmall: {{default: 65536 pages, max: 262144 pages}}
      kernel.sem: {{semmni: 128}}
      kernel.msgmnb: {{max: 64KiB}}
      fs.mqueue.queues_max: 32
    on_violation: {on_violation}
    host_ipc: {host_ipc}
    help: "ask #platform"
rules:
  - name: everything
    profile: team
"""
WANTED = {
    "kernel.shmmax": "67108864",
    "kernel.shmall": "65536",
    "kernel.sem": "32000 1024000000 500 128",
    "kernel.msgmnb": "16384",
    "fs.mqueue.queues_max": "32",
}
LEAVE = [
    "leave",
    *("--shm=2", "--shm-key=0x77", "--shm-size=100000", "--shm-touch=5000"),
    *("--sem=3", "--sem-size=4", "--msg=1", "--msg-count=2", "--mqueue=2", "--wait"),
]
MADE = {"shm": 2, "sem": 3, "msg": 1, "mqueue": 2}
KINDS = ("shm", "sem", "msg")

# Docker gives user namespaces to all containers or to none.
with_userns = pytest.mark.parametrize("engine", but("docker", "rootless-runc", "rootless-crun"), indirect=True)


def govern(engine: Engine, warden: Warden, on_violation: str = "refuse", host_ipc: str = "audit") -> None:
    """Put a policy in force and register the hooks."""
    warden.compile(POLICY.format(on_violation=on_violation, host_ipc=host_ipc))
    engine.govern(warden)


def of_policy(limits: str) -> dict[str, str]:
    """Choose from what the payload prints what the policy speaks of; blanks count as one."""
    found = namespace.values(limits)
    return {name: " ".join(found[name].split()) for name in WANTED}


def events(warden: Warden, container: str) -> list[str]:
    """List the events of a container's life."""
    return [record["event"] for record in warden.audit(container=container)]


def counts(totals: dict[str, Any]) -> dict[str, int]:
    """Reduce a record's totals to their counts."""
    return {kind: total["count"] for kind, total in totals.items()}


def narrowed(found: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Keep of an object what somebody else tells of it."""
    return {name: found[name] for name in names}


def leaving(engine: Engine, **options: Any) -> Running:
    """Start a container that leaves objects of all four kinds, and wait until it has."""
    running = engine.start(*LEAVE, **options)
    running.wait_for("made shm=2 sem=3 msg=1 mqueue=2")
    return running


@pytest.mark.parametrize("userns", [False, True], ids=["private", "userns"])
@with_userns
def test_limits_from_inside(engine: Engine, warden: Warden, userns: bool) -> None:
    """The container's first instruction sees the limits of its profile; its life leaves two records and no pin."""
    govern(engine, warden)
    ended = engine.run("limits", userns=userns)
    assert of_policy(ended.check().stdout) == WANTED
    assert events(warden, ended.id) == ["applied", "teardown"]
    assert warden.pins() == warden.ledger() == []


def test_limits_of_a_joined_namespace(engine: Engine, warden: Warden) -> None:
    """Who joins a governed container's namespace sees the owner's limits, and leaves its objects alone."""
    govern(engine, warden)
    owner = leaving(engine)
    ended = engine.run("limits", ipc=owner.ipc)
    assert of_policy(ended.check().stdout) == WANTED
    teardown = warden.audit(container=ended.id, event="teardown")[0]
    assert counts(teardown["present"]) == MADE
    assert counts(teardown["leftovers"]) == dict.fromkeys(MADE, 0)
    assert namespace.counts(owner.namespace) == MADE
    owner.remove()
    assert warden.pins() == warden.ledger() == []


@pytest.mark.parametrize("userns", [False, True], ids=["private", "userns"])
@with_userns
def test_leftovers_are_what_others_list(engine: Engine, warden: Warden, userns: bool) -> None:
    """The audit agrees with what ipcs, lsipc and the mqueue filesystem show in the pinned namespace."""
    govern(engine, warden)
    running = leaving(engine, userns=userns)
    [pin] = warden.pins()
    if not engine.stop_tears_down:
        running.stop()  # now nothing lives in it, and only the pin leads there
    told = {kind: (namespace.told_by_lsipc(pin, kind), namespace.told_by_ipcs(pin, kind)) for kind in KINDS}
    assert namespace.counts(pin) == MADE
    running.remove()
    [record] = warden.audit(container=running.id, event="teardown")
    assert counts(record["leftovers"]) == MADE
    assert record["namespace"]["destroyed"] is True
    for kind, listings in told.items():
        audited = {each["id"]: each for each in record["objects"] if each["kind"] == kind}
        for listing in listings:
            assert len(listing) == MADE[kind]
            assert listing == {number: narrowed(audited[number], listing[number]) for number in listing}
    assert {o["fate"] for o in record["objects"]} == {"freed"}
    assert record["leftovers"]["shm"] == {"count": 2, "bytes": 16384, "claimed": 204800}
    assert warden.pins() == warden.ledger() == []


def test_a_request_beyond_bounds_is_refused(engine: Engine, warden: Warden) -> None:
    """The user's process never runs; the refusal is the only record, with what was asked and what is allowed."""
    govern(engine, warden)
    ended = engine.run("limits", sysctl={"kernel.shmmax": "68719476736"})
    assert ended.code != 0
    assert "kernel.shmmax " not in ended.stdout
    [record] = warden.audit(event="refused")
    assert record["violations"] == [
        {"name": "kernel.shmmax", "requested": "68719476736", "min": None, "max": "1073741824", "kind": "bound"}
    ]
    assert [r["event"] for r in warden.audit()] == ["policy", "refused"]
    assert warden.pins() == warden.ledger() == []


@pytest.mark.parametrize("engine", ["runc", "podman-runc"], indirect=True)
def test_a_refusal_names_the_reason(engine: Engine, warden: Warden) -> None:
    """With runc, under podman too, the user sees our line: what was asked, what is allowed, whom to ask."""
    govern(engine, warden)
    ended = engine.run("limits", sysctl={"kernel.shmmax": "68719476736"})
    assert "kernel.shmmax=68719476736 is outside what is allowed, at most 1073741824" in ended.stderr
    assert "ask #platform" in ended.stderr


@pytest.mark.parametrize("engine", ["crun", "podman-crun"], indirect=True)
def test_a_refusal_has_its_exit_code(engine: Engine, warden: Warden) -> None:
    """crun shows nothing of a hook but its exit code: 77 says that policy refused."""
    govern(engine, warden)
    assert "77" in engine.run("limits", sysctl={"kernel.shmmax": "68719476736"}).stderr


def test_a_request_beyond_bounds_is_clamped(engine: Engine, warden: Warden) -> None:
    """Under `clamp` the container sees the nearest allowed value from its first instruction."""
    govern(engine, warden, on_violation="clamp")
    ended = engine.run("limits", sysctl={"kernel.shmmax": "68719476736"})
    assert namespace.values(ended.check().stdout)["kernel.shmmax"] == "1073741824"
    assert warden.audit(container=ended.id, event="applied")[0]["decision"] == "clamped"


@pytest.mark.parametrize("engine", ["runc", "podman-runc"], indirect=True)
def test_what_runc_overrules_is_put_right(engine: Engine, warden: Warden) -> None:
    """runc writes the request after our creation hook: poststart puts it right, before the user's process starts."""
    govern(engine, warden, on_violation="clamp")
    ended = engine.run("limits", sysctl={"kernel.shmmax": "68719476736"})
    [record] = warden.audit(container=ended.id, event="verified")
    assert [(s["name"], s["found"], s["wanted"]) for s in record["sysctls"]] == [
        ("kernel.shmmax", "68719476736", "1073741824")
    ]
    assert record["late"] is False


def test_a_request_within_bounds_is_granted(engine: Engine, warden: Warden) -> None:
    """What may be asked for is what the container gets."""
    govern(engine, warden)
    ended = engine.run("limits", sysctl={"kernel.shmmax": "134217728", "kernel.msgmax": "1234"})
    found = namespace.values(ended.check().stdout)
    assert (found["kernel.shmmax"], found["kernel.msgmax"]) == ("134217728", "1234")


@pytest.mark.parametrize("on_violation", ["refuse", "clamp"])
def test_a_joiner_changes_nothing(engine: Engine, warden: Warden, on_violation: str) -> None:
    """The owner's values stay in force, whatever a joiner asks for and its runtime writes."""
    govern(engine, warden, on_violation=on_violation)
    owner = engine.start("leave", "--wait")
    ended = engine.run("limits", ipc=owner.ipc, sysctl={"kernel.shmmax": "134217728"})
    assert (ended.code == 0) is (on_violation == "clamp")
    if on_violation == "clamp":
        assert of_policy(ended.stdout) == WANTED
    assert namespace.limits(owner.namespace)["kernel.shmmax"] == WANTED["kernel.shmmax"]
    kinds = [v["kind"] for record in warden.audit() for v in record.get("violations", ())]
    assert kinds == ["owner"]
    owner.remove()
    assert warden.pins() == warden.ledger() == []


def test_host_ipc_refuse(engine: Engine, warden: Warden) -> None:
    """With the host's namespace under `host_ipc: refuse` nothing starts, with exit code 77."""
    govern(engine, warden, host_ipc="refuse")
    ended = engine.run("limits", ipc="host")
    assert ended.code != 0
    assert "77" in ended.stderr
    _, record = warden.audit()
    assert (record["event"], record["violations"][0]["kind"]) == ("refused", "host_ipc")


def test_host_ipc_audit(engine: Engine, warden: Warden) -> None:
    """Under `host_ipc: audit` it starts; nothing is written, pinned or removed, and what it has left is told."""
    govern(engine, warden)
    host = namespace.Path("/proc/self/ns/ipc")
    before, there = namespace.limits(host), {each["id"] for each in namespace.objects(host, "shm")}
    ended = engine.run("sh", "-c", "limits; leave --shm=1", ipc="host").check()
    assert namespace.values(ended.stdout) == before
    [left] = [each["id"] for each in namespace.objects(host, "shm") if each["id"] not in there]
    run("ipcrm", "-m", left).check()
    _, skipped, teardown = warden.audit()
    assert (skipped["event"], skipped["reason"], teardown["event"]) == ("skipped", "host-ipc", "teardown")
    assert [(each["id"], each["confidence"], each["fate"]) for each in teardown["objects"]] == [
        (int(left), "plausible", "held")
    ]
    assert warden.pins() == warden.ledger() == []


@pytest.mark.parametrize("engine", ["podman-runc"], indirect=True)
def test_dev_shm_is_told(engine: Engine, warden: Warden) -> None:
    """podman's /dev/shm is the host's to see: what a container leaves there is told, and goes with the container."""
    govern(engine, warden)
    engine.run("sh", "-c", "echo left >/dev/shm/left").check()
    shm = warden.audit(event="teardown")[0]["dev_shm"]
    assert (shm["count"], [(each["name"], each["size"]) for each in shm["files"]]) == (1, [("left", 5)])
    assert not namespace.Path(shm["path"]).exists()


def test_show_tells_of_a_running_container(engine: Engine, warden: Warden) -> None:
    """`show` prints limits, usage and objects of a container that runs."""
    govern(engine, warden)
    running = leaving(engine)
    shown = warden.show(running.id)
    assert shown["container"]["id"] == running.id
    assert shown["limits"]["kernel.shmmax"] == WANTED["kernel.shmmax"]
    assert counts(shown["usage"]) == MADE
    assert len(shown["objects"]) == sum(MADE.values())
    running.remove()


def test_a_container_that_drifted(engine: Engine, warden: Warden) -> None:
    """A container with a writable /proc/sys that changed its limit has that in its record."""
    govern(engine, warden)
    running = engine.start("leave", "--wait", writable_proc_sys=True)
    running.execute("sh", "-c", "echo 99999 >/proc/sys/kernel/msgmnb").check()
    running.remove()
    [record] = warden.audit(container=running.id, event="teardown")
    assert {"name": "kernel.msgmnb", "wanted": "16384", "found": "99999"} in record["drift"]


def test_gc_collects_what_no_poststop_came_for(engine: Engine, warden: Warden) -> None:
    """A container whose command does not exist leaves at most a pin, which gc audits and frees."""
    govern(engine, warden)
    assert engine.run("/no/such/program").code != 0
    told = warden.gc()
    assert warden.pins() == warden.ledger() == []
    last = warden.audit()[-1]
    assert last["event"] in ("teardown", "collected")
    collected = [last["container"]["id"]] if last["event"] == "collected" else []
    assert [each["container"] for each in told["collected"]] == collected
    assert told["failed"] == told["waiting"] == []


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_podman_facts(engine: Engine, warden: Warden) -> None:
    """Rules know podman's image and name, and so do records and `audit --container`."""
    warden.compile(
        "version: 1\nprofiles: {strict: {sysctls: {kernel.msgmni: 5}}}\n"
        "rules:\n  - {name: tests, when: {engine: podman, image: '*/tests/*'}, profile: strict}\n"
    )
    engine.govern(warden)
    ended = engine.run("limits")
    assert namespace.values(ended.check().stdout)["kernel.msgmni"] == "5"
    record = warden.audit(event="applied")[0]
    assert (record["rule"], record["container"]["image"]) == ("tests", IMAGE)
    assert record["container"]["runtime"] == engine.name.removeprefix("podman-")
    by_name = warden.audit(container=record["container"]["name"])
    assert [each["container"]["id"] for each in by_name] == [ended.id] * 2


@pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
def test_bare_facts(engine: Engine, warden: Warden) -> None:
    """A bare bundle's name is its id; which runtime started it is known, its image is not."""
    govern(engine, warden)
    ended = engine.run("limits").check()
    container = warden.audit(event="applied")[0]["container"]
    assert (container["engine"], container["runtime"], container["name"], container["image"]) == (
        "bare",
        engine.name,
        ended.id,
        None,
    )


@pytest.mark.parametrize("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_sysctls_of_others_pass(engine: Engine, warden: Warden) -> None:
    """podman's own default sysctl, which it adds itself, and every other that is not ours pass untouched."""
    govern(engine, warden)
    look = ["cat", "/proc/sys/net/ipv4/ping_group_range", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]
    ended = engine.run(*look, sysctl={"net.ipv4.ip_unprivileged_port_start": "80"})
    assert ended.check().stdout.split() == ["0", "0", "80"]  # the kernel's own are 1 0 and 1024
    assert warden.audit(event="applied")[0]["violations"] == []


@pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
@pytest.mark.parametrize(
    "sysctl",
    ['{"kernel/shmmax": "68719476736"}', '{"kernel.shmmax": "0x1000000000"}', '{"kernel.shmmax": "01000000000000"}'],
)
def test_no_spelling_gets_around_the_bounds(engine: Engine, warden: Warden, sysctl: str) -> None:
    """Spellings that runtime and kernel accept are refused, or judged as what they mean."""
    govern(engine, warden)
    ended = engine.run("limits", sysctl=sysctl)
    assert ended.code != 0
    assert "kernel.shmmax " not in ended.stdout


@pytest.mark.parametrize("engine", ["runc"], indirect=True)
def test_letter_case_gets_around_nothing(engine: Engine, warden: Warden) -> None:
    """runc obeys `Linux` and `Sysctl`: the container does not start."""
    govern(engine, warden)
    ended = engine.run("limits", members='"Linux": {"Sysctl": {"kernel.shmmax": "68719476736"}}')
    assert ended.code != 0
    assert "kernel.shmmax " not in ended.stdout


@pytest.mark.parametrize("engine", ["runc", "crun"], indirect=True)
def test_explain_is_what_happens(engine: Engine, warden: Warden) -> None:
    """`explain` says beforehand what creation then decides, and changes nothing."""
    govern(engine, warden, on_violation="clamp")
    bundle = engine.bundle("limits", sysctl={"kernel.shmmax": "68719476736"})  # type: ignore[attr-defined]
    explained = warden.explain(bundle)
    assert warden.pins() == warden.ledger() == warden.audit(event="applied") == []
    engine.runtime.run(bundle, bundle.name).check()  # type: ignore[attr-defined]
    [record] = warden.audit(event="applied")
    assert {key: explained[key] for key in ("rule", "profile", "mode", "decision", "violations")} == {
        key: record[key] for key in ("rule", "profile", "mode", "decision", "violations")
    }
    assert [(s["name"], s["wanted"], s["why"]) for s in explained["sysctls"]] == [
        (s["name"], s["wanted"], s["why"]) for s in record["sysctls"]
    ]


def test_a_memory_limit_is_what_percentages_are_of(engine: Engine, warden: Warden) -> None:
    """`50% of memory` is half of the container's limit, in pages."""
    warden.compile(
        "version: 1\nprofiles: {half: {sysctls: {kernel.shmall: {max: 50% of memory}}}}\n"
        "rules: [{name: all, profile: half}]\n"
    )
    engine.govern(warden)
    ended = engine.run("limits", memory=256 * MIB)
    assert namespace.values(ended.check().stdout)["kernel.shmall"] == str(128 * MIB // 4096)
