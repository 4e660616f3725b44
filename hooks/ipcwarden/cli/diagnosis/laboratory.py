"""One throwaway container of each engine.

It needs no image of anybody's: its root is empty, the host's own /usr is mounted there read-only, and it reads its own
limits with the host's `cat`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
import time

from ipcwarden.cli import extract
from ipcwarden.cli.diagnosis.containers import PROBES, recent
from ipcwarden.cli.diagnosis.probe import FAILED, IMPOSSIBLE, PATIENCE, Probe, Run, judge
from ipcwarden.core.sysctls import FILES, path_of
from ipcwarden.errors import WardenError
from ipcwarden.layout import PROGRAMS, beneath
from ipcwarden.registration import interpreter, runtimes
from ipcwarden.registration.daemon import NAME
from ipcwarden.registration.entry import HOOK_FILE, Registration, RegistrationError
from ipcwarden.registration.targets import bundle_changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipcwarden.cli.diagnosis.registrations import Registered
    from ipcwarden.cli.logs import Record
    from ipcwarden.core.documents import Document
    from ipcwarden.layout import Place

_SECONDS = 60.0  # for one program
_MADE = ("dev", "etc", "proc", "run", "sys", "tmp", "var")
_HOSTS = ("bin", "lib", "lib32", "lib64", "sbin")  # links into /usr, or directories beside it
_READ = tuple(f"/proc/sys/{path_of(file)}" for file in FILES)


class Laboratory:
    """An empty root filesystem with the host's programs, and the engines that may run a container from it."""

    def __init__(self, root: str, logs: Place, find: Callable[[str], str | None]) -> None:
        self._root = root
        self._logs = logs
        self._find = find
        self._directory = tempfile.mkdtemp(prefix="ipcwarden-probe.")
        os.chmod(self._directory, 0o755)  # noqa: S103  (engines may give all containers a user namespace)
        self._rootfs = f"{self._directory}/rootfs"
        self._mounts = ["/usr"]
        self._links: dict[str, str] = {}
        for name in _HOSTS:
            if os.path.islink(f"/{name}"):
                self._links[name] = os.readlink(f"/{name}")
            elif os.path.isdir(f"/{name}"):
                self._mounts.append(f"/{name}")

    def __enter__(self) -> Laboratory:
        for name in (*_MADE, *(each.lstrip("/") for each in self._mounts)):
            os.makedirs(f"{self._rootfs}/{name}")
        for name, target in self._links.items():
            os.symlink(target, f"{self._rootfs}/{name}")
        os.mkdir(f"{self._directory}/none")
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self._directory, {f"{self._rootfs}{each}" for each in self._mounts})

    def probe(self, registered: Iterable[Registered]) -> list[Probe]:
        """Start a container of each engine that is registered with, and of each runtime itself."""
        doors = {each.engine: each for each in registered}
        found = []
        for engine, door in sorted(doors.items()):
            if engine == "podman":
                found.append(self._podman())
            elif engine == "docker":
                found.append(self._docker())
            elif engine == "containerd":
                found.append(self._ctr(door))
            else:
                found.append(Probe(engine, IMPOSSIBLE, "it starts nothing without a kubelet"))
        if os.path.exists(beneath(self._root, f"{PROGRAMS}/{HOOK_FILE}")):
            found += [self._bare(name) for name in runtimes.NAMES if self._find(name)]
        return found

    def _podman(self) -> Probe:
        program = self._find("podman")
        if program is None:
            return _missing("podman")

        def start(name: str, *flags: str) -> Run:
            volumes = [f"--volume={each}:{each}:ro" for each in self._mounts]
            options = ["--rm", f"--name={name}", "--network=none", "--security-opt=label=disable", "--workdir=/"]
            return _run([program, *flags, "run", *options, *volumes, "--rootfs", self._rootfs, *self._command])

        name = _name("podman")
        run = start(name)
        if run.code:
            _run([program, "rm", "--force", "--ignore", name])
        # Without hooks the same container: a directory that has none takes the place of all others.
        return self._judge(
            "podman", name, run, lambda: not start(f"{name}-c", f"--hooks-dir={self._directory}/none").code
        )

    def _docker(self) -> Probe:
        program = self._find("docker")
        if program is None:
            return _missing("docker")
        name = _name("docker")
        made = _run([program, "import", "-", name], stdin=self._layer())
        if made.code:
            return Probe("docker", IMPOSSIBLE, f"no image could be made: {made.reason}")

        def start(runtime: str) -> Run:
            volumes = [f"--volume={each}:{each}:ro" for each in self._mounts]
            options = ["--rm", f"--name={name}", "--network=none", f"--runtime={runtime}"]
            return _run([program, "run", *options, *volumes, name, *self._command])

        try:
            return self._judge("docker", name, start(NAME), lambda: not start("runc").code)
        finally:
            _run([program, "rm", "--force", name])
            _run([program, "rmi", "--force", name])

    def _ctr(self, door: Registered) -> Probe:
        program = self._find("ctr")
        if program is None:
            return _missing("containerd", "there is no ctr")
        name = _name("containerd")
        bundle = self._bundle(name)

        def start(*runtime: str) -> Run:
            return _run([program, "run", "--rm", f"--config={bundle}/config.json", *runtime, name])

        run = start(f"--runc-binary={door.program}")
        try:
            return self._judge("containerd", name, run, lambda: not start().code)
        finally:
            if run.code:
                _run([program, "tasks", "rm", "--force", name])
                _run([program, "containers", "rm", name])

    def _bare(self, engine: str) -> Probe:
        program = self._find(engine) or engine
        name = _name(engine)
        bundle = self._bundle(name)

        def start() -> Run:
            run = _run([program, "run", f"--bundle={bundle}", name])
            if run.code:
                _run([program, "delete", "--force", name])
            return run

        def without() -> bool:
            for change in bundle_changes(bundle, None):
                change.make()
            return not start().code

        try:
            registration = Registration(self._root, interpreter.choose().path)
            for change in bundle_changes(bundle, registration):
                change.make()
        except (RegistrationError, WardenError) as error:
            return Probe(engine, FAILED, str(error.args[0]))
        return self._judge(engine, name, start(), without)

    @property
    def _command(self) -> list[str]:
        return [self._find("cat") or "/bin/cat", *_READ]

    def _bundle(self, name: str) -> str:
        bundle = f"{self._directory}/{name}"
        os.mkdir(bundle)
        with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(_config(self._rootfs, self._command, self._mounts), file)
        return bundle

    def _layer(self) -> bytes:
        """Return the root filesystem as an archive."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            tar.add(self._rootfs, ".")
        return content.getvalue()

    def _judge(self, engine: str, name: str, run: Run, runs_without_us: Callable[[], bool]) -> Probe:
        end = time.monotonic() + (0 if run.code else PATIENCE)
        while True:
            found = [each for each in recent(self._logs) if name in _names(each)]
            events = {each.document.get("event") for each in found}
            if "applied" not in events or "teardown" in events or time.monotonic() > end:
                return judge(engine, run, found, runs_without_us)
            time.sleep(0.05)  # engines call poststop when they please


def _names(record: Record) -> tuple[str, str]:
    return extract.text(record.document, "container", "id"), extract.text(record.document, "container", "name")


def _name(engine: str) -> str:
    return f"{PROBES}{engine}-{os.urandom(4).hex()}"


def _missing(engine: str, reason: str = "") -> Probe:
    return Probe(engine, IMPOSSIBLE, reason or f"there is no {engine}")


def _run(command: list[str], stdin: bytes = b"") -> Run:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Run(1, "", f"it did not end within {_SECONDS:g} s")
    except OSError as error:
        return Run(127, "", str(error))
    return Run(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def _config(rootfs: str, command: list[str], mounts: list[str]) -> Document:
    """Return a config.json for a container that asks for nothing (runtime-spec)."""
    binds: list[Document] = [
        {"destination": each, "type": "bind", "source": each, "options": ["rbind", "ro"]} for each in mounts
    ]
    namespaces: list[Document] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": rootfs, "readonly": True},
        "process": {"cwd": "/", "args": list(command), "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *binds],
        "linux": {"namespaces": namespaces},
    }


def _remove(directory: str, mountpoints: set[str]) -> None:
    """Remove what we have made, and what engines put there to mount on: nothing that has any content."""
    for here, names, files in os.walk(directory):
        # Should an engine have left a mount there, it is the host's own /usr.
        names[:] = [name for name in names if f"{here}/{name}" not in mountpoints]
        for name in [*files, *(name for name in names if os.path.islink(f"{here}/{name}"))]:
            path = f"{here}/{name}"
            if name == "config.json" or os.path.islink(path) or os.path.getsize(path) == 0:
                _without_a_word(os.unlink, path)
    for path in mountpoints:
        _without_a_word(os.rmdir, path)
    for here, _, _ in os.walk(directory, topdown=False):
        _without_a_word(os.rmdir, here)


def _without_a_word(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except OSError:
        pass  # an empty directory in /tmp is no reason to fail
