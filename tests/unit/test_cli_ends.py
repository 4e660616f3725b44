"""How the command line ends: one line on standard error, and an exit code that says whose fault it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ipcwarden.cli import Settings, audit, show
from ipcwarden.errors import UsageError
from support.shell import run

if TYPE_CHECKING:
    from support.shell import Result

PROGRAM = Path(sys.executable).with_name("ipcwarden")


@pytest.fixture(autouse=True)
def _policy(tmp_path: Path) -> None:
    """Make a policy with an error, which only we can write."""
    directory = tmp_path / "etc/ipcwarden"
    directory.mkdir(parents=True)
    (directory / "policy.yaml").write_text("version: 1\nrules: [{name: all, profile: nobody}]\n")
    for each in (tmp_path, tmp_path / "etc", directory, directory / "policy.yaml"):
        each.chmod(0o755)


def shell(root: Path, command: str) -> Result:
    """Run a shell's command line, with the CLI as `ipcwarden`."""
    return run("sh", "-c", f'ipcwarden() {{ "{PROGRAM}" --root "{root}" "$@"; }}; {command}')


@pytest.mark.parametrize(
    "command",
    [
        "audit >&-",
        "check >&-",
        "check >/dev/full",
        "check --json >/dev/full",
        "--help >/dev/full",
        "gc --json >/dev/full",
    ],
)
def test_output_that_cannot_be_written(tmp_path: Path, command: str) -> None:
    """It is said in one line, with 74; 1 would mean that something was found."""
    result = shell(tmp_path, f"ipcwarden {command}")
    assert result.code == 74
    assert "cannot write to standard output: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_closed_error_stream_hurts_nobody(tmp_path: Path) -> None:
    """Nothing that is opened stands in its place."""
    assert shell(tmp_path, "ipcwarden check 2>&-").code == 1


def test_a_reader_that_has_had_enough(tmp_path: Path) -> None:
    """The one of findings, too."""
    assert "nobody" in shell(tmp_path, "ipcwarden check 2>/dev/null | head -n 1").stdout


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_verb_without_an_engine_is_helped(tmp_path: Path, verb: str) -> None:
    """As the program without a verb is: with the help, and as wrong usage."""
    result = shell(tmp_path, f"ipcwarden {verb}")
    assert (result.code, result.stderr) == (64, "")
    assert "  podman " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("check --bogus", "no such option '--bogus' (hint: ipcwarden check --help)"),
        ("chekc", "no such command 'chekc' (hint: ipcwarden --help)"),
        ("install bundle", "missing argument 'DIR' (hint: ipcwarden install bundle --help)"),
        ("gc --older-than x", "is no age: write 90, 90s, 5m, 2h or 1d (hint: ipcwarden gc --help)"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: str, said: str) -> None:
    """As every other error is."""
    result = shell(tmp_path, f"ipcwarden {arguments}")
    [line] = result.stderr.splitlines()
    assert (result.code, result.stdout) == (64, "")
    assert line.startswith("ipcwarden: ")
    assert said.replace("'", "") in line.replace("'", "")  # which click quotes as its version likes


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [("RuntimeError('odd')", 70, "please report it"), ("OSError(5, 'odd')", 70, "odd"), ("KeyboardInterrupt", 130, "")],
)
def test_what_nobody_foresaw(tmp_path: Path, raised: str, code: int, said: str) -> None:
    """A bug names itself, and an interruption is none."""
    program = (
        "import ipcwarden.cli, ipcwarden.compiler\n"
        f"def load(root): raise {raised}\n"
        "ipcwarden.compiler.load = load\n"
        "ipcwarden.cli.main()"
    )
    result = run(sys.executable, "-c", program, "--root", tmp_path, "check")
    assert (result.code, said in result.stderr, "Traceback" in result.stderr) == (code, True, False)
    assert len(result.stderr.strip().splitlines()) == bool(said)  # click ends the line that ^C stands in


@pytest.mark.parametrize(("command", "arguments"), [(show.command, [""]), (audit.command, ["--container", ""])])
def test_an_empty_text_names_nobody(tmp_path: Path, command: object, arguments: list[str]) -> None:
    """It would be a prefix of every id."""
    with pytest.raises(UsageError, match="by an empty text"):
        CliRunner().invoke(command, arguments, obj=Settings(str(tmp_path)), catch_exceptions=False)  # type: ignore[arg-type]
