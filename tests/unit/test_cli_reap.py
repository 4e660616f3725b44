"""`ipcwarden reap`, up to where it joins a namespace: that takes root, and tests/kernel/test_reap.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from ipcwarden.cli import Settings, fates, reap, summary
from ipcwarden.core.attribution import Terms, Verdict
from ipcwarden.core.objects import Inventory, Table
from ipcwarden.errors import UsageError, WardenError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

PRIVATE: dict[str, Any] = {"kind": "shm", "key": "0x00000000", "id": 3, "owner": "0", "bytes": 8 << 20, "ctime": 1000}
KEYED: dict[str, Any] = {**PRIVATE, "key": "0x00004711", "id": 4}
ARRAY: dict[str, Any] = {
    "kind": "sem",
    "key": "0x00000000",
    "id": 5,
    "owner": "0",
    "bytes": 64,
    "ctime": 10,
    "otime": 900,
}
QUEUE: dict[str, Any] = {"kind": "mqueue", "name": "/q", "owner": "0", "bytes": 0, "ctime": 0}
GONE = Verdict("proven", ("creator-gone",))
LIVES = Verdict("in-use", ("creator-lives",))
USED = Verdict("plausible", ("last-user-gone",))
MAYBE = Verdict("plausible", ("never-used",))
STRANGE = Verdict("plausible", ("creator-gone", "strangers"))
DARK = Verdict("unknown", ("no-answer",))
NAMES = Terms(reap=({"kind": "shm", "key": "0x00004711", "age": 60},))
ARRAYS = Terms(reap=({"kind": "sem", "age": 60},))
KEEPS = Terms(keep=({"kind": "shm"},))
PLAIN = Terms("report", "permissive")

DECISIONS: dict[str, tuple[Any, ...]] = {
    # object, verdict, kinds named, members' terms -> why it stays
    "a private segment": (PRIVATE, GONE, (), [PLAIN], ""),
    "a key": (KEYED, GONE, (), [PLAIN], "not-named"),
    "a key that some member's reap names": (KEYED, GONE, (), [PLAIN, NAMES], ""),
    "a key, its kind named": (KEYED, GONE, ("shm",), [PLAIN], ""),
    "an array": (ARRAY, USED, (), [PLAIN], "not-named"),
    "an array, its kind named": (ARRAY, USED, ("shm", "sem"), [PLAIN], ""),
    "an array that some member's reap names": (ARRAY, USED, (), [PLAIN, ARRAYS], ""),
    "perhaps a stranger's": (PRIVATE, STRANGE, (), [PLAIN], "not-named"),
    "perhaps a stranger's, its kind named": (PRIVATE, STRANGE, ("shm",), [PLAIN], ""),
    "a private segment, another kind named": (PRIVATE, GONE, ("sem",), [PLAIN], "not-named"),
    "what reap names, another kind named": (KEYED, GONE, ("sem",), [NAMES], "not-named"),
    "keep of some member": (PRIVATE, GONE, ("shm",), [NAMES, KEEPS], "keep"),
    "of the living": (PRIVATE, LIVES, ("shm",), [NAMES], "in-use"),
    "plausible": (ARRAY, MAYBE, ("sem",), [NAMES], "plausible"),
    "unknown": (PRIVATE, DARK, ("shm",), [NAMES], "unknown"),
    "a POSIX queue": (QUEUE, Verdict("plausible", ("no-pids",)), (), [NAMES], "queue"),
}


@pytest.mark.parametrize(("found", "verdict", "kinds", "members", "why"), DECISIONS.values(), ids=DECISIONS)
def test_decides(found: Any, verdict: Verdict, kinds: tuple[str, ...], members: list[Terms], why: str) -> None:
    """What the living are not seen to use goes if nobody could find it, or somebody names it, and nobody keeps it."""
    assert fates.why_kept(found, verdict, kinds, members) == why


WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "freed": ({**PRIVATE, "evidence": ["creator-gone"]}, "whoever made it is gone"),
    "attached": (
        {**PRIVATE, "why": "in-use", "evidence": ["attached"], "users": [{"pid": 7, "command": "postgres"}]},
        "in use: attached by 7 postgres",
    ),
    "attached by nobody in sight": ({**PRIVATE, "why": "in-use", "evidence": ["attached"]}, "in use: attached"),
    "lives": (
        {**PRIVATE, "why": "in-use", "evidence": ["creator-lives", "last-user-lives"]},
        "in use: a living container made and used it",
    ),
    "perhaps a stranger's": (
        {**PRIVATE, "evidence": ["creator-gone", "last-user-gone", "strangers"]},
        "whoever made and used it is gone, it may be of one that was not governed",
    ),
    "queue": ({**QUEUE, "why": "queue"}, "a queue: nothing tells who has it open"),
    "keep": ({**PRIVATE, "why": "keep"}, "keep: the policy says so"),
    "not named": ({**ARRAY, "why": "not-named"}, "not named: --kind sem frees it"),
    "plausible": ({**ARRAY, "why": "plausible", "evidence": ["never-used"]}, "plausible: nobody has used it"),
    "unknown": ({**ARRAY, "why": "unknown", "evidence": ["new-word"]}, "unknown: new-word"),
    "failed": ({**ARRAY, "why": "Operation not permitted"}, "Operation not permitted"),
}


@pytest.mark.parametrize(("told", "words"), WORDS.values(), ids=WORDS)
def test_says_why(told: dict[str, Any], words: str) -> None:
    """Every fate has a reason that people understand."""
    assert fates.reason(told) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s ago"), (0, "0 s ago"), (59.9, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (999999, "11 d ago")],
)
def test_times_have_units(seconds: float, words: str) -> None:
    """A time that has passed is told in one unit; a clock that was set back makes nothing negative."""
    assert fates.ago(seconds) == words


FOUND: dict[str, Any] = {
    "container": {"id": "c1"},
    "dry_run": False,
    "freed": {"shm": {"count": 1, "bytes": 8 << 20, "claimed": 8 << 20}},
    "kept": {"sem": {"count": 2, "bytes": 1024, "claimed": 1024}},
    "objects": [
        {**PRIVATE, "fate": "removed", "evidence": ["creator-gone"]},
        {**ARRAY, "fate": "held", "why": "not-named", "evidence": ["last-user-gone"]},
        {**QUEUE, "fate": "held", "why": "queue", "evidence": ["no-pids"]},
    ],
    "omitted": 0,
    "failed": False,
}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what was done in a namespace, without one."""
    answer = {**FOUND}
    monkeypatch.setattr(reap, "_reap", lambda *_: answer)
    monkeypatch.setattr("time.time", lambda: 1060.0)
    return answer


def run(root: Path, *arguments: str) -> Result:
    """Run `ipcwarden reap`; what it raises is raised."""
    return CliRunner().invoke(
        reap.command, arguments, obj=Settings(str(root)), catch_exceptions=False, standalone_mode=False
    )


def test_people_see_what_became_of_each(found: dict[str, Any], tmp_path: Path) -> None:
    """A line an object with its fate and why, then one of all."""
    lines = [line.split() for line in run(tmp_path, "c1").stdout.splitlines() if line]
    assert lines[0] == ["KIND", "KEY", "ID", "OWNER", "SIZE", "LAST", "USE", "FATE", "WHY"]
    assert " ".join(lines[1]) == "shm 0x00000000 3 root 8 MiB 1 min ago freed whoever made it is gone"
    assert " ".join(lines[2]) == "sem 0x00000000 5 root 64 B 2 min ago kept not named: --kind sem frees it"
    assert " ".join(lines[3]) == "mqueue /q - root 0 B never kept a queue: nothing tells who has it open"
    assert " ".join(lines[4]) == "freed: 1 shm 8 MiB; kept: 2 sem 1 KiB"


def test_a_dry_run_says_so(found: dict[str, Any], tmp_path: Path) -> None:
    """--dry-run says the same of what would be."""
    said = run(tmp_path, "c1", "--dry-run").stdout
    assert "1 min ago  would be freed  whoever made it is gone" in said
    assert "would be freed: 1 shm 8 MiB; would be kept: 2 sem 1 KiB" in said


def test_of_many_the_most_important_are_shown(found: dict[str, Any], tmp_path: Path) -> None:
    """A table is no longer than people read; the totals are of all."""
    found["omitted"] = 51
    assert "\nand 51 more: --json has all\n" in run(tmp_path, "c1").stdout


def test_nothing_is_there(found: dict[str, Any], tmp_path: Path) -> None:
    """An empty namespace is one line, and no failure."""
    found.update(freed={}, kept={}, objects=[])
    result = run(tmp_path, "c1")
    assert (result.stdout, result.return_value) == ("freed: nothing; kept: nothing\n", 0)


def test_what_could_not_be_freed_is_a_failure(found: dict[str, Any], tmp_path: Path) -> None:
    """Exit code 1 where something was to go and did not."""
    found["failed"] = True
    assert run(tmp_path, "c1").return_value == 1


def test_json_is_what_the_schema_says(found: dict[str, Any], tmp_path: Path) -> None:
    """--json prints these, and no more."""
    printed = json.loads(run(tmp_path, "c1", "--json").stdout)
    assert printed == {key: found[key] for key in ("container", "dry_run", "freed", "kept", "objects")}


@pytest.mark.parametrize(("kind", "said"), [("mqueue", "nothing tells who has a POSIX queue open"), ("file", "'shm'")])
def test_only_what_can_be_proven_is_named(found: dict[str, Any], tmp_path: Path, kind: str, said: str) -> None:
    """Other kinds are wrong usage, and it is said why."""
    with pytest.raises(click.UsageError, match=said):
        run(tmp_path, "c1", "--kind", kind)


def test_a_host_without_containers_has_none(tmp_path: Path) -> None:
    """Where nothing was ever governed one clear line says so, with exit code 1, and nothing is made."""
    with pytest.raises(WardenError, match=r"^no governed container 'c1' runs here \(ipcwarden scan lists") as caught:
        run(tmp_path, "c1")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def entries(*containers: tuple[str, str, str, bool]) -> dict[str, Any]:
    """Return entries by key: of each id, pod, namespace, and whether it joined others."""
    return {
        f"{each}-{number:016x}": {
            "subject": {"container": {"id": each, "name": None, "pod": pod, "namespace": namespace}},
            "joined": joined,
        }
        for number, (each, pod, namespace, joined) in enumerate(containers)
    }


PODS = entries(("app1", "web", "shop", True), ("box1", "web", "shop", False), ("app2", "mail", "shop", True))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("app1", "app1"), ("box", "box1"), ("web", "box1"), ("shop/web", "box1"), ("mail", "app2"), ("m", None)],
)
def test_a_pod_is_its_sandbox(text: str, chosen: str | None) -> None:
    """A container is chosen as `show` does; a pod by its name, with its Kubernetes namespace or without."""
    if chosen is None:
        with pytest.raises(WardenError, match="no governed container 'm' runs here"):
            reap.choose(text, PODS)
    else:
        subject: Any = reap.choose(text, PODS)["subject"]
        assert subject["container"]["id"] == chosen


@pytest.mark.parametrize("text", ["0123456789ab", "0123456789abcdef"])
def test_a_pod_of_podmans_is_its_infra_container(text: str) -> None:
    """podman's pod is meant by its id, short or whole, because its infra container is named after that."""
    infra = entries(("a", "", "", False), ("b", "", "", True))
    next(iter(infra.values()))["subject"]["container"]["name"] = "0123456789ab-infra"
    subject: Any = reap.choose(text, infra)["subject"]
    assert subject["container"]["id"] == "a"


def test_pods_of_one_name_are_told_apart() -> None:
    """Two Kubernetes namespaces may have a pod of one name: which is meant is not guessed."""
    two = entries(("a", "web", "shop", False), ("b", "web", "test", False))
    with pytest.raises(UsageError, match="shop/web, test/web"):
        reap.choose("web", two)
    subject: Any = reap.choose("test/web", two)["subject"]
    assert subject["container"]["id"] == "b"


def test_a_containers_id_is_no_pods_name() -> None:
    """What is somebody's id or name means that one, whatever pods there are."""
    subject: Any = reap.choose("web", entries(("a", "web", "shop", False), ("web", "", "", False)))["subject"]
    assert subject["container"]["id"] == "web"


def test_the_log_tells_who_removed_what() -> None:
    """In a line of `ipcwarden audit` the totals and the user stand."""
    record = {"event": "collected", "stage": "reap", "uid": 0, "removed": FOUND["freed"]}
    assert summary.what(record) == "1 shm 8 MiB removed by root"


TABLES = {
    "shm": b"head\n 0 0 600 4096 7 8 0 0 0 0 0 1 2 3 4096 0\n 5 1 600 9000 7 8 0 0 0 0 0 1 2 3 4096 0\n",
    "sem": b"head\n 1 2 600 500 0 0 0 0 5 4\n",
    "msg": b"head\n",
}


def test_the_largest_come_first() -> None:
    """By what they hold, then by what they claim, of all kinds; people see first what is done.

    What is told of each is what a record has.
    """
    queues: list[Any] = [{**QUEUE, "bytes": 5000, "claimed": 1}]
    inventory = Inventory({kind: Table(kind, text, 4096) for kind, text in TABLES.items()}, queues)
    outcomes = [fates.Outcome("shm", 0, GONE, ""), fates.Outcome("shm", 1, LIVES, "in-use")]
    outcomes += [fates.Outcome("sem", 0, GONE, "keep"), fates.Outcome("mqueue", 0, MAYBE, "queue")]
    ranked = fates.ranked(inventory, outcomes)
    assert [(each.kind, each.index) for each in ranked] == [("sem", 0), ("mqueue", 0), ("shm", 1), ("shm", 0)]
    first = fates.first(inventory, outcomes * 30)
    assert [each.kind for each in first] == ["shm"] * 30 + ["sem"] * 30 + ["mqueue"] * 30 + ["shm"] * 10
    assert fates.chosen(outcomes) == {"shm": [0, 1], "sem": [0], "mqueue": [0]}
    told = [fates.told(inventory, each) for each in outcomes]
    assert [(each["fate"], each.get("confidence"), each.get("why")) for each in told] == [
        ("removed", "proven", None),
        ("held", None, "in-use"),
        ("held", "proven", "keep"),
        ("held", "plausible", "queue"),
    ]
