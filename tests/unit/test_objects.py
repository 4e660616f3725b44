"""IPC objects are read from the very lines that the kernel prints, however wide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.objects import KINDS, MOST_OBJECTS, Inventory, Table, mqueue, queue_status

if TYPE_CHECKING:
    from ipcwarden.core.objects import Object

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


def parsed(kind: str, *rows: tuple[int, ...]) -> list[Object]:
    """Return the objects of a table."""
    made = Table(kind, table(kind, *rows), PAGE)
    return [made.object(index) for index in range(len(made))]


# Numbers that fit into the columns that the kernel has for them.
SMALL_KEY, SMALL = st.integers(0, 2**31 - 1), st.integers(0, 99999)
NARROW_ROWS = {
    "shm": st.tuples(SMALL_KEY, INT, PERMS, LONG, *[SMALL] * 7, *[INT] * 3, LONG, LONG),
    "sem": st.tuples(SMALL_KEY, INT, PERMS, INT, *[SMALL] * 4, INT, INT),
    "msg": st.tuples(SMALL_KEY, INT, PERMS, INT, INT, *[SMALL] * 6, *[INT] * 3),
}
ROWS = {"shm": SHM_ROW, "sem": SEM_ROW, "msg": MSG_ROW}
TABLES = st.sampled_from(sorted(ROWS)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(NARROW_ROWS[kind], max_size=3) | st.lists(ROWS[kind], max_size=5))  # type: ignore[arg-type]  # rows differ
)
# What a record calls the kernel's columns, where it does not call them the same.
CALLED = {"uid": "owner", "atime": "attach", "dtime": "detach", "stime": "send", "rtime": "recv"}
CALLED |= {"shmid": "id", "semid": "id", "msqid": "id", "cbytes": "usedbytes", "qnum": "msgs"}


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_columns_are_this_kernels(kind: str) -> None:
    """The tables here have the columns of the kernel that runs these tests."""
    head = Path("/proc/sysvipc", kind).read_text(encoding="ascii").splitlines()[0]
    assert head.split() == HEADS[kind].split()


@given(SHM_ROW)
def test_reads_shared_memory(row: tuple[int, ...]) -> None:
    """Every column of a segment arrives under lsipc's name."""
    key, number, perms, size, cpid, lpid, nattch, uid, gid, cuid, cgid, atime, dtime, ctime, rss, swap = row
    (found,) = parsed("shm", row)
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
    (found,) = parsed("sem", row)
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
    (found,) = parsed("msg", row)
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
    made = Table("shm", table("shm", row), page)
    assert (made.object(0)["claimed"], made.column("claimed")) == (claimed, [claimed])


@given(st.lists(SEM_ROW, max_size=5))
def test_keeps_the_kernels_order(rows: list[tuple[int, ...]]) -> None:
    """A line is an object, in the order of the table; the header is none."""
    assert [each["id"] for each in parsed("sem", *rows)] == [row[1] for row in rows]


@given(TABLES)
def test_cuts_every_column(rows: tuple[str, list[tuple[int, ...]]]) -> None:
    """A column is what stands below its heading, however wide the numbers before and behind it are."""
    kind, those = rows
    made = Table(kind, table(kind, *those), PAGE)
    for number, word in enumerate(HEADS[kind].split()):
        assert made.column(CALLED.get(word, word)) == [row[number] for row in those]


@given(TABLES)
def test_columns_are_what_objects_say(rows: tuple[str, list[tuple[int, ...]]]) -> None:
    """A column has the numbers of the objects, also where those were reckoned."""
    kind, those = rows
    made = Table(kind, table(kind, *those), PAGE)
    for name in ("id", "bytes", "claimed", "ctime", "gid"):
        assert made.column(name) == [made.object(index)[name] for index in range(len(made))]


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_finds_nothing_in_an_empty_table(kind: str) -> None:
    """A header alone, and not even that, hold no object."""
    for text in (table(kind), b""):
        made = Table(kind, text, PAGE)
        assert (len(made), made.column("id"), made.column("bytes")) == (0, [], [])


@pytest.mark.parametrize("kind", ["shm", "sem", "msg"])
def test_reads_the_live_table(kind: str) -> None:
    """What this machine has now is read to the last object."""
    data = Path("/proc/sysvipc", kind).read_bytes()
    made = Table(kind, data, PAGE)
    assert len(made) == len(made.column("ctime")) == data.count(b"\n") - 1


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
def test_reads_what_a_queues_file_says(size: int, notify: int, signal: int, pid: int) -> None:
    """QSIZE and NOTIFY_PID are read from the line of mqueue_read_file (ipc/mqueue.c), however wide."""
    line = f"QSIZE:{size:<10} NOTIFY:{notify:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n"
    assert queue_status(line.encode()) == (size, pid)


def test_tells_who_waits() -> None:
    """Who has asked to be notified is told, and only where there is somebody."""
    status = (10, 8192, 3, 100)
    assert mqueue(b"q", (0, 0, 0), (0, 0), status, 77)["notify"] == 77
    assert "notify" not in mqueue(b"q", (0, 0, 0), (0, 0), status)


def test_an_unread_queue_holds_at_most_so_much() -> None:
    """Where the file was not read, for that moves its times, bytes are the most that so many messages can have."""
    found = mqueue(b"q", (0, 0, 0), (0, 0), (10, 8192, 3, None))
    assert found["bytes"] == 3 * (8192 + 48)
    assert "usedbytes" not in found


def test_a_queue_that_cannot_be_opened_is_told_all_the_same() -> None:
    """Its name, owner and times are known without; nothing is said of what is in it."""
    found = mqueue(b"q", (1000, 1001, 0o100000), (5, 6), None)
    assert found.pop("bytes") == found.pop("claimed") == 0
    assert found == {
        "kind": "mqueue",
        "name": "/q",
        "perms": "0000",
        "owner": "1000",
        "gid": 1001,
        "ctime": 5,
        "mtime": 6,
    }


def test_knows_four_kinds() -> None:
    """The kinds are those of the records' interface, in its order."""
    assert KINDS == ("shm", "sem", "msg", "mqueue")


NOTHING = {"count": 0, "bytes": 0, "claimed": 0}
AMOUNT = st.integers(0, 2**40)
SEGMENT = st.tuples(AMOUNT, AMOUNT)  # bytes held, bytes asked for


def segment(held: int, size: int, number: int = 0) -> tuple[int, ...]:
    """Return the line of a segment."""
    return (0, number, 0o600, size, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, held, 0)


def inventory(*segments: tuple[int, int], queues: int = 0) -> Inventory:
    """Return an inventory of segments, numbered in their order, and POSIX queues."""
    rows = [segment(held, size, number) for number, (held, size) in enumerate(segments)]
    tables = {kind: Table(kind, table(kind, *(rows if kind == "shm" else ())), PAGE) for kind in ("shm", "sem", "msg")}
    return Inventory(tables, [queue(b"q%d" % number) for number in range(queues)])


def test_adds_up_by_kind() -> None:
    """Each kind has its count, what is held and what is claimed; a kind without objects has zeros."""
    found = inventory((1, 10), (2, 4097), queues=2)
    assert found.totals() == {
        "shm": {"count": 2, "bytes": 3, "claimed": 3 * PAGE},
        "sem": NOTHING,
        "msg": NOTHING,
        "mqueue": {"count": 2, "bytes": 2 * 244, "claimed": 2 * 82880},
    }
    assert len(found) == 4


def test_adds_up_what_was_chosen() -> None:
    """Totals of some objects are theirs alone; a kind of which none was chosen has zeros."""
    assert inventory((1, 0), (2, 0), (4, 0), queues=2).totals({"shm": [0, 2]}) == {
        "shm": {"count": 2, "bytes": 5, "claimed": 0},
        "sem": NOTHING,
        "msg": NOTHING,
        "mqueue": NOTHING,
    }


@given(st.lists(SEGMENT, max_size=12), st.integers(0, 3))
def test_forgets_no_object(segments: list[tuple[int, int]], queues: int) -> None:
    """What is added up is what the objects say one by one."""
    found = inventory(*segments, queues=queues)
    for kind, total in found.totals().items():
        these = [each for each in found.objects() if each["kind"] == kind]
        sums = {name: sum(int(each[name]) for each in these) for name in ("bytes", "claimed")}
        assert total == {"count": len(these), **sums}


@given(st.lists(SEGMENT, max_size=12), st.integers(0, 3), st.integers(0, 12))
def test_leaves_out_the_smallest(segments: list[tuple[int, int]], queues: int, most: int) -> None:
    """What is shown is the beginning of all objects, ordered by bytes held, claimed, and as the kernel has them."""
    found = inventory(*segments, queues=queues)
    ordered = sorted(found.objects(), key=lambda each: (-int(each["bytes"]), -int(each["claimed"])))
    assert found.largest(most) == ordered[:most]


def test_puts_the_largest_first() -> None:
    """Bytes held count first, then bytes claimed, then the kernel's order."""
    found = inventory((0, 0), (1, 5 * PAGE), (7, 0), (1, 9 * PAGE), (1, 5 * PAGE))
    assert [each["id"] for each in found.largest()] == [2, 3, 1, 4, 0]


def test_shows_the_largest_of_what_was_chosen() -> None:
    """What was not chosen is not shown, however large."""
    found = inventory((9, 0), (1, 0), (5, 0), queues=1)
    assert [each["id"] for each in found.largest(chosen={"shm": [1, 2]})] == [2, 1]


def test_shows_a_hundred() -> None:
    """However many there are, a record's list is bounded."""
    assert len(inventory(*[(number, 0) for number in range(200)]).largest()) == MOST_OBJECTS == 100
