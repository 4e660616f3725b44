"""The house as one: all modules that a door needs in one unit, because each module costs a tenth of a millisecond.

The source keeps its rooms.  A unit has the same definitions in the order of their imports: those that can be reached
from what its stub calls, without what only readers and type checkers need.  It works because no two of these modules
give one name to two things, and none looks names up by their text; the build checks both.

What a function imports itself, because few containers need it, is in a second unit, which that loads when it runs.
"""

from __future__ import annotations

import ast
import copy
import symtable
from importlib.resources import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeGuard

# What finds names by their text: what that reaches cannot be seen here.
_BLIND = {"getattr", "globals", "locals", "eval", "exec", "__import__"}


class BuildError(Exception):
    """The modules do not fit into one."""


class House:
    """A package as its module `top` needs it, at once or later: what units are made of.  Raises `BuildError`."""

    def __init__(self, top: str) -> None:
        self._package = top.partition(".")[0]
        self._imports: dict[str, str] = {}  # statements by the name that each gives
        self._pieces: list[_Piece] = []
        owners: dict[str, str] = {}
        for module, tree in self._in_order(top).items():
            for node in (each for statement in tree.body for each in self._kept(statement)):
                for name in _bound(node):
                    if owners.setdefault(name, module) != module:
                        raise BuildError(f"'{name}' is defined by both {owners[name]} and {module}")
                self._pieces += _pieces_of(node)

    def units(self, name: str, wanted: Iterable[str]) -> dict[str, str]:
        """Return modules by name: one that has what is `wanted`, and another for what it reaches later, if anything."""
        everything = self._reached(set(wanted), set(), later=True)
        asked = set[str]().union(*(piece.attributes for piece in everything))
        first = self._reached(set(wanted), asked, later=False)
        where = {each: f"{name}_late" for piece in everything if not piece.owner for each in piece.bound}
        where.update({each: name for piece in first if not piece.owner for each in piece.bound})
        made = {name: self._text(first, where, name)}
        if len(first) < len(everything):
            made[f"{name}_late"] = self._text([each for each in everything if each not in first], where, f"{name}_late")
        return made

    def _reached(self, names: set[str], attributes: set[str], later: bool) -> list[_Piece]:
        """Return what code with these names of globals and attributes can reach; `later` by its own imports, too."""
        kept: list[_Piece] = []
        left = self._pieces
        while new := [piece for piece in left if piece.is_needed(names, attributes)]:
            kept += new
            left = [piece for piece in left if piece not in new]
            for piece in new:
                names = names | piece.names | (piece.later if later else set())
                attributes = attributes | piece.attributes
        if names & _BLIND:
            raise BuildError(f"nobody sees which names are meant by: {', '.join(sorted(names & _BLIND))}")
        return kept

    def _text(self, kept: list[_Piece], where: dict[str, str], name: str) -> str:
        """Return a module with these pieces, in their order; `where` has the module of each name."""
        names = set[str]().union(*(piece.names for piece in kept))
        imports = dict.fromkeys(text for each, text in self._imports.items() if each in names)
        others = [each for each in sorted(names) if where.get(each, name) != name]
        if others:
            imports[f"from {where[others[0]]} import {', '.join(others)}"] = None
        methods = {id(piece.node) for piece in kept if piece.owner}
        body = [_with(piece.node, methods) for piece in self._pieces if piece in kept and not piece.owner]
        module = _Later(where).visit(copy.deepcopy(ast.Module(body, [])))
        return "\n".join([*imports, ast.unparse(module), ""])

    def _source(self, module: str) -> str:
        path = files(self._package)
        for part in module.split(".")[1:]:
            path = path / part
        package = path / "__init__.py"
        return (package if package.is_file() else path.parent / f"{path.name}.py").read_text(encoding="utf-8")  # type: ignore[attr-defined]

    def _in_order(self, top: str) -> dict[str, ast.Module]:
        """Return all modules that `top` needs at run time, each after those it needs itself at once."""
        done: dict[str, ast.Module] = {}
        later: list[str] = []

        def visit(name: str) -> None:
            if name in done:
                return
            tree = ast.parse(self._source(name))
            for node in tree.body:
                if self._is_ours(node):
                    for needed in self._needed(node):
                        visit(needed)
            done[name] = tree
            functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
            inside = [node for function in functions for node in ast.walk(function)]
            later.extend(each for node in inside if self._is_ours(node) for each in self._needed(node))

        visit(top)
        while later:
            visit(later.pop(0))
        return done

    def _is_ours(self, node: ast.AST) -> TypeGuard[ast.ImportFrom]:
        return isinstance(node, ast.ImportFrom) and (node.module or "").startswith(self._package)

    def _needed(self, node: ast.ImportFrom) -> list[str]:
        """Return the modules that a statement imports from: `from ipcwarden import syscalls` names a module itself."""
        assert node.module is not None
        if any(alias.asname for alias in node.names):
            raise BuildError(f"'{ast.unparse(node)}' gives a second name to something: in one unit it has one")
        if node.module == self._package:
            return [f"{self._package}.{alias.name}" for alias in node.names]
        return [node.module]

    def _kept(self, node: ast.stmt) -> list[ast.stmt]:
        """Return what a top-level statement becomes; imports of others' modules go to the unit's head."""
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith((self._package, "__future__")):
            return []
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._imports.update({alias.asname or alias.name: ast.unparse(node) for alias in node.names})
            return []
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            if test == "TYPE_CHECKING":
                return [each for part in node.orelse for each in self._kept(part)]
            if test == "__name__ == '__main__'":
                return []
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_CHECKING":
            return []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return []
        return [_Bare().visit(node)]


class _Piece:
    """What is in a unit or not: a statement, a class without its methods, or a method of the class `owner`."""

    def __init__(self, node: ast.stmt, owner: str = "") -> None:
        self.node = node
        self.owner = owner
        self.bound = _bound(node)
        inside = _with(node, set())
        self.names = set(_globals(symtable.symtable(ast.unparse(inside), "unit", "exec")))
        self.attributes = {each.attr for each in ast.walk(inside) if isinstance(each, ast.Attribute)}
        imports = [each for each in ast.walk(inside) if isinstance(each, ast.ImportFrom)]
        self.later = {alias.name for each in imports for alias in each.names}  # what it imports when it runs

    def is_needed(self, names: set[str], attributes: set[str]) -> bool:
        """Tell whether code with these names of globals and attributes can reach it; any object may have any method."""
        if self.owner:
            return self.owner in names and not attributes.isdisjoint(self.bound)
        return not self.bound or not names.isdisjoint(self.bound)


def _pieces_of(node: ast.stmt) -> Iterator[_Piece]:
    yield _Piece(node)
    if isinstance(node, ast.ClassDef):
        yield from (_Piece(each, node.name) for each in node.body if _is_method(each))


def _is_method(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("__")  # Python calls those itself


def _with(node: ast.stmt, methods: set[int]) -> ast.stmt:
    """Return a statement as it is; a class with those of its methods that are among the nodes with these ids."""
    if not isinstance(node, ast.ClassDef):
        return node
    less = copy.copy(node)
    less.body = [each for each in node.body if not _is_method(each) or id(each) in methods] or [ast.Pass()]
    return less


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that code looks up at the top of its module, and some more: those that a class defines itself."""
    local = isinstance(table, symtable.Function)
    for symbol in table.get_symbols():
        if symbol.is_global() if local else symbol.is_referenced():
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _globals(inner)


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


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


class _Later(ast.NodeTransformer):
    """Takes what functions import from the unit where it is."""

    def __init__(self, where: dict[str, str]) -> None:
        self._where = where

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.AST]:
        if not {alias.name for alias in node.names} <= self._where.keys():
            return node
        return [ast.ImportFrom(self._where[alias.name], [alias], 0) for alias in node.names]


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] or [ast.Pass()]
    return body
