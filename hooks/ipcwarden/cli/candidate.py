"""The policy that is judged by: the one in force, or one that is not, compiled in memory."""

from __future__ import annotations

import os

import click

from ipcwarden.cli import findings
from ipcwarden.compiler import activation, compile_sources
from ipcwarden.compiler.machine import this_machine
from ipcwarden.compiler.sources import built_in, single, site
from ipcwarden.core.policy import Policy, pack, unpack
from ipcwarden.errors import PolicyError, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.compiler.sources import Source


def policy(root: str, path: str | None) -> Policy | None:
    """Return the policy of a file or of a directory like /etc/ipcwarden; without a path the one in force, if any.

    Raises `PolicyError`, after telling standard error of what is wrong.
    """
    if path is None:
        return activation.in_force(root)
    machine = this_machine()
    sources = [*built_in(), *site(root), *_written(path)]
    outcome = compile_sources(sources, machine.kernel, machine.release, machine.page, machine.ipcmni_extend)
    if outcome.policy is None:
        findings.show([outcome], err=True)
        raise PolicyError(f"cannot judge by '{path}': {findings.summary([outcome])}")
    packed = pack(outcome.policy)
    if not outcome.policy.rules:
        click.echo(f"ipcwarden: '{path}' has no rule: no container gets a profile", err=True)
    return unpack(packed)  # with its digest


def _written(path: str) -> list[Source]:
    if not os.path.isdir(path):
        return [single(path)]
    drop_ins = os.path.join(path, "policy.d")
    try:
        names = sorted(os.listdir(drop_ins), key=os.fsencode) if os.path.isdir(drop_ins) else []
    except OSError as error:
        raise PolicyError(f"cannot read '{drop_ins}': {why(error)}") from error
    written = [name for name in names if name.endswith(".yaml") and not name.startswith(".")]
    return [single(os.path.join(path, "policy.yaml")), *(single(os.path.join(drop_ins, name)) for name in written)]
