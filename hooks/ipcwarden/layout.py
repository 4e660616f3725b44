"""Where things lie, relative to `--root` (the host's own root by default)."""

from __future__ import annotations

SOURCES = "etc/ipcwarden"  # policy.yaml, policy.d/
SWITCH = "disabled"  # among the sources
SITE_PROFILES = "usr/share/ipcwarden/profiles"
STATE = "var/lib/ipcwarden"  # the policy in force
COMPILED = "policy.compiled"
PREVIOUS = "policy.previous"
RUN = "run/ipcwarden"
ENTRIES = f"{RUN}/containers"
PINS = f"{RUN}/pins"
NAMESPACES = f"{RUN}/namespaces"
LOGS = "var/log/ipcwarden"
LOG = "audit.jsonl"
PROGRAMS = "usr/libexec/ipcwarden"


def beneath(root: str, path: str) -> str:
    """Return the absolute path of one of the above."""
    return f"{root.rstrip('/')}/{path}"
