"""What one audit record comes down to, in a few words."""

from __future__ import annotations

from ipcwarden.cli import extract
from ipcwarden.cli.table import size, user
from ipcwarden.core.alarms import short
from ipcwarden.core.objects import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

    Record = dict[str, Document]

_FEW = 4
_SKIPPED = {
    "no-rule": "no rule matches",
    "disabled": "ipcwarden is disabled",
    "host-ipc": "in the host's IPC namespace, which is left alone",
}

_CAUSES = {
    "writable_proc_sys": "the container, which can write /proc/sys",
    "privileged": "the container, which has CAP_SYS_ADMIN",
    "user_namespace": "the root of its user namespace",
    "joiner": "another one's runtime",
    "host": "the host's root",
}


def container_of(record: Record) -> str:
    """Return what people call a record's container."""
    name, container = (extract.text(record, "container", key) for key in ("name", "id"))
    return name or short(container) or "-"


def moment_of(record: Record) -> str:
    """Return when it was, to the second."""
    return extract.text(record, "time").replace("T", " ")[:19]


def what(record: Record) -> str:
    """Return what happened."""
    tell = {
        "applied": _applied,
        "refused": _refused,
        "verified": _verified,
        "teardown": _left,
        "collected": _left,
        "skipped": _skipped,
        "error": _error,
        "policy": _policy,
        "disabled": _disabled,
        "enabled": _enabled,
        "ungoverned": _ungoverned,
        "drift": _drift,
    }.get(extract.text(record, "event"))
    return "; ".join(part for part in tell(record) if part) if tell else extract.text(record, "reason")


def _applied(record: Record) -> list[str]:
    limits = extract.rows(record, "sysctls")
    values = ", ".join(f"{extract.text(each, 'name')} {extract.text(each, 'found')}" for each in limits)
    many = f"{len(limits)} limits" if len(limits) > _FEW or not limits else values
    if record.get("enforced") is not True:
        return [f"permissive: nothing written, {many} found", *_refused(record), *_ways(record), _short_shm(record)]
    return [f"{many} in force", *_refused(record), *_ways(record), _short_shm(record)]


def _short_shm(record: Record) -> str:
    given, least = (extract.text(record, "dev_shm", key) for key in ("size", "warn_below"))
    return f"its /dev/shm has {given} bytes, less than {least}" if least else ""


def _ways(record: Record) -> list[str]:
    """Return what a record says of ways round the limits."""
    most = extract.text(record, "rlimits", "msgqueue", "wanted")
    return [
        f"RLIMIT_MSGQUEUE at most {most}" if most else "",
        "can write /proc/sys" if record.get("writable_proc_sys") is True else "",
        "nested namespaces are not denied" if record.get("nested_ipc") == "unenforced" else "",
    ]


def _refused(record: Record) -> list[str]:
    return [_violation(each) for each in extract.rows(record, "violations")]


def _violation(violation: Record) -> str:
    name, kind = extract.text(violation, "name"), extract.text(violation, "kind")
    least, most = extract.text(violation, "min"), extract.text(violation, "max")
    requested = extract.text(violation, "requested")
    asked = f"{name} {requested}"
    if kind == "bound":
        over = bool(most) and not (least and _below(requested, least))
        return f"{asked} > {most}" if over else f"{asked} < {least}"
    return {
        "set": f"{asked}, fixed at {least}",
        "owner": f"{asked} differs from {least} in force",
        "unlisted": f"{asked} is not listed in the profile",
        "malformed": f"{name} {requested!r} is malformed",
        "host_ipc": "asks for the host's IPC namespace",
        "rlimit": f"{asked} > {most}",
        "writable_proc_sys": "can write /proc/sys",
        "nested_ipc": "its seccomp filter does not deny nested namespaces",
    }.get(kind, f"{asked} ({kind})")


def _below(one: str, other: str) -> bool:
    try:
        return int(one) < int(other)
    except ValueError:
        return False


def _verified(record: Record) -> list[str]:
    wrong = [
        f"{extract.text(each, 'name')} {extract.text(each, 'found')} put right to {extract.text(each, 'wanted')}"
        for each in extract.rows(record, "sysctls")
    ]
    joiner = extract.text(record, "joiner", "name") or extract.text(record, "joiner", "id")
    queues = extract.text(record, "rlimits", "msgqueue", "found")
    return [
        *wrong,
        f"RLIMIT_MSGQUEUE {queues} put right to {extract.text(record, 'rlimits', 'msgqueue', 'wanted')}"
        if queues
        else "",
        f"by {short(joiner)}, which joined" if joiner else "",
        "the user's process had it for a while" if record.get("late") is True else "",
    ]


def _drift(record: Record) -> list[str]:
    return _drifted(record) or ["all limits are as they were put in force again"]


def _drifted(record: Record) -> list[str]:
    """Return which limits have drifted, and what could have changed them."""
    causes = ", ".join(_CAUSES.get(each, each) for each in extract.texts(record, "causes"))
    drift = [
        f"drift {extract.text(each, 'name')} {extract.text(each, 'wanted')} -> {extract.text(each, 'found')}"
        for each in extract.rows(record, "drift")
    ]
    return [*drift, f"could be {causes}"] if causes else drift


def _ungoverned(record: Record) -> list[str]:
    pid = extract.text(record, "pid")
    if record.get("rootless") is True:
        return [f"an ordinary user's, and no hook of ours has seen it: pid {pid}"]
    return [f"runs, and no hook has seen it: pid {pid}"]


def _left(record: Record) -> list[str]:
    drift = [*_drifted(record), _files(record)]
    left, here, removed = (amounts(extract.at(record, key)) for key in ("leftovers", "present", "removed"))
    by = f" by {_who(record)}" if "uid" in record else ""
    if extract.at(record, "present") is not None:
        own = f"left {left}, {removed or 'nothing'} of that removed" if left else ""
        return [own, f"its namespace lives on: {here or 'nothing'} in it{' before' if removed else ''}", *drift]
    if removed or extract.at(record, "leftovers") is None:
        return [f"{removed} removed{by}" if removed else "its namespace went with an earlier boot", *drift]
    if extract.at(record, "namespace", "host") is True:
        return [f"{left} perhaps left in the host's namespace" if left else "nothing visible left", *drift]
    holders = extract.rows(record, "namespace", "holders")
    held = ", ".join(f"{extract.text(each, 'command')}({extract.text(each, 'pid')})" for each in holders)
    destroyed = extract.at(record, "namespace", "destroyed")
    if destroyed is False or holders:
        return [f"{left or 'nothing'} left, held by {held or 'somebody unseen'}", *drift]
    return [f"{left} freed" if left else "nothing visible left", *drift]


def _files(record: Record) -> str:
    count, held = (extract.number(record, "dev_shm", key) for key in ("count", "bytes"))
    return f"{count} {'file' if count == 1 else 'files'} {size(held)} in /dev/shm" if count else ""


def amounts(totals: Document) -> str:
    """Return totals in words, empty where there is nothing."""
    return ", ".join(
        f"{extract.number(totals, kind, 'count')} {kind} {size(extract.number(totals, kind, 'bytes'))}"
        for kind in KINDS
        if extract.number(totals, kind, "count")
    )


def _skipped(record: Record) -> list[str]:
    reason = extract.text(record, "reason")
    return [_SKIPPED.get(reason, reason), *_refused(record), *_ways(record)]


def _error(record: Record) -> list[str]:
    return [f"{extract.text(record, 'reason')}: {extract.text(record, 'message')}"]


def _policy(record: Record) -> list[str]:
    mode = extract.text(record, "changes", "mode", "new")
    told = [f"mode {mode}" if mode else ""]
    for what, noun in (("rules", "rule"), ("profiles", "profile")):
        for how in ("added", "removed", "changed"):
            names = extract.texts(record, "changes", what, how)
            plural = noun if len(names) == 1 else what
            told += [f"{plural} {how}: {', '.join(names)}"] if names else []
        omitted = extract.number(record, "changes", what, "omitted")
        told += [f"and {omitted} more {what}"] if omitted else []
    return [f"{extract.text(record, 'policy')} put in force by {_who(record)}", *told]


def _disabled(record: Record) -> list[str]:
    until = extract.text(record, "until")
    end = f"until {until[:19].replace('T', ' ')}" if until else "without an end"
    return [f"containers start ungoverned, {end}, by {_who(record)}", extract.text(record, "reason")]


def _enabled(record: Record) -> list[str]:
    return [f"containers are governed again, by {_who(record)}"]


def _who(record: Record) -> str:
    return user(extract.text(record, "uid")) or "somebody"
