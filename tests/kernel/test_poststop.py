"""poststop: what a container left behind, and nothing kept."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.errors import printable
from support import cgroup, namespace
from support.bundle import PAYLOADS
from support.sandbox import HOOK, MIB, PYTHON, call, config
from support.schema import validate
from support.shell import REPOSITORY, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.sandbox import Container

BIN = REPOSITORY / ".venv" / "bin"
EVERYTHING = [
    *("--shm=2", "--shm-key=0x1234", "--shm-size=10000", "--shm-touch=5000"),
    *("--sem=3", "--sem-size=5"),
    *("--msg=1", "--msg-size=100", "--msg-count=2"),
    *("--mqueue=2", "--mqueue-size=64", "--mqueue-depth=8", "--mqueue-count=3"),
]
PRINTABLE = [b'{"json":1}', b"blank here", b"\\x41 'x' "]
HOSTILE = [*PRINTABLE, b"new\nline", b"\x1b[31mred", b"bad\xff\xfeutf8", b"tab\there", b"del\x7f", "käse".encode()]


def teardown_of(container: Container) -> dict[str, Any]:
    """Stop a container and return its last record."""
    container.kill()
    container.poststop().check()
    return container.records()[-1]


def test_counts_all_four_kinds(container: Container) -> None:
    """Totals are exact: count, bytes held and claimed, of every kind."""
    container.create().check()
    container.leave(*EVERYTHING)
    record = teardown_of(container)
    assert record["event"] == "teardown"
    assert record["leftovers"] == {
        "shm": {"count": 2, "bytes": 16384, "claimed": 24576},  # two of three pages touched, three reserved
        "sem": {"count": 3, "bytes": 960, "claimed": 960},
        "msg": {"count": 1, "bytes": 344, "claimed": 344},
        "mqueue": {"count": 2, "bytes": 672, "claimed": 2560},
    }


def test_lists_objects_as_lsipc_does(container: Container) -> None:
    """What lsipc prints in the pinned namespace stands in the record, under the same names."""
    container.create().check()
    container.leave(*EVERYTHING)
    container.kill()
    pin = container.root / "run" / "ipcwarden" / "pins" / container.pins()[0]
    told = {kind: namespace.objects(pin, kind) for kind in ("shm", "sem", "msg")}
    container.poststop().check()
    for kind, rows in told.items():
        objects = {str(each["id"]): each for each in container.records()[-1]["objects"] if each["kind"] == kind}
        assert sorted(objects) == sorted(row["id"] for row in rows)
        for row in rows:
            # Left out: a time of day, a command that is gone, and root's name, which hooks do not look up.
            names = [name for name in row if row[name] is not None and name not in ("ctime", "command", "owner")]
            assert {name: str(objects[row["id"]][name]) for name in names} == {name: row[name] for name in names}


def test_frees_and_proves(container: Container) -> None:
    """Afterwards the namespace is gone, and so are pin and entry."""
    container.create().check()
    container.leave("--shm=1")
    record = teardown_of(container)
    assert record["namespace"]["destroyed"] is True
    assert [each["fate"] for each in record["objects"]] == ["freed"]
    assert container.pins() == container.entries() == []


def test_is_silent_the_second_time(container: Container) -> None:
    """Podman has been seen to run it twice: the second one writes nothing and ends well."""
    container.create().check()
    teardown_of(container)
    before = container.records()
    assert container.poststop().check().stderr == ""
    assert container.records() == before


def test_tells_drift(container: Container) -> None:
    """A limit that was changed while the container lived is named, with both values."""
    container.create().check()
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 7 >/proc/sys/kernel/shmmax").check()
    assert teardown_of(container)["drift"] == [{"name": "kernel.shmmax", "wanted": "67108864", "found": "7"}]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_queue_names(container: Container, name: bytes) -> None:
    """A queue's name cannot forge a line or a colour: what is not printable ASCII is given in hex."""
    container.create().check()
    container.leave("--mqueue=1", f"--mqueue-hex={name.hex()}")
    record = teardown_of(container)
    validate(record, "audit-v1")
    [found] = record["objects"]
    assert found.get("name") == (f"/{name.decode()}" if name in PRINTABLE else None)
    assert found.get("name_hex") == (None if name in PRINTABLE else name.hex())
    log = (container.root / "var" / "log" / "ipcwarden" / "audit.jsonl").read_bytes()
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in log)
    assert log.count(b"\n") == len(container.records())


def test_hostile_queue_names_of_the_living(container: Container) -> None:
    """`show` and `reap` tell the names as records do, and people see each odd byte escaped."""
    container.create().check()
    for name in HOSTILE:
        container.leave("--mqueue=1", f"--mqueue-hex={name.hex()}")

    def said(*verb: str) -> str:
        return run(BIN / "ipcwarden", "--root", container.root, *verb).check().stdout

    for verb in (("show", container.id), ("reap", container.id, "--dry-run")):
        told = json.loads(said(*verb, "--json"))
        validate(told, f"{verb[0]}-v1")
        names = {bytes.fromhex(each.get("name_hex", "")) or each["name"][1:].encode() for each in told["objects"]}
        assert names == set(HOSTILE)
        shown = said(*verb)
        for name in HOSTILE:
            assert f"/{printable(name.decode('latin-1'))}  " in shown


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """Make a cgroup with room for 16 MiB, and give the file that takes processes."""
    name = f"/{scratch.name}-small"
    cgroup.limit_memory(name, 16 * MIB)
    [file] = Path("/sys/fs/cgroup").glob(f"**{name}/cgroup.procs")
    yield file
    file.parent.rmdir()


def test_a_worker_that_ran_out_of_memory(container: Container, small: Path) -> None:
    """What a worker left that the kernel killed is told as what it is: a segment, half touched; of why, nothing."""
    container.create().check()
    leave = f'echo $$ >{small}; exec "{PAYLOADS}/leave" --shm=1 --shm-size={64 * MIB} --attach'
    killed = run("nsenter", f"--ipc={container.namespace}", "sh", "-c", leave)
    assert killed.code == -signal.SIGKILL
    record = teardown_of(container)
    validate(record, "audit-v1")
    assert (record["event"], record["drift"], "message" in record) == ("teardown", [], False)
    [found] = record["objects"]
    assert (found["size"], found["nattch"], found["fate"]) == (64 * MIB, 0, "freed")
    assert 0 < found["bytes"] <= 16 * MIB
    assert record["leftovers"]["shm"] == {"count": 1, "bytes": found["bytes"], "claimed": 64 * MIB}


def test_queues_of_mode_0(container: Container) -> None:
    """A queue that nobody may open is counted all the same."""
    container.create().check()
    container.leave("--mqueue=1", "--mode=0")
    assert teardown_of(container)["leftovers"]["mqueue"]["count"] == 1


def test_user_namespace(start: Callable[..., Container]) -> None:
    """What a container in a user namespace left is seen with the host's ids."""
    container = start(userns=True)
    container.create().check()
    pid = container.process.pid
    run("nsenter", "-t", str(pid), "-U", "-i", "-S", "0", "-G", "0", "ipcmk", "-M", "4096").check()
    [found] = teardown_of(container)["objects"]
    assert (found["owner"], found["cuid"]) == ("100000", 100000)


def test_a_namespace_that_others_hold(container: Container) -> None:
    """Objects in a private namespace that something still holds are named as held, with who holds it."""
    container.create().check()
    container.leave("--shm=1")
    with open(container.namespace, "rb"):
        container.kill()
        container.poststop().check()
    record = container.records()[-1]
    assert record["namespace"]["destroyed"] is False
    assert [each["fate"] for each in record["objects"]] == ["held"]


def test_a_member_reports_what_is_present(start: Callable[..., Container]) -> None:
    """While another member lives, what is there is `present`; whose it is nobody can tell who has the host's pids."""
    owner = start()
    owner.create().check()
    member = start(ipc=str(owner.namespace))
    member.create().check()
    owner.leave("--sem=1")
    record = teardown_of(member)
    assert record["present"]["sem"]["count"] == 1
    assert [each["confidence"] for each in record["objects"]] == ["unknown"]
    assert namespace.counts(owner.namespace)["sem"] == 1
    assert teardown_of(owner)["leftovers"]["sem"]["count"] == 1


def test_an_owner_that_stops_first(start: Callable[..., Container]) -> None:
    """An owner that is outlived by a member leaves nothing: the member may be using it."""
    owner = start()
    owner.create().check()
    member = start(ipc=str(owner.namespace))
    member.create().check()
    member.leave("--msg=1")
    record = teardown_of(owner)
    assert record["present"]["msg"]["count"] == 1
    assert record["namespace"]["shared"] is True
    assert teardown_of(member)["leftovers"]["msg"]["count"] == 1
    assert owner.pins() == owner.entries() == []


@pytest.mark.parametrize("obstacle", ["directory", "link", "fifo", "somebody's"])
def test_a_log_that_cannot_be_written(container: Container, obstacle: str, tmp_path: Path) -> None:
    """The record waits in the ledger, the container is torn down, and the hook ends well."""
    container.create().check()
    container.leave("--shm=1")
    log = container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    log.unlink()
    match obstacle:
        case "directory":
            log.mkdir()
        case "link":
            log.symlink_to(tmp_path / "elsewhere")
        case "fifo":
            os.mkfifo(log)
        case "somebody's":
            log.touch()
            os.chown(log, 1000, 1000)
    container.kill()
    assert "waits in the ledger" in container.poststop().check().stderr
    assert container.entry()["state"] == "recorded"
    assert json.loads(container.entry()["undelivered"][0])["event"] == "teardown"
    assert container.pins() == []
    assert not (tmp_path / "elsewhere").exists()
    (log.rmdir if obstacle == "directory" else log.unlink)()


def test_a_log_directory_that_is_read_only(container: Container) -> None:
    """A read-only log directory refuses no container, and gc delivers both records once it can."""
    logs = container.root / "var" / "log" / "ipcwarden"
    logs.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", logs).check()
    try:
        container.create().check()
        container.kill()
        container.poststop().check()
    finally:
        run("umount", logs).check()
    logs.chmod(0o700)
    run(BIN / "ipcwarden", "--root", container.root, "gc").check()
    assert [record["event"] for record in container.records()] == ["applied", "teardown"]


def test_a_log_that_somebody_holds(container: Container) -> None:
    """Whoever holds the log's lock holds up no container for long: the records wait in the ledger."""
    logs = container.root / "var" / "log" / "ipcwarden"
    logs.mkdir(parents=True, mode=0o700)
    with (logs / "audit.jsonl").open("w") as log:
        (logs / "audit.jsonl").chmod(0o600)
        fcntl.flock(log, fcntl.LOCK_EX)
        assert "somebody holds its lock" in container.create().check().stderr
        container.kill()
        container.poststop().check()
    run(BIN / "ipcwarden", "--root", container.root, "gc").check()
    assert [record["event"] for record in container.records()] == ["applied", "teardown"]


def test_a_full_disk_tears_no_line(container: Container) -> None:
    """Half a line that a full disk took is taken back; the record waits in the ledger, and gc delivers it."""
    container.create().check()
    logs = container.root / "var" / "log" / "ipcwarden"
    first = (logs / "audit.jsonl").read_bytes()
    run("mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", logs).check()
    try:
        (logs / "audit.jsonl").write_bytes(first.ljust(4000, b" ") + b"\n")  # 95 bytes of its page are left
        (logs / "audit.jsonl").chmod(0o600)
        (logs / "filler").write_bytes(bytes(4096))
        container.kill()
        assert "no space left" in container.poststop().check().stderr
        assert (logs / "audit.jsonl").stat().st_size == 4001
        (logs / "filler").unlink()
        run(BIN / "ipcwarden", "--root", container.root, "gc").check()
        lines = (logs / "audit.jsonl").read_text(encoding="ascii").splitlines()
        assert json.loads(lines[-1])["event"] == "teardown"
    finally:
        run("umount", logs).check()


def test_tells_the_journal_of_what_is_held(container: Container) -> None:
    """Leftovers that nobody can free are worth a line in the system's journal."""
    container.create().check()
    container.leave("--shm=1")
    path = container.root / "run" / "systemd" / "journal" / "socket"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, open(container.namespace, "rb"):
        journal.bind(str(path))
        container.kill()
        container.poststop().check()
        journal.settimeout(5)
        said = f"MESSAGE=container '{container.id}' left 1 shm in an IPC namespace that something still holds\n"
        assert said.encode() in journal.recv(4096)


def test_modes_of_what_is_written(container: Container) -> None:
    """Log, ledger and pins are root's alone."""
    container.create().check()
    for path in ("run/ipcwarden/containers", "run/ipcwarden/pins", "var/log/ipcwarden"):
        assert stat.S_IMODE((container.root / path).stat().st_mode) == 0o700
    log = container.root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_ends_well_while_somebody_has_the_entry(container: Container) -> None:
    """Two poststops at once give one record."""
    container.create().check()
    container.kill()
    command = [PYTHON, "-I", "-S", str(HOOK), "--root", str(container.root), "poststop"]
    state = container.state("stopped")
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for each in both:
        each.communicate(state)
    assert [each.returncode for each in both] == [0, 0]
    assert [record["event"] for record in container.records()] == ["applied", "teardown"]


def test_configuration_may_be_gone(container: Container) -> None:
    """The decision was saved at creation: poststop needs neither config.json nor the policy."""
    container.create().check()
    (container.bundle / "config.json").unlink()
    (container.root / "var" / "lib" / "ipcwarden" / "policy.compiled").unlink()
    assert teardown_of(container)["profile"] == "team"


def test_joined_by_path_without_a_governed_owner(start: Callable[..., Container]) -> None:
    """Where nobody is known to own a joined namespace, the first governed container's policy is put in force."""
    owner = start()
    member = start(ipc=str(owner.namespace))
    member.configure(config(str(owner.namespace)))
    member.create().check()
    assert namespace.limits(owner.namespace)["kernel.shmmax"] == "67108864"
    record = teardown_of(member)
    assert "present" in record
    assert until(lambda: namespace.counts(owner.namespace), "the owner's namespace")["shm"] == 0
    call("poststop", owner.state("stopped"), owner.root).check()
