"""What is said of an exception that nobody foresaw."""

from __future__ import annotations

from ipcwarden.errors import printable

REPORT = "this is a fault of ipcwarden, please report it"


def bug(error: Exception) -> str:
    """Return what is to be reported, on one line."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
    return printable(f"cannot go on: {type(error).__name__} at {place}: {error}")
