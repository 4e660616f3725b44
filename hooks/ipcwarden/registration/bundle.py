"""A bundle's config.json with and without our hooks: text in, text out.

What others wrote stays as it was written.  `unregister` undoes `register` to the byte, whoever wrote the file: the only
thing that would be lost, a null or an empty list where our entry now stands, is kept in the entry.

What one of our wrappers has changed in a file is undone first: how it was is kept in the entry, which is about to go.
"""

from __future__ import annotations

import json

from ipcwarden.core.amendment import NATIVE, REQUESTED, restored
from ipcwarden.core.documents import parse, utf8_of
from ipcwarden.registration.entry import CREATION_STAGES, STAGES, is_ours, remembered, remembering, with_memory_of
from ipcwarden.registration.places import ConfigError, Style, check_keys, insert, look, remove, replace, style_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document
    from ipcwarden.registration.entry import Registration
    from ipcwarden.registration.places import Child, Container


def register(text: str, registration: Registration) -> str:
    """Return a config.json that runs our hooks: an older registration of ours is replaced where it stands.

    Raises `ValueError` with what is wrong with the file, `StateError`.
    """
    _check(text)
    text = _before_amendment(text)
    style = style_of(text)
    top = look(text)
    place = top.named("hooks")
    if place is None:
        everything: Document = {stage: [registration.entry(stage)] for stage in registration.stages}
        return insert(text, top, len(top.children), ("hooks", everything), style)
    was = _value(text, place)
    if not was:
        everything = {stage: [registration.entry(stage)] for stage in registration.stages[:-1]}
        # On the last entry, because that stage is registered whatever the creation stage is called.
        everything["poststop"] = [remembering(registration.entry("poststop"), "hooks", was)]
        return replace(text, place, everything, style)
    for stage in registration.stages:
        text = _enter(text, stage, registration.entry(stage), style)
    for stage in STAGES:
        if stage not in registration.stages:
            text = _leave(text, stage, style)
    return text


def unregister(text: str) -> str:
    """Return a config.json without any hook of ours.  Raises as `register` does."""
    _check(text)
    text = _before_amendment(text)
    style = style_of(text)
    if look(text).named("hooks") is None:
        return text
    had: list[Document] = []
    for stage in STAGES:
        had += [was for entry in _entries(text, stage) if is_ours(entry) for was in remembered(entry, "hooks")]
    before = text
    for stage in STAGES:
        text = _leave(text, stage, style)
    top = look(text)
    place = top.named("hooks")
    if text == before or place is None or _value(text, place):
        return text
    return replace(text, place, had[0], style) if had else remove(text, top, top.children.index(place))


def _check(text: str) -> None:
    """Raise `ConfigError` unless every runtime reads the same hooks here."""
    document = parse(text.encode())
    if not isinstance(document, dict):
        raise ConfigError("it is not an object")
    check_keys(document, ("hooks",))
    hooks = document.get("hooks")
    if hooks is None:
        return
    if not isinstance(hooks, dict):
        raise ConfigError("its 'hooks' is not an object")
    check_keys(hooks, STAGES)
    for stage in STAGES:
        if not isinstance(hooks.get(stage), list | None):
            raise ConfigError(f"its 'hooks.{stage}' is not a list")


def _before_amendment(text: str) -> str:
    """Return a config.json as it was before a wrapper changed its limits, but for the hooks; any other as it is."""
    document = parse(text.encode())
    assert isinstance(document, dict)
    annotations = document.get("annotations")
    if not isinstance(annotations, dict) or REQUESTED not in annotations or not _is_native(text):
        return text
    document = restored(document)
    kept: Document = {key: each for key, each in annotations.items() if key != REQUESTED}
    without = {key: each for key, each in document.items() if key != "annotations"}
    return utf8_of({**without, "annotations": kept} if kept else without).decode()


def _is_native(text: str) -> bool:
    """Tell whether a native door put our creation hook there: `install` registers bundles without that word."""
    for stage in CREATION_STAGES:
        for entry in _entries(text, stage):
            arguments = entry.get("args") if isinstance(entry, dict) and is_ours(entry) else None
            if isinstance(arguments, list) and NATIVE in arguments:
                return True
    return False


def _value(text: str, child: Child) -> Document:
    value: Document = json.loads(text[child.value : child.end])
    return value


def _find(text: str, stage: str) -> tuple[Container, Child | None]:
    hooks = look(text).named("hooks")
    assert hooks is not None
    container = look(text, hooks.value)
    return container, container.named(stage)


def _entries(text: str, stage: str) -> list[Document]:
    hooks = look(text).named("hooks")
    value = _value(text, hooks) if hooks else None
    entries = value.get(stage) if isinstance(value, dict) else None
    return entries if isinstance(entries, list) else []


def _enter(text: str, stage: str, entry: dict[str, Document], style: Style) -> str:
    """Put our entry into a stage's list, once."""
    hooks, place = _find(text, stage)
    if place is None:
        return insert(text, hooks, len(hooks.children), (stage, [entry]), style)
    entries = _entries(text, stage)
    if not entries:
        return replace(text, place, [remembering(entry, stage, _value(text, place))], style)
    ours = [index for index, each in enumerate(entries) if is_ours(each)]
    for index in reversed(ours[1:]):
        text = remove(text, look(text, place.value), index)
    listed = look(text, place.value)
    if not ours:
        # The last word at the start; at the stop first: runc skips the hooks behind one that fails.
        return insert(text, listed, 0 if stage == "poststop" else len(entries), ("", entry), style)
    old = entries[ours[0]]
    new = with_memory_of(entry, old)
    return text if new == old else replace(text, listed.children[ours[0]], new, style)


def _leave(text: str, stage: str, style: Style) -> str:
    """Take our entries out of a stage's list, and the list if we made it."""
    entries = _entries(text, stage)
    ours = [index for index, each in enumerate(entries) if is_ours(each)]
    if not ours:
        return text
    hooks, place = _find(text, stage)
    assert place is not None
    if len(ours) < len(entries):
        for index in reversed(ours):
            text = remove(text, look(text, place.value), index)
        return text
    was = [each for index in ours for each in remembered(entries[index], stage)]
    return replace(text, place, was[0], style) if was else remove(text, hooks, hooks.children.index(place))
