"""Writes the tables of docs/compatibility.md from pytest's reports: what did not run is said not to have.

table.py DOCUMENT REPORTS...: each of REPORTS is a directory, named as the Debian suite, with unit.xml, kernel.xml and
e2e.xml as --junitxml writes them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from matrix.features import COLUMNS, ENGINES, OTHER, column

BEGIN, END = "<!-- made by make test-matrix: begin -->\n", "<!-- made by make test-matrix: end -->\n"
RUNS = ("unit", "kernel", "e2e")
_GROUND = ("kernel", "cgroups", "python")  # what engines run on, in the order of the columns


@dataclass(frozen=True)
class Test:
    """How one test ended: `passed`, `failed` (which an error before or after it is, too), `known` or `skipped`."""

    name: str  # MODULE::TEST[ID]
    engine: str | None
    outcome: str
    reason: str = ""  # of a known failure


@dataclass(frozen=True)
class Report:
    """One run of pytest: its tests, and the versions of all that took part, by name."""

    tests: tuple[Test, ...]
    versions: dict[str, str]


def read(xml: str) -> Report:
    """Read what --junitxml wrote.  Raises `ElementTree.ParseError`."""
    outcomes: dict[str, Test] = {}
    root = ElementTree.fromstring(xml)
    for case in root.iter("testcase"):
        # Where a run is interrupted, its test has no name.
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', 'interrupted')}"
        engine = next((p.attrib["value"] for p in case.iter("property") if p.attrib["name"] == "engine"), None)
        kinds = {child.tag for child in case}
        skipped = case.find("skipped")
        outcome, reason = (
            "failed"
            if kinds & {"failure", "error"} or "name" not in case.attrib
            else "passed"
            if skipped is None
            else "skipped",
            "",
        )
        if outcome == "skipped" and skipped is not None and skipped.get("type") == "pytest.xfail":
            outcome, reason = "known", skipped.get("message", "")
        # A test that fails and then fails to clean up is there twice.
        if name not in outcomes or outcome == "failed":
            outcomes[name] = Test(name, engine, outcome, reason)
    versions = {p.attrib["name"]: p.attrib["value"] for p in root.iterfind("./testsuite/properties/property")}
    return Report(tuple(outcomes.values()), versions)


def cell(tests: list[Test]) -> str:
    """Sum up tests in a word or two; `yes` is said if all of them passed."""
    failed = sorted({_function(test) for test in tests if test.outcome in {"failed", "known"}})
    skipped = sorted({_function(test) for test in tests if test.outcome == "skipped"})
    if failed:
        return f"**no** ({', '.join(failed)})"
    if skipped and all(test.outcome == "skipped" for test in tests):
        return "not run"
    if skipped:
        return f"in part (not run: {', '.join(skipped)})"
    return "yes" if tests else "not run"


def engines_table(suites: dict[str, dict[str, Report]]) -> str:
    """Make the table of engines and versions (rows) and features (columns)."""
    rows: list[list[str]] = []
    for suite, runs in suites.items():
        found: defaultdict[str, defaultdict[str, list[Test]]] = defaultdict(lambda: defaultdict(list))
        for test in runs["e2e"].tests:
            name = column(test.name)
            if test.engine and name:
                found[test.engine][name].append(test)
        versions = runs["e2e"].versions
        for engine in sorted(found, key=_order):
            title = ENGINES.get(engine, engine).format_map(defaultdict(lambda: "?", versions))
            rows.append([title, suite, *(cell(found[engine][name]) for name in COLUMNS)])
    used = [n for n in range(len(COLUMNS) + 2) if n < 2 or any(row[n] != "not run" for row in rows)]
    head = ["engine", "Debian", *COLUMNS]
    return _markdown([head[n] for n in used], [[row[n] for n in used] for row in rows])


def known_failures(suites: dict[str, dict[str, Report]]) -> str:
    """List what is known of tests that failed as they had to."""
    reasons = {test.reason: None for runs in suites.values() for test in runs["e2e"].tests if test.outcome == "known"}
    return "".join(f"- {reason}\n" for reason in reasons)


def suites_table(suites: dict[str, dict[str, Report]]) -> str:
    """Make the table of what ran where, and how much of it passed."""
    rows = []
    for suite, runs in suites.items():
        versions = runs["e2e"].versions
        programs = ", ".join(f"{name} {versions[name]}" for name in sorted({*versions} - {*_GROUND}))
        row = [suite, *(versions.get(name, "?") for name in _GROUND), programs]
        rows.append(row + [_score(runs[run].tests) if run in runs else "not run" for run in RUNS])
    head = ["Debian", "kernel", "cgroups", "Python", "engines", *(f"tests/{run}" for run in RUNS)]
    return _markdown(head, rows)


def put(document: str, text: str) -> str:
    """Replace what stands between the marks of a document."""
    before, _, rest = document.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, "the document lacks the marks that the tables stand between"
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _order(engine: str) -> int:
    return list(ENGINES).index(engine) if engine in ENGINES else len(ENGINES)


def _function(test: Test) -> str:
    return test.name.partition("::")[2].partition("[")[0]


def _score(tests: tuple[Test, ...]) -> str:
    counts = {outcome: sum(test.outcome == outcome for test in tests) for outcome in ("failed", "known", "skipped")}
    words = [f"{len(tests) - sum(counts.values())} passed"]
    words += [f"**{counts['failed']} failed**"] * (counts["failed"] > 0)
    words += [f"{counts['known']} failed as known"] * (counts["known"] > 0)
    words += [f"{counts['skipped']} skipped"] * (counts["skipped"] > 0)
    return ", ".join(words)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write the tables, and name on standard output what stands in no column of its own."""
    document = Path(sys.argv[1])
    suites = {
        directory.name: {
            run: read(file.read_text("utf-8")) for run in RUNS if (file := directory / f"{run}.xml").exists()
        }
        for directory in map(Path, sys.argv[2:])
        if (directory / "e2e.xml").exists()
    }
    parts = (engines_table(suites), known_failures(suites), suites_table(suites))
    document.write_text(put(document.read_text("utf-8"), "\n".join(filter(None, parts))), "utf-8")
    others = {
        _function(t) for runs in suites.values() for t in runs["e2e"].tests if t.engine and column(t.name) == OTHER
    }
    if others:
        print(f"matrix: in no column of its own (tests/matrix/features.py): {', '.join(sorted(others))}")


if __name__ == "__main__":
    main()
