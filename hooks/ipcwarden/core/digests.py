"""Short names for content, without the hashlib package (3 ms)."""

from __future__ import annotations

from _blake2 import blake2b


def digest_of(content: bytes, size: int = 16) -> str:
    """Return the BLAKE2b digest (RFC 7693) of `size` bytes, in hex."""
    return blake2b(content, digest_size=size).hexdigest()


def entry_key(container: str, bundle: str) -> str:
    """Return the name of a container's ledger entry: two runtimes' roots may run the same id at once.

    It never starts with a dot, as drafts do.
    """
    whole = f"{container}\0{bundle}".encode("utf-8", "surrogateescape")
    start = f"_{container[1:64]}" if container.startswith(".") else container[:64]
    return f"{start}-{digest_of(whole, 8)}"
