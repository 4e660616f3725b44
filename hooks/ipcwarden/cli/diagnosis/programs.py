"""The files that registrations lead to: there, whole, nobody's but root's, and of this version."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass

from ipcwarden.cli.diagnosis import hookfiles
from ipcwarden.cli.diagnosis.finding import PROBLEM, WARNING, Finding
from ipcwarden.errors import why
from ipcwarden.layout import PROGRAMS, beneath
from ipcwarden.registration import interpreter, runtimes
from ipcwarden.registration.changes import Directory
from ipcwarden.registration.entry import HOOK_FILE, RegistrationError
from ipcwarden.registration.programs import Programs
from ipcwarden.unit import HOOKS, NAMES, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipcwarden.cli.diagnosis.registrations import Registered
    from ipcwarden.registration.interpreter import Interpreter

_AGAIN = "ipcwarden install {} puts it there"
_STRING = r"('(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
_RUNTIME = re.compile(rf"^RUNTIME = {_STRING}$", re.MULTILINE)
_ROOT = re.compile(rf"wrap\(Door\(RUNTIME, {_STRING}")
_CACHE = "/__pycache__/"


@dataclass(frozen=True)
class Wrapper:
    """What is written into a wrapper: its interpreter, the runtime that it stands before, and its root."""

    interpreter: str
    runtime: str
    root: str


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
    found = _wrong("the hook", script, each)
    for name in (name for door in HOOKS for name in build(door)):
        found += _wrong("the hook's unit", f"{os.path.dirname(script)}/{name}.py", each)
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
