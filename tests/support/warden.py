"""ipcwarden's own commands, on a root directory of their own."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.schema import validate
from support.shell import BUILT, run

if TYPE_CHECKING:
    from support.shell import Result


class Warden:
    """The command line, with everything that it reads and writes below one directory."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o755, parents=True)
        self.root = root

    def __call__(self, *arguments: str | Path) -> Result:
        """Run any verb."""
        return run(Path(sys.executable).with_name("ipcwarden"), "--root", self.root, *arguments)

    def write_policy(self, policy: str, name: str = "policy.yaml") -> None:
        """Write a policy source: policy.yaml, or `policy.d/NAME.yaml`."""
        file = self.root / "etc" / "ipcwarden" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(policy, encoding="utf-8")

    def compile(self, policy: str) -> None:
        """Put a policy in force."""
        self.write_policy(policy)
        self("compile").check()

    def install_bundle(self, bundle: Path) -> None:
        """Put the hooks into a bundle's config.json."""
        self._install("bundle", bundle)

    def install_podman(self, hooks_dir: Path) -> None:
        """Put the hooks into a directory of podman's."""
        self._install("podman", "--hooks-dir", hooks_dir)

    def install_docker(self, config: Path) -> None:
        """Make the wrapper the default runtime in a daemon.json."""
        self._install("docker", "--config", config)

    def install_containerd(self, config: Path, *options: str) -> None:
        """Make the wrapper the runtime of pods in a config.toml."""
        self._install("containerd", "--config", config, *options)

    def _install(self, *arguments: str | Path) -> None:
        """Install; what has been built and compiled in this session is there, as if a package had put it there."""
        programs = self.root / "usr" / "libexec" / "ipcwarden"
        known = BUILT / "programs"
        if known.exists() and not programs.exists():
            shutil.copytree(known, programs)
        self("install", *arguments).check()
        if not known.exists() and (programs / "_ipcwarden_wrapper.py").exists():
            shutil.copytree(programs, known, ignore=shutil.ignore_patterns("ipcwarden-*", ".*"))

    def wrapper(self, runtime: str) -> Path:
        """Name the wrapper of a runtime, as `install` puts it."""
        return self.root / "usr" / "libexec" / "ipcwarden" / f"ipcwarden-{runtime}"

    def audit(self, *, container: str = "", event: str = "") -> list[dict[str, Any]]:
        """Read the audit log, oldest first; every record is valid."""
        filters = ["--container", container] * bool(container) + ["--event", event] * bool(event)
        lines = self("audit", "--json", *filters).check().stdout.splitlines()
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for record in records:
            validate(record, "audit-v1")
        return records

    def explain(self, bundle: Path) -> dict[str, Any]:
        """Ask what would be decided for a bundle."""
        explained: dict[str, Any] = json.loads(self("explain", "--bundle", bundle, "--json").check().stdout)
        validate(explained, "explain-v1")
        return explained

    def show(self, container: str) -> dict[str, Any]:
        """Ask for what is known about a container."""
        shown: dict[str, Any] = json.loads(self("show", container, "--json").check().stdout)
        validate(shown, "show-v1")
        return shown

    def gc(self) -> dict[str, Any]:
        """Collect what containers without a poststop left, and tell what became of each."""
        told: dict[str, Any] = json.loads(self("gc", "--json").check().stdout)
        return told

    def pins(self) -> list[Path]:
        """List the pins of governed containers."""
        return _list(self.root / "run" / "ipcwarden" / "pins")

    def ledger(self) -> list[Path]:
        """List the ledger's entries."""
        return _list(self.root / "run" / "ipcwarden" / "containers")


def _list(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
