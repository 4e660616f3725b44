"""What doctor has found, in the order in which it matters; and which checks there are, with why each matters."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipcwarden.core.documents import Document

PROBLEM, WARNING, NOTE = SEVERITIES = ("problem", "warning", "note")

# Every check by its name, and why what it finds matters; docs/doctor.md has a row for each.
CHECKS = {
    "policy": "without a policy that hooks can use, every container is refused, or starts ungoverned",
    "pending": "hooks read nothing but what is compiled: an edit means nothing until then",
    "release": "amounts called `kernel` are then those of a table, not those that this kernel has",
    "switch": "containers start ungoverned while the kill switch is on",
    "unregistered": "containers of an engine that does not run our hooks or wrapper are not governed",
    "target": "an engine skips what is missing, or refuses every container",
    "bytecode": "hooks are compiled anew at every start, which is slow",
    "outdated": "what runs is another version than the one that you called",
    "root": "hooks decide by the policy, and write to the ledger, of another root than this one",
    "hooks-d": "podman and CRI-O start no container while one file there is malformed",
    "foreign-hand": "whoever can write there has root run what he likes, or takes our hooks away",
    "masked": "of files with one name podman reads the last directory's alone",
    "both-stages": "the hook decides twice: harmless, but each start pays for it",
    "incomplete": "without one of the stages limits are not set, not held, or pins stay until gc",
    "unread": "files in a directory that nobody reads govern nothing",
    "precreate": "buildah reads that directory, too, and does not know the stage: podman build fails",
    "engine": "what the engine's configuration says cannot be known",
    "not-default": "containers that do not name our runtime are not governed by it",
    "late": "runc 1.6 and later run poststart after the user's process: a clamped limit comes late",
    "nested": "a nested namespace leaves every limit behind, and hooks alone cannot refuse it",
    "log": "records wait in the ledger, which is lost at the next boot",
    "ledger": "no container can be governed, or none can start",
    "pins": "a pin holds a dead container's memory until gc frees it",
    "kernel": "less can be told, or proven, about namespaces",
    "ungoverned": "they have whatever limits they asked for, and nobody records what they leave behind",
    "unknown": "a condition over an unknown fact does not hold, and the next rule is tried",
    "probe": "what is registered, and what happens, may differ",
    "unchecked": "what could not be looked at may be fine, or not",
}


@dataclass(frozen=True)
class Finding:
    """One thing: `subject` is what it is about, a path, a container, an engine; `hint` what to do.

    `because` is why it matters, where that is not what the check says.
    """

    check: str
    severity: str
    subject: str
    message: str
    hint: str = ""
    because: str = ""

    @property
    def why(self) -> str:
        """Why it matters."""
        return self.because or CHECKS[self.check]

    def document(self) -> dict[str, Document]:
        """Return what --json prints of it."""
        return {
            "check": self.check,
            "severity": self.severity,
            "subject": self.subject,
            "message": self.message,
            "hint": self.hint,
        }


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, none of them twice: problems first, then by check as listed, and by subject."""
    checks = list(CHECKS)

    def place(finding: Finding) -> tuple[int, int, str, str]:
        return SEVERITIES.index(finding.severity), checks.index(finding.check), finding.subject, finding.message

    return sorted(dict.fromkeys(findings), key=place)
