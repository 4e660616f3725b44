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
from ipcwarden.stages.precreate import precreate
from ipcwarden.stages.site import Site, complain
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ipcwarden.core.documents import Document
    from ipcwarden.core.invocation import Invocation

_SECONDS = 7.5


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
    # Not posix.environ: where the locale is C, Python has put LC_CTYPE there (PEP 538).
    given = [pair.partition(b"=") for pair in slurp("/proc/self/environ").split(b"\0") if b"=" in pair]
    try:
        posix.execve(runtime, [runtime, *arguments], {name: text for name, _, text in given})
    except OSError as error:
        complain(f"cannot start the runtime '{runtime}': {why(error)} (ipcwarden install knows another one)")
        posix._exit(127)


def _overrun(_signal_number: int, _frame: object) -> NoReturn:
    raise DeadlineError("cannot finish in time: our own deadline passed")


def _prepare(door: Door, invocation: Invocation) -> int:
    """Edit config.json; return 0 where the runtime may go on, else the exit code."""
    site: Site | None = None
    umask = posix.umask(0o077)
    try:
        _signal.signal(_signal.SIGALRM, _overrun)
        _signal.setitimer(_signal.ITIMER_REAL, _SECONDS)
        site = Site(door.root, "wrapper")
        _edit(site, door, invocation)
    except WardenError as error:
        return _fail(error, site, door, invocation)
    except Exception as error:  # the last boundary: a bug of ours must not look like anything else
        return _fail(bug(error), site, door, invocation)
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
        posix.umask(umask)
    return 0


def _edit(site: Site, door: Door, invocation: Invocation) -> None:
    try:
        here = posix.getcwd()
        bundle = _realpath(invocation.bundle or here, here)
    except OSError as error:
        raise StateError(f"cannot find the bundle '{invocation.bundle}': {why(error)}") from error
    wrong = fault_of({"id": invocation.container, "bundle": bundle})
    if wrong:
        raise StateError(f"cannot create container '{invocation.container[:64]}': {wrong}")
    site.subject["container"] = container_of(invocation.container, bundle, Facts())
    path = _joined(here, invocation.config) if invocation.config else f"{bundle}/config.json"
    try:
        directory = posix.open(path.rpartition("/")[0] or "/", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"cannot open the directory of '{path}': {why(error)}") from error
    try:
        _edit_file(site, door, invocation, bundle, directory, path)
    finally:
        posix.close(directory)


def _edit_file(site: Site, door: Door, invocation: Invocation, bundle: str, directory: int, path: str) -> None:
    name = path.rpartition("/")[2]
    try:
        before = read(name, MAX_SPEC_BYTES, directory)
    except (OSError, ValueError) as error:
        raise StateError(f"cannot read '{path}': {why(error) if isinstance(error, OSError) else error}") from error
    document = parse_config(before)
    try:
        policy = None if site.is_disabled() else site.policy()
    except PolicyError:
        policy = None  # the creation stage meets it again, and does what --on-error says
    after = amend(site, policy, invocation.container, bundle, document, door.runtime.rpartition("/")[2], door.entries)
    if after != before:
        try:
            _replace(directory, name, after)
        except OSError as error:
            raise RecordError(f"cannot write '{path}': {why(error)}") from error


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


def _joined(here: str, path: str) -> str:
    return path if path.startswith("/") else f"{here.rstrip('/')}/{path}"


def _realpath(path: str, here: str) -> str:
    """Return where a directory really is, as runtimes tell their hooks.  Raises `OSError`."""
    fd = posix.open(_joined(here, path), posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def filter_config(arguments: Sequence[str]) -> int:
    """Run the stage precreate, called as the hook is, and return its exit code: only a fault of the host's has one."""
    options = dict(zip(arguments[:-1:2], arguments[1:-1:2], strict=False))
    site: Site | None = None
    try:
        _signal.signal(_signal.SIGALRM, _overrun)
        _signal.setitimer(_signal.ITIMER_REAL, _SECONDS)
        settle()
        site = Site(options.get("--root", "/"), "precreate")
        if not drop_directly(DOCUMENTS + CREATE):
            site.privileges = "partial"
        precreate(site, options.get("--on-error") == "allow")
    except WardenError as error:
        return _refuse_config(error, site)
    except Exception as error:  # the last boundary, as above
        return _refuse_config(bug(error), site)
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
    lenient = site is not None and (site.subject["mode"] == "permissive" or site.disabled)
    if door.on_error == "allow" if error.of_host else lenient:
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
