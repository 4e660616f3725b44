"""IPC objects are read from the very lines that the kernel prints, however wide."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.objects import KINDS, mqueue, parse_table, queued_bytes

PAGE = 4096

# The formats of sysvipc_shm_proc_show (ipc/shm.c), sysvipc_sem_proc_show (ipc/sem.c) and
# sysvipc_msg_proc_show (ipc/msg.c) on 64 bits; Python needs no length of a number.
SHM = "%10d %10d  %4o %21u %5u %5u  %5u %5u %5u %5u %5u %10u %10u %10u %21u %21u\n"
SEM = "%10d %10d  %4o %10u %5u %5u %5u %5u %10u %10u\n"
MSG = "%10d %10d  %4o  %10u %10u %5u %5u %5u %5u %5u %5u %10u %10u %10u\n"
HEADS = {
    "shm": "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap",
    "sem": "key semid perms nsems uid gid cuid cgid otime ctime",
    "msg": "key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime",
}
FORMATS = {"shm": SHM, "sem": SEM, "msg": MSG}

KEY = st.integers(-(2**31), 2**31 - 1)
INT = st.integers(0, 2**31 - 1)
UID = st.integers(0, 2**32 - 1)
LONG = st.integers(0, 2**64 - 1)
TIME = st.integers(0, 2**40)
PERMS = st.integers(0, 0o777)
SHM_ROW = st.tuples(
    KEY, INT, st.integers(0, 0o3777), LONG, INT, INT, LONG, UID, UID, UID, UID, TIME, TIME, TIME, LONG, LONG
)
SEM_ROW = st.tuples(KEY, INT, PERMS, INT, UID, UID, UID, UID, TIME, TIME)
MSG_ROW = st.tuples(KEY, INT, PERMS, LONG, LONG, INT, INT, UID, UID, UID, UID, TIME, TIME, TIME)


def table(kind: str, *rows: tuple[int, ...]) -> bytes:
    """Return a table as the kernel prints it."""
    return f"       {HEADS[kind]}\n{''.join(FORMATS[kind] % row for row in rows)}".encode()


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_columns_are_this_kernels(kind: str) -> None:
    """The tables here have the columns of the kernel that runs these tests."""
    head = Path("/proc/sysvipc", kind).read_text(encoding="ascii").splitlines()[0]
    assert head.split() == HEADS[kind].split()


@given(SHM_ROW)
def test_reads_shared_memory(row: tuple[int, ...]) -> None:
    """Every column of a segment arrives under lsipc's name."""
    key, number, perms, size, cpid, lpid, nattch, uid, gid, cuid, cgid, atime, dtime, ctime, rss, swap = row
    (found,) = parse_table("shm", table("shm", row), PAGE)
    status = {0: "", 0o1000: "dest", 0o2000: "locked", 0o3000: "dest,locked"}[perms & 0o3000]
    assert found == {
        "kind": "shm",
        "key": f"0x{key % 2**32:08x}",
        "id": number,
        "perms": f"{perms % 0o1000:04o}",
        "owner": str(uid),
        "gid": gid,
        "cuid": cuid,
        "cgid": cgid,
        "size": size,
        "nattch": nattch,
        "status": status,
        "ctime": ctime,
        "attach": atime,
        "detach": dtime,
        "cpid": cpid,
        "lpid": lpid,
        "bytes": rss + swap,
        "claimed": (size + PAGE - 1) // PAGE * PAGE,
    }


@given(SEM_ROW)
def test_reads_semaphores(row: tuple[int, ...]) -> None:
    """Every column of a set of semaphores arrives under lsipc's name."""
    key, number, perms, nsems, uid, gid, cuid, cgid, otime, ctime = row
    (found,) = parse_table("sem", table("sem", row), PAGE)
    assert found == {
        "kind": "sem",
        "key": f"0x{key % 2**32:08x}",
        "id": number,
        "perms": f"{perms:04o}",
        "owner": str(uid),
        "gid": gid,
        "cuid": cuid,
        "cgid": cgid,
        "nsems": nsems,
        "otime": otime,
        "ctime": ctime,
        "bytes": nsems * 64,
        "claimed": nsems * 64,
    }


@given(MSG_ROW)
def test_reads_message_queues(row: tuple[int, ...]) -> None:
    """Every column of a queue arrives under lsipc's name; an empty message takes memory too."""
    key, number, perms, cbytes, qnum, lspid, lrpid, uid, gid, cuid, cgid, stime, rtime, ctime = row
    (found,) = parse_table("msg", table("msg", row), PAGE)
    assert found == {
        "kind": "msg",
        "key": f"0x{key % 2**32:08x}",
        "id": number,
        "perms": f"{perms:04o}",
        "owner": str(uid),
        "gid": gid,
        "cuid": cuid,
        "cgid": cgid,
        "usedbytes": cbytes,
        "msgs": qnum,
        "ctime": ctime,
        "send": stime,
        "recv": rtime,
        "lspid": lspid,
        "lrpid": lrpid,
        "bytes": cbytes + qnum * 72,
        "claimed": cbytes + qnum * 72,
    }


@pytest.mark.parametrize(
    ("size", "page", "claimed"),
    [(0, 4096, 0), (1, 4096, 4096), (4096, 4096, 4096), (4097, 4096, 8192), (1, 65536, 65536), (2**40, 4096, 2**40)],
)
def test_claims_whole_pages(size: int, page: int, claimed: int) -> None:
    """A segment counts against shmall in pages, whatever of it was touched."""
    row = (0, 0, 0o600, size, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert parse_table("shm", table("shm", row), page)[0]["claimed"] == claimed


@given(st.lists(SEM_ROW, max_size=5))
def test_keeps_the_kernels_order(rows: list[tuple[int, ...]]) -> None:
    """A line is an object, in the order of the table; the header is none."""
    assert [each["id"] for each in parse_table("sem", table("sem", *rows), PAGE)] == [row[1] for row in rows]


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_finds_nothing_in_an_empty_table(kind: str) -> None:
    """A header alone, and not even that, hold no object."""
    assert parse_table(kind, table(kind), PAGE) == parse_table(kind, b"", PAGE) == []


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_reads_the_live_table(kind: str) -> None:
    """What this machine has now is read to the last object."""
    data = Path("/proc/sysvipc", kind).read_bytes()
    assert len(parse_table(kind, data, PAGE)) == data.count(b"\n") - 1


def queue(name: bytes) -> dict[str, int | str]:
    """Return a queue of some name."""
    return mqueue(name, (1000, 1001, 0o100640), (5, 6), (10, 8192, 3, 100))


def test_reads_a_posix_queue() -> None:
    """A queue has its attributes, the memory it holds and what it counts for against RLIMIT_MSGQUEUE."""
    assert queue(b"jobs") == {
        "kind": "mqueue",
        "name": "/jobs",
        "perms": "0640",
        "owner": "1000",
        "gid": 1001,
        "ctime": 5,
        "mtime": 6,
        "maxmsg": 10,
        "msgsize": 8192,
        "msgs": 3,
        "usedbytes": 100,
        "bytes": 100 + 3 * 48,
        "claimed": 10 * 8192 + 10 * 48 + 10 * 48,
    }


@pytest.mark.parametrize(
    ("most", "size", "claimed"),
    [
        (1, 1, 97),
        (32768, 1, 32768 * 97),
        (32769, 1, 32769 * 49 + 32768 * 48),
        (65536, 16777216, 65536 * 16777264 + 1572864),
    ],
)
def test_claims_what_the_kernel_charges(most: int, size: int, claimed: int) -> None:
    """The kernel charges for every message a node of its own, but for no more than 32768 of them a tree node."""
    assert mqueue(b"q", (0, 0, 0), (0, 0), (most, size, 0, 0))["claimed"] == claimed


@pytest.mark.parametrize("name", [b"a", b"a b", b"~!#$%^&*()", b"...", b"-rf", b"a" * 255, b"\"'\\", b"<script>"])
def test_tells_a_plain_name(name: bytes) -> None:
    """A name of printable ASCII is told as it is, behind a slash."""
    found = queue(name)
    assert (found["name"], "name_hex" in found) == (f"/{name.decode()}", False)


@pytest.mark.parametrize("name", [b"\n", b"\x1b[2J", b"\xff", b"gr\xc3\xb6\xc3\x9fe", b"a\x7f", b"\t", b"\xe2\x80\xae"])
def test_tells_a_hostile_name_in_hex(name: bytes) -> None:
    """A name that could move a cursor or a column is told in hex alone."""
    found = queue(name)
    assert (found["name_hex"], "name" in found) == (name.hex(), False)


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_tells_every_name_apart(name: bytes) -> None:
    """Whatever the kernel takes for a name can be had back, and nothing of it is unprintable."""
    found = queue(name)
    back = bytes.fromhex(str(found["name_hex"])) if "name_hex" in found else str(found["name"])[1:].encode("ascii")
    assert back == name
    assert str(found).isprintable()


@given(st.integers(0, 2**63), st.integers(0, 2), st.integers(0, 64), st.integers(0, 2**22))
def test_reads_the_bytes_of_a_queue(size: int, notify: int, signal: int, pid: int) -> None:
    """QSIZE is read from the line of mqueue_read_file (ipc/mqueue.c), however wide."""
    line = f"QSIZE:{size:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n"
    assert queued_bytes(line.encode()) == size


def test_knows_four_kinds() -> None:
    """The kinds are those of the records' interface, in its order."""
    assert KINDS == ("shm", "sem", "msg", "mqueue")
