"""From sources to a policy: everything that is decided, nothing that is read or written."""

from __future__ import annotations

from ipcwarden.compiler import breadth, engines, profiles, reach, reader, rules, selectors, truths
from ipcwarden.compiler.amounts import Machine, seconds_of
from ipcwarden.compiler.findings import Finding, Place, Report, did_you_mean, listed
from ipcwarden.compiler.machine import uid_of
from ipcwarden.compiler.nodes import Mapping, Sequence, text_of
from ipcwarden.compiler.schema import Shape
from ipcwarden.compiler.sources import BUILT_IN, DROP_IN, IGNORED, MAIN, SITE
from ipcwarden.core.policy import STALE_PINS, Choice, Policy, Rule
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.compiler.nodes import Node
    from ipcwarden.compiler.profiles import Resolved, Written
    from ipcwarden.compiler.sources import Source

_OF_ETC = (MAIN, DROP_IN)
_ALLOWED = {
    MAIN: frozenset(("version", "mode", "stale_pins", "trust_annotations", "profiles", "rules")),
    DROP_IN: frozenset(("version", "profiles", "rules")),
    SITE: frozenset(("version", "profiles")),
    BUILT_IN: frozenset(("version", "profiles")),
}


@value
class Outcome:
    """What came of it: a policy, unless some finding is an error, and the files that it is from."""

    policy: Policy | None
    findings: tuple[Finding, ...]
    files: tuple[str, ...]


def compile_sources(
    sources: list[Source],
    kernel: dict[str, int],
    release: str,
    page: int,
    ipcmni_extend: bool = False,
    uid_of: Callable[[str], int | None] = uid_of,
) -> Outcome:
    """Compile sources, in the order in which they were read."""
    return Compilation(Machine(kernel, release, page, ipcmni_extend, uid_of)).run(sources)


class Compilation:
    """One run of the compiler."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._report = Report()
        self._profiles: dict[str, Written] = {}
        self._kind_of: dict[str, str] = {}  # a profile's name: the kind of source that it is from
        self._rules: list[rules.Rule] = []
        self._late_rules: list[rules.Rule] = []  # policy.yaml's, tried after all drop-ins'
        self._mode: str | None = None
        self._trusted: tuple[str, ...] | None = None  # until policy.yaml is read
        self._stale_pins: int | None = None  # seconds

    def run(self, sources: list[Source]) -> Outcome:
        """Return the policy, if there is one, and everything that was found."""
        for source in sources:
            self._read(source)
        ordered = self._rules + self._late_rules
        resolved = profiles.Family(self._profiles, self._machine, self._report).resolve()
        used = self._used(ordered, resolved)
        self._check_rules(ordered, resolved)
        for name, profile in resolved.items():
            if name in used or self._kind_of[name] in _OF_ETC:
                truths.check(profile, self._machine, self._report)
                selectors.check(profile, self._report)
        main = [source.file for source in sources if source.kind == MAIN]
        if main and not ordered and not self._report.failed:
            message = "there is no rule: no container gets a profile"
            self._report.warning(Place(main[0], 1, 1, ""), message, "add 'rules', the last without conditions")
        policy = None if self._report.failed else self._policy(ordered, used, resolved)
        return Outcome(
            policy, self._report.findings(), tuple(s.file for s in sources if s.kind not in (BUILT_IN, IGNORED))
        )

    def _read(self, source: Source) -> None:
        if source.kind == IGNORED:
            self._report.opened(source.file)
            message = "the file is not read: its name does not end in .yaml"
            self._report.warning(Place(source.file, 1, 1, ""), message, "rename or remove it")
            return
        root = reader.read(source.file, source.data, self._report)
        if root is None:
            return
        shape = Shape(root, self._report)
        tree = shape.tree()
        if isinstance(tree, Mapping):
            self._document(source, tree)
        shape.settle()

    def _document(self, source: Source, tree: Mapping) -> None:
        for key in tree.entries.keys() - _ALLOWED[source.kind]:
            allowed = listed(sorted(_ALLOWED[source.kind]), "and")
            if source.kind == DROP_IN:
                self._report.error(tree.keys[key], f"'{key}' belongs in policy.yaml", f"a drop-in has {allowed}")
            else:
                self._report.error(tree.keys[key], f"'{key}' has no place here", f"a file of profiles has {allowed}")
        for name, at, node in profiles.in_document(tree):
            self._add_profile(source, name, at, node)
        if source.kind == MAIN:
            self._mode = text_of(tree.entries.get("mode"))
            keys = tree.entries.get("trust_annotations")
            texts = [text_of(item) for item in keys.items] if isinstance(keys, Sequence) else []
            self._trusted = tuple(text for text in texts if text is not None)
            pins = tree.entries.get("stale_pins")
            if isinstance(pins, Mapping) and "warn_after" in pins.entries:
                self._stale_pins = seconds_of(pins.entries["warn_after"], self._report)
        if source.kind in _OF_ETC:
            found = rules.in_document(tree)
            (self._late_rules if source.kind == MAIN else self._rules).extend(found)
            for rule in found if source.kind == DROP_IN else []:
                if rule.when == ():
                    message = "a rule without conditions, which takes every container, belongs in policy.yaml"
                    self._report.error(rule.at, message, "add 'when', or move it there")

    def _add_profile(self, source: Source, name: str, at: Place, node: Node) -> None:
        written = profiles.written(name, at, node, self._machine, self._report)
        before = self._profiles.get(name)
        if before and source.kind in _OF_ETC and self._kind_of[name] in _OF_ETC:
            place = f"{before.at.file}:{before.at.line}:{before.at.column}"
            self._report.error(at, f"there are two profiles '{name}'", f"the other one stands at {place}")
            return
        if before and source.kind == self._kind_of[name]:
            place = f"{before.at.file}:{before.at.line}"
            self._report.warning(at, f"this profile '{name}' takes the place of another", f"it stands at {place}")
        self._profiles[name], self._kind_of[name] = written, source.kind

    def _used(self, ordered: list[rules.Rule], resolved: dict[str, Resolved]) -> dict[str, int]:
        """Return the index of each profile that some rule uses, in the order of first use."""
        used: dict[str, int] = {}
        for mention in [mention for rule in ordered for mention in rule.mentions]:
            if mention.name in resolved:
                used.setdefault(mention.name, len(used))
            elif mention.name is not None:
                hint = did_you_mean(mention.name, resolved) or f"known: {listed(sorted(resolved), 'and')}"
                self._report.error(mention.at, f"there is no profile '{mention.name}'", hint)
        return used

    def _check_rules(self, ordered: list[rules.Rule], resolved: dict[str, Resolved]) -> None:
        names: dict[str, Place] = {}
        for rule in ordered:
            if rule.name in names:
                first = names[rule.name]
                place = f"{first.file}:{first.line}:{first.column}"
                self._report.error(rule.name_at, f"there are two rules '{rule.name}'", f"the other one is at {place}")
            elif rule.name is not None:
                names[rule.name] = rule.name_at
            given = [resolved[mention.name] for mention in rule.mentions if mention.name in resolved]
            widens = any(profile.settings.get("shared") == "widen" for profile in given)
            engines.check(rule, self._trusted, widens, self._report)
        reach.check(ordered, self._report)
        if not self._report.failed:  # else there may be no telling what a profile allows
            breadth.check(ordered, resolved, self._machine, self._report)

    def _policy(self, ordered: list[rules.Rule], used: dict[str, int], resolved: dict[str, Resolved]) -> Policy:
        mode = self._mode or "enforcing"
        compiled = tuple(
            Rule(rule.name or "", rule.when or (), _profile(rule.profile, used), rule.mode or mode) for rule in ordered
        )
        kept = tuple(profiles.packed(resolved[name]) for name in used)
        machine = self._machine
        return Policy(
            *(mode, machine.release, machine.kernel, compiled, kept, machine.ipcmni_extend),
            trust_annotations=self._trusted or (),
            stale_pins=STALE_PINS if self._stale_pins is None else self._stale_pins,
        )


def _profile(profile: rules.Mention | rules.Offer, used: dict[str, int]) -> int | Choice:
    if isinstance(profile, rules.Mention):
        return used[profile.name or ""]
    among = {mention.name: used[mention.name] for mention in profile.among if mention.name}
    return Choice(profile.annotation, among, used[profile.other.name or ""])
