"""What the native doors change in config.json before the runtime reads it: values in, a new document out.

What is changed is kept in our creation hook's entry: a bundle that is run twice is decided on as it was written.
"""

from __future__ import annotations

from ipcwarden.core.digests import digest_of
from ipcwarden.core.documents import serialize
from ipcwarden.core.spec import MSGQUEUE, governed, list_of, section_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

REQUESTED = "org.ipcwarden.requested"  # annotation: the governed part of `linux.sysctl` as it was, a JSON object
NATIVE = "--native"  # the hook's argument that says so: nobody but the door writes hooks, anybody writes annotations
HOOK_PATH = "/usr/libexec/ipcwarden/hook.py"
_STAGES = ("createRuntime", "prestart", "poststart", "poststop")
_ORIGINAL = "ipcwarden.original"  # runtimes ignore members that they do not know (runtime-spec, Extensibility)
_CHANGED = (("linux", "sysctl"), ("linux", "seccomp"), ("process", "rlimits"))


@value
class Amendment:
    """What to change; None leaves it.  `sysctls` replaces all that is asked for, by name of `sysctls.FILES`.

    `msgqueue` (bytes) becomes RLIMIT_MSGQUEUE, soft and hard; `seccomp` takes the place of `linux.seccomp`.
    """

    sysctls: dict[str, str] | None = None
    msgqueue: int | None = None
    seccomp: Document = None


def runs_us(entry: Document) -> bool:
    """Tell whether a hook entry runs ipcwarden's hook, of whatever root and version."""
    if not isinstance(entry, dict):
        return False
    arguments = entry.get("args")
    words = [entry.get("path"), *(arguments if isinstance(arguments, list) else [])]
    return any(isinstance(word, str) and word.endswith(HOOK_PATH) for word in words)


def restored(document: dict[str, Document]) -> dict[str, Document]:
    """Return a config.json as it was before we changed it, unless somebody has since.  Raises `StateError`."""
    hooks = section_of(document, "hooks")
    for entry in (each for stage in _STAGES[:2] for each in list_of(hooks, stage, "hooks.")):
        original = entry.get(_ORIGINAL) if isinstance(entry, dict) and runs_us(entry) else None
        if isinstance(original, dict) and original.get("now") == _digest(document):
            for top, name in _CHANGED:
                if (key := f"{top}.{name}") in original:
                    document = _with(document, top, name, original[key])
            break
    return document


def amended(
    document: dict[str, Document], entries: dict[str, dict[str, Document]], amendment: Amendment
) -> dict[str, Document]:
    """Return a config.json with our hooks, what was asked for as an annotation, and what is to be changed.

    `entries` are our hooks by stage; where it is empty, those that are there already are taken for this.
    Raises `StateError`.
    """
    table = section_of(section_of(document, "linux"), "sysctl", "linux.")
    requested: Document = {key: content for _, key, content in governed(table)}
    annotations: Document = {**section_of(document, "annotations"), REQUESTED: serialize(requested)}
    new: dict[str, Document] = {**document, "annotations": annotations}
    if amendment.sysctls is not None:
        others = {key: content for key, content in table.items() if key not in (requested or {})}  # type: ignore[operator]
        new = _with(new, "linux", "sysctl", {**others, **amendment.sysctls})
    if amendment.seccomp is not None:
        new = _with(new, "linux", "seccomp", amendment.seccomp)
    if amendment.msgqueue is not None:
        limits = list_of(section_of(document, "process"), "rlimits", "process.")
        kept = [each for each in limits if not (isinstance(each, dict) and each.get("type") == MSGQUEUE)]
        ours: Document = {"type": MSGQUEUE, "soft": amendment.msgqueue, "hard": amendment.msgqueue}
        new = _with(new, "process", "rlimits", [*kept, ours])
    original: Document = {
        f"{top}.{name}": section_of(document, top).get(name)
        for top, name in _CHANGED
        if section_of(document, top).get(name) != section_of(new, top).get(name)
    }
    assert isinstance(original, dict)
    return {**new, "hooks": _hooks(section_of(document, "hooks"), entries, {"now": _digest(new), **original})}


def _hooks(
    hooks: dict[str, Document], entries: dict[str, dict[str, Document]], original: dict[str, Document]
) -> dict[str, Document]:
    lists = {stage: list_of(hooks, stage, "hooks.") for stage in _STAGES}
    if not entries:
        entries = _native(lists)
    found = dict(hooks)
    for stage in _STAGES:
        others = [each for each in lists[stage] if not runs_us(each)]
        if stage in entries:
            ours: Document = {**entries[stage], _ORIGINAL: original} if stage in _STAGES[:2] else entries[stage]
            # The last word at the start; at the stop first: runc skips the hooks behind one that fails.
            found[stage] = [ours, *others] if stage == "poststop" else [*others, ours]
        elif len(others) < len(lists[stage]):
            found[stage] = others
    return found


def _native(lists: dict[str, list[Document]]) -> dict[str, dict[str, Document]]:
    """Return our entries of a config.json, told that a native door has been there.

    With poststop, even where the engine runs that itself: runc runs it where the engine does not, after a creation
    that failed.
    """
    found: dict[str, dict[str, Document]] = {}
    for stage in _STAGES:
        for entry in lists[stage]:
            arguments = entry.get("args") if isinstance(entry, dict) and runs_us(entry) else None
            if isinstance(entry, dict) and isinstance(arguments, list):
                start: list[Document] = [word for word in arguments[:-1] if word != NATIVE]
                found[stage] = {**entry, "args": [*start, NATIVE, stage]}
                if stage in _STAGES[:2]:
                    found.setdefault("poststop", {**entry, "args": [*start, NATIVE, "poststop"], "timeout": 30})
    return found


def _with(document: dict[str, Document], top: str, name: str, content: Document) -> dict[str, Document]:
    section = {key: each for key, each in section_of(document, top).items() if key != name}
    return {**document, top: section if content is None else {**section, name: content}}


def _digest(document: dict[str, Document]) -> str:
    present: Document = [section_of(document, top).get(name) for top, name in _CHANGED]
    return digest_of(serialize(present).encode("ascii"), 8)
