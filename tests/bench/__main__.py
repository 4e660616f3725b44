"""`make bench`: what ipcwarden costs beside others that do the same job.  PART chooses, as ROUNDS does.

Nothing here fails for being slow: the figures are for people to judge.  What cannot be measured fails.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from bench.race import PROGRAMS, Report, machine

PARTS = ("hook", "engines", "storm", "growth", "logs", "audit")
ROUNDS = 21


def main() -> int:
    """Run all parts, or those that PART names, separated by commas."""
    wanted = [each for each in os.environ.get("PART", "").split(",") if each]
    there = [each for each in PARTS if (Path(__file__).parent / f"{each}.py").exists()]
    unknown = [each for each in wanted if each not in there]
    if unknown:
        print(f"bench: there is no part {', '.join(unknown)}; the parts are {', '.join(there)}", file=sys.stderr)
        return 2
    rounds = int(os.environ.get("ROUNDS") or ROUNDS)
    print(", ".join(f"{name}: {value}" for name, value in machine().items()), flush=True)
    report = Report()
    for name in wanted or there:
        report.part = name
        import_module(f"bench.{name}").run(report, rounds)
    report.conclude()
    results = PROGRAMS / "results.json"
    report.write(results)
    print(f"\nAll figures: {results}")
    return 0


sys.exit(main())
