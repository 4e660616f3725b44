"""`ipcwarden doctor` without what only root can look at: traps made for real below a root, and facts judged."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ipcwarden.cli import cli
from ipcwarden.cli.census import Resident
from ipcwarden.cli.diagnosis import containers, enforcement, host, podman, policies, programs, registrations
from ipcwarden.cli.diagnosis.finding import CHECKS, SEVERITIES, Finding, ordered
from ipcwarden.cli.diagnosis.host import Kernel, Room
from ipcwarden.cli.diagnosis.laboratory import Laboratory
from ipcwarden.cli.diagnosis.probe import FAILED, IMPOSSIBLE, PASSED, Probe, Run, judge
from ipcwarden.cli.logs import Record
from ipcwarden.core.policy import PREVIOUS_FORMATS, Choice, Policy, Profile, Rule, pack
from ipcwarden.core.switch import Switch
from ipcwarden.core.sysctls import FILES, KERNEL_DEFAULTS
from ipcwarden.host.namespace import Features
from ipcwarden.host.procfs import started
from ipcwarden.layout import Place
from ipcwarden.registration.runtimes import Runtime
from ipcwarden.stages.collection import Due
from support.documents import code, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RELEASE = os.uname().release
POLICY = """
version: 1
rules: [{name: all, profile: baseline}]
"""
DEFAULT, ETC = "usr/share/containers/oci/hooks.d", "etc/containers/oci/hooks.d"
CONF, PROGRAMS = "etc/containers/containers.conf", "usr/libexec/ipcwarden"
CREATE, POSTSTART, POSTSTOP = (f"10-ipcwarden-{name}.json" for name in ("create", "poststart", "poststop"))
GOOD = {"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": {"always": True}, "stages": ["poststop"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root whose policy is in force."""
    root = tmp_path / "root"
    for name in ("etc/ipcwarden", "usr", "var", "run"):
        (root / name).mkdir(parents=True)
    (root / "etc/ipcwarden/policy.yaml").write_text(POLICY)
    for each in (root, *root.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    call(root, "compile")
    return root


def call(root: Path, *arguments: str) -> None:
    """Run another verb, which must end well."""
    result = CliRunner().invoke(cli, ["--root", str(root), *arguments], catch_exceptions=False, standalone_mode=False)
    assert not result.return_value


@pytest.fixture
def installed(root: Path) -> Path:
    """Register with podman, by hooks alone."""
    call(root, "install", "podman", "--no-precreate")
    return root


def put(root: Path, name: str, content: object) -> Path:
    """Write a file."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def conf(*directories: str | Path) -> str:
    """Return a containers.conf that names directories of hooks."""
    return f"[engine]\nhooks_dir = {json.dumps([str(each) for each in directories])}\n"


def of_podman(root: Path, **environment: str) -> list[Finding]:
    """Judge what podman would read."""
    return podman.judge(podman.look(str(root), environment), str(root))


def of_registrations(root: Path) -> list[Finding]:
    """Judge what every engine was told to run."""
    engines, findings = registrations.of_engines(str(root))
    found = registrations.of_podman(podman.look(str(root), {}))
    return findings + programs.judge([*found, *engines], str(root))


def told(findings: Iterable[Finding], root: Path | None = None) -> list[tuple[str, str, str]]:
    """Return findings in short, with paths below the root."""
    prefix = f"{root}/" if root else "\0"
    return [(each.check, each.severity, each.subject.removeprefix(prefix)) for each in findings]


def test_findings_stand_in_the_order_in_which_they_matter() -> None:
    """Problems first, then as the checks are listed; none twice."""
    late, early = Finding("pins", "warning", "b", ""), Finding("policy", "warning", "z", "")
    worst, other = Finding("unknown", "problem", "x", ""), Finding("pins", "warning", "a", "")
    assert ordered([late, early, worst, other, late]) == [worst, early, other, late]


def test_every_check_has_its_row() -> None:
    """In docs/doctor.md, with severities that there are."""
    rows = table("docs/doctor.md", "Checks")
    assert [code(row[0]) for row in rows] == [[check] for check in CHECKS]
    assert {word for row in rows for word in row[1].split(", ")} <= set(SEVERITIES)


def test_the_schema_knows_every_check() -> None:
    """And no other."""
    schema = json.loads((Path(__file__).parents[2] / "schemas/doctor-v1.schema.json").read_text())
    known = schema["properties"]["findings"]["items"]["properties"]
    assert known["check"]["enum"] == list(CHECKS)
    assert known["severity"]["enum"] == list(SEVERITIES)


# Directories of hooks


def test_a_fresh_installation_is_in_order(installed: Path) -> None:
    """Nothing is found."""
    assert of_podman(installed) == []
    assert of_registrations(installed) == []


def test_nothing_registered_is_no_fault_of_podmans(root: Path) -> None:
    """Whatever others have there, if it is well made."""
    put(root, f"{DEFAULT}/00-other.json", GOOD)
    put(root, f"{DEFAULT}/README", "not read")
    assert of_podman(root) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("", "not a JSON object"),
        ({**GOOD, "version": "2.0.0"}, "version is '2.0.0'"),
        ({**GOOD, "version": 1}, "version is 1"),
        ({**GOOD, "version": []}, r"version is \[\]"),
        ({**GOOD, "stages": ["poststop", "teardown"]}, "unknown stage 'teardown'"),
        ({**GOOD, "stages": [{}]}, "unknown stage {}"),
        ({**GOOD, "stages": None}, "no list of stages"),
        ({**GOOD, "hook": {}}, "no hook.path"),
        ({**GOOD, "hook": []}, "no hook.path"),
    ],
)
def test_a_malformed_file_stops_all(root: Path, content: object, reason: str) -> None:
    """Whoever wrote it."""
    put(root, f"{DEFAULT}/00-other.json", content)
    [found] = of_podman(root)
    assert told([found], root) == [("hooks-d", "problem", f"{DEFAULT}/00-other.json")]
    assert re.search(reason, found.message)


@pytest.mark.parametrize("content", [{**GOOD, "version": "0.1.0"}, {"hook": "/bin/true", "stage": ["prestart"]}])
def test_the_older_format_is_left_to_the_engine(root: Path, content: object) -> None:
    """It is still read."""
    put(root, f"{DEFAULT}/00-other.json", content)
    assert of_podman(root) == []


def test_a_file_that_cannot_be_read_is_malformed(root: Path) -> None:
    """A directory, a link to nowhere, one without an end."""
    (root / DEFAULT).mkdir(parents=True)
    (root / DEFAULT / "a.json").mkdir()
    (root / DEFAULT / "b.json").symlink_to("nowhere")
    (root / DEFAULT / "c.json").symlink_to("/dev/zero")
    assert told(of_podman(root), root) == [("hooks-d", "problem", f"{DEFAULT}/{name}.json") for name in "abc"]


def test_what_others_can_write_is_found(installed: Path) -> None:
    """The directory, and a file in it."""
    (installed / DEFAULT).chmod(0o777)
    (installed / DEFAULT / CREATE).chmod(0o666)
    found = [each for each in of_podman(installed) if each.check == "foreign-hand"]
    assert [each.subject.removeprefix(f"{installed}/") for each in found] == [DEFAULT, f"{DEFAULT}/{CREATE}"]


def test_a_later_directory_masks(installed: Path) -> None:
    """A file of our name there takes the place of ours, and the stage is missing."""
    put(installed, CONF, conf(installed / DEFAULT, installed / ETC))
    put(installed, f"{ETC}/{CREATE}", GOOD)
    assert told(of_podman(installed), installed) == [
        ("masked", "problem", f"{DEFAULT}/{CREATE}"),
        ("incomplete", "problem", DEFAULT),
    ]


def test_an_earlier_directory_masks_nothing(installed: Path) -> None:
    """The other way round, ours is the one that counts."""
    put(installed, CONF, conf(installed / ETC, installed / DEFAULT))
    put(installed, f"{ETC}/{CREATE}", GOOD)
    assert of_podman(installed) == []


def test_both_creation_stages(installed: Path) -> None:
    """Said, and no more."""
    hook = json.loads((installed / DEFAULT / CREATE).read_text())
    put(installed, f"{DEFAULT}/11.json", {**hook, "stages": ["prestart"]})
    assert told(of_podman(installed), installed) == [("both-stages", "note", DEFAULT)]


@pytest.mark.parametrize("name", [CREATE, POSTSTART, POSTSTOP])
def test_a_stage_that_is_missing(installed: Path, name: str) -> None:
    """Each is needed."""
    (installed / DEFAULT / name).unlink()
    [found] = of_podman(installed)
    assert found.check == "incomplete"
    assert name[13:-5].replace("create", "createRuntime") in found.message


@pytest.mark.parametrize("file", [CONF, "usr/share/containers/containers.conf", f"{CONF}.d/10-site.conf"])
def test_a_configuration_that_names_other_directories(installed: Path, file: str) -> None:
    """Our hooks are never read, silently."""
    put(installed, file, conf("/elsewhere"))
    [found] = of_podman(installed)
    assert told([found], installed) == [("unread", "problem", DEFAULT)]
    assert f"{installed}/{file}" in found.message


def test_the_environments_configuration_is_the_only_one(installed: Path) -> None:
    """CONTAINERS_CONF takes the place of all others."""
    put(installed, CONF, conf("/elsewhere"))
    mine = put(installed, "mine.conf", conf(installed / DEFAULT))
    assert of_podman(installed, CONTAINERS_CONF=str(mine)) == []
    mine.write_text(conf("/elsewhere"))
    assert told(of_podman(installed, CONTAINERS_CONF=str(mine)), installed) == [("unread", "problem", DEFAULT)]


def test_the_environments_override_has_the_last_word(installed: Path) -> None:
    """CONTAINERS_CONF_OVERRIDE is read after all others."""
    mine = put(installed, "mine.conf", conf("/elsewhere"))
    found = of_podman(installed, CONTAINERS_CONF_OVERRIDE=str(mine))
    assert told(found, installed) == [("unread", "problem", DEFAULT)]


def test_a_directory_that_our_own_drop_in_hides(root: Path) -> None:
    """It came into the list after the drop-in was written; installing again puts that right."""
    call(root, "install", "podman", "--precreate")
    put(root, CONF, conf(root / DEFAULT, root / ETC))
    assert told(of_podman(root), root) == [("unread", "warning", ETC)]
    call(root, "install", "podman", "--precreate")
    assert of_podman(root) == []


def test_hooks_that_are_left_where_nobody_reads(installed: Path) -> None:
    """Where others govern, that is not urgent."""
    put(installed, f"{ETC}/{CREATE}", (installed / DEFAULT / CREATE).read_text())
    assert told(of_podman(installed), installed) == [("unread", "warning", ETC)]


@pytest.mark.parametrize("text", ["[engine", "[engine]\nhooks_dir = 1\n", "\x00", "engine = 1"])
def test_a_configuration_that_makes_no_sense(installed: Path, text: str) -> None:
    """It is said, and the others count."""
    put(installed, CONF, text)
    assert told(of_podman(installed), installed) == [("engine", "warning", CONF)]


def test_a_precreate_hook_where_buildah_reads(installed: Path) -> None:
    """In the default directory."""
    put(installed, f"{DEFAULT}/20.json", {**GOOD, "stages": ["precreate"]})
    assert told(of_podman(installed), installed) == [("precreate", "problem", f"{DEFAULT}/20.json")]


def test_the_precreate_hook_of_install_is_no_trap(root: Path) -> None:
    """It has a directory of its own, and podman is told of it."""
    call(root, "install", "podman", "--precreate")
    looked = podman.look(str(root), {})
    assert podman.judge(looked, str(root)) == []
    assert (looked.is_registered, looked.is_native) == (True, True)


def test_a_precreate_hook_without_its_drop_in(root: Path) -> None:
    """It is not read any more."""
    call(root, "install", "podman", "--precreate")
    (root / f"{CONF}.d/50-ipcwarden.conf").unlink()
    looked = podman.look(str(root), {})
    assert told(podman.judge(looked, str(root)), root) == [("unread", "warning", "usr/share/ipcwarden/precreate.d")]
    assert not looked.is_native


# What registrations lead to


@pytest.mark.parametrize("name", ["hook.py", "_ipcwarden_create.py", "_ipcwarden_poststop_late.py"])
def test_a_hook_that_is_gone(installed: Path, name: str) -> None:
    """A start would be refused."""
    (installed / PROGRAMS / name).unlink()
    [found] = of_registrations(installed)
    assert told([found], installed) == [("target", "problem", f"{PROGRAMS}/{name}")]
    assert "missing" in found.message


def test_a_hook_that_others_can_write(installed: Path) -> None:
    """Root would run whatever they like."""
    (installed / PROGRAMS / "hook.py").chmod(0o666)
    assert told(of_registrations(installed), installed) == [("target", "problem", f"{PROGRAMS}/hook.py")]


def test_a_directory_of_ours_that_others_can_write(installed: Path) -> None:
    """The same."""
    (installed / PROGRAMS).chmod(0o777)
    assert {check for check, _, _ in told(of_registrations(installed))} == {"target"}


@pytest.mark.parametrize("program", ["/gone/python3", "/bin/false", "relative", ""])
def test_an_interpreter_that_is_gone(installed: Path, program: str) -> None:
    """podman would skip the hook, silently."""
    for file in (installed / DEFAULT).iterdir():
        hook = json.loads(file.read_text())
        hook["hook"]["path"] = program
        file.write_text(json.dumps(hook))
    assert ("target", "problem", program) in told(of_registrations(installed))


def test_bytecode_of_another_python(installed: Path) -> None:
    """As after an upgrade of the system's."""
    file, *_others = (installed / PROGRAMS / "__pycache__").iterdir()
    file.write_bytes(b"\0" * 16 + file.read_bytes()[16:])
    path = str(file.relative_to(installed))
    assert told(of_registrations(installed), installed) == [("bytecode", "warning", path)]


def test_a_hook_of_another_version(installed: Path) -> None:
    """It is not what the command line would install."""
    file = installed / PROGRAMS / "_ipcwarden_create.py"
    file.write_text(file.read_text() + "# older\n")
    assert ("outdated", "warning", f"{PROGRAMS}/_ipcwarden_create.py") in told(of_registrations(installed), installed)


def test_hooks_that_work_on_another_root(installed: Path) -> None:
    """Their policy is another one."""
    for file in (installed / DEFAULT).iterdir():
        file.write_text(file.read_text().replace(f'"{installed}"', '"/elsewhere"'))
    assert {each.check for each in of_registrations(installed)} == {"root"}


@pytest.fixture(params=["docker", "containerd", "crio"])
def engine(request: pytest.FixtureRequest, root: Path) -> str:
    """Register with an engine that runs our wrapper."""
    name: str = request.param
    options = ["--config-version", "2"] if name == "containerd" else []
    (root / "etc" / name).mkdir()
    call(root, "install", name, *options)
    return name


def test_a_wrapper_is_in_order(root: Path, engine: str) -> None:
    """Just installed."""
    assert of_registrations(root) == []
    [found] = registrations.of_engines(str(root))[0]
    assert (found.engine, found.is_native) == (engine, True)


@pytest.mark.parametrize("name", ["WRAPPER", "_ipcwarden_wrapper.py", "hook.py", "_ipcwarden_create.py"])
def test_a_wrapper_that_misses_something(root: Path, engine: str, name: str) -> None:
    """Itself, its unit, or the hooks that it puts into config.json."""
    [registered] = registrations.of_engines(str(root))[0]
    file = Path(registered.program) if name == "WRAPPER" else root / PROGRAMS / name
    file.unlink()
    assert told(of_registrations(root)) == [("target", "problem", str(file))]


def test_a_wrapper_that_nobody_can_run(root: Path, engine: str) -> None:
    """Its mode was lost on the way, in a backup or so."""
    [registered] = registrations.of_engines(str(root))[0]
    Path(registered.program).chmod(0o644)
    assert told(of_registrations(root)) == [("target", "problem", registered.program)]


@pytest.mark.parametrize("text", ["", "#!/bin/sh\n", "#!/usr/bin/python3 -IS\nRUNTIME = '/usr/sbin/runc'\n", "\xff"])
def test_a_wrapper_that_is_none(root: Path, engine: str, text: str) -> None:
    """Somebody else's, or damaged."""
    [registered] = registrations.of_engines(str(root))[0]
    Path(registered.program).write_bytes(text.encode("latin-1"))
    [found] = of_registrations(root)
    assert "no wrapper of this version's" in found.message


def test_a_wrapper_whose_runtime_is_gone(root: Path, engine: str) -> None:
    """Every container fails."""
    [registered] = registrations.of_engines(str(root))[0]
    text = Path(registered.program).read_text()
    real = programs.wrapper_of(text)
    assert real is not None
    Path(registered.program).write_text(text.replace(repr(real.runtime), "'/gone/runc'"))
    assert ("target", "problem", "/gone/runc") in told(of_registrations(root))


@pytest.mark.parametrize("engine", ["docker", "containerd"], indirect=True)
@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\x00", "\xff"])
def test_a_configuration_of_an_engine_that_makes_no_sense(root: Path, engine: str, text: str) -> None:
    """It is said, and no other check is lost."""
    [registered] = registrations.of_engines(str(root))[0]
    Path(registered.place).write_bytes(text.encode("latin-1"))
    assert told(of_registrations(root)) == [("engine", "problem", engine)]


def test_a_broken_configuration_is_not_to_be_registered_with(root: Path) -> None:
    """Install would fail; nobody knows whether the engine runs ours, and what was attempted was to read."""
    put(root, "etc/docker/daemon.json", "{")
    registered, findings = registrations.of_engines(str(root))
    assert findings[0].message.startswith(f"cannot make sense of '{root}/etc/docker/daemon.json': ")
    assert registrations.unregistered(registered, findings, ("dockerd", "containerd").__contains__) == []


def test_a_runtime_that_is_not_the_default(root: Path) -> None:
    """Containers have to ask for it."""
    (root / "etc/docker").mkdir()
    call(root, "install", "docker", "--no-default")
    assert told(of_registrations(root), root) == [("not-default", "note", "etc/docker/daemon.json")]


def test_a_handler_of_its_own_is_not_the_default(root: Path) -> None:
    """Pods have to ask for it, by a RuntimeClass."""
    (root / "etc/containerd").mkdir()
    call(root, "install", "containerd", "--config-version", "3", "--handler", "ipcwarden")
    assert told(of_registrations(root), root) == [("not-default", "note", "etc/containerd/config.toml")]


def test_a_later_file_of_crio_has_the_last_word(root: Path) -> None:
    """Ours is read before it."""
    call(root, "install", "crio")
    put(root, "etc/crio/crio.conf.d/99-site.conf", '[crio.runtime]\ndefault_runtime = "crun"\n')
    assert told(of_registrations(root), root) == [("not-default", "warning", "etc/crio/crio.conf.d/99-site.conf")]


@pytest.mark.parametrize(
    ("there", "engines", "expected"),
    [
        ((), (), ["host"]),
        (("podman",), (), ["podman"]),
        (("podman", "dockerd", "containerd"), ("podman",), ["docker"]),
        (("containerd",), ("podman",), ["containerd"]),
        ((), ("podman",), []),
        (("podman",), ("podman",), []),
    ],
)
def test_engines_that_nobody_registered_with(there: Sequence[str], engines: Sequence[str], expected: list[str]) -> None:
    """Docker's own containerd is no engine beside it."""
    registered = [registrations.Registered(engine, "", "", "x") for engine in engines]
    found = registrations.unregistered(registered, [], there.__contains__)
    assert told(found) == [("unregistered", "warning", subject) for subject in expected]


# What the policy asks for


def policy(*profiles: Profile, mode: str = "enforcing", profile: int | Choice = 0) -> Policy:
    """Make a policy with one rule."""
    return Policy(mode, RELEASE, KERNEL_DEFAULTS, (Rule("all", (), profile, mode),), profiles)


CLAMPING, REFUSING = Profile("soft", {}, on_violation="clamp"), Profile("hard", {})
DENYING = Profile("tight", {}, nested_ipc="deny")


@pytest.mark.parametrize(
    ("version", "late"),
    [
        ("runc version 1.6.0\n", True),
        ("runc version 1.10.0-rc.1+dev\n", True),
        ("runc version 2.0.0\n", True),
        ("runc version 1.5.9\n", False),
        ("runc version 1.1.5+ds1\n", False),
        ("crun version 1.8.1\n", False),
        ("", False),
    ],
)
def test_a_runc_that_is_late(version: str, late: bool) -> None:
    """From 1.6 on, whatever follows the number."""
    found = enforcement.late([Runtime("/usr/sbin/runc", version)], [CLAMPING], ["podman"])
    assert told(found) == ([("late", "problem", "/usr/sbin/runc")] if late else [])


@pytest.mark.parametrize(("profiles", "hooked"), [([REFUSING], ["podman"]), ([CLAMPING], []), ([], ["podman"])])
def test_a_late_runc_does_no_harm(profiles: list[Profile], hooked: list[str]) -> None:
    """Where nothing is clamped, or a native door has clamped it before."""
    assert enforcement.late([Runtime("/usr/sbin/runc", "runc version 1.6.0\n")], profiles, hooked) == []


def test_nested_namespaces_are_not_denied_by_hooks() -> None:
    """It is said for each engine that has nothing else."""
    assert told(enforcement.nested([DENYING], ["podman"])) == [("nested", "warning", "podman")]
    assert enforcement.nested([DENYING], []) == []
    assert enforcement.nested([REFUSING], ["podman"]) == []


def test_profiles_that_count_are_those_of_enforcing_rules() -> None:
    """Picked by an annotation or not."""
    choice = Choice("size", {"s": 1}, 2)
    assert enforcement.profiles_of(policy(REFUSING, CLAMPING, DENYING, profile=choice)) == [CLAMPING, DENYING]
    assert enforcement.profiles_of(policy(CLAMPING, mode="permissive")) == []
    assert enforcement.profiles_of(None) == []


# The policy in force


def of_policy(root: Path, release: str = RELEASE) -> list[Finding]:
    """Judge it; a kernel's own release is nothing that a test's machine must have let us see."""
    return [
        each for each in policies.judge_policy(policies.look_at_policy(str(root)), release) if each.check != "release"
    ]


def test_a_policy_in_force_is_in_order(root: Path) -> None:
    """Just compiled."""
    assert of_policy(root) == []


def test_no_policy(root: Path) -> None:
    """The sources are there, compiled or not."""
    (root / "var/lib/ipcwarden/policy.compiled").unlink()
    [found] = of_policy(root)
    assert (found.check, found.severity, found.hint) == ("policy", "problem", "ipcwarden compile")


def test_no_policy_and_no_sources(root: Path) -> None:
    """One finding, with where to begin."""
    (root / "var/lib/ipcwarden/policy.compiled").unlink()
    (root / "etc/ipcwarden/policy.yaml").unlink()
    [found] = of_policy(root)
    assert (found.check, found.severity) == ("policy", "problem")
    assert "policy.yaml" in found.hint


@pytest.mark.parametrize("content", [b"", b"ipcwarden policy 9 x\n", b"\0" * 100, PREVIOUS_FORMATS[0] + b"x\nbody"])
def test_a_policy_that_cannot_be_read(root: Path, content: bytes) -> None:
    """Empty, of another format, damaged."""
    (root / "var/lib/ipcwarden/policy.compiled").write_bytes(content)
    assert [each.severity for each in of_policy(root) if each.check == "policy"] == ["problem"]


def test_a_policy_that_others_can_write(root: Path) -> None:
    """Hooks would not take it."""
    (root / "var/lib/ipcwarden/policy.compiled").chmod(0o666)
    [found] = of_policy(root)
    assert (found.check, found.severity) == ("policy", "problem")
    assert "others can write it" in found.message


def test_a_pending_policy(root: Path) -> None:
    """An edit that was not compiled."""
    put(root, "etc/ipcwarden/policy.yaml", POLICY.replace("baseline", "restricted"))
    assert told(of_policy(root), root) == [("pending", "warning", "etc/ipcwarden")]


@pytest.mark.parametrize("text", ["version: 2", "{", "\x00", ""])
def test_sources_that_cannot_be_compiled(root: Path, text: str) -> None:
    """What is in force stays."""
    put(root, "etc/ipcwarden/policy.yaml", text)
    assert told(of_policy(root), root) == [("pending", "warning", "etc/ipcwarden")]


def test_sources_that_others_can_write(root: Path) -> None:
    """compile would refuse them."""
    (root / "etc/ipcwarden/policy.yaml").chmod(0o666)
    assert told(of_policy(root), root) == [("pending", "warning", "etc/ipcwarden")]


def test_a_policy_of_another_kernel(root: Path) -> None:
    """Its `kernel` values are a table's."""
    facts = policies.PolicyFacts(
        "p", "s", Policy("enforcing", "6.1.0", KERNEL_DEFAULTS, (Rule("a", (), 0, "x"),), (REFUSING,))
    )
    [found] = policies.judge_policy(facts, "6.18.0")
    assert (found.check, found.severity) == ("release", "warning")
    assert "6.1.0" in found.message


def test_a_policy_without_rules() -> None:
    """It governs nobody."""
    facts = policies.PolicyFacts("p", "s", Policy("enforcing", "6.1.0", KERNEL_DEFAULTS, (), ()))
    assert told(policies.judge_policy(facts, "6.1.0")) == [("policy", "warning", "p")]


@pytest.mark.parametrize("before", PREVIOUS_FORMATS)
def test_a_policy_of_a_format_before(root: Path, before: bytes) -> None:
    """Hooks take it; compile brings the new one."""
    file = root / "var/lib/ipcwarden/policy.compiled"
    now = pack(policy(REFUSING))
    file.write_bytes(before + now[len(before) :])
    assert ("policy", "warning") in [each[:2] for each in told(of_policy(root))]


# Switch, log, ledger, kernel


@pytest.mark.parametrize(
    ("switch", "severity", "word"),
    [
        (Switch(), "problem", "with no end"),
        (Switch("2026-11-23T23:00:00Z", "fire", 1000), "problem", "until 2026-11-23T23:00:00Z, by uid 1000: fire"),
        (Switch("2026-11-23T21:00:00Z"), "note", "was on until"),
        (Switch(fault="others can write it"), "warning", "not obeyed: others can write it"),
        (Switch(unclear='"tomorrow"'), "problem", 'with no end, because "tomorrow" is no moment in UTC'),
    ],
)
def test_the_kill_switch(switch: Switch, severity: str, word: str) -> None:
    """Until when, why, by whom; obeyed or not."""
    [found] = policies.judge_switch(switch, "/", "2026-11-23T22:00:00.000000Z")
    assert (found.severity, found.subject) == (severity, "/etc/ipcwarden/disabled")
    assert word in found.message
    assert ("start ungoverned" in found.why) == (severity == "problem")


def test_no_kill_switch() -> None:
    """Nothing to say."""
    assert policies.judge_switch(None, "/", "2026-11-23T22:00:00.000000Z") == []


def place(root: Path) -> Place:
    """Name the log's directory."""
    return Place(str(root), "var/log/ipcwarden")


def of_log(root: Path) -> list[tuple[str, str]]:
    """Judge the log."""
    found = host.judge_room("log", host.look_at_place(place(root), "audit.jsonl"))
    return [(each.check, each.severity) for each in found]


def test_a_log_that_is_not_there_yet(root: Path) -> None:
    """The first record makes it."""
    for each in (root / "var").rglob("audit.jsonl"):
        each.unlink()
    assert host.look_at_place(place(root), "audit.jsonl").fault == ""


@pytest.mark.parametrize("trap", ["a directory", "a link", "a FIFO", "others'", "their directory", "no directory"])
def test_a_log_that_cannot_be_written(root: Path, trap: str) -> None:
    """Records wait in the ledger, and that is a problem."""
    log = root / "var/log/ipcwarden/audit.jsonl"
    log.unlink()
    match trap:
        case "a directory":
            log.mkdir()
        case "a link":
            log.symlink_to("/dev/null")
        case "a FIFO":
            os.mkfifo(log)
        case "others'":
            log.touch()
            log.chmod(0o666)
        case "their directory":
            log.parent.chmod(0o777)
        case _:
            log.parent.rmdir()
            log.parent.touch()
    assert of_log(root) == [("log", "problem")]


@pytest.mark.parametrize(
    ("room", "severity"),
    [
        (Room("/l", free=0), "problem"),
        (Room("/l", free=1 << 20), "warning"),
        (Room("/l", free=1 << 30, read_only=True), "problem"),
        (Room("/l", fault="x"), "problem"),
    ],
)
def test_a_disk_without_room(room: Room, severity: str) -> None:
    """Little is a warning."""
    assert told(host.judge_room("ledger", room)) == [("ledger", severity, "/l")]


@pytest.mark.parametrize("room", [Room("/l", free=1 << 30), Room("/l")])
def test_a_disk_with_room(room: Room) -> None:
    """Or one that does not tell."""
    assert host.judge_room("log", room) == []


def test_what_gc_would_do() -> None:
    """By reason, with a few names."""
    due = [Due(f"k{number}", "gone", f"c{number}") for number in range(9)]
    due += [
        Due("k", "undelivered", "u"),
        Due("k", "unreadable", "r"),
        Due("k", "released", "x"),
        Due("k", "empty", "e"),
    ]
    found = host.judge_pins(due, ["lost"], "/run", [])
    assert [each.severity for each in found] == ["warning", "warning", "problem", "problem"]
    assert found[0].message == "c0, c1, c2, c3, c4 and 4 more ended, and no poststop came"
    assert host.judge_pins([], [], "/run", []) == []


def test_what_ended_long_ago() -> None:
    """What gc has not freed for longer than the policy says is a problem, and is told once."""
    due = [Due("k1", "gone", "c1", 5), Due("k2", "gone", "c2")]
    old, young = host.judge_pins(due, [], "/run", due[:1])
    assert (old.severity, old.message) == ("problem", "c1 ended long ago, and nothing has freed their namespaces")
    assert (young.severity, young.message) == ("warning", "c2 ended, and no poststop came")


def test_what_a_kernel_lacks() -> None:
    """Each has its note."""
    found = host.judge_kernel(Kernel(ids=False, handles=False, pidfd_namespaces=False, home="no"), "6.1")
    assert [each.severity for each in found] == ["note"] * 4
    assert [each.severity for each in host.judge_kernel(Kernel("no namespaces"), "6.1")] == ["problem"]
    assert host.judge_kernel(Kernel(), "6.18") == []


def test_the_kernel_is_asked() -> None:
    """A feature that is turned off is lacking."""
    kernel = host.look_at_kernel(Features(False, False, False), "/nowhere")
    assert kernel == Kernel("", False, False, False, "no such file or directory")


# Records


def records(*documents: dict[str, Any]) -> list[Record]:
    """Make records of an event."""
    return [Record(b"", {"event": "applied", "container": {"id": "c"}, **each}) for each in documents]


def test_facts_that_nobody_knew() -> None:
    """Of the policy in force, and counted."""
    one = policy(REFUSING)
    digest = "0123456789ab"
    now = Policy(**{**vars(one), "digest": digest + "rest"})
    found = containers.unknown(
        records(
            {"policy": digest, "unknown": ["image", "pod"]},
            {"policy": digest, "unknown": ["image"], "container": None},
            {"policy": "ffffffffffff", "unknown": ["name"]},
            {"policy": digest, "unknown": "nonsense"},
            {"policy": digest, "unknown": ["name"], "event": "teardown"},
        ),
        now,
    )
    assert told(found) == [("unknown", "warning", "image"), ("unknown", "warning", "pod")]
    assert "2 recent containers" in found[0].message
    assert containers.unknown(records({"policy": digest, "unknown": ["image"]}), None) == []


def test_the_end_of_the_log_is_read(root: Path) -> None:
    """Torn lines and strange ones are left out."""
    log = root / "var/log/ipcwarden/audit.jsonl"
    log.write_bytes(b'{"torn\n[]\n' + b'{"time": "t", "event": "applied"}\n' + b"\xff\n" + b"[" * 100_000 + b"\n")
    assert [each.document["event"] for each in containers.recent(place(root))] == ["applied"]
    log.unlink()
    assert containers.recent(place(root)) == []


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Resident]:
    """Start a process whose parent has a directory for its user's ledger."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        yield Resident("c1", "/b", "runc", pid, started(pid), True)
        os.kill(pid, signal.SIGKILL)


def test_a_users_ledger_is_asked(theirs: Resident, tmp_path: Path) -> None:
    """For this very process, whatever else lies there."""
    ledger = tmp_path / "ipcwarden/containers"
    assert not containers.in_users_ledger(theirs)
    ledger.mkdir(parents=True)
    os.mkfifo(ledger / "a.json")
    (ledger / "b.json").symlink_to("/dev/zero")
    (ledger / "c.json").write_bytes(b"\xff")
    (ledger / "d.json").write_text("[" * 100_000)
    entry = {"state": "applied", "pid": theirs.pid, "started": theirs.start + 1}
    put(ledger, "e.json", entry)
    assert not containers.in_users_ledger(theirs)
    put(ledger, "f.json", {**entry, "started": theirs.start})
    assert containers.in_users_ledger(theirs)
    assert not containers.in_users_ledger(Resident("c2", "/b", "runc", 1 << 22, 1, True))


# Probes


SEEN = "".join("1 2 3 4\n" if file == "kernel.sem" else "7\n" for file in FILES)
APPLIED = {
    "event": "applied",
    "enforced": True,
    "profile": "team",
    "sysctls": [{"name": "kernel.shmmax", "wanted": "7"}, {"name": "kernel.sem.semmni", "wanted": "4"}],
}
TEARDOWN = {"event": "teardown"}


@pytest.mark.parametrize(
    ("run", "documents", "without", "outcome", "word"),
    [
        (Run(0, SEEN), [APPLIED, TEARDOWN], True, PASSED, "2 limits in force, by the profile 'team'"),
        (Run(0, SEEN), [{**APPLIED, "enforced": False}, TEARDOWN], True, PASSED, "permissive"),
        (Run(0, SEEN), [APPLIED], True, FAILED, "its end was not recorded"),
        (Run(0, SEEN.replace("4", "5")), [APPLIED, TEARDOWN], True, FAILED, "kernel.sem.semmni is 5 inside, and 4"),
        (Run(0, "noise\n"), [APPLIED, TEARDOWN], True, FAILED, "could not be read"),
        (Run(0, SEEN.replace("7", "x")), [APPLIED, TEARDOWN], True, FAILED, "could not be read"),
        (Run(0, SEEN), [], True, FAILED, "nothing decided on it"),
        (Run(1, "", "cannot\n\n"), [], True, FAILED, "does not start with what is registered: cannot"),
        (Run(1, "", "cannot\n"), [], False, IMPOSSIBLE, "does not start at all: cannot"),
        (Run(1), [], False, IMPOSSIBLE, "it ended with 1"),
        (
            Run(125, "", "docker: Error response: no\nSee 'docker run --help'.\n"),
            [],
            False,
            IMPOSSIBLE,
            "Error response: no",
        ),
        (Run(1, "", "Error: no\ntime=now level=error\n"), [], False, IMPOSSIBLE, "all: Error: no"),
        (Run(1, "", "See 'x --help'.\n"), [], False, IMPOSSIBLE, "it ended with 1"),
        (Run(1, "", "no"), [{"event": "refused"}], True, FAILED, "it was refused: no"),
        (Run(1), [{"event": "error", "message": "no policy"}], True, FAILED, "no policy"),
        (Run(0, SEEN), [{"event": "skipped", "reason": "no-rule"}], True, IMPOSSIBLE, "no rule"),
        (Run(0, SEEN), [{"event": "skipped", "reason": "host-ipc"}], True, IMPOSSIBLE, "host-ipc"),
    ],
)
def test_what_a_probe_means(run: Run, documents: list[dict[str, Any]], without: bool, outcome: str, word: str) -> None:
    """Passed only where limits and records say so."""
    probe = judge("podman", run, records(*documents), lambda: without)
    assert probe.outcome == outcome
    assert word in probe.message


@pytest.mark.parametrize(("outcome", "severity"), [(FAILED, "problem"), (IMPOSSIBLE, "warning")])
def test_what_has_not_passed_is_a_finding(outcome: str, severity: str) -> None:
    """And never nothing."""
    assert told(Probe("podman", outcome, "why").findings()) == [("probe", severity, "podman")]
    assert Probe("podman", PASSED, "").findings() == []


def test_what_a_probe_does_not_know_is_no_finding() -> None:
    """It has no image: nobody has to be told."""
    now = Policy(**{**vars(policy(REFUSING)), "digest": "0123456789ab"})
    document = {"policy": "0123456789ab", "unknown": ["image"], "container": {"id": f"{containers.PROBES}runc-1"}}
    assert containers.unknown(records(document), now) == []


def test_a_laboratory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it take anything away that has content, wherever that came from."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Laboratory("/", place(tmp_path), lambda _: None):
        [directory] = tmp_path.iterdir()
        (directory / "rootfs/etc/hosts").touch()
        (directory / "rootfs/dev/fd").symlink_to("/proc/self/fd")
    assert list(tmp_path.iterdir()) == []
    with Laboratory("/", place(tmp_path), lambda _: None):
        [directory] = tmp_path.iterdir()
        (directory / "rootfs/usr/bin").mkdir()
        (directory / "rootfs/usr/bin/empty").touch()
        (directory / "rootfs/etc/content").write_text("kept")
    assert (directory / "rootfs/usr/bin/empty").exists()
    assert (directory / "rootfs/etc/content").read_text() == "kept"
