"""The wrapper is not to be noticed: whatever is called through it gets what its caller gave, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipcwarden import unit
from ipcwarden.registration.entry import Registration
from support import sandbox
from support.sandbox import PYTHON, config
from support.shell import BUILT, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.shell import Result

REQUESTED = "org.ipcwarden.requested"
# Stands for a runtime, and says what it was called with.
RUNTIME = """\
#!/usr/bin/python3 -IS
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "argv": sys.argv[1:],
    "environ": open("/proc/self/environ", encoding="latin-1").read(),
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
    "directory": os.getcwd(),
    "umask": status["Umask"].strip(),
    "privileges": [status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs")],
    "signals": [status[key].strip() for key in ("SigIgn", "SigCgt", "SigBlk")],
    "input": sys.stdin.read(),
}))
sys.exit(42)
"""


@pytest.fixture
def runtime(scratch: Path) -> Path:
    """Give a program that tells what it was called with, and ends with 42."""
    file = scratch / "runtime"
    file.write_text(RUNTIME)
    file.chmod(0o755)
    return file


@pytest.fixture
def wrap(root: Path) -> Callable[..., Path]:
    """Put a wrapper of a runtime below the root."""

    def wrap(runtime: Path, on_error: str = "refuse") -> Path:
        directory = root / "usr" / "libexec" / "ipcwarden"
        shutil.copytree(BUILT / "hook", directory)
        directory.chmod(0o755)
        registration = Registration(str(root), PYTHON, on_error, native=True)
        entries = {stage: registration.entry(stage) for stage in registration.stages}
        file = directory / "ipcwarden-runtime"
        file.write_text(unit.wrapper_stub(PYTHON, str(runtime), str(root), on_error, entries))
        file.chmod(0o755)
        return file

    return wrap


@pytest.fixture
def wrapper(wrap: Callable[..., Path], runtime: Path) -> Path:
    """Give the wrapper of the telling runtime."""
    return wrap(runtime)


@pytest.fixture
def bundle(scratch: Path) -> Path:
    """Give a bundle that asks for more than policy gives."""
    directory = scratch / "bundle"
    directory.mkdir()
    write_config(directory, sysctl={"kernel.shmmax": "68719476736", "net.ipv4.ip_forward": "1"})
    return directory


def write_config(bundle: Path, **options: Any) -> None:
    """Write a bundle's config.json."""
    (bundle / "config.json").write_text(json.dumps(config(**options)))


def read_config(bundle: Path) -> dict[str, Any]:
    """Read a bundle's config.json."""
    found: dict[str, Any] = json.loads((bundle / "config.json").read_text())
    return found


def records(root: Path) -> list[dict[str, Any]]:
    """Read the log."""
    return [json.loads(line) for line in (root / "var/log/ipcwarden/audit.jsonl").read_text().splitlines()]


def call(program: Path, *arguments: str | Path, **options: Any) -> Result:
    """Call a wrapper or a runtime as an engine does."""
    return run(program, *arguments, **options)


def told(result: Result) -> Any:
    """Return what the telling runtime says."""
    assert result.code == 42, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("arguments", [["--root", "/r", "state", "c"], ["create", "-b", "BUNDLE", "c"]])
def test_is_not_noticed(wrapper: Path, runtime: Path, bundle: Path, arguments: list[str]) -> None:
    """Arguments, environment, input, descriptors, directory, umask and capabilities are the caller's; so is the end."""
    words = [word.replace("BUNDLE", str(bundle)) for word in arguments]
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        seen = [
            subprocess.run(
                ["/bin/sh", "-c", "umask 027; cd /usr; trap '' ALRM INT; exec \"$@\"", "sh", program, *words],
                env={"A": "b", "EMPTY": ""},
                input="to stdin",
                pass_fds=[reader],
                capture_output=True,
                text=True,
                check=False,
            )
            for program in (runtime, wrapper)
        ]
    finally:
        os.close(reader)
        os.close(writer)
    direct, wrapped = (json.loads(each.stdout) for each in seen)
    assert [each.returncode for each in seen] == [42, 42]
    assert wrapped == direct
    assert direct["argv"] == words


# Gives a program an environment that no shell can.
ENVIRONMENT = """
import ctypes, sys
given = (ctypes.c_char_p * 8)(b"A=1", b"A=2", b"NOTHING", b"=x=y", b"=", b"=z", b"B=\\xff=", None)
words = [word.encode() for word in sys.argv[1:]]
ctypes.CDLL(None).execve(words[0], (ctypes.c_char_p * (len(words) + 1))(*words, None), given)
"""


@pytest.mark.parametrize("verb", ["state", "create"])
def test_hands_on_an_odd_environment(wrapper: Path, bundle: Path, verb: str) -> None:
    """Of two variables of one name the first counts; what is no variable is left out, and nothing of it a failure."""
    seen = told(call(PYTHON, "-c", ENVIRONMENT, str(wrapper), verb, "-b", str(bundle), "c"))
    assert seen["environ"] == "A=1\0=x=y\0B=\xff=\0"


def test_needs_no_directory_to_stand_in(wrapper: Path, bundle: Path) -> None:
    """A caller whose directory has been removed names the bundle, and gets what others get."""
    script = 'mkdir "$0.gone" && cd "$0.gone" && rmdir "$0.gone" && exec "$@"'
    call("sh", "-c", script, bundle, wrapper, "create", "-b", bundle, "c")
    assert "hooks" in read_config(bundle)


def test_decides_before_the_runtime_reads(wrap: Callable[..., Path], root: Path, runtime: Path, bundle: Path) -> None:
    """Under `clamp` config.json asks for what policy gives, with our hooks and what was asked for before."""
    sandbox.put_in_force(root, sandbox.profile(on_violation="clamp"))
    told(call(wrap(runtime), "create", "--bundle", bundle, "c"))
    document = read_config(bundle)
    assert document["linux"]["sysctl"] == {
        "net.ipv4.ip_forward": "1",
        "kernel.shmmax": "1073741824",
        "kernel.sem": "32000 1024000000 500 128",
        "kernel.msgmnb": "16384",
        "fs.mqueue.queues_max": "64",
    }
    assert json.loads(document["annotations"][REQUESTED]) == {"kernel.shmmax": "68719476736"}
    arguments = [entry["args"] for stage in document["hooks"].values() for entry in stage]
    assert [words[-2:] for words in arguments] == [["--native", s] for s in ("createRuntime", "poststart", "poststop")]


def test_leaves_to_the_creation_stage_what_is_refused(wrapper: Path, bundle: Path) -> None:
    """What policy refuses is handed on as it was asked for, with the hooks that refuse it."""
    told(call(wrapper, "run", "-b", bundle, "c"))
    document = read_config(bundle)
    assert document["linux"] == config(sysctl={"kernel.shmmax": "68719476736", "net.ipv4.ip_forward": "1"})["linux"]
    assert set(document["hooks"]) == {"createRuntime", "poststart", "poststop"}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: sandbox.put_in_force(root, sandbox.profile(on_violation="clamp"), mode="permissive"),
        lambda root: sandbox.put_in_force(root, when=[("name", ("other",))]),
        lambda root: (root / "etc" / "ipcwarden").mkdir(parents=True) or (root / "etc/ipcwarden/disabled").touch(),
        lambda root: (root / "var/lib/ipcwarden/policy.compiled").unlink(),
    ],
    ids=["permissive", "no rule", "disabled", "no policy"],
)
def test_changes_no_value_where_none_is_enforced(
    wrapper: Path, root: Path, bundle: Path, change: Callable[[Path], object]
) -> None:
    """Watching only, no rule, the kill switch, no policy: the hooks are there, and say so; the values stay."""
    change(root)
    told(call(wrapper, "create", "-b", bundle, "c"))
    document = read_config(bundle)
    assert document["linux"]["sysctl"]["kernel.shmmax"] == "68719476736"
    assert "createRuntime" in document["hooks"]


def test_edits_what_is_in_the_directory_it_is_called_in(wrapper: Path, bundle: Path) -> None:
    """Without --bundle it is the directory that the runtime would take, too."""
    told(_in(bundle, wrapper, "create", "c"))
    assert "hooks" in read_config(bundle)


def _in(directory: Path, program: Path, *arguments: str) -> Result:
    return run("env", "-C", directory, program, *arguments)


def test_takes_the_plain_name_of_config_as_crun_does(wrap: Callable[..., Path], runtime: Path, bundle: Path) -> None:
    """`--config config.json` is for crun the one in the bundle, wherever it is called."""
    told(call(wrap(runtime.rename(runtime.with_name("crun"))), "create", "-f", "config.json", "-b", bundle, "c"))
    assert "hooks" in read_config(bundle)


@pytest.mark.parametrize("path", ["BUNDLE/config.json", "config.json", "./config.json", "../bundle/config.json"])
def test_edits_the_bundles_own_file_however_it_is_named(wrapper: Path, bundle: Path, path: str) -> None:
    """A --config that names the file that would be read without it changes nothing."""
    given = path.replace("BUNDLE", str(bundle))
    told(_in(bundle, wrapper, "create", "--config", given, "-b", str(bundle), "c"))
    assert "hooks" in read_config(bundle)


@pytest.mark.parametrize("make", ["copy", "hard link", "link", "elsewhere"])
def test_refuses_a_file_that_hooks_would_not_judge(wrapper: Path, bundle: Path, make: str) -> None:
    """The creation stage judges the bundle's config.json: a runtime that read another would go unseen."""
    own, other = bundle / "config.json", bundle / "other.json"
    if make == "copy":
        shutil.copy(own, other)
    elif make == "hard link":
        other.hardlink_to(own)
    elif make == "link":
        other.symlink_to(own)
    else:
        other = bundle / "below" / "config.json"
        other.parent.mkdir()
        shutil.copy(own, other)
    ended = call(wrapper, "run", "--config", other, "-b", bundle, "c")
    assert (ended.code, ended.stdout) == (65, "")
    assert f"cannot create a container from '{other}'" in ended.stderr
    assert "hooks" not in json.loads(other.read_text())


def test_keeps_owner_and_mode(wrapper: Path, bundle: Path) -> None:
    """The file that takes config.json's place is as that was, and nothing is left beside it."""
    file = bundle / "config.json"
    file.chmod(0o640)
    os.chown(file, 1234, 5678)
    told(call(wrapper, "create", "-b", bundle, "c"))
    status = file.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 5678, 0o640)
    assert [each.name for each in bundle.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot read config.json as JSON"),
        ('{"linux": {}, "linux": {}}', "the key 'linux' stands there twice"),
        ('{"Linux": {"Sysctl": {"kernel.shmmax": "1"}}}', "which runtimes read differently"),
    ],
)
def test_refuses_what_nobody_reads_alike(wrapper: Path, root: Path, bundle: Path, text: str, said: str) -> None:
    """A config.json that cannot be written again is refused, in the runtime's log and in ours, and left alone."""
    (bundle / "config.json").write_text(text)
    log = bundle / "log.json"
    ended = call(wrapper, "--log", log, "--log-format", "json", "create", "-b", bundle, "c")
    assert (ended.code, ended.stdout) == (65, "")
    assert said in ended.stderr
    assert said in json.loads(log.read_text())["msg"]
    [record] = [each for each in records(root) if each["event"] == "error"]
    assert (record["reason"], record["stage"], record["container"]["id"]) == ("state", "wrapper", "c")
    assert (bundle / "config.json").read_text() == text


ENOUGH = json.dumps(config(annotations={"x": "y" * (2 << 20)}))
SPOILT = {"large": ENOUGH, "twice": '{"linux": {}, "linux": {}}', "no JSON": "{", "a directory": None}


def spoil(bundle: Path, fault: str) -> None:
    """Make a config.json one that nobody can use."""
    text = SPOILT[fault]
    (bundle / "config.json").unlink()
    if text is None:
        (bundle / "config.json").mkdir()
    else:
        (bundle / "config.json").write_text(text)


@pytest.mark.parametrize("fault", SPOILT)
@pytest.mark.parametrize("lenient", ["disabled", "permissive"])
def test_stops_nothing_where_nothing_is_enforced(
    wrapper: Path, root: Path, bundle: Path, fault: str, lenient: str
) -> None:
    """With the kill switch, and where all of policy only watches, a config.json that is no good is the runtime's."""
    if lenient == "permissive":
        sandbox.put_in_force(root, mode="permissive")
    else:
        (root / "etc" / "ipcwarden").mkdir(parents=True)
        (root / "etc" / "ipcwarden" / "disabled").touch()
    spoil(bundle, fault)
    told(call(wrapper, "create", "-b", bundle, "c"))


@pytest.mark.parametrize(("lenient", "code"), [("", 74), ("disabled", 42), ("permissive", 42)])
def test_a_broken_host_stops_nothing_where_nothing_is_enforced(
    wrapper: Path, root: Path, bundle: Path, lenient: str, code: int
) -> None:
    """A bundle that cannot be written is a fault of the host's, and there is none that has to stop anything then."""
    (root / "etc" / "ipcwarden").mkdir(parents=True)
    if lenient == "disabled":
        (root / "etc" / "ipcwarden" / "disabled").touch()
    sandbox.put_in_force(root, mode="permissive" if lenient == "permissive" else "enforcing")
    run("mount", "--bind", bundle, bundle).check()
    try:
        run("mount", "-o", "remount,bind,ro", bundle).check()
        assert call(wrapper, "create", "-b", bundle, "c").code == code
    finally:
        run("umount", bundle).check()


@pytest.mark.parametrize("fault", SPOILT)
def test_what_the_container_brings_is_no_fault_of_the_hosts(
    wrap: Callable[..., Path], runtime: Path, bundle: Path, fault: str
) -> None:
    """`--on-error allow` is for hosts: a config.json that nobody can use starts nothing ungoverned."""
    spoil(bundle, fault)
    assert call(wrap(runtime, "allow"), "create", "-b", bundle, "c").code == 65


@pytest.mark.parametrize("path", ["/\0", "/\ud800"])
def test_a_path_that_is_none_hides_no_container(
    wrap: Callable[..., Path], root: Path, runtime: Path, bundle: Path, path: str
) -> None:
    """A namespace's path that no kernel can be asked for is the runtime's to complain of, and our hooks are there."""
    (root / "run" / "ipcwarden" / "namespaces").mkdir(parents=True, mode=0o700)
    document = config(sysctl={"kernel.shmmax": "1"})
    document["linux"]["namespaces"] = [{"type": "ipc", "path": path}]
    (bundle / "config.json").write_text(json.dumps(document))
    told(call(wrap(runtime, "allow"), "create", "-b", bundle, "c"))
    assert "createRuntime" in read_config(bundle)["hooks"]


@pytest.mark.parametrize("call_of", [["openat", "-P", "config.json"], ["uname"]], ids=["reading", "deciding"])
def test_a_deadline_that_config_json_takes_up_is_its_own_fault(
    wrap: Callable[..., Path], runtime: Path, bundle: Path, call_of: list[str]
) -> None:
    """Where ours passes while config.json is read or decided on, `--on-error allow` lets nothing start either."""
    program = wrap(runtime, "allow")
    name, *of = call_of
    late = ["strace", "-qq", "-o", "/dev/null", *of, "-e", f"trace={name}", "-e", f"inject={name}:signal=ALRM"]
    ended = call(*late, program, "create", "-b", bundle, "c")
    assert (ended.code, ended.stdout) == (65, "")
    assert "in time" in ended.stderr


def test_ends_as_the_runtime_would_when_it_is_interrupted(wrapper: Path, bundle: Path) -> None:
    """Ctrl-C while config.json is being read ends it by that signal, without a word of Python's."""
    before = (bundle / "config.json").read_bytes()
    # What a shell starts in the background ignores it, tests too.
    late = ["env", "--default-signal=INT", "strace", "-qq", "-o", "/dev/null", "-P", "config.json"]
    late += ["-e", "trace=openat", "-e", "inject=openat:signal=INT"]
    ended = call(*late, wrapper, "create", "-b", bundle, "c")
    assert (ended.code, ended.stdout, ended.stderr) == (-2, "", "")
    assert (bundle / "config.json").read_bytes() == before


def test_writes_no_more_than_was_there(wrapper: Path, bundle: Path) -> None:
    """What is not ASCII is written as it was, so that what a hook could read before it can read again."""
    text = json.dumps({**config(), "annotations": {"x": "é" * 500_000}}, ensure_ascii=False)
    (bundle / "config.json").write_text(text, encoding="utf-8")
    told(call(wrapper, "create", "-b", bundle, "c"))
    assert read_config(bundle)["annotations"]["x"] == "é" * 500_000
    assert (bundle / "config.json").stat().st_size < len(text.encode()) + 4096


@pytest.fixture
def precreate(root: Path, wrapper: Path) -> Callable[..., Result]:
    """Call the precreate hook as podman does, with a limit of descriptors."""

    def precreate(data: str, on_error: str = "refuse", descriptors: int = 64) -> Result:
        words = [PYTHON, "-IS", wrapper.with_name("hook.py"), "--root", root, "--on-error", on_error, "precreate"]
        return run("prlimit", f"--nofile={descriptors}", *words, stdin=data)

    return precreate


@pytest.mark.parametrize("data", [json.dumps(config()), "{", '{"a": 1, "a": 1}'])
def test_precreate_hands_back_whatever_is_wrong(precreate: Callable[..., Result], root: Path, data: str) -> None:
    """`--on-error allow` means that podman gets config.json back, a fault of ours or of the host's or not."""
    policy = sandbox.put_in_force(root, mode=cast("str", []))  # what no compiler writes, and nobody foresaw
    for code in (70, 78):
        assert (precreate(data).code, precreate(data).stdout) == (code, "")
        for descriptors in (4, 64):
            ended = precreate(data, "allow", descriptors)
            assert (ended.code, ended.stdout) == (0, data)
        policy.unlink(missing_ok=True)


def test_follows_no_link(wrapper: Path, bundle: Path) -> None:
    """A config.json that is a link is not followed, and what it leads to not written."""
    secret = bundle / "elsewhere"
    (bundle / "config.json").rename(secret)
    (bundle / "config.json").symlink_to(secret)
    before = secret.read_bytes()
    ended = call(wrapper, "create", "-b", bundle, "c")
    assert ended.code == 65
    assert "config.json': it is a symbolic link" in ended.stderr
    assert secret.read_bytes() == before


@pytest.mark.parametrize(("on_error", "code"), [("refuse", 74), ("allow", 42)])
def test_a_full_disk_is_a_fault_of_the_hosts(
    wrap: Callable[..., Path], runtime: Path, scratch: Path, bundle: Path, on_error: str, code: int
) -> None:
    """Where config.json cannot be written, --on-error decides; the file is whole as it was."""
    program = wrap(runtime, on_error)
    full = scratch / "full"
    full.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", full).check()
    try:
        (full / "config.json").write_bytes((bundle / "config.json").read_bytes())
        assert call(program, "create", "-b", full, "c").code == code
        assert (full / "config.json").read_bytes() == (bundle / "config.json").read_bytes()
        assert [each.name for each in full.iterdir()] == ["config.json"]
    finally:
        run("umount", full).check()


def test_says_that_the_runtime_is_gone(wrapper: Path, runtime: Path) -> None:
    """A runtime that was removed is named, with what to do."""
    runtime.unlink()
    for arguments in (["state", "c"], ["--version"]):
        ended = call(wrapper, *arguments)
        assert ended.code == 127
        assert f"cannot start the runtime '{runtime}'" in ended.stderr


def test_a_bundle_that_runs_twice_asks_for_the_same(
    wrap: Callable[..., Path], root: Path, runtime: Path, bundle: Path
) -> None:
    """What the wrapper wrote last time is no request: a policy of today decides on what the bundle's author wrote."""
    sandbox.put_in_force(root, sandbox.profile(on_violation="clamp"))
    program = wrap(runtime)
    told(call(program, "create", "-b", bundle, "c"))
    narrow = sandbox.profile(on_violation="clamp", sysctls={"kernel.shmmax": (4096, None, None, None)})
    sandbox.put_in_force(root, narrow)
    told(call(program, "create", "-b", bundle, "c"))
    document = read_config(bundle)
    assert document["linux"]["sysctl"] == {"net.ipv4.ip_forward": "1", "kernel.shmmax": "4096"}
    assert json.loads(document["annotations"][REQUESTED]) == {"kernel.shmmax": "68719476736"}


def test_narrows_what_the_profile_says(wrap: Callable[..., Path], root: Path, runtime: Path, bundle: Path) -> None:
    """nested_ipc and rlimits go into config.json, too."""
    write_config(bundle)
    sandbox.put_in_force(root, sandbox.profile(nested_ipc="deny", msgqueue=4096))
    told(call(wrap(runtime), "create", "-b", bundle, "c"))
    document = read_config(bundle)
    assert document["process"]["rlimits"] == [{"type": "RLIMIT_MSGQUEUE", "soft": 4096, "hard": 4096}]
    assert {"clone3", "unshare", "clone"} <= {
        name for rule in document["linux"]["seccomp"]["syscalls"] for name in rule["names"]
    }


def test_the_stub_loads_nothing_for_other_verbs(wrapper: Path) -> None:
    """What passes through costs an empty start of Python and no more: no unit, no policy."""
    traced = run("strace", "-f", "-qq", "-e", "trace=openat,execve", wrapper, "state", "c")
    opened = [line for line in traced.stderr.splitlines() if "_ipcwarden" in line or "policy" in line]
    assert traced.code == 42
    assert opened == []
