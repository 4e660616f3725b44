"""install and uninstall for engines with configurations of their own: wrappers first, foreign files as they were."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from ipcwarden.cli import cli
from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.registration.engines import absence
from ipcwarden.registration.entry import RegistrationError
from ipcwarden.registration.runtimes import find

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

DOCKER, CONTAINERD = "etc/docker/daemon.json", "etc/containerd/config.toml"
PROGRAMS = "usr/libexec/ipcwarden"
WRAPPER = f"{PROGRAMS}/ipcwarden-runc"
CONFIGS = {"docker": (DOCKER, '{"debug": true}'), "containerd": (CONTAINERD, "# ours\nversion = 2\n")}

every_engine = pytest.mark.parametrize("engine", CONFIGS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with a policy in force and the configurations of all engines."""
    policy = Policy(
        "enforcing", os.uname().release, KERNEL_DEFAULTS, (Rule("all", (), 0, "enforcing"),), (Profile("p", {}),)
    )
    root = tmp_path / "root"
    (root / "var/lib/ipcwarden").mkdir(parents=True)
    (root / "var/lib/ipcwarden/policy.compiled").write_bytes(pack(policy))
    for file, content in CONFIGS.values():
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text(content, encoding="utf-8")
        (root / file).chmod(0o644)
    for directory, _, _ in os.walk(root):
        os.chmod(directory, 0o755)
    (root / "var/lib/ipcwarden/policy.compiled").chmod(0o644)
    return root


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
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


@every_engine
def test_wrapper_answers_as_its_runtime(root: Path, engine: str) -> None:
    """It is a program that can be run, and was run before anything named it."""
    call(root, "install", engine)
    said = subprocess.run([root / WRAPPER, "--version"], capture_output=True, text=True, check=True).stdout
    assert said == find("runc").version


@every_engine
def test_programs_are_written_before_the_registration(root: Path, engine: str) -> None:
    """And a wrapper after the unit that it loads, and the copy of the foreign file before the file."""
    files = [file.removeprefix(f"{root}/") for file in answer(root, "install", engine)["files"]]
    config = CONFIGS[engine][0]
    assert files[-2:] == [f"{config}.ipcwarden-backup", config]
    assert files.index(f"{PROGRAMS}/_ipcwarden_wrapper.py") < files.index(WRAPPER) < files.index(config)


@every_engine
def test_second_install_writes_nothing(root: Path, engine: str) -> None:
    """A package's files and a registration that are there are left alone."""
    call(root, "install", engine)
    before = listing(root)
    assert answer(root, "install", engine) == {"changed": False, "files": [], "notes": []}
    assert listing(root) == before


@every_engine
def test_uninstall_leaves_nothing_but_the_programs(root: Path, engine: str) -> None:
    """The foreign file is the same to the byte, and its copy is gone; what running containers need stays."""
    before = listing(root)
    call(root, "install", engine)
    call(root, "uninstall", engine)
    after = listing(root)
    assert {name: content for name, content in after.items() if not name.startswith(PROGRAMS)} == before
    assert WRAPPER in after


@every_engine
def test_uninstall_without_install_changes_nothing(root: Path, engine: str) -> None:
    """And says so."""
    before = listing(root)
    assert "not registered: nothing to do" in call(root, "uninstall", engine).output
    assert listing(root) == before


@every_engine
def test_file_that_was_not_there_goes_again(root: Path, engine: str) -> None:
    """Together with all that we put into it."""
    (root / CONFIGS[engine][0]).unlink()
    version = ["--config-version", "2"] * (engine == "containerd")
    call(root, "install", engine, *version)
    assert answer(root, "uninstall", engine)["files"] == [f"{root}/{CONFIGS[engine][0]}"]
    assert not (root / CONFIGS[engine][0]).exists()


@every_engine
def test_edits_of_others_stay(root: Path, engine: str) -> None:
    """What was written after us is still there when we are gone, and so is the copy of what was before."""
    file = root / CONFIGS[engine][0]
    call(root, "install", engine)
    if engine == "docker":
        file.write_text(file.read_text().replace('"debug": true', '"debug": false'))
    else:
        file.write_text(file.read_text() + "[grpc]\nuid = 1\n")
    call(root, "uninstall", engine)
    assert file.read_text() == ('{"debug": false}' if engine == "docker" else "# ours\nversion = 2\n[grpc]\nuid = 1\n")
    assert file.with_name(f"{file.name}.ipcwarden-backup").read_text() == CONFIGS[engine][1]


@every_engine
def test_copy_is_as_private_as_the_file(root: Path, engine: str) -> None:
    """Both engines' configurations may hold credentials."""
    file = root / CONFIGS[engine][0]
    file.chmod(0o600)
    call(root, "install", engine)
    for each in (file, file.with_name(f"{file.name}.ipcwarden-backup")):
        assert each.stat().st_mode & 0o7777 == 0o600


@every_engine
def test_dry_run_changes_nothing(root: Path, engine: str) -> None:
    """It shows a patch of the foreign file, and names the other files."""
    before = listing(root)
    shown = call(root, "install", engine, "--dry-run").output
    assert listing(root) == before
    file = root / CONFIGS[engine][0]
    assert f"would write {root}/{WRAPPER}\n" in shown
    assert f"would write {file}.ipcwarden-backup\n" in shown
    assert f"--- {file}\n+++ {file}\n@@ " in shown


@every_engine
def test_another_answer_to_faults_is_the_wrapper_s(root: Path, engine: str) -> None:
    """The registration stays, and the wrapper is replaced."""
    call(root, "install", engine)
    assert answer(root, "install", engine, "--on-error", "allow")["files"][-1].startswith(
        f"{root}/{PROGRAMS}/ipcwarden-"
    )
    assert "allow" in (root / WRAPPER).read_text()


@every_engine
def test_wrapper_that_cannot_be_run_is_put_right(root: Path, engine: str) -> None:
    """An engine would call it in vain."""
    call(root, "install", engine)
    (root / WRAPPER).chmod(0o644)
    assert answer(root, "install", engine)["files"] == [f"{root}/{WRAPPER}"]
    assert (root / WRAPPER).stat().st_mode & 0o7777 == 0o755


@every_engine
def test_named_configuration_is_edited(root: Path, engine: str, tmp_path: Path) -> None:
    """And the default one is not."""
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "file").write_text(CONFIGS[engine][1], encoding="utf-8")
    call(root, "install", engine, "--config", other / "file")
    assert WRAPPER in (other / "file").read_text()
    assert (root / CONFIGS[engine][0]).read_text() == CONFIGS[engine][1]
    call(root, "uninstall", engine, "--config", other / "file")
    assert (other / "file").read_text() == CONFIGS[engine][1]


@every_engine
def test_link_is_refused(root: Path, engine: str) -> None:
    """Nobody has looked at where it leads."""
    file = root / CONFIGS[engine][0]
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")
    with pytest.raises(RegistrationError, match=r"it is a symbolic link.*--config"):
        call(root, "install", engine)


@every_engine
@pytest.mark.parametrize(("content", "verb"), [(b"\xff", "read"), (b"[engine", "edit")], ids=["no text", "syntax"])
def test_unreadable_configuration_is_refused_before_anything_is_written(
    root: Path, engine: str, content: bytes, verb: str
) -> None:
    """In one line, with the file, the reason and what to do."""
    (root / CONFIGS[engine][0]).write_bytes(content)
    with pytest.raises(RegistrationError, match=f"^cannot {verb} '{root}/{CONFIGS[engine][0]}': ") as error:
        call(root, "install", engine)
    assert error.value.hint == "nothing was changed: repair it first"
    assert not (root / PROGRAMS).exists()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("runc", "write its whole path"),
        ("/nowhere/runc", "--runtime names another one"),
        ("/dev/null", "--runtime names another one"),
        ("/etc/passwd", "--runtime names another one"),
    ],
)
def test_runtime_that_is_none_is_refused(root: Path, path: str, hint: str) -> None:
    """By its name, with what to do."""
    with pytest.raises(RegistrationError, match=f"^cannot stand before the runtime '{path}': ") as error:
        call(root, "install", "docker", "--runtime", path)
    assert error.value.hint == hint


def test_engine_that_is_not_there_is_noted(tmp_path: Path) -> None:
    """Its configuration is written all the same: it may come later."""
    [said] = absence("dockerd", "/", str(tmp_path))
    assert said.startswith("no dockerd is found here")
    (tmp_path / "dockerd").write_text("#!/bin/sh\n")
    (tmp_path / "dockerd").chmod(0o755)
    assert absence("dockerd", "/", str(tmp_path)) == []


def test_engine_of_an_image_is_not_looked_for(tmp_path: Path) -> None:
    """What is on this host says nothing about where that image will run."""
    assert absence("dockerd", "/srv/image", str(tmp_path)) == []


def test_default_of_docker_is_left_alone_on_request(root: Path) -> None:
    """The runtime is there for those who name it."""
    call(root, "install", "docker", "--no-default")
    after = json.loads((root / DOCKER).read_text())
    assert after == {"debug": True, "runtimes": {"ipcwarden": {"path": str(root / WRAPPER)}}}


def test_another_default_of_docker_is_not_pushed_aside(root: Path) -> None:
    """Its owner says whether ours stands before it."""
    (root / DOCKER).write_text('{"default-runtime": "nv", "runtimes": {"nv": {"path": "/usr/bin/nv"}}}')
    with pytest.raises(RegistrationError, match=r"that is 'nv' already \(--runtime /usr/bin/nv stands before that one"):
        call(root, "install", "docker")
    call(root, "install", "docker", "--no-default")


def test_another_default_of_docker_is_wrapped_on_request(root: Path) -> None:
    """With the arguments that it had."""
    runc = find("runc").path
    config = {"default-runtime": "nv", "runtimes": {"nv": {"path": runc, "runtimeArgs": ["--debug"]}}}
    (root / DOCKER).write_text(json.dumps(config))
    call(root, "install", "docker", "--runtime", runc)
    after = json.loads((root / DOCKER).read_text())
    assert after["default-runtime"] == "ipcwarden"
    assert after["runtimes"]["ipcwarden"]["runtimeArgs"] == ["--debug"]
    call(root, "uninstall", "docker")
    assert json.loads((root / DOCKER).read_text()) == config


@pytest.fixture
def created(root: Path) -> Path:
    """Register, and let dockerd have records of two containers, one of which was created with our runtime."""
    call(root, "install", "docker")
    for number, runtime in enumerate(("runc", "ipcwarden")):
        directory = root / "var/lib/docker/containers" / (f"{number}" * 64)
        directory.mkdir(parents=True)
        (directory / "hostconfig.json").write_text(json.dumps({"Runtime": runtime}))
        (directory / "config.v2.json").write_text(json.dumps({"Name": f"/name-{runtime}"}))
    return root


def test_runtime_of_docker_s_containers_is_not_taken_away(created: Path) -> None:
    """They would not start any more."""
    before = listing(created)
    with pytest.raises(RegistrationError, match=r"1 containers .*: name-ipcwarden .*--keep-runtime"):
        call(created, "uninstall", "docker")
    assert listing(created) == before


def test_runtime_of_docker_s_containers_can_stay(created: Path) -> None:
    """Only the default goes."""
    call(created, "uninstall", "docker", "--keep-runtime")
    after = json.loads((created / DOCKER).read_text())
    assert "default-runtime" not in after
    assert "ipcwarden" in after["runtimes"]


def test_handler_of_containerd_stands_beside_the_default(root: Path) -> None:
    """For a RuntimeClass, which the output names."""
    said = call(root, "install", "containerd", "--handler", "warden").output
    runtimes = tomllib.loads((root / CONTAINERD).read_text())["plugins"]["io.containerd.grpc.v1.cri"]["containerd"][
        "runtimes"
    ]
    assert runtimes == {
        "runc": {"runtime_type": "io.containerd.runc.v2"},
        "warden": {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": str(root / WRAPPER)}},
    }
    assert "handler: warden" in said


def test_file_of_ours_alone_keeps_its_version(root: Path) -> None:
    """Nobody has to say twice which it is."""
    (root / CONTAINERD).unlink()
    call(root, "install", "containerd", "--config-version", "3")
    call(root, "install", "containerd", "--handler", "warden")
    assert tomllib.loads((root / CONTAINERD).read_text())["version"] == 3


def test_program_that_containerd_ran_is_wrapped(root: Path) -> None:
    """Not another one of our choice."""
    crun = find("crun").path
    (root / CONTAINERD).write_text(
        f'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\nBinaryName = "{crun}"\n'
    )
    call(root, "install", "containerd")
    assert f'BinaryName = "{root}/{PROGRAMS}/ipcwarden-crun"' in (root / CONTAINERD).read_text()
    assert crun in (root / PROGRAMS / "ipcwarden-crun").read_text()


def test_imported_file_with_the_last_word_is_named(root: Path) -> None:
    """Our registration would not be read."""
    (root / "etc/containerd/conf.d").mkdir(mode=0o755)
    other = root / "etc/containerd/conf.d/cri.toml"
    other.write_text('version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "x"\n')
    (root / CONTAINERD).write_text('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    with pytest.raises(RegistrationError, match=f"'{other}', which it imports, has the last word.*--config {other}"):
        call(root, "install", "containerd")
    call(root, "install", "containerd", "--config", other)


DROP_IN = "etc/crio/crio.conf.d/10-ipcwarden.conf"


def test_crio_gets_a_file_of_its_own(root: Path) -> None:
    """Uninstall takes it away again."""
    before = listing(root)
    call(root, "install", "crio")
    assert tomllib.loads((root / DROP_IN).read_text())["crio"]["runtime"]["default_runtime"] == "ipcwarden"
    call(root, "uninstall", "crio")
    assert {name: content for name, content in listing(root).items() if not name.startswith(PROGRAMS)} == before


def test_crio_second_install_writes_nothing(root: Path) -> None:
    """Our own file is not taken for the default that it stands before."""
    call(root, "install", "crio")
    assert not answer(root, "install", "crio")["changed"]


def test_crio_s_own_default_is_wrapped(root: Path) -> None:
    """By the files that CRI-O reads."""
    (root / "etc/crio").mkdir(mode=0o755)
    (root / "etc/crio/crio.conf").write_text('[crio.runtime]\ndefault_runtime = "runc"\n')
    call(root, "install", "crio", "--handler", "warden")
    handler = tomllib.loads((root / DROP_IN).read_text())["crio"]["runtime"]["runtimes"]["warden"]
    assert (handler["runtime_path"], handler["runtime_root"]) == (str(root / WRAPPER), "/run/runc")


def test_crio_s_later_file_is_named(root: Path) -> None:
    """It would take back what ours says."""
    directory = (root / DROP_IN).parent
    directory.mkdir(parents=True)
    for each in (directory, directory.parent):
        each.chmod(0o755)
    (directory / "20-other.conf").write_text('[crio.runtime]\ndefault_runtime = "runc"\n')
    with pytest.raises(RegistrationError, match=f"'{directory}/20-other.conf' is read after '10-ipcwarden.conf'"):
        call(root, "install", "crio")
    (directory / "20-other.conf").rename(directory / "05-other.conf")
    call(root, "install", "crio")


def test_foreign_file_of_crio_s_is_left_alone(root: Path) -> None:
    """It has our name, and nothing of ours in it."""
    (root / DROP_IN).parent.mkdir(parents=True)
    for each in ((root / DROP_IN).parent, (root / DROP_IN).parent.parent):
        each.chmod(0o755)
    (root / DROP_IN).write_text("[crio]\n")
    with pytest.raises(RegistrationError, match="does not register ipcwarden"):
        call(root, "install", "crio")
    assert not answer(root, "uninstall", "crio")["changed"]


CONF_D, PRECREATE = "etc/containers/containers.conf.d", "usr/share/ipcwarden/precreate.d"
HOOKS_D = "usr/share/containers/oci/hooks.d"


def dirs(root: Path) -> list[str]:
    """Return the directories that the drop-in names, below the root."""
    found = tomllib.loads((root / CONF_D / "50-ipcwarden.conf").read_text())["engine"]["hooks_dir"]
    return [each.removeprefix(f"{root}/") for each in found]


def configure(root: Path, name: str, text: str) -> None:
    """Write a configuration of podman's."""
    (root / CONF_D).mkdir(parents=True, exist_ok=True)
    for each in (root / CONF_D, (root / CONF_D).parent):
        each.chmod(0o755)
    (root / CONF_D).parent.joinpath(name).write_text(text, encoding="utf-8")


def test_precreate_has_a_directory_of_its_own(root: Path) -> None:
    """It is there before podman is told, and podman no longer told when it goes."""
    before = listing(root)
    files = answer(root, "install", "podman")["files"]
    own = [f"{root}/{PRECREATE}/10-ipcwarden-precreate.json", f"{root}/{CONF_D}/50-ipcwarden.conf"]
    assert files[-5:-3] == own
    assert dirs(root) == [HOOKS_D, PRECREATE]
    assert answer(root, "uninstall", "podman")["files"][3:] == own[::-1]
    assert {name: content for name, content in listing(root).items() if not name.startswith(PROGRAMS)} == before


def test_precreate_is_taken_back_on_request(root: Path) -> None:
    """A second install with other options replaces the first."""
    call(root, "install", "podman")
    call(root, "install", "podman", "--no-precreate")
    assert not (root / PRECREATE / "10-ipcwarden-precreate.json").exists()
    assert not (root / CONF_D / "50-ipcwarden.conf").exists()
    assert len(listing(root / HOOKS_D)) == 3


def test_drop_in_repeats_what_podman_reads(root: Path) -> None:
    """It replaces the list of the files before it, and the output says so; ours is added once."""
    configure(root, "containers.conf", '[engine]\nhooks_dir = ["/site/hooks.d"]\n')
    configure(root, "containers.conf.d/40-more.conf", '[engine]\nhooks_dir = ["/more", {append=true}]\n')
    configure(root, "containers.conf.d/99-other.conf", '[engine]\nruntime = "runc"\n')
    said = call(root, "install", "podman", "--precreate").output
    assert dirs(root) == ["/site/hooks.d", "/more", HOOKS_D, PRECREATE]
    assert "the drop-in repeats the hooks_dir" in said
    assert not answer(root, "install", "podman", "--precreate")["changed"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("etc/containers/containers.conf", ["podman"]),
        ("etc/containers/containers.conf.d/40-x.conf", ["podman"]),
        ("etc/crio/crio.conf.d/40-x.conf", ["crio"]),
    ],
)
def test_a_pipe_where_a_configuration_should_be_is_not_waited_for(root: Path, name: str, arguments: list[str]) -> None:
    """Nobody writes there, and opening it as a file is would last for ever: it is named instead."""
    (root / name).parent.mkdir(parents=True)
    os.mkfifo(root / name)
    with pytest.raises(RegistrationError, match=rf"cannot read '{root / name}': it is not a regular file"):
        call(root, "install", *arguments)


def test_a_configuration_may_be_a_link(root: Path) -> None:
    """As it is where a host is built from descriptions; a link to /dev/null masks a drop-in."""
    configure(root, "elsewhere.conf", '[engine]\nhooks_dir = ["/site/hooks.d"]\n')
    configure(root, "containers.conf.d/99-other.conf", "")
    directory = root / CONF_D
    (directory.parent / "containers.conf").symlink_to("elsewhere.conf")
    (directory / "40-masked.conf").symlink_to("/dev/null")
    (directory / "41-dangling.conf").symlink_to("/nowhere")
    call(root, "install", "podman", "--precreate")
    assert dirs(root) == ["/site/hooks.d", HOOKS_D, PRECREATE]


def test_later_drop_in_of_others_is_named(root: Path) -> None:
    """Its list would take the place of ours."""
    configure(root, "containers.conf.d/60-other.conf", '[engine]\nhooks_dir = ["/x"]\n')
    with pytest.raises(RegistrationError, match=r"60-other.conf' is read last, .*--no-precreate"):
        call(root, "install", "podman", "--precreate")


def test_directory_that_podman_does_not_read_is_told(root: Path) -> None:
    """Hooks there would govern nothing."""
    configure(root, "containers.conf", '[engine]\nhooks_dir = ["/site/hooks.d"]\n')
    said = call(root, "install", "podman", "--no-precreate").output
    assert f"note: podman reads /site/hooks.d, not {root}/{HOOKS_D}" in said


def test_precreate_starts(root: Path) -> None:
    """What is registered hands back what nobody can decide about, with a mark that it has been there."""
    call(root, "install", "podman")
    hook = json.loads((root / PRECREATE / "10-ipcwarden-precreate.json").read_text())["hook"]
    done = subprocess.run(hook["args"], input=b'{"ociVersion": "1.0"}', capture_output=True, env={}, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "ociVersion": "1.0",
        "annotations": {"org.ipcwarden.requested": "{}"},
        "hooks": {},
    }
