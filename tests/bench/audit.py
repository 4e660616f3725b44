"""What listing and removal cost beside others that do the same, and how much memory a hook takes for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.race import PROGRAMS, REPOSITORY, Measure, race, ratio
from support import sandbox, shell
from support.bundle import PAYLOADS
from support.pod import let_time_pass
from support.shell import BUILT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.race import Report

HERE = Path(__file__).parent
LISTING = ["/usr/bin/python3", "-I", "-S", str(HERE / "listing.py"), str(BUILT / "hook")]
REMOVAL = ["/usr/bin/python3", "-I", "-S", str(HERE / "removal.py"), str(REPOSITORY / "hooks")]
MOST = 32768  # of each kind, without ipcmni_extend
LIMITS = f"kernel.shmmni={MOST} kernel.msgmni={MOST} kernel.sem='32000 1024000000 500 {MOST}'"
EVERYTHING = f"--shm={MOST} --sem={MOST} --msg={MOST}"

# ipcs looks up every owner's name, which takes it longer where /etc is an overlay, as it is in the tests' machine.
PLAIN_ETC = """
mount -t tmpfs ipcwarden /mnt
for file in passwd group nsswitch.conf; do cp "/etc/$file" /mnt; mount --bind "/mnt/$file" "/etc/$file"; done
exec "$@"
"""


def fill(options: str) -> str:
    """Return the script that fills the namespace that it is started in."""
    return f"sysctl -qw {LIMITS}; '{PAYLOADS}/leave' {options}"


@contextlib.contextmanager
def filled(options: str) -> Iterator[str]:
    """Fill a namespace of its own; return where it is."""
    command = ["unshare", "--ipc", "sh", "-euc", f"{fill(options)}; read end"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("made")
        yield f"/proc/{process.pid}/ns/ipc"
    finally:
        process.communicate("\n")


def launched_in(place: str, command: list[str], stdin: str = "") -> Measure:
    """Run a command in a namespace."""
    launch = ["nsenter", f"--ipc={place}", str(PROGRAMS / "launch"), *command]
    said = shell.run("unshare", "--mount", "sh", "-euc", PLAIN_ETC, "sh", *launch, stdin=stdin).check().stdout
    return Measure(*map(int, said.split()))


def _listing(report: Report, rounds: int) -> None:
    """List 32 768 objects of each System V kind."""
    with filled(EVERYTHING) as place:
        seen = shell.run("nsenter", f"--ipc={place}", *LISTING, "--tell").check().stdout
        assert seen.split() == [str(MOST)] * 3 + ["0", "100"], seen
        rivals: dict[str, Callable[[], Measure]] = {
            "inventory, totals, 100": partial(launched_in, place, LISTING),
            "ipcs -a": partial(launched_in, place, ["ipcs", "-a"]),
        }
        taken = race(rounds, rivals)
    report.table(f"Listing {MOST} of each of shm, sem, msg", taken, base="ipcs -a")
    ours, theirs = taken
    report.target("listing", f"3 x {MOST} objects, of ipcs -a", 0.35, ratio(taken, ours, theirs), rounds=rounds)


def _removal(report: Report, rounds: int) -> None:
    """Remove 32 768 segments of a page each."""

    def removed(command: list[str]) -> Measure:
        with filled(f"--shm={MOST}") as place:
            said = shell.run("nsenter", f"--ipc={place}", *command).check().stdout
        count, nanoseconds = map(int, said.split())
        assert count == MOST
        return Measure(nanoseconds / count)

    rivals: dict[str, Callable[[], Measure]] = {
        "host.removal": partial(removed, REMOVAL),
        "the same calls in C": partial(removed, [str(PROGRAMS / "remove")]),
    }
    taken = race(rounds, rivals)
    ours, theirs = taken
    report.table(f"Removing {MOST} segments, each", taken, "us", base=theirs)
    report.target("removal", f"{MOST} segments, of the same calls in C", 2, ratio(taken, ours, theirs), rounds=rounds)


HOOK = ["/usr/bin/python3", "-I", "-S", str(sandbox.HOOK)]
IPCWARDEN = str(shell.REPOSITORY / ".venv" / "bin" / "ipcwarden")
OURS = "/proc/self/ns/ipc"


def _alone(directory: Path) -> dict[str, Measure]:
    """Tear down a container that has left as much as the kernel lets it."""
    sandbox.put_in_force(directory, mode="permissive")
    container = sandbox.start(directory, directory / "bundle")
    try:
        container.create().check()
        shell.run("nsenter", f"--ipc={container.namespace}", "sh", "-euc", fill(EVERYTHING)).check()
        container.kill()
        ended = launched_in(OURS, [*HOOK, "--root", str(directory), "poststop"], container.state("stopped"))
        _has_told(container, "leftovers", MOST, MOST, MOST)
    finally:
        container.kill()
        container.poststop()
    return {"the only one's end": ended}


def _beside(directory: Path, age: int) -> dict[str, Measure]:
    """End one that has left as much beside one that lives: arrays and queues go at once, or when they are due."""
    reap = tuple({"kind": kind, "age": age} for kind in ("sem", "msg"))
    sandbox.put_in_force(directory, sandbox.profile(sysctls={}, leftovers="remove", reap=reap))
    stays = sandbox.start(directory, directory / "stays", own_pids=True, name="stays")
    goes = sandbox.start(directory, directory / "goes", ipc=str(stays.namespace), own_pids=True, name="goes")
    try:
        stays.create().check()
        goes.create().check()
        shell.run("nsenter", f"--ipc={stays.namespace}", "sh", "-euc", fill("--shm=0")).check()
        goes.work(*EVERYTHING.split(), "--shm-touch=0", "--sem-op")
        goes.kill()
        ended = launched_in(OURS, [*HOOK, "--root", str(directory), "poststop"], goes.state("stopped"))
        _has_told(goes, "removed", MOST, *[0 if age else MOST] * 2)
        if not age:
            return {"a member's end, all removed": ended}
        let_time_pass(directory)
        collected = launched_in(OURS, [IPCWARDEN, "--root", str(directory), "gc"])
        _has_told(goes, "removed", 0, MOST, MOST)
    finally:
        for each in (goes, stays):
            each.kill()
            each.poststop()
    return {"a member's end, two thirds due": ended, "gc of what was due": collected}


def _has_told(container: sandbox.Container, field: str, *expected: int) -> None:
    counts = [total["count"] for total in container.records()[-1][field].values()]
    assert counts == [*expected, 0], counts


def _memory(report: Report, root: Path) -> None:
    """End containers that have left as much as the kernel lets them."""
    root.mkdir()
    taken: dict[str, list[Measure]] = {}
    for _ in range(3):
        for scene in (_alone, partial(_beside, age=0), partial(_beside, age=3600)):
            for name, measure in scene(Path(tempfile.mkdtemp(dir=root))).items():
                taken.setdefault(name, []).append(measure)
    report.table(f"Ends, {MOST} of each of shm, sem, msg left", taken)
    for name, measures in taken.items():
        peak = max(each.kib for each in measures) / 1024
        report.target("memory", f"{name}, 3 x {MOST} objects, MiB at most", 64, peak, rounds=3)


def run(report: Report, rounds: int) -> None:
    """Measure all of that."""
    _listing(report, rounds)
    _removal(report, rounds)
    _memory(report, Path(os.environ["IPCWARDEN_LAB"]) / "bench")
