"""One container's life as the ledger tells it: which namespace, whose limits, who else is in it."""

from __future__ import annotations

from ipcwarden.host.ledger import keys
from ipcwarden.host.namespace import Identity
from ipcwarden.host.procfs import started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipcwarden.core.documents import Document

_REAPED = "~reap~"


def identity_document(identity: Identity) -> Document:
    """Return a namespace's identity as the ledger keeps it."""
    return {
        "id": identity.id,
        "device": identity.device,
        "inode": identity.inode,
        "handle": identity.handle.hex(),
    }


def identity_of(document: dict[str, Document]) -> Identity | None:
    """Return the identity that an entry has, or None."""
    found = document.get("namespace")
    if not isinstance(found, dict):
        return None
    return Identity(
        int(found["id"]),  # type: ignore[arg-type]  # written by identity_document
        int(found["device"]),  # type: ignore[arg-type]  # likewise
        int(found["inode"]),  # type: ignore[arg-type]  # likewise
        bytes.fromhex(str(found["handle"])),
    )


def is_living(document: dict[str, Document], boot: str) -> bool:
    """Tell whether the process that the entry is about still runs: same boot, same pid, same start."""
    pid, start = document.get("pid"), document.get("started")
    return document.get("boot") == boot and isinstance(pid, int) and bool(start) and started(pid) == start


def is_of(document: dict[str, Document], boot: str, pid: int) -> bool:
    """Tell whether an entry is about this very process."""
    return document.get("pid") == pid and is_living(document, boot)


def was_of(document: dict[str, Document], boot: str, pid: int) -> bool:
    """Tell whether an entry is about this process, which may have ended since: nobody else has its number then."""
    return document.get("boot") == boot and document.get("pid") == pid and started(pid) in (0, document.get("started"))


def lives(entries: int, key: str) -> Iterator[str]:
    """Give the keys of all lives of one container, the present one first: earlier ones were set aside."""
    yield key
    for other in keys(entries):
        if other.startswith(f"{key}~") and not other.startswith(f"{key}{_REAPED}"):
            yield other


def key_of_reaping(key: str, number: int) -> str:
    """Return the key of what `ipcwarden reap` removes by way of a container: it is no life of that one."""
    return f"{key}{_REAPED}{number:x}"


def wanted_of(document: dict[str, Document]) -> dict[str, int]:
    """Return the limits that were decided on, by name."""
    sysctls = document.get("sysctls")
    return {
        str(each["name"]): int(str(each["wanted"]))
        for each in (sysctls if isinstance(sysctls, list) else [])
        if isinstance(each, dict)
    }


def limits_of(document: dict[str, Document]) -> dict[str, int]:
    """Return all limits as they were in force once the container had been created."""
    limits = document.get("limits")
    return {name: int(str(text)) for name, text in limits.items()} if isinstance(limits, dict) else {}


def peaks_of(document: dict[str, Document]) -> dict[str, int]:
    """Return the most of each limit that sweep has seen in use."""
    peaks = document.get("peaks")
    return {name: int(str(number)) for name, number in peaks.items()} if isinstance(peaks, dict) else {}


def was_shared(document: dict[str, Document]) -> bool:
    """Tell whether it is known that others have been in the namespace: it joined theirs, or sweep has seen them."""
    return bool(document.get("joined")) or bool(document.get("accompanied"))


def texts(limits: dict[str, int]) -> dict[str, Document]:
    """Return limits as JSON keeps them: 64-bit numbers as texts."""
    return {name: str(number) for name, number in limits.items()}


def undelivered_of(document: dict[str, Document]) -> list[bytes]:
    """Return the records that wait for the log, as the lines they will be."""
    waiting = document.get("undelivered")
    return [f"{line}\n".encode("ascii") for line in (waiting if isinstance(waiting, list) else [])]
