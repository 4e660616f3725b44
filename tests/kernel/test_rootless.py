"""An ordinary user's engine: its hooks run in a user namespace of the user's, as its root, and govern all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from support import namespace
from support.sandbox import HOOK, PYTHON, WANTED, Container, config, profile, put_in_force
from support.shell import run, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.shell import Result

USER = 44100
FIRST_SUBORDINATE = 300_000
PAYLOADS = HOOK.parents[1] / "payload"
LEFT = ("--shm=2", "--sem=1", "--msg=1", "--mqueue=1")
COUNTS = {"shm": 2, "sem": 1, "msg": 1, "mqueue": 1}


class Engine:
    """A user's engine without an engine: a user and a mount namespace in which the user is root, and directories."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.root = root
        self.home, self.runtime = directory / "home", directory / "runtime"
        for each in (self.home, self.runtime):
            each.mkdir(mode=0o700, parents=True)
            os.chown(each, USER, USER)
        self.environment: dict[str, str | Path] = {"HOME": self.home, "XDG_RUNTIME_DIR": self.runtime}
        self.directory = directory
        self.started: list[Container] = []
        user = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        script = "read mapped; mount --make-rprivate / && echo made && read end"
        command = ["setpriv", *user, "unshare", "--user", "--mount", "sh", "-c", script]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ours = os.readlink("/proc/self/ns/user")
        until(lambda: os.readlink(f"/proc/{self._keeper.pid}/ns/user") != ours, "a user namespace")
        for kind in ("uid_map", "gid_map"):
            ids = f"0 {USER} 1\n1 {FIRST_SUBORDINATE} 65536"
            Path(f"/proc/{self._keeper.pid}/{kind}").write_text(ids, encoding="ascii")
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write("mapped\n")
        self._keeper.stdin.flush()
        assert self._keeper.stdout.readline() == "made\n"

    def within(self, *command: str | Path) -> list[str | Path]:
        """Return the command that runs another as the root of the user namespace."""
        enter = ("nsenter", f"--target={self._keeper.pid}", "--user", "--mount", "--setuid=0", "--setgid=0")
        return [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command]

    def start(self, *unshare: str, ipc: str = "", own_pids: bool = False) -> Container:
        """Start a container, in a namespace of its own or in the one at `ipc`."""
        pids = ("unshare", "--pid", "--fork") if own_pids else ()
        enter = ("nsenter", f"--ipc={ipc}") if ipc else ("unshare", "--ipc", *unshare)
        command = self.within(*pids, *enter, PAYLOADS / "leave", "--wait")
        pipe = subprocess.PIPE
        process = subprocess.Popen([str(each) for each in command], stdin=pipe, stdout=pipe, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("made"), "the container's process did not start"
        name = f"c{len(self.started)}"
        container = Container(self.root, self.directory / name, process, name, own_pids=own_pids)
        container.bundle.mkdir()
        container.configure(config(ipc or "private"))
        self.started.append(container)
        return container

    def hook(self, stage: str, container: Container, *options: str | Path, **state: Any) -> Result:
        """Run a hook as podman's runtime does: with nothing of the environment that it has itself."""
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        # A shell between, whose environment a hook can look into, as a runtime's.
        shell = ("sh", "-c", 'env -i PATH=/bin "$@"; exit $?', "sh")
        hook = (PYTHON, "-I", "-S", HOOK, "--root", self.root, *options, stage)
        status = {"poststart": "created", "poststop": "stopped"}.get(stage, "creating")
        return run(*self.within(*environment, *shell, *hook), stdin=container.state(status, **state))

    def governed(self) -> Container:
        """Start a container, and run its creation hook."""
        container = self.start()
        self.hook("createRuntime", container).check()
        return container

    def records(self) -> list[dict[str, Any]]:
        """Read the user's log."""
        log = self.home / ".local" / "state" / "ipcwarden" / "audit.jsonl"
        return [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()] if log.exists() else []

    def ledger(self, runtime: Path | None = None) -> dict[str, list[str]]:
        """List what the ledger's directories hold."""
        found = (runtime or self.runtime) / "ipcwarden"
        return {each.name: sorted(os.listdir(each)) for each in found.iterdir()} if found.exists() else {}

    def put_policy(self, profile: Profile) -> None:
        """Put a policy of the user's own in force."""
        policy = Policy(
            "enforcing", os.uname().release, KERNEL_DEFAULTS, (Rule("own", (), 0, "enforcing"),), (profile,)
        )
        file = self.home / ".local" / "state" / "ipcwarden" / "policy.compiled"
        file.parent.mkdir(parents=True)
        file.write_bytes(pack(policy))
        run("chown", "-R", f"{USER}:{USER}", self.home).check()

    def close(self) -> None:
        """End all of it."""
        for container in self.started:
            container.kill()
            self.hook("poststop", container)
        self._keeper.communicate("\n")


EMPTY = {"containers": [], "pins": [], "namespaces": []}


@pytest.fixture
def engine(root: Path, scratch: Path) -> Iterator[Engine]:
    """Give a user's engine, on a host with a policy in force."""
    engine = Engine(root, scratch / "user")
    yield engine
    engine.close()


PROGRAM = Path(sys.executable).with_name("ipcwarden")


def outside(engine: Engine, *arguments: str) -> Result:
    """Run the command as the user does, in no namespace."""
    environment = {**os.environ, **{name: str(text) for name, text in engine.environment.items()}}
    user = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    return run("setpriv", *user, PROGRAM, "--root", engine.root, *arguments, env=environment)


def inside(engine: Engine, *arguments: str) -> Result:
    """Run the command as `podman unshare` does."""
    environment = [f"{name}={value}" for name, value in {**path(), **engine.environment}.items()]
    return run(*engine.within(*environment, PROGRAM, "--root", engine.root, *arguments))


def path() -> dict[str, str]:
    """Return what Python itself needs of the environment."""
    return {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def limits(container: Container) -> Mapping[str, str]:
    """Read a container's limits."""
    return namespace.limits(container.namespace)


def test_creation(engine: Engine) -> None:
    """The limits are in force, all privileges but those needed are given up, and nothing of the host's is touched."""
    container = engine.governed()
    assert limits(container)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    assert limits(container)["fs.mqueue.queues_max"] == str(WANTED["fs.mqueue.queues_max"])
    [record] = engine.records()
    assert (record["event"], record["enforced"], record["privileges"]) == ("applied", True, "full")
    assert {name: len(found) for name, found in engine.ledger().items()} == dict.fromkeys(EMPTY, 1)
    assert [each.name for each in engine.root.iterdir()] == ["var"]
    assert [each.name for each in (engine.root / "var").iterdir()] == ["lib"]


def test_the_ledger_is_the_users_alone(engine: Engine) -> None:
    """Nobody else can look into what hooks make for a user."""
    engine.governed()
    made = [*(engine.runtime / "ipcwarden").iterdir(), engine.home / ".local" / "state" / "ipcwarden"]
    assert {(each.stat().st_uid, oct(each.stat().st_mode & 0o7777)) for each in made} == {(USER, "0o700")}


def test_poststart(engine: Engine) -> None:
    """What the runtime has overruled is put right."""
    container = engine.governed()
    script = "echo 123456 > /proc/sys/kernel/shmmax"
    run(*engine.within("nsenter", f"--ipc={container.namespace}", "sh", "-c", script)).check()
    engine.hook("poststart", container).check()
    assert limits(container)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    assert engine.records()[-1]["event"] == "verified"


@pytest.mark.parametrize("by", ["poststop", "gc"])
def test_a_joiner_that_never_starts(engine: Engine, by: str) -> None:
    """What its runtime wrote is put back for the owner, from where nobody can return; then each is torn down."""
    owner = engine.governed()
    joiner = engine.start(ipc=str(owner.namespace))
    put_in_force(engine.root, when=[("name", ("nobody",))])
    engine.hook("createRuntime", joiner).check()
    script = "echo 123456 > /proc/sys/kernel/shmmax"
    run(*engine.within("nsenter", f"--ipc={owner.namespace}", "sh", "-c", script)).check()
    joiner.kill()
    engine.hook("poststop", joiner).check() if by == "poststop" else inside(engine, "gc").check()
    assert limits(owner)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    assert (engine.records()[-1]["event"], engine.records()[-1]["privileges"]) == ("verified", "full")
    owner.kill()
    engine.hook("poststop", owner).check()
    assert engine.ledger() == EMPTY


def test_poststop(engine: Engine) -> None:
    """What the container left is listed, freed, and gone for good, though a hook could not return to our namespace."""
    container = engine.governed()
    run(*engine.within("nsenter", f"--ipc={container.namespace}", PAYLOADS / "leave", *LEFT)).check()
    container.kill()
    engine.hook("poststop", container).check()
    record = engine.records()[-1]
    assert (record["event"], record["privileges"]) == ("teardown", "full")
    assert {kind: each["count"] for kind, each in record["leftovers"].items()} == COUNTS
    assert record["namespace"]["destroyed"] is True
    assert engine.ledger() == EMPTY


def test_a_member(engine: Engine) -> None:
    """What one of two has left is told from what the living one uses, and removed, by a child that does not return."""
    put_in_force(engine.root, profile(leftovers="remove"))
    stays = engine.start(own_pids=True)
    engine.hook("createRuntime", stays).check()
    goes = engine.start(ipc=str(stays.namespace), own_pids=True)
    engine.hook("createRuntime", goes).check()
    for each in (stays, goes):
        enter = ("nsenter", f"--ipc={each.namespace}", f"--pid=/proc/{each.pid}/ns/pid")
        run(*engine.within(*enter, PAYLOADS / "leave", "--shm=1")).check()
    goes.kill()
    engine.hook("poststop", goes).check()
    record = engine.records()[-1]
    assert [(each["confidence"], each["fate"]) for each in record["objects"]] == [("proven", "removed")]
    assert record["present"]["shm"]["count"] == 2
    assert namespace.counts(stays.namespace)["shm"] == 1


def test_a_refusal(engine: Engine) -> None:
    """What policy refuses does not start, and leaves nothing but its record."""
    container = engine.start()
    container.configure(config(sysctl={"kernel.shmmax": "99999999999"}))
    result = engine.hook("createRuntime", container)
    assert result.code == 77
    assert "kernel.shmmax=99999999999 is outside what is allowed" in result.stderr
    assert [record["event"] for record in engine.records()] == ["refused"]
    assert engine.ledger() == EMPTY


def test_a_user_namespace_in_it(engine: Engine) -> None:
    """podman --userns=keep-id gives the container a user namespace of its own, whose root owns the limits."""
    container = engine.start("--user", "--map-root-user")
    engine.hook("createRuntime", container).check()
    assert limits(container)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    container.kill()
    engine.hook("poststop", container).check()
    assert engine.records()[-1]["namespace"]["destroyed"] is True


@pytest.mark.parametrize(("rootless", "event"), [(True, "applied"), (False, "skipped")])
def test_facts(engine: Engine, rootless: bool, event: str) -> None:
    """A rule can tell a user's engine from the host's."""
    put_in_force(engine.root, when=[("rootless", rootless)])
    engine.governed()
    assert engine.records()[-1]["event"] == event


def test_the_hosts_namespace(engine: Engine) -> None:
    """A container with --ipc=host is met as the profile says, here too."""
    command = engine.within(PAYLOADS / "leave", "--wait")
    host = Path("/proc/self/ns/ipc")
    with subprocess.Popen([str(each) for each in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            container = engine.start()
            container.configure(config("host"))
            engine.hook("createRuntime", container, pid=process.pid).check()
            before = {each["id"] for each in namespace.objects(host, "shm")}
            run(*engine.within(PAYLOADS / "leave", "--shm=1")).check()
            [left] = [each["id"] for each in namespace.objects(host, "shm") if each["id"] not in before]
        finally:
            process.kill()  # or whatever failed would wait for it
    engine.hook("poststop", container).check()
    run("ipcrm", "-m", left).check()
    skipped, record = engine.records()[-2:]
    assert (skipped["event"], skipped["reason"], record["event"]) == ("skipped", "host-ipc", "teardown")
    assert [(each["id"], each["confidence"]) for each in record["objects"]] == [(int(left), "plausible")]


def test_the_hosts_container(engine: Engine, container: Container) -> None:
    """A user's hook has no way to a container of root's."""
    result = engine.hook("createRuntime", container)
    assert result.code == 69
    assert "permission denied" in result.stderr
    assert limits(container)["kernel.shmmax"] == str(KERNEL_DEFAULTS["kernel.shmmax"])


OWN = profile(sysctls={"kernel.shmmax": (4096, None, None, None)})


def test_the_hosts_policy_binds(engine: Engine) -> None:
    """A user's own policy is nothing where the host has one."""
    engine.put_policy(OWN)
    assert limits(engine.governed())["kernel.shmmax"] == str(WANTED["kernel.shmmax"])


def test_the_users_own_policy(engine: Engine) -> None:
    """Where the host has none, the user's own is in force."""
    (engine.root / "var" / "lib" / "ipcwarden" / "policy.compiled").unlink()
    engine.put_policy(OWN)
    assert limits(engine.governed())["kernel.shmmax"] == "4096"
    assert engine.records()[-1]["rule"] == "own"


def test_no_policy(engine: Engine) -> None:
    """Without any, both places are named; --on-error decides."""
    (engine.root / "var" / "lib" / "ipcwarden" / "policy.compiled").unlink()
    container = engine.start()
    result = engine.hook("createRuntime", container)
    assert result.code == 78
    assert f"{engine.root}/var/lib/ipcwarden/policy.compiled" in result.stderr
    assert f"{engine.home}/.local/state/ipcwarden/policy.compiled" in result.stderr
    engine.hook("createRuntime", container, "--on-error", "allow").check()


UNSAFE = {
    "others write it": ("var/lib/ipcwarden/policy.compiled", 0, 0o666),
    "a group writes it": ("var/lib/ipcwarden/policy.compiled", 0, 0o664),
    "others write its directory": ("var/lib/ipcwarden", 0, 0o777),
    "a group writes its directory": ("var/lib/ipcwarden", 0, 0o775),
    "others write above": ("var", 0, 0o777),
    "others write above, and none removes another's": ("var", 0, 0o1777),
    "it is the user's": ("var/lib/ipcwarden/policy.compiled", USER, 0o644),
    "it is a container's": ("var/lib/ipcwarden/policy.compiled", FIRST_SUBORDINATE, 0o644),
    "its directory is the user's": ("var/lib/ipcwarden", USER, 0o755),
    "what is above is a container's": ("var/lib", FIRST_SUBORDINATE, 0o755),
}


@pytest.mark.parametrize(("path", "uid", "mode"), UNSAFE.values(), ids=UNSAFE)
def test_a_policy_that_is_not_the_hosts(engine: Engine, path: str, uid: int, mode: int) -> None:
    """All strangers look alike in a user namespace: what counts is who may write, on the way from the root on."""
    engine.put_policy(OWN)
    os.chown(engine.root / path, uid, uid)
    (engine.root / path).chmod(mode)
    result = engine.hook("createRuntime", engine.start())
    assert result.code == 78
    assert ("belongs to uid" if uid else "others can write it") in result.stderr


def test_a_policy_that_cannot_be_read(engine: Engine) -> None:
    """A host's policy that the user may not read is no reason to take another."""
    engine.put_policy(OWN)
    (engine.root / "var" / "lib" / "ipcwarden" / "policy.compiled").chmod(0o600)
    result = engine.hook("createRuntime", engine.start())
    assert result.code == 78
    assert "permission denied" in result.stderr


@pytest.mark.parametrize(("mode", "event"), [(0o644, "skipped"), (0o600, "skipped"), (0o666, "applied")])
def test_the_hosts_kill_switch(engine: Engine, mode: int, event: str) -> None:
    """What root has switched off is off for users, too, unless others than root may have done that."""
    switch = engine.root / "etc" / "ipcwarden" / "disabled"
    switch.parent.mkdir(parents=True)
    switch.touch()
    switch.chmod(mode)
    engine.governed()
    assert engine.records()[-1]["event"] == event


def test_a_runtime_that_knows_no_home(engine: Engine) -> None:
    """podman calls the runtime's delete with nothing but XDG_RUNTIME_DIR: the home is then told by podman."""
    container = engine.governed()
    container.kill()
    runtime = ("sh", "-c", 'env -i PATH=/bin "$@"; exit $?', "sh")
    podman = ("sh", "-c", 'env -i XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" "$@"; exit $?', "sh")
    environment = [f"{name}={value}" for name, value in engine.environment.items()]
    hook = (PYTHON, "-I", "-S", HOOK, "--root", engine.root, "poststop")
    command = engine.within(*environment, *podman, *runtime, *hook)
    assert run(*command, stdin=container.state("stopped")).check().stderr == ""
    assert engine.records()[-1]["event"] == "teardown"
    assert engine.ledger() == EMPTY


def test_without_an_environment(engine: Engine) -> None:
    """Where nobody says where the user's directories are, it is /run/user, by the uid outside of the namespace."""
    engine.environment = {"HOME": engine.home}
    runtime = Path("/run/user") / str(USER)
    made = [each for each in (runtime.parent, runtime) if not each.exists()]
    runtime.mkdir(parents=True, exist_ok=True)
    os.chown(runtime, USER, USER)
    runtime.chmod(0o700)
    container = engine.governed()
    assert {name: len(found) for name, found in engine.ledger(runtime).items()} == dict.fromkeys(EMPTY, 1)
    container.kill()
    engine.hook("poststop", container).check()
    assert engine.ledger(runtime) == EMPTY
    run("rm", "-r", runtime / "ipcwarden").check()
    for each in reversed(made):
        each.rmdir()


@pytest.mark.parametrize(("uid", "mode"), [(USER, 0o755), (USER, 0o770), (0, 0o700)], ids=["seen", "shared", "root's"])
def test_a_runtime_directory_that_is_not_private(engine: Engine, uid: int, mode: int) -> None:
    """A directory that others can look into, or that is not the user's, is none for a ledger."""
    os.chown(engine.runtime, uid, uid)
    engine.runtime.chmod(mode)
    container = engine.start()
    result = engine.hook("createRuntime", container)
    assert result.code == 74
    assert "cannot find the ledger's directory: neither XDG_RUNTIME_DIR nor /run/user" in result.stderr
    assert [record["reason"] for record in engine.records()] == ["ledger"]
    engine.hook("createRuntime", container, "--on-error", "allow").check()


def test_without_a_home(engine: Engine) -> None:
    """Where there is no home there is no log: the container runs, and its records wait in the ledger."""
    engine.environment = {"XDG_RUNTIME_DIR": engine.runtime}
    container = engine.start()
    result = engine.hook("createRuntime", container).check()
    assert "nobody's environment has a HOME" in result.stderr
    assert limits(container)["kernel.shmmax"] == str(WANTED["kernel.shmmax"])


def test_what_the_user_puts_in_the_way(engine: Engine) -> None:
    """A ledger's directory that is a link leads nowhere."""
    (engine.runtime / "ipcwarden").mkdir()
    (engine.runtime / "ipcwarden" / "containers").symlink_to("/tmp")
    run("chown", "-Rh", f"{USER}:{USER}", engine.runtime).check()
    result = engine.hook("createRuntime", engine.start())
    assert result.code == 74


def test_gc(engine: Engine) -> None:
    """gc is for the engine's user namespace; outside of it says so, and changes nothing."""
    container = engine.governed()
    run(*engine.within("nsenter", f"--ipc={container.namespace}", PAYLOADS / "leave", *LEFT)).check()
    container.kill()
    result = outside(engine, "gc")
    assert result.code == 69
    assert "podman unshare ipcwarden gc" in result.stderr
    assert "would collect c0" in outside(engine, "gc", "--dry-run").check().stdout
    assert "collected c0" in inside(engine, "gc").check().stdout
    record = engine.records()[-1]
    assert (record["event"], record["privileges"]) == ("collected", "full")
    assert {kind: each["count"] for kind, each in record["leftovers"].items()} == COUNTS
    assert engine.ledger() == EMPTY


def test_sweep(engine: Engine) -> None:
    """Drift and usage of a user's container are seen from within the user namespace, without leaving it."""
    container = engine.governed()
    change = "echo 77777777 >/proc/sys/kernel/shmmax"
    run(*engine.within("nsenter", f"--ipc={container.namespace}", "sh", "-c", change)).check()
    run(*engine.within("nsenter", f"--ipc={container.namespace}", PAYLOADS / "leave", "--shm=3")).check()
    result = outside(engine, "sweep")
    assert result.code == 69
    assert "podman unshare ipcwarden sweep" in result.stderr
    for _ in range(2):
        inside(engine, "sweep", "--older-than", "0").check()
    [record] = [each for each in engine.records() if each["event"] == "drift"]
    assert (record["privileges"], [each["found"] for each in record["drift"]]) == ("full", ["77777777"])
    container.kill()
    engine.hook("poststop", container).check()
    assert engine.records()[-1]["peaks"]["kernel.shmmni"] == "3"


def test_gc_adopts_a_stray(engine: Engine) -> None:
    """A pin that no entry speaks of is audited and freed here, too."""
    engine.governed().kill()
    for entry in (engine.runtime / "ipcwarden" / "containers").iterdir():
        entry.unlink()
    assert "collected c0" in inside(engine, "gc").check().stdout
    assert engine.ledger() == EMPTY


def test_nothing_to_collect(engine: Engine) -> None:
    """Who has never run a container has nothing to collect, wherever."""
    assert outside(engine, "gc").check().stdout == ""


def test_audit(engine: Engine) -> None:
    """The user reads the own log, from anywhere."""
    engine.governed()
    for result in (outside(engine, "audit", "--json"), inside(engine, "audit", "--json")):
        assert json.loads(result.check().stdout)["event"] == "applied"


def test_show(engine: Engine) -> None:
    """A container's limits are shown from within the user namespace; outside of it says so."""
    engine.governed()
    shown = json.loads(inside(engine, "show", "c0", "--json").check().stdout)
    assert shown["limits"]["kernel.shmmax"] == str(WANTED["kernel.shmmax"])
    result = outside(engine, "show", "c0")
    assert result.code == 69
    assert "podman unshare ipcwarden show c0" in result.stderr
    assert "no governed container 'c7' runs here" in outside(engine, "show", "c7").stderr


def test_explain(engine: Engine) -> None:
    """The user asks what the host's policy would decide."""
    container = engine.start()
    explained = json.loads(outside(engine, "explain", "--bundle", str(container.bundle), "--json").check().stdout)
    assert explained["profile"] == "team"


POLICY = """
version: 1
profiles:
  mine:
    sysctls:
      kernel.shmmax: 4096
rules:
  - name: mine
    profile: mine
"""


def test_a_policy_of_ones_own(engine: Engine) -> None:
    """A user writes and compiles a policy, which binds as long as the host has none."""
    sources = engine.home / ".config" / "ipcwarden"
    sources.mkdir(parents=True)
    (sources / "policy.yaml").write_text(POLICY, encoding="ascii")
    run("chown", "-R", f"{USER}:{USER}", engine.home).check()
    told = outside(engine, "compile").check()
    assert f"from {sources}/policy.yaml" in told.stdout
    assert "that one binds" in told.stderr
    assert "nothing is wrong" in outside(engine, "check").check().stderr
    (engine.root / "var" / "lib" / "ipcwarden" / "policy.compiled").unlink()
    assert limits(engine.governed())["kernel.shmmax"] == "4096"
    assert [record["event"] for record in engine.records()] == ["policy", "applied"]
