"""Amounts have a unit that fits, and lie in the kernel's own range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.compiler.amounts import SCALED, SHARES, UNITS, Machine, amount_of
from ipcwarden.compiler.findings import Place, Report
from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence
from ipcwarden.core.sysctls import BYTES, KERNEL_DEFAULTS, NAMES, PAGES, canonical, range_of

AT = Place("f", 1, 1, "p")
MACHINE = Machine(KERNEL_DEFAULTS, "", 4096)
EXTENDED = Machine(KERNEL_DEFAULTS, "", 4096, ipcmni_extend=True)
GIB = 1 << 30


def scalar(value: bool | int | str | None) -> Scalar:
    """Return a value as the reader gives it."""
    number = canonical(value) if isinstance(value, str) else None
    return Scalar(AT, value if number is None else number, str(value))


def amount(name: str, value: bool | int | str | None, machine: Machine = MACHINE) -> tuple[object, list[str]]:
    """Return the amount, and what is wrong with it."""
    report = Report()
    found = amount_of(name, scalar(value), machine, report)
    return found, [str(finding).removeprefix("f:1:1: error: p: ") for finding in report.findings()]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("kernel.shmmax", "kernel", "kernel"),
        ("kernel.shmmax", "0", 0),
        ("kernel.shmmax", "64KiB", 65536),
        ("kernel.shmmax", "2TiB", 2 << 40),
        ("kernel.shmmax", "18446744073709551615", 18446744073709551615),
        ("kernel.shmmax", "50% of memory", ("memory", 50, 50, 0)),
        ("kernel.shmmax", "50% of limit", ("memory", 50, 50, 0)),
        ("kernel.shmmax", "2% of host", ("memory", None, 2, 0)),
        ("kernel.shmall", "200% of memory", ("memory", 200, 200, 0)),
        ("kernel.shmall", "100", 100),
        ("kernel.shmall", "5242880 pages", 5242880),
        ("kernel.shmall", "1GiB", 262144),
        ("kernel.shmall", "4KiB", 1),
        ("kernel.msgmax", "2097151KiB", 2147482624),
        ("kernel.shmmni", "256 per GiB", ("per_gib", 256)),
        ("fs.mqueue.queues_max", "8 per GiB", ("per_gib", 8)),
        ("kernel.shm_rmid_forced", "1", 1),
        ("fs.mqueue.msgsize_max", "16MiB", 16777216),
    ],
)
def test_takes_what_fits(name: str, text: str, expected: object) -> None:
    """Each name has its units."""
    assert amount(name, text) == (expected, [])


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("kernel.msgmax", "64K", "write 64KiB"),
        ("kernel.msgmax", "64KB", "write 64KiB"),
        ("kernel.msgmax", "64 kib", "write 64KiB"),
        ("kernel.msgmax", "1m", "write 1MiB"),
        ("kernel.msgmax", "010", "write 10: only digits, no leading zero"),
        ("kernel.msgmax", "0x10", "numbers are decimal: write 16"),
        ("kernel.msgmax", "1_000", "write 1000: only digits"),
        ("kernel.msgmax", "+5", "write 5: only digits"),
        ("kernel.msgmax", "1:30", "a whole number in digits alone"),
        ("kernel.msgmax", "1e3", "a whole number in digits alone"),
        ("kernel.msgmax", "1.5", "a whole number in digits alone"),
        ("kernel.msgmax", "1.5MiB", "a whole number in digits alone"),
        ("kernel.msgmax", "-1", "write 'kernel', or the number that you mean"),
        ("kernel.msgmax", "unlimited", "write 'kernel', or the number that you mean"),
        ("kernel.msgmax", "", "must be bytes, such as 65536 or 64KiB, or 'kernel', not nothing"),
        ("kernel.msgmax", "lots", "must be bytes, such as 65536 or 64KiB, or 'kernel', not 'lots'"),
        ("kernel.msgmax", True, "not True"),
        ("kernel.msgmax", None, "null drops a whole rule"),
        ("kernel.msgmax", "50% of memory", "shares of memory are for kernel.shmall and kernel.shmmax"),
        ("kernel.msgmax", "2 per GiB", "'N per GiB' is for"),
        ("kernel.msgmax", "2 pages", "it is measured in bytes"),
        ("kernel.msgmax", "2GiB", "must be 0 to 2147483647, not '2GiB'"),
        ("kernel.msgmax", "9" * 5000, "must be 0 to 2147483647, not '99"),
        ("kernel.msgmax", "99999999999999999999TiB", "must be 0 to 2147483647"),
        ("kernel.shmmax", "50%", "write '50% of memory'"),
        ("kernel.shmmax", "0% of memory", "write '1% of memory'"),
        ("kernel.shmmax", "50 % of memory", "write '50% of memory'"),
        ("kernel.shmmax", "10001% of memory", "at most 10000%"),
        ("kernel.shmmax", "18446744073709551616", "must be 0 to 18446744073709551615"),
        ("kernel.shmall", "5KiB", "the kernel counts whole pages of 4096 bytes: round it up"),
        ("kernel.shmall", "010 pages", "must be pages or a size"),
        ("kernel.shmmni", "64KiB", "it is a count, without a unit"),
        ("kernel.shmmni", "32769", "more needs the kernel's boot option ipcmni_extend"),
        ("kernel.shmmni", "0 per GiB", "write '256 per GiB'"),
        ("kernel.sem.semmsl", "2 per GiB", "'N per GiB' is for"),
        ("kernel.shm_rmid_forced", "2", "must be 0 to 1, not 2 (it is a switch)"),
        ("kernel.shm_rmid_forced", "yes", "must be 0, 1 or 'kernel', not 'yes'"),
        ("fs.mqueue.msg_max", "0", "must be 1 to 65536, not 0"),
        ("fs.mqueue.msg_max", "65537", "must be 1 to 65536"),
        ("fs.mqueue.msgsize_default", "127", "must be 128 to 16777216"),
        ("kernel.sem.semmns", "2147483648", "must be 0 to 2147483647"),
    ],
)
def test_says_what_would_be_right(name: str, value: bool | str | None, part: str) -> None:
    """What does not fit is refused once, with what would."""
    found, findings = amount(name, value)
    assert found is None
    assert len(findings) == 1
    assert part in findings[0]


def test_a_list_is_no_amount() -> None:
    """A list is told from an amount."""
    report = Report()
    assert amount_of("kernel.msgmax", Sequence(AT, []), MACHINE, report) is None
    assert "not a list" in report.findings()[0].message


@pytest.mark.parametrize("name", NAMES)
def test_takes_the_kernels_own_range_and_nothing_beyond(name: str) -> None:
    """Both ends of the kernel's range fit, one more does not."""
    low, high = range_of(name)
    assert amount(name, str(low)) == (low, [])
    assert amount(name, str(high)) == (high, [])
    assert len(amount(name, high + 1)[1]) == 1
    assert low == 0 or len(amount(name, low - 1)[1]) == 1


@pytest.mark.parametrize("name", ["kernel.shmmni", "kernel.msgmni", "kernel.sem.semmni"])
def test_ipcmni_extend_raises_the_counts(name: str) -> None:
    """A kernel booted with ipcmni_extend takes up to 16777216."""
    assert amount(name, "16777216", EXTENDED) == (16777216, [])
    assert len(amount(name, "16777217", EXTENDED)[1]) == 1


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"of_limit": "200%", "of_host": "50%", "at_least": "1GiB"}, ("memory", 200, 50, GIB)),
        ({"of_limit": "200%"}, ("memory", 200, 200, 0)),
        ({"of_host": "5%"}, ("memory", None, 5, 0)),
        ({"of_host": "5%", "at_least": 4096}, ("memory", None, 5, 4096)),
        ({"at_least": "1GiB"}, "must have of_limit or of_host"),
        ({"of_limit": "0%"}, "must be a percentage from 1% to 10000%, not '0%'"),
        ({"of_limit": "10001%"}, "must be a percentage from 1% to 10000%"),
        ({"of_limit": 50}, "must be a percentage from 1% to 10000%, not 50 (write 50%)"),
        ({"of_limit": True}, "must be a percentage from 1% to 10000%, not True"),
        ({"of_host": "50% of memory"}, "must be a percentage"),
        ({"of_host": "5%", "at_least": "1G"}, "must be bytes, such as 1GiB, not '1G' (write 1GiB)"),
        ({"of_host": "5%", "at_least": "5 pages"}, "must be bytes, such as 1GiB, not '5 pages'"),
        ({"of_host": "5%", "at_least": "99999999TiB"}, "must be bytes, such as 1GiB"),
        ({"of_host": "5%", "at_least": None}, "must be bytes"),
    ],
)
def test_shares_of_memory(entries: dict[str, bool | int | str | None], expected: object) -> None:
    """A share may differ for containers without a limit, and has a floor."""
    report = Report()
    node = Mapping(AT, dict.fromkeys(entries, AT), {key: scalar(value) for key, value in entries.items()})
    found = amount_of("kernel.shmall", node, MACHINE, report)
    if isinstance(expected, tuple):
        assert (found, report.findings()) == (expected, ())
    else:
        assert found is None
        assert str(expected) in str(report.findings()[0])


def test_a_share_must_be_of_percentages() -> None:
    """A list is no percentage."""
    report = Report()
    amount_of("kernel.shmall", Mapping(AT, {"of_limit": AT}, {"of_limit": Sequence(AT, [])}), MACHINE, report)
    assert "must be a percentage, not a list" in report.findings()[0].message


@given(st.sampled_from(NAMES), st.text(max_size=30) | st.integers(-5, 2**70) | st.booleans() | st.none())
def test_any_value_is_an_amount_or_a_finding(name: str, value: bool | int | str | None) -> None:
    """Nothing but findings ever comes of a value, and never none of both."""
    found, findings = amount(name, value)
    assert (found is None) == bool(findings)


@given(
    st.sampled_from(NAMES),
    st.from_regex(r"[+-]?[0-9xe_.:]{1,8} ?([kKMGT]i?B?|% of [a-z]+| per GiB| pages)?", fullmatch=True),
)
def test_anything_like_an_amount_is_one_or_a_finding(name: str, text: str) -> None:
    """Nothing but findings ever comes of what looks like an amount."""
    found, findings = amount(name, text)
    assert (found is None) == bool(findings)


@given(st.sampled_from(sorted(BYTES)), st.integers(0, 2**40), st.sampled_from(sorted(UNITS)))
def test_sizes_are_bytes(name: str, number: int, unit: str) -> None:
    """A size is the number times the unit, or out of range."""
    low, high = range_of(name)
    size = number * UNITS[unit]
    assert amount(name, f"{number}{unit}")[0] == (size if low <= size <= high else None)


@given(st.integers(0, 2**30), st.sampled_from([4096, 16384, 65536]))
def test_sizes_of_pages_follow_the_page(number: int, page: int) -> None:
    """A size that the kernel counts in pages is whole pages of this host."""
    found = amount("kernel.shmall", f"{number}KiB", Machine(KERNEL_DEFAULTS, "", page))[0]
    assert found == (None if number * 1024 % page else number * 1024 // page)


def test_every_unit_has_names_that_take_it() -> None:
    """No name is in two of the kinds that are measured."""
    assert not BYTES & PAGES
    assert SHARES < BYTES | PAGES
    assert not SCALED & (BYTES | PAGES)
