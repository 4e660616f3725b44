"""Which profile allows more than another, and rules that hand it out to images of anybody's."""

from __future__ import annotations

import re

from ipcwarden.compiler.nodes import Mapping, Scalar, Sequence, text_of
from ipcwarden.core.policy import GIB, Memory, resolve
from ipcwarden.core.sysctls import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipcwarden.compiler.amounts import Machine
    from ipcwarden.compiler.findings import Place, Report
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.compiler.profiles import Resolved
    from ipcwarden.compiler.rules import Rule

# What is a share of memory is compared for containers of these kinds: without a limit, small, and large.
_LIMITS = (None, GIB // 4, 8 * GIB)
_HOST = 16 * GIB
# A wildcard before the first slash, unless it stands for a tag or digest alone: postgres:*, postgres@*
_ANY_REGISTRY = re.compile(r"[^/*?]*(?<![:@])[*?]")


def check(rules: list[Rule], resolved: dict[str, Resolved], machine: Machine, report: Report) -> None:
    """Warn of images of any registry that get more than they would by the rule that takes every container."""
    catch_all = next((rule for rule in rules if rule.when == ()), None)
    if catch_all is None:
        return  # without a rule nothing is bounded, so that every profile is a bound
    usual = [resolved[name] for name in _names(catch_all)]
    for rule in rules:
        loose = list(_of_any_registry(rule.when_node)) if rule.when else []
        wider = _wider([resolved[name] for name in _names(rule)], usual, machine) if loose else None
        if wider:
            for at, glob in loose:
                message = f"'{glob}' takes images of any registry, and {wider}"
                report.warning(at, message, "write the registry out, such as 'registry.example/*'")


def more_of(one: Resolved, other: Resolved, machine: Machine) -> str | None:
    """Return the first sysctl of which a profile allows more than another does, for some container at least."""
    for name in NAMES:
        for limit in _LIMITS if name != "kernel.shm_rmid_forced" else ():  # a switch
            memory = Memory(limit, _HOST, machine.page, machine.ipcmni_extend)
            most, others = (_most(profile, name, machine, memory) for profile in (one, other))
            if most > others:
                return name
    return None


def _names(rule: Rule) -> list[str]:
    return [mention.name for mention in rule.mentions if mention.name is not None]


def _wider(profiles: list[Resolved], usual: list[Resolved], machine: Machine) -> str | None:
    for profile in profiles:
        for other in usual:
            if name := more_of(profile, other, machine):
                return f"profile '{profile.name}' allows more {name} than '{other.name}', which they would get without"
    return None


def _most(profile: Resolved, name: str, machine: Machine, memory: Memory) -> int:
    bounds = profile.sysctls.get(name, {})
    bound = bounds.get("set") or bounds.get("max")
    if bound and bound.amount is not None:
        return resolve(bound.amount, name, machine.kernel, memory)
    if not bounds and profile.settings.get("unlisted") == "refuse":
        return machine.kernel[name]
    return machine.range_of(name)[1]


def _of_any_registry(when: Node | None) -> Iterator[tuple[Place, str]]:
    image = when.entries.get("image") if isinstance(when, Mapping) else None
    for item in image.items if isinstance(image, Sequence) else [image]:
        glob = text_of(item)
        if isinstance(item, Scalar) and glob is not None and _ANY_REGISTRY.match(glob):
            yield item.at, glob
