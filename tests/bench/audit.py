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


def _memory(report: Report, root: Path) -> None:
    """Tear down a container that has left as much as the kernel lets it."""

    def torn_down() -> Measure:
        directory = Path(tempfile.mkdtemp(dir=root))
        sandbox.put_in_force(directory, mode="permissive")
        container = sandbox.start(directory, directory / "bundle")
        try:
            container.create().check()
            shell.run("nsenter", f"--ipc={container.namespace}", "sh", "-euc", fill(EVERYTHING)).check()
            container.kill()
            hook = ["/usr/bin/python3", "-I", "-S", str(sandbox.HOOK), "--root", str(directory), "poststop"]
            measure = launched_in("/proc/self/ns/ipc", hook, container.state("stopped"))
            counts = [total["count"] for total in container.records()[-1]["leftovers"].values()]
            assert counts == [MOST] * 3 + [0], counts
        finally:
            container.kill()
            container.poststop()
        return measure

    root.mkdir()
    taken = race(3, {"poststop": torn_down}, warm=0)
    report.table(f"A poststop, {MOST} of each of shm, sem, msg left", taken)
    peak = max(each.kib for each in taken["poststop"]) / 1024
    report.target("memory", f"poststop, 3 x {MOST} objects left, MiB at most", 64, peak, rounds=3)


def run(report: Report, rounds: int) -> None:
    """Measure all of that."""
    _listing(report, rounds)
    _removal(report, rounds)
    _memory(report, Path(os.environ["IPCWARDEN_LAB"]) / "bench")
