"""Containers without a runtime: a process in namespaces of its own, a bundle, and the hook called on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from support.bundle import FIRST_ID, PAYLOADS
from support.shell import BUILT, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from support.shell import Result

HOOK = BUILT / "hook" / "hook.py"
PYTHON = "/usr/bin/python3"
MIB = 1 << 20


def profile(**settings: Any) -> Profile:
    """Make a profile that differs from the kernel in one limit of each kind, and from that in what a test says."""
    sysctls = {
        "kernel.shmmax": (None, None, 64 * MIB, 1024 * MIB),
        "kernel.sem.semmni": (128, None, None, None),
        "kernel.msgmnb": (None, 4096, None, 65536),
        "fs.mqueue.queues_max": (None, None, None, 64),
    }
    return Profile("team", **{"sysctls": sysctls, **settings})


WANTED = {"kernel.shmmax": 64 * MIB, "kernel.sem.semmni": 128, "kernel.msgmnb": 16384, "fs.mqueue.queues_max": 64}


def put_in_force(root: Path, *profiles: Profile, mode: str = "enforcing", when: Sequence[Any] = ()) -> Path:
    """Put a policy in force in which every container, or those of `when`, get the first profile."""
    return put_policy(root, [Rule("everything", tuple(when), 0, mode)], profiles or (profile(),), mode)


def put_policy(root: Path, rules: Sequence[Rule], profiles: Sequence[Profile], mode: str = "enforcing") -> Path:
    """Put a policy in force."""
    policy = Policy(mode, os.uname().release, KERNEL_DEFAULTS, tuple(rules), tuple(profiles))
    file = root / "var" / "lib" / "ipcwarden" / "policy.compiled"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pack(policy))
    return file


def config(ipc: str = "private", sysctl: Mapping[str, str] | None = None, **linux: Any) -> dict[str, Any]:
    """Make a config.json as far as hooks read it; `ipc` is private, host, or a path."""
    namespaces: list[dict[str, str]] = [{"type": "pid"}]
    if ipc != "host":
        namespaces.append({"type": "ipc"} if ipc == "private" else {"type": "ipc", "path": ipc})
    return {"ociVersion": "1.0.2", "linux": {"namespaces": namespaces, "sysctl": dict(sysctl or {}), **linux}}


@dataclass
class Container:
    """A container as a hook meets it."""

    root: Path
    bundle: Path
    process: subprocess.Popen[str]
    id: str = "c1"
    annotations: dict[str, str] = field(default_factory=dict)
    own_pids: bool = False

    @property
    def pid(self) -> int:
        """Its first process; with a pid namespace of its own that is a child of ours' child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text()) if self.own_pids else self.process.pid

    @property
    def namespace(self) -> Path:
        """Its IPC namespace, while the process lives."""
        return Path(f"/proc/{self.pid}/ns/ipc")

    def state(self, status: str, **changes: Any) -> str:
        """Return the state JSON that runc would write."""
        state = {"ociVersion": "1.0.2", "id": self.id, "status": status, "bundle": str(self.bundle)}
        if status != "stopped":
            state["pid"] = self.pid  # type: ignore[assignment]
        return json.dumps({**state, **changes})

    def configure(self, document: Mapping[str, Any] | str) -> None:
        """Write config.json."""
        content = document if isinstance(document, str) else json.dumps(document)
        (self.bundle / "config.json").write_text(content, encoding="utf-8")

    def create(self, *options: str, stage: str = "createRuntime", **changes: Any) -> Result:
        """Run the creation hook."""
        return call(stage, self.state("creating", **changes), self.root, *options)

    def poststart(self, status: str = "created") -> Result:
        """Run the poststart hook."""
        return call("poststart", self.state(status), self.root)

    def poststop(self) -> Result:
        """Run the poststop hook."""
        return call("poststop", self.state("stopped"), self.root)

    def leave(self, *what: str) -> None:
        """Leave objects in its namespace."""
        run("nsenter", f"--ipc={self.namespace}", PAYLOADS / "leave", *what).check()

    def work(self, *what: str) -> None:
        """Let a worker of its, in its pid namespace, leave objects and end."""
        run("nsenter", f"--ipc={self.namespace}", f"--pid=/proc/{self.pid}/ns/pid", PAYLOADS / "leave", *what).check()

    def kill(self) -> None:
        """End its process, and reap it."""
        if not self.own_pids:
            self.process.kill()
        elif self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # its parent reaps it, and ends
        self.process.wait()
        for stream in (self.process.stdout, self.process.stdin):
            if stream:
                stream.close()

    def records(self) -> list[dict[str, Any]]:
        """Read the audit log."""
        return records(self.root)

    def pins(self) -> list[str]:
        """List the pins below the root."""
        return _names(self.root / "run" / "ipcwarden" / "pins")

    def entries(self) -> list[str]:
        """List the ledger below the root."""
        return _names(self.root / "run" / "ipcwarden" / "containers")

    def entry(self) -> dict[str, Any]:
        """Read the only entry of the ledger."""
        [name] = self.entries()
        found: dict[str, Any] = json.loads((self.root / "run" / "ipcwarden" / "containers" / name).read_text())
        return found


def records(root: Path) -> list[dict[str, Any]]:
    """Read an audit log."""
    log = root / "var" / "log" / "ipcwarden" / "audit.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="ascii").splitlines()] if log.exists() else []


def call(stage: str, stdin: str, root: Path, *options: str, env: Mapping[str, str] | None = None) -> Result:
    """Call the built hook as a runtime does."""
    return run(PYTHON, "-I", "-S", HOOK, "--root", root, *options, stage, stdin=stdin, env=env or {"PATH": "/bin"})


# A program whose first thread ends, when it is told to, while another goes on.
_THREADS = """
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(3600,)).start()
print("made", flush=True)
sys.stdin.readline()
ctypes.CDLL(None).pthread_exit(None)
"""


# Becomes the root of a user namespace, and has a child that is alone in pid and IPC namespaces of that.
_USERNS = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
assert libc.unshare(0x30000000) == 0
sys.stdin.readline()
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
child = os.fork()
if not child:
    assert libc.unshare(0x08000000) == 0
    os.execv(sys.argv[1], sys.argv[1:])
os.waitpid(child, 0)
"""


def start(
    root: Path,
    bundle: Path,
    *,
    ipc: str = "",
    userns: bool = False,
    threads: bool = False,
    own_pids: bool = False,
    makes: Sequence[str] = (),
    name: str = "c1",
) -> Container:
    """Start a process in a fresh IPC namespace (or the one at the path `ipc`, or "host"), and give it a bundle.

    With `own_pids` it has a pid namespace, too; its parent is in neither.  What it `makes` is leave's.
    """
    waiting = [str(PAYLOADS / "leave"), *makes, "--wait"]
    if threads:
        command = ["unshare", "--ipc", PYTHON, "-c", _THREADS]
    elif userns:
        command = ["unshare", "--user", "--ipc", "sh", "-c", f"read mapped; exec {' '.join(waiting)}"]
        command = [PYTHON, "-c", _USERNS, *waiting] if own_pids else command
    elif ipc == "host":
        command = waiting
    elif ipc:
        command = ["nsenter", f"--ipc={ipc}", *waiting]
    else:
        command = ["unshare", "--ipc", *waiting]
    if own_pids and not userns:
        command = ["unshare", "--pid", "--fork", *command]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    if userns:
        _map_ids(process.pid)
        process.stdin.write("mapped\n")
        process.stdin.flush()
    assert process.stdout.readline().startswith("made"), "the container's process did not start"
    bundle.mkdir(parents=True, exist_ok=True)
    container = Container(root, bundle, process, name, own_pids=own_pids)
    container.configure(config("host" if ipc == "host" else ipc or "private"))
    return container


SLOW_TO_SEE = ("--sem=15", "--sem-size=1000")  # what takes whoever asks about it some time

# Sends a signal to whatever starts after it in its pid namespace.
_HUNT = """
import os, sys
os.nice(-20)
print("there", flush=True)
while True:
    for pid in range(os.getpid() + 1, os.getpid() + 100):
        try:
            os.kill(pid, int(sys.argv[1]))
        except OSError:
            pass
"""


@contextmanager
def hunt(container: Container, sent: signal.Signals) -> Iterator[None]:
    """Let a container's root send a signal to whoever enters its pid namespace."""
    command = ["nsenter", f"--pid=/proc/{container.pid}/ns/pid", PYTHON, "-c", _HUNT, str(int(sent))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hunter:
        assert hunter.stdout is not None
        hunter.stdout.readline()
        [child] = Path(f"/proc/{hunter.pid}/task/{hunter.pid}/children").read_text().split()
        try:
            yield
        finally:
            os.kill(int(child), signal.SIGKILL)


def _map_ids(pid: int) -> None:
    ours = os.readlink("/proc/self/ns/user")
    until(lambda: os.readlink(f"/proc/{pid}/ns/user") != ours, "a user namespace")
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{kind}").write_text(f"0 {FIRST_ID} 65536", encoding="ascii")


def _names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir()) if directory.is_dir() else []
