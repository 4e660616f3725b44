"""`ipcwarden explain`: the creation stage on a bundle, stopped before it does anything."""

from __future__ import annotations

import os
from pathlib import PurePath

import click
from rich.text import Text

from ipcwarden.cli import table
from ipcwarden.cli.switch import tell_if_off
from ipcwarden.core.digests import entry_key
from ipcwarden.core.documents import serialize
from ipcwarden.core.mounts import shm_size, short_shm
from ipcwarden.core.plan import Plan, exceeds, sentence
from ipcwarden.core.record import sysctls_of, violations_of
from ipcwarden.errors import NamespaceError, RecordError, why
from ipcwarden.host.membership import enter
from ipcwarden.host.namespace import identify, is_hosts
from ipcwarden.stages.case import as_asked, host_plan_of, open_case, plan_of, read_spec
from ipcwarden.stages.company import company_in, enforcer, since_widened
from ipcwarden.stages.life import limits_of
from ipcwarden.stages.site import Site
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.console import RenderableType

    from ipcwarden.cli import Settings
    from ipcwarden.core.documents import Document
    from ipcwarden.core.facts import Facts
    from ipcwarden.core.policy import Profile, Selector
    from ipcwarden.stages.case import Case

_FACTS = (
    "engine",
    "runtime",
    "image",
    "name",
    "pod",
    "namespace",
    "annotations",
    "privileged",
    "user_namespace",
    "rootless",
    "ipc",
)
_WHY = {
    "request": "as requested",
    "default": "the profile's default",
    "set": "fixed by the profile",
    "bound": "moved into the profile's bounds",
    "kernel": "the kernel's own value",
    "in_force": "in force in the namespace that it joins",
}
_UNDECIDED = Plan("none", (), ())
_REFUSED = Plan("refused", (), ())


@value
class Explanation:
    """What would be decided, and what there is to say about it."""

    case: Case
    mode: str
    plan: Plan
    notes: tuple[str, ...]


@click.command("explain")
@click.option("--bundle", required=True, metavar="DIR", type=click.Path(), help="The directory that holds config.json.")
@click.option("--id", "container", metavar="ID", help="The container's id, where it is not the directory's name.")
@click.option("--runtime", metavar="NAME", help="The runtime that would create it (runc, crun), else unknown.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, bundle: str, container: str | None, runtime: str | None, as_json: bool) -> None:
    """Say which rule and profile a bundle gets, which limits, and what of its request would be refused.

    Decided with the policy in force; nothing is changed, and a refusal is no failure of this command.
    """
    bundle = os.path.abspath(bundle)  # as engines spell it: symbolic links stay
    explained = explain(Site(settings.root, "explain"), bundle, container or id_of(bundle), runtime)
    if as_json:
        click.echo(serialize(document_of(explained)))
    else:
        _show(explained)
    tell_if_off(settings.root)


def id_of(bundle: str) -> str:
    """Return the id that engines give to a bundle: its directory's name, in podman's storage that of the one above."""
    path = PurePath(bundle)
    return path.parent.name if path.name == "userdata" else path.name


def explain(site: Site, bundle: str, container: str, runtime: str | None) -> Explanation:
    """Decide on a bundle as the creation stage does.  Raises `PolicyError`, `StateError`."""
    policy = site.policy()
    case = open_case(site, policy, container, bundle, runtime, read_spec(bundle, as_asked))
    if case.rule is None or case.profile is None:
        return Explanation(case, policy.mode, _UNDECIDED, ("no rule matches: the container is left alone",))
    plan, notes = _decide(site, case)
    if short_shm(case.spec.mounts, case.profile.dev_shm):
        size = shm_size(case.spec.mounts)
        notes = (*notes, f"its /dev/shm would have {size} bytes, and its profile wants {case.profile.dev_shm}")
    if case.rule.mode == "permissive":
        notes = (*notes, "permissive: nothing would be written or refused")
    return Explanation(case, case.rule.mode, plan, notes)


def _decide(site: Site, case: Case) -> tuple[Plan, tuple[str, ...]]:
    assert case.profile is not None
    if case.spec.ipc == "host":
        plan, note = host_plan_of(case), "host_ipc audit: it shares the host's IPC namespace, which is left alone"
        return plan if plan.violations else _UNDECIDED, (note,) if case.profile.host_ipc == "audit" else ()
    if case.spec.ipc == "private":
        return plan_of(case), ()
    try:
        limits = _in_force(site, case)
    except NamespaceError as error:
        return _REFUSED, (str(error),)
    except (OSError, RecordError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        note = f"the namespace that it joins, '{case.spec.ipc_path}', cannot be looked at ({reason}): "
        return plan_of(case), (f"{note}decided as if nobody governed were in it",)
    plan = plan_of(case, limits)
    return plan, (joining(plan, limits),) if limits else ()


def joining(plan: Plan, limits: dict[str, int]) -> str:
    """Say what becomes of the limits in force in a namespace that is joined."""
    raised = [name for name, number in plan.wanted().items() if exceeds(name, number, limits[name])]
    if plan.decision == "refused" or not raised:
        return "it joins a namespace whose limits are somebody's already, and stay as they are"
    return f"it joins a namespace whose limits are somebody's already, and widens some of them: {', '.join(raised)}"


def _in_force(site: Site, case: Case) -> dict[str, int] | None:
    """Return the limits in force in the namespace that a bundle joins; None where nobody governed is in it."""
    path = case.spec.ipc_path
    if os.stat(path).st_dev != os.fstat(site.own).st_dev:  # nothing but nsfs is opened: a FIFO or a tape would mind
        raise NamespaceError(f"cannot govern the container: '{path}', which it is to join, is no namespace")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        identity = identify(fd, site.features)
        if is_hosts(fd, site.hosts):
            raise NamespaceError(f"cannot govern the container: '{path}' is the host's IPC namespace")
    finally:
        os.close(fd)
    if not os.path.isdir(str(site.places.namespaces)):
        return None  # no hook has run since the boot, and to explain changes nothing
    room = enter(site.namespaces, identity.name)
    if room is None:
        return None
    try:
        company = company_in(site, room, identity, entry_key(case.container, case.bundle))
    finally:
        room.leave()
    owner = enforcer(company) or next(iter(company.values()), None)
    return since_widened(site, owner, limits_of(owner)) if owner else None


def document_of(explained: Explanation) -> dict[str, Document]:
    """Return what --json prints: schemas/explain-v1.schema.json."""
    case = explained.case
    return {
        "rule": case.rule.name if case.rule else None,
        "profile": case.profile.name if case.profile else None,
        "mode": explained.mode,
        "decision": explained.plan.decision,
        "settings": settings_document(case.profile) if case.profile else None,
        "facts": facts_document(case.facts),
        "unknown": list(case.unknown),
        "sysctls": sysctls_of(explained.plan, None),
        "violations": violations_of(explained.plan.violations),
        "notes": list(explained.notes),
    }


def settings_document(profile: Profile) -> dict[str, Document]:
    """Return what a profile says of the end of a container, and of its /dev/shm."""
    return {
        "leftovers": profile.leftovers,
        **{what: [dict(each) for each in getattr(profile, what)] for what in ("keep", "reap", "expect")},
        "drift": profile.drift,
        "dev_shm": profile.dev_shm,
    }


def facts_document(facts: Facts) -> dict[str, Document]:
    """Return facts as JSON; what is not known is null."""
    return {name: getattr(facts, name) for name in _FACTS}


def _show(explained: Explanation) -> None:
    case, plan = explained.case, explained.plan
    head = [
        ["container", case.container],
        ["rule", case.rule.name if case.rule else "-"],
        ["profile", case.profile.name if case.profile else "-"],
        ["mode", explained.mode],
        ["decision", plan.decision],
        *(_settings(case.profile) if case.profile else ()),
    ]
    parts: list[RenderableType] = [table.table(("", ""), head), Text(), table.table(("FACT", "VALUE"), _facts(case))]
    if plan.limits:
        rows = [[each.name, each.requested or "-", str(each.wanted), _WHY[each.why]] for each in plan.limits]
        parts += [Text(), table.table(("SYSCTL", "REQUESTED", "WANTED", "WHY"), rows, ("REQUESTED", "WANTED"))]
    lines = [f"note: {note}" for note in explained.notes]
    lines += [f"{plan.decision}: {sentence((each,))}" for each in plan.violations]
    if plan.violations and case.profile and case.profile.help:
        lines.append(case.profile.help)
    table.show(*parts, *([Text()] if lines else []), *map(table.plain, lines))


def _settings(profile: Profile) -> list[list[str]]:
    """Return what a profile says beyond the defaults, as rows."""
    lists = {what: getattr(profile, what) for what in ("keep", "reap", "expect")}
    rows = [["leftovers", profile.leftovers]] if profile.leftovers != "report" else []
    rows += [[what, "; ".join(map(in_words, selectors))] for what, selectors in lists.items() if selectors]
    rows += [["drift", profile.drift]] if profile.drift != "report" else []
    return rows + ([["dev_shm", f"{profile.dev_shm} bytes or more"]] if profile.dev_shm is not None else [])


_WORDS = {
    "key": "with key {}",
    "owner": "of uid {}",
    "name": "named {}",
    "age": "unchanged for {} s",
    "count": "at most {}",
    "bytes": "up to {} bytes",
}


def in_words(selector: Selector) -> str:
    """Say which objects a selector means."""
    return " ".join([str(selector["kind"]), *(f.format(selector[w]) for w, f in _WORDS.items() if w in selector)])


def _facts(case: Case) -> list[list[str]]:
    known = [[name, _fact(getattr(case.facts, name))] for name in _FACTS if name not in case.unknown]
    return known + [[name, "unknown, and a rule asks for it"] for name in case.unknown]


def _fact(fact: object) -> str:
    if fact is None:
        return "unknown"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return serialize(fact) if isinstance(fact, dict) else str(fact)
