"""Files of hooks.d directories as podman and CRI-O read them: any file there, ours or not, can stop every container.

What is malformed, and what wins, is as containers/common's pkg/hooks has it: Read, Validate and ReadDir; oci-hooks(5).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis.finding import NOTE, PROBLEM, WARNING, Finding
from ipcwarden.core.documents import parse
from ipcwarden.errors import why
from ipcwarden.files import read, unsafe
from ipcwarden.registration import hooksd
from ipcwarden.registration.entry import CREATION_STAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipcwarden.core.documents import Document

_LARGEST = 1 << 20
_VERSION, _OLDER = "1.0.0", ("0.1.0", "")
_STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_EARLY = "precreate"  # podman's alone


@dataclass(frozen=True)
class HookFile:
    """One file: what it says, None with a `fault` where that cannot be read; `foreign` is who else may write it."""

    path: str
    content: bytes | None
    fault: str = ""
    foreign: str = ""

    @property
    def name(self) -> str:
        """What masks another file of that name."""
        return os.path.basename(self.path)

    @property
    def is_ours(self) -> bool:
        """Tell whether it registers our hook."""
        return self.content is not None and hooksd.is_ours(self.content)

    @property
    def document(self) -> Document:
        """What it says; None where that makes no sense."""
        return _parsed(self.content) if self.content is not None else None

    @property
    def stages(self) -> list[str]:
        """The stages that it is for."""
        return extract.texts(self.document, "stages")


@dataclass(frozen=True)
class HooksDirectory:
    """One directory, in the order in which they are read; `foreign` is who else may write it."""

    path: str
    files: tuple[HookFile, ...] = ()
    foreign: str = ""


def look(path: str) -> HooksDirectory:
    """Read a directory; one that is missing has no files.  Raises `OSError`."""
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
    except FileNotFoundError:
        return HooksDirectory(path)
    return HooksDirectory(path, tuple(_file(f"{path}/{name}") for name in names), unsafe(os.stat(path)))


def _file(path: str) -> HookFile:
    try:
        return HookFile(path, content_of(path), foreign=unsafe(os.stat(path)))
    except (OSError, ValueError) as error:
        return HookFile(path, None, why(error) if isinstance(error, OSError) else str(error))


def content_of(path: str) -> bytes:
    """Read a file of others' as engines do, which follow links; never a FIFO, nor without end.

    Raises `OSError`, `ValueError` with what is wrong with it.
    """
    return read(os.path.realpath(path), _LARGEST)


def fault_in(content: bytes) -> str:
    """Say why an engine would not take a file; an empty string where it would."""
    document = _parsed(content)
    if not isinstance(document, dict):
        return "it is not a JSON object"
    version = document.get("version", "")
    if version in _OLDER:
        return ""  # the format before 1.0.0, which engines still read
    if version != _VERSION:
        return f"its version is {version!r}, and engines know {_VERSION}"
    if not extract.text(document, "hook", "path"):
        return "it has no hook.path"
    stages = document.get("stages")
    if not isinstance(stages, list):
        return "it has no list of stages"
    strange = [each for each in stages if each not in _STAGES and each != _EARLY]
    return f"it has an unknown stage {strange[0]!r}" if strange else ""


def _parsed(content: bytes) -> Document:
    try:
        return parse(content)
    except (ValueError, RecursionError):
        return None


def winners(directories: Sequence[HooksDirectory]) -> dict[str, HookFile]:
    """Return the file of each name that engines use: the last directory's."""
    return {file.name: file for directory in directories for file in directory.files}


def malformed(directories: Sequence[HooksDirectory]) -> list[Finding]:
    """Find what stops every container.  Engines read masked files, too."""
    found = []
    for file in _all(directories):
        fault = file.fault if file.content is None else fault_in(file.content)
        if fault:
            message = f"malformed: {fault}"
            hint = (
                "ipcwarden install podman writes it anew" if file.name in hooksd.NAMES else "repair it, or move it away"
            )
            found.append(Finding("hooks-d", PROBLEM, file.path, message, hint))
    return found


def foreign_hands(directories: Sequence[HooksDirectory]) -> list[Finding]:
    """Find directories and files that others than root can write."""
    places = [(each.path, each.foreign) for each in directories]
    places += [(file.path, file.foreign) for file in _all(directories)]
    return [
        Finding("foreign-hand", PROBLEM, path, wrong, f"see who did that, then chown root '{path}' and chmod go-w it")
        for path, wrong in places
        if wrong
    ]


def masked(directories: Sequence[HooksDirectory]) -> list[Finding]:
    """Find files of ours that another one of the same name takes the place of."""
    used = winners(directories)
    return [
        Finding("masked", PROBLEM, file.path, f"'{used[file.name].path}' masks it, and is not ours", "rename that one")
        for file in _all(directories)
        if file.is_ours and not used[file.name].is_ours
    ]


def stages(directories: Sequence[HooksDirectory]) -> list[Finding]:
    """Find stages of ours that are there twice, or not at all."""
    ours = {stage: file.path for file in winners(directories).values() if file.is_ours for stage in file.stages}
    if not ours:
        return []
    found = []
    where = os.path.dirname(next(iter(ours.values())))
    if all(stage in ours for stage in CREATION_STAGES):
        message = f"both {' and '.join(CREATION_STAGES)} are registered"
        found.append(Finding("both-stages", NOTE, where, message, "ipcwarden install podman writes one of them"))
    missing = [stage for stage in ("poststart", "poststop") if stage not in ours]
    if not any(stage in ours for stage in CREATION_STAGES):
        missing.insert(0, CREATION_STAGES[0])
    if missing:
        message = f"registered without {', '.join(missing)}"
        found.append(Finding("incomplete", PROBLEM, where, message, "ipcwarden install podman writes all stages"))
    return found


def unread(directories: Sequence[HooksDirectory], candidates: Sequence[HooksDirectory], by: str) -> list[Finding]:
    """Find files of ours in directories that podman does not read; `by` is the file that says which it reads."""
    read_here = {os.path.normpath(each.path) for each in directories}
    governed = any(file.is_ours for file in winners(directories).values())
    names = ", ".join(each.path for each in directories) or "none"
    found = []
    for directory in candidates:
        if os.path.normpath(directory.path) in read_here or not any(file.is_ours for file in directory.files):
            continue
        if governed:
            message = "our hooks there are not read; those elsewhere are"
            found.append(Finding("unread", WARNING, directory.path, message, "remove them, or name it to podman"))
        else:
            message = f"podman does not read our hooks there: {by or 'by default'} it reads {names}"
            hint = f"name '{directory.path}' in hooks_dir of [engine] there, or install into one that it reads"
            found.append(Finding("unread", PROBLEM, directory.path, message, hint))
    return found


def early(directories: Sequence[HooksDirectory], defaults: Sequence[str]) -> list[Finding]:
    """Find precreate hooks where buildah reads them."""
    return [
        Finding("precreate", PROBLEM, file.path, "a precreate hook in a default directory", "move it to one of its own")
        for directory in directories
        if directory.path in defaults
        for file in directory.files
        if _EARLY in file.stages
    ]


def has_early(directories: Sequence[HooksDirectory]) -> bool:
    """Tell whether podman runs our precreate hook."""
    return any(file.is_ours and _EARLY in file.stages for file in winners(directories).values())


def _all(directories: Sequence[HooksDirectory]) -> list[HookFile]:
    return [file for directory in directories for file in directory.files]
