"""Rules as they were written: the conditions as they are stored, and the profiles that they name."""

from __future__ import annotations

from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence, text_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.compiler.findings import Place
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.core.policy import Condition


@value
class Mention:
    """A profile's name, and where it stands; None where its error is reported already."""

    name: str | None
    at: Place


@value
class Offer:
    """Profiles of which the container's user picks one by an annotation, and the one for who picks none."""

    annotation: str
    among: tuple[Mention, ...]
    other: Mention


@value
class Rule:
    """A rule as it was written; a name that is None has its error reported already."""

    at: Place
    name: str | None
    name_at: Place
    when: tuple[Condition, ...] | None  # None: spoilt
    when_node: Node | None  # where the conditions stand
    profile: Mention | Offer
    mode: str | None

    @property
    def mentions(self) -> tuple[Mention, ...]:
        """Return every profile that a container may get by this rule."""
        return (self.profile,) if isinstance(self.profile, Mention) else (*self.profile.among, self.profile.other)


def in_document(root: Node) -> list[Rule]:
    """Return a document's rules in their order."""
    rules = root.entries.get("rules") if isinstance(root, Mapping) else None
    items = rules.items if isinstance(rules, Sequence) else []
    return [_rule(item) for item in items if isinstance(item, Mapping)]


def _rule(node: Mapping) -> Rule:
    name, when = (node.entries.get(key) for key in ("name", "when"))
    return Rule(
        node.at,
        text_of(name),
        name.at if name else node.at,
        () if when is None else _conditions(when),
        when,
        _profile(node),
        text_of(node.entries.get("mode")),
    )


def _profile(rule: Mapping) -> Mention | Offer:
    profile = rule.entries.get("profile")
    if not isinstance(profile, Mapping):
        return _mention(profile, rule.at)
    among, other = profile.entries.get("among"), profile.entries.get("else")
    offered = tuple(_mention(item, item.at) for item in among.items) if isinstance(among, Sequence) else ()
    return Offer(text_of(profile.entries.get("annotation")) or "", offered, _mention(other, profile.at))


def _mention(node: Node | None, at: Place) -> Mention:
    return Mention(text_of(node), node.at if node else at)


def _conditions(node: Node) -> tuple[Condition, ...] | None:
    """Return the conditions of `when` or `not`; None where one of them is spoilt."""
    if not isinstance(node, Mapping) or node.entries.keys() != node.keys.keys():
        return None  # what an unknown key asked for is not known, either
    found: list[Condition] = []
    for key, child in node.entries.items():
        given = [(key, child)]
        if key == "annotations" and isinstance(child, Mapping):
            given = [(f"annotations.{name}", child.entries[name]) for name in sorted(child.entries)]
        for name, wanted in given:
            expected = _conditions(wanted) if name == "not" else _expected(wanted)
            if expected is None:
                return None
            found.append((name, expected))
    return tuple(found)


def _expected(node: Node) -> tuple[str, ...] | bool | None:
    if isinstance(node, Sequence):
        globs = [text_of(item) for item in node.items]
        return None if None in globs else tuple(glob for glob in globs if glob is not None)
    if isinstance(node, Scalar):
        return node.value if isinstance(node.value, bool) else (str(node.value),)
    return None
