"""What a policy asks for that the doors that are registered cannot do, or not in time."""

from __future__ import annotations

import re

from ipcwarden.cli.diagnosis.finding import PROBLEM, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipcwarden.core.policy import Policy, Profile
    from ipcwarden.registration.runtimes import Runtime

_VERSION = re.compile(r"^runc version v?(\d+)\.(\d+)", re.MULTILINE)
_LATE = (1, 6)
_NATIVE = "ipcwarden install podman --precreate decides before the runtime"


def profiles_of(policy: Policy | None) -> list[Profile]:
    """Return the profiles that an enforcing rule can give to a container."""
    if policy is None:
        return []
    indexes: set[int] = set()
    for rule in policy.rules:
        if rule.mode == "enforcing":
            choice = rule.profile
            indexes |= {choice} if isinstance(choice, int) else {*choice.among.values(), choice.other}
    return [policy.profile_at(index) for index in sorted(indexes)]


def late(runtimes: Iterable[Runtime], profiles: Sequence[Profile], hooked: Sequence[str]) -> list[Finding]:
    """Find a runc that runs poststart too late to clamp; `hooked` are engines that have hooks and no native door.

    A request that is refused never gets that far, and crun writes its own before the creation hook.
    """
    clamping = [profile.name for profile in profiles if profile.on_violation == "clamp"]
    found = []
    for runtime in runtimes:
        match = _VERSION.search(runtime.version)
        if match and (int(match[1]), int(match[2])) >= _LATE and clamping and hooked:
            message = f"runc {match[1]}.{match[2]}, with the clamping profile {_listed(clamping)}, and hooks alone"
            found.append(Finding("late", PROBLEM, runtime.path, f"{message} for {', '.join(hooked)}", _NATIVE))
    return found


def nested(profiles: Sequence[Profile], hooked: Sequence[str]) -> list[Finding]:
    """Find profiles that deny nested namespaces where hooks alone are registered."""
    denying = [profile.name for profile in profiles if profile.nested_ipc == "deny"]
    if not denying:
        return []
    message = f"nested_ipc: deny of the profile {_listed(denying)} is not enforced by hooks alone, only reported"
    return [Finding("nested", WARNING, engine, message, _NATIVE) for engine in hooked]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
