"""The policy in force: rules, profiles, amounts that wait for a container's memory, and how they are stored.

The stored form is one line of text (format, digest) and a marshal document: the fastest thing Python reads.
Profiles stay packed until a rule asks for theirs, so a policy of a thousand rules costs little more than one of one.
"""

from __future__ import annotations

import marshal

from ipcwarden.core.digests import digest_of
from ipcwarden.core.facts import Facts, fact
from ipcwarden.core.sysctls import KERNEL_DEFAULTS, PAGES, range_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    # A number; "kernel" (a fresh namespace's value); ("memory", of_limit, of_host, at_least): per cent of the
    # container's memory limit (None: never) or else of the host's memory, and a floor in bytes; ("per_gib", n).
    Amount: TypeAlias = int | str | tuple[str, int] | tuple[str, int | None, int | None, int]
    # set, min, default, max: `set` stands alone, else one or more of the others.
    Bounds: TypeAlias = tuple[Amount | None, Amount | None, Amount | None, Amount | None]
    # (key, expected): expected is a tuple of globs, a bool, or for the key "not" another tuple of conditions.
    Condition: TypeAlias = tuple[str, object]
    # Objects that a profile names (core/selection.py).
    Selector: TypeAlias = dict[str, int | str]

FORMAT = b"ipcwarden policy 3 "
# What they do not store had the value that is now the default.
PREVIOUS_FORMATS = (b"ipcwarden policy 1 ", b"ipcwarden policy 2 ")
MAX_POLICY_BYTES = 64 << 20
GIB = 1 << 30
STALE_PINS = 600  # seconds


@value
class Memory:
    """What amounts are relative to, in bytes: the container's limit (None: none is set), the host's, and a page.

    `ipcmni_extend` tells whether the kernel was booted to take more objects of a kind than 32768.
    """

    limit: int | None
    host: int
    page: int
    ipcmni_extend: bool = False


@value
class Profile:
    """A profile with nothing left to inherit.  `sysctls` maps one of `sysctls.NAMES` to its bounds."""

    name: str
    sysctls: dict[str, Bounds]
    on_violation: str = "refuse"  # refuse | clamp
    host_ipc: str = "audit"  # audit | refuse
    leftovers: str = "report"  # report | remove
    unlisted: str = "allow"  # allow | refuse
    help: str = ""
    shared: str = "owner"  # owner | widen
    writable_proc_sys: str = "record"  # record | refuse
    nested_ipc: str = "report"  # report | deny
    msgqueue: int | None = None  # RLIMIT_MSGQUEUE in bytes; None: whatever it is
    keep: tuple[Selector, ...] = ()  # never removed
    reap: tuple[Selector, ...] = ()  # removed one by one, where that is safe
    expect: tuple[Selector, ...] = ()  # no leftovers to alarm anybody
    drift: str = "report"  # report | expected
    dev_shm: int | None = None  # bytes: a /dev/shm that is smaller is worth a warning


@value
class Choice:
    """A profile that the container's user picks: the annotation's value is one of the names `among`, or it is `other`.

    Both are indexes of profiles.  The list is the guard: nobody can pick what it does not offer.
    """

    annotation: str
    among: dict[str, int]
    other: int


if TYPE_CHECKING:
    from typing import NamedTuple

    class Rule(NamedTuple):
        """One rule: the conditions that must all hold, its profile (an index, or a choice of them), and its mode."""

        name: str
        when: tuple[Condition, ...]
        profile: int | Choice
        mode: str  # enforcing | permissive

else:

    class Rule(tuple):
        """One rule, as above: of which a policy may have thousands, each made for every container."""

        __slots__ = ()

        def __new__(cls, name, when, profile, mode):
            """Make a rule of its fields."""
            return tuple.__new__(cls, (name, when, profile, mode))

        name = property(lambda self: self[0])
        when = property(lambda self: self[1])
        profile = property(lambda self: self[2])
        mode = property(lambda self: self[3])


@value
class Policy:
    """The policy in force.  `kernel` holds a fresh namespace's values as kernel `release` had them.

    `trust_annotations` are the keys that conditions may believe, whoever set them; `stale_pins` are the seconds after
    which a pin that nobody's end has freed is worth a warning.
    """

    mode: str
    release: str
    kernel: dict[str, int]
    rules: tuple[Rule, ...]
    profiles: tuple[Profile | bytes, ...]
    ipcmni_extend: bool = False
    digest: str = ""
    trust_annotations: tuple[str, ...] = ()
    stale_pins: int = STALE_PINS

    def profile_of(self, rule: Rule, annotations: dict[str, str] | None = None) -> Profile:
        """Return a rule's profile, unpacked; `annotations` are the container's own, trusted or not."""
        choice = rule.profile
        if isinstance(choice, int):
            return self.profile_at(choice)
        picked = (annotations or {}).get(choice.annotation, "")
        return self.profile_at(choice.among.get(picked, choice.other))

    def profile_at(self, index: int) -> Profile:
        """Return one of `profiles`, unpacked."""
        packed = self.profiles[index]
        return Profile(*marshal.loads(packed)) if isinstance(packed, bytes) else packed  # noqa: S302  (root wrote it)

    def kernel_values(self, release: str) -> dict[str, int]:
        """Return a fresh namespace's values; those of the table where they were read on another kernel."""
        return self.kernel if self.release == release else KERNEL_DEFAULTS


def pack(policy: Policy) -> bytes:
    """Return the stored form.  The same policy gives the same bytes, whoever compiles it and when."""
    profiles = tuple(_packed_profile(policy.profile_at(index)) for index in range(len(policy.profiles)))
    rules = tuple((r.name, r.when, _packed_choice(r.profile), r.mode) for r in policy.rules)
    # Version 2 knows no references, so equal values give equal bytes whatever objects they share.
    content: tuple[object, ...] = (
        policy.mode,
        policy.release,
        policy.kernel,
        rules,
        profiles,
        policy.ipcmni_extend,
        policy.trust_annotations,
        policy.stale_pins,
    )
    body = marshal.dumps(content, 2)  # type: ignore[arg-type]  # conditions hold conditions
    return FORMAT + digest_of(body).encode("ascii") + b"\n" + body


def unpack(data: bytes) -> Policy:
    """Return what `pack` stored, or a version before it.

    Raises `ValueError` where it is another format or was damaged.
    """
    head, _, body = data.partition(b"\n")
    if not head.startswith((FORMAT, *PREVIOUS_FORMATS)):
        raise ValueError("its format is unknown to this version")
    digest = digest_of(body)
    if head[len(FORMAT) :] != digest.encode("ascii"):
        raise ValueError("its digest is not that of its content")
    content = marshal.loads(body)  # noqa: S302  (root wrote it, and the digest is right)
    mode, release, kernel, stored, profiles, extend, *more = content
    rules = tuple(
        Rule(name, when, profile if isinstance(profile, int) else Choice(*profile), rule_mode)
        for name, when, profile, rule_mode in stored
    )
    return Policy(mode, release, kernel, rules, profiles, extend, digest, *more)


def _packed_profile(p: Profile) -> bytes:
    fields = (p.name, p.sysctls, p.on_violation, p.host_ipc, p.leftovers, p.unlisted, p.help)
    ways = (p.shared, p.writable_proc_sys, p.nested_ipc, p.msgqueue)
    leftovers = (p.keep, p.reap, p.expect, p.drift, p.dev_shm)
    return marshal.dumps((*fields, *ways, *leftovers), 2)


def _packed_choice(profile: int | Choice) -> object:
    return profile if isinstance(profile, int) else (profile.annotation, profile.among, profile.other)


def resolve(amount: Amount, name: str, kernel: dict[str, int], memory: Memory) -> int:
    """Return an amount as the number that the kernel is given for `name`, clipped to what it can take."""
    if isinstance(amount, int):
        return amount
    if isinstance(amount, str):
        return kernel[name]
    # Users pick the limit, as high as they like; the host's memory is what there is.
    whole = memory.host if memory.limit is None else min(memory.limit, memory.host)
    if len(amount) == 2:
        number = -(-amount[1] * whole // GIB)  # rounded up: a share of a small container is not none at all
    else:
        _, of_limit, of_host, at_least = amount
        if memory.limit is not None and of_limit is not None:
            number = whole * of_limit // 100
        else:
            number = memory.host * (of_host or 0) // 100
        number = max(number, at_least)
        if name in PAGES:
            number //= memory.page
    low, high = range_of(name, memory.ipcmni_extend)
    return min(max(number, low), high)


def glob_matches(pattern: str, text: str) -> bool:
    """Tell whether the whole of `text` matches: `*` is anything, `/` too, `?` one character, case counts."""
    parts = pattern.split("*")
    if len(parts) == 1:
        return len(pattern) == len(text) and _alike(pattern, text, 0)
    first, last = parts[0], parts[-1]
    end = len(text) - len(last)
    if end < len(first) or not _alike(first, text, 0) or not _alike(last, text, end):
        return False
    at = len(first)
    for part in parts[1:-1]:  # the leftmost place is always good enough between two stars
        while not (at + len(part) <= end and _alike(part, text, at)):
            at += 1
            if at + len(part) > end:
                return False
        at += len(part)
    return True


def _alike(part: str, text: str, at: int) -> bool:
    if "?" not in part:
        return text.startswith(part, at)
    return all(c in ("?", text[at + i]) for i, c in enumerate(part))


def holds(when: tuple[Condition, ...], facts: Facts, unknown: list[str]) -> bool | None:
    """Tell whether all conditions hold: None where that hangs on a fact that is not known (noted in `unknown`)."""
    verdict: bool | None = True
    for key, expected in when:
        if key == "not":
            inner = holds(expected, facts, unknown)  # type: ignore[arg-type]  # "not" holds conditions
            found = None if inner is None else not inner
        else:
            have = fact(facts, key)
            if have is None:
                unknown.append(key)
                found = None
            elif isinstance(expected, tuple):
                found = any(glob_matches(pattern, str(have)) for pattern in expected)
            else:
                found = have is expected
        if found is False:
            return False
        if found is None:
            verdict = None
    return verdict


def match(policy: Policy, facts: Facts) -> tuple[Rule | None, tuple[str, ...]]:
    """Return the first rule whose conditions all hold, and the unknown facts that kept earlier ones from it."""
    unknown: list[str] = []
    for rule in policy.rules:
        if holds(rule.when, facts, unknown):
            return rule, tuple(dict.fromkeys(unknown))
    return None, tuple(dict.fromkeys(unknown))
