"""The same job as the creation hook's by others, and where they do it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.race import PROGRAMS, Measure, launched
from support import sandbox
from support.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.race import Report
    from support.sandbox import Container

    Rivals = dict[str, Callable[[], Measure]]

HERE = Path(__file__).parent
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
EMPTY: list[str | Path] = [sandbox.PYTHON, "-I", "-S", "-c", "pass"]
ANNOTATION = "bench.team"
TEAMS = [f"team-{number}" for number in range(1, 11)]
# All that a policy of ours governs, each other than the kernel's.
SYSCTLS = {
    "kernel/shmmax": "67108864",
    "kernel/shmall": "65536",
    "kernel/shmmni": "256",
    "kernel/shm_rmid_forced": "1",
    "kernel/sem": "250 8000 100 128",
    "kernel/msgmax": "4096",
    "kernel/msgmnb": "8192",
    "kernel/msgmni": "64",
    "fs/mqueue/queues_max": "32",
    "fs/mqueue/msg_max": "20",
    "fs/mqueue/msg_default": "5",
    "fs/mqueue/msgsize_max": "4096",
    "fs/mqueue/msgsize_default": "2048",
}


@dataclass(frozen=True)
class Ground:
    """A directory with the rivals' policy of ten rules, whose last one matches, their pins and their log."""

    directory: Path

    def make(self) -> None:
        """Write the policy."""
        (self.directory / "pins").mkdir(parents=True)
        policy = json.dumps({"rules": [{"team": team, "sysctls": SYSCTLS} for team in TEAMS]}, indent=2)
        (self.directory / "policy.json").write_text(policy, encoding="utf-8")
        (self.directory / "policy.yaml").write_text(_yaml(), encoding="utf-8")
        shutil.copy(HERE / "policy.schema.json", self.directory)

    def commands(self, report: Report) -> dict[str, list[str | Path]]:
        """Return the rivals that can be had here."""
        found: dict[str, list[str | Path]] = {
            "C hook": [PROGRAMS / "hook", self.directory],
            "lean shell hook": ["/bin/sh", HERE / "hook.sh", self.directory],
        }
        naive: list[str | Path] = [sys.executable, HERE / "naive.py", self.directory]
        if run(sys.executable, "-c", "import prctl").code == 0:
            found["naive Python hook"] = naive
        else:
            report.leave_out("the naive Python hook: python-prctl is missing in .venv")
        if shutil.which("go"):
            found["Go hook"] = [_go(), self.directory]
        else:
            report.leave_out("the Go hook: there is no Go compiler here")
        return found

    @contextmanager
    def container(self, team: str = TEAMS[-1], name: str = "bench") -> Iterator[Container]:
        """Start a container that no hook has seen; whatever pins it is undone, and it ends."""
        with container(self.directory, team, name) as started:
            try:
                yield started
            finally:
                pin = self.directory / "pins" / name
                if pin.exists():
                    subprocess.run(["umount", "--lazy", pin], capture_output=True, check=False)
                    pin.unlink()

    def measure(self, command: list[str | Path]) -> Measure:
        """Run a rival on a container of its own."""
        with self.container() as started:
            return launched(command, started.state("creating", annotations=started.annotations), ENVIRONMENT)

    def verify(self, command: list[str | Path]) -> None:
        """Fail unless a rival does all of the job."""
        log = self.directory / "audit.jsonl"
        before = log.stat().st_size if log.exists() else 0
        with self.container() as started:
            launched(command, started.state("creating", annotations=started.annotations), ENVIRONMENT)
            assert values_of(started) == SYSCTLS, command
            assert (self.directory / "pins" / "bench").stat().st_ino == started.namespace.stat().st_ino, command
        with log.open("rb") as file:
            file.seek(before)
            assert json.loads(file.read())["set"] == SYSCTLS, command


@contextmanager
def container(root: Path, team: str, name: str = "bench") -> Iterator[Container]:
    """Start a container of a team, with a config.json as `runc spec` writes it; it ends afterwards."""
    started = sandbox.start(root, root / "bundle", name=name)
    started.annotations = {
        ANNOTATION: team,
        "io.container.manager": "libpod",
        "org.opencontainers.image.stopSignal": "15",
    }
    try:
        started.configure({**_spec(), "annotations": started.annotations})
        yield started
    finally:
        started.kill()


def values_of(started: Container) -> dict[str, str]:
    """Read the governed limits of a container's namespace."""
    said = run("nsenter", f"--ipc={started.namespace}", "cat", *(f"/proc/sys/{name}" for name in SYSCTLS)).check()
    return {name: " ".join(line.split()) for name, line in zip(SYSCTLS, said.stdout.splitlines(), strict=True)}


def _spec() -> dict[str, object]:
    """Return what `runc spec` writes, for an IPC namespace of its own."""
    if not _SPECS:
        directory = PROGRAMS / "spec"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        run("runc", "spec", "--bundle", directory).check()
        _SPECS.append(json.loads((directory / "config.json").read_text(encoding="utf-8")))
        shutil.rmtree(directory)
    return _SPECS[0]


_SPECS: list[dict[str, object]] = []


def _go() -> Path:
    program = PROGRAMS / "hook-go"
    where = {"HOME": str(PROGRAMS), "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    run("go", "build", "-C", HERE, "-o", program, "hook.go", env=ENVIRONMENT | where, timeout=300).check()
    return program


def _yaml() -> str:
    lines = ["rules:"]
    for team in TEAMS:
        lines += [f"  - team: {team}", "    sysctls:"]
        lines += [f'      {name}: "{value}"' for name, value in SYSCTLS.items()]
    return "\n".join(lines) + "\n"
