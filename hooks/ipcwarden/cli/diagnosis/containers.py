"""Containers that nobody governs, and facts that nobody knew when the last ones were decided."""

from __future__ import annotations

import os
from collections import Counter

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis.finding import PROBLEM, WARNING, Finding
from ipcwarden.cli.logs import record_of
from ipcwarden.core.documents import parse
from ipcwarden.errors import RecordError, why
from ipcwarden.files import open_place, open_regular, read
from ipcwarden.host.procfs import slurp
from ipcwarden.layout import LOG, RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipcwarden.cli.census import Resident
    from ipcwarden.cli.logs import Record
    from ipcwarden.cli.survey import Finding as Namespace
    from ipcwarden.cli.survey import Tenant
    from ipcwarden.core.policy import Policy
    from ipcwarden.layout import Place

PROBES = "ipcwarden-probe-"  # how doctor's own containers are called
_LARGEST = 8 << 20  # bytes of an entry
_TAIL = 1 << 20  # bytes of the log that are looked at
_DECIDED = ("applied", "refused", "skipped")


def ungoverned(
    namespaces: Iterable[Namespace], policy: Policy | None, is_users: Callable[[Resident], bool]
) -> list[Finding]:
    """Find containers that run without an entry, although the policy has a rule for them.

    `is_users` tells whether the ledger of an ordinary user has a container of that user's.
    """
    found = []
    for each in namespaces:
        if each.household.hosts:
            continue  # the host's namespace is never governed: refused, or audited
        for tenant in each.tenants:
            if tenant.entry or (policy is not None and tenant.rule is None and tenant.judged.verdict == "no-rule"):
                continue
            if not (tenant.resident.rootless and is_users(tenant.resident)):
                found.append(_ungoverned(tenant))
    return found


def _ungoverned(tenant: Tenant) -> Finding:
    resident, facts = tenant.resident, tenant.facts
    name = resident.container or f"pid {resident.pid}"
    called = f" '{facts.name}'" if facts.name and facts.name != name else ""
    message = f"runs ungoverned, as a container{called} of {facts.engine or 'an unknown engine'}, pid {resident.pid}"
    if resident.rootless:
        hint = "what an ordinary user's engine is told, that user can take away: docs/rootless.md"
        return Finding("ungoverned", WARNING, name, f"{message}, an ordinary user's", hint)
    hint = "start it again, once its engine is registered; ipcwarden scan shows what that would mean"
    return Finding("ungoverned", PROBLEM, name, message, hint)


def in_users_ledger(resident: Resident) -> bool:
    """Tell whether a ledger of an ordinary user's has a container: no more than that user's word.

    It lies where the environment of who started the container says, else where logind makes the user's directory.
    """
    try:
        parent = int(slurp(f"/proc/{resident.pid}/stat").rpartition(b") ")[2].split()[1])
        variables = slurp(f"/proc/{parent}/environ").split(b"\0")
        own = f"/run/user/{os.stat(f'/proc/{parent}').st_uid}"
    except (OSError, ValueError, IndexError):
        return False  # it has just ended
    name = b"XDG_RUNTIME_DIR="
    named = [os.fsdecode(each.removeprefix(name)) for each in variables if each.startswith(name)]
    return any(_has(f"{directory}/{RUN.rpartition('/')[2]}/containers", resident) for directory in (*named, own))


def _has(ledger: str, resident: Resident) -> bool:
    try:
        names = [name for name in os.listdir(ledger) if name.endswith(".json")]
    except OSError:
        return False
    for name in names:
        try:
            entry = parse(read(f"{ledger}/{name}", _LARGEST))
        except (OSError, ValueError, RecursionError):
            continue
        if (extract.number(entry, "pid"), extract.number(entry, "started")) == (resident.pid, resident.start):
            return extract.text(entry, "state") == "applied"
    return False


def unknown(records: Iterable[Record], policy: Policy | None) -> list[Finding]:
    """Find facts that a rule of the policy in force asked for, and nobody knew."""
    if policy is None:
        return []
    counts = Counter[str]()
    last: dict[str, str] = {}
    for record in records:
        document = record.document
        names = [extract.text(document, "container", key) for key in ("id", "name")]
        if any(name.startswith(PROBES) for name in names):
            continue  # without an image, because none was needed
        if document.get("event") in _DECIDED and document.get("policy") == policy.digest[:12]:
            for key in extract.texts(document, "unknown"):
                counts[key] += 1
                last[key] = extract.text(document, "container", "id")
    return [
        Finding(
            "unknown",
            WARNING,
            key,
            f"asked for by a rule, and not known of {count} recent container{'s' * (count > 1)}, lately '{last[key]}'",
            "docs/engines.md says which engine tells what; ipcwarden audit shows the rule that was taken instead",
        )
        for key, count in counts.items()
    ]


def recent(logs: Place) -> list[Record]:
    """Return the last records of the log; what is torn is left out.  Raises `RecordError`."""
    path = f"{logs}/{LOG}"
    try:
        directory = open_place(logs)
        try:
            fd = open_regular(LOG, os.O_RDONLY, directory)
        finally:
            os.close(directory)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        raise RecordError(f"cannot read '{path}': {reason}") from error
    with os.fdopen(fd, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        lines = file.read(_TAIL).split(b"\n")
    return [record for line in lines if line and (record := record_of(line))]
