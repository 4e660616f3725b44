"""A container's /dev/shm (shm_overview(7)): where config.json has it from, and what its files come to in a record."""

from __future__ import annotations

from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from ipcwarden.core.documents import Document
    from ipcwarden.core.spec import Mount

SHM = "/dev/shm"  # noqa: S108  (where POSIX shared memory is)
MOST_FILES = 20
_MANY_FILES = 1000  # files that are kept before the smallest are let go
_FILE_BLOCK = 512  # bytes that st_blocks counts in, whatever the file system (stat(2))


@value
class ShmFile:
    """A file below a /dev/shm; `name` is its path there, `blocks` the memory it holds in units of 512 bytes."""

    name: bytes
    inode: int
    uid: int
    gid: int
    mode: int
    links: int
    size: int
    blocks: int
    ctime: int


def shm_source(mounts: Iterable[Mount]) -> str:
    """Return what config.json binds to /dev/shm, an absolute path; empty where it is a file system of its own."""
    source = ""
    for mount in mounts:
        if mount.destination == SHM:  # the last one is on top
            is_bind = mount.type == "bind" or not {"bind", "rbind"}.isdisjoint(mount.options)
            source = mount.source if is_bind and mount.source.startswith("/") else ""
    return source


def files_document(files: Iterable[ShmFile], old: Container[int] | None = None) -> dict[str, Document]:
    """Return how many files there are, the memory that they hold, and the largest of them.

    A file with several names counts with each, and its memory once.  Where `old` has the inode numbers of those that
    were there before, the others are told as new.
    """
    count = held = 0
    linked: set[int] = set()
    kept: list[tuple[int, int, ShmFile]] = []
    for number, file in enumerate(files):
        count += 1
        if file.inode not in linked:
            held += file.blocks * _FILE_BLOCK
        if file.links > 1:
            linked.add(file.inode)
        kept.append((-file.blocks, number, file))
        if len(kept) >= _MANY_FILES:
            kept = _largest_files(kept)
    shown = [_file_document(file, old) for _, _, file in _largest_files(kept)]
    return {"count": count, "bytes": held, "files": list(shown), "files_omitted": count - len(shown)}


def _largest_files(kept: list[tuple[int, int, ShmFile]]) -> list[tuple[int, int, ShmFile]]:
    return sorted(kept, key=lambda each: each[:2])[:MOST_FILES]


def _file_document(file: ShmFile, old: Container[int] | None) -> dict[str, Document]:
    plain = file.name.isascii() and all(0x20 <= byte <= 0x7E for byte in file.name)
    found: dict[str, Document] = {"name": file.name.decode("ascii")} if plain else {"name_hex": file.name.hex()}
    found.update(owner=str(file.uid), gid=file.gid, perms=f"{file.mode & 0o7777:04o}", size=file.size)
    found.update(bytes=file.blocks * _FILE_BLOCK, ctime=file.ctime)
    if old is not None and file.inode not in old:
        found["new"] = True
    return found
