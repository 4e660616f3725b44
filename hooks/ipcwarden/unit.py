"""Builds the hook's unit: all modules on the fast path as one, because each module costs a tenth of a millisecond.

The source keeps its rooms.  The unit has the same definitions in the order of their imports, without what only readers
and type checkers need.  It works because no two of these modules give one name to two things; the build checks that.
"""

from __future__ import annotations

import ast
import sys
from importlib.resources import files
from pathlib import Path

from ipcwarden.layout import PROGRAMS, beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

NAMES = {"hook": "_ipcwarden_hook", "wrapper": "_ipcwarden_wrapper"}  # the units, by door
NAME = NAMES["hook"]
_PACKAGE = "ipcwarden"
_DOORS = {"hook": ("main",), "wrapper": ("Door", "wrap", "filter_config")}  # what the stubs call
_HEAD = f'"""ipcwarden\'s {{}}, built by {_PACKAGE}.unit from its modules: do not edit."""\n'
STUB = f'''"""Starts ipcwarden's hook: a unit beside this file, whose bytecode is cached, unlike a script's own."""
import posix
import sys

sys.path.insert(0, __file__.rpartition("/")[0])
if sys.argv[-1] == "precreate":
    from {NAMES["wrapper"]} import filter_config as main
else:
    from {NAME} import main

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


class BuildError(Exception):
    """The modules do not fit into one."""


def build(door: str = "hook") -> str:
    """Return the source of a door's unit.  Raises `BuildError`."""
    imports: dict[str, None] = {}
    owners: dict[str, str] = {}
    body: list[ast.stmt] = []
    for name, tree in _in_order(f"{_PACKAGE}.{door}").items():
        kept = [each for node in tree.body for each in _kept(node, imports)]
        for owned in {owned for node in kept for owned in _bound(node)}:
            if owners.setdefault(owned, name) != name:
                raise BuildError(f"'{owned}' is defined by both {owners[owned]} and {name}")
        body += kept
    return "\n".join([_HEAD.format(door), *imports, ast.unparse(ast.Module(_reached(body, _DOORS[door]), [])), ""])


def write(directory: Path) -> None:
    """Write hook.py and the units into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for door, name in NAMES.items():
        (directory / f"{name}.py").write_text(build(door))
    (directory / "hook.py").write_text(STUB)


def _source(module: str) -> str:
    path = files(_PACKAGE)
    for part in module.split(".")[1:]:
        path = path / part
    package = path / "__init__.py"
    return (package if package.is_file() else path.parent / f"{path.name}.py").read_text(encoding="utf-8")  # type: ignore[attr-defined]


def _in_order(top: str) -> dict[str, ast.Module]:
    """Return all modules that `top` needs at run time, each after those it needs itself."""
    done: dict[str, ast.Module] = {}

    def visit(name: str) -> None:
        if name in done:
            return
        tree = ast.parse(_source(name))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
                for needed in _needed(node):
                    visit(needed)
        done[name] = tree

    visit(top)
    return done


def _needed(node: ast.ImportFrom) -> list[str]:
    """Return the modules that a statement imports from: `from ipcwarden import syscalls` names a module itself."""
    assert node.module is not None
    if any(alias.asname for alias in node.names):
        raise BuildError(f"'{ast.unparse(node)}' gives a second name to something: in one unit it has one")
    if node.module == _PACKAGE:
        return [f"{_PACKAGE}.{alias.name}" for alias in node.names]
    return [node.module]


def _kept(node: ast.stmt, imports: dict[str, None]) -> list[ast.stmt]:
    """Return what a top-level statement becomes; imports of others' modules go to the unit's head."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith((_PACKAGE, "__future__")):
        return []
    if isinstance(node, ast.Import | ast.ImportFrom):
        imports[ast.unparse(node)] = None
        return []
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        if test == "TYPE_CHECKING":
            return [each for part in node.orelse for each in _kept(part, imports)]
        if test == "__name__ == '__main__'":
            return []
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_CHECKING":
        return []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return []
    return [_Bare().visit(node)]


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _reached(body: list[ast.stmt], doors: tuple[str, ...]) -> list[ast.stmt]:
    """Return what is needed to run `doors`, in its order: the rest of each module is for others."""
    uses = {name: _used(node) for node in body for name in _bound(node)}
    wanted = {name for node in body if not _bound(node) for name in _used(node)} | set(doors)
    new = wanted
    while new:
        new = {name for each in new for name in uses.get(each, ())} - wanted
        wanted = wanted | new
    return [node for node in body if not _bound(node) or wanted.intersection(_bound(node))]


def _used(node: ast.stmt) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


class _Bare(ast.NodeTransformer):
    """Takes away docstrings and functions' annotations, and the module's name before what is now beside it."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        given = node.args
        for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if argument:
                argument.annotation = None
        node.body = _without_docstring(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # Values go by their fields' names; what type each has is of no use at run time.
        self.generic_visit(node)
        node.annotation = ast.Constant("")
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in ("syscalls", "privileges"):
            return ast.Name(node.attr, node.ctx)
        return node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] or [ast.Pass()]
    return body


if __name__ == "__main__":
    write(Path(sys.argv[1]))
