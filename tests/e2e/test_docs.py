"""Everything that the documents tell to do, done as they tell it, with what they say comes of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import documents
from support.bundle import UNPACKED, make_bundle
from support.podman import IMAGE
from support.shell import REPOSITORY, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.docker import Docker
    from support.documents import Block
    from support.podman import Podman

NAMED = "docker.io/library/busybox:latest"
HOOKS_DIR = "usr/share/containers/oci/hooks.d"
INSTALL, AUDIT, SCAN, DOCTOR = "docs/install.md", "docs/audit.md", "docs/scan.md", "docs/doctor.md"
# A path at the beginning of a word, but for those that are the kernel's.
_PATH = re.compile(r"""(?<![^\s'"=>(\[])/(?!proc/)(?=[a-z])""")
# What is never the same twice.
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "DIGEST"),
    (re.compile(r"cpython-\d+"), "cpython"),
    (re.compile(r"\d+ +\d+ +(?=freed$)"), "PIDS "),  # CPID and LPID
    (re.compile(r"\d+ (s|min|h|d) ago"), "AGO"),
    (re.compile(r"\s+"), " "),
)


def steady(line: str) -> str:
    """Return a line without what differs from one time to the next."""
    for pattern, name in _VOLATILE:
        line = pattern.sub(name, line)
    return line.strip()


def demand(said: list[str], told: list[str], place: str) -> None:
    """Check that the lines told are those that were said; `...` stands for any part of a line, or for any lines."""
    lines = [steady(line) for line in said if line.strip()]
    told = [steady(line) for line in told if line.strip()]
    gap = False
    for line in told:
        if line == "...":
            gap = True
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("...")))
        places = [number for number, each in enumerate(lines) if pattern.fullmatch(each)]
        assert places, f"{place}: nothing says\n{line}\nbut\n" + "\n".join(lines)
        assert gap or places[0] == 0, f"{place}: before\n{line}\nstands\n" + "\n".join(lines[: places[0]])
        lines, gap = lines[places[0] + 1 :], False
    assert gap or lines == [], f"{place}: not told:\n" + "\n".join(lines)


class Session:
    """A shell on a host of its own: every path of a command is below one directory, and so is what is registered."""

    def __init__(self, root: Path, podman: Podman) -> None:
        self.root = root
        self._programs = root / "shims"
        self._programs.mkdir(parents=True)
        self.shim("ipcwarden", f'exec {Path(sys.executable).with_name("ipcwarden")} --root {root} "$@"')
        self.shim("podman", podman.script(root / HOOKS_DIR).partition("\n")[2])
        for directory in ("etc", "srv", "opt/ipcwarden", "usr/local/bin"):
            (root / directory).mkdir(parents=True, exist_ok=True)
        (root / "usr/local/bin/ipcwarden").touch()

    def shim(self, name: str, script: str) -> None:
        """Make a program for the commands to find."""
        program = self._programs / name
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)

    def here(self, text: str) -> str:
        """Return a command, or a file's text, with its paths below our directory."""
        return _PATH.sub(f"{self.root}/", text)

    def command(self, text: str, place: str, cwd: Path | None = None) -> list[str]:
        """Run a command, which must end well, and return the lines that it prints, whatever stream they are for."""
        done = subprocess.run(
            ["sh", "-ec", self.here(text)],
            cwd=cwd or self.root,
            env={**os.environ, "PATH": f"{self._programs}:{os.environ['PATH']}:{UNPACKED}/usr/sbin", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{place}: {text}\nended with {done.returncode}\n{done.stdout}"
        return done.stdout.replace(str(self.root), "").splitlines()

    def write_policy(self) -> None:
        """Write the policy of the README."""
        self.play(next(block for block in steps("README.md") if block.info[0] == "yaml"))

    def play(self, block: Block, cwd: Path | None = None) -> None:
        """Do what a block tells: run its commands, or write it where its fence says."""
        if block.info[0] == "yaml":
            file = self.root / block.info[1].lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            return
        for command in documents.commands(block):
            demand(self.command(command.text, str(block), cwd), command.output, f"{block}: {command.text}")


@pytest.fixture
def session(scratch: Path, rootfs: Path, cgroup: str, podman: Callable[[str], Podman]) -> Iterator[Session]:
    """Start a session with a bundle in /srv/web and an image of the name that the documents use."""
    engine = podman("runc")
    engine("tag", IMAGE, NAMED).check()
    session = Session(scratch / "host", engine)
    look = ["cat", "/proc/sys/fs/mqueue/queues_max"]
    make_bundle(session.root / "srv" / "web", rootfs, look, cgroup=f"{cgroup}/web")
    yield session
    engine("rm", "--all", "--force", "--time", "0").check()
    engine("untag", IMAGE, NAMED).check()


def steps(document: str) -> list[Block]:
    """Return a document's blocks that are to be played, in order."""
    wanted = (("console",), ("yaml", "/etc/ipcwarden/policy.yaml"))
    return [block for block in documents.blocks(document) if block.info in wanted]


@pytest.mark.parametrize("document", [INSTALL, SCAN, DOCTOR])
def test_a_document_does_what_it_says(session: Session, document: str) -> None:
    """Its commands, in order, say what stands below them."""
    for block in steps(document):
        session.play(block)


def test_the_readme_does_what_it_says(session: Session, docker: Docker) -> None:
    """It has a dockerd, too, whose service is told to read what install has written."""
    docker("tag", IMAGE, "busybox").check()
    session.shim("docker", docker.script())
    session.shim("systemctl", docker.reload_script(session.root / "etc/docker/daemon.json"))
    try:
        for block in steps("README.md"):
            session.play(block)
    finally:
        docker("rmi", "busybox").check()
        docker.reset()


def test_no_other_document_tells_to_run_anything() -> None:
    """But one, whose commands have a test below."""
    others = [name for name in documents.NAMES if name not in ("README.md", INSTALL, AUDIT, SCAN, DOCTOR)]
    assert [str(block) for name in others for block in documents.blocks(name, "console") if len(block.info) == 1] == []


def test_records_go_through_jq(session: Session, rootfs: Path, cgroup: str) -> None:
    """The reference of the log shows how its records are asked."""
    session.write_policy()
    bundle = session.root / "srv" / "greedy"
    make_bundle(bundle, rootfs, ["true"], cgroup=f"{cgroup}/greedy", sysctl={"kernel.shmmax": "68719476736"})
    session.command("ipcwarden compile && ipcwarden install bundle /srv/greedy", "")
    session.command("! runc run --bundle /srv/greedy greedy", "")
    [block] = [each for each in documents.blocks(AUDIT, "console") if each.info == ("console",)]
    session.play(block)


def test_reap_says_what_the_reference_tells(session: Session) -> None:
    """Where a living container has a segment attached, and one that has ended left a larger one, and an array."""
    session.write_policy()
    session.command("ipcwarden compile && ipcwarden install podman", "")
    session.command(f"podman run --detach --name db --ipc=shareable {NAMED} leave --shm=1 --attach --wait", "")
    until(lambda: session.command("podman logs db", ""), "db to make its segment")
    leaking = "--shm=1 --shm-size=8388608 --sem=1 --sem-key=0x4711 --sem-op"
    session.command(f"podman run --rm --ipc=container:db {NAMED} leave {leaking}", "")
    [block] = documents.blocks(AUDIT, "console", "reap")
    session.play(block)


def test_make_demo_says_what_the_readme_quotes() -> None:
    """Every line of the transcript is in the real one, in that order, but for times, pids and digests."""
    # The two variables would tell the inner make that it is part of an outer one.
    env = {name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    said = run("make", "--silent", "-C", REPOSITORY, "demo", env=env, timeout=300).check().stdout.splitlines()
    for block in documents.blocks("README.md", "console", "demo"):
        for command in documents.commands(block):
            start = said.index(f"$ {command.text}")
            below = said[start + 1 :]
            end = next((n for n, line in enumerate(below) if line.startswith("$ ") or not line.startswith("  ")), None)
            demand(below[:end], command.output, f"{block}: {command.text}")
            said = below


def test_pip_installs_what_works(session: Session) -> None:
    """The commands for pip install and upgrade a program that works; the README has the same."""
    installed = session.root / "usr/local/bin/ipcwarden"
    session.shim("ipcwarden", f'exec {installed} --root {session.root} "$@"')
    session.write_policy()
    installed.unlink()
    for block in documents.blocks(INSTALL, "console", "pip"):
        session.play(block, cwd=REPOSITORY)
        session.command("ipcwarden compile && ipcwarden install bundle /srv/web", str(block))
    [short], [whole, _upgrade] = (documents.blocks(name, "console", "pip") for name in ("README.md", INSTALL))
    assert whole.text.startswith(short.text)


def test_podman_finds_the_directory_that_containers_conf_names(
    session: Session, podman: Callable[[str], Podman]
) -> None:
    """With the lines of install.md and without any option of podman's."""
    [block] = documents.blocks(INSTALL, "toml", "containers.conf")
    [directory] = tomllib.loads(block.text)["engine"]["hooks_dir"]
    session.write_policy()
    (session.root / directory.lstrip("/")).parent.mkdir(parents=True)
    session.command(f"ipcwarden compile && ipcwarden install podman --hooks-dir {directory}", "")
    script = podman("runc").script(session.root / HOOKS_DIR)
    conf = session.root / "containers.conf"
    [known] = re.findall(r"CONTAINERS_CONF=(\S+)", script)
    lines = session.here(block.text).removeprefix("[engine]\n")
    with open(known, encoding="utf-8") as file:
        conf.write_text(file.read().replace("[engine]\n", f"[engine]\n{lines}"), encoding="utf-8")
    script = script.replace(known, str(conf)).replace(f" --hooks-dir {session.root / HOOKS_DIR}", "")
    session.shim("podman", script.partition("\n")[2])
    session.command(f"podman run --rm --name found {NAMED} true", "")
    assert any("applied" in line for line in session.command("ipcwarden audit --container found", ""))


def test_logrotate_rotates_by_renaming(session: Session) -> None:
    """With the lines of install.md, and `audit` reads on."""
    [block] = documents.blocks(INSTALL, "logrotate")
    (session.root / "rotate.conf").write_text(session.here(block.text), encoding="utf-8")
    (session.root / "rotate.conf").chmod(0o644)
    session.write_policy()
    session.command(
        "ipcwarden compile && echo 'mode: permissive' >>/etc/ipcwarden/policy.yaml && ipcwarden compile", ""
    )
    for written in range(2, 6):
        assert len(session.command("ipcwarden audit --json", "")) == written
        session.command("logrotate --force --state /rotated /rotate.conf && ipcwarden compile --rollback", "")
    names = sorted(path.name for path in (session.root / "var/log/ipcwarden").iterdir())
    assert names == ["audit.jsonl", "audit.jsonl.1", *(f"audit.jsonl.{number}.gz" for number in (2, 3, 4))]


def test_logrotate_is_told_to_rename() -> None:
    """Where there is no logrotate to try it with."""
    [block] = documents.blocks(INSTALL, "logrotate")
    words = block.text.split()
    assert words[:2] == ["/var/log/ipcwarden/audit.jsonl", "{"]
    assert "nocreate" in words
    assert not {"copytruncate", "copy", "create"} & set(words)
