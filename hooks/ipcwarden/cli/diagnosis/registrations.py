"""What engines were told to run, and whether that is there, whole, and nobody's but root's."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from itertools import pairwise

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis import hookfiles
from ipcwarden.cli.diagnosis.finding import NOTE, PROBLEM, WARNING, Finding
from ipcwarden.errors import why
from ipcwarden.layout import PROGRAMS, beneath
from ipcwarden.registration import containerd, crio, daemon, interpreter, runtimes
from ipcwarden.registration.changes import Directory
from ipcwarden.registration.engines import Containerd, Docker
from ipcwarden.registration.entry import HOOK_FILE, RegistrationError
from ipcwarden.registration.programs import Programs
from ipcwarden.registration.targets import config_file
from ipcwarden.unit import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipcwarden.cli.diagnosis.hookfiles import HookFile
    from ipcwarden.cli.diagnosis.podman import Podman
    from ipcwarden.registration.interpreter import Interpreter

_PROGRAMS = {"podman": "podman", "docker": "dockerd", "containerd": "containerd", "crio": "crio"}
_AGAIN = "ipcwarden install {} puts it there"
_STRING = r"('(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
_RUNTIME = re.compile(rf"^RUNTIME = {_STRING}$", re.MULTILINE)
_ROOT = re.compile(rf"wrap\(Door\(RUNTIME, {_STRING}")
_CACHE = "/__pycache__/"


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


@dataclass(frozen=True)
class Wrapper:
    """What is written into a wrapper: its interpreter, the runtime that it stands before, and its root."""

    interpreter: str
    runtime: str
    root: str


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
            findings.append(Finding("engine", WARNING, engine, message, "repair it: the engine may not start with it"))
            continue
        found += registered
        findings += more
    return found, findings


def _of_docker(root: str) -> tuple[list[Registered], list[Finding]]:
    file = Docker.of(root, None).file
    said = None if file.text is None else file.judged(daemon.registered, file.text)
    if said is None:
        return [], []
    registered = Registered("docker", file.path, said.path, root=root, is_default=said.is_default)
    return [registered], [] if said.is_default else [_not_default("docker", file.path, daemon.NAME)]


def _of_containerd(root: str) -> tuple[list[Registered], list[Finding]]:
    file = Containerd.of(root, None).file
    handlers = [] if file.text is None else file.judged(containerd.registered, file.text)
    default = file.judged(containerd.default_name, file.text) if file.text and handlers else ""
    found = [Registered("containerd", file.path, h.path, root=root, is_default=h.name == default) for h in handlers]
    findings = (
        []
        if any(each.is_default for each in found)
        else [_not_default("containerd", file.path, handler.name) for handler in handlers]
    )
    return found, findings


def _of_crio(root: str) -> tuple[list[Registered], list[Finding]]:
    file = config_file(root, (crio.DIRECTORY, crio.NAME), None)
    handlers = {} if file.text is None else file.judged(crio.registered, file.text)
    findings = []
    for path in _later(f"{file.directory.path}/{crio.NAME}") if handlers else []:
        text = hookfiles.content_of(path).decode("utf-8")
        if any(file.judged(crio.overrides, text, _handler(name)) for name in handlers):
            message = f"it is read after '{crio.NAME}', and has the last word"
            findings.append(Finding("not-default", WARNING, path, message, f"give it a name before {crio.NAME}"))
    return [Registered("crio", file.path, path, root=root) for path in handlers.values()], findings


def _later(path: str) -> list[str]:
    """Return the files that are read after one."""
    directory, own = os.path.split(path)
    return sorted(f"{directory}/{name}" for name in os.listdir(directory) if name > own)


def _handler(name: str) -> str | None:
    return None if name == crio.HANDLER else name


def _not_default(engine: str, path: str, name: str) -> Finding:
    hint = f"ipcwarden install {engine} makes it the default"
    return Finding("not-default", NOTE, path, f"'{name}' is not {engine}'s default runtime", hint)


def judge(registered: Iterable[Registered], root: str) -> list[Finding]:
    """Look at what each door needs, and at what that needs in turn."""
    found: list[Finding] = []
    alike = {(each.engine, each.program, each.script, each.root): each for each in registered}
    for each in alike.values():
        if each.is_native:
            found += _judge_wrapper(each, root)
        else:
            found += _judge_hook(each, each.script, each.program, each.root, root)
    # Engines share our files: one engine's installation puts right what is wrong with them for all.
    return list({(finding.check, finding.subject): finding for finding in reversed(found)}.values())


def _judge_wrapper(each: Registered, root: str) -> list[Finding]:
    missing = _wrong("the wrapper", each.program, each, executable=True)
    if missing:
        return missing
    text = _read(each.program)
    wrapper = wrapper_of(text)
    if wrapper is None:
        message = f"{each.engine} runs '{each.program}', which is no wrapper of this version's"
        return [Finding("target", PROBLEM, each.program, message, f"ipcwarden install {each.engine} writes it anew")]
    found: list[Finding] = []
    try:
        runtimes.check(wrapper.runtime)
    except RegistrationError as error:
        message = f"the runtime behind '{each.program}': {error.args[0]}"
        hint = f"install {os.path.basename(wrapper.runtime)}, or ipcwarden install {each.engine} --runtime PATH"
        found.append(Finding("target", PROBLEM, wrapper.runtime, message, hint))
    unit = f"{beneath(each.base, PROGRAMS)}/{NAMES['wrapper']}.py"
    found += _wrong("the wrapper's unit", unit, each)
    script = f"{beneath(each.base, PROGRAMS)}/{HOOK_FILE}"
    return [*found, *_judge_hook(each, script, wrapper.interpreter, wrapper.root, root)]


def wrapper_of(text: str) -> Wrapper | None:
    """Return what a wrapper was made for; None where it is none."""
    first = text.partition("\n")[0]
    runtime, root = _RUNTIME.search(text), _ROOT.search(text)
    if not first.startswith("#!/") or runtime is None or root is None:
        return None
    try:
        return Wrapper(first[2:].partition(" ")[0], ast.literal_eval(runtime[1]), ast.literal_eval(root[1]))
    except (ValueError, SyntaxError):
        return None


def _judge_hook(each: Registered, script: str, program: str, works_on: str, root: str) -> list[Finding]:
    unit = f"{os.path.dirname(script)}/{NAMES['hook']}.py"
    found = [*_wrong("the hook", script, each), *_wrong("the hook's unit", unit, each)]
    if os.path.normpath(works_on) != os.path.normpath(root):
        message = f"what {each.engine} runs works on '{works_on}', not on '{root}'"
        found.append(Finding("root", WARNING, each.place, message, f"ipcwarden install {each.engine} writes it anew"))
    try:
        chosen = interpreter.check(program)
    except RegistrationError as error:
        message = f"{each.engine} cannot run our hooks: {error.args[0]}"
        hint = f"ipcwarden install {each.engine} takes the Python that is there now"
        return [*found, Finding("target", PROBLEM, program, message, hint)]
    return found or _age(each, chosen)


def _age(each: Registered, chosen: Interpreter) -> list[Finding]:
    """Say what of our files is not as this version would install it for an interpreter."""
    try:
        pending = Programs(each.base, chosen).pending
    except RegistrationError as error:
        hint = error.hint or f"ipcwarden install {each.engine}"
        return [Finding("target", PROBLEM, beneath(each.base, PROGRAMS), str(error.args[0]), hint)]
    hint = f"ipcwarden install {each.engine}, with the options of the first time"
    major, minor = chosen.version
    return [
        Finding("bytecode", WARNING, path, f"not made for '{chosen.path}', which is Python {major}.{minor}", hint)
        if _CACHE in path
        else Finding("outdated", WARNING, path, "not what this version would install", hint)
        for path in pending
    ]


def _wrong(what: str, path: str, each: Registered, executable: bool = False) -> list[Finding]:
    """Find a file of ours missing, or not such that root may run it."""
    reason = _fault(path, each.base, executable)
    if not reason:
        return []
    message = f"{what} of {each.engine}: {reason}"
    return [Finding("target", PROBLEM, path, message, _AGAIN.format(each.engine))]


def _fault(path: str, base: str, executable: bool) -> str:
    directory, name = Directory(base, PROGRAMS), os.path.basename(path)
    if not path.startswith("/") or path != f"{directory.path}/{name}":
        return f"it does not lie in '{directory.path}'"
    try:
        content = directory.read(name, trusted=True)
    except (OSError, ValueError) as error:
        return why(error) if isinstance(error, OSError) else str(error)
    except RegistrationError as error:
        return str(error.args[0])
    if content is None:
        return "it is missing"
    return "it is not executable" if executable and not os.access(path, os.X_OK) else ""


def _read(path: str) -> str:
    try:
        return hookfiles.content_of(path).decode("utf-8")
    except (OSError, ValueError):
        return ""


def unregistered(registered: Iterable[Registered], is_there: Callable[[str], bool]) -> list[Finding]:
    """Find engines that are there and run nothing of ours; bundles are registered one by one."""
    engines = {each.engine for each in registered}
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
