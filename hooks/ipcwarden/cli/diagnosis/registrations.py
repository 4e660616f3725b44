"""What engines were told to run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis import hookfiles
from ipcwarden.cli.diagnosis.finding import NOTE, PROBLEM, WARNING, Finding
from ipcwarden.errors import why
from ipcwarden.layout import PROGRAMS
from ipcwarden.registration import containerd, crio, daemon
from ipcwarden.registration.engines import Containerd, Docker
from ipcwarden.registration.entry import HOOK_FILE, RegistrationError
from ipcwarden.registration.targets import config_file, judged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipcwarden.cli.diagnosis.hookfiles import HookFile
    from ipcwarden.cli.diagnosis.podman import Podman

_PROGRAMS = {"podman": "podman", "docker": "dockerd", "containerd": "containerd", "crio": "crio"}


@dataclass(frozen=True)
class Registered:
    """One door that an engine was told of: `place` says where, `program` is what it starts.

    `script` is what an interpreter is given, empty for a wrapper; `is_default` tells whether containers get it that
    name no runtime.
    """

    engine: str
    place: str
    program: str
    script: str = ""
    root: str = "/"
    is_default: bool = True

    @property
    def is_native(self) -> bool:
        """Tell whether it is one that decides before the runtime reads config.json."""
        return not self.script

    @property
    def base(self) -> str:
        """The root that our files lie below."""
        return (self.script or self.program).rpartition(f"/{PROGRAMS}/")[0] or "/"


def of_podman(podman: Podman) -> list[Registered]:
    """Return what podman's hooks.d files register."""
    used = hookfiles.winners(podman.directories).values()
    return [_of_file(file) for file in used if file.is_ours]


def _of_file(file: HookFile) -> Registered:
    words = extract.texts(file.document, "hook", "args")
    script = next((word for word in words if word.endswith(f"/{PROGRAMS}/{HOOK_FILE}")), "")
    values = dict(pairwise(words))
    program = extract.text(file.document, "hook", "path")
    return Registered("podman", file.path, program, script or program, values.get("--root", "/"))


def of_engines(root: str) -> tuple[list[Registered], list[Finding]]:
    """Return what Docker, containerd and CRI-O have in their own configurations, and what is wrong with those."""
    found: list[Registered] = []
    findings: list[Finding] = []
    for engine, look in (("docker", _of_docker), ("containerd", _of_containerd), ("crio", _of_crio)):
        try:
            registered, more = look(root)
        except (OSError, ValueError, RecursionError, RegistrationError) as error:
            message = why(error) if isinstance(error, OSError) else str(error.args[0] if error.args else error)
            findings.append(Finding("engine", PROBLEM, engine, message, "repair it: the engine may not start with it"))
            continue
        found += registered
        findings += more
    return found, findings


def _of_docker(root: str) -> tuple[list[Registered], list[Finding]]:
    file = Docker.of(root, None).file
    said = None if file.text is None else judged(file.path, daemon.registered, file.text)
    if said is None:
        return [], []
    registered = Registered("docker", file.path, said.path, root=root, is_default=said.is_default)
    return [registered], [] if said.is_default else [_not_default("docker", file.path, daemon.NAME)]


def _of_containerd(root: str) -> tuple[list[Registered], list[Finding]]:
    file = Containerd.of(root, None).file
    handlers = [] if file.text is None else judged(file.path, containerd.registered, file.text)
    default = judged(file.path, containerd.default_name, file.text) if file.text and handlers else ""
    found = [Registered("containerd", file.path, h.path, root=root, is_default=h.name == default) for h in handlers]
    findings = (
        []
        if any(each.is_default for each in found)
        else [_not_default("containerd", file.path, handler.name) for handler in handlers]
    )
    return found, findings


def _of_crio(root: str) -> tuple[list[Registered], list[Finding]]:
    file = config_file(root, (crio.DIRECTORY, crio.NAME), None)
    handlers = {} if file.text is None else judged(file.path, crio.registered, file.text)
    findings = []
    for path in _later(f"{file.directory.path}/{crio.NAME}") if handlers else []:
        text = judged(path, _text, path)
        if any(judged(path, crio.overrides, text, _handler(name)) for name in handlers):
            message = f"it is read after '{crio.NAME}', and has the last word"
            findings.append(Finding("not-default", WARNING, path, message, f"give it a name before {crio.NAME}"))
    return [Registered("crio", file.path, path, root=root) for path in handlers.values()], findings


def _text(path: str) -> str:
    return hookfiles.content_of(path).decode("utf-8")


def _later(path: str) -> list[str]:
    """Return the files that are read after one."""
    directory, own = os.path.split(path)
    return sorted(f"{directory}/{name}" for name in os.listdir(directory) if name > own)


def _handler(name: str) -> str | None:
    return None if name == crio.HANDLER else name


def _not_default(engine: str, path: str, name: str) -> Finding:
    hint = f"ipcwarden install {engine} makes it the default"
    return Finding("not-default", NOTE, path, f"'{name}' is not {engine}'s default runtime", hint)


def unregistered(
    registered: Iterable[Registered], unknown: Iterable[Finding], is_there: Callable[[str], bool]
) -> list[Finding]:
    """Find engines that are there and run nothing of ours; bundles are registered one by one.

    `unknown` are the findings on configurations: of an engine whose own makes no sense nobody knows what it runs.
    """
    engines = {each.engine for each in registered} | {each.subject for each in unknown if each.check == "engine"}
    there = [engine for engine, program in _PROGRAMS.items() if is_there(program)]
    if "docker" in there and "containerd" in there:
        there.remove("containerd")  # Docker brings it along, and has its own way to name runtimes
    found = [
        Finding("unregistered", WARNING, engine, "it is there, and not registered with", f"ipcwarden install {engine}")
        for engine in there
        if engine not in engines
    ]
    if engines or found:
        return found
    return [Finding("unregistered", WARNING, "host", "registered with no engine", "ipcwarden install --help")]
