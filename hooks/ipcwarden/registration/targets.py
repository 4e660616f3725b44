"""What install and uninstall are about to change: read from the files that are there, not yet changed."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ipcwarden.errors import StateError, why
from ipcwarden.files import read
from ipcwarden.layout import beneath
from ipcwarden.registration import bundle, containersconf, crio, hooksd
from ipcwarden.registration.changes import MAX_BYTES, Change, Directory
from ipcwarden.registration.entry import RegistrationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    from ipcwarden.registration.entry import Registration

    P = ParamSpec("P")
    T = TypeVar("T")

_CONFIG = "config.json"
_BACKUP = ".ipcwarden-backup"
_REPAIR = "nothing was changed: repair it first"


@dataclass(frozen=True)
class ConfigFile:
    """An engine's own configuration, which we edit; `text` is None where there is no file."""

    directory: Directory
    name: str
    text: str | None

    @property
    def path(self) -> str:
        """The file's path."""
        return f"{self.directory.path}/{self.name}"

    def judged(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function on the file's text.  Raises `RegistrationError` with what it finds wrong with the file."""
        try:
            return function(*arguments, **options)
        except ValueError as error:
            raise RegistrationError(f"cannot edit '{self.path}': {error}", _REPAIR) from error

    def changes(self, before: str | None, after: str | None) -> list[Change]:
        """Return what makes the file say what comes `after`; `before` is what it said before any registration.

        The backup, of a file as it was before we edited it, comes first, and goes when nothing of the edit is left.
        """
        changes = []
        backup = _read(self.directory, f"{self.name}{_BACKUP}")
        if after != self.text:
            changes.append(Change(self.directory, self.name, _encoded(self.text), _encoded(after)))
        if before == self.text and after != self.text and before is not None and backup != _encoded(before):
            new = Change(self.directory, f"{self.name}{_BACKUP}", backup, _encoded(before), copy_of=self.name)
            changes.insert(0, new)
        if backup is not None and backup == _encoded(after):
            changes.append(Change(self.directory, f"{self.name}{_BACKUP}", backup, None))
        return changes


def config_file(root: str, default: tuple[str, str], named: str | None) -> ConfigFile:
    """Read an engine's configuration: the file that is named, or the default one.  Raises `RegistrationError`."""
    if named is None:
        directory, name = Directory(root, default[0]), default[1]
    else:
        above, name = os.path.split(named)
        directory = Directory(*os.path.split(above))
    content = _read(directory, name, "name the file itself with --config")
    try:
        text = None if content is None else content.decode("utf-8")
    except ValueError as error:
        raise RegistrationError(f"cannot read '{directory.path}/{name}': {error}", _REPAIR) from error
    return ConfigFile(directory, name, text)


def bundle_changes(path: str, registration: Registration | None) -> list[Change]:
    """Return how a bundle's config.json changes; without a registration, ours is taken out.  Raises `StateError`."""
    directory = Directory(path)
    try:
        before = directory.read(_CONFIG)
        if before is None:
            raise StateError(f"cannot edit '{path}/{_CONFIG}': there is none", "is this a bundle? runc spec makes one")
        text = before.decode("utf-8")
        after = (bundle.unregister(text) if registration is None else bundle.register(text, registration)).encode()
    except OSError as error:
        raise StateError(f"cannot edit '{path}/{_CONFIG}': {_reason(error)}") from error
    except ValueError as error:
        raise StateError(f"cannot edit '{path}/{_CONFIG}': {error}", "nothing was changed") from error
    return [Change(directory, _CONFIG, before, after)] if before != after else []


def podman_changes(
    root: str, hooks_dir: str | None, registration: Registration | None, precreate: bool = False
) -> list[Change]:
    """Return how a hooks.d directory changes, and what names podman the one of the precreate hook.

    Without a registration, our files go: those in `hooks_dir`, or without one wherever podman is told to look.
    Raises `RegistrationError`.
    """
    directory = Directory(root, hooksd.DIRECTORY) if hooks_dir is None else Directory(*os.path.split(hooks_dir))
    everywhere = [directory, *(_others_with_hooks(root) if registration is None and hooks_dir is None else [])]
    documents = {} if registration is None else hooksd.documents(registration)
    hooks = [_own_file(each, name, documents.get(name), hooksd.is_ours) for each in everywhere for name in hooksd.NAMES]
    document = hooksd.precreate_document(registration) if registration and precreate else None
    own = Directory(root, containersconf.PRECREATE)
    early = _own_file(own, hooksd.PRECREATE, document, hooksd.is_ours)
    drop_in = _own_file(
        Directory(root, containersconf.DIRECTORY),
        containersconf.NAME,
        _drop_in(root, directory.path).encode() if registration and precreate else None,
        lambda content: containersconf.is_ours(content.decode("utf-8", "replace")),
    )
    # A hook before what names its directory, a poststop before a creation; to take away, the other way round.  The one
    # that creates is last, because a container that starts in between may do without all others, but not the reverse.
    changes = [early, drop_in, *reversed(hooks)] if registration else [*hooks, drop_in, early]
    if registration and not precreate:
        changes = [drop_in, early, *reversed(hooks)]
    return [change for change in changes if change is not None]


def podman_notes(root: str, hooks_dir: str | None, precreate: bool) -> list[str]:
    """Return what there is to know of podman's own configuration.  Raises `RegistrationError`."""
    directory = hooks_dir or beneath(root, hooksd.DIRECTORY)
    dirs = _hooks_dirs(root)
    if not precreate and directory not in dirs:
        return [f"podman reads {', '.join(dirs)}, not {directory}: name it in hooks_dir of containers.conf"]
    if precreate and dirs != [beneath(root, hooksd.DIRECTORY)]:
        return ["the drop-in repeats the hooks_dir of containers.conf: after a change of that, call install again"]
    return []


def _drop_in(root: str, hooks_dir: str) -> str:
    """Return the drop-in for podman as it is configured.  Raises `RegistrationError` where it would not be heard."""
    for path, content in _drop_ins(root, after=True):
        found = judged(path, containersconf.named, content)
        if found is not None and not found[1]:
            raise RegistrationError(
                f"cannot name podman our directory: '{path}' is read last, and has a hooks_dir of its own",
                f"move that to an earlier file than {containersconf.NAME}, or install with --no-precreate",
            )
    return containersconf.document([*_hooks_dirs(root), hooks_dir, beneath(root, containersconf.PRECREATE)])


def _hooks_dirs(root: str) -> list[str]:
    """Return the directories that podman would read without our drop-in."""
    dirs = [beneath(root, hooksd.DIRECTORY)]
    before = [(Directory(root, place), name) for place, name in containersconf.BEFORE]
    texts = [(f"{place.path}/{name}", _text(place, name)) for place, name in before]
    for path, content in [*texts, *_drop_ins(root, after=False)]:
        dirs = judged(path, containersconf.hooks_dirs, content, dirs)
    return dirs


def _others_with_hooks(root: str) -> list[Directory]:
    """Return the directories with files of our names that any of podman's configurations has, also our own drop-in."""
    own = (Directory(root, containersconf.DIRECTORY), containersconf.NAME)
    places = [*((Directory(root, place), name) for place, name in containersconf.BEFORE), own]
    texts = [(f"{place.path}/{name}", _text(place, name)) for place, name in places]
    named: list[str] = []
    for path, content in [*texts, *_drop_ins(root, after=False), *_drop_ins(root, after=True)]:
        found = judged(path, containersconf.named, content)
        named += [] if found is None else [os.path.normpath(each) for each in found[0] if each.startswith("/")]
    return [
        Directory(*os.path.split(path))
        for path in dict.fromkeys(named)
        if path != beneath(root, hooksd.DIRECTORY) and any(os.path.lexists(f"{path}/{name}") for name in hooksd.NAMES)
    ]


def _drop_ins(root: str, after: bool) -> list[tuple[str, str]]:
    """Return the drop-ins that podman reads before ours, or after it."""
    directory = Directory(root, containersconf.DIRECTORY)
    names = [name for name in _names(directory) if name.endswith(".conf") and name != containersconf.NAME]
    wanted = [name for name in names if (name > containersconf.NAME) == after]
    return [(f"{directory.path}/{name}", _text(directory, name)) for name in wanted]


def crio_changes(root: str, content: str | None) -> list[Change]:
    """Return how CRI-O's drop-in of ours changes; without a content it goes.  Raises `RegistrationError`."""
    after = None if content is None else content.encode()
    change = _own_file(
        Directory(root, crio.DIRECTORY),
        crio.NAME,
        after,
        lambda content: bool(judged(crio.NAME, crio.registered, content.decode("utf-8", "replace"))),
    )
    return [] if change is None else [change]


def crio_files(root: str) -> list[tuple[str, str]]:
    """Return the configurations of CRI-O's that are not ours, in the order in which it reads them."""
    directory = Directory(root, crio.DIRECTORY)
    main = (Directory(root, crio.MAIN[0]), crio.MAIN[1])
    files = [main, *((directory, name) for name in _names(directory) if name != crio.NAME)]
    return [(f"{place.path}/{name}", _text(place, name)) for place, name in files]


def _own_file(directory: Directory, name: str, after: bytes | None, is_ours: Callable[[bytes], bool]) -> Change | None:
    """Return what makes a file of our own say something, or not be there; one of others' is left alone."""
    before = _read(directory, name)
    if before == after:
        return None
    if before is not None and not is_ours(before):
        if after is None:
            return None
        raise RegistrationError(
            f"cannot write '{directory.path}/{name}': a file of that name is there, and does not register ipcwarden",
            "move it away",
        )
    return Change(directory, name, before, after)


def _names(directory: Directory) -> list[str]:
    try:
        with directory.opened() as fd:
            return sorted(os.listdir(fd))
    except FileNotFoundError:
        return []


def _text(directory: Directory, name: str) -> str:
    """Read a configuration of others' to learn what it says; one that is not there, or a directory, says nothing.

    Links are followed, as engines do, also to /dev/null, which is how a drop-in is masked.
    """
    path = os.path.realpath(f"{directory.path}/{name}")
    if path == os.devnull or os.path.isdir(path):
        return ""
    try:
        return read(path, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        raise RegistrationError(f"cannot read '{directory.path}/{name}': {reason}") from error


def judged(path: str, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function on what a file of others' says.  Raises `RegistrationError` with what is wrong with that file."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        raise RegistrationError(f"cannot make sense of '{path}': {error}") from error


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _read(directory: Directory, name: str, hint: str = "move it away") -> bytes | None:
    try:
        return directory.read(name)
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else error
        raise RegistrationError(f"cannot read '{directory.path}/{name}': {reason}", hint) from error


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == 40 else why(error)  # ELOOP: links are never followed
