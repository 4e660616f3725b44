"""IPC objects as the kernel lists them: /proc/sysvipc (sysvipc(5)) and the mqueue filesystem (mq_overview(7)).

An object is a dict that goes into a record as it is, under the names that `lsipc -J` uses, in lower case; `size` and
the like are bytes.  `bytes` is the memory it holds now, `claimed` what it counts for against a limit.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Object: TypeAlias = dict[str, int | str]

KINDS = ("shm", "sem", "msg", "mqueue")
_SHM_DEST, _SHM_LOCKED = 0o1000, 0o2000  # linux/shm.h, shown among the permissions
_SEMAPHORE = 64  # sizeof(struct sem), ipc/sem.c
_MESSAGE = 72  # struct msg_msg and the slab's rounding: what an empty message takes
_QUEUED = 48  # struct msg_msg, as mqueue_get_tree_node_size charges it to RLIMIT_MSGQUEUE (ipc/mqueue.c)
_TREE_NODES = 32768


def parse_table(kind: str, table: bytes, page: int) -> list[Object]:
    """Parse one of /proc/sysvipc/{shm,sem,msg}, in the kernel's order.  `page` is the page size in bytes."""
    parse = {"shm": _shm, "sem": _sem, "msg": _msg}[kind]
    return [parse([int(word) for word in _octal(line)], page) for line in table.splitlines()[1:]]


def _octal(line: bytes) -> list[bytes | str]:
    # The third column is octal in all three tables; the rest is decimal.
    words: list[bytes | str] = list(line.split())
    words[2] = str(int(words[2], 8))
    return words


def _key(number: int) -> str:
    return f"0x{number & 0xFFFFFFFF:08x}"


def _base(kind: str, columns: list[int], owner: int) -> Object:
    uid, gid, cuid, cgid = columns[owner : owner + 4]
    return {
        "kind": kind,
        "key": _key(columns[0]),
        "id": columns[1],
        "perms": f"{columns[2] & 0o777:04o}",
        "owner": str(uid),
        "gid": gid,
        "cuid": cuid,
        "cgid": cgid,
    }


def _shm(columns: list[int], page: int) -> Object:
    # key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap
    found = _base("shm", columns, 7)
    size, flags = columns[3], columns[2]
    status = [word for bit, word in ((_SHM_DEST, "dest"), (_SHM_LOCKED, "locked")) if flags & bit]
    found.update(size=size, nattch=columns[6], status=",".join(status), ctime=columns[13], attach=columns[11])
    found.update(detach=columns[12], cpid=columns[4], lpid=columns[5])
    found.update(bytes=columns[14] + columns[15], claimed=-(-size // page) * page)
    return found


def _sem(columns: list[int], _page: int) -> Object:
    # key semid perms nsems uid gid cuid cgid otime ctime
    found = _base("sem", columns, 4)
    size = columns[3] * _SEMAPHORE
    found.update(nsems=columns[3], otime=columns[8], ctime=columns[9], bytes=size, claimed=size)
    return found


def _msg(columns: list[int], _page: int) -> Object:
    # key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime
    found = _base("msg", columns, 7)
    size = columns[3] + columns[4] * _MESSAGE
    found.update(usedbytes=columns[3], msgs=columns[4], ctime=columns[13], send=columns[11], recv=columns[12])
    found.update(lspid=columns[5], lrpid=columns[6], bytes=size, claimed=size)
    return found


def mqueue(
    name: bytes, owner: tuple[int, int, int], times: tuple[int, int], status: tuple[int, int, int, int]
) -> Object:
    """Return a POSIX queue as an object.

    `owner` is (uid, gid, mode), `times` (ctime, mtime), `status` (mq_maxmsg, mq_msgsize, messages, bytes in them).
    """
    most, size, messages, used = status
    uid, gid, mode = owner
    plain = name.isascii() and all(0x20 <= byte <= 0x7E for byte in name)
    found: Object = {"kind": "mqueue", "name": f"/{name.decode('ascii')}"} if plain else {"kind": "mqueue"}
    if not plain:
        found["name_hex"] = name.hex()
    found.update(perms=f"{mode & 0o7777:04o}", owner=str(uid), gid=gid, ctime=times[0], mtime=times[1])
    found.update(maxmsg=most, msgsize=size, msgs=messages, usedbytes=used, bytes=used + messages * _QUEUED)
    found["claimed"] = most * size + most * _QUEUED + min(most, _TREE_NODES) * _QUEUED
    return found


def queued_bytes(status: bytes) -> int:
    """Return QSIZE of a queue's file: the bytes of its messages' bodies."""
    return int(status.partition(b"QSIZE:")[2].split(None, 1)[0])
