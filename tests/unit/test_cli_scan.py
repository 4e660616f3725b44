"""`ipcwarden scan` without namespaces: which processes make which containers, and what a policy would mean for them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.cli import candidate, census, judgement
from ipcwarden.cli.processes import Claim, Process, container_in, processes, runtimes_claims
from ipcwarden.core.plan import Limit, Plan, Violation
from ipcwarden.errors import PolicyError
from ipcwarden.host.procfs import started

if TYPE_CHECKING:
    from pathlib import Path

    from ipcwarden.cli.census import Household

HOST, ONE, TWO = (4, 1), (4, 101), (4, 102)
ID, OTHER = "a1" * 32, "b2" * 32


def process(pid: int, parent: int, namespace: tuple[int, int] = HOST, **more: Any) -> Process:
    """Return a process that is older than those of higher pids."""
    return Process(**{"start": pid, "uid": 0, "command": "sleep", **more}, pid=pid, parent=parent, namespace=namespace)


def monitor(pid: int, command: str, *arguments: str, **more: Any) -> Process:
    """Return a process that starts containers."""
    return process(pid, 1, command=command, arguments=(command, *arguments), **more)


def take(*found: Process, claims: dict[int, Claim] | None = None) -> dict[tuple[int, int], Household]:
    """Return namespaces by place; process 1 is always there."""
    return {each.place: each for each in census.take([process(1, 0), *found], [HOST], claims or {})}


def test_the_host_comes_first() -> None:
    """Whatever else is older."""
    found = census.take([process(3, 0, ONE), process(7, 0)], [HOST], {})
    assert [(each.place, each.hosts) for each in found] == [(HOST, True), (ONE, False)]


def test_a_stranger_is_no_container() -> None:
    """A namespace that somebody has made for himself has processes, and nobody that is known."""
    found = take(process(5, 1, ONE), process(6, 5, ONE))
    assert (found[ONE].processes, found[ONE].residents) == (2, [])
    assert [each.pid for each in found[ONE].strangers] == [5, 6]


def test_processes_of_the_host_are_no_strangers() -> None:
    """They are at home."""
    assert take(process(5, 1))[HOST].strangers == []


@pytest.mark.parametrize(
    ("parent", "container", "bundle", "runtime"),
    [
        (monitor(2, "conmon", "-c", ID, "-b", "/b", "-r", "/usr/bin/crun", "-n", "x"), ID, "/b", "crun"),
        (monitor(2, "conmon", "--cid", ID, "--bundle", "/b", "--runtime", "/usr/sbin/runc"), ID, "/b", "runc"),
        (monitor(2, "conmon", f"--cid={ID}", "--bundle=/b", "--runtime=/x/crun"), ID, "/b", "crun"),
        (monitor(2, "containerd-shim", "-namespace", "k", "-id", "web", directory="/t/k/web"), "web", "/t/k/web", ""),
        (monitor(2, "runc", "--root", "/r", "run", "--bundle", "/b", "web"), "web", "/b", "runc"),
        (monitor(2, "crun", "run", "-b", "b", "web", directory="/srv"), "web", "/srv/b", "crun"),
        (monitor(2, "crun", "run", "web", directory="/srv"), "web", "/srv", "crun"),
        (monitor(2, "runc", "restore", "web"), "", "", "runc"),
    ],
)
def test_a_monitors_command_line_tells(parent: Process, container: str, bundle: str, runtime: str) -> None:
    """Whose child the first process is says which container it is, where it lies and what runs it."""
    [resident] = take(parent, process(5, 2, ONE), process(6, 5, ONE))[ONE].residents
    assert (resident.container, resident.bundle, resident.runtime, resident.pid) == (container, bundle, runtime, 5)


def test_a_pods_containers_share_a_shim() -> None:
    """Each is told by its cgroup; their bundles lie beside the sandbox's, where the shim was started."""
    shim = monitor(2, "containerd-shim", "-id", ID, directory=f"/t/k8s.io/{ID}")
    found = take(shim, process(5, 2, ONE, container=ID), process(6, 2, ONE, container=OTHER))
    assert [(each.container, each.bundle) for each in found[ONE].residents] == [
        (ID, f"/t/k8s.io/{ID}"),
        (OTHER, f"/t/k8s.io/{OTHER}"),
    ]


def test_what_is_executed_in_a_container_belongs_to_it() -> None:
    """By its cgroup, by the id that its monitor was given, or by that of a known container."""
    claims = {5: Claim("web", "/b", "runc")}
    podman = take(
        monitor(2, "conmon", "-c", ID, "-b", "/b", "-r", "crun"),
        process(5, 2, ONE),
        monitor(8, "conmon", "-c", ID, "-b", "/exec", "-r", "crun", "-e"),
        process(9, 8, ONE),
    )
    bare = take(process(5, 1, ONE), monitor(8, "runc", "exec", "web", "sh"), process(9, 8, ONE), claims=claims)
    for found in (podman, bare):
        assert [each.pid for each in found[ONE].residents] == [5]
        assert found[ONE].strangers == []
    assert podman[ONE].residents[0].bundle == "/b"


def test_what_is_executed_in_an_unknown_container_is_a_stranger() -> None:
    """runc's command line alone does not tell which of its words is the id."""
    found = take(monitor(8, "runc", "exec", "web", "sh"), process(9, 8, ONE))
    assert (found[ONE].residents, [each.pid for each in found[ONE].strangers]) == ([], [9])


def test_a_record_of_roots_tells_most() -> None:
    """Where there is one it counts, and not what the monitor was called with."""
    claims = {5: Claim("web", "/ours", "runc")}
    [resident] = take(monitor(2, "conmon", "-c", ID, "-b", "/b"), process(5, 2, ONE), claims=claims)[ONE].residents
    assert (resident.container, resident.bundle, resident.runtime) == ("web", "/ours", "runc")


def test_one_id_of_two_roots_is_two_containers() -> None:
    """Where people choose ids, only the bundle tells them apart."""
    claims = {5: Claim("web", "/a", "runc"), 6: Claim("web", "/b", "runc")}
    found = take(process(5, 1, ONE), process(6, 1, TWO), claims=claims)
    assert [found[place].residents[0].bundle for place in (ONE, TWO)] == ["/a", "/b"]


def test_the_oldest_process_is_the_container() -> None:
    """What was executed in it later, and has another namespace, is nested."""
    found = take(process(5, 1, ONE, container=ID), process(6, 5, ONE, container=ID), process(7, 6, TWO, container=ID))
    [resident] = found[ONE].residents
    assert found[TWO].nested == [(resident, process(7, 6, TWO, container=ID))]
    assert (found[TWO].residents, found[TWO].strangers) == ([], [])


def test_a_container_in_the_hosts_namespace_lives_there() -> None:
    """It is the host's guest; what it makes for itself is nested."""
    found = take(process(5, 1, container=ID), process(6, 5, ONE, container=ID))
    assert [each.container for each in found[HOST].residents] == [ID]
    assert [of.container for of, _ in found[ONE].nested] == [ID]


def test_an_engine_in_a_container_is_the_containers() -> None:
    """A monitor that is in a container's namespace starts nothing on this host."""
    inner = process(6, 5, ONE, command="conmon", arguments=("conmon", "-c", OTHER, "-b", "/etc"), container=ID)
    found = take(process(5, 1, ONE, container=ID), inner, process(7, 6, TWO, container=ID))
    assert [each.container for each in found[ONE].residents] == [ID]
    assert [of.container for of, _ in found[TWO].nested] == [ID]


def test_an_ordinary_users_monitor_is_rootless() -> None:
    """Root's is not; without either nobody knows."""
    found = [
        take(monitor(2, "conmon", "-c", ID, uid=uid), process(5, 2, ONE, container=ID))[ONE].residents[0].rootless
        for uid in (1000, 0)
    ]
    assert found == [True, False]
    assert take(process(5, 1, ONE, container=ID))[ONE].residents[0].rootless is None
    assert take(process(5, 1, ONE), claims={5: Claim("web", "/b")})[ONE].residents[0].rootless is False


def test_monitors_are_of_no_container() -> None:
    """Even where their cgroup is the container's."""
    found = take(monitor(2, "conmon", "-c", ID, container=ID), process(5, 2, ONE, container=ID))
    assert (found[HOST].residents, len(found[ONE].residents)) == ([], 1)


def test_pids_that_were_used_again_end_nothing() -> None:
    """Two processes that look like each other's children are strangers."""
    assert len(take(process(5, 6, ONE), process(6, 5, ONE))[ONE].strangers) == 2


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"0::/machine.slice/libpod-{ID}.scope/container", ID),
        (f"0::/libpod_parent/libpod-{ID}", ID),
        (f"0::/libpod_parent/{OTHER}/libpod-{ID}", ID),
        (f"0::/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope", ID),
        (f"0::/machine.slice/libpod-conmon-{ID}.scope", ""),
        (f"0::/libpod_parent/conmon/{ID}", ""),
        (f"0::/system.slice/docker-{ID}.scope", ID),
        (f"12:memory:/docker/{ID}\n0::/", ID),
        (f"0::/docker/{ID}/docker/{OTHER}", ID),
        (f"0::/kubepods.slice/kubepods-pod1234.slice/cri-containerd-{ID}.scope", ID),
        (f"0::/kubepods/besteffort/pod1234/{ID}", ID),
        (f"0::/kubepods.slice/crio-{ID}.scope", ID),
        (f"0::/kubepods.slice/crio-conmon-{ID}.scope", ""),
        (f"0::/user.slice/{ID}x", ""),
        ("0::/", ""),
        ("", ""),
    ],
)
def test_a_cgroup_names_the_outermost_container(path: str, found: str) -> None:
    """As podman, Docker, containerd and CRI-O name theirs, under cgroupfs and systemd."""
    assert container_in(path) == found


def test_we_are_a_process() -> None:
    """What is read of /proc is so."""
    [us] = [each for each in processes() if each.pid == os.getpid()]
    there = os.stat("/proc/self/ns/ipc")
    assert (us.parent, us.uid, us.start) == (os.getppid(), os.geteuid(), started(os.getpid()))
    assert us.namespace == (there.st_dev, there.st_ino)


@pytest.fixture
def state(tmp_path: Path) -> dict[str, Any]:
    """Return where a runtime's record lies, and a right one of our own process."""
    tmp_path.chmod(0o755)
    return {"init_process_pid": os.getpid(), "init_process_start": started(os.getpid()), "config": {"labels": []}}


@pytest.mark.parametrize(
    "directory", ["run/runc/web", "run/containerd/runc/k8s.io/web", "run/docker/runtime-runc/moby/web"]
)
def test_runc_tells_what_it_runs(tmp_path: Path, state: dict[str, Any], directory: str) -> None:
    """By the first process, with the bundle among its labels."""
    file = tmp_path / directory / "state.json"
    file.parent.mkdir(parents=True)
    state["config"]["labels"] = ["a=b", "bundle=/srv/web"]
    file.write_text(json.dumps(state))
    assert runtimes_claims(str(tmp_path)) == {os.getpid(): Claim("web", "/srv/web", "runc")}


def test_crun_tells_what_it_runs(tmp_path: Path) -> None:
    """In a file of its own form."""
    file = tmp_path / "run" / "crun" / "web" / "status"
    file.parent.mkdir(parents=True)
    pid = os.getpid()
    file.write_text(json.dumps({"pid": pid, "process-start-time": started(pid), "bundle": "/srv/web"}))
    assert runtimes_claims(str(tmp_path)) == {pid: Claim("web", "/srv/web", "crun")}


@pytest.mark.parametrize(
    "changes",
    [{"init_process_start": 1}, {"init_process_pid": 0}, {"init_process_pid": "x"}, {"init_process_start": None}],
)
def test_a_record_of_another_process_tells_nothing(
    tmp_path: Path, state: dict[str, Any], changes: dict[str, Any]
) -> None:
    """A pid that is somebody else's by now is nobody's claim."""
    file = tmp_path / "run" / "runc" / "web" / "state.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**state, **changes}))
    assert runtimes_claims(str(tmp_path)) == {}


def test_a_record_that_others_can_write_tells_nothing(tmp_path: Path, state: dict[str, Any]) -> None:
    """Nor does one that is no JSON."""
    for name, content, mode in (("web", json.dumps(state), 0o666), ("db", "{", 0o644)):
        file = tmp_path / "run" / "runc" / name / "state.json"
        file.parent.mkdir(parents=True)
        file.write_text(content)
        file.chmod(mode)
    assert runtimes_claims(str(tmp_path)) == {}


def plan(decision: str = "accepted", **wanted: int) -> Plan:
    """Return a plan for some limits."""
    limits = tuple(Limit(name.replace("__", "."), None, number, "set") for name, number in wanted.items())
    violations = () if decision == "accepted" else (Violation("kernel.shmmax", "5", None, 4, "bound"),)
    return Plan(decision, limits, violations)


@pytest.mark.parametrize(
    ("decision", "used", "verdict", "excess"),
    [
        ("accepted", 4, "fits", []),
        ("accepted", 5, "in-use", [("kernel.shmmni", 5, 4)]),
        ("clamped", 5, "clamped", [("kernel.shmmni", 5, 4)]),
        ("refused", 0, "refused", []),
    ],
)
def test_the_worst_is_the_verdict(decision: str, used: int, verdict: str, excess: list[Any]) -> None:
    """What is in use above the new limit is told in any case."""
    judged = judgement.judge(plan(decision, kernel__shmmni=4), "enforcing", {"kernel.shmmni": used})
    assert judged.verdict == verdict
    assert [(each.name, each.used, each.wanted) for each in judged.excess] == excess
    assert judged.hurts is (verdict != "fits")
    assert not judgement.judge(plan(decision, kernel__shmmni=4), "permissive", {"kernel.shmmni": used}).hurts


def test_every_verdict_has_words() -> None:
    """Those that hurt are among them."""
    assert set(judgement.HURTING) < judgement.VERDICTS.keys()


def test_use_is_what_the_kernel_counts_for_each_limit() -> None:
    """Sums and counts for what a namespace may have, the largest for what one object may be."""
    objects: list[dict[str, Any]] = [
        {"kind": "shm", "size": 5000, "claimed": 8192},
        {"kind": "shm", "size": 9000, "claimed": 12288},
        {"kind": "sem", "nsems": 3},
        {"kind": "sem", "nsems": 4},
        {"kind": "msg", "usedbytes": 16},
        {"kind": "msg", "usedbytes": 7},
        {"kind": "mqueue", "maxmsg": 10, "msgsize": 128},
        {"kind": "mqueue", "maxmsg": 4, "msgsize": 8192},
    ]
    assert judgement.in_use(objects, 4096) == {
        "kernel.shmall": 5,
        "kernel.shmmax": 9000,
        "kernel.shmmni": 2,
        "kernel.sem.semmsl": 4,
        "kernel.sem.semmns": 7,
        "kernel.sem.semmni": 2,
        "kernel.msgmnb": 16,
        "kernel.msgmni": 2,
        "fs.mqueue.queues_max": 2,
        "fs.mqueue.msg_max": 10,
        "fs.mqueue.msgsize_max": 8192,
    }
    assert set(judgement.in_use([], 4096).values()) == {0}


def test_without_a_path_the_policy_in_force_judges(tmp_path: Path) -> None:
    """Which may be none."""
    tmp_path.chmod(0o755)
    assert candidate.policy(str(tmp_path), None) is None


def test_a_candidate_has_the_digest_that_it_would_have_in_force(tmp_path: Path) -> None:
    """So that the log's records can be told from it later."""
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nrules: [{name: all, profile: baseline}]\n")
    one, other = candidate.policy(str(tmp_path), str(file)), candidate.policy(str(tmp_path), str(tmp_path))
    assert one is not None
    assert other is not None
    assert len(one.digest) >= 12
    assert one.digest == other.digest


@pytest.mark.parametrize("content", [None, "version: 2\n", "rules: [", "version: 1\nrules: [{name: a, profile: b}]\n"])
def test_what_is_no_policy_judges_nothing(tmp_path: Path, content: str | None) -> None:
    """A directory without policy.yaml, and one with errors in it."""
    if content is not None:
        (tmp_path / "policy.yaml").write_text(content)
    with pytest.raises(PolicyError):
        candidate.policy(str(tmp_path), str(tmp_path))
