"""install and uninstall on files of our own: programs first, whole or not at all, and nothing without a policy."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ipcwarden.cli import cli
from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import PolicyError, StateError
from ipcwarden.registration import hooksd
from ipcwarden.registration.changes import Change, Directory, make_all
from ipcwarden.registration.entry import RegistrationError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CONFIG = {"ociVersion": "1.0.2", "process": {"args": ["sh"]}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with a policy in force."""
    policy = Policy(
        "enforcing", os.uname().release, KERNEL_DEFAULTS, (Rule("all", (), 0, "enforcing"),), (Profile("p", {}),)
    )
    state = tmp_path / "root" / "var" / "lib" / "ipcwarden"
    state.mkdir(parents=True)
    for directory in (tmp_path / "root", *state.parents[:3], state):
        directory.chmod(0o755)
    (state / "policy.compiled").write_bytes(pack(policy))
    (state / "policy.compiled").chmod(0o644)
    return tmp_path / "root"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a bundle without hooks."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "config.json").write_text(json.dumps(CONFIG, indent="\t"), encoding="utf-8")
    return tmp_path / "bundle"


def call(root: Path, *arguments: str | Path) -> Result:
    """Run a verb; errors rise."""
    return CliRunner().invoke(
        cli, ["--root", str(root), *map(str, arguments)], catch_exceptions=False, standalone_mode=False
    )


def answer(root: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run a verb and read its JSON."""
    found: dict[str, Any] = json.loads(call(root, *arguments, "--json").output)
    return found


def listing(directory: Path) -> dict[str, bytes]:
    """Read all files of a tree."""
    return {str(file): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_bundle_s_hook_starts(root: Path, bundle: Path) -> None:
    """What is registered is a command that ends as our hook does when it gets no state."""
    call(root, "install", "bundle", bundle)
    entry = json.loads((bundle / "config.json").read_text())["hooks"]["createRuntime"][0]
    assert subprocess.run(entry["args"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 65


def test_bytecode_is_the_registered_interpreter_s(root: Path, bundle: Path) -> None:
    """The hook's unit is not compiled again in each start."""
    call(root, "install", "bundle", bundle)
    traced = ["/usr/bin/python3", "-v", "-I", "-S", str(root / "usr/libexec/ipcwarden/hook.py")]
    said = subprocess.run(traced, capture_output=True, text=True, check=False).stderr
    assert f"matches {root}/usr/libexec/ipcwarden/_ipcwarden_poststart.py" in said


def test_second_install_writes_nothing(root: Path, bundle: Path) -> None:
    """A package's files and a registration that are there are left alone."""
    call(root, "install", "bundle", bundle)
    before = {file: os.stat(file) for file in [*listing(root), *listing(bundle)]}
    assert answer(root, "install", "bundle", bundle) == {"changed": False, "files": [], "notes": []}
    assert {file: os.stat(file).st_ino for file in before} == {file: status.st_ino for file, status in before.items()}


@pytest.mark.parametrize("name", ["hook.py", "_ipcwarden_create.py", "__pycache__/*.pyc"])
def test_damaged_program_is_put_right(root: Path, bundle: Path, name: str) -> None:
    """A file that differs is written anew, and no other registration is needed."""
    call(root, "install", "bundle", bundle)
    file = next((root / "usr/libexec/ipcwarden").glob(name))
    good = file.read_bytes()
    file.write_bytes(b"# damaged")
    call(root, "install", "bundle", bundle)
    assert file.read_bytes()[16:] == good[16:]


def test_uninstall_restores_the_bundle(root: Path, bundle: Path) -> None:
    """config.json is the same to the byte."""
    before = listing(bundle)
    call(root, "install", "bundle", bundle)
    call(root, "uninstall", "bundle", bundle)
    assert listing(bundle) == before


def test_uninstall_leaves_the_programs(root: Path, bundle: Path) -> None:
    """Running containers still need them for their poststop."""
    call(root, "install", "bundle", bundle)
    before = listing(root)
    call(root, "uninstall", "bundle", bundle)
    assert listing(root) == before


def test_config_keeps_its_mode(root: Path, bundle: Path) -> None:
    """A private config.json stays private."""
    (bundle / "config.json").chmod(0o640)
    call(root, "install", "bundle", bundle)
    assert (bundle / "config.json").stat().st_mode & 0o7777 == 0o640


def test_podman_gets_a_file_a_stage(root: Path) -> None:
    """They lie where podman looks without being told."""
    call(root, "install", "podman")
    directory = root / "usr/share/containers/oci/hooks.d"
    assert sorted(each.name for each in directory.iterdir()) == sorted(hooksd.NAMES)


def test_poststop_is_registered_before_creation(root: Path) -> None:
    """A container that starts meanwhile has no pin without a poststop."""
    files = [file.rpartition("-")[2] for file in answer(root, "install", "podman")["files"]]
    assert files[-3:] == ["poststop.json", "poststart.json", "create.json"]


def test_creation_is_unregistered_before_poststop(root: Path) -> None:
    """The other way round."""
    call(root, "install", "podman")
    files = [file.rpartition("-")[2] for file in answer(root, "uninstall", "podman")["files"]]
    assert files[:3] == ["create.json", "poststart.json", "poststop.json"]


def test_named_hooks_dir_is_made(root: Path, tmp_path: Path) -> None:
    """A directory for us alone need not exist."""
    call(root, "install", "podman", "--hooks-dir", tmp_path / "hooks.d")
    assert len(listing(tmp_path / "hooks.d")) == 3


def test_uninstall_podman_leaves_others(root: Path, tmp_path: Path) -> None:
    """Neither other names nor a foreign file of our name are touched."""
    directory = tmp_path / "hooks.d"
    call(root, "install", "podman", "--hooks-dir", directory)
    (directory / "other.json").write_text("{}")
    (directory / hooksd.NAMES[0]).write_text("{}")
    call(root, "uninstall", "podman", "--hooks-dir", directory)
    assert sorted(each.name for each in directory.iterdir()) == [hooksd.NAMES[0], "other.json"]


def hooks_elsewhere(root: Path, tmp_path: Path, file: str | None) -> Path:
    """Install hooks into a directory that some file of podman's configuration names, or ours."""
    directory = tmp_path / "hooks.d"
    call(root, "install", "podman", "--hooks-dir", directory, *(["--no-precreate"] if file else []))
    if file:
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text(f'[engine]\nhooks_dir = ["{directory}/"]\n')
    return directory


CONFS = ["etc/containers/containers.conf", "etc/containers/containers.conf.d/90-site.conf", None]


@pytest.mark.parametrize("file", CONFS)
def test_uninstall_podman_finds_the_directory_of_install(root: Path, tmp_path: Path, file: str | None) -> None:
    """Hooks that podman goes on reading would stop every container once the programs are removed."""
    directory = hooks_elsewhere(root, tmp_path, file)
    (directory / "other.json").write_text("{}")
    if file:
        call(root, "install", "podman", "--no-precreate")
    call(root, "uninstall", "podman")
    assert [*listing(directory)] == [str(directory / "other.json")]
    assert not listing(root / hooksd.DIRECTORY)


def test_uninstall_podman_with_a_directory_leaves_others(root: Path, tmp_path: Path) -> None:
    """It was named: nothing else is looked for."""
    call(root, "install", "podman", "--hooks-dir", tmp_path / "one", "--no-precreate")
    directory = hooks_elsewhere(root, tmp_path, CONFS[0])
    call(root, "uninstall", "podman", "--hooks-dir", tmp_path / "one")
    assert (len(listing(tmp_path / "one")), len(listing(directory))) == (0, 3)


def test_foreign_file_of_our_name_is_refused(root: Path, tmp_path: Path) -> None:
    """It is not ours to overwrite, and the other files are not written either."""
    (tmp_path / hooksd.NAMES[1]).write_text("{}")
    with pytest.raises(RegistrationError, match="does not register ipcwarden"):
        call(root, "install", "podman", "--hooks-dir", tmp_path)
    assert [each.name for each in tmp_path.glob("*.json")] == [hooksd.NAMES[1]]


@pytest.mark.parametrize("target", ["bundle", "podman"])
def test_dry_run_changes_nothing(root: Path, bundle: Path, target: str) -> None:
    """It only shows."""
    before = listing(root) | listing(bundle)
    call(root, "install", target, *[bundle] * (target == "bundle"), "--dry-run")
    assert listing(root) | listing(bundle) == before


def test_dry_run_is_a_patch(root: Path, bundle: Path) -> None:
    """patch(1) could make the change that is shown."""
    shown = call(root, "install", "bundle", bundle, "--dry-run").output
    call(root, "install", "bundle", bundle)
    after = (bundle / "config.json").read_text()
    (bundle / "config.json").write_text(json.dumps(CONFIG, indent="\t"), encoding="utf-8")
    added = [line[1:] for line in shown.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert [line for line in added if line not in after.splitlines()] == []
    assert f"--- {bundle}/config.json\n+++ {bundle}/config.json\n@@ " in shown


def test_dry_run_names_what_would_change(root: Path, bundle: Path) -> None:
    """Programs get the same list as from the real run."""
    shown = answer(root, "install", "bundle", bundle, "--dry-run")
    assert shown == answer(root, "install", "bundle", bundle)


@pytest.mark.parametrize("arguments", [["bundle"], ["podman"], ["podman", "--dry-run"]])
def test_nothing_is_registered_without_a_policy(root: Path, bundle: Path, arguments: list[str]) -> None:
    """It would refuse every container."""
    (root / "var/lib/ipcwarden/policy.compiled").unlink()
    with pytest.raises(PolicyError, match="ipcwarden compile"):
        call(root, "install", *arguments, *[bundle] * (arguments == ["bundle"]))
    assert not (root / "usr").exists()


def test_policy_that_others_can_write_is_no_policy(root: Path, bundle: Path) -> None:
    """The same check as the hook's."""
    (root / "var/lib/ipcwarden/policy.compiled").chmod(0o666)
    with pytest.raises(PolicyError, match="others can write it"):
        call(root, "install", "bundle", bundle)


@pytest.mark.parametrize("name", ["hook.py", "_ipcwarden_create.py", "__pycache__", ".", "../../.."])
def test_programs_that_others_can_write_are_refused(root: Path, bundle: Path, name: str) -> None:
    """Files, directories and the root itself: nothing is registered, even if they are the same as ours."""
    call(root, "install", "podman")
    (root / "usr/libexec/ipcwarden" / name).chmod(0o777)
    with pytest.raises((RegistrationError, PolicyError), match="others can write it"):
        call(root, "install", "bundle", bundle)
    assert json.loads((bundle / "config.json").read_text()) == CONFIG


def test_program_that_is_a_link_is_refused(root: Path, bundle: Path) -> None:
    """A link leads to where nobody has looked."""
    call(root, "install", "podman")
    file = root / "usr/libexec/ipcwarden/hook.py"
    file.rename(file.with_name("elsewhere.py"))
    file.symlink_to("elsewhere.py")
    with pytest.raises(RegistrationError, match="not a regular file"):
        call(root, "install", "bundle", bundle)


def test_hooks_dir_that_others_can_write_is_refused(root: Path, tmp_path: Path) -> None:
    """Whoever can write there can let podman run anything."""
    (tmp_path / "hooks.d").mkdir()
    (tmp_path / "hooks.d").chmod(0o777)
    with pytest.raises(RegistrationError, match="others can write it"):
        call(root, "install", "podman", "--hooks-dir", tmp_path / "hooks.d")


def test_config_that_is_a_link_is_refused(root: Path, bundle: Path) -> None:
    """A bundle's user must not have another file rewritten."""
    (bundle / "config.json").rename(bundle / "other.json")
    (bundle / "config.json").symlink_to("other.json")
    with pytest.raises(StateError, match="it is a symbolic link"):
        call(root, "install", "bundle", bundle)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff{}", "utf-8"),
        (b"{", "JSON|Expecting"),
        (b" " * (16 << 20) + b"{}", "larger than 16777216 bytes"),
        (None, "there is none"),
    ],
    ids=["not text", "not JSON", "too large", "missing"],
)
def test_unusable_config_is_refused(root: Path, bundle: Path, content: bytes | None, reason: str) -> None:
    """The error is one line that names the file and the reason."""
    (bundle / "config.json").unlink()
    if content is not None:
        (bundle / "config.json").write_bytes(content)
    with pytest.raises(StateError, match=f"^cannot edit '{bundle}/config.json': .*({reason})") as error:
        call(root, "install", "bundle", bundle)
    assert "\n" not in str(error.value)


def test_change_meanwhile_is_noticed(tmp_path: Path) -> None:
    """Somebody else's edit between reading and writing is not lost."""
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(RegistrationError, match="somebody has changed it meanwhile"):
        Change(Directory(str(tmp_path)), "file", b"before", b"after").make()
    assert (tmp_path / "file").read_text() == "theirs"


def test_failed_change_undoes_those_before(tmp_path: Path) -> None:
    """Two of three files would be half a registration."""
    here = Directory(str(tmp_path))
    changes = [Change(here, "new", None, b"x"), Change(Directory(str(tmp_path / "new/x")), "new", None, b"x")]
    with pytest.raises(RegistrationError, match="cannot write"):
        make_all(changes)
    assert list(tmp_path.iterdir()) == []


def test_nothing_temporary_is_left(root: Path, bundle: Path) -> None:
    """Only what was asked for is there afterwards."""
    call(root, "install", "bundle", bundle)
    assert [each.name for each in bundle.iterdir()] == ["config.json"]
