"""The tests' own tools do what the tests take for granted: every engine runs every kind of container, ungoverned."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import namespace, residue
from support.cri import CriError
from support.daemon import program
from support.engine import but
from support.shell import run, until

if TYPE_CHECKING:
    from support.cri import Cri
    from support.docker import DockerEngine
    from support.engine import BareEngine, Engine, PodmanEngine

LEAVE = ["leave", "--shm=1", "--shm-size=1048576", "--sem=2", "--msg=1", "--msg-count=3", "--mqueue=1"]
MADE = "made shm=1 sem=2 msg=1 mqueue=1"

only = pytest.mark.parametrize
_NATIVE = ("native-runc", "native-crun")  # nothing but runc and crun, as long as nobody governs
every = only("engine", but(*_NATIVE), indirect=True)
podmans = only("engine", ["podman-runc", "podman-crun", "rootless-runc", "rootless-crun"], indirect=True)
with_userns = only("engine", but("docker", *_NATIVE), indirect=True)


@every
def test_private_namespace_has_the_requested_value(engine: Engine) -> None:
    """A sysctl that a container asks for is there when its first process starts."""
    ended = engine.run("limits", sysctl={"kernel.msgmax": "4321"})
    assert namespace.values(ended.check().stdout)["kernel.msgmax"] == "4321"


@every
def test_limits_prints_every_governed_name(engine: Engine) -> None:
    """A container sees the eight names of kernel and the five of fs.mqueue."""
    names = namespace.values(engine.run("limits").check().stdout)
    assert len(names) == 13


@with_userns
def test_user_namespace_has_the_requested_value(engine: Engine) -> None:
    """A sysctl that a container with a user namespace asks for is there."""
    ended = engine.run("limits", userns=True, sysctl={"kernel.shmmni": "77"})
    assert namespace.values(ended.check().stdout)["kernel.shmmni"] == "77"


@with_userns
def test_user_namespace_has_the_promised_ids(engine: Engine) -> None:
    """Root of a container with a user namespace is the first id that the engine may give away."""
    container = engine.start("leave", "--wait", userns=True)
    container.wait_for("made")
    assert Path(f"/proc/{container.pid}").stat().st_uid == engine.first_id


@every
def test_joiner_sees_the_owner_s_value(engine: Engine) -> None:
    """A container that joins another's namespace has its limits."""
    owner = engine.start("leave", "--wait", sysctl={"kernel.msgmnb": "5432"})
    ended = engine.run("limits", ipc=owner.ipc)
    assert namespace.values(ended.check().stdout)["kernel.msgmnb"] == "5432"


@every
def test_joiner_s_process_is_a_member(engine: Engine) -> None:
    """A container that joins another's namespace is in it."""
    owner = engine.start("leave", "--wait")
    joiner = engine.start("leave", "--wait", ipc=owner.ipc)
    assert set(namespace.members(owner.namespace)) >= {owner.pid, joiner.pid}


@every
def test_host_namespace_is_the_machine_s(engine: Engine) -> None:
    """A container without an IPC namespace of its own is in the host's."""
    container = engine.start("leave", "--wait", ipc="host")
    assert os.path.samestat(container.namespace.stat(), residue.OURS.stat())


@only("userns", [False, True])
@with_userns
def test_leave_makes_objects_of_all_kinds(engine: Engine, userns: bool) -> None:
    """The objects that a payload says it made are in its namespace."""
    container = engine.start(*LEAVE, "--wait", userns=userns)
    container.wait_for(MADE)
    assert namespace.counts(container.namespace) == {"shm": 1, "sem": 2, "msg": 1, "mqueue": 1}


@every
def test_leave_makes_objects_in_a_joined_namespace(engine: Engine) -> None:
    """The objects of a joiner are in its host's namespace, and stay there after it."""
    owner = engine.start("leave", "--wait")
    engine.run(*LEAVE, ipc=owner.ipc).check()
    assert namespace.counts(owner.namespace) == {"shm": 1, "sem": 2, "msg": 1, "mqueue": 1}


@every
def test_leave_makes_queues_with_hostile_names(engine: Engine) -> None:
    """A queue's name may hold a newline, an escape and bytes that are not UTF-8."""
    name = b"a\n\x1b[31m\xff"
    container = engine.start("leave", "--mqueue=1", f"--mqueue-hex={name.hex()}", "--wait")
    container.wait_for("made")
    assert namespace.queues(container.namespace) == [os.fsdecode(name)]


@every
def test_leave_fails_when_a_queue_cannot_be_made(engine: Engine) -> None:
    """A payload that could not leave what it was told to says so and fails."""
    ended = engine.run("leave", "--mqueue=2", sysctl={"fs.mqueue.queues_max": "1"})
    assert (ended.code, "mq_open" in ended.stderr) == (1, True)


@every
def test_proc_sys_is_read_only(engine: Engine) -> None:
    """A container cannot write its own limits."""
    assert engine.run("sh", "-c", "echo 77 > /proc/sys/kernel/msgmax").code != 0


@every
def test_proc_sys_is_writable_on_demand(engine: Engine) -> None:
    """A container with a writable /proc/sys can."""
    ended = engine.run(
        "sh", "-c", "echo 77 > /proc/sys/kernel/msgmax && cat /proc/sys/kernel/msgmax", writable_proc_sys=True
    )
    assert ended.check().stdout == "77\n"


@only("engine", but("rootless-runc", "rootless-crun", *_NATIVE), indirect=True)
def test_memory_limit_holds(engine: Engine) -> None:
    """A container that touches more memory than its limit is killed."""
    assert engine.run("leave", "--shm=1", "--shm-size=67108864", memory=16 << 20).code != 0


@only("engine", but("docker", *_NATIVE), indirect=True)
def test_annotations_arrive(engine: Engine) -> None:
    """An annotation does not keep a container from running."""
    assert engine.run("true", annotations={"org.example/team": "db"}).code == 0


@every
def test_program_runs_inside_a_running_container(engine: Engine) -> None:
    """A program can be run in a container that is there."""
    container = engine.start("leave", "--wait", sysctl={"kernel.msgmax": "4321"})
    assert container.execute("cat", "/proc/sys/kernel/msgmax").check().stdout == "4321\n"


@every
def test_ended_container_has_its_id(engine: Engine) -> None:
    """The id of a container that came and went is known."""
    assert re.fullmatch(r"[0-9a-f]{64}|(runc|crun|ctr)-\d+", engine.run("true").id)


@only("engine", ["runc", "crun"], indirect=True)
def test_stopped_container_is_not_deleted(engine: BareEngine) -> None:
    """A runtime still knows a container that was stopped."""
    container = engine.start("leave", "--wait")
    container.stop()
    state = engine.runtime.state(container.id)
    assert state is not None
    assert state["status"] == "stopped"


@every
def test_removed_container_has_no_process(engine: Engine) -> None:
    """A container's processes are gone once it is removed."""
    container = engine.start("leave", "--wait")
    pid = container.pid
    container.remove()
    assert not Path(f"/proc/{pid}").exists()


@only("engine", ["runc", "crun"], indirect=True)
def test_bundle_keeps_raw_text(engine: BareEngine) -> None:
    """Spellings that no JSON library writes reach config.json."""
    bundle = engine.bundle("true", sysctl='{"kernel.msgmax": "1", "kernel.msgmax": "0x2"}', members='"Linux": {}')
    text = (bundle / "config.json").read_text()
    assert text.count('"kernel.msgmax"') == 2
    assert json.loads(text)["Linux"] == {}


@podmans
def test_podman_uses_the_runtime_of_its_name(engine: PodmanEngine) -> None:
    """Containers of podman run with the runtime that the test asked for."""
    container = engine.start("leave", "--wait")
    assert engine.podman.inspect(container.id)["OCIRuntime"] == engine.podman.runtime


@podmans
def test_pod_s_member_sees_the_pod_s_value(engine: PodmanEngine) -> None:
    """A member of a pod is in the IPC namespace of its infra container, which has the pod's sysctls."""
    with engine.pod("--sysctl=kernel.msgmax=4321") as pod:
        member = engine.start("leave", "--wait", flags=[f"--pod={pod}"])
        infra = engine.podman.inspect(engine.podman.infra(pod))["State"]["Pid"]
        assert namespace.limits(member.namespace)["kernel.msgmax"] == "4321"
        assert set(namespace.members(member.namespace)) >= {infra, member.pid}


@only("engine", ["podman-runc", "podman-crun"], indirect=True)
def test_podman_gives_ids_away_by_itself(engine: PodmanEngine) -> None:
    """A container with automatic ids has root's process under an id that is nobody else's."""
    container = engine.start("leave", "--wait", flags=["--userns=auto"])
    container.wait_for("made")
    assert Path(f"/proc/{container.pid}").stat().st_uid >= 400_000


@only("engine", ["rootless-runc", "rootless-crun"], indirect=True)
def test_rootless_podman_is_an_ordinary_user_s(engine: PodmanEngine) -> None:
    """What an ordinary user starts runs as that user."""
    container = engine.start("leave", "--wait")
    container.wait_for("made")
    uid = Path(f"/proc/{container.pid}").stat().st_uid
    assert engine.podman.user is not None
    assert uid == engine.podman.user.uid != 0


@only("engine", ["docker"], indirect=True)
def test_docker_reads_its_configuration_again(engine: DockerEngine) -> None:
    """A default runtime that is put into daemon.json is there once dockerd was told, and gone after the test."""
    settings = json.loads(engine.docker.config.read_text())
    other = {"runtimes": {"other": {"path": program("crun")}}, "default-runtime": "other"}
    engine.docker.config.write_text(json.dumps({**settings, **other}))
    engine.docker.reload()
    container = engine.start("leave", "--wait")
    assert engine.docker.inspect(container.id)["HostConfig"]["Runtime"] == "other"
    engine.close()
    assert json.loads(engine.docker.config.read_text()) == settings
    assert "other" not in engine.docker("info").check().stdout


def test_container_of_a_pod_sees_the_pod_s_value(cri: Cri) -> None:
    """What a pod asks for is there when a container of it starts."""
    ended = cri.pod(sysctl={"kernel.msgmax": "4321"}).run("limits")
    assert namespace.values(ended.check().stdout)["kernel.msgmax"] == "4321"


def test_containers_of_a_pod_share_a_namespace(cri: Cri) -> None:
    """What one container of a pod leaves, the other sees."""
    pod = cri.pod()
    one = pod.start(*LEAVE, "--wait")
    one.wait_for(MADE)
    other = pod.start("leave", "--wait")
    assert namespace.counts(other.namespace) == {"shm": 1, "sem": 2, "msg": 1, "mqueue": 1}
    assert set(namespace.members(pod.namespace)) >= {pod.pid, one.pid, other.pid}


def test_pod_outlives_its_containers(cri: Cri) -> None:
    """A container that ended can be followed by another one in the same namespace."""
    pod = cri.pod()
    first = pod.start(*LEAVE, "--wait")
    first.wait_for(MADE)
    first.stop()
    first.remove()
    assert namespace.counts(pod.start("leave", "--wait").namespace) == {"shm": 1, "sem": 2, "msg": 1, "mqueue": 1}


def test_removed_pod_has_no_process(cri: Cri) -> None:
    """The sandbox of a pod and its containers are gone once it is removed, and again is no error."""
    pod = cri.pod()
    container = pod.start("leave", "--wait")
    pids = [pod.pid, container.pid]
    pod.remove()
    pod.remove()
    container.remove()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_pod_in_the_host_s_namespace(cri: Cri) -> None:
    """A pod with hostIPC has no IPC namespace of its own, and neither have its containers."""
    pod = cri.pod(ipc="host")
    assert os.path.samestat(pod.start("leave", "--wait").namespace.stat(), residue.OURS.stat())


def test_container_of_a_pod_has_a_memory_limit(cri: Cri) -> None:
    """A container of a pod that touches more memory than its limit is killed."""
    ended = cri.pod().run("leave", "--shm=1", "--shm-size=67108864", memory=16 << 20)
    assert ended.code != 0


def test_pod_has_a_memory_limit(cri: Cri) -> None:
    """A container of a pod that touches more memory than the pod's limit is killed."""
    ended = cri.pod(memory=32 << 20).run("leave", "--shm=1", "--shm-size=67108864")
    assert ended.code != 0


def test_annotations_of_a_pod_arrive(cri: Cri) -> None:
    """Annotations that containerd's configuration names reach config.json, and so do limits of the pod's memory."""
    annotations = cri.pod(annotations={"org.example/team": "db"}, memory=32 << 20).info["runtimeSpec"]["annotations"]
    assert annotations["org.example/team"] == "db"
    assert annotations["io.kubernetes.cri.sandbox-memory"] == str(32 << 20)


def test_container_of_a_pod_may_have_a_writable_proc_sys(cri: Cri) -> None:
    """A container of a pod cannot write its own limits, but for one that may."""
    command = ("sh", "-c", "echo 77 > /proc/sys/kernel/msgmax")
    pod = cri.pod()
    assert pod.run(*command).code != 0
    assert pod.run(*command, writable_proc_sys=True).code == 0


def test_program_runs_inside_a_container_of_a_pod(cri: Cri) -> None:
    """A program can be run in a container of a pod, and its exit code comes back."""
    container = cri.pod(sysctl={"kernel.msgmax": "4321"}).start("leave", "--wait")
    done = container.execute("sh", "-c", "cat /proc/sys/kernel/msgmax; exit 3")
    assert (done.stdout, done.code) == ("4321\n", 3)


def test_pod_that_cannot_run_says_why(cri: Cri) -> None:
    """What the runtime refuses is told to whoever asked for it."""
    with pytest.raises(CriError, match=r"kernel\.nonsense"):
        cri.pod(sysctl={"kernel.nonsense": "1"})


def test_pod_names_its_handler(cri: Cri) -> None:
    """A pod gets the runtime that containerd's configuration has under the name that it gives."""
    table = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other'
    with cri.containerd.config.open("a") as config:
        config.write(f'{table}]\nruntime_type = "io.containerd.runc.v2"\n')
        config.write(f'{table}.options]\nBinaryName = "{program("crun")}"\n')
    cri.restart()
    pod = cri.pod(handler="other")
    assert pod.info["runtimeOptions"]["binary_name"] == program("crun")
    assert pod.run("true").code == 0


def test_pods_survive_a_restart_of_containerd(cri: Cri) -> None:
    """A restart, as a change of its configuration needs, leaves pods alone."""
    pod = cri.pod()
    pid = pod.pid
    cri.restart()
    assert pod.pid == pid
    assert pod.run("true").code == 0


def test_host_s_pid_1_has_the_tests_mounts() -> None:
    """A hook that looks for the host's mounts at process 1 finds the tests'."""
    assert os.path.samestat(Path("/proc/1/ns/mnt").stat(), Path("/proc/self/ns/mnt").stat())


def test_residue_tells_of_a_process() -> None:
    """The check that nothing is left sees a process that was not there before."""
    before = residue.look()
    with subprocess.Popen(["sleep", "60"]) as process:
        told = f"processes: left behind: {process.pid} sleep 60"
        try:
            until(lambda: told in residue.look().beside(before), told)
        finally:
            process.kill()


def test_residue_tells_of_a_pin(scratch: Path) -> None:
    """The check that nothing is left sees a namespace that stayed mounted."""
    pin = scratch / "pin"
    pin.touch()
    before = residue.look()
    run("mount", "--bind", residue.OURS, pin).check()
    after = residue.look()
    run("umount", pin).check()
    assert re.search(rf"^mounts: left behind: .* {pin} .* nsfs", "\n".join(after.beside(before)), re.MULTILINE)
