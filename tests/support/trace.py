"""What a program asks of the kernel, as strace tells: each of its system calls, and those of its children."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.shell import run

if TYPE_CHECKING:
    from pathlib import Path

    from support.shell import Result

NEW_PROCESS = ("fork", "vfork", "clone", "clone3")
NEW_PROGRAM = ("execve", "execveat")
# With one path each, or two; others have none, or get it from one of these as a descriptor.
_OF_PATHS = {
    *("open", "openat", "openat2", "open_tree", "creat", "stat", "lstat", "newfstatat", "statx", "statfs", "chdir"),
    *("access", "faccessat", "faccessat2", "readlink", "readlinkat", "link", "linkat", "symlink", "symlinkat"),
    *("mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
    *("chmod", "fchmodat", "chown", "lchown", "fchownat", "truncate", "utimensat", "mount", "umount2"),
}
_CALL = re.compile(r"^\d+ +(\w+)\((.*)", re.DOTALL)
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>(?:\(deleted\))?, )?"([^"]*)"')


@dataclass(frozen=True)
class Call:
    """One system call, by its name and what strace shows behind it."""

    name: str
    rest: str

    @property
    def paths(self) -> list[str]:
        """The paths that it names, made absolute; one below a descriptor that is no file's is left out."""
        if self.name not in _OF_PATHS:
            return []
        found = _PATH.findall(self.rest)
        found = found[:1] if self.name.startswith("readlink") else found  # what is read is shown as well
        joined = [os.path.join(directory or "/", name) for directory, name in found if name]
        return [os.path.normpath(path) for path in joined if path.startswith("/")]


@dataclass(frozen=True)
class Traced:
    """How a program ended, and all calls from its first, which started it."""

    result: Result = field(repr=False)
    calls: tuple[Call, ...] = field(repr=False)

    def count(self, *names: str) -> int:
        """Count the calls of these names."""
        return sum(call.name in names for call in self.calls)

    @property
    def paths(self) -> set[str]:
        """All paths that were opened, looked at or changed."""
        return {path for call in self.calls for path in call.paths}


def trace(log: Path, *command: str | Path, stdin: str = "") -> Traced:
    """Run a program that is to end well, and list its calls; what strace says goes into the file `log`."""
    strace = ("strace", "-f", "-qq", "-y", "-s", "4096", "-e", "signal=none", "-o", log)
    result = run(*strace, *command, stdin=stdin, env={"PATH": "/usr/bin:/bin"}).check()
    lines = log.read_text("utf-8", errors="surrogateescape").splitlines()
    found = (_CALL.match(line) for line in lines)  # "<... x resumed>" is the rest of one that is there already
    return Traced(result, tuple(Call(match[1], match[2]) for match in found if match))
