"""What we list is what the kernel has: lsipc, ipcs and /proc/sysvipc say the same, whatever is generated."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import creator, namespace
from support.bundle import PAYLOADS
from support.schema import validate
from support.shell import run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.sandbox import Container

KINDS = ("shm", "sem", "msg")
_numbers = count(1)

# A program of the product's own rooms, in the namespace that it is started in.
_TAKE = """
import json, sys
from ipcwarden.host.inventory import take_inventory
found = take_inventory(quietly=sys.argv[1] == "quietly")
print(json.dumps({"objects": found.objects(), "totals": found.totals(), "largest": found.largest()}))
"""

KEYS = st.one_of(st.just(0), st.integers(1, 2**31 - 1), st.integers(-(2**31), -1))
UIDS = st.sampled_from([0, 0, 1000, 99999, 100000, 4294967294])
MODES = st.integers(0, 0o777).map(lambda mode: mode | 0o600)  # whoever makes an object uses it
SEGMENTS = st.fixed_dictionaries(
    {
        "kind": st.just("shm"),
        "key": KEYS,
        "uid": UIDS,
        "mode": MODES,
        "size": st.one_of(st.integers(1, 50000), st.just(2**40)),
        "touched": st.integers(0, 4),
        "attach": st.booleans(),
        "removed": st.booleans(),
        "locked": st.booleans(),
    }
).map(lambda each: {**each, "locked": each["locked"] and each["size"] < 2**40})  # RLIMIT_MEMLOCK
ARRAYS = st.fixed_dictionaries(
    {
        "kind": st.just("sem"),
        "key": KEYS,
        "uid": UIDS,
        "mode": MODES,
        "size": st.integers(1, 100),
        "used": st.booleans(),
    }
)
QUEUES = st.fixed_dictionaries(
    {
        "kind": st.just("msg"),
        "key": KEYS,
        "uid": UIDS,
        "mode": MODES,
        "messages": st.lists(st.integers(0, 8192), max_size=2),
    }
)
NAMES = st.one_of(
    st.binary(min_size=1, max_size=255).filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b"..")),
    st.sampled_from([b"new\nline", b"bad\xff\xfeutf8", b"\x1b[31m", b"x" * 255, b"...", b"\xc3\xa9"]),
)
POSIX_QUEUES = st.fixed_dictionaries(
    {
        "kind": st.just("mqueue"),
        "name": NAMES.map(bytes.hex),
        "uid": UIDS,
        "mode": st.integers(0, 0o777),
        "most": st.integers(2, 10),
        "size": st.integers(64, 8192),
        "messages": st.lists(st.integers(0, 64), max_size=2),
    }
)


def what(each: dict[str, Any]) -> object:
    """Return what there can be only one of."""
    if each["kind"] == "mqueue":
        return each["name"]
    return (each["kind"], each["key"]) if each["key"] else next(_numbers)


SETS = st.lists(st.one_of(SEGMENTS, ARRAYS, QUEUES, POSIX_QUEUES), min_size=4, max_size=12, unique_by=what)


@contextlib.contextmanager
def populated(objects: list[dict[str, Any]]) -> Iterator[Path]:
    """Make objects in a namespace of their own, which is gone afterwards."""
    command = ["unshare", "--ipc", sys.executable, creator.__file__]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(objects) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "made\n"
        yield Path(f"/proc/{process.pid}/ns/ipc")
    finally:
        process.communicate()


@contextlib.contextmanager
def started(*command: str | Path) -> Iterator[Path]:
    """Start a program in a namespace of its own, which it has to fill, say so, and stay in."""
    process = subprocess.Popen(["unshare", "--ipc", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("made")
        yield Path(f"/proc/{process.pid}/ns/ipc")
    finally:
        process.kill()
        process.communicate()


def left(*options: str) -> contextlib.AbstractContextManager[Path]:
    """Make objects with the payload `leave`, in a namespace of their own."""
    return started(PAYLOADS / "leave", *options, "--wait")


def full(limits: str, options: str) -> contextlib.AbstractContextManager[Path]:
    """Do so where the namespace has other limits."""
    return started("sh", "-euc", f"sysctl -qw {limits}; exec '{PAYLOADS}/leave' {options} --wait")


def inside(place: Path, program: str, *arguments: str) -> Any:
    """Run a Python program in a namespace and return the JSON that it prints."""
    return json.loads(run("nsenter", f"--ipc={place}", sys.executable, "-c", program, *arguments).check().stdout)


def taken(place: Path, how: str = "") -> Any:
    """Return our inventory of a namespace."""
    return inside(place, _TAKE, how)


def by_id(found: Any, kind: str) -> dict[int, dict[str, Any]]:
    """Return the objects of a kind by their ids."""
    return {each["id"]: each for each in found["objects"] if each["kind"] == kind}


def queues_of(found: Any) -> dict[bytes, dict[str, Any]]:
    """Return the POSIX queues by their names, without the slash."""
    queues = [each for each in found["objects"] if each["kind"] == "mqueue"]
    return {
        bytes.fromhex(each["name_hex"]) if "name_hex" in each else each["name"][1:].encode(): each for each in queues
    }


def rows_of_proc(place: Path, kind: str) -> list[list[str]]:
    """Return /proc/sysvipc, word by word."""
    listing = run("nsenter", f"--ipc={place}", "cat", f"/proc/sysvipc/{kind}").check().stdout
    return [line.split() for line in listing.splitlines()[1:]]


def told(rows: dict[int, dict[str, Any]], like: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return of each object what the other list tells of it."""
    return {number: {name: row[name] for name in like.get(number, row)} for number, row in rows.items()}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(SETS)
def test_lists_what_the_kernel_lists(objects: list[dict[str, Any]]) -> None:
    """Whatever stands in a namespace, util-linux, the kernel's tables and we say the same of it."""
    with populated(objects) as place:
        found = taken(place)
        for kind in KINDS:
            ours, rows = by_id(found, kind), rows_of_proc(place, kind)
            assert list(ours) == [int(row[1]) for row in rows]
            for theirs in (namespace.told_by_lsipc(place, kind), namespace.told_by_ipcs(place, kind)):
                assert told(ours, theirs) == theirs
            if kind == "shm":
                assert found["totals"]["shm"]["bytes"] == sum(int(row[-2]) + int(row[-1]) for row in rows)
            assert found["totals"][kind]["count"] == len(rows)
        assert sorted(os.fsdecode(name) for name in queues_of(found)) == namespace.queues(place)
    for asked in objects:
        if asked["kind"] == "mqueue":
            each = queues_of(found)[bytes.fromhex(asked["name"])]
            assert (each["maxmsg"], each["msgsize"], each["msgs"]) == (
                asked["most"],
                asked["size"],
                len(asked["messages"]),
            )
            assert (each["usedbytes"], each["perms"]) == (sum(asked["messages"]), f"{asked['mode']:04o}")
            assert each["owner"] == str(asked["uid"])


def test_tells_what_is_removed_and_locked() -> None:
    """A segment that was removed while attached, and one that is locked, have their status."""
    common = {"kind": "shm", "uid": 0, "mode": 0o600, "size": 5000, "touched": 1}
    objects = [
        {**common, "key": 1, "attach": True, "removed": True, "locked": False},
        {**common, "key": 2, "attach": False, "removed": False, "locked": True},
        {**common, "key": 3, "attach": True, "removed": True, "locked": True},
    ]
    with populated(objects) as place:
        found = taken(place)["objects"]
    assert [(each["status"], each["nattch"], each["bytes"]) for each in found] == [
        ("dest", 1, 4096),
        ("locked", 0, 4096),
        ("dest,locked", 1, 4096),
    ]


def test_counts_every_kind_to_the_last() -> None:
    """Totals are exact where a namespace is as full as the kernel lets it be, and the largest are found among all."""
    limits = "kernel.shmmni=32768 kernel.sem='32000 1024000000 500 32768' kernel.msgmni=32768"
    with full(limits, "--shm=32767 --sem=32768 --msg=32768 --shm-touch=0") as place:
        run("nsenter", f"--ipc={place}", PAYLOADS / "leave", "--shm=1", "--shm-size=20000").check()
        found = taken(place)
    assert found["totals"]["shm"] == {"count": 32768, "bytes": 20480, "claimed": 32767 * 4096 + 20480}
    assert found["totals"]["sem"] == {"count": 32768, "bytes": 32768 * 64, "claimed": 32768 * 64}
    assert found["totals"]["msg"] == {"count": 32768, "bytes": 32768 * 88, "claimed": 32768 * 88}
    assert len(found["largest"]) == 100
    assert found["largest"][0]["size"] == 20000


def test_thousands_of_queues() -> None:
    """A namespace with thousands of POSIX queues is listed whole, and no descriptor is kept."""
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n"
    with full("fs.mqueue.queues_max=3000", "--mqueue=3000 --mqueue-count=0 --mqueue-size=1 --mqueue-depth=1") as place:
        assert inside(place, few + _TAKE, "")["totals"]["mqueue"]["count"] == 3000


TIMES = """
import json, os, time
from ipcwarden.host.inventory import take_inventory
from ipcwarden.syscalls import mount_mqueue
directory = mount_mqueue()
def times():
    status = os.stat("left", dir_fd=directory)
    return [status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns]
at_first = times()
while time.clock_gettime(5) < at_first[2] // 10**9 + 1:  # the file system counts seconds, by CLOCK_REALTIME_COARSE
    pass
[quiet] = take_inventory(quietly=True).objects()
after_quiet = times()
[loud] = take_inventory().objects()
print(json.dumps({"times": [at_first, after_quiet, times()], "objects": [quiet, loud]}))
"""


def test_disturbs_no_queue_of_the_living() -> None:
    """The quiet way leaves a queue's times as they were, and knows its attributes; the other one moves them."""
    with left("--mqueue=1", "--mqueue-size=64", "--mqueue-depth=8", "--mqueue-count=3") as place:
        found = inside(place, TIMES)
    at_first, after_quiet, after_loud = found["times"]
    assert at_first == after_quiet != after_loud
    quiet, loud = found["objects"]
    assert {**quiet, "usedbytes": 192, "bytes": loud["bytes"]} == loud
    assert (quiet["bytes"], loud["bytes"]) == (3 * (64 + 48), 192 + 3 * 48)


def test_a_queue_that_may_not_be_opened_loses_nothing() -> None:
    """Without the capability to open a queue of mode 0 it is listed by its name, and all the others as ever."""
    with populated(
        [
            {"kind": "mqueue", "name": "61", "uid": 0, "mode": 0o600, "most": 4, "size": 64, "messages": [5]},
            {"kind": "mqueue", "name": "62", "uid": 7, "mode": 0, "most": 4, "size": 64, "messages": [5]},
        ]
    ) as place:
        unable = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable]
        shown = run("nsenter", f"--ipc={place}", *unable, "-c", _TAKE, "").check().stdout
    first, second = sorted(json.loads(shown)["objects"], key=lambda each: str(each["name"]))
    assert (first["usedbytes"], first["msgs"]) == (5, 1)
    assert (second["name"], second["owner"], second["bytes"], "msgs" in second) == ("/b", "7", 0, False)


def test_a_queue_that_vanishes_loses_nothing() -> None:
    """While queues come and go, those that stay are listed each time."""
    churn = """
import ctypes, itertools, os, sys
library = ctypes.CDLL("librt.so.1")
attributes = (ctypes.c_long * 8)(0, 1, 8)
def make(name):
    os.close(library.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, attributes))
for number in range(50):
    make(b"/stays%d" % number)
print("made", flush=True)
while True:
    for number in range(100):
        make(b"/goes%d" % number)
    for number in range(100):
        library.mq_unlink(b"/goes%d" % number)
"""
    many = """
import json
from ipcwarden.host.inventory import take_inventory
print(json.dumps([[str(each["name"]) for each in take_inventory().queues] for _ in range(50)]))
"""
    with started(sys.executable, "-c", churn) as place:
        listings = inside(place, many)
    assert {sum(name.startswith("/stays") for name in names) for names in listings} == {50}
    assert len({len(names) for names in listings}) > 1  # else nothing vanished


WAIT = """
import ctypes, os, sys
library = ctypes.CDLL(None, use_errno=True)
array = library.semget(0x77, 3, 0o1600)
print("made", flush=True)
library.semop(array, (ctypes.c_short * 3)({operation}), 1)
"""
WAITERS = """
import json, sys
from ipcwarden.host.inventory import take_inventory, waiters
arrays = take_inventory(quietly=True).tables["sem"]
print(json.dumps([waiters(number, 3, *map(int, sys.argv[1:])) for number in arrays.column("id")]))
"""


@pytest.mark.parametrize("operation", ["2, -1, 0", "0, -5, 0"])
def test_tells_who_waits_for_a_semaphore(operation: str) -> None:
    """Processes that wait for an array are counted; with fewer calls than it takes nothing is said."""
    with started(sys.executable, "-c", WAIT.format(operation=operation)) as place:
        until(lambda: inside(place, WAITERS) == [1], "a waiter")
        assert inside(place, WAITERS, "5") == [None]


def test_knows_no_waiters_of_an_array_that_is_gone() -> None:
    """What vanishes while we look, or never was, has no number of waiters."""
    program = "import json; from ipcwarden.host.inventory import waiters; print(json.dumps(waiters(4711, 1)))"
    result = run("unshare", "--ipc", sys.executable, "-c", program).check()
    assert json.loads(result.stdout) is None


ATTACHED = """
import json, os
from ipcwarden.host.inventory import attached, take_inventory
from ipcwarden.host.procfs import holders
here = os.stat("/proc/self/ns/ipc")
segments = take_inventory(quietly=True).tables["shm"].column("id")
print(json.dumps([segments, attached(set(segments), holders(here.st_dev, here.st_ino, 1000))]))
"""


def test_tells_who_maps_a_segment() -> None:
    """A process that has attached a segment is named with it; a segment of the same id in another namespace is none."""
    with left("--shm=2", "--shm-key=0x80001234", "--attach") as place, left("--shm=3") as other:
        segments, found = inside(place, ATTACHED)
        assert [each["command"] for number in segments for each in found[str(number)]] == ["leave", "leave"]
        assert inside(other, ATTACHED)[1] == {}


def test_tells_who_waits_to_be_notified() -> None:
    """A process that has asked to be told of a message is named with the queue; the quiet way does not know."""
    program = """
import ctypes, os, sys
library = ctypes.CDLL("librt.so.1")
queue = library.mq_open(b"/q", os.O_CREAT | os.O_RDWR, 0o600, (ctypes.c_long * 8)(0, 1, 8))
assert library.mq_notify(queue, (ctypes.c_int * 16)(0, 0, 10)) == 0
print("made", flush=True)
sys.stdin.read()
"""
    with started(sys.executable, "-c", program) as place:
        [loud], [quiet] = taken(place)["objects"], taken(place, "quietly")["objects"]
        [asker] = namespace.members(place)
    assert loud["notify"] == asker
    assert "notify" not in quiet


def test_show_tells_who_uses_what(container: Container) -> None:
    """`ipcwarden show` names who has a segment attached and how many wait for an array, and leaves queues alone."""
    container.create().check()
    waiting = WAIT.format(operation="2, -1, 0")
    attaching = [PAYLOADS / "leave", "--shm=1", "--mqueue=1", "--attach", "--wait"]
    commands = ([*attaching], [sys.executable, "-c", waiting])
    processes = [
        subprocess.Popen(["nsenter", f"--ipc={container.namespace}", *command], stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("made")

        def shown() -> Any:
            program = Path(sys.executable).with_name("ipcwarden")
            return json.loads(run(program, "--root", container.root, "show", container.id, "--json").check().stdout)

        def found() -> dict[str, Any]:
            return {each["kind"]: each for each in shown()["objects"]}

        until(lambda: found()["sem"]["waiters"] == 1, "a waiter")
        validate(shown(), "show-v1")
        assert found()["shm"]["users"] == [{"pid": processes[0].pid, "command": "leave"}]
        assert "usedbytes" not in found()["mqueue"]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
