"""`ipcwarden show`, up to where it joins a namespace: that takes root, and tests/e2e."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ipcwarden.cli import Settings, child, show, table
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import KernelError, UsageError, WardenError
from ipcwarden.host.procfs import boot_id, started
from ipcwarden.stages.life import is_living

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from ipcwarden.core.documents import Document

CONTAINER = {"id": "c1", "bundle": "/b", "engine": "bare", "name": "c1", "image": None}
SEGMENT = {"kind": "shm", "key": "0x00000000", "id": 3, "perms": "0600", "owner": "0", "size": 5000, "claimed": 8192}
ARRAY = {"kind": "sem", "key": "0x00000001", "id": 4, "perms": "0600", "owner": "4294967294", "nsems": 20}
QUEUE = {"kind": "mqueue", "name_hex": "1b5b", "perms": "0600", "owner": "0", "msgsize": 16}
FOUND = {
    "container": CONTAINER,
    "limits": {name: str(number) for name, number in {**KERNEL_DEFAULTS, "kernel.sem.semmni": 4}.items()},
    "usage": {},
    "peaks": {},
    "objects": [SEGMENT, ARRAY, QUEUE],
    "subject": {"profile": "base", "rule": "[all]", "mode": "enforcing"},
    "shared": False,
}


def entry(container: str, name: str | None = None, **more: Any) -> dict[str, Document]:
    """Return a ledger entry of this process' own."""
    subject = {"container": {"id": container, "name": name}}
    alive = {"boot": boot_id(), "pid": os.getpid(), "started": started(os.getpid())}
    return {"version": 1, "state": "applied", "subject": subject, **alive, **more}


def candidates(*containers: tuple[str, str | None]) -> dict[str, dict[str, Document]]:
    """Return entries by key, numbered in their order."""
    return {f"{each}-{number:016x}": entry(each, name) for number, (each, name) in enumerate(containers)}


def chosen(text: str, *containers: tuple[str, str | None]) -> Any:
    """Return the id of the container that `text` stands for."""
    subject: Any = show.choose(text, candidates(*containers))["subject"]
    return subject["container"]["id"]


def run(root: Path, *arguments: str) -> Result:
    """Run `ipcwarden show`; what it raises is raised."""
    return CliRunner().invoke(show.command, arguments, obj=Settings(str(root)), catch_exceptions=False)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what is found in a container's namespace, without one."""
    answer: dict[str, Any] = {**FOUND}
    monkeypatch.setattr(show, "look", lambda *_: answer)
    return answer


def test_a_host_without_containers_has_none(tmp_path: Path) -> None:
    """Where nothing was ever governed one clear line says so, with exit code 1, and nothing is made."""
    with pytest.raises(WardenError, match=r"^no governed container 'c1' runs here \(ipcwarden scan lists") as caught:
        run(tmp_path, "c1")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["web1", "web1-0000000000000000", "shop", "web"])
def test_a_container_is_chosen_by_id_key_name_or_prefix(text: str) -> None:
    """The id, the ledger's key, the name and a unique prefix all mean the container."""
    assert chosen(text, ("web1", "shop"), ("db1", "store")) == "web1"


def test_an_exact_id_wins() -> None:
    """An id is not taken for a name, nor for the beginning of another id."""
    assert chosen("a", ("ab", "x"), ("a", "y"), ("c", "a")) == "a"


def test_an_exact_name_wins_over_a_prefix() -> None:
    """A name is not taken for the beginning of an id."""
    assert chosen("a", ("ab", "x"), ("c", "a")) == "c"


def test_an_ambiguous_prefix_is_wrong_usage() -> None:
    """A prefix of several ids is an error that names their keys."""
    with pytest.raises(UsageError, match="a1-0000000000000000, a2-0000000000000001"):
        chosen("a", ("a1", None), ("a2", None))


def test_one_id_in_two_runtimes_needs_the_key() -> None:
    """Where two runtimes run one id, it is not guessed which is meant."""
    with pytest.raises(UsageError):
        chosen("a", ("a", None), ("a", None))
    assert chosen("a-0000000000000001", ("a", None), ("a", None)) == "a"


def test_what_matches_nothing_is_not_running() -> None:
    """An unknown id is not an accident of ours; it is said which there are."""
    with pytest.raises(show.NotRunning, match=r"^no governed container 'z' runs here \(those that do: a, shop\)$"):
        chosen("z", ("b1", "shop"), ("a", None))


def test_only_living_containers_are_candidates(tmp_path: Path) -> None:
    """Entries of another boot, of an ended process, half made or torn are no running containers."""
    documents = {
        "here-0": entry("here"),
        "creating-0": entry("creating", state="creating"),
        "before-0": entry("before", boot="another"),
        "ended-0": entry("ended", started=1),
    }
    for key, document in documents.items():
        (tmp_path / f"{key}.json").write_text(json.dumps(document))
    (tmp_path / "torn-0.json").write_text("{")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert list(show.living(directory, boot_id(), is_living)) == ["here-0"]
    finally:
        os.close(directory)


def test_json_is_what_was_asked_for(found: dict[str, Any], tmp_path: Path) -> None:
    """--json prints the container, its limits, its usage and its objects, and no more."""
    printed = json.loads(run(tmp_path, "c1", "--json").stdout)
    assert printed == {key: found[key] for key in ("container", "limits", "usage", "peaks", "objects")}


def test_people_see_usage_beside_limits(found: dict[str, Any], tmp_path: Path) -> None:
    """Each limit has a line, with what is used of it where that can be said."""
    lines = [line.split() for line in run(tmp_path, "c1").stdout.splitlines() if line]
    assert lines[1] == ["RESOURCE", "DESCRIPTION", "LIMIT", "USED", "USE%"]
    rows = {line[0]: line[-3:] for line in lines if line[0] in KERNEL_DEFAULTS}
    assert set(rows) == set(KERNEL_DEFAULTS)
    assert rows["kernel.sem.semmni"] == ["4", "1", "25.00%"]
    assert rows["kernel.msgmax"] == ["KiB)", "-", "-"]


def test_people_see_the_most_that_was_used(found: dict[str, Any], tmp_path: Path) -> None:
    """Where anything was ever in use there is a column for it."""
    found["peaks"] = {"kernel.sem.semmni": "3"}
    lines = [line.split() for line in run(tmp_path, "c1").stdout.splitlines() if line]
    assert lines[1][-3:] == ["USED", "PEAK", "USE%"]
    rows = {line[0]: line[-3:] for line in lines if line[0] in KERNEL_DEFAULTS}
    assert rows["kernel.sem.semmni"] == ["1", "3", "25.00%"]
    assert rows["kernel.msgmax"] == ["-", "-", "-"]


def test_people_see_objects_by_kind(found: dict[str, Any], tmp_path: Path) -> None:
    """Objects stand in a table a kind; a name that is not printable is given in hex, an unknown uid as it is."""
    shown = run(tmp_path, "c1").stdout
    assert "Shared memory segments\nKEY         ID  OWNER  PERMS     SIZE" in shown
    assert "0x00000000   3  root   0600   4.9 KiB" in shown
    assert "0x00000001   4  4294967294  0600      20" in shown
    assert "/\\x1b[  root" in shown
    assert "OWNER  PERMS  MSGS  MAXMSG" in shown  # nothing is said of bytes that were not read


def test_people_see_who_uses_an_object(found: dict[str, Any], tmp_path: Path) -> None:
    """Who has a segment attached stands beside it, and how many wait for semaphores; a question mark: nobody knows."""
    users = [{"pid": 71, "command": "post\ngres"}, {"pid": 72, "command": "psql"}]
    found["objects"] = [{**SEGMENT, "users": users}, {**SEGMENT, "id": 5}, {**ARRAY, "waiters": 2}]
    shown = run(tmp_path, "c1").stdout
    assert "USERS\n" in shown
    assert "post\\ngres 71, psql 72\n" in shown
    assert "NSEMS  WAITERS\n" in shown
    found["objects"] = [{**ARRAY, "waiters": None}]
    assert "20        ?\n" in run(tmp_path, "c1").stdout


def test_people_see_no_column_of_nobody(found: dict[str, Any], tmp_path: Path) -> None:
    """Where nobody waits and nobody is attached there is nothing to tell."""
    found["objects"] = [{**SEGMENT, "users": []}, {**ARRAY, "waiters": 0}]
    shown = run(tmp_path, "c1").stdout
    assert "USERS" not in shown
    assert "WAITERS" not in shown


def test_people_see_markup_as_it_is(found: dict[str, Any], tmp_path: Path) -> None:
    """Square brackets in a rule's name are no style."""
    assert "rule [all]" in run(tmp_path, "c1").stdout


def test_people_are_told_of_a_shared_namespace(found: dict[str, Any], tmp_path: Path) -> None:
    """Where others are in the namespace it is said that usage is everybody's."""
    found["shared"] = True
    assert "It shares its namespace" in run(tmp_path, "c1").stdout


def test_no_limit_has_no_share(found: dict[str, Any], tmp_path: Path) -> None:
    """What is unlimited, -1, or 0 is not divided by."""
    found["limits"] = {**found["limits"], "fs.mqueue.queues_max": "-1", "kernel.shmmni": "0"}
    lines = run(tmp_path, "c1").stdout.splitlines()
    assert [line.split()[-3:] for line in lines if line.startswith("fs.mqueue.queues_max")] == [["-1", "1", "-"]]
    assert [line.split()[-3:] for line in lines if line.startswith("kernel.shmmni")] == [["0", "1", "-"]]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (65536, "64 KiB"), (1536, "1.5 KiB"), (1 << 64, "16 EiB")]
)
def test_amounts_have_units(count: int, text: str) -> None:
    """Bytes are shown as people read them."""
    assert table.size(count) == text


def test_a_child_answers() -> None:
    """What the question returns in the child is returned to us."""
    assert child.ask(lambda: {"pid": os.getppid()}) == {"pid": os.getpid()}


def test_a_childs_error_is_ours() -> None:
    """An error in the child has the same sentence, hint and exit code here."""

    def fail() -> Document:
        raise KernelError("cannot join", "it takes root")

    with pytest.raises(WardenError, match=r"^cannot join \(it takes root\)$") as caught:
        child.ask(fail)
    assert caught.value.exit_code == KernelError.exit_code


def test_a_childs_bug_is_told() -> None:
    """A bug in the child is an error that names it."""
    with pytest.raises(WardenError, match="ZeroDivisionError"):
        child.ask(lambda: 1 // 0)


def test_a_childs_death_is_told() -> None:
    """A child that is killed leaves no answer, and that is said."""
    with pytest.raises(WardenError, match="status -9 and no answer"):
        child.ask(lambda: os.kill(os.getpid(), 9))
