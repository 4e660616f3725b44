"""The fast door: `hook STAGE`, started by a container runtime with the state JSON on standard input.

Nothing on this path imports more than the few modules that tests/unit/test_imports.py lists; error paths may.
"""

from __future__ import annotations

import _signal
import time

from ipcwarden import privileges
from ipcwarden.core.amendment import NATIVE
from ipcwarden.core.facts import Facts
from ipcwarden.core.record import container_of
from ipcwarden.core.state import MAX_STATE_BYTES, parse_state
from ipcwarden.errors import DeadlineError, PolicyError, PolicyViolation, StateError, UsageError, WardenError, bug, why
from ipcwarden.files import read_all
from ipcwarden.stages.company import protect_anyway
from ipcwarden.stages.create import create, skip
from ipcwarden.stages.failure import record_failure
from ipcwarden.stages.poststart import poststart
from ipcwarden.stages.site import Site, complain
from ipcwarden.stages.teardown import poststop
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipcwarden.core.state import ContainerState

USAGE = "hook [--root DIR] [--on-error refuse|allow] [--native] prestart|createRuntime|poststart|poststop"


_GRACE = 0.5  # seconds after which whatever is done about a deadline is interrupted, too


@value
class Options:
    """The hook's arguments."""

    stage: str
    root: str
    allow: bool
    native: bool = False  # a native door has written config.json before


@value
class Stage:
    """What a stage does, and what it needs: the capabilities it keeps, and its seconds, fewer than the runtime's."""

    run: Callable[[Site, Options], None]
    capabilities: tuple[int, ...]
    seconds: float


def parse_arguments(arguments: Sequence[str], stages: dict[str, Stage]) -> Options:
    """Read the arguments, the last of which is one of the stages.  Raises `UsageError`."""
    root, on_error, native, words = "/", "refuse", False, list(arguments)
    while len(words) > 1 and words[0] in ("--root", "--on-error", NATIVE):
        word = words.pop(0)
        if word == "--root":
            root = words.pop(0)
        elif word == "--on-error":
            on_error = words.pop(0)
        else:
            native = True
    if len(words) != 1 or words[0] not in stages or on_error not in ("refuse", "allow") or not root.startswith("/"):
        got = " ".join(arguments)
        hint = f"usage: {USAGE}"
        if words and words[-1] in ("createContainer", "startContainer"):
            hint = "this stage runs where /proc/1 may be the host's: register createRuntime instead"
        raise UsageError(f"cannot make sense of the arguments '{got}'", hint)
    return Options(words[0], root, on_error == "allow", native)


def _overrun(_signal_number: int, _frame: object) -> None:
    raise DeadlineError("cannot finish in time: our own deadline passed, shortly before the runtime's")


def _read_state(site: Site) -> ContainerState:
    try:
        state = parse_state(read_all(0, MAX_STATE_BYTES))
    except OSError as error:
        raise StateError(f"cannot read the state on stdin: {why(error)}") from error
    except ValueError as error:
        raise StateError(f"cannot use the state on stdin: {error}") from error
    site.subject["container"] = container_of(state.id, state.bundle, Facts())
    return state


def _create(site: Site, options: Options) -> None:
    if site.is_disabled():
        _leave_alone(site, options)
        return
    try:
        policy = site.policy()  # first: it says in which mode faulty input is met
    except PolicyError:
        state = _read_created(site)  # its record names the container
        site.come_in(privileges.CREATE)
        protect_anyway(site, state)
        raise
    create(site, policy, _read_created(site), options.native)


def _poststart(site: Site, options: Options) -> None:
    if site.is_disabled():
        _leave_alone(site, options)
        return
    state = _read_state_in_mode(site)
    site.come_in(privileges.POSTSTART)
    poststart(site, state)


def _poststop(site: Site, _options: Options) -> None:
    state = _read_state(site)
    site.come_in(privileges.POSTSTOP)
    poststop(site, state)


def _leave_alone(site: Site, options: Options) -> None:
    """Decide nothing, because the kill switch is on; whoever was governed before keeps its limits from joiners."""
    state: ContainerState | None = None
    try:
        state = _read_state(site)
        if options.stage != "poststart":
            skip(site, state)
    finally:
        try:
            site.come_in(privileges.POSTSTART)
        except WardenError:
            pass  # whatever is wrong, it starts
        protect_anyway(site, state)


def _read_created(site: Site) -> ContainerState:
    try:
        return _read_state(site)
    except StateError:
        site.come_in(privileges.CREATE)
        protect_anyway(site, None)
        raise


def _read_state_in_mode(site: Site) -> ContainerState:
    try:
        return _read_state(site)
    except StateError:
        try:
            site.policy()  # says in which mode faulty input is met
        except PolicyError:
            pass  # the host's fault must not hide the container's, which nothing allows
        raise


_CREATION = Stage(_create, privileges.DOCUMENTS + privileges.CREATE, 7.5)
_POSTSTART = Stage(_poststart, privileges.POSTSTART, 4)
_POSTSTOP = Stage(_poststop, privileges.POSTSTOP, 25)
STAGES = {"prestart": _CREATION, "createRuntime": _CREATION, "poststart": _POSTSTART, "poststop": _POSTSTOP}


def on_creation(arguments: Sequence[str]) -> int:
    """Run prestart or createRuntime.  This and the two below have a unit each: loading is most of a hook's cost."""
    return run(arguments, {"prestart": _CREATION, "createRuntime": _CREATION})


def on_poststart(arguments: Sequence[str]) -> int:
    """Run poststart."""
    return run(arguments, {"poststart": _POSTSTART})


def on_poststop(arguments: Sequence[str]) -> int:
    """Run poststop."""
    return run(arguments, {"poststop": _POSTSTOP})


def run(arguments: Sequence[str], stages: dict[str, Stage]) -> int:
    """Run one of these stages and return its exit code."""
    began = time.monotonic_ns()
    options: Options | None = None
    site: Site | None = None
    try:
        options = parse_arguments(arguments, stages)
        stage = stages[options.stage]
        _signal.signal(_signal.SIGALRM, _overrun)
        _signal.setitimer(_signal.ITIMER_REAL, stage.seconds, _GRACE)
        privileges.settle()
        site = Site(options.root, options.stage, began=began)
        elsewhere = (privileges.CAP_SYS_CHROOT,) if site.is_away else ()
        if not privileges.drop_directly(stage.capabilities + elsewhere):
            site.privileges = "partial"
        stage.run(site, options)
    except WardenError as error:
        return _fail(error, site, options)
    except Exception as error:  # the last boundary: a bug of ours must not look like anything else
        return _fail(bug(error), site, options)
    return 0


def _fail(error: WardenError, site: Site | None, options: Options | None) -> int:
    """Say what went wrong, record it, and decide whether the container may start all the same."""
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    complain(f"{options.stage}: {error}" if options else str(error))
    if site is not None and not isinstance(error, PolicyViolation):
        record_failure(site, error)
    if options is None or options.stage == "poststop":
        return error.exit_code
    if site is not None and site.disabled:
        return 0  # whatever is wrong, it starts
    if error.of_host:
        return 0 if options.allow else error.exit_code
    lenient = site is not None and site.subject["mode"] == "permissive"
    return 0 if lenient else error.exit_code
