"""What is wrong with a source, where, and what would be right: findings are values, collected until all are known."""

from __future__ import annotations

import difflib

from ipcwarden.errors import printable
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


@value
class Place:
    """A place in a source; lines and columns count from 1, `path` is the way to it in the document."""

    file: str
    line: int
    column: int
    path: str


@value
class Finding:
    """One error or warning."""

    severity: str  # error | warning
    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        """Return the finding as one line, in the form that editors jump from."""
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return printable(f"{self.file}:{self.line}:{self.column}: {self.severity}: {path}{self.message}{hint}")


class Report:
    """All findings of one run."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._order: dict[str, int] = {}

    def opened(self, file: str) -> None:
        """Note the next file: findings are sorted in the order of reading."""
        self._order.setdefault(file, len(self._order))

    def error(self, at: Place, message: str, hint: str = "") -> None:
        """Add what keeps the policy from being compiled."""
        self._found.append(Finding("error", at.file, at.line, at.column, at.path, message, hint))

    def warning(self, at: Place, message: str, hint: str = "") -> None:
        """Add what is allowed, but is hardly what was meant."""
        self._found.append(Finding("warning", at.file, at.line, at.column, at.path, message, hint))

    def has_error_at(self, at: Place) -> bool:
        """Tell whether this very place has an error already."""
        return any(
            (f.severity, f.file, f.line, f.column) == ("error", at.file, at.line, at.column) for f in self._found
        )

    @property
    def failed(self) -> bool:
        """Tell whether anything keeps the policy from being compiled."""
        return any(finding.severity == "error" for finding in self._found)

    def findings(self) -> tuple[Finding, ...]:
        """Return all findings by file, line and column."""
        return tuple(sorted(self._found, key=lambda f: (self._order.get(f.file, -1), f.line, f.column)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names the likeliest of the known words, or an empty string."""
    alike = difflib.get_close_matches(word, sorted(known), n=1)
    return f"did you mean '{alike[0]}'?" if alike else ""


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return words as people write a list."""
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final
