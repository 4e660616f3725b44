"""The wrapper understands runtimes' command lines as runc and crun do."""

from __future__ import annotations

import pytest

from ipcwarden.core.invocation import Invocation, invocation_of

# Each was tried with runc 1.1.5 or crun 1.8.1: the bundle that they name is the one that they open.
RUNC = [
    "run -b /x c",
    "run --bundle=/x c",
    "run -bundle /x c",
    "run -b=/x c",
    "run c -b /x",
    "run c --bundle /x",
    "-root /r run -b /x c",
    "--log-format json run --bundle /x --pid-file p c",
    "--log= run -b /x c",
    "run -b /n -b /x c",
    "run -d=true -b /x c",
    "--debug --systemd-cgroup --rootless auto create --no-pivot --preserve-fds 3 --console-socket s -b /x c",
    "--root /run --log create --log-format json create --bundle /x c",
    "run --b /x c",
    "run --b=/x c",
    "create --pidfd-socket p --bundle /x c",
    "create --pidfd-socket p --console-socket s --pid-file f -b /x c",
]
CRUN = [
    "run -b /x c",
    "run -b/x c",
    "run --bun /x c",
    "run --bun=/x c",
    "run -db/x c",
    "--roo /r run -b /x c",
    "--cgroup-manager disabled run -b /x c",
    "--cgroup-manager=disabled run -d --bundle=/x c",
    "run --b /x c",
    "run --pid p --pre 3 --console s --bun /x c",
    "--log-level debug --log-l create run -b /x c",
    "--program-name x run --program-name=y -b /x c",
    "run -b/x --keep --no-new-keyring c",
]


@pytest.mark.parametrize("line", RUNC + CRUN)
def test_finds_bundle_and_container(line: str) -> None:
    """However options are spelled and wherever they stand, the bundle and the name are found."""
    found = invocation_of(line.split())
    assert found is not None
    assert (found.bundle, found.container, found.config) == ("/x", "c", "")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--version",
        "--root run state c",
        "delete --force create",
        "start run",
        "exec -t c create",
        "spec -b /x",
        "kill c 9",
        "mounts add run",
        "mounts add create x",
        "help run c",
        "h create c",
        "init create c",
        "features run c",
        "-",
        "--log",
    ],
)
def test_leaves_everything_else(line: str) -> None:
    """What creates nothing is none of ours, whatever it is called for."""
    assert invocation_of(line.split()) is None


def test_an_unknown_option_hides_no_verb() -> None:
    """An option of a later version whose value we take for a word does not let a creation pass."""
    found = invocation_of(["--new", "value", "--other", "create", "-b", "/x", "c"])
    assert found is not None
    assert (found.bundle, found.container) == ("/x", "c")


def test_abbreviates_behind_two_dashes_only() -> None:
    """What begins with one dash is, where it is no whole name, short options in a row: -bun means the bundle `un`."""
    found = invocation_of(["run", "-bun", "c"])
    assert found is not None
    assert (found.bundle, found.container) == ("un", "c")


OF_CONFIG = ["-f /y/c.json", "--config=/y/c.json", "--conf /y/c.json", "-f/y/c.json", "--f /y/c.json", "--f=/y/c.json"]


@pytest.mark.parametrize("option", OF_CONFIG)
def test_finds_the_name_of_config(option: str) -> None:
    """crun's --config is another file than the bundle's."""
    found = invocation_of(["create", *option.split(), "c"])
    assert found == Invocation("c", "", "/y/c.json", "", "")


def test_finds_where_errors_are_reported() -> None:
    """Engines read the runtime's log."""
    found = invocation_of(["--log", "/l", "--log-format=json", "create", "c"])
    assert found == Invocation("c", "", "", "/l", "json")


@pytest.mark.parametrize(("line", "name"), [("run -- -b", "-b"), ("run", ""), ("run -b", ""), ("run - x", "-")])
def test_takes_what_is_left_for_the_name(line: str, name: str) -> None:
    """Behind `--` nothing is an option, and a single dash never is; a missing name is the runtime's to complain of."""
    found = invocation_of(line.split())
    assert found is not None
    assert found.container == name
