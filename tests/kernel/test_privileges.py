"""Least privilege: what each stage needs is what it keeps, and both ways of dropping come to the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import namespace
from support.bundle import FIRST_ID, PAYLOADS
from support.sandbox import HOOK, PYTHON, SLOW_TO_SEE, hunt, profile, put_in_force
from support.shell import REPOSITORY, run, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sandbox import Container
    from support.shell import Result

CREATE = {"sys_ptrace", "sys_admin", "setuid", "dac_read_search"}
POSTSTART = {"sys_ptrace", "sys_admin", "setuid"}
POSTSTOP = {"sys_ptrace", "sys_admin", "dac_override", "setuid", "setgid", "ipc_owner"}


def hook(container: Container, stage: str, capabilities: set[str], *before: str) -> Result:
    """Run a hook in whose reach there are no other capabilities."""
    reach = "-all" + "".join(f",+{name}" for name in sorted(capabilities))
    status = {"poststop": "stopped", "poststart": "created"}.get(stage, "creating")
    command = ["setpriv", f"--bounding-set={reach}", "--inh-caps=-all", "--", *before, PYTHON, "-I", "-S", str(HOOK)]
    return run(*command, "--root", container.root, stage, stdin=container.state(status))


def hide(container: Container) -> None:
    """Give the bundle to the container's root, as podman does with a user namespace."""
    os.chown(container.bundle, FIRST_ID, FIRST_ID)
    container.bundle.chmod(0o700)


def overrule(container: Container) -> None:
    """Change a limit as a runtime would."""
    pid = str(container.process.pid)
    write = "echo 5 >/proc/sys/kernel/shmmax"
    run("nsenter", "-t", pid, "-U", "-i", "-S", "0", "-G", "0", "sh", "-c", write).check()


def test_creation_needs_no_more(start: Callable[..., Container]) -> None:
    """The stage's set is enough for a container in a user namespace whose bundle is its own."""
    container = start(userns=True)
    hide(container)
    hook(container, "createRuntime", CREATE).check()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == "67108864"


@pytest.mark.parametrize("missing", sorted(CREATE))
def test_creation_needs_no_less(start: Callable[..., Container], missing: str) -> None:
    """Without any one of the set it fails, with nothing left."""
    # Whoever made a user namespace may look into its processes without sys_ptrace.
    container = start(userns=missing != "sys_ptrace")
    hide(container)
    assert hook(container, "createRuntime", CREATE - {missing}).code in (65, 69, 71)
    assert container.pins() == container.entries() == []


@pytest.mark.parametrize("missing", ["", "setuid", "sys_admin"])
def test_poststart(start: Callable[..., Container], missing: str) -> None:
    """To put right what a user namespace owns it takes the stage's set, and no less."""
    container = start(userns=True)
    container.create().check()
    overrule(container)
    result = hook(container, "poststart", POSTSTART - {missing})
    assert (result.code == 0) is (missing == "")
    assert (namespace.limits(container.namespace)["kernel.shmmax"] == "67108864") is (missing == "")


@pytest.mark.parametrize("missing", ["", "sys_ptrace"])
def test_poststart_of_a_joiner_without_a_rule(
    container: Container, start: Callable[..., Container], root: Path, missing: str
) -> None:
    """To keep the owner's limits from a joiner that is not governed it takes sys_ptrace: there is no pin to it."""
    container.create().check()
    joiner = start(ipc=str(container.namespace))
    put_in_force(root, when=[("name", ("nobody",))])
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 5 >/proc/sys/kernel/shmmax").check()
    result = hook(joiner, "poststart", POSTSTART - {missing})
    assert (result.code == 0) is (missing == "")
    assert (namespace.limits(container.namespace)["kernel.shmmax"] == "67108864") is (missing == "")


@pytest.mark.parametrize("missing", ["", "dac_override", "sys_admin"])
def test_poststop(container: Container, missing: str) -> None:
    """To count another's queue of mode 0 it takes the stage's set, and no less."""
    container.create().check()
    pid = str(container.process.pid)
    leave = [str(PAYLOADS / "leave"), "--mqueue=1", "--mode=0"]
    run("nsenter", "-t", pid, "-i", "-S", "1000", "-G", "1000", *leave).check()
    container.kill()
    result = hook(container, "poststop", POSTSTOP - {missing})
    assert (result.code == 0) is (missing != "sys_admin")
    if missing == "sys_admin":
        assert len(container.pins()) == 1  # nothing is lost: gc will try
    else:
        [queue] = container.records()[-1]["objects"]
        assert ("msgs" in queue) is (missing == "")


def members(start: Callable[..., Container], root: Path) -> tuple[Container, Container]:
    """Start two containers in one namespace, of which one has ended and left another user's array."""
    put_in_force(root, profile(leftovers="remove", reap=({"kind": "sem", "age": 0},)))
    stays = start(own_pids=True)
    stays.create().check()
    goes = start(ipc=str(stays.namespace), own_pids=True)
    goes.create().check()
    enter = ["nsenter", f"--ipc={goes.namespace}", f"--pid=/proc/{goes.pid}/ns/pid", "-S", "1000", "-G", "1000"]
    run(*enter, PAYLOADS / "leave", "--sem=1", "--sem-op").check()
    goes.kill()
    return stays, goes


@pytest.mark.parametrize("missing", ["", "ipc_owner", "sys_admin", "sys_ptrace"])
def test_poststop_of_a_member(start: Callable[..., Container], root: Path, missing: str) -> None:
    """To prove whose another user's array is, and remove it, it takes the stage's set, and no less."""
    stays, goes = members(start, root)
    hook(goes, "poststop", POSTSTOP - {missing})
    assert namespace.counts(stays.namespace)["sem"] == (1 if missing else 0)


@pytest.mark.parametrize("missing", ["", "setuid", "setgid"])
def test_who_looks_from_a_container_is_nobody(start: Callable[..., Container], root: Path, missing: str) -> None:
    """Whoever is in a container's reach has no user, no group, no file of the host's, and nothing it could do there."""
    stays, goes = members(start, root)
    stays.work(*SLOW_TO_SEE)
    with hunt(stays, signal.SIGSTOP):
        child = os.fork()
        if not child:
            os._exit(hook(goes, "poststop", POSTSTOP - {missing}).code)
        looking = until(lambda: stopped_in(stays), "somebody to look", deadline=10)
        assert looking is not None
        status = dict(line.split(":\t", 1) for line in (looking / "status").read_text().splitlines())
        files = [os.readlink(each) for each in (looking / "fd").iterdir()]
    assert os.waitpid(child, 0)[1] == 0
    nobody = "\t".join(["65534"] * 4)
    assert ((status["Uid"], status["Gid"], status["Groups"].strip()) == (nobody, nobody, "")) is (missing == "")
    assert {status["CapPrm"], status["CapEff"]} <= {f"{1 << 15:016x}", f"{0:016x}"}
    assert all(each.startswith(("pipe:", "/proc/sysvipc/", "/proc/")) for each in files), files


def stopped_in(container: Container) -> Path | None:
    """Find a process in a container's pid namespace that somebody has stopped."""
    pids = os.stat(f"/proc/{container.pid}/ns/pid")
    for each in Path("/proc").iterdir():
        try:
            is_there = each.name.isdecimal() and os.path.samestat(pids, os.stat(each / "ns" / "pid"))
            if is_there and "\nState:\tT" in (each / "status").read_text():
                return each
        except OSError:
            continue
    return None


@pytest.mark.parametrize("missing", ["", "setuid", "sys_admin"])
def test_poststop_of_a_joiner_that_never_started(start: Callable[..., Container], root: Path, missing: str) -> None:
    """To put back what its runtime wrote into a user namespace's it takes the stage's set, and no less."""
    owner = start(userns=True)
    owner.create().check()
    joiner = start(ipc=str(owner.namespace))
    put_in_force(root, when=[("name", ("nobody",))])
    joiner.create().check()
    overrule(owner)
    joiner.kill()
    result = hook(joiner, "poststop", POSTSTOP - {missing})
    assert (result.code == 0) is (missing == "")
    assert (namespace.limits(owner.namespace)["kernel.shmmax"] == "67108864") is (missing == "")


def test_poststop_sees_who_holds(container: Container) -> None:
    """sys_ptrace is what it takes to name a process that holds the namespace."""
    container.create().check()
    with subprocess.Popen(["nsenter", f"--ipc={container.namespace}", "cat"], stdin=subprocess.PIPE) as holder:
        until(lambda: holder.pid in namespace.members(container.namespace), "somebody to hold the namespace")
        container.kill()
        hook(container, "poststop", POSTSTOP).check()
        holder.communicate()
    [told] = container.records()[-1]["namespace"]["holders"]
    assert (told["pid"], told["command"]) == (holder.pid, "cat")


def test_another_mount_namespace_takes_chroot(container: Container) -> None:
    """sys_chroot is needed only where the hook runs in another mount namespace than process 1."""
    elsewhere = ("unshare", "--mount", "--propagation", "private")
    assert hook(container, "createRuntime", CREATE, *elsewhere).code == 69
    hook(container, "createRuntime", {*CREATE, "sys_chroot"}, *elsewhere).check()
    assert namespace.counts(container.root / "run" / "ipcwarden" / "pins" / container.pins()[0])


def test_a_pin_from_another_mount_namespace_is_found(container: Container) -> None:
    """A pin that podman's private mount namespace would have hidden is found by poststop in ours."""
    command = ["unshare", "--mount", "--propagation", "private", PYTHON, "-I", "-S", str(HOOK), "--root"]
    run(*command, container.root, "createRuntime", stdin=container.state("creating")).check()
    container.leave("--shm=1")
    container.kill()
    container.poststop().check()
    assert container.records()[-1]["leftovers"]["shm"]["count"] == 1
    assert container.records()[-1]["namespace"]["destroyed"] is True


STATUS = """
import sys
sys.path.insert(0, {path!r})
from ipcwarden import privileges
assert getattr(privileges, {way!r})(privileges.CREATE)
print(*(line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs"))), sep="")
"""


def test_both_ways_of_dropping_agree() -> None:
    """The hook's own system calls leave what python-prctl leaves: same sets, same bounding set, no new privileges."""
    hooks = str(REPOSITORY / "hooks")
    import_prctl = "import prctl"
    subprocess.run([sys.executable, "-c", import_prctl], check=True)  # or the comparison would be with itself
    directly, with_prctl = (
        run(sys.executable, "-c", STATUS.format(path=hooks, way=way)).check().stdout
        for way in ("drop_directly", "drop_with_prctl")
    )
    assert directly == with_prctl
    assert "CapEff:\t00000000002800c0" in directly
    assert "CapBnd:\t00000000002800c0" in directly
    assert "NoNewPrivs:\t1" in directly


@pytest.mark.parametrize("module", ["", "raise NameError('CAP_NEW')", "def set_no_new_privs(_): raise OSError(1, 'x')"])
def test_a_missing_or_broken_prctl_changes_nothing(tmp_path: Path, module: str) -> None:
    """Without python-prctl, or with one that is broken, the same calls are made directly."""
    if module:
        (tmp_path / "prctl.py").write_text(module)
    else:
        (tmp_path / "prctl.py").write_text("raise ImportError('no prctl here')")
    hooks = str(REPOSITORY / "hooks")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + STATUS.format(path=hooks, way="drop_with_prctl")
    status = run(sys.executable, "-c", program).check().stdout
    assert "CapEff:\t00000000002800c0" in status
    assert "CapBnd:\t00000000002800c0" in status


def test_the_record_says_when_privileges_stay(container: Container) -> None:
    """Where capabilities cannot be given up the hook goes on, and its record says `partial`."""
    container.create().check()
    assert container.records()[-1]["privileges"] == "full"
    container.kill()
    reach = {*POSTSTOP, "net_admin"}  # no setpcap: the bounding set stays as it is
    hook(container, "poststop", reach).check()
    assert container.records()[-1]["privileges"] == "partial"
