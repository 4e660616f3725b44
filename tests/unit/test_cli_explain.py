"""`ipcwarden explain`, on bundles made here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from ipcwarden import layout
from ipcwarden.cli import Settings, explain
from ipcwarden.core.amendment import HOOK_PATH, Amendment, amended
from ipcwarden.core.plan import Limit, Plan
from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import PolicyError, StateError

SCHEMA = Path(__file__).parents[2] / "schemas" / "explain-v1.schema.json"
LIMITS: dict[str, Any] = {
    "kernel.shmmax": (None, None, 65536, 1 << 30),
    "kernel.msgmni": (7, None, None, None),
}


def profile(**more: Any) -> Profile:
    """Return a profile with two limits."""
    return Profile("base", LIMITS, **more)


class Host:
    """A root with a policy in force and one bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root / "root"
        self.bundle = root / "web"
        self.bundle.mkdir()
        self.policy(profile())
        self.config()

    def policy(self, governing: Profile, mode: str = "enforcing", when: tuple[Any, ...] = ()) -> None:
        """Put a policy of one rule in force."""
        policy = Policy("enforcing", "", KERNEL_DEFAULTS, (Rule("all", when, 0, mode),), (governing,))
        state = self.root / layout.STATE
        state.mkdir(parents=True, exist_ok=True)
        (state / layout.COMPILED).write_bytes(pack(policy))

    def config(self, sysctl: dict[str, str] | None = None, ipc: str | None = "", **more: Any) -> None:
        """Write a config.json; `ipc` is a namespace's path, empty for a private one, None for the host's."""
        namespaces = [] if ipc is None else [{"type": "ipc", "path": ipc} if ipc else {"type": "ipc"}]
        document = {"linux": {"namespaces": namespaces, "sysctl": sysctl or {}}, **more}
        (self.bundle / "config.json").write_text(json.dumps(document))

    def run(self, *arguments: str, bundle: Path | None = None) -> Result:
        """Run `ipcwarden explain`; what it raises is raised."""
        all_arguments = ["--bundle", str(bundle or self.bundle), *arguments]
        return CliRunner().invoke(explain.command, all_arguments, obj=Settings(str(self.root)), catch_exceptions=False)

    def explained(self, *arguments: str, bundle: Path | None = None) -> dict[str, Any]:
        """Return what --json prints, which is valid."""
        result = self.run("--json", *arguments, bundle=bundle)
        assert result.exit_code == 0
        document: dict[str, Any] = json.loads(result.stdout)
        Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)
        return document


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Give a host."""
    return Host(tmp_path)


def test_a_bundle_that_asks_for_nothing_gets_the_profile(host: Host) -> None:
    """Without a request, limits are the profile's, and accepted."""
    explained = host.explained()
    assert (explained["rule"], explained["profile"], explained["decision"]) == ("all", "base", "accepted")
    assert explained["sysctls"] == [
        {"name": "kernel.shmmax", "requested": None, "wanted": "65536", "found": None, "why": "default"},
        {"name": "kernel.msgmni", "requested": None, "wanted": "7", "found": None, "why": "set"},
    ]


def test_a_request_beyond_the_bounds_would_be_refused(host: Host) -> None:
    """A refusal is explained, and no failure."""
    host.config({"kernel.shmmax": "4096000000000"})
    explained = host.explained()
    assert explained["decision"] == "refused"
    assert explained["violations"] == [
        {"name": "kernel.shmmax", "requested": "4096000000000", "min": None, "max": "1073741824", "kind": "bound"}
    ]


def test_a_clamping_profile_would_clamp(host: Host) -> None:
    """The decision is the one of the profile."""
    host.policy(profile(on_violation="clamp"))
    host.config({"kernel.shmmax": "4096000000000"})
    assert host.explained()["decision"] == "clamped"


def amended_by_the_wrapper(host: Host, asked: dict[str, str], written: dict[str, str]) -> None:
    """Write a config.json as the wrapper leaves it: it asked for one thing, and another was decided."""
    ours: Any = {"path": "/usr/bin/python3", "args": ["python3", HOOK_PATH, "--native", "createRuntime"]}
    document: Any = {"linux": {"namespaces": [{"type": "ipc"}], "sysctl": asked}}
    document = amended(document, {"createRuntime": ours}, Amendment(dict(written)))
    (host.bundle / "config.json").write_text(json.dumps(document))


def test_what_the_wrapper_wrote_was_not_asked_for(host: Host) -> None:
    """A bundle that was run once is explained as its author wrote it, as the next run decides on it."""
    amended_by_the_wrapper(host, {}, {"kernel.shmmax": "65536", "kernel.msgmni": "7"})
    assert [(each["requested"], each["why"]) for each in host.explained()["sysctls"]] == [
        (None, "default"),
        (None, "set"),
    ]


def test_what_the_wrapper_clamped_is_still_asked_for(host: Host) -> None:
    """Under a policy that refuses, the next run is refused."""
    amended_by_the_wrapper(host, {"kernel.shmmax": "4096000000000"}, {"kernel.shmmax": "1073741824"})
    assert host.explained()["decision"] == "refused"


def test_what_was_written_behind_the_wrapper_counts(host: Host) -> None:
    """Who edits an amended bundle asks for what he wrote."""
    amended_by_the_wrapper(host, {}, {"kernel.shmmax": "65536"})
    file = host.bundle / "config.json"
    file.write_text(file.read_text().replace("65536", "131072"))
    assert host.explained()["sysctls"][0]["requested"] == "131072"


def test_permissive_says_what_would_be_decided(host: Host) -> None:
    """In permissive mode the decision is what enforcing would make of it; the mode says the rest."""
    host.policy(profile(), mode="permissive")
    host.config({"kernel.msgmni": "9"})
    explained = host.explained()
    assert (explained["mode"], explained["decision"]) == ("permissive", "refused")


def test_without_a_rule_nothing_is_decided(host: Host) -> None:
    """A container that no rule matches is left alone."""
    host.policy(profile(), when=(("name", ("db",)),))
    explained = host.explained()
    assert (explained["rule"], explained["profile"], explained["decision"]) == (None, None, "none")
    assert explained["sysctls"] == []


def test_unknown_facts_are_told(host: Host) -> None:
    """A fact that a rule asked for and that nobody knows is listed."""
    host.policy(profile(), when=(("image", ("*",)),))
    explained = host.explained()
    assert explained["unknown"] == ["image"]
    assert explained["facts"]["image"] is None


def test_the_id_is_the_directorys_name(host: Host) -> None:
    """A bare container's name is its id, which is the directory's name unless --id says otherwise."""
    assert host.explained()["facts"]["name"] == "web"
    assert host.explained("--id", "db")["facts"]["name"] == "db"


def test_podmans_id_is_above_userdata(host: Host) -> None:
    """In podman's storage the bundle is a directory below the one that has the id."""
    assert explain.id_of("/var/lib/containers/storage/overlay-containers/3f2a/userdata") == "3f2a"


def test_the_runtime_is_a_fact_that_may_be_given(host: Host) -> None:
    """Nobody knows which runtime would be called: --runtime says it."""
    assert host.explained()["facts"]["runtime"] is None
    assert host.explained("--runtime", "crun")["facts"]["runtime"] == "crun"


def test_the_hosts_namespace_is_left_alone(host: Host) -> None:
    """Under host_ipc: audit a container of the host's namespace is not decided on."""
    host.config(ipc=None)
    explained = host.explained()
    assert (explained["decision"], explained["facts"]["ipc"]) == ("none", "host")
    assert "left alone" in explained["notes"][0]


def test_the_hosts_namespace_may_be_refused(host: Host) -> None:
    """Under host_ipc: refuse it is a violation."""
    host.policy(profile(host_ipc="refuse"))
    host.config(ipc=None)
    explained = host.explained()
    assert explained["decision"] == "refused"
    assert [each["kind"] for each in explained["violations"]] == ["host_ipc"]


def test_what_can_write_the_hosts_limits_would_be_refused(host: Host) -> None:
    """In the host's namespace /proc/sys has the host's own: what is refused elsewhere is refused there."""
    host.policy(profile(writable_proc_sys="refuse", on_violation="clamp"))
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    (host.bundle / "config.json").write_text(json.dumps({"linux": {}, "mounts": mounts}))
    explained = host.explained()
    assert explained["decision"] == "refused"
    assert [each["kind"] for each in explained["violations"]] == ["writable_proc_sys"]


def test_a_path_to_the_hosts_namespace_would_be_refused(host: Host) -> None:
    """To join the host's namespace by a path is no way around."""
    host.config(ipc="/proc/self/ns/ipc")
    explained = host.explained()
    assert explained["decision"] == "refused"
    assert "is the host's IPC namespace" in explained["notes"][0]


def test_a_path_to_something_else_is_not_opened(host: Host) -> None:
    """A path that is no namespace, a FIFO even, would be refused; nobody waits for it."""
    os.mkfifo(host.bundle / "fifo")
    host.config(ipc=str(host.bundle / "fifo"))
    explained = host.explained()
    assert explained["decision"] == "refused"
    assert "is no namespace" in explained["notes"][0]


def test_a_path_that_is_not_there_yet_is_said(host: Host) -> None:
    """A namespace that cannot be looked at is decided on as a new one, and that is said."""
    host.config(ipc="/nonexistent/ipc")
    explained = host.explained()
    assert explained["decision"] == "accepted"
    assert "decided as if nobody governed were in it" in explained["notes"][0]


@pytest.mark.parametrize(
    ("wanted", "decision", "told"),
    [
        (4, "accepted", "and stay as they are"),
        (5, "accepted", "and widens some of them: kernel.msgmni"),
        (5, "refused", "and stay as they are"),
    ],
)
def test_a_note_says_what_becomes_of_the_limits_of_others(wanted: int, decision: str, told: str) -> None:
    """A joiner leaves them, or widens what is named."""
    limits = (Limit("kernel.shmmni", None, 9, "in_force"), Limit("kernel.msgmni", None, wanted, "request"))
    note = explain.joining(Plan(decision, limits, ()), {"kernel.shmmni": 9, "kernel.msgmni": 4})
    assert note.endswith(told)


def test_the_kill_switch_is_said(host: Host) -> None:
    """Beside what would be decided if it were not on; the JSON stays JSON."""
    switch = host.root / layout.SOURCES / layout.SWITCH
    switch.parent.mkdir(parents=True)
    for directory in switch.parents[:3]:
        directory.chmod(0o755)
    switch.write_text('{"until": "2999-01-02T03:04:05Z", "reason": "INC-1\\u001b"}')
    switch.chmod(0o644)
    result = host.run("--json")
    assert json.loads(result.stdout)["decision"] == "accepted"
    assert result.stderr.startswith("note: ipcwarden is disabled until 2999-01-02 03:04:05 UTC, containers start")
    assert result.stderr.endswith("ungoverned: INC-1\\x1b\n")
    switch.unlink()
    assert host.run("--json").stderr == ""


def test_nothing_is_changed(host: Host) -> None:
    """Neither the host nor the bundle has another file afterwards."""
    before = sorted(host.root.parent.rglob("*"))
    host.run()
    host.explained()
    assert sorted(host.root.parent.rglob("*")) == before


def test_no_policy_is_a_policy_error(host: Host) -> None:
    """Without a policy in force there is nothing to explain."""
    (host.root / layout.STATE / layout.COMPILED).unlink()
    with pytest.raises(PolicyError, match="ipcwarden compile"):
        host.run()


def test_no_bundle_is_a_state_error(host: Host) -> None:
    """A directory without config.json cannot be explained."""
    with pytest.raises(StateError, match="no such file"):
        host.run(bundle=host.root)


def test_people_see_why(host: Host) -> None:
    """Facts, limits and violations are told, with the profile's help."""
    host.policy(profile(help="ask #platform"))
    host.config({"kernel.shmmax": "4096000000000"})
    shown = host.run().stdout
    assert "image           unknown" in shown
    assert "kernel.msgmni              -           7  fixed by the profile" in shown
    assert "refused: kernel.shmmax=4096000000000 is outside what is allowed, at most 1073741824" in shown
    assert shown.endswith("ask #platform\n")


def test_people_see_which_unknown_mattered(host: Host) -> None:
    """An unknown fact that a rule asked for stands out."""
    host.policy(profile(), when=(("annotations.tier", ("x",)),))
    shown = host.run().stdout
    assert "annotations.tier  unknown, and a rule asks for it" in shown
    assert "note: no rule matches" in shown


def test_people_see_hostile_requests_escaped(host: Host) -> None:
    """What a bundle asks for cannot draw on the terminal."""
    host.config({"kernel.shmmax": "[red]\x1b[2J\n1"})
    shown = host.run().stdout
    assert r"[red]\x1b[2J\n1" in shown
    assert "\x1b" not in shown


SELECTING: dict[str, Any] = {
    "leftovers": "remove",
    "keep": ({"kind": "sem"}, {"kind": "mqueue", "name": "/jobs-*"}),
    "reap": ({"kind": "shm", "key": "0x0052e2c1", "owner": 999, "age": 300},),
    "expect": ({"kind": "shm", "count": 1, "bytes": 4096},),
    "drift": "expected",
    "dev_shm": 65536,
}


def test_what_becomes_of_leftovers_is_told(host: Host) -> None:
    """As the profile says it, in words only where it is not the default."""
    nothing: dict[str, Any] = {"keep": [], "reap": [], "expect": []}
    assert host.explained()["settings"] == {**nothing, "leftovers": "report", "drift": "report", "dev_shm": None}
    assert not {"leftovers", "keep", "drift", "dev_shm"} & {*host.run().stdout.split()}
    host.policy(profile(**SELECTING))
    lists = {what: list(SELECTING[what]) for what in ("keep", "reap", "expect")}
    assert host.explained()["settings"] == {**SELECTING, **lists}
    rows = [line.split(maxsplit=1) for line in host.run().stdout.splitlines() if line]
    for row in (
        ["leftovers", "remove"],
        ["keep", "sem; mqueue named /jobs-*"],
        ["reap", "shm with key 0x0052e2c1 of uid 999 unchanged for 300 s"],
        ["expect", "shm at most 1 up to 4096 bytes"],
        ["drift", "expected"],
        ["dev_shm", "65536 bytes or more"],
    ):
        assert row in [[word.strip() for word in each] for each in rows]


def test_without_a_rule_nothing_is_said_of_leftovers(host: Host) -> None:
    """There is no profile to say it."""
    host.policy(profile(**SELECTING), when=(("name", ("other",)),))
    assert host.explained()["settings"] is None


@pytest.mark.parametrize(
    ("size", "ipc", "notes"),
    [
        ("size=32k", "", ["its /dev/shm would have 32768 bytes, and its profile wants 65536"]),
        ("size=64k", "", []),
        ("mode=1777", "", []),
        (
            *("size=32k", None),
            [
                "host_ipc audit: it shares the host's IPC namespace, which is left alone",
                "its /dev/shm would have 32768 bytes, and its profile wants 65536",
            ],
        ),
    ],
)
def test_too_small_a_dev_shm_is_noted(host: Host, size: str, ipc: str | None, notes: list[str]) -> None:
    """Where config.json says how large it is to be."""
    host.policy(profile(dev_shm=65536))
    mount = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", size]}
    host.config(ipc=ipc, mounts=[mount])
    assert host.explained()["notes"] == notes
