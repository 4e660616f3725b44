"""`ipcwarden scan`: real namespaces with real objects, judged by a policy that is or is not in force."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.core.amendment import HOOK_PATH, Amendment, amended
from ipcwarden.core.documents import serialize
from ipcwarden.core.seccomp import RAW_FILTER
from support import namespace, sandbox
from support.bundle import PAYLOADS
from support.sandbox import MIB, Container, config
from support.schema import validate
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipcwarden.core.documents import Document
    from support.shell import Result

PROGRAM = Path(sys.executable).with_name("ipcwarden")
POLICY = """
version: 1
mode: {mode}
profiles:
  small:
    sysctls:
      kernel.shmmax: {{max: {shmmax}}}
      kernel.shmall: {{max: 64MiB}}
      kernel.msgmni: {{set: 4}}
    {more}
rules: [{{name: all, profile: small}}]
"""


@pytest.fixture
def candidate(scratch: Path) -> Callable[..., Path]:
    """Write a policy that is not in force."""

    def write(mode: str = "enforcing", shmmax: str = "1MiB", more: str = "") -> Path:
        file = scratch / "candidate.yaml"
        file.write_text(POLICY.format(mode=mode, shmmax=shmmax, more=more), encoding="utf-8")
        return file

    return write


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in an IPC namespace of its own that no runtime knows."""
    with subprocess.Popen(["unshare", "--ipc", PAYLOADS / "leave", "--wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def on_record(container: Container) -> None:
    """Let runc's own record tell of a container, as if runc had started it."""
    file = container.root / "run" / "runc" / container.id / "state.json"
    file.parent.mkdir(parents=True)
    start = int(Path(f"/proc/{container.process.pid}/stat").read_text().rpartition(") ")[2].split()[19])
    labels = [f"bundle={container.bundle}"]
    state = {"init_process_pid": container.process.pid, "init_process_start": start, "config": {"labels": labels}}
    file.write_text(json.dumps(state), encoding="utf-8")


def call(root: Path, *arguments: str | Path) -> Result:
    """Run any verb."""
    return run(PROGRAM, "--root", root, *arguments)


def scan(root: Path, *options: str | Path, code: int = 0) -> dict[str, Any]:
    """Scan; the answer is valid."""
    result = call(root, "scan", "--json", *options)
    assert result.code == code, result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    validate(found, "scan-v1")
    return found


def of(found: dict[str, Any], container: Container) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the namespace that a container is in, and what is said of the container."""
    [(room, tenant)] = [
        (room, tenant)
        for room in found["namespaces"]
        for tenant in room["containers"]
        if tenant["container"]["id"] == container.id
    ]
    return room, tenant


def test_finds_who_is_where(root: Path, container: Container, stranger: subprocess.Popen[bytes]) -> None:
    """The host's namespace is one, a governed container's another, and what no engine started a third."""
    container.create().check()
    found = scan(root)
    host, *others = found["namespaces"]
    assert (host["host"], host["limits"], host["usage"]) == (True, None, None)
    room, tenant = of(found, container)
    assert room["inode"] == container.namespace.stat().st_ino
    assert tenant["governed"] == {"profile": "team", "rule": "everything", "mode": "enforcing", "enforced": True}
    assert (tenant["pid"], tenant["container"]["bundle"]) == (container.process.pid, str(container.bundle))
    [unknown] = [each for each in others if each["others"]]
    assert unknown["others"] == [{"pid": stranger.pid, "command": "leave"}]
    assert unknown["containers"] == []


def test_tells_limits_and_usage(root: Path, container: Container) -> None:
    """As the kernel has them."""
    container.create().check()
    container.leave("--shm", "1", "--shm-size", "131072", "--sem", "3", "--msg", "2", "--mqueue", "1")
    room, _ = of(scan(root), container)
    told = namespace.limits(container.namespace)
    assert {name: text for name, text in room["limits"].items() if name in told} == {
        name: text for name, text in told.items() if name in room["limits"]
    }
    assert {kind: total["count"] for kind, total in room["usage"].items()} == namespace.counts(container.namespace)
    assert room["usage"]["shm"]["claimed"] == 131072


def test_what_fits_hurts_nobody(root: Path, container: Container, candidate: Callable[..., Path]) -> None:
    """A container that asks for nothing and uses little goes on as it is."""
    container.create().check()
    _, tenant = of(scan(root, "--policy", candidate()), container)
    assert (tenant["verdict"], tenant["hurts"], tenant["rule"], tenant["profile"]) == ("fits", False, "all", "small")
    wanted = {each["name"]: (each["found"], each["wanted"]) for each in tenant["sysctls"]}
    assert wanted["kernel.shmmax"] == (str(64 * MIB), str(MIB))


def test_an_ungoverned_container_is_found_and_judged(
    root: Path, start: Callable[..., Container], candidate: Callable[..., Path]
) -> None:
    """What runc has on record of one that no hook has seen leads to what it asks for."""
    container = start()
    container.configure(config(sysctl={"kernel.shmmax": str(2 * MIB)}))
    on_record(container)
    _, tenant = of(scan(root, "--policy", candidate(), code=1), container)
    assert tenant["governed"] is None
    assert (tenant["verdict"], tenant["decision"], tenant["hurts"]) == ("refused", "refused", True)
    assert [(each["name"], each["requested"], each["max"]) for each in tenant["violations"]] == [
        ("kernel.shmmax", str(2 * MIB), str(MIB))
    ]
    assert tenant["facts"]["runtime"] == "runc"


def test_a_clamped_request_hurts(root: Path, start: Callable[..., Container], candidate: Callable[..., Path]) -> None:
    """Who asked for more would get less."""
    container = start()
    container.configure(config(sysctl={"kernel.shmmax": str(2 * MIB)}))
    on_record(container)
    _, tenant = of(scan(root, "--policy", candidate(more="on_violation: clamp"), code=1), container)
    assert (tenant["verdict"], tenant["hurts"]) == ("clamped", True)


def test_a_permissive_rule_hurts_nobody(
    root: Path, start: Callable[..., Container], candidate: Callable[..., Path]
) -> None:
    """What would be decided is said, and nothing would come of it."""
    container = start()
    container.configure(config(sysctl={"kernel.shmmax": str(2 * MIB)}))
    on_record(container)
    _, tenant = of(scan(root, "--policy", candidate("permissive")), container)
    assert (tenant["verdict"], tenant["mode"], tenant["hurts"]) == ("refused", "permissive", False)


def test_what_is_in_use_above_the_new_limit_hurts(
    root: Path, container: Container, candidate: Callable[..., Path]
) -> None:
    """A segment that is larger than a new one could be, and more queues than there could be."""
    container.create().check()
    container.leave("--shm", "1", "--shm-size", "2097152", "--shm-touch", "0", "--msg", "5")
    _, tenant = of(scan(root, "--policy", candidate(), code=1), container)
    assert (tenant["verdict"], tenant["decision"], tenant["hurts"]) == ("in-use", "accepted", True)
    assert tenant["excess"] == [
        {"name": "kernel.shmmax", "used": "2097152", "wanted": str(MIB)},
        {"name": "kernel.msgmni", "used": "5", "wanted": "4"},
    ]


def test_the_policy_in_force_is_what_judges_without_another(root: Path, container: Container) -> None:
    """A container that it governs fits it."""
    container.create().check()
    found = scan(root)
    assert found["policy"]["candidate"] is None
    assert of(found, container)[1]["verdict"] == "fits"


def test_without_any_policy_nothing_is_judged(root: Path, container: Container) -> None:
    """Who is there is told all the same."""
    container.create().check()
    (root / "var/lib/ipcwarden/policy.compiled").unlink()
    found = scan(root)
    assert (found["policy"], found["hurts"]) == (None, False)
    assert of(found, container)[1]["verdict"] == "none"


@pytest.mark.parametrize(
    ("more", "verdict", "code"), [("", "host-ipc", 0), ("host_ipc: refuse", "refused", 1)], ids=["audit", "refuse"]
)
def test_a_container_in_the_hosts_namespace(
    root: Path, start: Callable[..., Container], candidate: Callable[..., Path], more: str, verdict: str, code: int
) -> None:
    """It is listed with the host's, which is not looked into, and judged by what policy says of such."""
    container = start(ipc="host")
    container.create().check()
    on_record(container)
    room, tenant = of(scan(root, "--policy", candidate(more=more), code=code), container)
    assert room["host"]
    assert room["usage"] is None
    assert tenant["governed"] is None
    assert (tenant["verdict"], tenant["hurts"]) == (verdict, code == 1)


def test_joiners_are_judged_by_what_the_owner_gets(
    root: Path, start: Callable[..., Container], candidate: Callable[..., Path]
) -> None:
    """In a shared namespace the owner's limits count, and what others ask for differs from them."""
    owner = start()
    joiner = start(ipc=str(owner.namespace))
    owner.configure(config(sysctl={"kernel.shmmax": str(MIB)}))
    joiner.configure(config(str(owner.namespace), sysctl={"kernel.shmmax": "4096"}))
    for each in (owner, joiner):
        on_record(each)
    found = scan(root, "--policy", candidate(), code=1)
    assert of(found, owner)[0] == of(found, joiner)[0]
    assert of(found, owner)[1]["verdict"] == "fits"
    told = of(found, joiner)[1]
    assert [each["kind"] for each in told["violations"]] == ["owner"]


def test_a_joiner_may_widen_what_it_joins(
    root: Path, start: Callable[..., Container], candidate: Callable[..., Path]
) -> None:
    """Where the profile says so, what it asks for within the bounds is no violation, and counts for the next one."""
    owner = start()
    joiners = [start(ipc=str(owner.namespace)) for _ in range(2)]
    for each, shmmax in zip((owner, *joiners), ("4096", "8192", "8192"), strict=True):
        each.configure(config("private" if each is owner else str(owner.namespace), sysctl={"kernel.shmmax": shmmax}))
        on_record(each)
    found = scan(root, "--policy", candidate(more="shared: widen"))
    assert [of(found, each)[1]["verdict"] for each in (owner, *joiners)] == ["fits"] * 3
    assert {each["name"]: each["wanted"] for each in of(found, joiners[1])[1]["sysctls"]}["kernel.shmmax"] == "8192"


@pytest.fixture
def leaver(root: Path, scratch: Path) -> Iterator[Container]:
    """Start a container of which one process has left for an IPC namespace of its own."""
    script = f"unshare --ipc {PAYLOADS}/leave --wait & exec {PAYLOADS}/leave --wait"
    with subprocess.Popen(
        ["unshare", "--ipc", "sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline()[:4] for _ in range(2)] == ["made", "made"]
        container = Container(root, scratch / "leaver", process, "leaver")
        container.bundle.mkdir()
        container.configure(config())
        yield container
        os.killpg(process.pid, signal.SIGKILL)


def test_a_process_that_left_is_nested(root: Path, leaver: Container) -> None:
    """A process of a container's in another namespace is out of any policy's reach, and shown so."""
    on_record(leaver)
    found = scan(root)
    assert of(found, leaver)[0]["processes"] == 1
    [room] = [each for each in found["namespaces"] if each["nested"]]
    assert (room["nested"][0]["container"], room["containers"], room["others"]) == ("leaver", [], [])
    assert "in leaver: leave - no nothing nested: out of reach" in " ".join(call(root, "scan").stdout.split())


@pytest.fixture
def jailed(root: Path, scratch: Path) -> Iterator[Callable[[bool], Container]]:
    """Start a container in a root file system of its own; with a /proc/sys in it that config.json does not tell of."""
    jail = scratch / "jail"
    for name in ("proc", "sysctl"):
        (jail / name).mkdir(parents=True)
    shutil.copy(PAYLOADS / "leave", jail / "leave")
    started: list[Container] = []

    def start(opens: bool) -> Container:
        mounts = [f"mount -t proc proc {jail}/proc", *([f"mount --bind /proc/sys {jail}/sysctl"] if opens else [])]
        script = f"{' && '.join(mounts)} && exec chroot {jail} /leave --wait"
        process = subprocess.Popen(
            ["unshare", "--ipc", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("made")
        container = Container(root, scratch / "jailed", process, "jailed")
        container.bundle.mkdir()
        started.append(container)
        shielded = config(readonlyPaths=["/proc/sys"])
        container.configure({**shielded, "root": {"path": str(jail)}, "mounts": [PROC]})
        on_record(container)
        return container

    yield start
    for each in started:
        each.kill()


def test_who_can_write_its_own_limits_is_said(
    root: Path, jailed: Callable[[bool], Container], candidate: Callable[..., Path]
) -> None:
    """Where policy lets it start, limits do not hold it."""
    container = jailed(True)
    _, tenant = of(scan(root, "--policy", candidate()), container)
    assert (tenant["verdict"], tenant["notes"]) == ("fits", ["can write /proc/sys: limits do not hold it"])
    assert "jailed bare no nothing fits; can write /proc/sys" in " ".join(
        call(root, "scan", "--policy", candidate()).stdout.split()
    )


def test_the_kill_switch_is_said(root: Path, container: Container, candidate: Callable[..., Path]) -> None:
    """What would be decided is not, while it is on."""
    call(root, "disable", "--reason", "INC-1").check()
    result = call(root, "scan", "--json", "--policy", candidate())
    assert result.stderr == ("note: ipcwarden is disabled until ipcwarden enable, containers start ungoverned: INC-1\n")


PROC = {"destination": "/proc", "type": "proc", "source": "proc"}


@pytest.mark.parametrize(("opens", "verdict"), [(False, "fits"), (True, "refused")], ids=["shielded", "mounted"])
def test_what_is_mounted_is_judged_as_creation_will(
    root: Path, jailed: Callable[[bool], Container], candidate: Callable[..., Path], opens: bool, verdict: str
) -> None:
    """A /proc/sys that can be written is refused, by whatever name it came in."""
    container = jailed(opens)
    path = candidate(more="writable_proc_sys: refuse")
    _, tenant = of(scan(root, "--policy", path, code=1 if opens else 0), container)
    assert tenant["verdict"] == verdict
    assert [each["kind"] for each in tenant["violations"]] == (["writable_proc_sys"] if opens else [])


@pytest.mark.parametrize(
    ("arguments", "annotations", "verdict"),
    [
        (["--native"], {}, "fits"),
        (["--native"], {RAW_FILTER: ""}, "refused"),
        ([], {RAW_FILTER: ""}, "fits"),
    ],
    ids=["narrowed", "rigid", "hook"],
)
def test_a_filter_is_judged_as_a_native_door_leaves_it(
    root: Path,
    start: Callable[..., Container],
    candidate: Callable[..., Path],
    arguments: list[str],
    annotations: dict[str, str],
    verdict: str,
) -> None:
    """At the next start it narrows what it can; what it cannot is refused, but not where hooks alone come."""
    container = start()
    entry = {"path": "/usr/bin/python3", "args": ["python3", HOOK_PATH, *arguments, "createRuntime"]}
    container.configure({**config(), "annotations": annotations, "hooks": {"createRuntime": [entry]}})
    on_record(container)
    path = candidate(more="nested_ipc: deny")
    _, tenant = of(scan(root, "--policy", path, code=1 if verdict == "refused" else 0), container)
    assert tenant["verdict"] == verdict
    assert [each["kind"] for each in tenant["violations"]] == (["nested_ipc"] if verdict == "refused" else [])


ASKED = config(sysctl={"kernel.shmmax": str(2048 * MIB)})
CLAMPED = Amendment({"kernel.shmmax": str(1024 * MIB)})


def test_what_a_native_door_has_written_is_not_what_was_asked_for(
    root: Path, start: Callable[..., Container], candidate: Callable[..., Path]
) -> None:
    """The next start will ask for it again: it is what is judged."""
    container = start()
    ours: dict[str, Document] = {"path": "/usr/bin/python3", "args": ["python3", HOOK_PATH, "createRuntime"]}
    container.configure(json.loads(serialize(amended(ASKED, {"createRuntime": ours}, CLAMPED))))
    on_record(container)
    _, tenant = of(scan(root, "--policy", candidate(shmmax="1GiB"), code=1), container)
    assert [each["requested"] for each in tenant["violations"]] == [str(2048 * MIB)]


@pytest.mark.parametrize(("native", "asked"), [(["--native"], 2048 * MIB), ([], 1024 * MIB)], ids=["native", "forged"])
def test_podman_keeps_the_annotation_alone(root: Path, container: Container, native: list[str], asked: int) -> None:
    """It is believed where the ledger has it from the hook; anybody else could have written it."""
    sandbox.put_in_force(root, sandbox.profile(on_violation="clamp"))
    document = json.loads(serialize(amended(ASKED, {}, CLAMPED)))
    del document["hooks"]
    container.configure(document)
    container.create(*native).check()
    _, tenant = of(scan(root, code=1 if native else 0), container)
    assert [each["requested"] for each in tenant["sysctls"] if each["name"] == "kernel.shmmax"] == [str(asked)]
    assert tenant["verdict"] == ("clamped" if native else "fits")


def test_unusable_documents_would_be_refused(root: Path, container: Container, candidate: Callable[..., Path]) -> None:
    """A config.json that a hook could not use would not start again."""
    container.create().check()
    container.configure("{")
    _, tenant = of(scan(root, "--policy", candidate(), code=1), container)
    assert (tenant["verdict"], tenant["hurts"]) == ("unusable", True)
    assert "config.json" in tenant["notes"][0]


def test_a_bundle_that_is_gone_is_judged_as_unknown(
    root: Path, container: Container, candidate: Callable[..., Path]
) -> None:
    """By the rule that matches unknown facts, as if nothing were asked for; and that is said."""
    container.create().check()
    (container.bundle / "config.json").unlink()
    _, tenant = of(scan(root, "--policy", candidate()), container)
    assert (tenant["verdict"], tenant["rule"]) == ("fits", "all")
    assert tenant["container"]["id"] == container.id
    assert "is not known" in tenant["notes"][0]


def test_limits_that_were_changed_are_said(root: Path, container: Container) -> None:
    """What is in force now is not what was put in force."""
    container.create().check()
    run("nsenter", f"--ipc={container.namespace}", "sh", "-c", "echo 77 >/proc/sys/kernel/shmmni").check()
    _, tenant = of(scan(root), container)
    assert tenant["drift"] == [{"name": "kernel.shmmni", "wanted": "4096", "found": "77"}]


def test_changes_nothing(root: Path, container: Container, candidate: Callable[..., Path]) -> None:
    """Neither a limit nor an object, nor a file below the root."""
    container.create().check()
    container.leave("--shm", "1")

    def everything() -> Any:
        files = {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}
        return files, namespace.limits(container.namespace), namespace.objects(container.namespace, "shm")

    before = everything()
    scan(root, "--policy", candidate())
    assert everything() == before


def test_a_look_makes_no_directory(scratch: Path) -> None:
    """A host that has never had a hook is left as it is."""
    bare = scratch / "bare"
    bare.mkdir()
    scan(bare)
    assert list(bare.iterdir()) == []


def test_people_see_a_row_each(root: Path, container: Container, candidate: Callable[..., Path]) -> None:
    """And a line for everything that would hurt."""
    container.create().check()
    container.leave("--shm", "1", "--shm-size", "2097152", "--shm-touch", "0")
    result = call(root, "scan", "--policy", candidate())
    assert result.code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    inode = container.namespace.stat().st_ino
    assert f"{inode} {container.id} bare team 1 shm 0 B in use above the new limit" in lines
    assert f"{container.id}: kernel.shmmax would be 1048576, 2097152 are in use" in lines
    assert lines[-1].endswith("candidate.yaml would hurt 1")


def test_a_candidate_with_errors_is_not_judged_by(root: Path, candidate: Callable[..., Path]) -> None:
    """What is wrong with it is said as `check` says it."""
    result = call(root, "scan", "--policy", candidate(shmmax="much"))
    assert result.code == 78
    assert "candidate.yaml:7:" in result.stderr
    assert result.stdout == ""


def test_a_directory_is_a_candidate(root: Path, container: Container, scratch: Path) -> None:
    """Like /etc/ipcwarden: drop-ins' rules come first."""
    container.create().check()
    for name, rule in (("policy.yaml", "name: late"), ("policy.d/10.yaml", "name: early, when: {ipc: private}")):
        file = scratch / "new" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"version: 1\nrules: [{{{rule}, profile: baseline}}]\n")
    assert of(scan(root, "--policy", scratch / "new"), container)[1]["rule"] == "early"


def test_only_root_can(root: Path) -> None:
    """An ordinary user would see next to nothing, and take it for all."""
    result = run("setpriv", "--reuid=65534", "--clear-groups", PROGRAM, "--root", root, "scan")
    assert result.code == 69
    assert "only root can do this" in result.stderr
