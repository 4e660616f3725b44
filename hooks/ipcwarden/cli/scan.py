"""`ipcwarden scan`: every live IPC namespace, whose it is, and what a policy would mean for who is in it."""

from __future__ import annotations

import os

import click
from rich.text import Text

from ipcwarden.cli import candidate, extract, judgement, table
from ipcwarden.cli.explain import facts_document
from ipcwarden.cli.findings import counted
from ipcwarden.cli.judgement import VERDICTS
from ipcwarden.cli.survey import drift_in, limits_in, survey
from ipcwarden.cli.switch import tell_if_off
from ipcwarden.core.documents import serialize
from ipcwarden.core.objects import KINDS
from ipcwarden.core.plan import sentence
from ipcwarden.core.record import container_of, sysctls_of, violations_of
from ipcwarden.errors import KernelError
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.console import RenderableType

    from ipcwarden.cli import Settings
    from ipcwarden.cli.survey import Finding, Row, Tenant
    from ipcwarden.core.policy import Policy

SCAN_VERSION = 1
_STRANGERS = 16  # of a namespace that are named
_SHORT, _LONG = 12, 64  # characters of an id, as engines show it and as they make it
_COLUMNS = ("NAMESPACE", "CONTAINER", "ENGINE", "GOVERNED", "IN USE", "POLICY")


@click.command("scan")
@click.option(
    "--policy",
    "path",
    metavar="FILE|DIR",
    type=click.Path(exists=True),
    help="Judge by this file, or by a directory like /etc/ipcwarden, instead of by the policy in force.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, path: str | None, as_json: bool) -> int:
    """List every IPC namespace in use, its containers, what they use of it, and what a policy would mean for them.

    Nothing is changed.  The limits in force are in what --json prints.  Ends with 1 where an enforcing rule would hurt
    a container that runs now: refuse or clamp what it asks for, or allow less than it uses; and where a container's
    namespace could not be looked into.
    """
    if os.geteuid() != 0:
        raise KernelError("cannot look into others' namespaces", "only root can do this")
    policy = candidate.policy(settings.root, path)
    site = Site(settings.root, "scan")
    site.go_home()
    found = survey(site, policy)
    hurts = any(tenant.judged.hurts for finding in found for tenant in finding.tenants)
    if as_json:
        click.echo(serialize(document_of(found, policy, path, hurts)))
    else:
        _show(found, policy, path)
    tell_if_off(settings.root)
    return 1 if hurts or any(finding.error and finding.tenants for finding in found) else 0


def document_of(found: list[Finding], policy: Policy | None, path: str | None, hurts: bool) -> Row:
    """Return what --json prints: schemas/scan-v1.schema.json."""
    judged_by: Row | None = None
    if policy is not None:
        judged_by = {"digest": policy.digest[:12], "mode": policy.mode, "candidate": path}
    return {
        "version": SCAN_VERSION,
        "policy": judged_by,
        "hurts": hurts,
        "namespaces": [_namespace_document(each) for each in found],
    }


def _namespace_document(finding: Finding) -> Row:
    household, seen = finding.household, finding.seen
    return {
        "host": household.hosts,
        "id": seen.get("id"),
        "inode": household.place[1],
        "processes": household.processes,
        "limits": seen.get("limits"),
        "usage": seen.get("usage"),
        "error": finding.error or None,
        "containers": [_tenant_document(finding, each) for each in finding.tenants],
        "nested": [{"container": of.container or None, "pid": each.pid} for of, each in household.nested],
        "others": [{"pid": each.pid, "command": each.command} for each in household.strangers[:_STRANGERS]],
    }


def _tenant_document(finding: Finding, tenant: Tenant) -> Row:
    resident, judged = tenant.resident, tenant.judged
    subject = extract.at(tenant.entry, "subject")
    return {
        "container": _container_document(tenant),
        "pid": resident.pid,
        "rootless": resident.rootless,
        "governed": {key: extract.at(subject, key) for key in ("profile", "rule", "mode", "enforced")}
        if tenant.entry
        else None,
        "facts": facts_document(tenant.facts),
        "unknown": list(tenant.unknown),
        "profile": tenant.profile.name if tenant.profile else None,
        "rule": tenant.rule.name if tenant.rule else None,
        "mode": judged.mode,
        "decision": judged.plan.decision,
        "verdict": judged.verdict,
        "hurts": judged.hurts,
        "sysctls": sysctls_of(judged.plan, limits_in(finding.seen) or None),
        "violations": violations_of(judged.plan.violations),
        "excess": [{"name": each.name, "used": str(each.used), "wanted": str(each.wanted)} for each in judged.excess],
        "drift": [
            {"name": name, "wanted": str(before), "found": str(now)} for name, before, now in drift_in(finding, tenant)
        ],
        "notes": [*tenant.notes, *([f"{judgement.UNBOUND}: limits do not hold it"] if _is_unbound(tenant) else [])],
    }


def _container_document(tenant: Tenant) -> Row:
    known = extract.at(tenant.entry, "subject", "container")
    if tenant.case is None and isinstance(known, dict):
        return known
    made = container_of(tenant.resident.container, tenant.resident.bundle, tenant.facts)
    return {**made, "id": tenant.resident.container or None, "bundle": tenant.resident.bundle or None}


def _show(found: list[Finding], policy: Policy | None, path: str | None) -> None:
    rows = [row for finding in found for row in _rows(finding)]
    lines = [line for finding in found for line in _lines(finding)]
    parts: list[RenderableType] = [table.table(_COLUMNS, rows, whole=("NAMESPACE",)), Text()]
    parts += [table.plain(line) for line in lines] + ([Text()] if lines else [])
    table.show(*parts, table.plain(_summary(found, policy, path)))


def _rows(finding: Finding) -> list[list[str]]:
    """Return a row for each container of a namespace; of one without any, and of the host's, a row for itself."""
    household = finding.household
    first = "host" if household.hosts else str(household.place[1])
    usage = _usage(finding.seen)
    rows = [
        [first, called(each), each.facts.engine or "-", _governed(each), usage, _verdict(each)]
        for each in finding.tenants
    ]
    rows += [
        [first, f"in {_short(of.container) or of.pid}: {each.command}", "-", "no", usage, "nested: out of reach"]
        for of, each in household.nested
    ]
    if household.hosts:
        rows.insert(0, [first, f"processes: {household.processes}", "-", "no", usage, "-"])
    elif not rows:
        one = household.strangers[0]
        rows.append([first, f"no known container: {one.command}({one.pid})", "-", "no", usage, "-"])
    return rows


def called(tenant: Tenant) -> str:
    """Return what people call a container."""
    name = tenant.facts.name or extract.text(tenant.entry, "subject", "container", "name")
    return name or _short(tenant.resident.container) or f"unknown({tenant.resident.pid})"


def _short(container: str) -> str:
    return container[:_SHORT] if len(container) == _LONG else container


def _governed(tenant: Tenant) -> str:
    if not tenant.entry:
        return "no"
    mode = extract.text(tenant.entry, "subject", "mode")
    profile = extract.text(tenant.entry, "subject", "profile")
    return profile if mode == "enforcing" else f"{profile} ({mode})"


def _usage(seen: Row) -> str:
    usage = extract.at(seen, "usage")
    return ", ".join(
        f"{extract.number(usage, kind, 'count')} {kind} {table.size(extract.number(usage, kind, 'bytes'))}"
        for kind in KINDS
        if extract.number(usage, kind, "count")
    ) or ("nothing" if seen else "-")


def _verdict(tenant: Tenant) -> str:
    judged = tenant.judged
    permissive = judged.mode == "permissive" and judged.verdict in judgement.HURTING
    told = f"{VERDICTS[judged.verdict]}{' (permissive)' if permissive else ''}"
    return f"{told}; {judgement.UNBOUND}" if _is_unbound(tenant) else told


def _is_unbound(tenant: Tenant) -> bool:
    """Tell whether the limits that it would have would not hold it."""
    writable = tenant.case is not None and tenant.case.ways.proc_sys_writable
    return writable and judgement.starts(tenant.judged)


def _lines(finding: Finding) -> list[str]:
    """Return what there is to say beside the table."""
    lines = [f"{finding.household.place[1]}: {finding.error}"] if finding.error else []
    for tenant in finding.tenants:
        name, judged = called(tenant), tenant.judged
        lines += [f"{name}: {VERDICTS[judged.plan.decision]}: {sentence((each,))}" for each in judged.plan.violations]
        lines += [f"{name}: {each.name} would be {each.wanted}, {each.used} are in use" for each in judged.excess]
        drift = drift_in(finding, tenant)
        lines += [f"{name}: {limit} was {before}, and is {now} now" for limit, before, now in drift]
        lines += [f"{name}: {note}" for note in tenant.notes]
    return lines


def _summary(found: list[Finding], policy: Policy | None, path: str | None) -> str:
    tenants = [tenant for finding in found for tenant in finding.tenants]
    ungoverned = sum(not tenant.entry for tenant in tenants)
    told = f"{counted(len(found), 'namespace')}, {counted(len(tenants), 'container')}, {ungoverned} ungoverned"
    if policy is None:
        return f"{told}; no policy is in force: --policy FILE judges by one that is not"
    hurt = sum(tenant.judged.hurts for tenant in tenants)
    return f"{told}; {path or 'the policy in force'} would hurt {hurt or 'none'}"
