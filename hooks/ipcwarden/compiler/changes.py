"""What another policy changes, for the audit log: names, and nothing that would need the policies to be understood."""

from __future__ import annotations

from ipcwarden.core.policy import STALE_PINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipcwarden.core.documents import Document
    from ipcwarden.core.policy import Choice, Policy


_MOST = 20  # names of each: a record has its limits


def changes(old: Policy | None, new: Policy) -> dict[str, Document]:
    """Return {mode, stale_pins, trust_annotations, rules, profiles}.

    Each as it was and is, or what of it was added, removed and changed.  The first three are left out where they are
    the same.
    """
    found: dict[str, Document] = {}
    if old is None or old.mode != new.mode:
        found["mode"] = {"old": old.mode if old else None, "new": new.mode}
    if (old.stale_pins if old else STALE_PINS) != new.stale_pins:
        found["stale_pins"] = {"old": old.stale_pins if old else None, "new": new.stale_pins}
    for what, before, after in (
        ("rules", _rules(old), _rules(new)),
        ("profiles", _profiles(old), _profiles(new)),
    ):
        found[what] = _named(before, after)
    before, after = (dict.fromkeys(policy.trust_annotations) if policy else {} for policy in (old, new))
    if before.keys() != after.keys():
        found["trust_annotations"] = _named(before, after)
    return found


def _named(before: Mapping[str, object], after: Mapping[str, object]) -> Document:
    lists = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in after if name in before and after[name] != before[name]],
    }
    shown: dict[str, Document] = {key: list(names[:_MOST]) for key, names in lists.items()}
    return {**shown, "omitted": sum(max(0, len(names) - _MOST) for names in lists.values())}


def _rules(policy: Policy | None) -> dict[str, object]:
    if policy is None:
        return {}
    # The place counts: the first match wins.
    return {
        rule.name: (place, rule.when, _profile(policy, rule.profile), rule.mode)
        for place, rule in enumerate(policy.rules)
    }


def _profile(policy: Policy, profile: int | Choice) -> object:
    """Return what a rule says of its profile by name: an index changes with other rules."""
    if isinstance(profile, int):
        return policy.profile_at(profile).name
    names = frozenset(name for name, index in profile.among.items() if index != profile.other)
    return profile.annotation, names, policy.profile_at(profile.other).name


def _profiles(policy: Policy | None) -> dict[str, object]:
    profiles = (policy.profile_at(index) for index in range(len(policy.profiles))) if policy else ()
    return {profile.name: profile for profile in profiles}
