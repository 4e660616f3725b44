"""Our programs below the root: there, whole and seen to start, before anything is registered that needs them."""

from __future__ import annotations

import posix
import stat
import subprocess

from ipcwarden.errors import UsageError, why
from ipcwarden.files import read, unsafe
from ipcwarden.layout import PROGRAMS
from ipcwarden.registration.changes import MAX_BYTES, Change, Directory, unsafe_file
from ipcwarden.registration.entry import ENVIRONMENT, HOOK_FILE, RegistrationError
from ipcwarden.registration.runtimes import version
from ipcwarden.unit import HOOKS, NAMES, STUB, build, wrapper_stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipcwarden.registration.entry import Registration
    from ipcwarden.registration.interpreter import Interpreter
    from ipcwarden.registration.runtimes import Runtime

_CACHE = "__pycache__"
_COMPILE = "import py_compile, sys; [py_compile.compile(each, doraise=True, optimize=0) for each in sys.argv[1:]]"
_LOAD = "import sys; sys.path.insert(0, sys.argv[1]); [__import__(each) for each in sys.argv[2:]]"
_CHECK = "import sys; compile(sys.stdin.buffer.read(), 'the unit', 'exec')"


class Programs:
    """The files of one root, for one interpreter: the hook's, and the wrappers of runtimes that are named."""

    def __init__(
        self,
        root: str,
        interpreter: Interpreter,
        registration: Registration | None = None,
        runtimes: Sequence[Runtime] = (),
        precreate: bool = False,
    ) -> None:
        self._interpreter = interpreter
        self._runtimes = {runtime.wrapper: runtime for runtime in runtimes}
        self._directory = Directory(root, PROGRAMS)
        self._cache = Directory(root, f"{PROGRAMS}/{_CACHE}")
        # What is there already is loaded by other engines' registrations: it must not grow old.
        native = runtimes or precreate or self._is_there(f"{NAMES['wrapper']}.py")
        doors = NAMES if native else HOOKS
        self._units = {f"{name}.py": text for door in doors for name, text in build(door).items()}
        self._check_owners(root)
        # A stub after its unit, because it is what registrations point to.  What is the same already, a package's, is
        # left alone.
        wrappers = {}
        if registration is not None:
            entries = {stage: registration.entry(stage) for stage in registration.stages}
            wrappers = {
                runtime.wrapper: wrapper_stub(
                    interpreter.path, runtime.path, registration.root, registration.on_error, entries
                )
                for runtime in runtimes
            }
        self._unit_changes = self._changes(self._units, None)
        self._stub_changes = [*self._changes({HOOK_FILE: STUB}, None), *self._changes(wrappers, 0o755)]
        changed = {change.name for change in self._unit_changes}
        self._stale = [name for name in self._units if name in changed or not self._is_compiled(name)]

    def wrapper(self, runtime: Runtime) -> str:
        """Return the path of a runtime's wrapper."""
        return f"{self._directory.path}/{runtime.wrapper}"

    @property
    def pending(self) -> list[str]:
        """The files that `put` writes."""
        return [
            *(change.path for change in self._unit_changes),
            *(f"{self._cache.path}/{self._bytecode(name)}" for name in self._stale),
            *(change.path for change in self._stub_changes),
        ]

    def put(self) -> None:
        """Write what is missing or different, and see that it starts.  Raises `RegistrationError`."""
        if not self.pending:
            return
        for change in self._unit_changes:
            self._python("-c", _CHECK, stdin=change.after or b"")  # before it replaces one that works
        for change in self._unit_changes:
            change.make()
        if self._stale:
            self._compile(self._stale)
        # A module that this Python lacks shows now, not in a container's start.
        self._python("-c", _LOAD, self._directory.path, *(name.removesuffix(".py") for name in self._units))
        for change in self._stub_changes:
            if change.name in self._runtimes:
                self._try(change)
            change.make()
        # Without arguments the hook does nothing but say so.
        self._python(f"{self._directory.path}/{HOOK_FILE}", expected=UsageError.exit_code)

    def _try(self, change: Change) -> None:
        """See a wrapper say of itself what its runtime says, under another name: engines may be calling the old one."""
        runtime = self._runtimes[change.name]
        attempt = f"cannot stand before the runtime '{runtime.path}' with '{change.path}'"
        draft = Change(change.directory, f".{change.name}.draft", None, change.after, 0o755)
        with change.directory.opened() as fd:
            try:
                posix.unlink(draft.name, dir_fd=fd)  # of one that was killed
            except FileNotFoundError:
                pass
        draft.make()
        try:
            said = version(draft.path, attempt)
        finally:
            Change(draft.directory, draft.name, draft.after, None).make()
        if said != runtime.version:
            raise RegistrationError(f"{attempt}: it says '{said}', not '{runtime.version}'")

    def _is_there(self, name: str) -> bool:
        try:
            with self._directory.opened() as fd:
                posix.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _check_owners(self, root: str) -> None:
        wrong, path = unsafe(posix.stat(root)), root
        for directory, name in (
            *((self._directory, name) for name in (*self._units, HOOK_FILE, *self._runtimes)),
            *((self._cache, self._bytecode(name)) for name in self._units),
        ):
            if wrong:
                break
            path = f"{directory.path}/{name}"
            try:
                with directory.opened() as fd:
                    wrong = unsafe_file(fd, name)
            except FileNotFoundError:
                pass
        if wrong:
            raise RegistrationError(
                f"cannot let root run what lies in '{self._directory.path}': '{path}': {wrong}",
                f"see who did that, then chown root '{path}' and chmod go-w it",
            )

    def _changes(self, texts: dict[str, str], mode: int | None) -> list[Change]:
        changes = [self._change(name, text.encode(), mode) for name, text in texts.items()]
        return [change for change in changes if change.before != change.after or not self._has_mode(change)]

    def _change(self, name: str, after: bytes, mode: int | None) -> Change:
        try:
            return Change(self._directory, name, self._directory.read(name), after, mode)
        except (OSError, ValueError) as error:
            reason = why(error) if isinstance(error, OSError) else error
            raise RegistrationError(f"cannot read '{self._directory.path}/{name}': {reason}") from error

    def _has_mode(self, change: Change) -> bool:
        if change.mode is None:
            return True
        with self._directory.opened() as fd:
            return stat.S_IMODE(posix.stat(change.name, dir_fd=fd, follow_symlinks=False).st_mode) == change.mode

    def _bytecode(self, name: str) -> str:
        return f"{name.removesuffix('.py')}.{self._interpreter.tag}.pyc"

    def _is_compiled(self, name: str) -> bool:
        """Tell whether the interpreter would take the bytecode that is there (PEP 552: magic, flags, time, size)."""
        try:
            with self._directory.opened() as fd:
                source = posix.stat(name, dir_fd=fd)
            with self._cache.opened() as fd:
                header = read(self._bytecode(name), MAX_BYTES, fd)[:16]
        except (OSError, ValueError):
            return False
        numbers = (0, int(source.st_mtime), source.st_size)
        return header == self._interpreter.magic + b"".join(
            (number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers
        )

    def _compile(self, names: list[str]) -> None:
        try:
            with self._cache.opened(create=True):
                pass  # made by us, or checked
        except OSError as error:
            raise RegistrationError(f"cannot make '{self._cache.path}': {why(error)}") from error
        self._python("-c", _COMPILE, *(f"{self._directory.path}/{name}" for name in names))

    def _python(self, *arguments: str, stdin: bytes = b"", expected: int = 0) -> None:
        """Run the interpreter as a runtime would."""
        command = [self._interpreter.path, "-I", "-S", *arguments]
        attempt = f"cannot prepare the hook in '{self._directory.path}' with '{self._interpreter.path}'"
        try:
            done = subprocess.run(
                command, env=ENVIRONMENT, input=stdin, capture_output=True, timeout=60, umask=0o022, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RegistrationError(f"{attempt}: {why(error) if isinstance(error, OSError) else error}") from error
        if done.returncode != expected:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise RegistrationError(
                f"{attempt}: it ended with {done.returncode}: {said}", "--interpreter names another"
            )
