"""Profiles and what they inherit: sysctls merge by name, then by bound; everything else by key."""

from __future__ import annotations

from ipcwarden.compiler.amounts import bytes_of, rlimit_of
from ipcwarden.compiler.findings import Place, Report, did_you_mean, listed
from ipcwarden.compiler.nodes import Mapping, Scalar, text_of
from ipcwarden.compiler.selectors import Selectors
from ipcwarden.compiler.sysctls import BOUNDS, Bound, Draft, Sysctls
from ipcwarden.core.policy import Profile
from ipcwarden.core.sysctls import NAMES
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.compiler.amounts import Machine
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.compiler.selectors import Selection
    from ipcwarden.compiler.sysctls import Drafts

SETTINGS = (
    *("on_violation", "host_ipc", "leftovers", "unlisted", "shared", "writable_proc_sys", "nested_ipc", "help"),
    "drift",
)


@value
class Written:
    """A profile as it was written: what it changes in its parent, if it has one."""

    name: str
    at: Place
    parent: str | None
    parent_at: Place
    sysctls: Drafts
    settings: dict[str, str]
    msgqueue: Draft | None
    dev_shm: Draft | None
    selections: dict[str, Selection]


@value
class Resolved:
    """A profile with nothing left to inherit; every bound knows where it came from."""

    name: str
    at: Place
    sysctls: dict[str, dict[str, Bound]]
    settings: dict[str, str]
    msgqueue: Bound | None
    dev_shm: Bound | None = None
    selections: dict[str, Selection] = {}  # noqa: RUF012  (nobody writes to it)


def written(name: str, at: Place, node: Node, machine: Machine, report: Report) -> Written:
    """Return a profile of a document."""
    entries = node.entries if isinstance(node, Mapping) else {}
    extends = entries.get("extends")
    settings = {key: text for key in SETTINGS if (text := text_of(entries.get(key))) is not None}
    sysctls = Sysctls(name, machine, report).drafts(entries.get("sysctls"))
    msgqueue = _draft(name, entries.get("rlimits"), "msgqueue", rlimit_of, report)
    dev_shm = _draft(name, entries.get("dev_shm"), "warn_below", bytes_of, report)
    selections = Selectors(name, machine, report).in_profile(entries)
    parent_at = extends.at if extends else at
    return Written(name, at, text_of(extends), parent_at, sysctls, settings, msgqueue, dev_shm, selections)


def _draft(
    profile: str, node: Node | None, key: str, read: Callable[[Node, Report], int | None], report: Report
) -> Draft | None:
    written_here = node.entries.get(key) if isinstance(node, Mapping) else None
    if written_here is None:
        return None
    if isinstance(written_here, Scalar) and written_here.value is None:
        return Draft(written_here.at, None)
    text = written_here.text if isinstance(written_here, Scalar) else ""
    return Draft(written_here.at, {"set": Bound(read(written_here, report), text, written_here.at, profile)})


class Family:
    """All profiles, and who extends whom."""

    def __init__(self, members: dict[str, Written], machine: Machine, report: Report) -> None:
        self._members = members
        self._machine = machine
        self._report = report
        self._parents = {name: self._parent(member) for name, member in members.items()}
        self._cut_circles()

    def resolve(self) -> dict[str, Resolved]:
        """Return every profile with what it inherits, parents first."""
        done: dict[str, Resolved] = {}
        for name in self._members:
            line = [name]
            while (parent := self._parents[line[-1]]) is not None and parent not in done:
                line.append(parent)
            for each in reversed(line):
                if each not in done:
                    above = self._parents[each]
                    done[each] = self._merged(self._members[each], None if above is None else done[above])
        return done

    def _parent(self, member: Written) -> str | None:
        if member.parent is None or member.parent in self._members:
            return member.parent
        known = self._members.keys() - {member.name}
        hint = did_you_mean(member.parent, known) or f"known: {listed(sorted(known), 'and')}"
        self._report.error(member.parent_at, f"there is no profile '{member.parent}'", hint)
        return None

    def _cut_circles(self) -> None:
        seen: set[str] = set()
        for name in self._members:
            line: list[str] = []
            at: str | None = name
            while at is not None and at not in seen:
                seen.add(at)
                line.append(at)
                at = self._parents[at]
            if at in line:
                circle = line[line.index(at) :]
                self._report_circle(circle)
                self._parents.update(dict.fromkeys(circle))

    def _report_circle(self, circle: list[str]) -> None:
        member = self._members[circle[0]]
        way = " -> ".join([*circle, circle[0]])
        hint = "one of them must stand alone"
        if len(circle) == 1:
            hint = "give it another name: a profile of this name takes the other's place"
        self._report.error(member.parent_at, f"the profile extends itself: {way}", hint)

    def _merged(self, member: Written, parent: Resolved | None) -> Resolved:
        sysctls = dict(parent.sysctls) if parent else {}
        settings = (parent.settings if parent else {}) | member.settings
        for name, draft in member.sysctls.items():
            inherited = sysctls.pop(name, {})
            if draft.bounds is None:
                if not inherited and name != "kernel.sem.semmsl":
                    self._nothing_to_drop(member, parent, draft.at, f"rule for {name}")
                continue
            bounds = draft.bounds
            if "set" not in bounds:
                bounds = {key: bound for key, bound in inherited.items() if key != "set"} | bounds
            sysctls[name] = bounds
            self._check_order(member, name, bounds)
        inherited_bounds = (parent.msgqueue, parent.dev_shm) if parent else (None, None)
        msgqueue, dev_shm = (
            self._merged_bound(member, parent, inherited, draft, what)
            for inherited, draft, what in zip(
                inherited_bounds,
                (member.msgqueue, member.dev_shm),
                ("rlimits.msgqueue", "dev_shm.warn_below"),
                strict=True,
            )
        )
        selections = self._merged_selections(member, parent)
        return Resolved(member.name, member.at, sysctls, settings, msgqueue, dev_shm, selections)

    def _merged_bound(
        self, member: Written, parent: Resolved | None, inherited: Bound | None, draft: Draft | None, what: str
    ) -> Bound | None:
        if draft is None:
            return inherited
        if draft.bounds is None and inherited is None:
            self._nothing_to_drop(member, parent, draft.at, what)
        return draft.bounds["set"] if draft.bounds else None

    def _merged_selections(self, member: Written, parent: Resolved | None) -> dict[str, Selection]:
        inherited = parent.selections if parent else {}
        for what, selection in member.selections.items():
            if selection.items is None and what not in inherited:
                self._nothing_to_drop(member, parent, selection.at, what)
        merged = inherited | member.selections
        return {what: selection for what, selection in merged.items() if selection.items is not None}

    def _nothing_to_drop(self, member: Written, parent: Resolved | None, at: Place, what: str) -> None:
        if parent or member.parent is None:  # else an error tells that the parent is not known
            self._report.warning(at, f"there is no inherited {what} to drop", "leave it out")

    def _check_order(self, member: Written, name: str, bounds: dict[str, Bound]) -> None:
        """Check min <= default <= max as far as it can be known without a container's memory."""
        for low, high in (("min", "default"), ("default", "max"), ("min", "max")):
            if low not in bounds or high not in bounds:
                continue
            less, more = bounds[low], bounds[high]
            one, other = (constant(bound, name, self._machine) for bound in (less, more))
            own = [bound for bound in (less, more) if bound.profile == member.name]
            if one is None or other is None or one <= other or not own:
                continue
            hint = f"{name} needs min <= default <= max"
            if len(own) == 1:
                which, theirs = (high, more) if own[0] is less else (low, less)
                hint = f"{which} {theirs.text} is inherited from '{theirs.profile}': give {which} here, too"
            message = f"{low} {less.text} of {name} is above {high} {more.text}"
            self._report.error(own[0].at, message, hint)
            return


def constant(bound: Bound, name: str, machine: Machine) -> int | None:
    """Return a bound's number where no container's memory is needed to know it."""
    if bound.amount == "kernel":
        return machine.kernel[name]
    return bound.amount if isinstance(bound.amount, int) else None


def packed(profile: Resolved) -> Profile:
    """Return the profile as the policy in force has it."""
    sysctls = {}
    for name in NAMES:
        if bounds := profile.sysctls.get(name):
            least, low, default, most = (bounds[key].amount if key in bounds else None for key in BOUNDS)
            sysctls[name] = (least, low, default, most)
    more = {
        "msgqueue": profile.msgqueue.amount if profile.msgqueue else None,
        "dev_shm": profile.dev_shm.amount if profile.dev_shm else None,
        **{what: selection.selectors() for what, selection in profile.selections.items()},
    }
    return Profile(profile.name, sysctls, **profile.settings, **more)  # type: ignore[arg-type]  # each key its own type


def in_document(root: Node) -> list[tuple[str, Place, Node]]:
    """Return a document's profiles: name, place, content."""
    profiles = root.entries.get("profiles") if isinstance(root, Mapping) else None
    if not isinstance(profiles, Mapping):
        return []
    return [
        (name, profiles.keys[name], node) for name, node in profiles.entries.items() if not isinstance(node, Scalar)
    ]
