"""What can be wrong with the container's documents and the host: one clear line, nothing half done, nothing lost."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from ipcwarden.core import policy as core
from support import namespace
from support.sandbox import HOOK, PYTHON, call, config, put_in_force, records
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.sandbox import Container
    from support.shell import Result


def refused(result: Result, container: Container, code: int) -> str:
    """Check that a hook ended with `code`, said so in one line, and left nothing; return the line."""
    assert result.code == code, result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.isascii()
    assert all(c.isprintable() or c == "\n" for c in result.stderr)
    assert container.pins() == container.entries() == []
    return result.stderr


STATES = {
    "empty": "",
    "truncated": '{"ociVersion":"1.0.2","id":"c',
    "huge": json.dumps({"id": "c", "bundle": "/b", "annotations": {"a": "x" * (1 << 20)}}),
    "deep": "[" * 100000,
    "list": "[]",
    "no id": '{"bundle":"/b","pid":5}',
    "slash in id": '{"id":"../../etc/passwd","bundle":"/b","pid":5}',
    "dots": '{"id":"..","bundle":"/b","pid":5}',
    "control": '{"id":"a\\u001b[31mb","bundle":"/b","pid":5}',
    "long id": json.dumps({"id": "x" * 4096, "bundle": "/b", "pid": 5}),
    "negative pid": '{"id":"c","bundle":"/b","pid":-1}',
    "pid 0": '{"id":"c","bundle":"/b","pid":0}',
    "pid 1": '{"id":"c","bundle":"/b","pid":1}',
    "no pid": '{"id":"c","bundle":"/b"}',
    "pid true": '{"id":"c","bundle":"/b","pid":true}',
    "relative bundle": '{"id":"c","bundle":"b","pid":5}',
    "no such bundle": '{"id":"c","bundle":"/no/such","pid":5}',
    "stopped": '{"id":"c","bundle":"/b","pid":5,"status":"stopped"}',
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_state(container: Container, state: str) -> None:
    """A state that cannot be used is refused with 65, under --on-error allow too, and recorded."""
    line = refused(call("createRuntime", state, container.root, "--on-error", "allow"), container, 65)
    assert "cannot" in line
    [record] = container.records()
    assert (record["event"], record["reason"]) == ("error", "state")


def test_faulty_input_in_permissive_mode(container: Container, root: Path) -> None:
    """In permissive mode nothing is refused, whatever is on stdin."""
    put_in_force(root, mode="permissive")
    assert call("createRuntime", "{", root).code == 0
    assert [record["event"] for record in records(root)] == ["error"]


CONFIGS = {
    "malformed": "{",
    "not an object": "[]",
    "linux is a list": '{"linux":[]}',
    "sysctl is a list": '{"linux":{"sysctl":[],"namespaces":[{"type":"ipc"}]}}',
    "namespaces is a text": '{"linux":{"namespaces":"ipc"}}',
    "ipc twice": '{"linux":{"namespaces":[{"type":"ipc"},{"type":"ipc","path":"/proc/1/ns/ipc"}]}}',
    "deep": '{"linux":' + "[" * 100000,
}


@pytest.mark.parametrize("document", CONFIGS.values(), ids=CONFIGS)
def test_config(container: Container, document: str) -> None:
    """A config.json that cannot be used is refused with 65."""
    container.configure(document)
    assert "config.json" in refused(container.create(), container, 65)


def test_config_is_missing(container: Container) -> None:
    """Without config.json nothing starts."""
    (container.bundle / "config.json").unlink()
    assert "config.json" in refused(container.create(), container, 65)


def test_config_is_a_link(container: Container) -> None:
    """A link in its place is not followed."""
    (container.bundle / "config.json").rename(container.bundle / "real.json")
    (container.bundle / "config.json").symlink_to("real.json")
    refused(container.create(), container, 65)


def test_config_is_a_fifo(container: Container) -> None:
    """A FIFO in its place does not make the hook wait."""
    (container.bundle / "config.json").unlink()
    os.mkfifo(container.bundle / "config.json")
    refused(container.create(), container, 65)


def test_config_without_an_ipc_namespace(container: Container) -> None:
    """What counts is the namespace that the process is in: a private one is governed, whatever config.json says."""
    container.configure(config("host"))
    container.create().check()
    assert namespace.limits(container.namespace)["kernel.shmmax"] == "67108864"


SPELLINGS = {
    "slash": '"kernel/shmmax":"0x7fffffff"',
    "hex": '"kernel.shmmax":"0x7fffffff"',
    "octal": '"kernel.shmmax":"077777777777"',
    "blank": '"kernel.shmmax":" 9999999999"',
    "newline": '"kernel.shmmax":"9999999999\\n"',
    "Arabic digits": '"kernel.shmmax":"\u0661\u0662"',
    "two spellings": '"kernel.shmmax":"1","kernel/shmmax":"9999999999"',
    "the same key twice": '"kernel.shmmax":"1","kernel.shmmax":"9999999999"',
    "doubled dot": '"kernel..shmmax":"9999999999"',
    "number": '"kernel.shmmax":9999999999',
    "sem with three": '"kernel.sem":"250 32000 100"',
    "sem in hex": '"kernel.sem":"0xfa 32000 100 128"',
}


@pytest.mark.parametrize("sysctl", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(container: Container, sysctl: str) -> None:
    """A request that runtimes and kernel read in ways of their own is never guessed."""
    container.configure('{"linux":{"namespaces":[{"type":"ipc"}],"sysctl":{' + sysctl + "}}}")
    refused(container.create(), container, 77)
    [record] = container.records()
    assert [each["kind"] for each in record["violations"]] == ["malformed"]


@pytest.mark.parametrize("key", ["Linux", "LINUX", "l\u0131nux".replace("\u0131", "I"), "linu\u0058"])
@pytest.mark.parametrize("table", ["Sysctl", "\u017fysctl"])
def test_letter_cases(container: Container, key: str, table: str) -> None:
    """Runc obeys any letter case, and Unicode's folds of it: refused."""
    hidden = json.dumps({key: {table: {"kernel.shmmax": "9999999999"}}})
    container.configure(f'{{"linux":{{"namespaces":[{{"type":"ipc"}}]}},{hidden[1:]}')
    refused(container.create(), container, 77)


def test_dead_process(container: Container) -> None:
    """A pid whose process has ended is refused."""
    state = container.state("creating")
    container.kill()
    refused(call("createRuntime", state, container.root), container, 69)


def test_a_process_elsewhere(container: Container, start: Callable[..., Container]) -> None:
    """A pid that is a process in the host's namespace is refused: it may have been given to another one."""
    stranger = start(ipc="host")
    state = container.state("creating", pid=stranger.process.pid)
    refused(call("createRuntime", state, container.root), container, 69)


POLICIES: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(),
    "writable by others": lambda file: file.chmod(0o666),
    "in a directory that others can write": lambda file: file.parent.chmod(0o777),
    "not root's": lambda file: os.chown(file, 1000, 1000),
    "of another format": lambda file: file.write_bytes(b"ipcwarden policy 9 x\n"),
    "damaged": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\xff"),
    "a link": lambda file: (file.rename(file.with_name("real")), file.symlink_to("real")),
}


@pytest.mark.parametrize("spoil", POLICIES.values(), ids=POLICIES)
def test_policy(container: Container, root: Path, spoil: Callable[[Path], object]) -> None:
    """A policy in force that cannot be trusted is a fault of the host: 78, or 0 under --on-error allow; recorded."""
    spoil(root / "var" / "lib" / "ipcwarden" / "policy.compiled")
    before = namespace.limits(container.namespace)
    refused(container.create(), container, 78)
    container.create("--on-error", "allow").check()
    assert namespace.limits(container.namespace) == before
    assert [(r["event"], r["reason"], r["container"]["id"]) for r in records(root)] == [
        ("error", "policy", container.id)
    ] * 2


def test_ledger_cannot_be_written(container: Container) -> None:
    """A ledger that cannot be written is a fault of the host: 74, nothing pinned, limits as before."""
    run_directory = container.root / "run"
    run_directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", run_directory).check()
    try:
        before = namespace.limits(container.namespace)
        assert container.create().code == 74
        assert namespace.limits(container.namespace) == before
        container.create("--on-error", "allow").check()
    finally:
        run("umount", run_directory).check()


def test_ledger_is_full(container: Container) -> None:
    """On a full disk no half an entry stays, and no pin."""
    run_directory = container.root / "run"
    run_directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "tmpfs", run_directory).check()
    try:
        (run_directory / "filler").write_bytes(bytes(4096))
        before = namespace.limits(container.namespace)
        refused(container.create(), container, 74)
        assert namespace.limits(container.namespace) == before
    finally:
        run("umount", run_directory).check()


@pytest.mark.parametrize("where", ["run/ipcwarden", "run/ipcwarden/pins", "run/ipcwarden/containers"])
def test_a_planted_link(container: Container, where: str, tmp_path: Path) -> None:
    """A link where the ledger or the pins should be is not followed."""
    path = container.root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path.chmod(0o777)
    path.symlink_to(tmp_path)
    assert container.create().code == 74
    assert list(tmp_path.iterdir()) == []
    path.unlink()


def test_a_planted_pin(container: Container, start: Callable[..., Container]) -> None:
    """A file that already has the pin's name is left alone: another name is taken."""
    container.create().check()
    [name] = container.pins()
    container.kill()
    container.poststop().check()
    planted = container.root / "run" / "ipcwarden" / "pins" / name
    planted.write_text("here before")
    again = start()
    again.id, again.bundle = container.id, container.bundle
    again.create().check()
    assert planted.read_text() == "here before"
    assert again.entry()["pin"] == f"{name}~0"
    planted.unlink()


def test_the_environment_and_the_directory_are_hostile(container: Container, tmp_path: Path) -> None:
    """PYTHON* variables and a json.py in the current directory are not looked at."""
    evil = "import os; os._exit(3)"
    for name in ("json", "os", "posix", "sitecustomize", "_ipcwarden_create", "encodings"):
        (tmp_path / f"{name}.py").write_text(evil)
    variables = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "os.py"), "PYTHONHOME": str(tmp_path)}
    assignments = [f"{name}={value}" for name, value in variables.items()]
    command = ["env", "-C", str(tmp_path), *assignments, PYTHON, "-I", "-S", str(HOOK), "--root", str(container.root)]
    run(*command, "createRuntime", stdin=container.state("creating")).check()
    assert [record["event"] for record in container.records()] == ["applied"]


def test_a_kernel_without_ipc_namespaces(container: Container) -> None:
    """Where /proc has no IPC namespace of ours, the hook says what is missing; --on-error decides."""
    shell = 'mount -t tmpfs none /proc && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", shell, "sh", PYTHON, "-I", "-S", str(HOOK)]
    state = container.state("creating")
    result = run(*command, "--root", container.root, "createRuntime", stdin=state)
    assert result.code == 69
    assert "CONFIG_IPC_NS" in result.stderr
    run(*command, "--root", container.root, "--on-error", "allow", "createRuntime", stdin=state).check()


@pytest.mark.parametrize("stage", ["createContainer", "startContainer", "poststrat", ""])
def test_stages_that_are_not_ours(container: Container, stage: str) -> None:
    """A wrong stage ends with 64: at createContainer /proc/1 may be the host's."""
    refused(call(stage, container.state("creating"), container.root), container, 64)


def test_a_killed_hook_is_found_by_gc(container: Container) -> None:
    """A hook killed while it works leaves at most an entry and a pin that gc finds."""
    for delay in range(0, 12, 2):
        command = f"timeout --signal=KILL 0.0{delay:02d} {PYTHON} -I -S {HOOK} --root {container.root} createRuntime"
        run("sh", "-c", command, stdin=container.state("creating"))
    container.kill()
    run(REPOSITORY / ".venv" / "bin" / "ipcwarden", "--root", container.root, "gc").check()
    assert container.pins() == container.entries() == []


def test_a_bug_of_ours_is_named(container: Container) -> None:
    """Anything unforeseen ends with 70 and says that it is our fault; the container does not start."""
    file = container.root / "var" / "lib" / "ipcwarden" / "policy.compiled"
    broken = core.Policy("enforcing", "", {}, (core.Rule("r", (("nonsense", ("x",)),), 0, "enforcing"),), ())
    file.write_bytes(core.pack(broken))
    assert "fault of ipcwarden" in refused(container.create(), container, 70)
