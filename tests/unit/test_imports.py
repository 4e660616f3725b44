"""The house rules: imports point down only, each outside library has one owner, and the hook loads next to nothing."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from os import getpid
from typing import TYPE_CHECKING

import pytest

from ipcwarden.core.policy import Policy, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.unit import NAMES
from support.imports import run_and_list_imports
from support.shell import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUSE = REPOSITORY / "hooks" / "ipcwarden"

GROUND = {"", "values", "errors", "syscalls", "files", "privileges", "layout"}
DOORS = {"hook", "wrapper", "cli", "compiler", "registration", "unit", "house"}
FLOORS = [GROUND, {"core"}, {"host"}, {"stages"}, DOORS]

# Who alone may use what is not ours: rooms or modules, by the library's top name.
OWNERS = {
    "_ctypes": {"syscalls"},
    "ctypes": set[str](),
    "prctl": {"privileges"},
    "yaml": {"compiler"},
    "jsonschema": {"compiler"},
    "click": {"cli"},
    "rich": {"cli"},
}
PURE = {"_json", "_blake2", "marshal"}

# Beyond what an empty `python3 -I -S` has.
C = {"_blake2", "_ctypes", "_json"}
STUB = C | {"gc"}
UNITS = {
    "prestart": "_ipcwarden_create",
    "createRuntime": "_ipcwarden_create",
    "poststart": "_ipcwarden_poststart",
    "poststop": "_ipcwarden_poststop",
}


@dataclass(frozen=True)
class Import:
    """One import: who, what, and whether it happens at run time at all, and when the module is loaded."""

    importer: str
    imported: str
    at_run_time: bool
    at_once: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def imports_of(file: Path) -> Iterator[Import]:
    """Yield all imports of a module, those of functions and those for types too."""
    importer = ".".join(file.relative_to(HOUSE).with_suffix("").parts).removesuffix("__init__").rstrip(".")

    def visit(node: ast.AST, at_run_time: bool, at_once: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{file}: relative imports hide where they lead"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else node.module for name in named]
        yield from (Import(importer, name, at_run_time, at_once) for name in dict.fromkeys(names))
        for each in ast.iter_child_nodes(node):
            typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and each in node.body
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(each, at_run_time and not typing, at_once and not inside)

    return visit(ast.parse(file.read_text(encoding="utf-8")), True, True)


def is_module(name: str) -> bool:
    """Tell whether a name is a module of ours."""
    path = HOUSE.joinpath(*name.split(".")[1:])
    return name.startswith("ipcwarden") and (path.with_suffix(".py").is_file() or path.is_dir())


ALL = [each for file in sorted(HOUSE.rglob("*.py")) for each in imports_of(file)]
OURS = [each for each in ALL if each.imported.split(".")[0] == "ipcwarden"]
OTHERS = [each for each in ALL if each not in OURS and each.imported != "__future__"]


def room(module: str) -> str:
    """Return the room that a module is in, or its own name on the ground and at the doors."""
    return module.removeprefix("ipcwarden").lstrip(".").split(".")[0]


def floor(module: str) -> int:
    """Return how high a module stands."""
    (found,) = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    return found


def test_reads_the_whole_house() -> None:
    """The rules below are about something: known imports of all sorts are seen."""
    seen = {str(each) for each in ALL}
    assert {
        "hook imports ipcwarden.stages.create",
        "hook imports ipcwarden.privileges",
        "privileges imports prctl",
        "core.plan imports ipcwarden.core.spec",
        "host.journal imports socket",
        "compiler.reader imports yaml",
    } <= seen
    assert {each.importer for each in ALL if not each.at_once} >= {"privileges", "host.journal"}
    assert {each.importer for each in ALL if not each.at_run_time} >= {"core.plan", "values"}


def test_every_module_has_its_place() -> None:
    """No module stands outside of the floors."""
    rooms = {file.relative_to(HOUSE).parts[0].removesuffix(".py") for file in HOUSE.rglob("*.py")}
    assert rooms - {"__init__"} <= set.union(*FLOORS)


def test_imports_point_down() -> None:
    """Doors use stages, stages the host, all of them the core, and never the other way."""
    assert [str(each) for each in OURS if floor(each.imported) > floor(each.importer)] == []


def test_rooms_of_the_host_do_not_know_each_other() -> None:
    """Each part of the outside world stands alone: only stages bring two together."""
    assert [str(each) for each in OURS if room(each.importer) == room(each.imported) == "host"] == []


def test_the_core_rests_on_values_and_errors_alone() -> None:
    """What decides knows nothing of files, system calls and privileges."""
    assert {room(each.imported) for each in OURS if room(each.importer) == "core"} <= {"core", "values", "errors"}


def test_the_core_touches_nothing() -> None:
    """What decides cannot do: of Python's own it uses only what turns bytes into values."""
    outside = {each.imported for each in OTHERS if room(each.importer) == "core" and each.at_run_time}
    assert outside <= PURE | {"json"}  # json only for the words of an error


def test_doors_do_not_lead_to_doors() -> None:
    """A door is for those outside; but the command line shows what the others do, and registering builds the unit."""
    allowed = {"cli": DOORS, "registration": {"unit"}, "unit": {"house"}}
    wrong = [
        str(each)
        for each in OURS
        if room(each.importer) in DOORS
        and room(each.imported) in DOORS - {room(each.importer)} - allowed.get(room(each.importer), set())
    ]
    assert wrong == []


def test_the_command_line_is_nobodys_library() -> None:
    """What the command line knows, it knows for people: nothing else uses it."""
    assert [str(each) for each in OURS if room(each.imported) == "cli" != room(each.importer)] == []


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_one_owner(library: str) -> None:
    """What is not ours, and dear or dangerous, is used in one place."""
    users = {room(each.importer) for each in OTHERS if each.imported.split(".")[0] == library}
    assert users <= OWNERS[library]


def test_modules_do_not_go_round_in_circles() -> None:
    """No module needs itself to be loaded, however far around."""
    needs: dict[str, set[str]] = {}
    for each in OURS:
        if each.at_once and each.at_run_time:
            needs.setdefault(f"ipcwarden.{each.importer}".rstrip("."), set()).add(each.imported)
    while free := {name for name in needs if not needs[name] & needs.keys() - {name}}:
        for name in free:
            del needs[name]
    assert needs == {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a host with a policy in force that has no rules."""
    root = tmp_path / "root"
    directory = root / "var/lib/ipcwarden"
    directory.mkdir(parents=True)
    for each in (root, *(root / part for part in ("var", "var/lib", "var/lib/ipcwarden"))):
        each.chmod(0o755)
    (directory / "policy.compiled").write_bytes(pack(Policy("enforcing", "any", KERNEL_DEFAULTS, (), ())))
    (directory / "policy.compiled").chmod(0o644)
    (tmp_path / "config.json").write_text("{}")
    return root


def state(bundle: Path, **more: object) -> str:
    """Return the state of a container that is this process."""
    return json.dumps({"id": "c", "bundle": str(bundle), "status": "creating", "pid": getpid(), **more})


@pytest.mark.parametrize("unit", NAMES.values())
def test_a_unit_loads_three_modules(built: Path, unit: str) -> None:
    """To be ready to run, a door needs three modules beyond an empty interpreter's, all of them C."""
    program = f"import sys; sys.path.insert(0, {str(built)!r}); import {unit}"
    assert run_and_list_imports("-c", program).modules == C | {unit}


@pytest.mark.parametrize("stage", UNITS)
def test_a_stage_loads_nothing_more(built: Path, root: Path, stage: str) -> None:
    """A stage that ends well without anything to do has loaded its unit alone; tests/kernel has those that do."""
    ran = run_and_list_imports(built / "hook.py", "--root", root, stage, stdin=state(root.parent))
    assert (ran.result.code, ran.said) == (0, "")
    assert ran.modules == STUB | {UNITS[stage]}


def test_an_error_loads_what_tells_it(built: Path, root: Path) -> None:
    """A refusal may take its time, but loads nothing beyond what the system's journal is told through."""
    socket = run_and_list_imports("-c", "import socket").modules
    ran = run_and_list_imports(built / "hook.py", "--root", root, "prestart", stdin=state(root.parent, pid=-1))
    assert ran.result.code == 65
    assert ran.modules <= STUB | {UNITS["prestart"]} | socket
