"""The kill switch's file.  Hooks look for it at every start, so where there is none it costs one stat(2)."""

from __future__ import annotations

import posix

from ipcwarden.core.switch import Switch, parse_switch
from ipcwarden.errors import PolicyError, why
from ipcwarden.files import open_directory, open_regular, read_all, unsafe
from ipcwarden.layout import SOURCES, SWITCH, beneath

_MAX_SWITCH_BYTES = 65536


def read_switch(root: str, owners: tuple[int, ...] = ()) -> Switch | None:
    """Return the kill switch, None where there is none; with a `fault` where others than root may have set it.

    `owners` are the uids that the host's own files may belong to, as `files.open_directory` takes them.

    Raises nothing: whether containers are governed hangs on no more than that.
    """
    try:
        posix.stat(beneath(root, f"{SOURCES}/{SWITCH}"), follow_symlinks=False)
    except (FileNotFoundError, PermissionError):
        return None  # not there; or rootless, and not ours to see
    except OSError as error:
        return Switch(fault=why(error))
    try:
        directory = open_directory(root, SOURCES, error=PolicyError, owners=owners)
        try:
            fd = open_regular(SWITCH, posix.O_RDONLY, directory)
        finally:
            posix.close(directory)
    except FileNotFoundError:
        return None
    except PermissionError:
        return Switch()  # rootless: not ours to read, in a directory that only root writes
    except PolicyError as error:
        return Switch(fault=str(error.args[0]))
    except (OSError, ValueError) as error:
        return Switch(fault=why(error) if isinstance(error, OSError) else str(error))
    try:
        status = posix.fstat(fd)
        # A touch under a umask that lets the group write must do: group 0 is root's own.
        fault = unsafe(status, status.st_gid != 0, owners)
        return Switch(fault=fault) if fault else parse_switch(read_all(fd, _MAX_SWITCH_BYTES))
    except (OSError, ValueError):
        return Switch()  # too large to be ours: it is there all the same
    finally:
        posix.close(fd)
