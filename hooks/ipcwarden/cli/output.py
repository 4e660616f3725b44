"""Standard output that cannot be written: an error of its own class, wherever and by whatever library it is written."""

from __future__ import annotations

import io
import os
import sys

from ipcwarden.errors import WardenError, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer


class OutputError(WardenError):
    """Standard output cannot be written."""

    exit_code = 74


class _Output(io.FileIO):
    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {why(error)}") from error


def prepare() -> None:
    """Let writing to standard output raise `OutputError`; where it is closed, now and before anything is done."""
    # What we open must not stand where somebody writes to standard error.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stdout is None:
        raise OutputError("cannot write to standard output: it is closed")
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "wb", closefd=False)),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=bool(sys.stdout.line_buffering),
    )


def discard() -> None:
    """Drop what is still buffered, where it has nowhere to go: Python would try once more at its end."""
    try:
        sys.stdout.flush()
    except (AttributeError, OSError, WardenError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
