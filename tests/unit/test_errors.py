"""Every error is one printable line, with an exit code of its own."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden import errors
from ipcwarden.errors import ApplyError, WardenError, printable, why

CODES = {
    "WardenError": (70, "internal", True),
    "UsageError": (64, "internal", True),
    "StateError": (65, "state", False),
    "NamespaceError": (69, "namespace", False),
    "KernelError": (69, "namespace", True),
    "ApplyError": (71, "apply", True),
    "RecordError": (74, "ledger", True),
    "DeadlineError": (75, "deadline", True),
    "PolicyViolation": (77, "policy", False),
    "PolicyError": (78, "policy", True),
}
CLASSES = [each for each in vars(errors).values() if isinstance(each, type)]


@pytest.mark.parametrize("error", CLASSES)
def test_code_reason_and_fault(error: type[WardenError]) -> None:
    """Exit codes, the record's reasons and whose fault it is are interfaces."""
    assert (error.exit_code, error.reason, error.of_host) == CODES[error.__name__]


def test_every_class_is_listed() -> None:
    """No class of the list is missing from the module."""
    assert {each.__name__ for each in CLASSES} == set(CODES)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 'quoted' \"twice\" \\", "plain text, 'quoted' \"twice\" \\"),
        ("", ""),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\0\x7f\t", "\\x00\\x7f\\t"),
        ("größe", "gr\\xf6\\xdfe"),
        ("\u202etxt", "\\u202etxt"),
        ("\U0001f600", "\\U0001f600"),
        ("\udcff", "\\udcff"),
        ("\u2028", "\\u2028"),
    ],
)
def test_escapes_what_is_not_printable(text: str, shown: str) -> None:
    """Control characters, direction marks and half characters are spelled out."""
    assert printable(text) == shown


@given(st.text(st.characters()), st.text(st.characters()))
def test_is_one_line(message: str, hint: str) -> None:
    """Whatever an error is about, it is one line of printable ASCII."""
    line = str(WardenError(message, hint))
    assert line.isascii()
    assert line.isprintable()


def test_puts_the_hint_last() -> None:
    """What to do stands in parentheses behind what went wrong."""
    assert str(WardenError("cannot go", "stay\n")) == "cannot go (stay\\n)"


def test_names_the_file_that_the_kernel_refused() -> None:
    """Beside the sentence, so that a container that asked for it can be told from the host."""
    error = ApplyError("cannot set", "hint", "kernel.sem")
    assert (error.file, str(error), ApplyError("cannot set").file) == ("kernel.sem", "cannot set (hint)", "")


def test_says_nothing_where_there_is_no_hint() -> None:
    """An error without a hint has no parentheses."""
    assert str(WardenError("cannot go")) == "cannot go"


def test_gives_the_kernels_reason_alone() -> None:
    """The number and the path that Python adds are left out."""
    assert why(FileNotFoundError(errno.ENOENT, "No such file or directory", "/x")) == "no such file or directory"


def test_gives_what_there_is_without_a_reason() -> None:
    """An error without a number is told by its text."""
    assert why(OSError("Out of luck")) == "out of luck"
