"""`ipcwarden doctor` with real engines: an installation that works, the traps that stop it, and a probe of each."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipcwarden.cli.diagnosis import hookfiles
from support.bundle import UNPACKED
from support.schema import validate
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.containerd import Containerd
    from support.docker import Docker
    from support.engine import PodmanEngine
    from support.podman import Podman
    from support.shell import Result
    from support.warden import Warden

POLICY = """
version: 1
profiles: {team: {sysctls: {kernel.shmmax: {max: 64MiB}, fs.mqueue.queues_max: {set: 32}}}}
rules: [{name: everything, profile: team}]
"""
HOOKS_DIR = "usr/share/containers/oci/hooks.d"
PROGRAM = Path(sys.executable).with_name("ipcwarden")


class Host:
    """A host whose podman reads its hooks below the warden's root, by a containers.conf and not by an option."""

    def __init__(self, warden: Warden, podman: Podman, directory: Path) -> None:
        self.warden = warden
        self.hooks = warden.root / HOOKS_DIR
        script = podman.script(self.hooks)
        self._home = Path(next(w for w in script.split() if w.startswith("CONTAINERS_CONF=")).partition("=")[2])
        self.conf = directory / "containers.conf"
        self._programs = directory / "programs"
        self._programs.mkdir()
        script = script.replace(str(self._home), '"$CONTAINERS_CONF"')
        self.script = script.replace(f"--hooks-dir {self.hooks} ", "")
        self.shim("podman", self.script)
        self.name(self.hooks)

    def shim(self, name: str, script: str) -> None:
        """Put a program in the way."""
        (self._programs / name).write_text(script, encoding="utf-8")
        (self._programs / name).chmod(0o755)

    def name(self, *directories: Path) -> None:
        """Let podman read directories."""
        text = self._home.read_text(encoding="utf-8")
        listed = json.dumps([str(each) for each in directories])
        self.conf.write_text(text.replace("[engine]\n", f"[engine]\nhooks_dir = {listed}\n"), encoding="utf-8")

    @property
    def env(self) -> dict[str, str]:
        """What doctor, and podman, are called with."""
        path = f"{self._programs}:{os.environ['PATH']}:{UNPACKED}/usr/sbin:{UNPACKED}/usr/bin"
        return {**os.environ, "PATH": path, "CONTAINERS_CONF": str(self.conf)}

    def podman(self, *arguments: str) -> Result:
        """Call podman."""
        return run("podman", *arguments, env=self.env)

    def doctor(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Call it; the answer is valid.  Engines of the tests' machine that nobody registered with are left out."""
        result = run(PROGRAM, "--root", self.warden.root, "doctor", "--json", *options, env=self.env, timeout=120)
        assert result.code == code, result.stdout + result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        validate(found, "doctor-v1")
        found["findings"] = [each for each in found["findings"] if each["check"] not in ("unregistered", "kernel")]
        return found

    def found(self, *options: str, code: int = 0) -> list[tuple[str, str, str]]:
        """Return findings in short."""
        rows = self.doctor(*options, code=code)["findings"]
        return [(each["check"], each["severity"], each["subject"]) for each in rows]


@pytest.fixture(params=["runc", "crun"])
def host(request: pytest.FixtureRequest, warden: Warden, podman: Callable[[str], Podman], scratch: Path) -> Host:
    """Install for podman."""
    warden.compile(POLICY)
    warden("install", "podman", "--no-precreate").check()
    return Host(warden, podman(request.param), scratch)


one_runtime = pytest.mark.parametrize("host", ["runc"], indirect=True)


@one_runtime
def test_a_fresh_installation_has_no_problems(host: Host) -> None:
    """It says so, ends with 0, and has started nothing."""
    assert host.found() == []
    said = run(PROGRAM, "--root", host.warden.root, "doctor", env=host.env)
    assert said.code == 0
    assert said.stdout.splitlines()[-1].startswith("no problems")
    assert host.podman("ps", "--all", "--quiet").check().stdout == ""


def test_a_probe_of_podman_passes(host: Host) -> None:
    """Without an image; nothing is left, neither a container nor a pin."""
    found = host.doctor("--probe")
    probes = {each["engine"]: (each["outcome"], each["message"]) for each in found["probes"]}
    assert probes["podman"] == ("passed", "2 limits in force, by the profile 'team'")
    assert found["findings"] == []
    assert host.podman("ps", "--all", "--quiet").check().stdout == ""
    assert (host.warden.pins(), host.warden.ledger()) == ([], [])
    assert host.found() == []


@one_runtime
def test_a_probe_of_runtimes_passes(host: Host) -> None:
    """Those that are there, each with a bundle of its own."""
    probes = {each["engine"]: each["outcome"] for each in host.doctor("--probe")["probes"]}
    assert {"runc", "crun"} <= probes.keys()
    assert set(probes.values()) == {"passed"}


@one_runtime
def test_a_probe_finds_hooks_that_nobody_calls(host: Host) -> None:
    """Whatever the configuration says that doctor was told of."""
    empty = host.conf.parent / "empty"
    empty.mkdir()
    other = host.conf.parent / "other.conf"
    other.write_text(host.conf.read_text().replace(str(host.hooks), str(empty)))
    host.shim("podman", host.script.replace('"$CONTAINERS_CONF"', str(other)))
    assert host.found("--probe", code=1) == [("probe", "problem", "podman")]


@one_runtime
def test_a_probe_finds_hooks_that_stop_all(host: Host) -> None:
    """Without them the same container starts."""
    (host.warden.root / "usr/libexec/ipcwarden/hook.py").unlink()
    found = {each["check"]: each for each in host.doctor("--probe", code=1)["findings"]}
    assert found.keys() == {"target", "probe"}
    assert "does not start with what is registered" in found["probe"]["message"]


@one_runtime
def test_what_cannot_be_probed_has_not_passed(host: Host) -> None:
    """The kill switch is on: nothing would be seen."""
    host.warden("disable").check()
    found = host.doctor("--probe", code=1)
    assert {each["outcome"] for each in found["probes"]} == {"impossible"}
    assert [(each["check"], each["severity"]) for each in found["findings"]] == [
        ("switch", "problem"),
        ("probe", "warning"),
    ]
    host.warden("enable").check()


@one_runtime
def test_a_container_without_a_rule_has_not_passed(host: Host) -> None:
    """Nothing is in force that could be compared."""
    host.warden.compile(POLICY.replace("everything,", 'everything, when: {name: "shop"},'))
    found = host.doctor("--probe")
    assert {each["outcome"] for each in found["probes"]} == {"impossible"}
    assert {each["message"] for each in found["probes"]} == {"no rule of the policy is for it"}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "",
        '{"version": "2.0.0", "hook": {"path": "/bin/true"}, "when": {"always": true}, "stages": ["poststop"]}',
        '{"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": {"always": true}, "stages": ["teardown"]}',
        '{"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": {"always": true}}',
        '{"version": "1.0.0", "hook": {}, "when": {"always": true}, "stages": ["poststop"]}',
    ],
)
@one_runtime
def test_what_doctor_calls_malformed_stops_podman(host: Host, content: str) -> None:
    """And what it does not does not."""
    good = '{"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": {"always": true}, "stages": ["poststop"]}'
    file = host.hooks / "90-other.json"
    for text, stops in ((content, True), (good, False)):
        file.write_text(text, encoding="utf-8")
        assert (hookfiles.fault_in(text.encode()) != "") == stops
        assert (host.found(code=stops) != []) == stops
        assert (_run(host).code != 0) == stops


def _run(host: Host) -> Result:
    """Run a container."""
    return host.podman("run", "--rm", "--name=shop", "registry.example/tests/payload:1", "true")


@one_runtime
def test_a_later_directory_masks_our_hook(host: Host, scratch: Path) -> None:
    """podman starts the container, and nobody decides."""
    later = scratch / "later.d"
    later.mkdir()
    shutil.copy(host.hooks / "10-ipcwarden-poststop.json", later / "10-ipcwarden-create.json")
    text = (later / "10-ipcwarden-create.json").read_text()
    (later / "10-ipcwarden-create.json").write_text(text.replace("/usr/libexec/ipcwarden/hook.py", "/x.py"))
    host.name(host.hooks, later)
    assert {check for check, _, _ in host.found(code=1)} == {"masked", "incomplete"}
    _run(host).check()
    assert host.warden.audit(event="applied") == []
    host.name(later, host.hooks)
    assert host.found() == []
    _run(host).check()
    assert len(host.warden.audit(event="applied")) == 1


@one_runtime
def test_a_configuration_that_names_other_directories(host: Host, scratch: Path) -> None:
    """podman never reads our hooks."""
    host.name(scratch / "elsewhere")
    assert host.found(code=1) == [("unread", "problem", str(host.hooks))]
    _run(host).check()
    assert host.warden.audit(event="applied") == []


@one_runtime
def test_a_container_that_was_there_before(host: Host, scratch: Path) -> None:
    """It is named, until it is started again."""
    host.name(scratch / "elsewhere")
    image = "registry.example/tests/payload:1"
    container = host.podman("run", "--detach", "--name=before", image, "sleep", "1000").check().stdout.strip()
    host.name(host.hooks)
    assert host.found(code=1) == [("ungoverned", "problem", container)]
    host.podman("restart", "--time=0", "before").check()
    assert host.found() == []
    host.podman("rm", "--force", "--time=0", "before").check()


@pytest.mark.parametrize("engine", ["rootless-runc", "rootless-crun"], indirect=True)
@pytest.mark.parametrize("governed", [True, False])
def test_a_container_of_an_ordinary_users(engine: PodmanEngine, warden: Warden, governed: bool) -> None:
    """Governed by the user's own ledger; else a warning, because that is the user's to choose."""
    warden.compile(POLICY)
    if governed:
        warden("install", "podman", "--no-precreate").check()
        engine.hooks_dir = warden.root / HOOKS_DIR
    container = engine.start("sleep", "1000")
    result = warden("doctor", "--json")
    found = [each for each in json.loads(result.stdout)["findings"] if each["check"] == "ungoverned"]
    expected = [] if governed else [("warning", container.id)]
    assert [(each["severity"], each["subject"]) for each in found] == expected
    container.remove()


@one_runtime
def test_a_probe_of_docker_passes(host: Host, docker: Docker) -> None:
    """From an image that is made for it, and removed."""
    config = host.warden.root / "etc/docker"
    config.mkdir()
    host.warden("install", "docker").check()
    ours = json.loads((config / "daemon.json").read_text())
    docker.config.write_text(json.dumps({**json.loads(docker.config.read_text()), **ours}))
    docker.reload()
    client = " ".join(docker("version").command[:3])
    host.shim("docker", f'#!/bin/sh\nexec {client} "$@"\n')
    try:
        probes = {each["engine"]: (each["outcome"], each["message"]) for each in host.doctor("--probe")["probes"]}
    finally:
        docker.reset()
    assert probes["docker"] == ("passed", "2 limits in force, by the profile 'team'")
    assert "ipcwarden-probe" not in docker("images").check().stdout


@one_runtime
def test_a_probe_of_containerd_passes(host: Host, containerd: Containerd) -> None:
    """By ctr, with the wrapper that the CRI plugin was told of."""
    (host.warden.root / "etc/containerd").mkdir()
    host.warden("install", "containerd", "--config-version", "2").check()
    client = " ".join(containerd("version").command[:2])
    host.shim("ctr", f'#!/bin/sh\nexec {client} "$@"\n')
    probes = {each["engine"]: (each["outcome"], each["message"]) for each in host.doctor("--probe")["probes"]}
    assert probes["containerd"] == ("passed", "2 limits in force, by the profile 'team'")
    assert containerd("containers", "ls", "--quiet").check().stdout == ""
