"""The host that a stage works on: where its ledger, pins and log lie, and what every record of it has in common."""

from __future__ import annotations

import posix
import time

from ipcwarden import syscalls
from ipcwarden.core.policy import MAX_POLICY_BYTES, Memory, Policy, unpack
from ipcwarden.core.record import RECORD_VERSION, line_of, timestamp
from ipcwarden.core.switch import is_switched_off
from ipcwarden.errors import KernelError, PolicyError, RecordError, why
from ipcwarden.files import open_place, read
from ipcwarden.host.account import places_at
from ipcwarden.host.journal import append, tell
from ipcwarden.host.ledger import take
from ipcwarden.host.namespace import Features, hosts, leave, open_own, visit, visit_in_child
from ipcwarden.host.procfs import boot_id, host_memory
from ipcwarden.host.switch import read_switch
from ipcwarden.layout import COMPILED
from ipcwarden.privileges import CAP_SYS_CHROOT, narrow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.core.documents import Document
    from ipcwarden.host.ledger import Entry
    from ipcwarden.layout import Place

HOME = "/proc/1/ns/mnt"


class Site:
    """One host, or what lies below `root` of it, as one stage sees it."""

    def __init__(
        self, root: str, stage: str, features: Features | None = None, home: str = HOME, began: int | None = None
    ) -> None:
        self.root = root
        self.places = places_at(root)
        self.stage = stage
        self.features = features or Features()
        self.began = time.monotonic_ns() if began is None else began
        self.own = open_own()
        self.hosts = hosts(self.own)
        self.privileges = "full"
        self.disabled = False
        self.waiting = 0  # records of ours that the log could not take
        self.subject: dict[str, Document] = {
            "mode": "enforcing",
            "enforced": False,
            "policy": None,
            "container": None,
            "profile": None,
            "rule": None,
            "decision": "none",
            "unknown": [],
        }
        self._boot = ""
        self._home = _elsewhere(home)
        self._directories: tuple[int, int, int] | None = None

    @property
    def is_away(self) -> bool:
        """Tell whether we run in another mount namespace than the machine's, and can change to that."""
        return self._home is not None

    @property
    def boot(self) -> str:
        """The id of this boot."""
        self._boot = self._boot or boot_id()
        return self._boot

    @property
    def entries(self) -> int:
        """The directory of the ledger, made where it is missing.  Raises `RecordError`."""
        return self._open_directories()[0]

    @property
    def pins(self) -> int:
        """The directory of the pins, made where it is missing.  Raises `RecordError`."""
        return self._open_directories()[1]

    @property
    def namespaces(self) -> int:
        """The directory that says who is in which namespace, made where it is missing.  Raises `RecordError`."""
        return self._open_directories()[2]

    def _open_directories(self) -> tuple[int, int, int]:
        if self._directories is None:
            if not self.places.run.base:
                raise RecordError(
                    "cannot find the ledger's directory: neither XDG_RUNTIME_DIR nor /run/user has one that is this "
                    "user's alone (mode 0700)",
                    "loginctl enable-linger makes one",
                )
            self._directories = (
                open_place(self.places.entries, create=0o700),
                open_place(self.places.pins, create=0o700),
                open_place(self.places.namespaces, create=0o700),
            )
        return self._directories

    def go_home(self) -> None:
        """Change to the machine's mount namespace: a pin made in an engine's private one is found by nobody else."""
        if self._home is not None:
            try:
                syscalls.setns(self._home, syscalls.CLONE_NEWNS)
            except OSError as error:
                raise KernelError(f"cannot enter the mount namespace of process 1: {why(error)}") from error
            posix.close(self._home)
            self._home = None

    def come_in(self, keep: tuple[int, ...]) -> None:
        """Change to where ledger and pins are, with these capabilities and no others from then on."""
        self.narrow(keep + ((CAP_SYS_CHROOT,) if self.is_away else ()))
        self.go_home()
        self.narrow(keep)

    def narrow(self, keep: tuple[int, ...]) -> None:
        """Give up every capability but these; where that fails, records say so."""
        if not narrow(keep):
            self.privileges = "partial"

    def visit(self, fd: int, look: Callable[[], Document]) -> Document:
        """Return what `look` sees in a namespace; we stay where we are.  Raises `NamespaceError`."""
        if self.places.rootless:
            return visit_in_child(fd, self.hosts, look)
        return visit(fd, self.hosts, self.own, look)

    def come_out(self) -> None:
        """Leave what we have joined for good, before the next one may come; in a user namespace nobody can."""
        if not self.places.rootless:
            try:
                leave(self.own)
            except KernelError:
                pass  # then as we end

    def policy(self) -> Policy:
        """Return the policy in force.  Raises `PolicyError`."""
        policy = None
        for place in self.places.policies:
            policy = policy or _policy_in(place)
        if policy is None:
            paths = "', nor '".join(f"{place}/{COMPILED}" for place in self.places.policies)
            raise PolicyError(f"cannot find the policy in force, '{paths}'", "ipcwarden compile puts it there")
        # What is wrong before a rule is known is met leniently only where every rule is lenient.
        modes = {rule.mode for rule in policy.rules} or {policy.mode}
        mode = "permissive" if modes == {"permissive"} else "enforcing"
        self.subject.update(policy=policy.digest[:12], mode=mode)
        return policy

    def memory(self, limit: int | None, ipcmni_extend: bool) -> Memory:
        """Return what amounts are relative to."""
        return Memory(limit, host_memory(), posix.sysconf("SC_PAGE_SIZE"), ipcmni_extend)

    def is_disabled(self) -> bool:
        """Tell whether the kill switch is on: containers start undecided."""
        switch = read_switch(self.root, self.places.owners)
        self.disabled = switch is not None and is_switched_off(switch, moment())
        return self.disabled

    def has_ledger(self) -> bool:
        """Tell whether any hook has made the ledger's directories since the boot."""
        try:
            posix.stat(str(self.places.namespaces))
        except FileNotFoundError:
            return False
        except OSError:
            pass  # whatever it is, `namespaces` will say so
        return True

    def record(self, event: str, **more: Document) -> dict[str, Document]:
        """Return a record of `event`, about what is the subject now."""
        return {
            "version": RECORD_VERSION,
            "time": moment(),
            "event": event,
            "host": posix.uname().nodename,
            "boot": self.boot,
            "stage": self.stage,
            **self.subject,
            "duration_ms": (time.monotonic_ns() - self.began) // 10_000 / 100,
            "privileges": self.privileges,
            **more,
        }

    def deliver(self, record: dict[str, Document], key: str, entry: Entry | None = None, quietly: bool = False) -> bool:
        """Append a record to the log; where that fails, keep it in the ledger for gc, and return False.

        Raises `RecordError` where the ledger cannot be written either.
        """
        line = line_of(record)
        try:
            append(self.places.logs, [line])
        except RecordError as error:
            text = line.decode("ascii").rstrip("\n")
            if entry is None:
                entry = take(self.entries, f"{key}~{time.time_ns():x}", create=True)
                assert entry is not None
                entry.write(state="recorded", undelivered=[text])
                entry.release()
            else:
                waiting = entry.document.get("undelivered")
                entry.write(undelivered=[*(waiting if isinstance(waiting, list) else []), text])
            self.wait(error, quietly=quietly)
            return False
        return True

    def wait(self, error: RecordError, count: int = 1, quietly: bool = False) -> None:
        """Count records that the ledger has until the log can be written, which `error` tells of; and say so."""
        self.waiting += count
        if not quietly:
            records = "the record waits" if count == 1 else f"{count} records wait"
            complain(f"{error}; {records} in the ledger until the log can be written")

    def deliver_refusal(self, record: dict[str, Document], key: str, entry: Entry | None = None) -> None:
        """Deliver a record of what is refused: that stands, in one line, even where nothing can be recorded."""
        try:
            self.deliver(record, key, entry, quietly=True)
        except RecordError:
            pass

    def alert(self, sentence: str) -> None:
        """Say to the system's journal what somebody should see today."""
        tell(self.root, sentence)


def _policy_in(place: Place) -> Policy | None:
    path = f"{place}/{COMPILED}"
    try:
        directory = open_place(place, error=PolicyError)
        try:
            return unpack(read(COMPILED, MAX_POLICY_BYTES, directory, trusted=True, owners=place.owners))
        finally:
            posix.close(directory)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, EOFError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        raise PolicyError(f"cannot use the policy in force, '{path}': {reason}", "ipcwarden compile") from error


def moment() -> str:
    """Return the time now, as records have it."""
    now = time.time_ns()
    return timestamp(now, tuple(time.gmtime(now // 1_000_000_000)))


def complain(sentence: str) -> None:
    """Write one line to standard error, which the runtime may or may not show; nobody listening is no error."""
    try:
        posix.write(2, f"ipcwarden: {sentence}\n".encode("ascii", "backslashreplace"))
    except OSError:
        pass


def _elsewhere(home: str) -> int | None:
    # Unreadable (rootless, or a process 1 with more capabilities than we have): then here is where we work.
    try:
        there, here = posix.stat(home), posix.stat("/proc/self/ns/mnt")
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            return posix.open(home, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        pass
    return None
