"""What can go wrong, and the exit code of each: crun shows its user nothing else."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` on one line: whatever is not printable ASCII is escaped as Python and JSON write it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text)


def why(error: OSError) -> str:
    """Return the kernel's reason alone, without the number and the path that Python adds."""
    return (error.strerror or str(error)).lower()


class WardenError(Exception):
    """A failure with a sentence for people: what was attempted, on what, why it failed; `hint` says what to do.

    `of_host` tells a fault of the host (`--on-error` decides) from one in what the container brings (refused).
    """

    exit_code = 70
    reason = "internal"
    of_host = True

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        """Return the whole error as one line."""
        message = printable(str(self.args[0]))
        return f"{message} ({printable(self.hint)})" if self.hint else message


class UsageError(WardenError):
    """The arguments make no sense."""

    exit_code = 64


class StateError(WardenError):
    """The state JSON or config.json is not what can be used."""

    exit_code = 65
    reason = "state"
    of_host = False


class NamespaceError(WardenError):
    """The container's IPC namespace is not one that may be touched."""

    exit_code = 69
    reason = "namespace"
    of_host = False


class KernelError(NamespaceError):
    """The namespace cannot be opened, joined or pinned, through no fault of the container."""

    of_host = True


class ApplyError(WardenError):
    """The kernel refused a value, or it did not stick."""

    exit_code = 71
    reason = "apply"

    def __init__(self, message: str, hint: str = "", file: str = "") -> None:
        super().__init__(message, hint)
        self.file = file


class RecordError(WardenError):
    """The ledger or the log cannot be read or written."""

    exit_code = 74
    reason = "ledger"


class DeadlineError(WardenError):
    """Our own deadline passed: better to end than to be killed half-way by the runtime's."""

    exit_code = 75
    reason = "deadline"


class PolicyViolation(WardenError):
    """The container asks for what policy refuses."""

    exit_code = 77
    reason = "policy"
    of_host = False


class PolicyError(WardenError):
    """The compiled policy is missing, of an unknown format, not root's, or writable by others."""

    exit_code = 78
    reason = "policy"


def bug(error: Exception) -> WardenError:
    """Return what is to be said of an exception that nobody foresaw: where it happened, and whose fault it is."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
    return WardenError(
        f"cannot go on: {type(error).__name__} at {place}: {error}", "this is a fault of ipcwarden, please report it"
    )
