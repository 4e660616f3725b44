"""Which hooks.d directories podman reads, and who says so: containers.conf(5), its drop-ins, and CONTAINERS_CONF."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ipcwarden.cli.diagnosis import hookfiles
from ipcwarden.cli.diagnosis.finding import WARNING, Finding
from ipcwarden.errors import why
from ipcwarden.layout import beneath
from ipcwarden.registration import containersconf, hooksd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipcwarden.cli.diagnosis.hookfiles import HooksDirectory

_ADMINISTRATORS = "etc/containers/oci/hooks.d"


@dataclass(frozen=True)
class Podman:
    """What podman reads: `by` is the file that says so, empty where none does.

    `candidates` are the directories where hooks may lie unread; `findings` says what could not be made sense of.
    """

    directories: tuple[HooksDirectory, ...]
    candidates: tuple[HooksDirectory, ...]
    by: str
    findings: tuple[Finding, ...] = ()

    @property
    def is_registered(self) -> bool:
        """Tell whether it runs any hook of ours."""
        return any(file.is_ours for file in hookfiles.winners(self.directories).values())

    @property
    def is_native(self) -> bool:
        """Tell whether we decide before the runtime reads config.json."""
        return hookfiles.has_early(self.directories)


def look(root: str, environment: Mapping[str, str]) -> Podman:
    """Read podman's configuration and the directories that it names."""
    defaults = [beneath(root, hooksd.DIRECTORY)]
    dirs, by = defaults, ""
    named = [*defaults, beneath(root, _ADMINISTRATORS), beneath(root, containersconf.PRECREATE)]
    findings: list[Finding] = []
    for path in _configurations(root, environment):
        try:
            text = hookfiles.content_of(path).decode("utf-8")
            after = containersconf.hooks_dirs(text, dirs)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            reason = why(error) if isinstance(error, OSError) else str(error)
            findings.append(
                Finding("engine", WARNING, path, f"podman may not start with it: {reason}", "repair it, or move it")
            )
            continue
        if after is not dirs:
            if containersconf.is_ours(text):
                findings += _replaced(path, dirs, after)
            dirs, by = after, path
            named += dirs
    looked: dict[str, HooksDirectory] = {}
    for directory in dict.fromkeys([*dirs, *named]):
        try:
            looked[directory] = hookfiles.look(directory)
        except OSError as error:
            message = f"cannot be read: {why(error)}"
            findings.append(Finding("unchecked", WARNING, directory, message, "see who made that"))
    used = tuple(looked[each] for each in dict.fromkeys(dirs) if each in looked)
    return Podman(used, tuple(looked.values()), by, tuple(findings))


def _replaced(path: str, before: list[str], after: list[str]) -> list[Finding]:
    """Find directories that our own drop-in takes out of the list, because they came into it later."""
    message = f"podman does not read it: '{path}', which repeats the list, is older than what names it"
    hint = "ipcwarden install podman writes that anew"
    return [Finding("unread", WARNING, each, message, hint) for each in before if each not in after]


def _configurations(root: str, environment: Mapping[str, str]) -> list[str]:
    """Return the files in the order in which they are read; the last word counts."""
    override = environment.get("CONTAINERS_CONF_OVERRIDE")  # since podman 4.5
    last = [override] if override else []
    if environment.get("CONTAINERS_CONF"):
        return [environment["CONTAINERS_CONF"], *last]  # no other files
    files = [beneath(root, f"{place}/{name}") for place, name in containersconf.BEFORE]
    directory = beneath(root, containersconf.DIRECTORY)
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".conf"))
    except OSError:
        names = []  # without drop-ins
    return [*files, *(f"{directory}/{name}" for name in names), *last]


def judge(podman: Podman, root: str) -> list[Finding]:
    """Judge what was found."""
    read = podman.directories
    defaults = [beneath(root, each) for each in (hooksd.DIRECTORY, _ADMINISTRATORS)]
    return [
        *podman.findings,
        *hookfiles.malformed(read),
        *hookfiles.foreign_hands(read),
        *hookfiles.masked(read),
        *hookfiles.stages(read),
        *hookfiles.unread(read, podman.candidates, podman.by),
        *hookfiles.early(podman.candidates, defaults),
    ]
