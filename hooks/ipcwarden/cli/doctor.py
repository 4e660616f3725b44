"""`ipcwarden doctor`: what is wrong with this host's installation, why that matters, and what to do."""

from __future__ import annotations

import os
import shutil
import time

import click

from ipcwarden.cli.bug import bug
from ipcwarden.cli.diagnosis import containers, enforcement, host, podman, policies, programs, registrations
from ipcwarden.cli.diagnosis.finding import PROBLEM, SEVERITIES, WARNING, Finding, ordered
from ipcwarden.cli.diagnosis.laboratory import Laboratory
from ipcwarden.cli.diagnosis.probe import IMPOSSIBLE, Probe
from ipcwarden.cli.findings import counted
from ipcwarden.cli.survey import survey
from ipcwarden.core.documents import serialize
from ipcwarden.core.policy import STALE_PINS
from ipcwarden.core.record import timestamp
from ipcwarden.core.switch import is_switched_off
from ipcwarden.errors import KernelError, WardenError, printable, why
from ipcwarden.host.switch import read_switch
from ipcwarden.registration import runtimes
from ipcwarden.registration.entry import ENVIRONMENT, RegistrationError
from ipcwarden.stages.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.cli import Settings
    from ipcwarden.cli.diagnosis.registrations import Registered
    from ipcwarden.core.documents import Document
    from ipcwarden.core.policy import Policy
    from ipcwarden.registration.runtimes import Runtime

DOCTOR_VERSION = 1
_PATH = f"{ENVIRONMENT['PATH']}:/usr/local/sbin:/usr/local/bin"


@click.command("doctor")
@click.option("--probe", is_flag=True, help="Start a throwaway container of each engine, and compare its limits.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
@click.pass_obj
def command(settings: Settings, probe: bool, as_json: bool) -> int:
    """Find what is wrong with the installation: registrations, policy, ledger, log, kernel, and what runs ungoverned.

    Nothing is changed, and nothing is started without --probe.  Ends with 1 where a problem was found; warnings and
    notes do not fail.
    """
    if os.geteuid() != 0:
        raise KernelError("cannot look at all that there is to look at", "only root can do this")
    found, probes = examine(settings.root, probe)
    if as_json:
        click.echo(serialize(document_of(found, probes)))
    else:
        _show(found, probes or [])
    return 1 if _count(found, PROBLEM) else 0


def examine(root: str, probing: bool) -> tuple[list[Finding], list[Probe] | None]:
    """Run every check; one that cannot be made is a finding of its own, and keeps no other from being made."""
    examination = _Examination(root, probing)
    return examination.run(), examination.probes


class _Examination:
    def __init__(self, root: str, probing: bool) -> None:
        self._root = root
        self.probes: list[Probe] | None = [] if probing else None
        self._found: list[Finding] = []
        self._policy: Policy | None = None
        self._hooked: list[str] = []
        self._registered: list[Registered] = []
        self._off = False

    def run(self) -> list[Finding]:
        self._try("the policy", self._policies)
        self._try("the kill switch", self._switch)
        self._try("registrations", self._registrations)
        self._try("runtimes", self._runtimes)
        self._try("log, ledger and kernel", self._places)
        self._try("pins", self._pins)
        self._try("the log's last records", self._records)
        self._try("running containers", self._containers)
        if self.probes is not None:
            self._try("the engines", self._probe)
        return ordered(self._found)

    def _try(self, what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except WardenError as error:
            self._unchecked(what, str(error.args[0]), error.hint)
        except OSError as error:
            self._unchecked(what, why(error))
        except Exception as error:  # whatever lies around on a host: the other checks count
            self._unchecked(what, bug(error), "this is a fault of ipcwarden, please report it")

    def _unchecked(self, what: str, message: str, hint: str = "") -> None:
        self._found.append(Finding("unchecked", WARNING, what, message, hint))

    def _policies(self) -> None:
        facts = policies.look_at_policy(self._root)
        self._policy = facts.in_force
        self._found += policies.judge_policy(facts, os.uname().release)

    def _switch(self) -> None:
        now = time.time_ns()
        moment = timestamp(now, tuple(time.gmtime(now // 10**9)))
        switch = read_switch(self._root)
        self._off = is_switched_off(switch, moment)
        self._found += policies.judge_switch(switch, self._root, moment)

    def _registrations(self) -> None:
        configured = podman.look(self._root, os.environ)
        self._found += podman.judge(configured, self._root)
        others, findings = registrations.of_engines(self._root)
        self._registered = registered = [*registrations.of_podman(configured), *others]
        self._hooked = ["podman"] if configured.is_registered and not configured.is_native else []
        self._found += findings
        self._found += registrations.unregistered(registered, findings, _is_there)
        self._found += programs.judge(registered, self._root)

    def _runtimes(self) -> None:
        profiles = enforcement.profiles_of(self._policy)
        self._found += enforcement.late(_runcs(), profiles, self._hooked)
        self._found += enforcement.nested(profiles, self._hooked)

    def _places(self) -> None:
        site = Site(self._root, "doctor")
        self._found += host.judge_room("log", host.log_of(site))
        self._found += host.judge_room("ledger", host.look_at_place(site.places.entries))
        self._found += host.judge_kernel(host.look_at_kernel(site.features), os.uname().release)

    def _pins(self) -> None:
        site = Site(self._root, "doctor")
        site.go_home()
        due, lost, stale = host.look_at_pins(site, self._policy.stale_pins if self._policy else STALE_PINS)
        self._found += host.judge_pins(due, lost, str(site.places.run), stale)

    def _records(self) -> None:
        records = containers.recent(Site(self._root, "doctor").places.logs)
        self._found += containers.unknown(records, self._policy)

    def _containers(self) -> None:
        site = Site(self._root, "doctor")
        site.go_home()
        namespaces = survey(site, self._policy)
        self._found += containers.ungoverned(namespaces, self._policy, containers.in_users_ledger)

    def _probe(self) -> None:
        if self._off:
            self.probes = [Probe("host", IMPOSSIBLE, "the kill switch is on")]
        else:
            with Laboratory(self._root, Site(self._root, "doctor").places.logs, _found) as laboratory:
                self.probes = laboratory.probe(self._registered)
        self._found += [finding for each in self.probes for finding in each.findings()]


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PATH}")


def _is_there(program: str) -> bool:
    return _found(program) is not None


def _runcs() -> list[Runtime]:
    try:
        return [runtimes.find("runc")]
    except RegistrationError:
        return []  # none that could be late


def document_of(found: list[Finding], probes: list[Probe] | None) -> Document:
    """Return what --json prints: schemas/doctor-v1.schema.json."""
    return {
        "version": DOCTOR_VERSION,
        "healthy": not _count(found, PROBLEM),
        "findings": [each.document() for each in found],
        "probes": None if probes is None else [each.document() for each in probes],
    }


def _show(found: list[Finding], probes: list[Probe]) -> None:
    for probe in probes:
        click.echo(printable(f"probe: {probe.engine}: {probe.outcome}: {probe.message}"))
    for each in found:
        click.echo(printable(f"{each.severity}: {each.subject}: {each.message}"))
        click.echo(f"    {each.why}")
        if each.hint:
            click.echo(printable(f"    {each.hint}"))
    click.echo(_summary(found))


def _summary(found: list[Finding]) -> str:
    counts = {severity: _count(found, severity) for severity in SEVERITIES}
    told = [counted(number, severity) for severity, number in counts.items() if number]
    return ", ".join(told if counts[PROBLEM] else ["no problems", *told])


def _count(found: list[Finding], severity: str) -> int:
    return sum(each.severity == severity for each in found)
