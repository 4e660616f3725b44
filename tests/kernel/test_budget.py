"""What a hook may cost, told without a clock: system calls, processes, programs, and the files that it looks at.

Where a budget is exceeded, the hook does more than it did.  `strace -f -y` on the same call shows what: take it out,
or, if it is worth what it costs every container, raise the number below to the one measured and 5 % more, with the
reason in the commit.  Where much is saved, lower it: a budget that is never near holds nothing.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from ipcwarden import unit
from ipcwarden.registration.entry import Registration
from support.pod import pod
from support.sandbox import HOOK, PYTHON, put_policy
from support.shell import BUILT
from support.trace import NEW_PROCESS, NEW_PROGRAM, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.pod import Start
    from support.sandbox import Container
    from support.trace import Traced

# System calls beyond those of `python3 -I -S -c pass`: measured with Python 3.11 on Linux 6.18, and 5 % more.
BUDGETS = {
    "createRuntime": 458,
    "poststart": 309,
    "poststop": 422,
    "skipped createRuntime": 292,
    "skipped poststart": 234,
    "skipped poststop": 227,
    "wrapper's other verbs": 43,
}
# Below the hook's root: what it reads, its ledger with pins and namespaces, and its log.
OWN = (
    "etc/ipcwarden/disabled",
    "var/lib/ipcwarden/policy.compiled",
    "run/ipcwarden/containers",
    "run/ipcwarden/namespaces",
    "run/ipcwarden/pins",
    "var/log/ipcwarden",
)
# What C modules of Python's are linked to.
LIBRARIES = ("/lib", "/usr/lib", "/etc/ld.so.cache")

Traces = dict[str, "Traced"]


def hook(container: Container, stage: str, status: str) -> Traced:
    """Trace a stage that ends well."""
    command = (PYTHON, "-I", "-S", HOOK, "--root", container.root, stage)
    return trace(container.root / "trace", *command, stdin=container.state(status))


def life(container: Container) -> Iterator[tuple[str, Traced]]:
    """Trace the three hooks of a container that leaves nothing."""
    yield "createRuntime", hook(container, "createRuntime", "creating")
    yield "poststart", hook(container, "poststart", "created")
    container.kill()
    yield "poststop", hook(container, "poststop", "stopped")


@pytest.fixture
def empty(scratch: Path) -> Traced:
    """Trace an interpreter that does nothing."""
    return trace(scratch / "trace", PYTHON, "-I", "-S", "-c", "pass")


def within(budget: str, traced: Traced, empty: Traced) -> None:
    """Check a budget."""
    taken = len(traced.calls) - len(empty.calls)
    assert taken <= BUDGETS[budget], f"{budget}: {taken} system calls, {BUDGETS[budget]} are allowed"


def warm(start: Callable[[], Container]) -> None:
    """Let Python write its bytecode, and the first container make our directories."""
    for _ in life(start()):
        pass


def test_stages(start: Callable[[], Container], empty: Traced) -> None:
    """A container's three hooks keep to their budgets, alone in their process, and look only at what is theirs."""
    warm(start)
    container = start()
    theirs = [str(container.root / name) for name in OWN]
    theirs += [str(container.bundle), str(BUILT / "hook"), "/proc", *LIBRARIES]
    for stage, traced in life(container):
        within(stage, traced, empty)
        assert (traced.count(*NEW_PROGRAM), traced.count(*NEW_PROCESS)) == (1, 0), stage
        elsewhere = traced.paths - empty.paths
        above = {path for path in elsewhere if any(own.startswith(f"{path.rstrip('/')}/") for own in theirs)}
        below = {path for path in elsewhere if any(f"{path}/".startswith(f"{own}/") for own in theirs)}
        assert elsewhere - above - below == set(), stage
    assert [record["event"] for record in container.records()[-2:]] == ["applied", "teardown"]


def test_skipped(start: Callable[[], Container], root: Path, empty: Traced) -> None:
    """A container that no rule matches costs less, in one process each, too."""
    put_policy(root, [], [])
    warm(start)
    container = start()
    for stage, traced in life(container):
        within(f"skipped {stage}", traced, empty)
        assert (traced.count(*NEW_PROGRAM), traced.count(*NEW_PROCESS)) == (1, 0), stage
    assert container.records()[-1]["event"] == "skipped"


@pytest.mark.parametrize("living", [1, 2])
def test_a_member_s_end(start: Start, root: Path, living: int) -> None:
    """Where others live on, two processes are made for each of their pid namespaces, and no program is started."""
    stays, goes = pod(start, root)
    for _ in range(living - 1):
        start(ipc=str(stays.namespace), own_pids=True).create().check()
    goes.kill()
    traced = hook(goes, "poststop", "stopped")
    assert (traced.count(*NEW_PROGRAM), traced.count(*NEW_PROCESS)) == (1, 2 * living)


def test_other_verbs_of_the_wrapper(root: Path, scratch: Path, empty: Traced) -> None:
    """Where nothing is to be decided, the wrapper becomes the runtime for the calls of an empty start, and a few."""
    directory = root / "usr/libexec/ipcwarden"
    shutil.copytree(BUILT / "hook", directory)
    registration = Registration(str(root), PYTHON, "refuse", native=True)
    entries = {stage: registration.entry(stage) for stage in registration.stages}
    wrapper = directory / "ipcwarden-true"
    wrapper.write_text(unit.wrapper_stub(PYTHON, "/bin/true", str(root), "refuse", entries))
    wrapper.chmod(0o755)
    traced = trace(scratch / "trace", wrapper, "state", "c1")
    starts = [number for number, call in enumerate(traced.calls) if call.name in NEW_PROGRAM]
    assert len(starts) == 2
    assert traced.count(*NEW_PROCESS) == 0
    ours = type(traced)(traced.result, traced.calls[: starts[1]])
    within("wrapper's other verbs", ours, empty)
    assert ours.paths - empty.paths <= {str(wrapper), str(directory), "/proc/self/environ"}
