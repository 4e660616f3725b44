"""What is known of a container before any rule is chosen."""

from __future__ import annotations

from ipcwarden.values import value


@value
class Facts:
    """One container's facts; None is unknown.  `ipc` is private, shared (a namespace of somebody's) or host.

    `annotations` are those that policy trusts.  `is_sandbox` is no condition: whether the container is known to hold a
    pod's namespaces and nothing else.
    """

    engine: str | None = None
    runtime: str | None = None
    image: str | None = None
    name: str | None = None
    pod: str | None = None
    namespace: str | None = None
    annotations: dict[str, str] | None = None
    privileged: bool | None = None
    user_namespace: bool | None = None
    rootless: bool | None = None
    ipc: str | None = None
    is_sandbox: bool = False


def fact(facts: Facts, key: str) -> object:
    """Return the fact that a condition's key names: a field of `Facts`, or `annotations.KEY`; None is unknown."""
    if key.startswith("annotations."):
        return (facts.annotations or {}).get(key[12:])
    found: object = vars(facts)[key]
    return found
