"""The policy in force: put there whole, the one before kept, and back again."""

from __future__ import annotations

import os

from ipcwarden import files, layout
from ipcwarden.core.policy import MAX_POLICY_BYTES, Policy, pack, unpack
from ipcwarden.errors import PolicyError, why
from ipcwarden.host.account import places_at
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.layout import Place


@value
class Activation:
    """What was in force (None: nothing that could be used) and what is now."""

    old: Policy | None
    new: Policy

    @property
    def changed(self) -> bool:
        """Tell whether anything is different now."""
        return self.old is None or self.old.digest != self.new.digest


def in_force(root: str) -> Policy | None:
    """Return the policy in force, or None where none is.  Raises `PolicyError` where it is not to be trusted."""
    try:
        directory = files.open_place(_place(root), error=PolicyError)
    except FileNotFoundError:
        return None
    try:
        data = _read(root, directory, layout.COMPILED)
    finally:
        os.close(directory)
    return None if data is None else _unpacked(root, layout.COMPILED, data)


def same_sources(one: Policy, other: Policy) -> bool:
    """Tell whether two policies say the same; what kernel they were compiled on is not of the sources."""
    one, other = unpack(pack(one)), unpack(pack(other))
    first, second = (
        (each.mode, each.rules, each.profiles, each.trust_annotations, each.stale_pins) for each in (one, other)
    )
    return first == second


def activate(root: str, policy: Policy) -> Activation:
    """Put a policy in force; what it replaces is kept for `roll_back`.  Raises `PolicyError`."""
    data = pack(policy)
    directory = _state(root)
    try:
        before = _usable(root, directory, layout.COMPILED)
        if before and before[0] != data:
            _write(root, directory, layout.PREVIOUS, before[0])
        if not before or before[0] != data:
            _write(root, directory, layout.COMPILED, data)
    finally:
        os.close(directory)
    return Activation(before[1] if before else None, unpack(data))


def roll_back(root: str) -> Activation:
    """Exchange the policy in force with the one before.  Raises `PolicyError` where there is none."""
    directory = _state(root)
    try:
        data = _read(root, directory, layout.PREVIOUS)
        if data is None:
            place = f"{_place(root)}/{layout.PREVIOUS}"
            raise PolicyError(f"there is no previous policy: '{place}' does not exist", "compile the one that you want")
        new = _unpacked(root, layout.PREVIOUS, data)
        before = _usable(root, directory, layout.COMPILED)
        _write(root, directory, layout.COMPILED, data)
        if before:
            _write(root, directory, layout.PREVIOUS, before[0])
    finally:
        os.close(directory)
    return Activation(before[1] if before else None, new)


def _place(root: str) -> Place:
    return places_at(root).policies[-1]


def _state(root: str) -> int:
    try:
        return files.open_place(_place(root), error=PolicyError)
    except FileNotFoundError:
        directory = files.open_place(_place(root), create=0o755, error=PolicyError)
        os.fchmod(directory, 0o755)  # whatever the umask: rootless engines read the host's policy
        return directory


def _read(root: str, directory: int, name: str) -> bytes | None:
    try:
        return files.read(name, MAX_POLICY_BYTES, directory, trusted=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        place = f"{_place(root)}/{name}"
        raise PolicyError(f"cannot use '{place}': {reason}", "remove it and run ipcwarden compile") from error


def _unpacked(root: str, name: str, data: bytes) -> Policy:
    try:
        return unpack(data)
    except (ValueError, EOFError, TypeError) as error:
        place = f"{_place(root)}/{name}"
        raise PolicyError(f"cannot use '{place}': {error}", "run ipcwarden compile") from error


def _usable(root: str, directory: int, name: str) -> tuple[bytes, Policy] | None:
    """Return a stored policy; None where there is none, or one that nothing can be done with any more."""
    try:
        data = _read(root, directory, name)
        return None if data is None else (data, _unpacked(root, name, data))
    except PolicyError:
        return None


def _write(root: str, directory: int, name: str, data: bytes) -> None:
    try:
        files.write_atomically(directory, name, data, 0o644)
        os.fsync(directory)
    except OSError as error:
        place = f"{_place(root)}/{name}"
        raise PolicyError(f"cannot write '{place}': {why(error)}") from error
