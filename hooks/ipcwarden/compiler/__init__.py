"""The policy compiler: from what people write to what hooks read.  The only user of yaml and jsonschema."""

from __future__ import annotations

from ipcwarden.compiler import sources
from ipcwarden.compiler.compilation import Outcome, compile_sources
from ipcwarden.compiler.findings import Finding
from ipcwarden.compiler.machine import this_machine

__all__ = ["Finding", "Outcome", "check", "compile_sources", "load"]


def load(root: str) -> Outcome:
    """Compile the sources below a root.  Raises `PolicyError` where they cannot be read or trusted."""
    return _compiled(sources.installed(root))


def check(root: str, path: str) -> Outcome:
    """Compile one file on its own, with the profiles of the root to build on.  Raises `PolicyError`."""
    return _compiled([*sources.built_in(), *sources.site(root), sources.single(path)])


def _compiled(found: list[sources.Source]) -> Outcome:
    machine = this_machine()
    return compile_sources(found, machine.kernel, machine.release, machine.page, machine.ipcmni_extend, machine.uid_of)
