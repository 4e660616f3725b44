"""What a throwaway container of an engine's tells: does what is registered work."""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis.finding import PROBLEM, WARNING, Finding
from ipcwarden.core.sysctls import FILES, numbers
from ipcwarden.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipcwarden.cli.logs import Record
    from ipcwarden.core.documents import Document

PASSED, FAILED, IMPOSSIBLE = "passed", "failed", "impossible"
PATIENCE = 10.0  # seconds in which a teardown has to be recorded
_LINES = len(FILES)


@dataclass(frozen=True)
class Probe:
    """What became of an engine's container; `message` is what was seen, or why nothing was."""

    engine: str
    outcome: str
    message: str

    def document(self) -> dict[str, Document]:
        """Return what --json prints of it."""
        return {"engine": self.engine, "outcome": self.outcome, "message": self.message}

    def findings(self) -> list[Finding]:
        """Return what is wrong, if anything."""
        if self.outcome == PASSED:
            return []
        severity = PROBLEM if self.outcome == FAILED else WARNING
        message = self.message if self.outcome == FAILED else f"cannot be probed: {self.message}"
        return [Finding("probe", severity, self.engine, message, "ipcwarden audit shows what was recorded")]


@dataclass(frozen=True)
class Run:
    """How a container's run ended, and what it said."""

    code: int
    stdout: str = ""
    stderr: str = ""

    @property
    def reason(self) -> str:
        """The line of what it said that tells most: the first with an error, else the last that is no advice."""
        lines = [line.strip() for line in self.stderr.splitlines()]
        lines = [line for line in lines if line and not line.startswith("See '")]
        said = next((line for line in lines if "Error" in line), lines[-1] if lines else "")
        return printable(said) if said else f"it ended with {self.code}"


def judge(engine: str, run: Run, records: Sequence[Record], runs_without_us: Callable[[], bool]) -> Probe:
    """Compare what a container saw with what was recorded of it."""
    events = {str(each.document.get("event")): each.document for each in records}
    for event in ("refused", "error"):
        if event in events:
            said = extract.text(events[event], "message") or run.reason
            return Probe(engine, FAILED, f"it was {event}: {said}" if event == "refused" else said)
    if "skipped" in events:
        reason = extract.text(events["skipped"], "reason")
        said = "no rule of the policy is for it" if reason == "no-rule" else f"it was left alone: {reason}"
        return Probe(engine, IMPOSSIBLE, said)
    if run.code:
        if runs_without_us():
            return Probe(engine, FAILED, f"it does not start with what is registered: {run.reason}")
        return Probe(engine, IMPOSSIBLE, f"it does not start at all: {run.reason}")
    if "applied" not in events:
        return Probe(engine, FAILED, "it ran, and nothing decided on it: what is registered was not called")
    return _compared(engine, run, events)


def _compared(engine: str, run: Run, events: dict[str, dict[str, Document]]) -> Probe:
    seen, applied = limits_in(run.stdout), events["applied"]
    if seen is None:
        return Probe(engine, FAILED, "it ran, and its limits could not be read from inside")
    wanted = {extract.text(row, "name"): extract.text(row, "wanted") for row in extract.rows(applied, "sysctls")}
    enforced = applied.get("enforced") is True
    if enforced:
        for name, text in wanted.items():
            if str(seen.get(name)) != text:
                return Probe(engine, FAILED, f"{name} is {seen.get(name)} inside, and {text} was to be in force")
    if "teardown" not in events:
        return Probe(engine, FAILED, f"its end was not recorded within {PATIENCE:g} s: poststop did not run")
    told = f"{len(wanted)} limits in force" if enforced else "decided on, and nothing enforced: its rule is permissive"
    return Probe(engine, PASSED, f"{told}, by the profile '{extract.text(applied, 'profile')}'")


def limits_in(text: str) -> dict[str, int] | None:
    """Return the limits that a container has printed, one file a line; None where that is not what it printed."""
    lines = text.splitlines()
    found: dict[str, int] = {}
    if len(lines) != _LINES:
        return None
    for line, (file, names) in zip(lines, FILES.items(), strict=True):
        values = numbers(file, line)
        if values is None:
            return None
        found |= dict(zip(names, values, strict=True))
    return found
