"""IPC objects as the kernel lists them: /proc/sysvipc (sysvipc(5)) and the mqueue filesystem (mq_overview(7)).

An object is a dict that goes into a record as it is, under the names that `lsipc -J` uses, in lower case; `size` and
the like are bytes.  `bytes` is the memory it holds now, `claimed` what it counts for against a limit.  There can be
98 000: no dict is made of one before somebody asks for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from ipcwarden.core.documents import Document

    Object: TypeAlias = dict[str, int | str]
    Chosen: TypeAlias = Mapping[str, Sequence[int]]

KINDS = ("shm", "sem", "msg", "mqueue")
MOST_OBJECTS = 100  # in a record
_SHM_DEST, _SHM_LOCKED = 0o1000, 0o2000  # linux/shm.h, shown among the permissions
_SEMAPHORE = 64  # sizeof(struct sem), ipc/sem.c
_MESSAGE = 72  # struct msg_msg and the slab's rounding: what an empty message takes
_QUEUED = 48  # struct msg_msg, as mqueue_get_tree_node_size charges it to RLIMIT_MSGQUEUE (ipc/mqueue.c)
_TREE_NODES = 32768

# The words of a line, as sysvipc_*_proc_show of ipc/{shm,sem,msg}.c print them.
_PRINTED = {
    "shm": "key id perms size cpid lpid nattch owner gid cuid cgid attach detach ctime rss swap",
    "sem": "key id perms nsems owner gid cuid cgid otime ctime",
    "msg": "key id perms usedbytes msgs lspid lrpid owner gid cuid cgid send recv ctime",
}
# Where they end on 64 bits, as long as no number is wider than its column.
_ENDS = {
    "shm": (10, 21, 27, 49, 55, 61, 68, 74, 80, 86, 92, 103, 114, 125, 147, 169),
    "sem": (10, 21, 27, 38, 44, 50, 56, 62, 73, 84),
    "msg": (10, 21, 27, 39, 50, 56, 62, 68, 74, 80, 86, 97, 108, 119),
}
# What a record says of an object beside what it says of each.
_TOLD = {
    "shm": "size nattch status ctime attach detach cpid lpid",
    "sem": "nsems otime ctime",
    "msg": "usedbytes msgs ctime send recv lspid lrpid",
}


class _Numbers(dict[bytes, int]):
    """Numbers by how they are written: most of a column are alike, and are one object then."""

    def __missing__(self, word: bytes) -> int:
        number = self[word] = int(word)
        return number


class Table:
    """One of /proc/sysvipc/{shm,sem,msg}, of which columns and objects are cut out when they are asked for.

    The kernel's widths are only the least: a key below zero takes more, pids and uids past 99999 too.  Where some line
    is longer than the least, words are counted, from the end of the line that is nearer.
    """

    def __init__(self, kind: str, text: bytes, page: int) -> None:
        """Take a table whole, with its heading.  `page` is the page size in bytes."""
        self.kind = kind
        self._names, self._ends = _PRINTED[kind].split(), (0, *_ENDS[kind])
        self._text = text
        self._page = page
        self._columns: dict[str, list[int]] = {}
        width = self._ends[-1] + 1
        begin = text.find(b"\n") + 1
        self._begins = range(begin, len(text), width)
        least = len(self._begins)
        is_even = text[begin + width - 1 :: width] == b"\n" * least and text.count(b"\n") == least + 1
        self._lines = None if is_even else text.splitlines()[1:]

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self._begins if self._lines is None else self._lines)

    def column(self, name: str) -> list[int]:
        """Return a column by the name that records give it, in the kernel's order.

        `key` is signed, as it is printed, `perms` are with SHM_DEST and SHM_LOCKED; `rss` and `swap` are there as well.
        """
        if name not in self._columns:
            self._columns[name] = self._cut(name) if name in self._names else self._reckoned(name)
        return self._columns[name]

    def _cut(self, name: str) -> list[int]:
        words = self._words(name)
        if name == "perms":
            return [int(word, 8) for word in words]
        return list(map(int if name == "id" else _Numbers().__getitem__, words))

    def _words(self, name: str) -> list[bytes]:
        before = self._names.index(name)
        behind = len(self._names) - before
        if self._lines is None:
            first, last = self._ends[before : before + 2]
            return [self._text[at + first : at + last] for at in self._begins]
        if before < behind:
            return [line.split(None, before + 1)[before] for line in self._lines]
        return [line.rsplit(None, behind)[-behind] for line in self._lines]

    def _reckoned(self, name: str) -> list[int]:
        if name == "claimed":
            return self._claimed()
        if self.kind == "shm":
            return _interned(rss + swap for rss, swap in zip(self.column("rss"), self.column("swap"), strict=True))
        if self.kind == "sem":
            return _interned(number * _SEMAPHORE for number in self.column("nsems"))
        pairs = zip(self.column("usedbytes"), self.column("msgs"), strict=True)
        return _interned(used + messages * _MESSAGE for used, messages in pairs)

    def _claimed(self) -> list[int]:
        if self.kind != "shm":
            return self.column("bytes")
        return _interned(-(-size // self._page) * self._page for size in self.column("size"))

    def object(self, index: int) -> Object:
        """Return one object, as it goes into a record."""
        if self._lines is None:
            begin = self._begins[index]
            words = self._text[begin : begin + self._ends[-1]].split()
        else:
            words = self._lines[index].split()
        found: Object = {name: int(word) for name, word in zip(self._names, words, strict=True)}
        perms = int(words[2], 8)
        status = [word for bit, word in ((_SHM_DEST, "dest"), (_SHM_LOCKED, "locked")) if perms & bit]
        found.update(kind=self.kind, key=f"0x{int(words[0]) & 0xFFFFFFFF:08x}", perms=f"{perms & 0o777:04o}")
        found.update(owner=str(found["owner"]), status=",".join(status))
        found.update(bytes=self.column("bytes")[index], claimed=self.column("claimed")[index])
        told = f"kind key id perms owner gid cuid cgid {_TOLD[self.kind]} bytes claimed"
        return {name: found[name] for name in told.split()}


def _interned(numbers: Iterable[int]) -> list[int]:
    """Return numbers of which those that are alike are one object."""
    known: dict[int, int] = {}
    return [known.setdefault(number, number) for number in numbers]


class Inventory:
    """All objects that are visible in a namespace.

    `chosen` are some of them, as indices by kind; a kind that it does not name has none.  Without it: all of them.
    """

    def __init__(self, tables: dict[str, Table], queues: list[Object], inodes: Sequence[int] = ()) -> None:
        """Take the tables of shm, sem and msg, and the POSIX queues with their inode numbers, if these matter."""
        self.tables = tables
        self.queues = queues
        self.inodes = inodes

    def __len__(self) -> int:
        """Return how many objects there are."""
        return sum(map(len, self.tables.values())) + len(self.queues)

    def object(self, kind: str, index: int) -> Object:
        """Return one object, as it goes into a record."""
        return self.tables[kind].object(index) if kind in self.tables else self.queues[index]

    def objects(self) -> list[Object]:
        """Return all objects by kind, in the kernel's order."""
        return [self.object(kind, index) for kind in KINDS for index in self._indices(kind, None)]

    def totals(self, chosen: Chosen | None = None) -> dict[str, Document]:
        """Return {shm, sem, msg, mqueue}: {count, bytes (held), claimed}."""
        found: dict[str, Document] = {}
        for kind in KINDS:
            these = self._indices(kind, chosen)
            held, claimed = self._column(kind, "bytes"), self._column(kind, "claimed")
            found[kind] = {
                "count": len(these),
                "bytes": sum([held[index] for index in these]),
                "claimed": sum([claimed[index] for index in these]),
            }
        return found

    def largest(self, most: int = MOST_OBJECTS, chosen: Chosen | None = None) -> list[Object]:
        """Return at most `most` objects, the largest first: bytes held, then claimed, then the kernel's order."""
        found: list[Object] = []
        for kind in KINDS:
            # Two sorts that keep the order of equals: no pair is made of the two numbers of 32 768 objects.
            ranked = sorted(self._indices(kind, chosen), key=self._column(kind, "claimed").__getitem__, reverse=True)
            ranked.sort(key=self._column(kind, "bytes").__getitem__, reverse=True)
            found += [self.object(kind, index) for index in ranked[:most]]
        return sorted(found, key=lambda each: (-int(each["bytes"]), -int(each["claimed"])))[:most]

    def _indices(self, kind: str, chosen: Chosen | None) -> Sequence[int]:
        if chosen is not None:
            return chosen.get(kind, ())
        return range(len(self.tables.get(kind, self.queues)))

    def _column(self, kind: str, name: str) -> list[int]:
        if kind in self.tables:
            return self.tables[kind].column(name)
        return [int(each[name]) for each in self.queues]


def mqueue(
    name: bytes,
    owner: tuple[int, int, int],
    times: tuple[int, int],
    status: tuple[int, int, int, int | None] | None,
    notify: int = 0,
) -> Object:
    """Return a POSIX queue as an object.

    `owner` is (uid, gid, mode), `times` (ctime, mtime), `status` (mq_maxmsg, mq_msgsize, messages, bytes in them),
    `notify` who waits to be told of a message.  Where the bytes are None, for they were not read, `bytes` are the most
    that can be in so many messages.  Without `status`, where it could not be opened, nothing is known of what it holds.
    """
    uid, gid, mode = owner
    plain = name.isascii() and all(0x20 <= byte <= 0x7E for byte in name)
    found: Object = {"kind": "mqueue", "name": f"/{name.decode('ascii')}"} if plain else {"kind": "mqueue"}
    if not plain:
        found["name_hex"] = name.hex()
    found.update(perms=f"{mode & 0o7777:04o}", owner=str(uid), gid=gid, ctime=times[0], mtime=times[1])
    if status is None:
        found.update(bytes=0, claimed=0)
        return found
    most, size, messages, used = status
    found.update(maxmsg=most, msgsize=size, msgs=messages)
    if used is not None:
        found["usedbytes"] = used
    if notify:
        found["notify"] = notify
    found["bytes"] = (messages * size if used is None else used) + messages * _QUEUED
    found["claimed"] = most * size + most * _QUEUED + min(most, _TREE_NODES) * _QUEUED
    return found


def queue_status(content: bytes) -> tuple[int, int]:
    """Return what a queue's file says: QSIZE, the bytes of its messages' bodies, and NOTIFY_PID, 0 for nobody."""
    return int(content.partition(b"QSIZE:")[2].split(None, 1)[0]), int(content.partition(b"NOTIFY_PID:")[2])
