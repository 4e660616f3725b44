"""The native doors.  What engines start instead of runc or crun: on `create` and `run` it edits config.json first.

Whatever happens, the runtime that was named at the installation takes this process' place, with what it was given:
arguments, environment, descriptors, directory.  Its exit code, signals and output are its own.

And podman's precreate hook, which gets config.json on standard input and has to hand it back.
"""

from __future__ import annotations

import _signal
import posix
import time

from ipcwarden.core.documents import serialize
from ipcwarden.core.facts import Facts
from ipcwarden.core.invocation import invocation_of
from ipcwarden.core.record import container_of, timestamp
from ipcwarden.core.spec import MAX_SPEC_BYTES
from ipcwarden.core.state import fault_of
from ipcwarden.errors import DeadlineError, PolicyError, RecordError, StateError, WardenError, bug, why
from ipcwarden.files import O_FILE, read, write_whole
from ipcwarden.host.procfs import slurp
from ipcwarden.privileges import CREATE, DOCUMENTS, drop_directly, settle
from ipcwarden.stages.failure import record_failure
from ipcwarden.stages.native import amend, parse_config
from ipcwarden.stages.precreate import hand_back, precreate, take_config
from ipcwarden.stages.site import Site, complain
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ipcwarden.core.documents import Document
    from ipcwarden.core.invocation import Invocation
    from ipcwarden.core.policy import Policy

_SECONDS = 7.5
_CONFIG = "config.json"
_ELOOP = 40


@value
class Door:
    """What was fixed at the installation: the runtime's path, our root, --on-error, and our hooks by stage."""

    runtime: str
    root: str
    on_error: str
    entries: dict[str, dict[str, Document]]


def wrap(door: Door, arguments: Sequence[str]) -> NoReturn:
    """Edit config.json if something is to be created, and become the runtime."""
    invocation = invocation_of(arguments)
    if invocation is not None and invocation.container:
        code = _prepare(door, invocation)
        if code:
            posix._exit(code)
    become(door.runtime, arguments)


def become(runtime: str, arguments: Sequence[str]) -> NoReturn:
    """Become the runtime, as if nobody had stood before it."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and that would be inherited
        _signal.signal(number, _signal.SIG_DFL)
    # Not posix.environ: where the locale is C, Python has put LC_CTYPE there (PEP 538).  Of two variables of one name
    # the first counts, as for getenv(3) and Go; a name may begin with `=`, and nothing without a name can be handed on.
    given: dict[bytes, bytes] = {}
    for each in slurp("/proc/self/environ").split(b"\0"):
        end = each.find(b"=", 1)
        if end > 0:
            given.setdefault(each[:end], each[end + 1 :])
    try:
        posix.execve(runtime, [runtime, *arguments], given)
    except OSError as error:
        complain(f"cannot start the runtime '{runtime}': {why(error)} (ipcwarden install knows another one)")
        posix._exit(127)


def _overrun(_signal_number: int, _frame: object) -> NoReturn:
    raise DeadlineError("cannot finish in time: our own deadline passed")


def _prepare(door: Door, invocation: Invocation) -> int:
    """Edit config.json; return 0 where the runtime may go on, else the exit code."""
    site: Site | None = None
    umask = posix.umask(0o077)
    alarm = _signal.signal(_signal.SIGALRM, _overrun)
    try:
        _signal.setitimer(_signal.ITIMER_REAL, _SECONDS)
        site = Site(door.root, "wrapper")
        _edit(site, door, invocation)
    except WardenError as error:
        return _fail(error, site, door, invocation)
    except Exception as error:  # the last boundary: a bug of ours must not look like anything else
        return _fail(bug(error), site, door, invocation)
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, alarm)  # it may have been ignored
        posix.umask(umask)
    return 0


def _edit(site: Site, door: Door, invocation: Invocation) -> None:
    try:  # first: they say how faulty input is met
        policy = None if site.is_disabled() else site.policy()
    except PolicyError:
        policy = None  # the creation stage meets it again, and does what --on-error says
    try:
        directory = posix.open(invocation.bundle or ".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"cannot find the bundle '{invocation.bundle}': {why(error)}") from error
    try:
        bundle = posix.readlink(f"/proc/self/fd/{directory}")  # as runtimes tell their hooks
        wrong = fault_of({"id": invocation.container, "bundle": bundle})
        if wrong:
            raise StateError(f"cannot create container '{invocation.container[:64]}': {wrong}")
        site.subject["container"] = container_of(invocation.container, bundle, Facts())
        _demand_own(door, invocation, bundle, directory)
        before = _read_config(bundle, directory)
        after = _amend(site, policy, door, invocation, bundle, before)
        if after != before:
            try:
                _replace(directory, _CONFIG, after)
            except OSError as error:
                raise RecordError(f"cannot write '{bundle}/{_CONFIG}': {why(error)}") from error
    finally:
        posix.close(directory)


def _demand_own(door: Door, invocation: Invocation, bundle: str, directory: int) -> None:
    """Raise `StateError` where --config names another file than the bundle's own: that is what our hooks judge.

    crun takes the plain word `config.json` for the one in the bundle, and everything else as a shell does.  A file of
    another name may be a link: what we put in place of the one would leave the other as it was.
    """
    path = invocation.config
    if not path or (path == _CONFIG and door.runtime.rpartition("/")[2].startswith("crun")):
        return
    above, slash, name = path.rpartition("/")
    try:
        there, here = posix.stat(above + slash or "."), posix.fstat(directory)
    except OSError as error:
        raise StateError(f"cannot find '{path}': {why(error)}") from error
    if name != _CONFIG or (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
        raise StateError(
            f"cannot create a container from '{path}': hooks judge '{bundle}/{_CONFIG}'",
            "put it there, and leave --config out",
        )


def _read_config(bundle: str, directory: int) -> bytes:
    path = f"{bundle}/{_CONFIG}"
    try:
        return read(_CONFIG, MAX_SPEC_BYTES, directory)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == _ELOOP else why(error)
        raise StateError(f"cannot read '{path}': {reason}") from error
    except ValueError as error:
        raise StateError(f"cannot read '{path}': {error}") from error
    except DeadlineError as error:
        raise StateError(f"cannot read '{path}' in time") from error


def _amend(site: Site, policy: Policy | None, door: Door, invocation: Invocation, bundle: str, before: bytes) -> bytes:
    program = door.runtime.rpartition("/")[2]
    try:
        return amend(site, policy, invocation.container, bundle, parse_config(before), program, door.entries)
    except (DeadlineError, RecursionError, MemoryError) as error:
        # What takes that long to read was made to: no fault of the host's, and no way in.
        raise StateError(f"cannot read '{bundle}/{_CONFIG}' in time: it is too large or too tangled") from error
    except ValueError as error:
        raise StateError(f"cannot make sense of '{bundle}/{_CONFIG}': {error}") from error


def _replace(directory: int, name: str, data: bytes) -> None:
    """Put a file in place of one, with its owner and mode; the directory may be anybody's."""
    like = posix.stat(name, dir_fd=directory, follow_symlinks=False)
    temporary = f".{name}.{posix.urandom(8).hex()}"
    fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | O_FILE, 0o600, dir_fd=directory)
    try:
        write_whole(fd, data)
        if (like.st_uid, like.st_gid) != (posix.geteuid(), posix.getegid()):
            posix.fchown(fd, like.st_uid, like.st_gid)
        posix.fchmod(fd, like.st_mode & 0o777)
        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        posix.unlink(temporary, dir_fd=directory)
        raise
    finally:
        posix.close(fd)


def filter_config(arguments: Sequence[str]) -> int:
    """Run the stage precreate, called as the hook is, and return its exit code: only a fault of the host's has one.

    Where such faults are to be allowed, config.json is handed back as it came: without one podman starts nothing.
    """
    options = dict(zip(arguments[:-1:2], arguments[1:-1:2], strict=False))
    allow = options.get("--on-error") == "allow"
    site: Site | None = None
    after: bytes | None = None
    try:
        _signal.signal(_signal.SIGALRM, _overrun)
        _signal.setitimer(_signal.ITIMER_REAL, _SECONDS)
        after = take_config()
        settle()
        site = Site(options.get("--root", "/"), "precreate")
        if not drop_directly(DOCUMENTS + CREATE):
            site.privileges = "partial"
        after = precreate(site, after)
    except WardenError as error:
        if after is None or not allow:  # else the creation stage meets it again, and says so
            return _refuse_config(error, site)
    except Exception as error:  # the last boundary, as above
        code = _refuse_config(bug(error), site)
        if after is None or not allow:
            return code
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    try:
        hand_back(after)
    except RecordError as error:
        return _refuse_config(error, site)
    return 0


def _refuse_config(error: WardenError, site: Site | None) -> int:
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    complain(f"precreate: {error}")
    if site is not None:
        record_failure(site, error)
    return error.exit_code


def _fail(error: WardenError, site: Site | None, door: Door, invocation: Invocation) -> int:
    """Say what went wrong, record it, and decide whether the runtime may go on all the same."""
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    if site is not None:
        record_failure(site, error)
    # Whatever is wrong it starts, with the kill switch on, and where the whole policy only watches.
    if site is not None and (site.disabled or site.subject["mode"] == "permissive"):
        return 0
    if error.of_host and door.on_error == "allow":
        return 0
    complain(f"create: {error}")
    _report(invocation, str(error))
    return error.exit_code


def _report(invocation: Invocation, message: str) -> None:
    """Tell the engine where it looks for what its runtime has to say."""
    if not invocation.log or invocation.log_format != "json":
        return
    now = time.time_ns()
    line: Document = {
        "level": "error",
        "msg": f"ipcwarden: {message}",
        "time": timestamp(now, tuple(time.gmtime(now // 1_000_000_000))),
    }
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | O_FILE
        fd = posix.open(invocation.log, flags, 0o644)
        try:
            posix.write(fd, f"{serialize(line)}\n".encode("ascii"))
        finally:
            posix.close(fd)
    except OSError:
        pass  # it is on standard error already
