"""The ways round a policy that hooks see: resource limits across namespaces, a /proc/sys that can be written."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.sandbox import HOOK, PYTHON, config, profile, put_in_force
from support.schema import validate
from support.shell import run, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.sandbox import Container
    from support.shell import Result

FEW = 4096
SOME = 65536
START = {"sys_ptrace", "sys_admin", "setuid", "setgid", "dac_read_search"}


def msgqueue(container: Container) -> tuple[int, int]:
    """Read what a container's process may have in queues, soft and hard."""
    limits = text(Path(f"/proc/{container.process.pid}/limits"))
    [line] = [line for line in limits.splitlines() if "msgqueue" in line]
    soft, hard = line.split()[3:5]
    return int(soft), int(hard)


def asking(container: Container, soft: int, hard: int, **linux: Any) -> None:
    """Let config.json ask for RLIMIT_MSGQUEUE."""
    rlimits = [{"type": "RLIMIT_MSGQUEUE", "soft": soft, "hard": hard}]
    container.configure({**config(**linux), "process": {"rlimits": rlimits}})


def become(container: Container, user: int) -> None:
    """Give the container's process other ids, as a runtime does before the user's program."""
    container.kill()
    command = ["unshare", "--ipc", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "cat"]
    container.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert container.process.stdin is not None
    assert container.process.stdout is not None
    container.process.stdin.write("made\n")
    container.process.stdin.flush()
    assert container.process.stdout.readline() == "made\n"


def rlimits(container: Container, event: str = "applied") -> list[Any]:
    """Return what the records of an event say of resource limits; each is valid."""
    found = [record for record in container.records() if record["event"] == event]
    for record in found:
        validate(record, "audit-v1")
    return [record.get("rlimits") for record in found]


@pytest.mark.parametrize("userns", [False, True], ids=["host's users", "userns"])
def test_the_rlimit_is_lowered(start: Callable[..., Container], root: Path, userns: bool) -> None:
    """The creation hook lowers what the process was given, whoever it belongs to."""
    put_in_force(root, profile(msgqueue=FEW))
    container = start(userns=userns)
    assert msgqueue(container)[1] > FEW
    container.create().check()
    assert msgqueue(container) == (FEW, FEW)
    assert rlimits(container) == [{"msgqueue": {"requested": None, "wanted": str(FEW), "found": str(FEW)}}]


def test_the_rlimit_is_never_raised(start: Callable[..., Container], root: Path) -> None:
    """Hooks only lower: a process that has less than the profile gives keeps that."""
    put_in_force(root, profile(msgqueue=1 << 40))
    container = start()
    before = msgqueue(container)
    container.create().check()
    assert msgqueue(container) == before
    assert rlimits(container) == [{"msgqueue": {"requested": None, "wanted": str(1 << 40), "found": str(before[1])}}]


def test_the_rlimit_is_nobodys_business(container: Container) -> None:
    """Where the profile says nothing of it, it stays as it is, and no record speaks of it."""
    before = msgqueue(container)
    asking(container, 1 << 40, 1 << 40)
    container.create().check()
    assert msgqueue(container) == before
    assert rlimits(container) == [None]


def test_a_soft_rlimit_below_stays(start: Callable[..., Container], root: Path) -> None:
    """A soft limit that is low enough is the container's own."""
    put_in_force(root, profile(msgqueue=SOME))
    container = start()
    resource.prlimit(container.process.pid, resource.RLIMIT_MSGQUEUE, (FEW, msgqueue(container)[1]))
    container.create().check()
    assert msgqueue(container) == (FEW, SOME)


@pytest.mark.parametrize(("soft", "hard"), [(FEW, SOME), (SOME, SOME), (0, -1)])
def test_asking_for_more_is_refused(start: Callable[..., Container], root: Path, soft: int, hard: int) -> None:
    """Who asks for more than the profile gives does not start."""
    put_in_force(root, profile(msgqueue=FEW))
    container = start()
    asking(container, soft, hard)
    refused = container.create()
    assert (refused.code, "RLIMIT_MSGQUEUE" in refused.stderr) == (77, True)
    [record] = container.records()
    validate(record, "audit-v1")
    assert [(each["kind"], each["max"]) for each in record["violations"]] == [("rlimit", str(FEW))]
    assert container.pins() == container.entries() == []


def test_permissive_only_tells(start: Callable[..., Container], root: Path) -> None:
    """In permissive mode nothing is lowered; the record says what would be."""
    put_in_force(root, profile(msgqueue=FEW), mode="permissive")
    container = start()
    before = msgqueue(container)
    container.create().check()
    container.poststart().check()
    assert msgqueue(container) == before
    assert rlimits(container) == [{"msgqueue": {"requested": None, "wanted": str(FEW), "found": str(before[1])}}]


@pytest.mark.parametrize(("status", "code"), [("created", 0), ("running", 77)])
@pytest.mark.parametrize("user", [0, 1000])
def test_poststart_lowers_again(start: Callable[..., Container], root: Path, user: int, status: str, code: int) -> None:
    """What the runtime has given since is lowered by poststart, whoever the process has become; late, that is told."""
    put_in_force(root, profile(msgqueue=SOME, on_violation="clamp"))
    container = start()
    become(container, user)
    before = msgqueue(container)
    asking(container, *before)
    container.create().check()
    assert msgqueue(container) == before  # runc would not be able to give it any more
    assert container.poststart(status).code == code
    assert msgqueue(container) == (SOME, SOME)
    told = {"requested": str(before[1]), "wanted": str(SOME), "found": str(before[1])}
    assert rlimits(container, "verified") == [{"msgqueue": told}]
    container.poststart(status).check()
    assert len(rlimits(container, "verified")) == 1


def reaching(container: Container, stage: str, capabilities: set[str]) -> Result:
    """Run a hook in whose reach there are no other capabilities."""
    reach = "-all" + "".join(f",+{name}" for name in sorted(capabilities))
    command = ["setpriv", f"--bounding-set={reach}", "--inh-caps=-all", "--", PYTHON, "-I", "-S", str(HOOK)]
    status = {"poststart": "created"}.get(stage, "creating")
    return run(*command, "--root", container.root, stage, stdin=container.state(status))


@pytest.mark.parametrize("missing", ["", "setuid", "setgid"])
def test_the_rlimit_takes_ids(start: Callable[..., Container], root: Path, missing: str) -> None:
    """To lower another user's limit takes that user's ids, or CAP_SYS_RESOURCE, which no stage keeps."""
    put_in_force(root, profile(sysctls={}, msgqueue=FEW))
    container = start()
    become(container, 1000)
    result = reaching(container, "createRuntime", START - {missing})
    assert result.code == (71 if missing else 0)
    assert (msgqueue(container) == (FEW, FEW)) is (missing == "")


WRITABLE = {"readonlyPaths": []}


def with_proc(container: Container, ipc: str = "private", **linux: Any) -> None:
    """Let config.json mount /proc."""
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    container.configure({**config(ipc, **linux), "mounts": mounts})


def test_a_writable_proc_sys_is_recorded(container: Container) -> None:
    """Who can write its own limits is recorded so; who cannot is not."""
    with_proc(container)
    container.create().check()
    assert "writable_proc_sys" in container.records()[-1]


def test_a_shielded_proc_sys_is_not(container: Container) -> None:
    """The record of a container whose /proc/sys is read-only, as engines make it, says nothing of it."""
    with_proc(container, readonlyPaths=["/proc/sys"])
    container.create().check()
    assert "writable_proc_sys" not in container.records()[-1]


@pytest.mark.parametrize("on_violation", ["refuse", "clamp"])
@pytest.mark.parametrize("ipc", ["private", "host"])
def test_a_writable_proc_sys_is_refused(
    start: Callable[..., Container], root: Path, on_violation: str, ipc: str
) -> None:
    """Where policy refuses it, it does so under clamp too, and in the host's namespace, which is audited only."""
    put_in_force(root, profile(writable_proc_sys="refuse", on_violation=on_violation))
    container = start(ipc="host") if ipc == "host" else start()
    with_proc(container, ipc, readonlyPaths=["/proc/sys"])
    container.create().check()
    with_proc(container, ipc)
    again = start(ipc="host") if ipc == "host" else start()
    with_proc(again, ipc)
    assert again.create().code == 77
    record = again.records()[-1]
    validate(record, "audit-v1")
    assert [each["kind"] for each in record["violations"]] == ["writable_proc_sys"]


def test_the_hosts_namespace_is_no_way_round_the_rlimit(start: Callable[..., Container], root: Path) -> None:
    """RLIMIT_MSGQUEUE counts in all namespaces together: it is lowered in the host's, too."""
    put_in_force(root, profile(msgqueue=FEW))
    container = start(ipc="host")
    container.create().check()
    assert msgqueue(container) == (FEW, FEW)
    assert rlimits(container, "skipped") == [{"msgqueue": {"requested": None, "wanted": str(FEW), "found": str(FEW)}}]


def test_asking_for_more_in_the_hosts_namespace_is_refused(start: Callable[..., Container], root: Path) -> None:
    """Who asks for more than the profile gives does not start there either, although limits are nobody's to change."""
    put_in_force(root, profile(msgqueue=FEW))
    container = start(ipc="host")
    rlimits = [{"type": "RLIMIT_MSGQUEUE", "soft": SOME, "hard": SOME}]
    container.configure({**config("host"), "process": {"rlimits": rlimits}})
    assert container.create().code == 77
    record = container.records()[-1]
    validate(record, "audit-v1")
    assert [each["kind"] for each in record["violations"]] == ["rlimit"]


@pytest.mark.parametrize("ipc", ["private", "host"])
def test_hooks_alone_tell_that_they_deny_nothing(start: Callable[..., Container], root: Path, ipc: str) -> None:
    """Where no native door has been, a loose filter is recorded, in the host's namespace as well."""
    put_in_force(root, profile(nested_ipc="deny"))
    container = start(ipc="host") if ipc == "host" else start()
    container.create().check()
    record = container.records()[-1]
    validate(record, "audit-v1")
    assert record["nested_ipc"] == "unenforced"
