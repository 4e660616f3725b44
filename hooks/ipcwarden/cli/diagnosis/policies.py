"""The policy that hooks decide by, what is written beside it, and the kill switch."""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden import compiler
from ipcwarden.cli.diagnosis.finding import NOTE, PROBLEM, WARNING, Finding
from ipcwarden.compiler import activation
from ipcwarden.core.policy import MAX_POLICY_BYTES, PREVIOUS_FORMATS
from ipcwarden.core.switch import is_switched_off
from ipcwarden.errors import PolicyError
from ipcwarden.files import read
from ipcwarden.layout import COMPILED, SOURCES, STATE, SWITCH, beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.policy import Policy
    from ipcwarden.core.switch import Switch

_COMPILE = "ipcwarden compile"
_MAX_SAID = 64  # characters of what somebody else has written


@dataclass(frozen=True)
class PolicyFacts:
    """The policy in force and what is written: `fault` says why there is none in force that hooks would use.

    `compiled` is what the sources would give, None where they give nothing; `errors` and `sources_fault` say why.
    """

    path: str
    sources: str
    in_force: Policy | None = None
    fault: str = ""
    hint: str = ""
    is_old: bool = False
    compiled: Policy | None = None
    errors: int = 0
    sources_fault: str = ""


def look_at_policy(root: str) -> PolicyFacts:
    """Read the policy in force, and compile the sources beside it."""
    path, sources = beneath(root, f"{STATE}/{COMPILED}"), beneath(root, SOURCES)
    in_force, fault, hint = None, "", ""
    try:
        in_force = activation.in_force(root)
        if in_force is None:
            fault, hint = "there is none", _COMPILE
    except PolicyError as error:
        fault, hint = str(error.args[0]), error.hint
    is_old = False
    try:
        is_old = read(path, MAX_POLICY_BYTES).startswith(PREVIOUS_FORMATS)
    except (OSError, ValueError):
        pass  # then there is a fault
    compiled, errors, sources_fault = None, 0, ""
    try:
        outcome = compiler.load(root)
        compiled = outcome.policy
        errors = sum(finding.severity == "error" for finding in outcome.findings)
    except PolicyError as error:
        sources_fault = str(error.args[0])
    return PolicyFacts(path, sources, in_force, fault, hint, is_old, compiled, errors, sources_fault)


def judge_policy(facts: PolicyFacts, release: str) -> list[Finding]:
    """Judge it; `release` is the kernel that runs."""
    found: list[Finding] = []
    policy = facts.in_force
    if policy is None:
        message = f"no policy is in force: {facts.fault}"
        found.append(Finding("policy", PROBLEM, facts.path, message, facts.sources_fault or facts.hint))
    elif facts.is_old:
        found.append(Finding("policy", WARNING, facts.path, "its format is an older version's", _COMPILE))
    if policy and not policy.rules:
        message = "it has no rule, so that no container is governed"
        found.append(Finding("policy", WARNING, facts.path, message, "add rules, then ipcwarden compile"))
    if policy and policy.release != release:
        there = f"on kernel {policy.release}" if policy.release else "without a look at any kernel"
        message = f"compiled {there}, and this is {release}"
        found.append(Finding("release", WARNING, facts.path, message, _COMPILE))
    if policy and facts.sources_fault:
        found.append(Finding("pending", WARNING, facts.sources, facts.sources_fault, "then ipcwarden compile"))
    if facts.errors:
        message = f"what is written cannot be compiled: {facts.errors} error{'s' * (facts.errors > 1)}"
        found.append(Finding("pending", WARNING, facts.sources, message, "ipcwarden check says where and what"))
    elif policy and facts.compiled and not activation.same_sources(facts.compiled, policy):
        message = f"pending: what is written is not what is in force, {policy.digest[:12]}"
        found.append(Finding("pending", WARNING, facts.sources, message, _COMPILE))
    return found


def judge_switch(switch: Switch | None, root: str, now: str) -> list[Finding]:
    """Judge the kill switch; `now` is RFC 3339 in UTC."""
    path = beneath(root, f"{SOURCES}/{SWITCH}")
    if switch is None:
        return []
    if switch.fault:
        message = f"the kill switch is there, and not obeyed: {switch.fault}"
        hint = "ipcwarden disable sets it as it should be; or remove it"
        return [
            Finding("switch", WARNING, path, message, hint, "containers are governed, and somebody meant otherwise")
        ]
    if not is_switched_off(switch, now):
        message = f"the kill switch was on until {switch.until}"
        because = "containers are governed again: the file has no effect any more"
        return [Finding("switch", NOTE, path, message, "ipcwarden enable removes it", because)]
    until = f"until {switch.until}" if switch.until else "with no end"
    if switch.unclear:
        until = f"with no end, because {switch.unclear[:_MAX_SAID]} is no moment in UTC (2026-11-23T14:00:00Z is one)"
    by = "" if switch.by is None else f", by uid {switch.by}"
    message = f"the kill switch is on {until}{by}: {switch.reason or 'no reason is given'}"
    return [Finding("switch", PROBLEM, path, message, "ipcwarden enable, once the reason is gone")]
