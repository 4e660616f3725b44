"""Rivals side by side: what each takes, how one compares to another, and a report of it.

All run once a round, in an order that is shuffled each time: beside fixed neighbours each would be slowed down by the
same one.  A ratio is that of one round, so that what slows the machine down for a while slows both sides down.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = REPOSITORY / "build" / "bench"

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SCALES = {"us": 1e3, "ms": 1e6, "s": 1e9}  # nanoseconds each


@dataclass(frozen=True)
class Measure:
    """What one run took.  A run that cannot tell its processor time or memory says 0."""

    nanoseconds: float
    cpu_us: float = 0
    kib: float = 0


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, between their quartiles."""

    low: float
    median: float
    high: float


Taken = dict[str, list[Measure]]


def launched(command: Sequence[str | Path], stdin: str = "", env: Mapping[str, str] | None = None) -> Measure:
    """Run a command below a small launcher, whose memory the command is not charged with; fail as it does."""
    arguments = [PROGRAMS / "launch", *command]
    done = subprocess.run(arguments, input=stdin, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stderr}"
    nanoseconds, cpu_us, kib = map(int, done.stdout.split())
    return Measure(nanoseconds, cpu_us, kib)


def race(rounds: int, rivals: Mapping[str, Callable[[], Measure]], *, warm: int = 1) -> Taken:
    """Run all rivals once a round, in shuffled order; the first `warm` rounds, which fill caches, do not count."""
    taken: Taken = {name: [] for name in rivals}
    for number in range(-warm, rounds):
        for name in random.sample(list(rivals), len(rivals)):
            measure = rivals[name]()
            if number >= 0:
                taken[name].append(measure)
    return taken


def ratio(taken: Taken, ours: str, theirs: str, of: str = "nanoseconds") -> Ratio:
    """Compare two rivals round by round: their times, or `cpu_us`, which others at work on the machine change less."""
    pairs = zip(taken[ours], taken[theirs], strict=True)
    return Ratio(*_quartiles([getattr(a, of) / getattr(b, of) for a, b in pairs]))


def _quartiles(numbers: Sequence[float]) -> list[float]:
    return statistics.quantiles(numbers, n=4) if len(numbers) > 1 else [numbers[0]] * 3


def _p90(numbers: Sequence[float]) -> float:
    return statistics.quantiles(numbers, n=10)[8] if len(numbers) > 1 else numbers[0]


@dataclass
class Report:
    """What was measured, told as it comes, and written as JSON in the end."""

    part: str = ""  # the one that runs
    tables: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def table(self, title: str, taken: Taken, unit: str = "ms", *, base: str | None = None) -> None:
        """Tell min, median and p90 of each rival, its processor time and memory, and its ratio to the rival `base`."""
        rounds = len(next(iter(taken.values())))
        print(f"\n{title}, {rounds} rounds")
        head = f"  {'':32} {'min':>9} {'median':>9} {'p90':>9} {unit:4} {'cpu':>9} {'MiB':>6}"
        print(head + (f"   ratio to {base} (quartiles)" if base else ""))
        rows = {}
        for name, measures in taken.items():
            times = [each.nanoseconds / SCALES[unit] for each in measures]
            row: dict[str, Any] = {"min": min(times), "median": statistics.median(times), "p90": _p90(times)}
            row["cpu"] = statistics.median(each.cpu_us for each in measures) * 1e3 / SCALES[unit]
            row["peak_kib"] = max(each.kib for each in measures)
            line = f"  {name:32} {row['min']:9.2f} {row['median']:9.2f} {row['p90']:9.2f} {'':4}"
            line += f" {row['cpu']:9.2f}" if row["cpu"] else f" {'':9}"
            line += f" {row['peak_kib'] / 1024:6.1f}" if row["peak_kib"] else f" {'':6}"
            if base:
                found = ratio(taken, name, base)
                row["ratio"] = vars(found)
                line += f"   {found.median:.3f} ({found.low:.3f} to {found.high:.3f})"
                if all(each.cpu_us for each in (*measures, *taken[base])):
                    row["cpu_ratio"] = vars(ratio(taken, name, base, "cpu_us"))
                    line += f" cpu {row['cpu_ratio']['median']:.3f}"
            rows[name] = row
            print(line)
        sys.stdout.flush()
        self.tables.append(
            {"part": self.part, "title": title, "rounds": rounds, "unit": unit, "base": base, "rivals": rows}
        )

    def figure(self, name: str, value: float, unit: str) -> None:
        """Tell one number."""
        print(f"  {name:60} {value:14,.2f} {unit}", flush=True)
        self.figures.append({"part": self.part, "name": name, "value": value, "unit": unit})

    def leave_out(self, what: str) -> None:
        """Say what is not measured here, and why."""
        print(f"  left out: {what}", flush=True)
        self.left_out.append(f"{self.part}: {what}")

    def target(
        self, name: str, text: str, limit: float, measured: Ratio | float, op: str = "<=", rounds: int | None = None
    ) -> None:
        """Hold a number, or a ratio by its median, against a limit of ours; `text` says what it is, and in what."""
        value = measured.median if isinstance(measured, Ratio) else measured
        quartiles = [measured.low, measured.high] if isinstance(measured, Ratio) else None
        self.targets.append(
            {
                "part": self.part,
                "name": name,
                "text": text,
                "op": op,
                "limit": limit,
                "measured": value,
                "quartiles": quartiles,
                "rounds": rounds,
                "met": value <= limit if op == "<=" else value >= limit,
            }
        )

    def conclude(self) -> None:
        """Tell which targets are met, and by how much the others are missed."""
        print(f"\n{'target':68} {'limit':>9} {'measured':>9}")
        for each in self.targets:
            gap = abs(each["measured"] / each["limit"] - 1) * 100
            verdict = "met" if each["met"] else f"MISSED by {gap:.1f} %"
            told = f"{each['name']}: {each['text']}"
            print(f"{told:68} {each['op']:2}{each['limit']:7.2f} {each['measured']:9.3f}  {verdict}")
        for what in self.left_out:
            print(f"left out: {what}")

    def write(self, path: Path) -> None:
        """Write all as JSON."""
        document = {
            "machine": machine(),
            "targets": self.targets,
            "tables": self.tables,
            "figures": self.figures,
            "left_out": self.left_out,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, str | int]:
    """Say what is measured on, and when."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    found: dict[str, str | int] = {
        "kernel": f"Linux {os.uname().release}",
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count() or 0,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _first_line("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"),
    }
    programs = {
        "python": ["/usr/bin/python3", "-I", "-S", "--version"],
        "jq": ["jq", "--version"],
        "runc": ["runc", "--version"],
        "crun": ["crun", "--version"],
        "podman": ["podman", "--version"],
        "util-linux": ["ipcs", "--version"],
        "valgrind": ["valgrind", "--version"],
        "go": ["go", "version"],
    }
    return found | {name: version for name, command in programs.items() if (version := _first_line(*command))}


def _first_line(*command: str) -> str:
    """Return the first line that a program says, or nothing where it is missing."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return said.stdout.partition("\n")[0].strip() if said.returncode == 0 else ""
