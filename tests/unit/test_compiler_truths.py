"""Limits that contradict each other are warnings: the kernel takes them, and then something never works."""

from __future__ import annotations

import pytest

from ipcwarden.compiler import Finding, compile_sources
from ipcwarden.compiler.sources import MAIN, SITE, Source, built_in
from ipcwarden.core.sysctls import KERNEL_DEFAULTS


def findings_of(sysctls: str, extends: str = "", page: int = 4096) -> list[Finding]:
    """Return what is found in one profile."""
    text = f"version: 1\nprofiles:\n  p:\n    {extends}\n    sysctls: {{{sysctls}}}\nrules: [{{name: r, profile: p}}]\n"
    outcome = compile_sources([*built_in(), Source(MAIN, "f", text.encode())], KERNEL_DEFAULTS, "", page)
    assert outcome.policy is not None
    return list(outcome.findings)


@pytest.mark.parametrize(
    ("sysctls", "column", "said"),
    [
        (
            "kernel.msgmax: 64KiB, kernel.msgmnb: 16KiB",
            30,
            "kernel.msgmax 64KiB is above kernel.msgmnb 16KiB: a message",
        ),
        ("kernel.msgmax: 64KiB", 30, "kernel.msgmax 64KiB is above kernel.msgmnb 16384"),
        ("kernel.msgmnb: {default: 4KiB}", 40, "kernel.msgmax 8192 is above kernel.msgmnb 4KiB"),
        ("kernel.msgmax: 64KiB, kernel.msgmnb: kernel", 30, "is above kernel.msgmnb 16384 (kernel)"),
        (
            "kernel.msgmax: {default: 8KiB}, kernel.msgmnb: {max: 4KiB}",
            40,
            "kernel.msgmax 8KiB is above kernel.msgmnb 4096",
        ),
        ("kernel.msgmnb: 16KiB, kernel.msgmax: {min: 32KiB}", 30, "kernel.msgmax 32768 is above kernel.msgmnb 16KiB"),
        ("kernel.shmmax: 2MiB, kernel.shmall: 1MiB", 30, "which is 1048576 bytes: a segment of that size can never be"),
        ("kernel.shmmax: 8KiB, kernel.shmall: 1", 30, "is above kernel.shmall 1, which is 4096 bytes"),
        ("kernel.sem: 250 100 32 32", 27, "kernel.sem.semmsl 250 is above kernel.sem.semmns 100"),
        ("kernel.sem: 32 100 32 128", 27, "kernel.sem.semmni 128 is above kernel.sem.semmns 100"),
        ("fs.mqueue.msg_default: 11", 38, "fs.mqueue.msg_default 11 is above fs.mqueue.msg_max 10"),
        ("fs.mqueue.msg_max: 9", 34, "fs.mqueue.msg_default 10 is above fs.mqueue.msg_max 9"),
        ("fs.mqueue.msgsize_default: 16KiB", 42, "fs.mqueue.msgsize_default 16KiB is above fs.mqueue.msgsize_max 8192"),
        ("fs.mqueue.msg_max: 101", 34, "is 827392 bytes: a queue of that size needs more than the 819200 bytes"),
        ("kernel.shmall: 0", 30, "kernel.shmall 0: no shared memory segment can be created at all"),
        ("kernel.shmmni: {default: 0, max: 0}", 48, "kernel.shmmni 0: no shared memory segment can be created at all"),
        ("kernel.sem: {semopm: 0}", 36, "kernel.sem.semopm 0: semaphores can be created, but never used"),
        ("fs.mqueue.queues_max: 0", 37, "fs.mqueue.queues_max 0: no POSIX message queue can be created at all"),
    ],
)
def test_a_contradiction_is_a_warning(sysctls: str, column: int, said: str) -> None:
    """What would never work is told where it is written."""
    findings = findings_of(sysctls)
    assert [(f.severity, f.line, f.column) for f in findings] == [("warning", 5, column)]
    assert said in findings[0].message


@pytest.mark.parametrize(
    "sysctls",
    [
        "",
        "kernel.msgmax: 8KiB, kernel.msgmnb: 8KiB",
        "kernel.msgmax: {max: 64KiB}",
        "kernel.shmall: 1MiB",
        "kernel.shmall: 1MiB, kernel.shmmax: kernel",
        "kernel.shmall: {max: 50% of memory}, kernel.shmmax: 1GiB",
        "kernel.shmall: 50% of memory, kernel.shmmax: 1GiB",
        "kernel.shmmax: 50% of memory, kernel.shmall: 1MiB",
        "kernel.shmmax: {max: 1GiB}, kernel.shmall: 1MiB",
        "kernel.sem: 250 32000 100 128",
        "kernel.sem: {semmns: 1 per GiB}",
        "fs.mqueue.msg_max: 100",
        "kernel.shm_rmid_forced: 0",
        "kernel.msgmax: 0",
        "kernel.msgmni: {default: 0}",
    ],
)
def test_what_works_is_none(sysctls: str) -> None:
    """What depends on memory or on the request is not guessed at."""
    assert findings_of(sysctls) == []


def test_pages_are_this_hosts() -> None:
    """A page is not 4096 bytes everywhere."""
    assert findings_of("kernel.shmmax: 64KiB, kernel.shmall: 1", page=65536) == []


def test_what_is_inherited_is_told_where_it_was_written() -> None:
    """A child that changes nothing of it hears nothing of it."""
    profiles = "  a: {sysctls: {kernel.msgmni: 0, kernel.msgmax: 64KiB}}\n  b: {extends: a}\n"
    text = f"version: 1\nprofiles:\n{profiles}rules: [{{name: r, profile: b}}]\n"
    outcome = compile_sources([Source(MAIN, "f", text.encode())], KERNEL_DEFAULTS, "", 4096)
    assert [finding.line for finding in outcome.findings] == [3, 3]


def test_a_contradiction_with_what_is_inherited_is_the_childs() -> None:
    """Whoever changed one of the two is told."""
    findings = findings_of("kernel.msgmnb: {default: 4KiB}", "extends: baseline")
    assert [(f.line, f.column) for f in findings] == [(5, 40)]


@pytest.mark.parametrize(("used", "lines"), [("baseline", []), ("s", [3])])
def test_profiles_of_others_are_told_of_only_when_used(used: str, lines: list[int]) -> None:
    """The administrator cannot mend what a package brought."""
    sources = [
        *built_in(),
        Source(SITE, "s", b"version: 1\nprofiles:\n  s: {sysctls: {kernel.msgmax: 64KiB}}\n"),
        Source(MAIN, "f", f"version: 1\nrules: [{{name: r, profile: {used}}}]\n".encode()),
    ]
    assert [f.line for f in compile_sources(sources, KERNEL_DEFAULTS, "", 4096).findings] == lines


@pytest.mark.parametrize(
    ("profile", "line", "said"),
    [
        (
            "rlimits: {msgqueue: 64KiB}\n    sysctls: {fs.mqueue.msg_max: 10}",
            5,
            "is 81920 bytes: a queue of that size needs more than the 65536 bytes of the profile's rlimits.msgqueue",
        ),
        (
            "sysctls: {fs.mqueue.msg_max: 1000}\n    rlimits: {msgqueue: 1MiB}",
            4,
            "a queue of that size needs more than the 1048576 bytes of the profile's rlimits.msgqueue",
        ),
        ("rlimits: {msgqueue: 0}", 4, "msgqueue 0: no POSIX message queue can be created at all"),
    ],
)
def test_the_profiles_own_limit_of_posix_queues_counts(profile: str, line: int, said: str) -> None:
    """In place of the kernel's."""
    text = f"version: 1\nprofiles:\n  p:\n    {profile}\nrules: [{{name: r, profile: p}}]\n"
    outcome = compile_sources([*built_in(), Source(MAIN, "f", text.encode())], KERNEL_DEFAULTS, "", 4096)
    assert [(finding.severity, finding.line) for finding in outcome.findings] == [("warning", line)]
    assert said in outcome.findings[0].message


def test_a_limit_that_is_raised_with_the_queues_is_no_contradiction() -> None:
    """It is what the warning says to do."""
    text = b"""\
version: 1
profiles:
  p: {sysctls: {fs.mqueue.msg_max: 1000}, rlimits: {msgqueue: 16MiB}}
rules: [{name: r, profile: p}]
"""
    assert compile_sources([*built_in(), Source(MAIN, "f", text)], KERNEL_DEFAULTS, "", 4096).findings == ()
