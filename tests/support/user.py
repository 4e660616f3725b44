"""The ordinary user of rootless engines, whom tests/support/machine has put into the user database."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

NAME = "ipcwarden-lab"


class User:
    """One home of the user's, with the environment of a login there."""

    def __init__(self, home: Path) -> None:
        entry = pwd.getpwnam(NAME)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.home = self.make(home)
        self.runtime_dir = self.make(home / "run")
        self.runtime_dir.chmod(0o700)
        self.env = {
            "HOME": str(home),
            "LOGNAME": NAME,
            "PATH": os.environ["PATH"],
            "USER": NAME,
            "XDG_RUNTIME_DIR": str(self.runtime_dir),
        }

    @property
    def first_id(self) -> int:
        """The first of the ids that user namespaces of the user's may use beside its own, as the host numbers it."""
        lines = (line.split(":") for line in Path("/etc/subuid").read_text(encoding="utf-8").splitlines())
        return next(int(first) for name, first, _ in lines if name == NAME)

    def make(self, directory: Path) -> Path:
        """Make a directory that is the user's."""
        directory.mkdir(parents=True)
        self.own(directory)
        return directory

    def own(self, path: Path) -> None:
        """Give a file to the user."""
        os.chown(path, self.uid, self.gid)

    def command(self, *arguments: str | Path) -> tuple[str | Path, ...]:
        """Return a command that root runs as the user; call it with `env`."""
        ids = (f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups")
        return ("setpriv", *ids, "--", *arguments)
