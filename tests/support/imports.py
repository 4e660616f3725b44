"""What a program loads when it runs, as the interpreter itself tells (`-X importtime`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from support.shell import run

if TYPE_CHECKING:
    from pathlib import Path

    from support.shell import Result

INTERPRETER = "/usr/bin/python3"
_MARK = "import time:"


@dataclass(frozen=True)
class Loaded:
    """How a program ended, what it said itself, and the modules it loaded beyond an empty interpreter's."""

    result: Result
    said: str
    modules: frozenset[str]


def run_and_list_imports(program: str | Path, *arguments: str | Path, stdin: str = "") -> Loaded:
    """Run a Python program as runtimes start a hook (`-I -S`), and list what it and its forked children loaded."""
    result = _run(program, *arguments, stdin=stdin)
    said = "".join(line for line in result.stderr.splitlines(keepends=True) if not line.startswith(_MARK))
    return Loaded(result, said, modules_in(result.stderr) - _empty())


def modules_in(stderr: str) -> frozenset[str]:
    """Return all modules that `-X importtime` has listed on standard error."""
    lines = [line.split("|") for line in stderr.splitlines() if line.startswith(_MARK)]
    return frozenset(columns[-1].strip() for columns in lines if "imported package" not in columns[-1])


@cache
def _empty() -> frozenset[str]:
    return modules_in(_run("-c", "").check().stderr)


def _run(*arguments: str | Path, stdin: str = "") -> Result:
    return run(INTERPRETER, "-I", "-S", "-X", "importtime", *arguments, stdin=stdin)
