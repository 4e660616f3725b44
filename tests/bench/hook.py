"""What each hook costs, and the wrapper where it does nothing, beside an empty Python and others that do the same."""

from __future__ import annotations

import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.race import Measure, launched, race, ratio
from bench.rivals import ANNOTATION, EMPTY, ENVIRONMENT, SYSCTLS, TEAMS, Ground, container, values_of
from ipcwarden import unit
from support import sandbox, shell
from support.warden import Warden

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from bench.race import Report
    from bench.rivals import Rivals
    from support.sandbox import Container

    Command: TypeAlias = Sequence[str | Path]

OURS = "ipcwarden"
PASS = "empty Python"
RULES = (1, 10, 100, 1000, 10_000)
PROFILES = 100  # at most; more rules share them


class Host:
    """A root with our policy in force, and our hook called as a runtime does."""

    def __init__(self, root: Path, rules: int) -> None:
        self.root = root
        self.team = f"team-{rules}"
        Warden(root).compile(_policy(rules))

    def command(self, stage: str) -> Command:
        """Return the command that a runtime starts."""
        return [sandbox.PYTHON, "-I", "-S", str(sandbox.HOOK), "--root", str(self.root), stage]

    def stage(self, name: str, run_it: Callable[[Command, str], Measure]) -> Measure:
        """Lead a container of its own through its life, in which one stage is run otherwise than by the way."""

        def run_stage(stage: str, state: str) -> Measure | None:
            if stage == name:
                return run_it(self.command(stage), state)
            sandbox.call(stage, state, self.root, env=ENVIRONMENT).check()
            return None

        with container(self.root, self.team) as started:
            given = {"annotations": started.annotations}
            found = [run_stage("createRuntime", started.state("creating", **given))]
            if name == "poststart":
                found.append(run_stage("poststart", started.state("running", **given)))
            started.kill()
            found.append(run_stage("poststop", started.state("stopped", **given)))
        return next(each for each in found if each is not None)

    def measure(self, stage: str) -> Measure:
        """Measure one stage."""
        return self.stage(stage, lambda command, state: launched(command, state, ENVIRONMENT))

    def verify(self) -> None:
        """Fail unless the hooks do all of their job."""
        with container(self.root, self.team) as started:
            self._verify(started)
        assert not started.pins()
        assert not started.entries()

    def _verify(self, started: Container) -> None:
        given = {"annotations": started.annotations}
        started.create(annotations=given["annotations"]).check()
        assert values_of(started) == SYSCTLS
        assert len(started.pins()) == len(started.entries()) == 1
        sandbox.call("poststart", started.state("running", **given), self.root).check()
        started.kill()
        started.poststop().check()
        applied, ended = started.records()[-2:]
        assert (applied["event"], ended["event"]) == ("applied", "teardown")
        assert ended["namespace"]["destroyed"] is True


def _run_hooks(report: Report, rounds: int, lab: Path, hosts: dict[int, Host]) -> None:
    """Race the hooks with an empty Python and with the rivals."""
    ours = hosts[len(TEAMS)]
    ours.verify()
    ground = Ground(lab / "rivals")
    ground.make()
    commands = ground.commands(report)
    for command in commands.values():
        ground.verify(command)
    rivals: Rivals = {
        PASS: partial(ground.measure, EMPTY),
        f"{OURS} createRuntime": partial(ours.measure, "createRuntime"),
        f"{OURS} poststart": partial(ours.measure, "poststart"),
        f"{OURS} poststop, nothing left": partial(ours.measure, "poststop"),
        **{name: partial(ground.measure, command) for name, command in commands.items()},
    }
    taken = race(rounds, rivals)
    report.table("One hook, 10 rules, 13 sysctls", taken, base=PASS)
    created, stopped = f"{OURS} createRuntime", f"{OURS} poststop, nothing left"
    against = {
        "prestart": (created, PASS, "of python3 -I -S -c pass", 1.25),
        "poststop": (stopped, PASS, "nothing left, of python3 -I -S -c pass", 1.45),
        "shell": (created, "lean shell hook", "prestart, of the lean shell hook", 0.40),
        "naive": (created, "naive Python hook", "prestart, of the naive Python hook", 0.08),
    }
    for name, (mine, other, text, limit) in against.items():
        if other in taken:
            report.target(name, text, limit, ratio(taken, mine, other), rounds=rounds)
    for stage in (created, stopped):
        peak = max(each.kib for each in taken[stage]) / 1024
        report.target(stage.split()[1].rstrip(","), "MiB of memory at most", 10, peak, rounds=rounds)


def _run_rules(report: Report, rounds: int, hosts: dict[int, Host]) -> None:
    """Race policies, in each of which the last rule matches."""
    taken = race(rounds, {_rules(count): partial(host.measure, "createRuntime") for count, host in hosts.items()})
    report.table("createRuntime by rules", taken, base=_rules(1))
    report.target("rules", "1000, of one", 1.25, ratio(taken, _rules(1000), _rules(1)), rounds=rounds)
    peak = max(each.kib for each in taken[_rules(1000)]) / 1024
    report.target("rules", "1000, MiB of memory at most", 10, peak, rounds=rounds)


def _run_wrapper(report: Report, rounds: int, lab: Path) -> None:
    """Race a verb that the wrapper only passes on with an empty Python and the runtime, one after the other."""
    for name in ("runc", "crun"):
        found = shutil.which(name)
        if found is None:
            report.leave_out(f"the wrapper of {name}: it is missing")
            continue
        wrapper, verb = _wrapper(lab / f"wrapper-{name}", found), ["--root", str(lab / name), "list"]
        runtime, both = [found, *verb], f"{PASS}, then {name}"
        rivals: Rivals = {
            f"{name} list": partial(launched, runtime, env=ENVIRONMENT),
            both: partial(_one_after_the_other, EMPTY, runtime),
            f"ipcwarden-{name} list": partial(launched, [wrapper, *verb], env=ENVIRONMENT),
        }
        taken = race(rounds, rivals)
        report.table(f"A verb that the wrapper of {name} passes on", taken, base=both)
        text = f"ipcwarden-{name} list, of an empty Python and {name}"
        report.target("wrapper", text, 1.1, ratio(taken, f"ipcwarden-{name} list", both), rounds=rounds)


def _run_instructions(report: Report, hosts: dict[int, Host]) -> None:
    """Count the instructions outside of the kernel, which hardly differ from run to run."""
    if shutil.which("valgrind") is None:
        report.leave_out("instructions: valgrind is missing (apt-get install valgrind)")
        return
    print("\nInstructions outside of the kernel (callgrind)")
    empty = _instructions(EMPTY, "").nanoseconds
    report.figure(PASS, empty, "instructions")
    counted = {
        f"{name}'s unit loaded": partial(_instructions, _load(unit.NAMES[name]), "")
        for name in ("create", "poststart", "poststop")
    }
    host = hosts[len(TEAMS)]
    for stage in ("createRuntime", "poststart", "poststop"):
        counted[stage] = partial(host.stage, stage, _instructions)
    for name, count in counted.items():
        try:
            found = count().nanoseconds
        except NotImplementedError as error:
            report.leave_out(f"instructions of {name}: {error}")
            continue
        report.figure(f"{OURS}: {name}", found, "instructions")
        report.figure(f"{OURS}: {name}, of {PASS}", found / empty, "x")


def _load(module: str) -> Command:
    """Return a command that loads a unit, and ends as a hook does."""
    hook = sandbox.HOOK.parent
    return [
        *EMPTY[:-1],
        f"import gc, posix, sys; gc.disable(); sys.path.insert(0, '{hook}'); import {module}; posix._exit(0)",
    ]


def _instructions(command: Command, state: str) -> Measure:
    """Count instead of measuring the time."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = shell.run(*tool, *command, stdin=state, env=ENVIRONMENT, timeout=60)
    if re.search("unhandled .* syscall", done.stderr):
        raise NotImplementedError("this valgrind does not know all system calls that it makes")
    found = re.search(r"Collected : (\d+)", done.check().stderr)
    assert found, done.stderr
    return Measure(int(found[1]))


def _one_after_the_other(first: Command, second: Command) -> Measure:
    one, two = launched(first, env=ENVIRONMENT), launched(second, env=ENVIRONMENT)
    return Measure(one.nanoseconds + two.nanoseconds, one.cpu_us + two.cpu_us, max(one.kib, two.kib))


def _wrapper(root: Path, runtime: str) -> Path:
    """Put a wrapper of a runtime below a root."""
    directory = root / "usr" / "libexec" / "ipcwarden"
    shutil.copytree(shell.BUILT / "hook", directory)
    file = directory / f"ipcwarden-{Path(runtime).name}"
    file.write_text(unit.wrapper_stub(sandbox.PYTHON, runtime, str(root), "refuse", {}), encoding="utf-8")
    file.chmod(0o755)
    return file


def _rules(count: int) -> str:
    return "1 rule" if count == 1 else f"{count} rules"


def _policy(rules: int) -> str:
    """Write a policy in which each rule is for a team of its own."""
    sem = dict(zip(("semmsl", "semmns", "semopm", "semmni"), SYSCTLS["kernel/sem"].split(), strict=True))
    plain = ", ".join(f"{name.replace('/', '.')}: {text}" for name, text in SYSCTLS.items() if name != "kernel/sem")
    limits = f"{plain}, kernel.sem: {{{', '.join(f'{name}: {text}' for name, text in sem.items())}}}"
    profiles = min(rules, PROFILES)
    lines = ["version: 1", f"trust_annotations: [{ANNOTATION}]", "profiles:"]
    lines += [f"  profile-{number}: {{sysctls: {{{limits}}}}}" for number in range(profiles)]
    lines.append("rules:")
    lines += [
        f"  - {{name: rule {number}, when: {{annotations: {{{ANNOTATION}: team-{number}}}}}, "
        f"profile: profile-{number % profiles}}}"
        for number in range(1, rules + 1)
    ]
    return "\n".join(lines) + "\n"


def run(report: Report, rounds: int) -> None:
    """Measure all of that."""
    lab = Path(os.environ["IPCWARDEN_LAB"]) / "bench-hook"
    hosts = {count: Host(lab / f"rules-{count}", count) for count in RULES}
    _run_hooks(report, rounds, lab, hosts)
    _run_rules(report, rounds, hosts)
    _run_wrapper(report, rounds, lab)
    _run_instructions(report, hosts)
