"""The built unit is the package in one module, and nothing in it means two things."""

from __future__ import annotations

import ast
import builtins
import dis
import importlib.util
import json
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden import hook, unit
from ipcwarden.core import spec, state
from ipcwarden.errors import StateError, UsageError
from ipcwarden.house import BuildError, House
from support.imports import INTERPRETER
from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import CodeType, ModuleType

HOUSE = REPOSITORY / "hooks" / "ipcwarden"


LATE = ["_ipcwarden_create_late", "_ipcwarden_poststop_late"]  # what few containers need
UNITS = [*unit.NAMES.values(), *LATE]


@pytest.fixture(scope="module", params=UNITS)
def name(request: pytest.FixtureRequest) -> str:
    """Each unit in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Give the sources of all units, by name."""
    return {name: source for door in unit.NAMES for name, source in unit.build(door).items()}


@pytest.fixture(scope="module")
def source(sources: dict[str, str], name: str) -> str:
    """Give the source of a unit."""
    return sources[name]


@pytest.fixture(scope="module")
def loaded(built: Path) -> ModuleType:
    """Give the creation stage's unit as a module beside the package."""
    name = unit.NAMES["create"]
    found = importlib.util.spec_from_file_location(name, built / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Build another house's unit, from modules given as text; its top one is `hook`, and wants `main`."""

    def build(**modules: str) -> str:
        package = tmp_path / "tinyhouse"
        for name, text in {"__init__": "", **modules}.items():
            file = package.joinpath(*name.split("__")) if name != "__init__" else package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_name(f"{file.name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        made = House("tinyhouse.hook").units("unit", ["main"])
        return "".join(made.values()) if len(made) == 1 else f"{made['unit']}# later\n{made['unit_late']}"

    yield build
    sys.modules.pop("tinyhouse", None)


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that it holds."""
    yield code
    for each in code.co_consts:
        if hasattr(each, "co_code"):
            yield from codes(each)


def own_names(source: str) -> set[str]:
    """Return the names that a module defines itself."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def imported_names(source: str) -> set[str]:
    """Return the names that a module takes from others, at its top."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def read_names(source: str) -> set[str]:
    """Return the names that a module's code looks up at its top, or among Python's own."""
    return {
        instruction.argval
        for code in codes(compile(source, "unit", "exec"))
        for instruction in dis.get_instructions(code)
        if instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
    }


def test_is_the_same_every_time(sources: dict[str, str]) -> None:
    """Building twice gives the same text, so that installing it again changes nothing."""
    unit._house.cache_clear()
    unit.build.cache_clear()
    assert {name: source for door in unit.NAMES for name, source in unit.build(door).items()} == sources


def test_is_what_lies_in_the_built_directory(built: Path, name: str, source: str) -> None:
    """What is written are the units and the stub that starts them."""
    written = sorted(file.name for file in built.iterdir() if file.is_file())
    assert written == sorted([*(f"{each}.py" for each in UNITS), "hook.py"])
    assert (built / f"{name}.py").read_text() == source


def test_defines_everything_once(source: str) -> None:
    """No name at the top is given to two things."""
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(names) == len(set(names))


def test_hides_no_builtin(source: str) -> None:
    """What one module defines is not what another takes for Python's own."""
    assert own_names(source) & set(dir(builtins)) == set()


def test_hides_no_import(source: str) -> None:
    """What one module defines is not what another imports."""
    assert own_names(source) & imported_names(source) == set()


def test_knows_every_name_it_uses(source: str) -> None:
    """No function reads a global that is nowhere: types' names and modules that are no longer there."""
    scopes = {"__module__", "__name__", "__qualname__", "__annotations__"}
    known = own_names(source) | imported_names(source) | set(dir(builtins)) | scopes
    assert read_names(source) - known - class_names(source) == set()


def test_imports_nothing_for_nobody(source: str) -> None:
    """Each module that a unit loads is used in it."""
    assert imported_names(source) - read_names(source) == set()


def class_names(source: str) -> set[str]:
    """Return what is assigned in classes' bodies, which reads as a global does."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {name for each in classes for name in own_names(ast.unparse(ast.Module(each.body, [])))}


@pytest.mark.parametrize("module", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_local_name_hides_what_a_module_is_asked_for(module: Path) -> None:
    """`syscalls.setns` becomes `setns` in the unit: no function that says so has a `setns` of its own."""
    for function in [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)]:
        inside = list(ast.walk(function))
        asked = {
            node.attr
            for node in inside
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("syscalls", "privileges")
        }
        own = {node.arg for node in inside if isinstance(node, ast.arg)}
        own |= {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        assert asked & own == set()


def test_says_nothing_to_readers(source: str) -> None:
    """Docstrings are for the source's readers; bytecode without them is read faster."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [node.name for node in nodes if ast.get_docstring(node) is not None] == []


def test_runs_on_the_oldest_python(source: str) -> None:
    """The unit has no syntax that is younger than the Python that we promise."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=").split(".")
    ast.parse(source, feature_version=(int(oldest[0]), int(oldest[1])))


def test_runs_on_the_machines_python(built: Path) -> None:
    """The interpreter that engines start compiles it without a warning."""
    program = "import sys; [compile(open(file).read(), '', 'exec') for file in sys.argv[1:]]"
    run(INTERPRETER, "-I", "-S", "-W", "error", "-c", program, *sorted(built.glob("*.py"))).check()


def test_stub_starts_the_unit(built: Path) -> None:
    """hook.py runs the unit beside it, from wherever it is called, and ends with its exit code."""
    done = run(INTERPRETER, "-I", "-S", built / "hook.py")
    assert (done.code, done.stdout) == (64, "")
    assert done.stderr.startswith("ipcwarden: cannot make sense of the arguments ''")


def test_needs_nothing_of_the_package(built: Path, name: str) -> None:
    """A unit stands alone, a late one with the one that it belongs to: no module of the package is loaded with it."""
    find = "print(sorted(name for name in sys.modules if 'warden' in name))"
    program = f"import sys; sys.path[:0] = [{str(built)!r}]; import {name}; {find}"
    needed = [name.removesuffix("_late"), name] if name in LATE else [name]
    assert run(INTERPRETER, "-I", "-S", "-c", program).check().stdout == f"{needed}\n"


@pytest.mark.parametrize("late", LATE)
def test_no_late_unit_has_what_the_first_has(sources: dict[str, str], late: str) -> None:
    """A class is one class, whoever raises or catches it; and what a late unit takes from the first is there."""
    first = own_names(sources[late.removesuffix("_late")])
    taken = [node for node in ast.parse(sources[late]).body if isinstance(node, ast.ImportFrom)]
    [names] = [{alias.name for alias in node.names} for node in taken if node.module == late.removesuffix("_late")]
    assert names <= first
    assert own_names(sources[late]) & first == set()


NEARLY_STATES = st.fixed_dictionaries(
    {"id": st.sampled_from(["c", "", "a/b", "..", 5]), "bundle": st.sampled_from(["/b", "b", "/\n", None])},
    optional={"pid": st.sampled_from([0, 1, -1, 1.0, True, "1"]), "annotations": st.sampled_from([None, {}, {"a": 1}])},
)


def outcome(function: Callable[[bytes], object], refusal: type[Exception], data: bytes) -> str:
    """Return what a function made of data, as text: the two houses' classes are not the same."""
    try:
        return repr(function(data))
    except refusal as error:
        return f"{refusal.__name__}: {error}"


@given(NEARLY_STATES | st.none(), st.sampled_from(["", "}", " "]))
def test_reads_states_as_the_package_does(loaded: ModuleType, document: object, tail: str) -> None:
    """The unit's parser gives the package's verdict, word by word."""
    data = (json.dumps(document) + tail).encode()
    assert outcome(loaded.parse_state, loaded.StateError, data) == outcome(state.parse_state, StateError, data)


@given(
    st.dictionaries(st.sampled_from(["kernel.shmmax", "kernel/shmmax", "kernel.sem"]), st.text("0123x ", max_size=8))
)
def test_reads_specs_as_the_package_does(loaded: ModuleType, sysctls: dict[str, str]) -> None:
    """The unit finds the package's requests."""
    data = json.dumps({"linux": {"sysctl": sysctls}}).encode()
    assert outcome(loaded.parse_spec, loaded.StateError, data) == outcome(spec.parse_spec, StateError, data)


@pytest.mark.parametrize("stage", [*hook.STAGES, "createContainer", "", "--native"])
def test_stub_finds_each_stage_s_unit(built: Path, stage: str) -> None:
    """Every stage comes to its own code, which has no state to read then; what is no stage is told so."""
    done = run(INTERPRETER, "-I", "-S", built / "hook.py", "--root", "/nowhere", stage)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"ipcwarden: {stage}: cannot") is (stage in hook.STAGES)
    assert (done.code == UsageError.exit_code) is (stage not in hook.STAGES)


def test_refuses_one_name_for_two_things(house: Callable[..., str]) -> None:
    """Two modules that define one name do not fit into one."""
    with pytest.raises(BuildError, match=r"^'run' is defined by both tinyhouse\.other and \w+\.hook$"):
        house(hook="from tinyhouse.other import stop\ndef run(): ...", other="def run(): ...\nstop = 1")


@pytest.mark.parametrize("second", ["run = 1", "run: int = 1", "class run: ...", "a, run = 1, 2", "run = other = 1"])
def test_refuses_it_however_it_is_defined(house: Callable[..., str], second: str) -> None:
    """Functions, classes and constants all take a name."""
    with pytest.raises(BuildError, match="'run' is defined by both"):
        house(hook="from tinyhouse.other import stop\ndef run(): ...", other=f"{second}\nstop = 1")


@pytest.mark.parametrize(
    "statement",
    [
        "from tinyhouse.other import run as go",
        "from tinyhouse import other as another",
        "from tinyhouse.other import stop, run as run",
    ],
)
def test_refuses_a_second_name(house: Callable[..., str], statement: str) -> None:
    """A thing that is imported under another name has only one in the unit."""
    with pytest.raises(BuildError, match="gives a second name to something"):
        house(hook=statement, other="def run(): ...\nstop = 1")


def test_puts_modules_in_the_order_of_their_imports(house: Callable[..., str]) -> None:
    """What a module needs stands before it, once."""
    built = house(
        hook="from tinyhouse.one import a\nfrom tinyhouse.two import b\nmain = a + b",
        one="from tinyhouse.two import b\na = b + 1",
        two="b = 1",
    )
    assert [line for line in built.splitlines() if " = " in line] == ["b = 1", "a = b + 1", "main = a + b"]


def test_collects_others_imports_at_the_top(house: Callable[..., str]) -> None:
    """Modules of Python's own are imported once, before everything."""
    built = house(
        hook="import posix\nfrom tinyhouse.one import a\nmain = a, posix", one="import posix\nimport time\na = time"
    )
    assert built.count("import posix") == 1
    assert built.index("import posix") < built.index("a = time")


def test_leaves_types_out(house: Callable[..., str]) -> None:
    """What only type checkers read is not in the unit, and what runs instead is."""
    built = house(
        hook="TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from typing import Any\nelse:\n    x = 1\n"
        "def main(a: Any, *b: Any, c: Any = x, **d: Any) -> Any:\n    e: Any = a\n    return e"
    )
    assert "Any" not in built
    assert "TYPE_CHECKING" not in built
    assert "x = 1" in built


def test_leaves_the_own_door_out(house: Callable[..., str]) -> None:
    """A module's way to be run by hand is not in the unit."""
    assert "never" not in house(hook="main = 1\nif __name__ == '__main__':\n    never()")


def test_keeps_a_body_that_was_all_docstring(house: Callable[..., str]) -> None:
    """A class that only has a docstring is still one."""
    assert "class main(Exception):\n    pass" in house(hook='class main(Exception):\n    """Nothing more."""')


def test_leaves_out_what_the_door_does_not_reach(house: Callable[..., str]) -> None:
    """What only others use is not in the unit; what the door needs through others is, and so is what runs at once."""
    built = house(
        hook="from tinyhouse.one import near\ndef main():\n    return near",
        one="deep = 1\nloose: int = 3\nprint(loose)\n"
        "def near():\n    return deep\ndef gc():\n    return unused\nunused = 2\n",
    )
    assert own_names(built) == {"deep", "near", "main", "loose"}


def test_keeps_no_more_than_is_meant(house: Callable[..., str]) -> None:
    """A local name that is also that of a thing elsewhere is not that thing; a default and a decorator are."""
    built = house(
        hook="from tinyhouse.one import size, keep\n@keep\ndef main(name=size):\n    gc = 1\n    return gc + name",
        one="size = 2\ndef gc():\n    return heavy\nheavy = 3\ndef keep(f):\n    return f\n",
    )
    assert own_names(built) == {"size", "keep", "main"}


def test_sees_what_is_meant_within_functions_and_classes(house: Callable[..., str]) -> None:
    """Names count in a comprehension, a lambda, a nested function, a class's body and its bases."""
    built = house(
        hook="from tinyhouse.one import a, b, c, d, E\nclass main(E):\n    x = d\n    def __init__(self):\n"
        "        def inner():\n            return [a for _ in ()], lambda: b\n        global c\n        c = 2",
        one="a = b = 1\nc = 1\nd = 1\nclass E: ...\n",
    )
    assert own_names(built) == {"a", "b", "c", "d", "E", "main"}


def test_leaves_out_methods_that_nothing_asks_for(house: Callable[..., str]) -> None:
    """A class comes with those of its methods whose names are asked of anything, and with what Python calls itself."""
    built = house(
        hook="from tinyhouse.one import A\ndef main(it):\n    A().near(it.far)",
        one="class A:\n    def __eq__(self, other):\n        return True\n    def near(self):\n        self.next\n"
        "    @property\n    def next(self):\n        return 1\n    def gc(self):\n        return heavy\nheavy = 3\n"
        "class B:\n    def far(self): ...\n",
    )
    [found] = [node for node in ast.parse(built).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in found.body if isinstance(node, ast.FunctionDef)] == ["__eq__", "near", "next"]
    assert own_names(built) == {"A", "main"}


def test_leaves_out_imports_that_nothing_uses(house: Callable[..., str]) -> None:
    """A module of Python's own that only left-out code needs is not loaded."""
    built = house(hook="import time\nimport zlib\ndef main():\n    time.time()\ndef other():\n    zlib.crc32(b'')")
    assert imported_names(built) == {"time"}


@pytest.mark.parametrize("call", ["getattr(1, 'x')", "globals()['x']", "eval('x')", "__import__('x')"])
def test_refuses_names_that_it_cannot_see(house: Callable[..., str], call: str) -> None:
    """What is found by its text could have been left out."""
    with pytest.raises(BuildError, match="nobody sees which names are meant by"):
        house(hook=f"def main():\n    {call}")


def test_puts_what_a_function_imports_into_a_late_unit(house: Callable[..., str]) -> None:
    """What is needed at once stays in the first unit, where the late one finds it."""
    built = house(
        hook="import time\nfrom tinyhouse.near import both\ndef main():\n    both.ask\n"
        "    from tinyhouse.far import rare\n    from tinyhouse.near import near_too\n    return rare, near_too",
        near="def both(): ...\nclass Kept:\n    def ask(self): ...\n    def later(self): ...\n"
        "def near_too(): return Kept\nloose = near_too()\nprint(loose)\n",
        far="import time\nfrom tinyhouse.near import both, near_too\n"
        "def rare():\n    from tinyhouse.far import other\n    return both().later, time\n"
        "class remover:\n    def both(self): ...\ndef other(): remover\n",
    )
    first, late = built.split("# later\n")
    assert own_names(first) == {"both", "Kept", "near_too", "loose", "main"}
    assert "def later" in first  # the class is in the first unit; who asks for its method is not
    assert "    from unit_late import rare\n    from unit import near_too" in first
    assert late.startswith("import time\nfrom unit import both\n")
    assert "    from unit_late import other" in late
    assert own_names(late) == {"rare", "remover", "other"}
