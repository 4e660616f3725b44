"""Where policies are written: which files count, in what order, and who may have written them."""

from __future__ import annotations

import importlib.resources
import os

from ipcwarden import files, layout
from ipcwarden.errors import PolicyError, why
from ipcwarden.host.account import places_at
from ipcwarden.layout import Place
from ipcwarden.values import value

MAX_BYTES = 4 << 20
BUILT_IN, SITE, MAIN, DROP_IN, IGNORED = "built-in", "site", "policy.yaml", "drop-in", "ignored"
_POLICY, _DROP_INS = "policy.yaml", "policy.d"


@value
class Source:
    """One file: what part it plays, its name for messages, and its content."""

    kind: str
    file: str
    data: bytes


def built_in() -> list[Source]:
    """Return the profiles that come with the program."""
    directory = importlib.resources.files("ipcwarden") / "profiles"
    found = [each for each in directory.iterdir() if each.name.endswith(".yaml")]
    return [Source(BUILT_IN, str(each), each.read_bytes()) for each in sorted(found, key=lambda each: each.name)]


def site(root: str) -> list[Source]:
    """Return the profiles of packages and of the site.  Raises `PolicyError`."""
    return _directory(Place(root, layout.SITE_PROFILES), SITE)


def installed(root: str) -> list[Source]:
    """Return the sources of root's, or an ordinary user's own, which nobody else can write.  Raises `PolicyError`."""
    place = places_at(root).sources
    file = f"{place}/{_POLICY}"
    try:
        directory = files.open_place(place, error=PolicyError)
        try:
            main = Source(MAIN, file, _read(directory, _POLICY, file))
        finally:
            os.close(directory)
    except FileNotFoundError as error:
        hint = "write one: version, profiles and rules; docs/policy.md has them"
        raise PolicyError(f"there is no policy: '{file}' does not exist", hint) from error
    return [*built_in(), *site(root), main, *_directory(place.below(_DROP_INS), DROP_IN)]


def single(path: str) -> Source:
    """Return a file that is to be checked on its own, whoever wrote it.  Raises `PolicyError`."""
    kinds = {_DROP_INS: DROP_IN, "profiles": SITE}
    kind = kinds.get(os.path.basename(os.path.dirname(os.path.abspath(path))), MAIN)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        raise PolicyError(f"cannot read '{path}': {reason}") from error
    if len(data) > MAX_BYTES:
        raise PolicyError(f"cannot read '{path}': it is larger than {MAX_BYTES} bytes")
    return Source(kind, path, data)


def _directory(place: Place, kind: str) -> list[Source]:
    """Return the files of a directory by the bytes of their names; what is missing holds none."""
    try:
        directory = files.open_place(place, error=PolicyError)
    except FileNotFoundError:
        return []
    found: list[Source] = []
    try:
        for name in sorted(os.listdir(directory), key=os.fsencode):
            file = f"{place}/{name}"
            if name.endswith(".yaml") and not name.startswith("."):
                found.append(Source(kind, file, _read(directory, name, file)))
            elif name.endswith((".yml", ".YAML", ".YML", ".json")) and not name.startswith("."):
                found.append(Source(IGNORED, file, b""))
    finally:
        os.close(directory)
    return found


def _read(directory: int, name: str, file: str) -> bytes:
    try:
        return files.read(name, MAX_BYTES, directory, trusted=True)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        hint = "a source is a regular file, root's, and nobody else can write it: chown root, chmod go-w"
        raise PolicyError(f"cannot read '{file}': {reason}", hint) from error
