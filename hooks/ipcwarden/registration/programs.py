"""The hook's files below the root: there, whole and seen to start, before anything is registered that needs them."""

from __future__ import annotations

import posix
import subprocess

from ipcwarden.errors import UsageError, why
from ipcwarden.files import read, unsafe
from ipcwarden.layout import PROGRAMS
from ipcwarden.registration.changes import MAX_BYTES, Change, Directory, unsafe_file
from ipcwarden.registration.entry import ENVIRONMENT, HOOK_FILE, RegistrationError
from ipcwarden.unit import NAME, STUB, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.registration.interpreter import Interpreter

_UNIT_FILE = f"{NAME}.py"
_CACHE = "__pycache__"
_COMPILE = "import py_compile, sys; py_compile.compile(sys.argv[1], doraise=True, optimize=0)"
_CHECK = "import sys; compile(sys.stdin.buffer.read(), 'the unit', 'exec')"


class Programs:
    """The hook's files of one root, for one interpreter."""

    def __init__(self, root: str, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._directory = Directory(root, PROGRAMS)
        self._cache = Directory(root, f"{PROGRAMS}/{_CACHE}")
        self._bytecode = f"{NAME}.{interpreter.tag}.pyc"
        self._check_owners(root)
        # The stub last: it is what registrations point to.  What is the same already, a package's, is left alone.
        self._changes = [
            change
            for name, text in ((_UNIT_FILE, build()), (HOOK_FILE, STUB))
            if (change := self._change(name, text.encode())).before != change.after
        ]
        self._stale = any(change.name == _UNIT_FILE for change in self._changes) or not self._is_compiled()

    @property
    def pending(self) -> list[str]:
        """The files that `put` writes."""
        written = [change.path for change in self._changes]
        return [*written, f"{self._cache.path}/{self._bytecode}"] if self._stale else written

    def put(self) -> None:
        """Write what is missing or different, and see that it starts.  Raises `RegistrationError`."""
        if not self.pending:
            return
        for change in self._changes:
            if change.name == _UNIT_FILE and change.after is not None:
                self._python("-c", _CHECK, stdin=change.after)  # before it replaces one that works
        for change in self._changes:
            if change.name == _UNIT_FILE:
                change.make()
        if self._stale:
            self._compile()
        for change in self._changes:
            if change.name != _UNIT_FILE:
                change.make()
        # Without arguments the hook does nothing but say so; a module that this Python lacks shows now, not in a start.
        self._python(f"{self._directory.path}/{HOOK_FILE}", expected=UsageError.exit_code)

    def _check_owners(self, root: str) -> None:
        wrong, path = unsafe(posix.stat(root)), root
        for directory, name in (
            (self._directory, _UNIT_FILE),
            (self._directory, HOOK_FILE),
            (self._cache, self._bytecode),
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

    def _change(self, name: str, after: bytes) -> Change:
        try:
            return Change(self._directory, name, self._directory.read(name), after)
        except (OSError, ValueError) as error:
            reason = why(error) if isinstance(error, OSError) else error
            raise RegistrationError(f"cannot read '{self._directory.path}/{name}': {reason}") from error

    def _is_compiled(self) -> bool:
        """Tell whether the interpreter would take the bytecode that is there (PEP 552: magic, flags, time, size)."""
        try:
            with self._directory.opened() as fd:
                source = posix.stat(_UNIT_FILE, dir_fd=fd)
            with self._cache.opened() as fd:
                header = read(self._bytecode, MAX_BYTES, fd)[:16]
        except (OSError, ValueError):
            return False
        numbers = (0, int(source.st_mtime), source.st_size)
        return header == self._interpreter.magic + b"".join(
            (number & 0xFFFFFFFF).to_bytes(4, "little") for number in numbers
        )

    def _compile(self) -> None:
        try:
            with self._cache.opened(create=True):
                pass  # made by us, or checked
        except OSError as error:
            raise RegistrationError(f"cannot make '{self._cache.path}': {why(error)}") from error
        self._python("-c", _COMPILE, f"{self._directory.path}/{_UNIT_FILE}")

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
