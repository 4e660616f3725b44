"""`make bench-audit`: what listing and removal cost beside others that do the same, and how much memory a hook takes.

Rivals run in rounds, in an order that is shuffled each time: beside fixed neighbours each would be slowed down by the
same one.  Ratios are those of one round.  Nothing here fails for being slow: the figures are for people to judge.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import sandbox
from support.bundle import PAYLOADS
from support.shell import BUILT, REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
PROGRAMS = REPOSITORY / "build" / "bench"
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


def launched(place: str, command: list[str], stdin: str = "") -> tuple[int, int, int]:
    """Run a command in a namespace; return its nanoseconds, microseconds of processor time, and KiB at most."""
    launch = ["nsenter", f"--ipc={place}", str(PROGRAMS / "launch"), *command]
    said = run("unshare", "--mount", "sh", "-euc", PLAIN_ETC, "sh", *launch, stdin=stdin).check().stdout
    wall, processor, memory = map(int, said.split())
    return wall, processor, memory


def race(rounds: int, rivals: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run all rivals once a round, in shuffled order."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name in random.sample(list(rivals), len(rivals)):
            taken[name].append(rivals[name]())
    return taken


def tell(title: str, unit: str, taken: dict[str, list[float]], limit: str) -> None:
    """Print a table; the second rival is what the first is held against."""
    ours, theirs = taken.values()
    print(f"\n{title}\n  {'':24} {'min':>8} {'median':>8} {'p90':>8}  {unit}")
    for name, numbers in taken.items():
        tenth = statistics.quantiles(numbers, n=10)[8]
        print(f"  {name:24} {min(numbers):8.2f} {statistics.median(numbers):8.2f} {tenth:8.2f}")
    low, middle, high = statistics.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4)
    print(f"  ratio {middle:.2f} (quartiles {low:.2f} to {high:.2f}), limit {limit}, {len(ours)} rounds")


def listing(rounds: int) -> None:
    """List 32 768 objects of each System V kind."""
    with filled(EVERYTHING) as place:
        seen = run("nsenter", f"--ipc={place}", *LISTING, "--tell").check().stdout
        assert seen.split() == [str(MOST)] * 3 + ["0", "100"], seen
        rivals: dict[str, Callable[[], float]] = {
            "inventory, totals, 100": lambda: launched(place, LISTING)[0] / 1e6,
            "ipcs -a": lambda: launched(place, ["ipcs", "-a"])[0] / 1e6,
        }
        tell(f"Listing {MOST} of each of shm, sem, msg", "ms", race(rounds, rivals), "0.35")


def removal(rounds: int) -> None:
    """Remove 32 768 segments of a page each."""

    def removed(command: list[str]) -> float:
        with filled(f"--shm={MOST}") as place:
            said = run("nsenter", f"--ipc={place}", *command).check().stdout
        count, nanoseconds = map(int, said.split())
        assert count == MOST
        return nanoseconds / 1e3 / count

    rivals: dict[str, Callable[[], float]] = {
        "host.removal": lambda: removed(REMOVAL),
        "the same calls in C": lambda: removed([str(PROGRAMS / "remove")]),
    }
    tell(f"Removing {MOST} segments", "us each", race(rounds, rivals), "2.00")


def memory(rounds: int, root: Path) -> None:
    """Tear down a container that has left as much as the kernel lets it."""
    peaks, walls = [], []
    for number in range(rounds):
        directory = root / str(number)
        directory.mkdir(parents=True)
        sandbox.put_in_force(directory, mode="permissive")
        container = sandbox.start(directory, directory / "bundle")
        try:
            container.create().check()
            run("nsenter", f"--ipc={container.namespace}", "sh", "-euc", fill(EVERYTHING)).check()
            container.kill()
            hook = ["/usr/bin/python3", "-I", "-S", str(sandbox.HOOK), "--root", str(directory), "poststop"]
            wall, _, peak = launched("/proc/self/ns/ipc", hook, container.state("stopped"))
            counts = [total["count"] for total in container.records()[-1]["leftovers"].values()]
            assert counts == [MOST] * 3 + [0], counts
        finally:
            container.kill()
            container.poststop()
        peaks.append(peak / 1024)
        walls.append(wall / 1e9)
    print(f"\nMemory and time of a poststop, {MOST} of each of shm, sem, msg ({rounds} runs)")
    print(f"  most memory  {max(peaks):.1f} MiB (least {min(peaks):.1f}), limit 64 MiB")
    print(f"  time         {statistics.median(walls):.2f} s (median)")


def machine() -> str:
    """Return what this was measured on."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    python = run("/usr/bin/python3", "-I", "-S", "--version").stdout.strip()
    util_linux = run("ipcs", "--version").stdout.strip()
    return f"{len(cpu)} x {cpu[0] if cpu else platform.machine()}, Linux {os.uname().release}, {python}, {util_linux}"


def main() -> None:
    """Run all, or what the arguments name."""
    wanted = sys.argv[1:] or ["listing", "removal", "memory"]
    rounds = int(os.environ.get("ROUNDS", "21"))
    print(machine())
    if "listing" in wanted:
        listing(rounds)
    if "removal" in wanted:
        removal(rounds)
    if "memory" in wanted:
        memory(3, Path(os.environ["IPCWARDEN_LAB"]) / "bench")


if __name__ == "__main__":
    main()
