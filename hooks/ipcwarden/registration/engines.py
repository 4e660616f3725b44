"""How each engine is made to run our wrapper: before which runtime, by what changes, and what there is to say of it."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from ipcwarden.layout import beneath
from ipcwarden.registration import containerd, crio, daemon, runtimes
from ipcwarden.registration.entry import ENVIRONMENT, RegistrationError
from ipcwarden.registration.targets import config_file, crio_changes, crio_files, judged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.registration.changes import Change
    from ipcwarden.registration.runtimes import Runtime
    from ipcwarden.registration.targets import ConfigFile

_PATH = f"{ENVIRONMENT['PATH']}:/usr/local/sbin:/usr/local/bin"
_DOCKER_RELOADS = "tell dockerd to read it: systemctl reload docker, or SIGHUP"
_CRIO_RESTARTS = "tell CRI-O to read it: systemctl restart crio, which leaves containers running"
_CONTAINERD_RESTARTS = "tell containerd to read it: systemctl restart containerd, which leaves containers running"


def absence(program: str, root: str, path: str | None = None) -> list[str]:
    """Return a note if an engine's program is not on this host, in `path`; below another root nobody can tell."""
    if path is None:
        path = f"{os.environ.get('PATH', '')}:{_PATH}"
    if root != "/" or shutil.which(program, path=path) is not None:
        return []
    return [f"no {program} is found here: what was written counts once there is one"]


@dataclass(frozen=True)
class Docker:
    """dockerd's own configuration, below a root."""

    root: str
    file: ConfigFile

    @classmethod
    def of(cls, root: str, config: str | None) -> Docker:
        """Read it.  Raises `RegistrationError`."""
        return cls(root, config_file(root, daemon.FILE, config))

    @property
    def _without_us(self) -> str | None:
        return None if self.file.text is None else self.file.judged(daemon.unregister, self.file.text)

    def runtime(self, wanted: str | None, default: bool) -> Runtime:
        """Return the runtime that a wrapper is to stand before.  Raises `RegistrationError`."""
        if wanted is not None:
            return runtimes.check(wanted)
        current = self.file.judged(daemon.default_of, self._without_us or "")
        if default and current.path is not None:
            hint = f"--runtime {current.path} stands before that one; " if current.path else ""
            raise RegistrationError(
                f"cannot become the default runtime in '{self.file.path}': that is '{current.name}' already",
                f"{hint}--no-default leaves it the default, and `docker run --runtime {daemon.NAME}` governs",
            )
        return runtimes.find("runc")

    def registering(self, wrapper: str, runtime: Runtime, default: bool) -> list[Change]:
        """Return what registers.  Raises `RegistrationError`."""
        before = self._without_us
        current = self.file.judged(daemon.default_of, before or "")
        arguments = current.arguments if current.path == runtime.path else ()
        after = self.file.judged(daemon.register, self.file.text, wrapper, default, arguments)
        return self.file.changes(before, after)

    def notes(self, default: bool) -> list[str]:
        """Return what there is to know once it is registered."""
        if not default:
            return [_DOCKER_RELOADS]
        return [_DOCKER_RELOADS, "containers that were created before keep their runtime until they are created anew"]

    def unregistering(self, keep_runtime: bool) -> list[Change]:
        """Return what takes our runtime out, or only from being the default one.  Raises `RegistrationError`."""
        before = self._without_us
        if self.file.text is None or before == self.file.text:
            return []
        if keep_runtime:
            after: str | None = self.file.judged(daemon.without_default, self.file.text)
        else:
            after = before
            users = self.users()
            if users:
                raise RegistrationError(
                    f"cannot take the runtime '{daemon.NAME}' out of '{self.file.path}': {len(users)} containers were "
                    f"created with it and would not start any more: {', '.join(users[:10])}",
                    "remove them first, or leave it to them with --keep-runtime",
                )
        return self.file.changes(before, after)

    def users(self) -> list[str]:
        """Return the names of the containers that were created with our runtime, as far as dockerd's records tell."""
        data = self.file.judged(daemon.data_root, self.file.text or "")
        if data == daemon.DATA_ROOT:
            data = beneath(self.root, data.lstrip("/"))
        return sorted(
            str(_json(f"{os.path.dirname(file)}/config.v2.json").get("Name", "")).lstrip("/")
            or file.split("/")[-2][:12]
            for file in glob.glob(f"{glob.escape(data)}/containers/*/hostconfig.json")
            if _json(file).get("Runtime") == daemon.NAME
        )


@dataclass(frozen=True)
class Containerd:
    """containerd's own configuration, below a root."""

    root: str
    file: ConfigFile

    @classmethod
    def of(cls, root: str, config: str | None) -> Containerd:
        """Read it.  Raises `RegistrationError`."""
        return cls(root, config_file(root, containerd.FILE, config))

    def runtime(self, wanted: str | None) -> Runtime:
        """Return the runtime that a wrapper is to stand before.  Raises `RegistrationError`."""
        if wanted is not None:
            return runtimes.check(wanted)
        path = self.file.judged(containerd.default_of, self.file.text).path
        if path.startswith("/"):
            return runtimes.check(path)
        return runtimes.find(path or "runc")

    def registering(self, wrapper: str, handler: str | None, version: int | None) -> list[Change]:
        """Return what registers, as a handler of its own or as the default one.  Raises `RegistrationError`."""
        text = self.file.text
        before = None if text is None else self.file.judged(containerd.unregister, text)
        there = self.file.judged(containerd.version_of, before or "")
        ours = self.file.judged(containerd.version_of, text or "")
        wanted = there or version or ours or _version_of_the_program(self.file.path)
        after = self.file.judged(containerd.register, text, wrapper, handler, wanted)
        self._check_imports(after)
        return self.file.changes(before, after)

    def unregistering(self) -> list[Change]:
        """Return what takes our wrapper out.  Raises `RegistrationError`."""
        text = self.file.text
        if text is None:
            return []
        before = self.file.judged(containerd.unregister, text)
        return self.file.changes(before, before)

    def notes(self, handler: str | None) -> list[str]:
        """Return what there is to know once it is registered."""
        if handler is None:
            return [_CONTAINERD_RESTARTS]
        return [_CONTAINERD_RESTARTS, f"pods get it by a RuntimeClass with `handler: {handler}`"]

    def _check_imports(self, after: str) -> None:
        """Raise `RegistrationError` where a file that is read later has the last word about runtimes."""
        version = self.file.judged(containerd.version_of, after) or 2
        here = self.file.directory.path
        for pattern in self.file.judged(containerd.imports, after):
            absolute = beneath(self.root, pattern.lstrip("/")) if pattern.startswith("/") else f"{here}/{pattern}"
            for path in sorted(glob.glob(os.path.normpath(absolute))):
                if path == self.file.path:
                    continue
                other = config_file(self.root, containerd.FILE, path)
                if other.judged(containerd.overrides, other.text or "", version):
                    raise RegistrationError(
                        f"cannot register in '{self.file.path}': '{path}', which it imports, has the last word there",
                        f"--config {path} registers there",
                    )


@dataclass(frozen=True)
class Crio:
    """CRI-O's configuration, below a root."""

    root: str

    def runtime(self, wanted: str | None) -> Runtime:
        """Return the runtime that a wrapper is to stand before.  Raises `RegistrationError`."""
        if wanted is not None:
            return runtimes.check(wanted)
        default = self._default()
        if default.path.startswith("/"):
            return runtimes.check(default.path)
        if default.name or default.path:
            return runtimes.find(default.path or default.name)
        try:
            return runtimes.find("crun")  # CRI-O's own default since 1.31; runc before
        except RegistrationError:
            return runtimes.find("runc")

    def registering(self, wrapper: str, runtime: Runtime, handler: str | None) -> list[Change]:
        """Return what registers, as a handler of its own or as the default one.  Raises `RegistrationError`."""
        for path, text in crio_files(self.root):
            late = os.path.basename(path) > crio.NAME and not path.endswith("/".join(crio.MAIN))
            if late and judged(path, crio.overrides, text, handler):
                raise RegistrationError(
                    f"cannot register with CRI-O: '{path}' is read after '{crio.NAME}' and has the last word",
                    f"move it to an earlier name than {crio.NAME}",
                )
        return crio_changes(self.root, crio.document(wrapper, handler, self._default(), runtime.name))

    def unregistering(self) -> list[Change]:
        """Return what takes our drop-in away.  Raises `RegistrationError`."""
        return crio_changes(self.root, None)

    def notes(self, handler: str | None) -> list[str]:
        """Return what there is to know once it is registered."""
        if handler is None:
            return [_CRIO_RESTARTS]
        return [_CRIO_RESTARTS, f"pods get it by a RuntimeClass with `handler: {handler}`"]

    def _default(self) -> crio.Default:
        files = crio_files(self.root)
        return judged(f"{self.root.rstrip('/')}/{'/'.join(crio.MAIN)}", crio.default_of, [text for _, text in files])


def _version_of_the_program(path: str) -> int:
    """Return the version of configuration that the containerd that is installed writes.  Raises `RegistrationError`."""
    program = shutil.which("containerd", path=f"{os.environ.get('PATH', '')}:{_PATH}")
    said = ""
    if program is not None:
        done = subprocess.run(
            [program, "--version"],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        said = done.stdout
    found = re.search(r"\bv?(\d+)\.\d+\.\d+", said)
    if not found:
        raise RegistrationError(
            f"cannot write '{path}': there is no containerd that says which version of it is wanted",
            "--config-version says so: 2 for containerd 1, 3 for containerd 2",
        )
    return 2 if int(found[1]) < 2 else 3


def _json(path: str) -> dict[str, object]:
    """Read a record of dockerd's; what cannot be read says nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
