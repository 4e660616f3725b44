"""The schema teaches the language, and says the same as the compiler."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcwarden.compiler import compile_sources
from ipcwarden.compiler.findings import Place, Report
from ipcwarden.compiler.nodes import Mapping, Scalar
from ipcwarden.compiler.schema import Shape, validator
from ipcwarden.compiler.sources import MAIN, Source, built_in
from ipcwarden.core.sysctls import FILES, KERNEL_DEFAULTS

SCHEMA = validator().schema


def properties(schema: object, path: str = "") -> list[tuple[str, dict[str, object]]]:
    """Return every property of a schema with its path."""
    found: list[tuple[str, dict[str, object]]] = []
    if isinstance(schema, dict):
        for key, child in schema.items():
            if key == "properties":
                found += [(f"{path}/{name}", each) for name, each in child.items()]
            if key not in ("examples", "enum"):
                found += properties(child, f"{path}/{key}")
    return found


def objects(schema: object) -> list[dict[str, object]]:
    """Return every part of a schema that describes a mapping."""
    if not isinstance(schema, dict):
        return []
    below = [each for key, child in schema.items() if key != "examples" for each in objects(child)]
    return below + ([schema] if isinstance(schema.get("properties"), dict) and "type" in schema else [])


def test_the_schema_is_one() -> None:
    """It is valid JSON Schema 2020-12 and says who it is."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"$id", "title", "description"} <= SCHEMA.keys()


def test_every_property_is_described_with_examples() -> None:
    """An editor's completion teaches the language."""
    found = properties(SCHEMA)
    assert len(found) > 100
    assert [path for path, each in found if not each.get("description") or not each.get("examples")] == []


def test_every_mapping_refuses_unknown_keys() -> None:
    """A key that nobody knows is a typing error, at every level."""
    found = objects(SCHEMA)
    assert len(found) > 10
    assert [each["description"] for each in found if each.get("additionalProperties") is not False] == []


def test_every_governed_sysctl_is_there() -> None:
    """The schema and the kernel's side know the same names."""
    assert SCHEMA["$defs"]["profile"]["properties"]["sysctls"]["properties"].keys() == FILES.keys()


def test_every_example_is_valid() -> None:
    """What the schema shows is what it takes."""
    for path, each in properties(SCHEMA):
        part = {"$defs": SCHEMA["$defs"], **{key: value for key, value in each.items() if key != "examples"}}
        examples = each["examples"]
        assert isinstance(examples, list)
        for example in examples:
            assert list(jsonschema.Draft202012Validator(part).iter_errors(example)) == [], (path, example)


def test_what_only_the_schema_refuses_is_reported_all_the_same() -> None:
    """Should the two ever differ, nothing is compiled that the schema refuses."""
    at = Place("f", 1, 1, "")
    amount = Scalar(Place("f", 2, 2, "p"), "x", "x")
    tree: Mapping | Scalar = amount
    for key in ("kernel.shmmax", "sysctls", "p", "profiles"):
        tree = Mapping(at, {key: at}, {key: tree})
    report = Report()
    Shape(tree, report).settle()
    messages = [finding.message for finding in report.findings() if finding.line == 2]
    assert messages == ["must be bytes, such as 1GiB or '50% of memory', or 'kernel'"]


SIZES = st.builds(
    lambda number, unit: f"{number}{unit}", st.integers(0, 9999), st.sampled_from(["KiB", "MiB", "GiB", "TiB"])
)
SHARES = st.builds(
    lambda number, of: f"{number}% of {of}", st.integers(0, 300), st.sampled_from(["memory", "limit", "host"])
)
SHARE = st.fixed_dictionaries(
    {}, optional={"of_limit": st.just("50%"), "of_host": st.just("5%"), "at_least": SIZES | st.integers(0, 9)}
)
AMOUNTS = (
    st.integers(0, 2**64)
    | st.integers(0, 300)
    | st.sampled_from(["kernel", "1 2 3 4", "250 32000 100 128", "5", "256 per GiB", "100 pages", "010", "64K"])
    | SIZES
    | SHARES
)
ONE_BOUND = st.dictionaries(st.sampled_from(["set", "min", "default", "max"]), AMOUNTS | SHARE, min_size=1, max_size=2)
FIELDS = st.dictionaries(
    st.sampled_from(["semmsl", "semmns", "semopm", "semmni"]), AMOUNTS | ONE_BOUND | st.none(), min_size=1
)
SELECTOR = st.fixed_dictionaries(
    {"kind": st.sampled_from(["shm", "sem", "mqueue"])},
    optional={
        "key": st.integers(-(2**31) - 1, 2**32)
        | st.sampled_from(["private", "0x52e2c1", "-1", "010", "-2147483649", "x"]),
        "owner": st.integers(-1, 2**32) | st.sampled_from(["root", "no-such-user", "0", ""]),
        "name": st.sampled_from(["/a*", "a", "a/b", "", "/\u00e4"]),
        "age": st.integers(-1, 2**25) | st.sampled_from(["60s", "1d", "367d", "010", "1w"]),
        "count": st.integers(-1, 2**31) | st.just("1"),
        "bytes": AMOUNTS,
    },
)
PROFILES = st.fixed_dictionaries(
    {
        "sysctls": st.dictionaries(
            st.sampled_from(list(FILES)), AMOUNTS | ONE_BOUND | SHARE | FIELDS | st.none(), max_size=2
        )
    },
    optional={
        "extends": st.sampled_from(["baseline", "restricted"]),
        "on_violation": st.sampled_from(["refuse", "clamp"]),
        "unlisted": st.sampled_from(["allow", "refuse"]),
        "help": st.sampled_from(["ask", "", "größe"]),
        "shared": st.sampled_from(["owner", "widen", "no"]),
        "nested_ipc": st.sampled_from(["report", "deny"]),
        "writable_proc_sys": st.sampled_from(["record", "refuse"]),
        "rlimits": st.fixed_dictionaries({}, optional={"msgqueue": AMOUNTS | ONE_BOUND | st.none()}),
        "dev_shm": st.fixed_dictionaries({}, optional={"warn_below": AMOUNTS | ONE_BOUND | st.none()}),
        "drift": st.sampled_from(["report", "expected", "no"]),
        "leftovers": st.just("remove"),
        **dict.fromkeys(("keep", "reap", "expect"), st.none() | st.lists(SELECTOR, max_size=2)),
    },
)
WHEN = st.dictionaries(
    st.sampled_from(["image", "ipc", "privileged", "annotations", "not"]),
    st.booleans() | st.sampled_from(["host", "a*", ["host", "private"], {"image": "x"}, {"a.b/c": ["", "x"]}]),
)
NAMES = st.sampled_from(["p", "baseline", ""])
GIVEN = st.just("p") | st.fixed_dictionaries(
    {"annotation": st.sampled_from(["a", ""]), "among": st.lists(NAMES, max_size=3), "else": NAMES}
)


@settings(deadline=None)  # the machine may be busy
@given(PROFILES, WHEN, GIVEN, st.lists(st.sampled_from(["a", "b", ""]), max_size=2), SELECTOR)
def test_what_the_compiler_accepts_the_schema_accepts(
    profile: object, when: object, given_profile: object, trusted: list[str], selector: dict[str, object]
) -> None:
    """An editor never marks what compiles, and the compiler never takes what an editor marks."""
    document = {
        "version": 1,
        "trust_annotations": trusted,
        "stale_pins": {"warn_after": selector.get("age", 0)},
        "profiles": {"p": profile},
        "rules": [{"name": "r", "profile": given_profile, "when": when}],
    }
    text = yaml.safe_dump(document, allow_unicode=True)
    outcome = compile_sources([*built_in(), Source(MAIN, "f", text.encode())], KERNEL_DEFAULTS, "", 4096, True)
    refused = list(validator().iter_errors(yaml.safe_load(text)))
    assert not (refused and outcome.policy is not None)


@pytest.mark.parametrize("name", list(FILES))
def test_the_schema_accepts_the_kernels_own_values(name: str) -> None:
    """'kernel' is always right."""
    profile = {"sysctls": {name: "kernel"}}
    assert list(validator().iter_errors({"version": 1, "profiles": {"p": profile}})) == []
