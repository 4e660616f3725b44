"""Builds the units, a module for each door, and the stubs that start them."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from ipcwarden.house import House
from ipcwarden.layout import PROGRAMS, beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

_PACKAGE = "ipcwarden"
# By door: the module at its top, and what the stubs call.
_DOORS = {
    "create": ("hook", ("on_creation",)),
    "poststart": ("hook", ("on_poststart",)),
    "poststop": ("hook", ("on_poststop",)),
    "precreate": ("wrapper", ("filter_config",)),
    "wrapper": ("wrapper", ("Door", "wrap")),
}
NAMES = {door: f"_ipcwarden_{door}" for door in _DOORS}  # the units
HOOKS = ("create", "poststart", "poststop")  # those that every registration needs
_HEAD = f'"""ipcwarden\'s {{}}, built by {_PACKAGE}.unit from its modules: do not edit."""\n'
STUB = f'''"""Starts ipcwarden's hook: a unit beside this file, whose bytecode is cached, unlike a script's own."""
import gc
import posix
import sys

gc.disable()  # a hook ends before there is garbage: all that would be looked through is its own code, being loaded
sys.path.insert(0, __file__.rpartition("/")[0])
stage = sys.argv[-1]
if stage in ("prestart", "createRuntime"):
    from {NAMES["create"]} import on_creation as main
elif stage == "poststop":
    from {NAMES["poststop"]} import on_poststop as main
elif stage == "precreate":
    from {NAMES["precreate"]} import filter_config as main
else:  # or what is no stage, which all of them say
    from {NAMES["poststart"]} import on_poststart as main

posix._exit(main(sys.argv[1:]))  # the interpreter's own way out would take a millisecond
'''

_WRAPPER_STUB = """#!{interpreter} -IS
\"\"\"Starts {runtime} under ipcwarden's policy: what `create` and `run` are given is edited first.

Written by ipcwarden install; to change what stands here, call it again.
\"\"\"
import _signal
import posix
import sys

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # to end as the runtime would, without Python's traceback
RUNTIME = {runtime!r}
arguments = sys.argv[1:]
if "create" in arguments or "run" in arguments:
    import gc

    gc.disable()  # as hook.py does
    sys.path.insert(0, {directory!r})
    from {unit} import Door, wrap

    wrap(Door(RUNTIME, {root!r}, {on_error!r}, {entries!r}), arguments)

# Every other verb, at once: as if nobody had stood before it (see ipcwarden.wrapper.become).
for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
    _signal.signal(number, _signal.SIG_DFL)
given = {{}}
with open("/proc/self/environ", "rb") as file:
    for each in file.read().split(b"\\0"):
        end = each.find(b"=", 1)
        if end > 0:
            given.setdefault(each[:end], each[end + 1 :])
try:
    posix.execve(RUNTIME, [RUNTIME, *arguments], given)
except OSError as error:
    posix.write(2, f"ipcwarden: cannot start the runtime '{{RUNTIME}}': {{error.strerror}}\\n".encode())
    posix._exit(127)
"""


def wrapper_stub(
    interpreter: str, runtime: str, root: str, on_error: str, entries: dict[str, dict[str, Document]]
) -> str:
    """Return the program that engines start instead of `runtime`; `entries` are our hooks by stage."""
    return _WRAPPER_STUB.format(
        interpreter=interpreter,
        runtime=runtime,
        directory=beneath(root, PROGRAMS),
        unit=NAMES["wrapper"],
        root=root,
        on_error=on_error,
        entries=entries,
    )


_house = cache(House)


@cache  # half of what an install takes, and the same each time
def build(door: str) -> dict[str, str]:
    """Return the sources of a door's unit and of what it loads later, by name.  Raises `BuildError`."""
    module, wanted = _DOORS[door]
    made = _house(f"{_PACKAGE}.{module}").units(NAMES[door], wanted)
    return {name: _HEAD.format(door) + source for name, source in made.items()}


def write(directory: Path) -> None:
    """Write hook.py and the units into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, source in (each for door in NAMES for each in build(door).items()):
        (directory / f"{name}.py").write_text(source)
    (directory / "hook.py").write_text(STUB)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
