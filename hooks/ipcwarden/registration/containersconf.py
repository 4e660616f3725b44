"""The drop-in that names podman the directory of our precreate hook (containers.conf(5)).

That hook needs a directory of its own: in those that podman reads by itself, buildah reads the file too, does not know
the stage, and no image can be built.  `hooks_dir` is one list, and the last file that has it replaces it: so the
drop-in repeats what the files before it say.
"""

from __future__ import annotations

from ipcwarden.registration.places import ConfigError
from ipcwarden.registration.tables import block, parse, table_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order in which podman reads them; then those of DIRECTORY that end in .conf, by name.
BEFORE = (("usr/share/containers", "containers.conf"), ("etc/containers", "containers.conf"))
DIRECTORY, NAME = "etc/containers/containers.conf.d", "50-ipcwarden.conf"
PRECREATE = "usr/share/ipcwarden/precreate.d"
_HEAD = "# Written by ipcwarden install podman; ipcwarden uninstall podman removes it.\n\n"


def hooks_dirs(text: str, dirs: list[str]) -> list[str]:
    """Return the directories that podman reads by a file, after those before it said `dirs`.  Raises `ValueError`."""
    found = named(text)
    if found is None:
        return dirs
    return [*dirs, *found[0]] if found[1] else found[0]


def named(text: str) -> tuple[list[str], bool] | None:
    """Return a file's `hooks_dir`, and whether it adds to the one before (podman 5); None if it has none."""
    value = table_at(parse(text), ("engine",)).get("hooks_dir")
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError("its 'engine.hooks_dir' is not a list")
    appends = any(isinstance(each, dict) and each.get("append") is True for each in value)
    return [each for each in value if isinstance(each, str)], appends


def document(dirs: Sequence[str]) -> str:
    """Return the drop-in that names these directories."""
    return _HEAD + block(("engine",), {"hooks_dir": list(dict.fromkeys(dirs))})


def is_ours(text: str) -> bool:
    """Tell whether a file is such a drop-in, also an edited one."""
    try:
        found = named(text)
    except ValueError:
        return False
    return found is not None and any(each.endswith(f"/{PRECREATE}") for each in found[0])
