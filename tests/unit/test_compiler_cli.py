"""`ipcwarden check` and `ipcwarden compile`, as people and programs see them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from ipcwarden.cli import Settings, check
from ipcwarden.cli import compile as activate
from ipcwarden.compiler.machine import this_machine
from ipcwarden.core.sysctls import NAMES
from ipcwarden.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = "version: 1\nrules:\n  - {name: all, profile: baseline}\n"
WARNED = GOOD + "profiles: {p: {sysctls: {kernel.msgmax: 64KiB}}}\n"
BAD = GOOD.replace("baseline", "basline")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Make directories that only we can write, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with a good policy."""
    (tmp_path / "etc/ipcwarden/policy.d").mkdir(parents=True)
    policy(tmp_path, GOOD)
    return tmp_path


def policy(root: Path, text: str) -> Path:
    """Write the root's policy.yaml."""
    path = root / "etc/ipcwarden/policy.yaml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def run(root: Path, *arguments: str) -> tuple[int, list[str], list[str]]:
    """Return the exit code and the lines of both streams."""
    verb = {"check": check.command, "compile": activate.command}[arguments[0]]
    result: Result = CliRunner().invoke(verb, arguments[1:], obj=Settings(str(root)), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value, result.stdout.splitlines(), result.stderr.splitlines()


def test_check_says_that_nothing_is_wrong(root: Path) -> None:
    """And that the policy is not in force yet."""
    assert run(root, "check") == (
        (0, [], ["note: no policy is in force yet: run ipcwarden compile", "1 file: nothing is wrong"])
    )


def test_check_prints_errors_on_stdout(root: Path) -> None:
    """A line each, for `head` and `grep`; notes and the summary on stderr."""
    path = policy(root, BAD)
    code, out, err = run(root, "check")
    assert (code, err[-1]) == (1, "1 file: 1 error, 0 warnings")
    assert out == [
        f"{path}:3:26: error: rules[0].profile: there is no profile 'basline' (did you mean 'baseline'?)",
    ]


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_check_fails_on_warnings_when_strict(root: Path, options: list[str], code: int) -> None:
    """A warning is for people, unless they say otherwise."""
    policy(root, WARNED)
    found, out, err = run(root, "check", *options)
    assert (found, len(out), err[-1]) == (code, 1, "1 file: 0 errors, 1 warning")


def test_check_is_json_for_programs(root: Path) -> None:
    """A list of findings, and nothing else."""
    path = policy(root, BAD)
    code, out, err = run(root, "check", "--json", str(path))
    assert (code, err) == (1, [])
    assert json.loads("\n".join(out)) == [
        {
            "severity": "error",
            "file": str(path),
            "line": 3,
            "column": 26,
            "path": "rules[0].profile",
            "message": "there is no profile 'basline'",
            "hint": "did you mean 'baseline'?",
        }
    ]


def test_check_tells_programs_what_is_pending(root: Path) -> None:
    """A note is a finding of its own severity."""
    code, out, _ = run(root, "check", "--json")
    assert (code, [row["severity"] for row in json.loads("\n".join(out))]) == (0, ["note"])


def test_check_takes_files_each_on_its_own(root: Path) -> None:
    """Two files may well have the same rule."""
    other = root / "other.yaml"
    other.write_text(BAD)
    code, out, err = run(root, "check", str(root / "etc/ipcwarden/policy.yaml"), str(other))
    assert (code, len(out), err) == (1, 1, ["2 files: 1 error, 0 warnings"])


def test_check_takes_a_drop_in_as_one(root: Path) -> None:
    """It must not take every container, and needs no rule."""
    path = root / "etc/ipcwarden/policy.d/a.yaml"
    path.write_text(GOOD)
    assert run(root, "check", str(path))[0] == 1
    path.write_text("version: 1\n")
    assert run(root, "check", "--strict", str(path))[0] == 0


def test_check_says_what_is_pending(root: Path) -> None:
    """Sources that differ from the policy in force are no error."""
    run(root, "compile")
    assert run(root, "check") == (0, [], ["1 file: nothing is wrong"])
    policy(root, GOOD.replace("baseline", "restricted"))
    code, _, err = run(root, "check")
    assert (code, err[0].startswith("note: pending: the sources differ from the policy in force, ")) == (0, True)


def test_check_says_that_the_policy_in_force_is_damaged(root: Path) -> None:
    """The sources may be good all the same."""
    run(root, "compile")
    (root / "var/lib/ipcwarden/policy.compiled").write_bytes(b"x")
    code, _, err = run(root, "check")
    assert code == 0
    assert "its format is unknown" in err[0]


def test_compile_says_what_is_in_force(root: Path) -> None:
    """In one line."""
    code, out, err = run(root, "compile")
    assert (code, err, len(out)) == (0, [], 1)
    assert out[0].startswith("in force: ")
    assert out[0].endswith(f" (enforcing, 1 rule, 1 profile) from {root}/etc/ipcwarden/policy.yaml")
    code, out, _ = run(root, "compile")
    assert (code, out[0].split(":")[0]) == (0, "unchanged")


def test_compile_changes_nothing_with_an_error(root: Path) -> None:
    """The policy in force stays, and the errors are the same as check's."""
    run(root, "compile")
    before = (root / "var/lib/ipcwarden/policy.compiled").read_bytes()
    policy(root, BAD)
    code, out, err = run(root, "compile")
    assert (code, out, err) == (
        (1, ["1 file: 1 error, 0 warnings; the policy in force stays as it is"], run(root, "check")[1])
    )
    assert (root / "var/lib/ipcwarden/policy.compiled").read_bytes() == before


def test_compile_tells_warnings(root: Path) -> None:
    """And puts the policy in force."""
    policy(root, WARNED)
    code, out, err = run(root, "compile")
    assert (code, len(out), len(err)) == (0, 1, 1)


def test_compile_is_json_for_programs(root: Path) -> None:
    """What is in force now, and whether that is new."""
    code, [line], err = run(root, "compile", "--json")
    found = json.loads(line)
    assert (code, err, len(found.pop("policy"))) == (0, [], 12)
    assert found == {"changed": True, "mode": "enforcing", "rules": 1, "profiles": 1, "findings": []}
    assert json.loads(run(root, "compile", "--json")[1][0])["changed"] is False


def test_compile_tells_programs_of_errors(root: Path) -> None:
    """The same as check's, and that nothing was put in force."""
    policy(root, BAD)
    code, [line], err = run(root, "compile", "--json")
    found = json.loads(line)
    assert (code, err, found["changed"], found["policy"]) == (1, [], False, None)
    assert [finding["path"] for finding in found["findings"]] == ["rules[0].profile"]


@pytest.mark.parametrize("verb", ["check", "compile"])
def test_the_kill_switch_is_said(root: Path, verb: str) -> None:
    """A policy that is checked or put in force decides nothing while it is on."""
    switch = root / "etc/ipcwarden/disabled"
    switch.touch(0o644)
    note = "note: ipcwarden is disabled until ipcwarden enable, containers start ungoverned"
    assert run(root, verb)[2][-1] == note
    assert run(root, verb, "--json")[2] == [note]
    switch.unlink()
    assert note not in run(root, verb)[2]


def test_compile_rolls_back(root: Path) -> None:
    """To what was in force before."""
    digests = []
    for text in (GOOD, GOOD.replace("baseline", "restricted")):
        policy(root, text)
        digests.append(run(root, "compile")[1][0].split()[2])
    code, out, _ = run(root, "compile", "--rollback")
    assert (code, out[0].split()[2]) == (0, digests[0])
    assert digests[0] != digests[1]


def test_compile_trusts_nobody_elses_sources(root: Path) -> None:
    """An error of the host's, with its own exit code."""
    (root / "etc/ipcwarden/policy.yaml").chmod(0o666)
    with pytest.raises(PolicyError, match="others can write it"):
        run(root, "compile")


def test_a_machine_has_a_value_for_every_name() -> None:
    """Read in a new namespace where we may make one, known by heart where not."""
    machine = this_machine()
    assert machine.kernel.keys() == set(NAMES)
    assert machine.page in (4096, 16384, 65536)
