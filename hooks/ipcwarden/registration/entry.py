"""What is registered: one OCI hook entry a stage (runtime-spec, config.md, POSIX-platform Hooks)."""

from __future__ import annotations

from dataclasses import dataclass

from ipcwarden.core.amendment import runs_us
from ipcwarden.errors import UsageError, WardenError
from ipcwarden.layout import PROGRAMS, beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

CREATION_STAGES = ("createRuntime", "prestart")
HOOK_FILE = "hook.py"
STAGES = (*CREATION_STAGES, "poststart", "poststop")
# The runtime's patience.  The hook's own deadlines (hook.STAGES) are shorter.
# None at poststart: of a hook that has one crun (1.8.1) says "timeout expired" now and then, although it ended well: 4
# times in 600 of a program that does nothing, beside a container that ends at the same moment; without one never.
SECONDS = {"precreate": 10, "createRuntime": 10, "prestart": 10, "poststop": 30}
# Never empty: Go leaves an empty list out, and without a list a runtime hands its own environment to the hook.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_WAS = "ipcwarden.was"


class RegistrationError(WardenError):
    """The hooks cannot be registered the way things are: nothing was registered."""

    exit_code = 78
    reason = "registration"


@dataclass(frozen=True)
class Registration:
    """One way of running our hooks."""

    root: str
    interpreter: str
    on_error: str = "refuse"
    creation_stage: str = "createRuntime"
    native: bool = False  # what has decided before the runtime reads config.json puts the entry there

    def __post_init__(self) -> None:
        try:
            f"{self.root}{self.interpreter}".encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"cannot register '{self.root}' and '{self.interpreter}': JSON has no way to write what is not UTF-8",
                "use another directory",
            ) from None

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to register, in the order of a container's life."""
        return (self.creation_stage, "poststart", "poststop")

    def entry(self, stage: str) -> dict[str, Document]:
        """Return the hook entry of a stage.

        The program is the interpreter: podman skips a hook whose program is missing, and starts the container
        ungoverned; an interpreter that misses its script fails, which refuses the container.
        """
        root: list[Document] = [] if self.root == "/" else ["--root", self.root]
        on_error: list[Document] = [] if self.on_error == "refuse" else ["--on-error", self.on_error]
        native: list[Document] = ["--native"] if self.native else []
        hook = beneath(self.root, f"{PROGRAMS}/{HOOK_FILE}")
        entry: dict[str, Document] = {
            "path": self.interpreter,
            "args": [self.interpreter, "-I", "-S", hook, *root, *on_error, *native, stage],
            "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        }
        return {**entry, "timeout": SECONDS[stage]} if stage in SECONDS else entry


def is_ours(entry: Document) -> bool:
    """Tell whether a hook entry runs ipcwarden's hook, of whatever root and version."""
    return runs_us(entry)


def remembering(entry: dict[str, Document], name: str, was: Document) -> dict[str, Document]:
    """Return an entry that remembers that it stands where `name` was null or empty, for `remembered`.

    Runtimes ignore members that they do not know (runtime-spec, Extensibility).
    """
    return {**entry, _WAS: {name: was}}


def remembered(entry: Document, name: str) -> list[Document]:
    """Return what `name` was, null or empty, if the entry remembers: a list of one or none."""
    memory = entry.get(_WAS) if isinstance(entry, dict) else None
    if not isinstance(memory, dict) or name not in memory:
        return []
    was = memory[name]
    return [was] if was is None or was in ([], {}) else []  # nothing that anybody planted there


def with_memory_of(entry: dict[str, Document], old: Document) -> dict[str, Document]:
    """Return an entry that remembers what an older one did."""
    for name in ("hooks", *STAGES):
        for was in remembered(old, name):
            return remembering(entry, name, was)
    return entry
