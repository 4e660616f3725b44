"""What the tables of docs/compatibility.md say of a run of the tests."""

from __future__ import annotations

import pytest

from matrix.features import COLUMNS, OTHER, column, known
from matrix.table import BEGIN, END, Report, cell, engines_table, known_failures, put, read, suites_table

ENDS = {
    "passed": "",
    "failed": "<failure/>",
    "error": "<error/>",
    "skipped": "<skipped type='pytest.skip' message='not here'/>",
    "known": "<skipped type='pytest.xfail' message='an old one forgets it'/>",
}


def report(*cases: tuple[str, str | None, str], **versions: str) -> Report:
    """Read a report of tests: name, engine, and how it ended."""
    told = []
    for name, engine, end in cases:
        properties = f"<properties><property name='engine' value='{engine}'/></properties>" * (engine is not None)
        told.append(f"<testcase classname='tests.e2e.test_x' name='{name}'>{properties}{ENDS[end]}</testcase>")
    properties = "".join(f"<property name='{name}' value='{value}'/>" for name, value in versions.items())
    suite = f"<testsuite><properties>{properties}</properties>{''.join(told)}</testsuite>"
    return read(f"<testsuites>{suite}</testsuites>")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((), "not run"),
        (("passed", "passed"), "yes"),
        (("passed", "failed"), "**no** (test_1)"),
        (("error", "failed"), "**no** (test_0, test_1)"),
        (("skipped", "failed"), "**no** (test_1)"),
        (("skipped", "skipped"), "not run"),
        (("skipped", "passed"), "in part (not run: test_0)"),
        (("known", "passed"), "**no** (test_0)"),
    ],
)
def test_a_cell_is_yes_only_if_all_passed(ends: tuple[str, ...], said: str) -> None:
    """What failed is named, and what was skipped has not run."""
    cases = [(f"test_{number}[x]", "runc", end) for number, end in enumerate(ends)]
    assert cell([*report(*cases).tests]) == said


def test_a_test_that_could_not_clean_up_has_failed() -> None:
    """It is there twice, in either order."""
    for ends in (("passed", "error"), ("error", "passed")):
        assert [test.outcome for test in report(*(("test_gc", "runc", end) for end in ends)).tests] == ["failed"]


def test_an_engine_is_named_with_its_version() -> None:
    """A row is an engine in a suite; a column in which nothing ran is left out."""
    run = report(("test_gc[podman-runc]", "podman-runc", "passed"), ("test_show[cri]", "cri", "failed"), podman="5.4.2")
    assert engines_table({"trixie": {"e2e": run}}).splitlines() == [
        "| engine | Debian | gc | show, scan |",
        "| --- | --- | --- | --- |",
        "| podman 5.4.2 with runc ? | trixie | yes | not run |",
        "| containerd ? by CRI, with runc ? | trixie | not run | **no** (test_show) |",
    ]


def test_what_is_known_of_a_failure_is_told() -> None:
    """Once, however many tests fail of it; nothing where none does."""
    run = report(("test_a", "ctr", "known"), ("test_b", "ctr", "known"), ("test_c", "ctr", "skipped"))
    assert known_failures({"trixie": {"e2e": run}}) == "- an old one forgets it\n"
    assert known_failures({"sid": {"e2e": report(("test_a", "ctr", "passed"))}}) == ""


@pytest.mark.parametrize(
    ("test", "engine", "version", "excused"),
    [
        ("test_governed::test_limits_from_inside[ctr-userns]", "ctr", "1.7.24", True),
        ("test_governed::test_limits_from_inside[ctr-userns]", "ctr", "2.1.9", False),
        ("test_governed::test_limits_from_inside[ctr-private]", "ctr", "1.7.24", False),
        ("test_governed::test_limits_from_inside[docker-userns]", "docker", "1.7.24", False),
    ],
)
def test_only_what_is_known_may_fail(test: str, engine: str, version: str, excused: bool) -> None:
    """With the versions that it is known of, and nowhere else."""
    assert (known(test, engine, {"containerd": version}) is not None) is excused


def test_all_tests_of_a_suite_are_counted() -> None:
    """Those of no engine too."""
    unit = report(
        ("test_a", None, "passed"), ("test_b", None, "failed"), ("test_c", None, "skipped"), ("test_d", None, "known")
    )
    e2e = report(kernel="6.18", cgroups="1", python="3.14.0", runc="1.3.6")
    assert suites_table({"sid": {"unit": unit, "e2e": e2e}}).splitlines()[-1] == (
        "| sid | 6.18 | 1 | 3.14.0 | runc 1.3.6 |"
        " 1 passed, **1 failed**, 1 failed as known, 1 skipped | not run | 0 passed |"
    )


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("test_governed::test_limits_from_inside[runc-private]", "limits applied"),
        ("test_governed::test_limits_from_inside[runc-userns]", "user namespaces"),
        ("test_governed::test_a_request_beyond_bounds_is_clamped[crun]", "clamped"),
        ("test_governed::test_a_joiner_changes_nothing[crun-clamp]", "joiners"),
        ("test_ways_round::test_nested_namespaces[podman-userns-crun]", "ways round"),
        ("test_native::test_the_runtime_applies_what_was_decided[docker]", "clamped natively"),
        ("test_pods::test_a_cri_pod_lives", "pods"),
        ("test_governed::test_something_new[crun]", OTHER),
        ("test_harness::test_joiner_sees_the_owner_s_value[crun]", None),
    ],
)
def test_a_test_has_one_column(test: str, name: str | None) -> None:
    """A test that no pattern knows stands in a column all the same: its failure is seen."""
    assert column(test) == name
    assert name is None or name in COLUMNS


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    """Byte by byte."""
    assert put(f"a\n{BEGIN}old\n{END}b\n", "| new |\n") == f"a\n{BEGIN}\n| new |\n\n{END}b\n"
