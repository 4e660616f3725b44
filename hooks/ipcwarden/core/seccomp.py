"""linux.seccomp (runtime-spec, config-linux.md) made so narrow that no process inside makes another IPC namespace.

Limits do not nest: a new namespace has the kernel's values, and whoever may make a user namespace may make one.
libseccomp does not say which of two rules wins that both fit one call, so none do here: every rule on the flags of
clone(2) and unshare(2) is held to calls without CLONE_NEWIPC, and those with it have one rule of their own.

setns(2) stays as it is.  It takes CAP_SYS_ADMIN over a namespace that exists already, and inside none can be made.
"""

from __future__ import annotations

from ipcwarden.core.documents import Repeated
from ipcwarden.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

RAW_FILTER = "run.oci.seccomp_bpf_data"  # an annotation of crun's: a filter that it loads instead of linux.seccomp
_NEWIPC = 0x08000000  # CLONE_NEWIPC
_REFUSED, _UNKNOWN_CALL = 1, 38
_MASKED, _EQUAL = "SCMP_CMP_MASKED_EQ", "SCMP_CMP_EQ"
_WITH_FLAGS = ("clone", "unshare")
_NARROWED = (*_WITH_FLAGS, "clone3")
_MEMBERS = {
    "": ("defaultAction", "architectures", "syscalls"),
    "syscalls.": ("names", "action", "errnoRet", "args"),
    "syscalls.args.": ("index", "value", "valueTwo", "op"),
}
# What programs of other widths call on the same machine: without its architecture in the list, a call kills.
_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "mips64": ("SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"),
}


def narrowed(seccomp: Document, machine: str, annotations: dict[str, str] | None = None) -> dict[str, Document]:
    """Return what `linux.seccomp` has to be, so that calls with CLONE_NEWIPC are refused and all others are as before.

    `machine` is uname(2)'s.  clone3(2) has its flags behind a pointer, where no filter looks: ENOSYS makes the C
    library call clone instead.  Raises `StateError` for a filter that cannot be narrowed without a guess.
    """
    if any(key.partition("\0")[0] == RAW_FILTER for key in annotations or ()):
        raise StateError(f"cannot narrow seccomp: annotation '{RAW_FILTER}' makes crun ignore linux.seccomp")
    if not isinstance(seccomp, dict | None):
        raise _unusable("linux.seccomp", "is not an object")
    plain = _members(seccomp or {}, "")
    if not plain.get("defaultAction") and not plain.get("syscalls"):  # none at all, as runc reads it
        filtered: dict[str, Document] = {"defaultAction": "SCMP_ACT_ALLOW"}
        if machine in _ARCHITECTURES:
            filtered["architectures"] = list(_ARCHITECTURES[machine])
        rules: list[Document] = []
    else:
        filtered, rules = dict(plain), []
        for rule in _objects_in(plain, "syscalls", ""):
            rules += _held(_members(rule, "syscalls."), machine)
    for name in _WITH_FLAGS:
        rules.append(_refusal(name, _REFUSED, [_masked(_position(name, machine), _NEWIPC, _NEWIPC)]))
    rules.append(_refusal("clone3", _UNKNOWN_CALL, []))
    filtered["syscalls"] = rules
    return filtered


def looseness(seccomp: Document, machine: str, annotations: dict[str, str]) -> str:
    """Say what keeps `linux.seccomp` from being narrow: loose, it is not yet; rigid, it cannot be; empty, it is."""
    try:
        return "" if narrowed(seccomp, machine, annotations) == seccomp else "loose"
    except StateError:
        return "rigid"


def _unusable(what: str, reason: str) -> StateError:
    return StateError(f"cannot narrow seccomp: its '{what}' {reason}")


def _members(section: dict[str, Document], place: str) -> dict[str, Document]:
    """Return an object that every runtime reads as we do: no second spelling, nothing twice."""
    known = {name.casefold(): name for name in _MEMBERS[place]}
    for key in section:
        name = known.get(key.partition("\0")[0].casefold(), key)
        if name != key:
            raise _unusable(f"{place}{name}", f"is spelled {key!r}, which runtimes read differently")
    if isinstance(section, Repeated):
        raise _unusable(place.rstrip(".") or "linux.seccomp", "has a member twice, which runtimes read differently")
    return section


def _objects_in(section: dict[str, Document], name: str, place: str) -> list[dict[str, Document]]:
    found = section.get(name)
    listed = [] if found is None else found
    objects = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(objects) != len(listed):
        raise _unusable(f"{place}{name}", "is not a list of objects")
    return objects


def _position(name: str, machine: str) -> int:
    return 1 if name == "clone" and machine.startswith("s390") else 0  # clone(2): there the stack comes first


def _masked(index: int, mask: int, number: int) -> dict[str, Document]:
    return {"index": index, "value": mask, "valueTwo": number, "op": _MASKED}


def _refusal(name: str, number: int, args: list[dict[str, Document]]) -> Document:
    rule: dict[str, Document] = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number}
    return {**rule, "args": list(args)} if args else rule


def _held(rule: dict[str, Document], machine: str) -> list[Document]:
    """Return one rule as those that it becomes: what it says of other calls, and of each of ours without the flag."""
    names = rule.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _unusable("syscalls.names", "is not a list of names")
    # libseccomp, as C, reads a name up to its first NUL.
    ours = {plain for name in names if (plain := str(name).partition("\0")[0]) in _NARROWED}
    if not ours:
        return [rule]
    others: list[Document] = [name for name in names if str(name).partition("\0")[0] not in ours]
    rules: list[Document] = [{**rule, "names": others}] if others else []
    conditions = [_condition(each) for each in _objects_in(rule, "args", "syscalls.")]
    for name in _WITH_FLAGS:
        if name in ours:
            for args in _alternatives(conditions):
                held = _without_flag(args, _position(name, machine))
                rules += [] if held is None else [{**rule, "names": [name], "args": list(held)}]
    return rules


def _condition(found: dict[str, Document]) -> dict[str, Document]:
    condition = _members(found, "syscalls.args.")
    for name in ("index", "value", "valueTwo"):
        number = condition.get(name, 0)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise _unusable(f"syscalls.args.{name}", f"is {number!r}, which is no number of 64 bits")
    return condition


def _alternatives(conditions: list[dict[str, Document]]) -> list[list[dict[str, Document]]]:
    # All must hold; but where one argument has two conditions, runc and crun make a rule of each.
    indices = [condition.get("index", 0) for condition in conditions]
    return [conditions] if len(set(map(str, indices))) == len(indices) else [[each] for each in conditions]


def _without_flag(args: list[dict[str, Document]], position: int) -> list[dict[str, Document]] | None:
    """Return a rule's conditions, held to calls without the flag; None where it only speaks of calls with it."""
    held, wanted = [], False
    for condition in args:
        if condition.get("index", 0) != position:
            held.append(condition)
            continue
        wanted = True
        mask, number = int(str(condition.get("value", 0))), int(str(condition.get("valueTwo", 0)))
        if condition.get("op") == _EQUAL:
            mask, number = (1 << 64) - 1, mask
        elif condition.get("op") != _MASKED:
            raise _unusable("syscalls.args.op", f"compares flags with {condition.get('op')!r}")
        if number & ~mask:
            raise _unusable("syscalls.args.valueTwo", "has bits that its mask has not")
        if number & _NEWIPC:
            return None
        held.append(condition if mask & _NEWIPC else _masked(position, mask | _NEWIPC, number))
    return held if wanted else [*held, _masked(position, _NEWIPC, 0)]
