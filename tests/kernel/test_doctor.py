"""`ipcwarden doctor` on a root with real hooks, pins and containers: what it finds there, and that nothing changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.cli.diagnosis import enforcement
from ipcwarden.core.policy import Profile
from ipcwarden.registration import runtimes
from support.sandbox import Container, config
from support.schema import validate
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.shell import Result

PROGRAM = Path(sys.executable).with_name("ipcwarden")
POLICY = """
version: 1
profiles: {team: {sysctls: {kernel.shmmax: {max: 64MiB}}}}
rules: [{name: everything, when: {WHEN}, profile: team}]
"""
LOG = "var/log/ipcwarden/audit.jsonl"


def call(root: Path, *arguments: str | Path) -> Result:
    """Run any verb."""
    return run(PROGRAM, "--root", root, *arguments)


@pytest.fixture
def host(root: Path) -> Path:
    """Give a root that is in order: the policy in force is what is written, and podman is registered."""
    write(root)
    call(root, "compile").check()
    call(root, "install", "podman", "--no-precreate").check()
    return root


def write(root: Path, when: str = "") -> None:
    """Write the sources of a policy."""
    (root / "etc/ipcwarden").mkdir(parents=True, exist_ok=True)
    text = POLICY.replace("when: {WHEN}, ", f"when: {{{when}}}, " if when else "")
    (root / "etc/ipcwarden/policy.yaml").write_text(text, encoding="utf-8")


def doctor(root: Path, code: int) -> list[dict[str, Any]]:
    """Call it; the answer is valid.  What the tests' machine itself lacks is left out."""
    result = call(root, "doctor", "--json")
    assert result.code == code, result.stdout + result.stderr
    document = json.loads(result.stdout)
    validate(document, "doctor-v1")
    assert document["healthy"] == (code == 0)
    return [each for each in document["findings"] if each["check"] not in ("unregistered", "kernel")]


def short(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return findings in short."""
    return [(each["check"], each["severity"], each["subject"]) for each in findings]


def test_a_host_that_is_in_order(host: Path) -> None:
    """It ends with 0 and says so, and leaves no trace."""
    before = sorted(host.rglob("*"))
    assert doctor(host, 0) == []
    said = call(host, "doctor")
    assert said.code == 0
    assert said.stdout.splitlines()[-1].startswith("no problems")
    assert sorted(host.rglob("*")) == before


def test_governed_containers_are_in_order(host: Path, container: Container) -> None:
    """As long as they live."""
    container.create().check()
    assert doctor(host, 0) == []


def test_three_lines_a_finding(host: Path) -> None:
    """What, why, and what to do; nothing that could draw on a terminal."""
    (host / "usr/share/containers/oci/hooks.d/0\x1b[2J.json").write_text("{")
    said = call(host, "doctor")
    assert said.code == 1
    what, why, hint = said.stdout.splitlines()[:3]
    assert what.startswith("problem: ")
    assert what.endswith("hooks.d/0\\x1b[2J.json: malformed: it is not a JSON object")
    assert (why, hint) == (
        "    podman and CRI-O start no container while one file there is malformed",
        "    repair it, or move it away",
    )


def on_record(container: Container) -> None:
    """Let runc's own record tell of a container, as if runc had started it."""
    file = container.root / "run" / "runc" / container.id / "state.json"
    file.parent.mkdir(parents=True)
    start = int(Path(f"/proc/{container.process.pid}/stat").read_text().rpartition(") ")[2].split()[19])
    labels = [f"bundle={container.bundle}"]
    state = {"init_process_pid": container.process.pid, "init_process_start": start, "config": {"labels": labels}}
    file.write_text(json.dumps(state), encoding="utf-8")


def test_an_ungoverned_container(host: Path, start: Callable[..., Container]) -> None:
    """With its id, engine and pid."""
    container = start()
    container.configure(config())
    on_record(container)
    [found] = doctor(host, 1)
    assert (found["check"], found["severity"], found["subject"]) == ("ungoverned", "problem", container.id)
    assert f"pid {container.process.pid}" in found["message"]
    assert "bare" in found["message"]


def test_a_container_that_no_rule_is_for(host: Path, start: Callable[..., Container]) -> None:
    """It is ungoverned because the policy says so."""
    write(host, "engine: podman")
    call(host, "compile").check()
    container = start()
    container.configure(config())
    on_record(container)
    assert doctor(host, 0) == []


def test_a_container_without_a_poststop(host: Path, start: Callable[..., Container]) -> None:
    """gc would free it; doctor leaves it there."""
    container = start()
    container.create().check()
    container.kill()
    [found] = doctor(host, 0)
    assert (found["check"], found["severity"]) == ("pins", "warning")
    assert container.id in found["message"]
    assert len(container.pins()) == len(container.entries()) == 1


def test_a_pin_without_an_entry(host: Path, container: Container) -> None:
    """It leaks."""
    container.create().check()
    [entry] = (host / "run/ipcwarden/containers").glob("*.json")
    saved = entry.read_bytes()
    entry.unlink()
    findings = doctor(host, 1)
    assert ("pins", "problem") in [each[:2] for each in short(findings)]
    entry.write_bytes(saved)


def test_a_ledger_with_what_is_no_entry(host: Path, container: Container) -> None:
    """It is named, and all else is seen."""
    container.create().check()
    (host / "run/ipcwarden/containers/odd-1.json").write_text("{")
    [found] = doctor(host, 1)
    assert (found["check"], found["severity"]) == ("pins", "problem")
    (host / "run/ipcwarden/containers/odd-1.json").unlink()


def test_a_ledger_that_is_somebody_elses(host: Path) -> None:
    """No hook would use it."""
    (host / "run/ipcwarden/containers").mkdir(parents=True)
    os.chown(host / "run/ipcwarden", 1000, 1000)
    assert ("ledger", "problem", f"{host}/run/ipcwarden/containers") in short(doctor(host, 1))


@pytest.fixture
def small(host: Path) -> Iterator[Path]:
    """Mount a small disk for the log."""
    logs = host / "var/log/ipcwarden"
    kept = (host / LOG).read_bytes()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "ipcwarden", logs], check=True)
    (host / LOG).write_bytes(kept)
    yield logs
    subprocess.run(["umount", logs], check=True)


def test_a_log_on_a_small_disk(host: Path, small: Path) -> None:
    """Little room is a warning."""
    assert short(doctor(host, 0)) == [("log", "warning", str(small))]


def test_a_log_on_a_full_disk(host: Path, small: Path) -> None:
    """None is a problem."""
    with pytest.raises(OSError, match="No space left"):
        (small / "full").write_bytes(b"x" * (1 << 17))
    assert short(doctor(host, 1)) == [("log", "problem", str(small))]


def test_a_log_on_a_disk_that_is_read_only(host: Path, small: Path) -> None:
    """The same."""
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    assert [each[:2] for each in short(doctor(host, 1))] == [("log", "problem")]


def test_the_kill_switch(host: Path) -> None:
    """As disable sets it."""
    call(host, "disable", "--for", "2h", "--reason", "an outage").check()
    [found] = doctor(host, 1)
    assert (found["check"], found["severity"]) == ("switch", "problem")
    assert found["message"].endswith("by uid 0: an outage")
    call(host, "enable").check()
    assert doctor(host, 0) == []


def test_a_kill_switch_that_is_not_obeyed(host: Path) -> None:
    """It is somebody else's."""
    switch = host / "etc/ipcwarden/disabled"
    switch.touch()
    os.chown(switch, 1000, 1000)
    assert short(doctor(host, 0)) == [("switch", "warning", str(switch))]


def test_a_policy_of_somebody_elses(host: Path) -> None:
    """Hooks would not take it."""
    file = host / "var/lib/ipcwarden/policy.compiled"
    os.chown(file, 1000, 1000)
    assert ("policy", "problem", str(file)) in short(doctor(host, 1))


def test_facts_that_nobody_knew(host: Path, container: Container) -> None:
    """As the creation hook has recorded them."""
    text = POLICY.replace("when: {WHEN}, ", "when: {not: {image: 'x'}}, ") + "\n"
    text = text.replace("profile: team}]", "profile: team}, {name: rest, profile: team}]")
    (host / "etc/ipcwarden/policy.yaml").write_text(text, encoding="utf-8")
    call(host, "compile").check()
    container.create().check()
    [found] = doctor(host, 0)
    assert (found["check"], found["severity"], found["subject"]) == ("unknown", "warning", "image")
    assert container.id in found["message"]


def test_a_runc_that_is_late() -> None:
    """It is asked for its version."""
    directory = Path("/run/ipcwarden-doctor")
    directory.mkdir(mode=0o755)
    try:
        (directory / "runc").write_text("#!/bin/sh\necho runc version 1.6.0\n")
        (directory / "runc").chmod(0o755)
        found = runtimes.find("runc", (str(directory),))
        clamping = Profile("soft", {}, on_violation="clamp")
        assert [each.check for each in enforcement.late([found], [clamping], ["podman"])] == ["late"]
        real = runtimes.find("runc")
        assert enforcement.late([real], [clamping], ["podman"]) == []
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("what", ["a FIFO", "a directory", "a link to itself", "noise"])
def test_nothing_that_lies_around_stops_it(host: Path, what: str) -> None:
    """Whatever stands in place of any file that it reads: it ends, with an answer."""
    files = [path for path in host.rglob("*") if path.is_file() and not path.name.endswith(".pyc")]
    names = ["etc/docker/daemon.json", "etc/containerd/config.toml", "etc/crio/crio.conf.d/10-ipcwarden.conf"]
    names += ["etc/containers/containers.conf", "etc/containers/containers.conf.d/a.conf", "etc/ipcwarden/disabled"]
    names += [LOG, "usr/share/containers/oci/hooks.d/a.json", "usr/share/containers/containers.conf"]
    for path in {*files, *(host / name for name in names)}:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        match what:
            case "a FIFO":
                os.mkfifo(path)
            case "a directory":
                path.mkdir()
            case "a link to itself":
                path.symlink_to(path.name)
            case _:
                path.write_bytes(os.urandom(4096))
    findings = doctor(host, 1)
    assert [each for each in findings if "fault of ipcwarden" in each["hint"]] == []


@pytest.mark.parametrize("what", ["a FIFO", "noise"])
def test_a_later_file_of_crio_that_is_none(host: Path, what: str) -> None:
    """It is read only where ours is there."""
    call(host, "install", "crio").check()
    file = host / "etc/crio/crio.conf.d/99"
    os.mkfifo(file) if what == "a FIFO" else file.write_bytes(os.urandom(4096))
    [found] = doctor(host, 1)
    assert short([found]) == [("engine", "problem", "crio")]
    assert found["message"].startswith(f"cannot make sense of '{file}': ")


def test_it_takes_root(host: Path) -> None:
    """An ordinary user would see half of it."""
    done = run("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", sys.executable, PROGRAM, "doctor")
    assert done.code == 69
    assert "only root can do this" in done.stderr
