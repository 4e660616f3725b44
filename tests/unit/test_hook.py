"""The fast door: its arguments, its exit codes, and who may start in spite of an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from os import getpid
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden import errors, hook
from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.spec import MAX_SPEC_BYTES
from ipcwarden.core.state import MAX_STATE_BYTES
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import UsageError, WardenError
from ipcwarden.hook import Options, parse_arguments
from ipcwarden.registration.entry import SECONDS
from support.imports import INTERPRETER
from support.shell import Result, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STAGES = ["prestart", "createRuntime", "poststart", "poststop"]
CREATION = STAGES[:2]
STARTING = STAGES[:3]  # with runc up to 1.5, poststart too comes before the user's process
UNKNOWN = '{"ociVersion":"1.2.0","id":"nobody","status":"created","bundle":"/nowhere","pid":2}'
TORN = '{"id":"c","bundle":'


@dataclass(frozen=True)
class Host:
    """A root directory, and the built hook that is started on it as a runtime would."""

    built: Path
    root: Path

    def __call__(self, *arguments: str, stdin: str = UNKNOWN) -> Result:
        """Run the hook; the last argument is the stage."""
        return run(*self.command, "--root", self.root, *arguments, stdin=stdin)

    @property
    def command(self) -> list[str | Path]:
        """The registered command, without its arguments."""
        return [INTERPRETER, "-I", "-S", self.built / "hook.py"]

    def put_in_force(self, mode: str = "enforcing", rules: Iterable[str] = ()) -> None:
        """Put a policy in force: its own mode, and that of each of its rules, which match nothing."""
        directory = self.root / "var/lib/ipcwarden"
        directory.mkdir(parents=True)
        for each in (directory, *directory.parents[:2]):
            each.chmod(0o755)
        file = directory / "policy.compiled"
        never = (("name", ("nobody at all",)),)
        content = tuple(Rule(f"rule {each}", never, 0, each) for each in rules)
        file.write_bytes(pack(Policy(mode, "any", KERNEL_DEFAULTS, content, (Profile("p", {}),))))
        file.chmod(0o644)

    def records(self) -> list[dict[str, Any]]:
        """Return what is in the log."""
        log = self.root / "var/log/ipcwarden/audit.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def host(built: Path, tmp_path: Path) -> Host:
    """Give a host without a policy."""
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    return Host(built, root)


def state_of(bundle: Path) -> str:
    """Return the state of a container that is this process."""
    return json.dumps({"id": "c", "bundle": str(bundle), "status": "creating", "pid": getpid()})


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["prestart"], Options("prestart", "/", False)),
        (["createRuntime"], Options("createRuntime", "/", False)),
        (["poststart"], Options("poststart", "/", False)),
        (["poststop"], Options("poststop", "/", False)),
        (["--root", "/srv", "prestart"], Options("prestart", "/srv", False)),
        (["--on-error", "allow", "prestart"], Options("prestart", "/", True)),
        (["--on-error", "refuse", "prestart"], Options("prestart", "/", False)),
        (["--root", "/a", "--on-error", "allow", "poststop"], Options("poststop", "/a", True)),
        (["--on-error", "allow", "--root", "/a", "poststop"], Options("poststop", "/a", True)),
        (["--on-error", "allow", "--on-error", "refuse", "prestart"], Options("prestart", "/", False)),
        (["--root", "/a", "--root", "/b", "prestart"], Options("prestart", "/b", False)),
    ],
)
def test_reads_its_arguments(arguments: list[str], options: Options) -> None:
    """Options come before the stage, in any order; the last of one kind counts."""
    assert parse_arguments(arguments, hook.STAGES) == options


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [""],
        ["start"],
        ["PRESTART"],
        ["prestart", "poststop"],
        ["prestart", "--root", "/"],
        ["--root", "prestart"],
        ["--root", "relative", "prestart"],
        ["--root", "", "prestart"],
        ["--root=/a", "prestart"],
        ["--on-error", "prestart"],
        ["--on-error", "ignore", "prestart"],
        ["--on-error", "", "prestart"],
        ["--root", "/a"],
        ["--on-error", "allow"],
        ["--help"],
        ["-h", "prestart"],
        ["create\nRuntime"],
    ],
)
def test_refuses_other_arguments(arguments: list[str]) -> None:
    """What is no stage with its options is an error that shows how it is done, in one line."""
    with pytest.raises(UsageError, match=r"usage: hook \[--root DIR\]") as refusal:
        parse_arguments(arguments, hook.STAGES)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("stage", ["createContainer", "startContainer"])
def test_says_why_a_stage_is_none_of_ours(stage: str) -> None:
    """Stages inside of the container are refused with what to register instead."""
    with pytest.raises(UsageError, match="register createRuntime instead"):
        parse_arguments(["--on-error", "allow", stage], hook.STAGES)


CONTAINERS = ["StateError", "NamespaceError", "PolicyViolation"]
HOSTS = ["KernelError", "ApplyError", "RecordError", "DeadlineError", "PolicyError", "WardenError"]
CODES = {
    "UsageError": 64,
    "StateError": 65,
    "NamespaceError": 69,
    "KernelError": 69,
    "WardenError": 70,
    "ApplyError": 71,
    "RecordError": 74,
    "DeadlineError": 75,
    "PolicyViolation": 77,
    "PolicyError": 78,
}


def failed(name: str, options: Options | None) -> int:
    """Return the exit code of an error that happened before anything of the host was known."""
    error: type[WardenError] = getattr(errors, name)
    return hook._fail(error("cannot go on"), None, options)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", CODES)
def test_ends_with_the_errors_code(name: str, stage: str) -> None:
    """Each class of error has an exit code, which is all that crun shows."""
    assert failed(name, Options(stage, "/", False)) == CODES[name]


@pytest.mark.parametrize("stage", STARTING)
@pytest.mark.parametrize("name", HOSTS)
def test_lets_a_container_start_in_spite_of_the_host(name: str, stage: str) -> None:
    """With --on-error allow, what the host gets wrong keeps no container from starting."""
    assert failed(name, Options(stage, "/", True)) == 0


@pytest.mark.parametrize("stage", STARTING)
@pytest.mark.parametrize("name", CONTAINERS)
def test_opens_no_door_to_hostile_input(name: str, stage: str) -> None:
    """With --on-error allow, what the container gets wrong is refused all the same."""
    assert failed(name, Options(stage, "/", True)) == CODES[name]


@pytest.mark.parametrize("name", CODES)
def test_allows_nothing_after_the_end(name: str) -> None:
    """When a container has stopped there is nothing to allow: the error is told."""
    assert failed(name, Options("poststop", "/", True)) == CODES[name]


def test_names_the_stage_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard error gets the whole error as one line, which runtimes quote in theirs."""
    hook._fail(WardenError("two\nlines", "and \x1b a hint"), None, Options("poststop", "/", False))
    assert capfd.readouterr() == ("", "ipcwarden: poststop: two\\nlines (and \\x1b a hint)\n")


def test_tells_where_a_bug_is() -> None:
    """A fault of ours says what it was, where, and whose."""
    try:
        json.loads("{")
    except ValueError as error:
        told = errors.bug(error)
    assert (told.exit_code, told.of_host) == (70, True)
    assert "cannot go on: JSONDecodeError at " in str(told)
    assert "decoder.py:" in str(told)
    assert "this is a fault of ipcwarden, please report it" in str(told)


@pytest.mark.parametrize("arguments", [["start"], ["--on-error", "allow", "start"], ["--on-error", "allow"], []])
def test_never_starts_a_container_on_a_misspelt_registration(host: Host, arguments: list[str]) -> None:
    """Without a stage nobody knows what is allowed."""
    done = run(*host.command, *arguments)
    assert (done.code, done.stdout, done.stderr.count("\n")) == (64, "", 1)


@pytest.mark.parametrize("stage", ["poststart", "poststop"])
def test_is_silent_about_a_container_it_does_not_know(host: Host, stage: str) -> None:
    """A container without an entry was refused, never governed, or is done: nothing to do, nothing to say."""
    done = host(stage)
    assert (done.code, done.stdout, done.stderr, host.records()) == (0, "", "", [])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "stdin",
    ["", "\n", TORN, "[]", '"' + "x" * MAX_STATE_BYTES + '"', "[" * 100_000, '{"id":"../x","bundle":"/b"}', "\udcff{}"],
    ids=["empty", "blank", "torn", "list", "large", "deep", "hostile", "bytes"],
)
def test_refuses_an_unusable_state(host: Host, stage: str, stdin: str) -> None:
    """What is no state ends with 65 and one line, at every stage, even with --on-error allow and no policy."""
    done = host("--on-error", "allow", stage, stdin=stdin)
    assert (done.code, done.stdout) == (65, "")
    assert done.stderr.startswith(f"ipcwarden: {stage}: cannot ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.isascii()


@pytest.mark.parametrize("redirection", ["<&-", "0>/dev/null"])
def test_refuses_a_state_that_cannot_be_read(host: Host, redirection: str) -> None:
    """No standard input, or one that is only there to be written, is no state; nor is what Python 3.14 opens there."""
    done = run("/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *host.command, "--root", host.root, "poststop")
    assert (done.code, "cannot read the state on stdin" in done.stderr) == (65, True)


@pytest.mark.parametrize(("mode", "code"), [("enforcing", 65), ("permissive", 0)])
@pytest.mark.parametrize("stage", STARTING)
def test_refuses_nothing_in_permissive_mode(host: Host, mode: str, code: int, stage: str) -> None:
    """A container whose documents are unusable starts where policy only watches; the record says what was wrong."""
    host.put_in_force(mode)
    done = host(stage, stdin=TORN)
    assert (done.code, done.stderr.count("\n")) == (code, 1)
    assert [(each["event"], each["reason"], each["mode"]) for each in host.records()] == [("error", "state", mode)]


@pytest.mark.parametrize(
    ("mode", "rules", "code"),
    [
        ("permissive", ["permissive"], 0),
        ("enforcing", ["permissive", "permissive"], 0),
        ("permissive", ["permissive", "enforcing"], 65),
        ("permissive", ["enforcing"], 65),
        ("enforcing", ["enforcing", "permissive"], 65),
    ],
)
@pytest.mark.parametrize("stage", STARTING)
def test_is_lenient_before_the_rule_is_known_where_every_rule_is(
    host: Host, mode: str, rules: list[str], code: int, stage: str
) -> None:
    """Whoever spoils their own documents gains nothing: it might have been an enforcing rule that matches."""
    host.put_in_force(mode, rules)
    assert host(stage, stdin=TORN).code == code
    assert [each["mode"] for each in host.records()] == ["enforcing" if code else "permissive"]


def test_tells_errors_after_the_end_in_permissive_mode_too(host: Host) -> None:
    """Only starting depends on the mode."""
    host.put_in_force("permissive")
    assert host("poststop", stdin=TORN).code == 65


@pytest.mark.parametrize(("on_error", "code"), [("refuse", 78), ("allow", 0)])
@pytest.mark.parametrize("stage", CREATION)
def test_asks_the_registration_where_there_is_no_policy(host: Host, on_error: str, code: int, stage: str) -> None:
    """Without a policy in force, --on-error decides, and the record names the container."""
    done = host("--on-error", on_error, stage)
    assert done.code == code
    assert done.stderr == (
        f"ipcwarden: {stage}: cannot find the policy in force, '{host.root}/var/lib/ipcwarden/policy.compiled' "
        "(ipcwarden compile puts it there)\n"
    )
    (record,) = host.records()
    assert (record["event"], record["reason"], record["container"]["id"]) == ("error", "policy", "nobody")


def spoil(host: Host, how: str) -> None:
    """Make the policy in force one that must not be used."""
    host.put_in_force()
    file = host.root / "var/lib/ipcwarden/policy.compiled"
    match how:
        case "writable":
            file.chmod(0o666)
        case "directory":
            file.parent.chmod(0o777)
        case "damaged":
            file.write_bytes(file.read_bytes()[:-1] + b"!")
        case "empty":
            file.write_bytes(b"")
        case "link":
            file.rename(file.with_name("other"))
            file.symlink_to("other")
        case "old":
            file.write_bytes(b"ipcwarden policy 0 " + file.read_bytes()[19:])


@pytest.mark.parametrize("how", ["writable", "directory", "damaged", "empty", "link", "old"])
def test_trusts_no_spoilt_policy(host: Host, how: str) -> None:
    """A policy that others could have written, or that is not whole, is none."""
    spoil(host, how)
    done = host("prestart")
    assert (done.code, "cannot use " in done.stderr, done.stderr.count("\n")) == (78, True, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pid": 0}, "its pid is 0, which is no process of the host's"),
        ({"pid": 1}, "its pid is 1, which is no process of the host's"),
        ({"status": "running"}, "cannot create what is 'running'"),
        ({"status": "stopped"}, "cannot create what is 'stopped'"),
        ({}, "cannot read '/nowhere/config.json': no such file or directory"),
    ],
)
def test_creates_only_what_can_be_created(host: Host, change: dict[str, object], reason: str) -> None:
    """A state of another stage, and one without a bundle, end with 65 and what is wrong."""
    host.put_in_force()
    done = host("createRuntime", stdin=json.dumps({**json.loads(UNKNOWN), **change}))
    assert (done.code, reason in done.stderr) == (65, True)


def test_leaves_a_container_without_a_rule_alone(host: Host, tmp_path: Path) -> None:
    """Where no rule matches, the container starts, and one record says that nothing was done."""
    host.put_in_force()
    (tmp_path / "config.json").write_text("{}")
    done = host("createRuntime", stdin=state_of(tmp_path))
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    (record,) = host.records()
    assert (record["event"], record["reason"], record["decision"]) == ("skipped", "no-rule", "none")
    assert list((host.root / "run").rglob("*.json")) == []


@pytest.mark.parametrize(("size", "code"), [(MAX_SPEC_BYTES, 0), (MAX_SPEC_BYTES + 1, 65)])
def test_reads_no_config_that_is_too_large(host: Host, tmp_path: Path, size: int, code: int) -> None:
    """Two MiB is two hundred times an honest one; what is larger is refused, even with --on-error allow."""
    assert MAX_SPEC_BYTES == 2 << 20
    host.put_in_force()
    (tmp_path / "config.json").write_bytes(b"{}".rjust(size))
    done = host("--on-error", "allow", "createRuntime", stdin=state_of(tmp_path))
    assert (done.code, "is larger than 2097152 bytes" in done.stderr) == (code, bool(code))


def test_refuses_a_config_that_keeps_it_busy(host: Host, tmp_path: Path) -> None:
    """A deadline that passes while config.json is read is the container's doing: no --on-error lets it start."""
    host.put_in_force()
    program = f"""
import posix, sys, time
sys.path.insert(0, {str(host.built)!r})
import _ipcwarden_create as hook
hook._CREATION = hook.Stage(hook._CREATION.run, hook._CREATION.capabilities, 0.1)
hook.open_case = lambda *_: time.sleep(60)
posix._exit(hook.on_creation(["--root", {str(host.root)!r}, "--on-error", "allow", "createRuntime"]))
"""
    done = run(INTERPRETER, "-I", "-S", "-c", program, stdin=state_of(tmp_path))
    assert (done.code, done.stderr) == (
        65,
        f"ipcwarden: createRuntime: cannot read '{tmp_path}/config.json' in time: it is too large or too tangled\n",
    )
    assert [(each["event"], each["reason"]) for each in host.records()] == [("error", "state")]


def waiting(host: Host) -> list[dict[str, Any]]:
    """Return the records that wait in the ledger."""
    entries = (json.loads(file.read_text()) for file in (host.root / "run/ipcwarden/containers").glob("*.json"))
    return [json.loads(line) for entry in entries for line in entry["undelivered"]]


def test_keeps_the_record_where_the_log_cannot_be_written(host: Host) -> None:
    """A log that cannot be written changes neither exit code nor line, and the record waits in the ledger."""
    host.put_in_force()
    (host.root / "var/log").touch()
    done = host("prestart", stdin=TORN)
    assert (done.code, done.stderr.count("\n"), "prestart: cannot read the state" in done.stderr) == (65, 1, True)
    assert [each["reason"] for each in waiting(host)] == ["state"]


def test_says_where_the_record_of_a_success_is(host: Host, tmp_path: Path) -> None:
    """Where nothing else is said, a log that cannot be written is."""
    host.put_in_force()
    (host.root / "var/log").touch()
    (tmp_path / "config.json").write_text("{}")
    done = host("createRuntime", stdin=state_of(tmp_path))
    assert (done.code, done.stderr.count("\n")) == (0, 1)
    assert "the record waits in the ledger until the log can be written" in done.stderr
    assert [each["event"] for each in waiting(host)] == ["skipped"]


@pytest.mark.parametrize(
    "locked",
    [
        "skipped",
        "error",
    ],
)
def test_waits_for_nobody_who_keeps_the_log(host: Host, tmp_path: Path, locked: str) -> None:
    """A log whose lock never comes free keeps no container waiting: the record goes to the ledger."""
    host.put_in_force()
    (tmp_path / "config.json").write_text("{}")
    log = host.root / "var/log/ipcwarden/audit.jsonl"
    log.parent.mkdir(parents=True)
    with log.open("w") as held:
        log.chmod(0o600)
        flock(held, LOCK_EX)
        began = monotonic()
        done = host("createRuntime", stdin=TORN if locked == "error" else state_of(tmp_path))
        took = monotonic() - began
    assert (done.code, done.stderr.count("\n")) == (65 if locked == "error" else 0, 1)
    assert 0.5 < took < 3
    assert [each["event"] for each in waiting(host)] == [locked]
    assert host.records() == []


def test_tells_the_first_error_alone_where_nothing_can_be_written(host: Host) -> None:
    """Where neither log nor ledger can be written, line and exit code are those of what went wrong first."""
    host.put_in_force()
    (host.root / "var/log").touch()
    (host.root / "run").touch()
    done = host("prestart", stdin=TORN)
    assert (done.code, done.stderr.count("\n"), "prestart: cannot read the state" in done.stderr) == (65, 1, True)


def test_ends_before_the_runtime_would_end_it(host: Host) -> None:
    """A hook that waits for a state that never comes ends by itself, with 75."""
    program = f"""
import posix, sys
sys.path.insert(0, {str(host.built)!r})
import _ipcwarden_poststart as hook
hook._POSTSTART = hook.Stage(hook._POSTSTART.run, (), 0.1)
posix.dup2(posix.pipe()[0], 0)
posix._exit(hook.on_poststart(["--root", {str(host.root)!r}, "poststart"]))
"""
    done = run(INTERPRETER, "-I", "-S", "-c", program)
    assert (done.code, done.stderr.count("\n")) == (75, 1)
    assert done.stderr.startswith("ipcwarden: poststart: cannot finish in time: our own deadline passed")
    assert [each["reason"] for each in host.records()] == ["deadline"]


@pytest.mark.parametrize("stage", STAGES)
def test_has_less_time_than_it_is_given(stage: str) -> None:
    """Each stage has a deadline of its own, below the timeout that it is registered with, if it is with one."""
    assert 0 < hook.STAGES[stage].seconds < SECONDS.get(stage, 5)


def test_is_ended_by_the_runtime_at_every_stage_but_poststart() -> None:
    """Without a timeout of the runtime's, our own deadline is the only one."""
    assert set(STAGES) - SECONDS.keys() == {"poststart"}
