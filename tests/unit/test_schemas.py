"""The schemas of what we print, and what the code makes held against them; tests/e2e holds every real record."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from ipcwarden.compiler.changes import changes
from ipcwarden.core.causes import causes_of
from ipcwarden.core.facts import Facts
from ipcwarden.core.findings import drift
from ipcwarden.core.objects import Inventory, Table, mqueue
from ipcwarden.core.plan import decide
from ipcwarden.core.policy import Memory, Policy, Profile, Rule
from ipcwarden.core.record import container_of, line_of, sysctls_of, violations_of
from ipcwarden.core.spec import parse_spec
from ipcwarden.core.sysctls import KERNEL_DEFAULTS, NAMES
from ipcwarden.core.usage import raised_peaks, usage_in
from ipcwarden.errors import WardenError
from ipcwarden.host.procfs import read_limits
from ipcwarden.stages.life import texts
from ipcwarden.stages.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = Path(__file__).parents[2] / "schemas"
OURS = ("audit-v1", "show-v1", "explain-v1", "scan-v1", "reap-v1", "doctor-v1", "sweep-v1", "gc-v1")
PROFILE = Profile("base", {"kernel.shmmax": (None, None, None, 65536), "kernel.sem.semmni": (9, None, None, None)})
POLICY = Policy("enforcing", "", KERNEL_DEFAULTS, (Rule("all", (), 0, "enforcing"),), (PROFILE,))
TABLES = {
    "shm": b"head\n 0 0 1600 4096 7 8 0 0 0 0 0 1 2 3 4096 0\n-1 1 3666 9 7 8 1 9 9 9 9 1 2 3 4096 0\n",
    "sem": b"head\n 1 2 600 5 0 0 0 0 0 1795461538\n",
    "msg": b"head\n 1 3 600 16 1 7 0 0 0 0 0 1795461538 0 1795461538\n",
}


def load(name: str) -> dict[str, Any]:
    """Read a schema."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return schema


def faults(name: str, document: Any) -> list[str]:
    """Return what a schema has against a document."""
    return [f"{each.json_path}: {each.message}" for each in Draft202012Validator(load(name)).iter_errors(document)]


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property that a schema describes, at any depth; not the conditions, which add to those."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for key, inner in schema.items():
            if key not in ("if", "then", "allOf", "items"):
                for each in inner.values() if key in ("properties", "$defs") else [inner]:
                    yield from properties(each)


def inventory() -> Inventory:
    """Return an object of each kind, one with a name that is not printable, and one that could not be opened."""
    tables = {kind: Table(kind, table, 4096) for kind, table in TABLES.items()}
    queues = [mqueue(name, (0, 0, 0o600), (1, 2), (10, 8192, 1, 16), 7) for name in (b"left", b"\x1b[2J")]
    return Inventory(tables, [*queues, mqueue(b"closed", (0, 0, 0), (1, 2), None)])


def record(root: Path, event: str, **more: Any) -> dict[str, Any]:
    """Return a record as the log has it, with one line's keys and types."""
    site = Site(str(root), "createRuntime")
    site.subject.update(container=container_of("c1", "/b", Facts(name="c1")), profile="base", rule="all")
    site.subject.update({"policy": "0123456789ab", **more.pop("subject", {})})
    os.close(site.own)
    made: dict[str, Any] = json.loads(line_of(site.record(event, **more)))
    return made


def decided(**sysctl: str) -> Any:
    """Return the plan for a request."""
    request = {name.replace("_", "."): text for name, text in sysctl.items()}
    spec = parse_spec(json.dumps({"linux": {"sysctl": request}}).encode())
    return decide(PROFILE, spec.request, KERNEL_DEFAULTS, Memory(None, 1 << 30, 4096))


def findings() -> dict[str, Any]:
    """Return what a teardown finds."""
    found = inventory()
    return {
        "leftovers": found.totals(),
        "objects": [{**each, "fate": "freed"} for each in found.largest()],
        "objects_omitted": 0,
        "drift": drift({"kernel.shmmax": 1}, KERNEL_DEFAULTS),
    }


def events() -> dict[str, dict[str, Any]]:
    """Return, for each event that there is by now, what makes its record."""
    plan, refused = decided(kernel_shmmax="5"), decided(kernel_shmmax="65537", kernel_sem="0x1")
    here = {"id": None, "inode": 4026532179, "shared": False}
    gone = {**here, "destroyed": None, "holders": [{"pid": 7, "command": "sh"}]}
    applied = {"decision": "accepted", "enforced": True}
    return {
        "applied": {
            "subject": applied,
            "sysctls": sysctls_of(plan, KERNEL_DEFAULTS),
            "violations": [],
            "namespace": here,
        },
        "refused": {
            "subject": {"decision": "refused"},
            "sysctls": sysctls_of(refused, None),
            "violations": violations_of(refused.violations),
        },
        "verified": {"subject": applied, "sysctls": sysctls_of(plan, KERNEL_DEFAULTS), "late": True},
        "teardown": {"subject": applied, "namespace": gone, **findings()},
        "collected": {"subject": applied, "namespace": gone},
        "drift": {
            "subject": applied,
            "namespace": here,
            "drift": drift({"kernel.shmmax": 1}, KERNEL_DEFAULTS),
            "causes": causes_of({"privileged": True}, True),
        },
        "ungoverned": {
            "subject": {"container": None, "rule": None, "profile": None},
            "namespace": here,
            "pid": 7,
            "rootless": None,
        },
        "skipped": {"subject": {"rule": None, "profile": None}, "reason": "no-rule"},
        "error": {"subject": {"container": None, "policy": None}, "reason": "state", "message": "cannot read"},
        "disabled": {"subject": {"container": None}, "until": "2026-11-23T21:04:46Z", "reason": "", "uid": 0},
        "enabled": {"subject": {"container": None, "policy": None}, "uid": 0},
        "policy": {"subject": {"container": None}, "previous": None, "changes": changes(None, POLICY), "uid": 0},
    }


@pytest.mark.parametrize("file", sorted(each.name for each in SCHEMAS.glob("*.json")))
def test_every_schema_is_one(file: str) -> None:
    """Each file is a schema of JSON Schema 2020-12, with an $id that ends in its name, and a title."""
    schema = json.loads((SCHEMAS / file).read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].endswith(f"/{file}")
    assert schema["title"]


@pytest.mark.parametrize("name", OURS)
def test_every_property_is_described(name: str) -> None:
    """Each property says what it is."""
    assert [key for key, inner in properties(load(name)) if not inner.get("description")] == []


@pytest.mark.parametrize("name", OURS)
def test_examples_are_valid(name: str) -> None:
    """What a schema gives as an example is valid by it."""
    for _, inner in properties(load(name)):
        for example in inner.get("examples", []):
            assert Draft202012Validator({**inner, "$defs": load(name).get("$defs", {})}).is_valid(example)


@pytest.mark.parametrize("name", ["show-v1", "explain-v1", "scan-v1", "reap-v1"])
def test_what_is_named_alike_is_alike(name: str) -> None:
    """Definitions that appear in two schemas are the same; an object in a record has a fate, a shown one users."""
    ours, records = load(name)["$defs"], load("audit-v1")["$defs"]
    for key in ("fate", "evidence", "confidence", "expected", "why"):
        del records["object"]["properties"][key]
    records["object"]["required"].remove("fate")
    for key in ("users", "waiters"):
        ours.get("object", {"properties": {}})["properties"].pop(key, None)
    common = records.keys() & ours.keys()
    assert common
    assert {key: records[key] for key in common} == {key: ours[key] for key in common}


def test_limits_are_those_of_the_code() -> None:
    """The schemas know the same limits as the code, in the same order."""
    assert sorted(load("audit-v1")["$defs"]["name"]["enum"]) == sorted(NAMES)
    assert sorted(load("show-v1")["properties"]["limits"]["required"]) == sorted(NAMES)


def test_reasons_of_errors_are_those_of_the_code() -> None:
    """An error's record may have any reason that an error class has."""
    kinds = [WardenError]
    for kind in kinds:
        kinds += [each for each in kind.__subclasses__() if each.__module__ == "ipcwarden.errors"]
    conditions = load("audit-v1")["allOf"]
    allowed = next(each["then"] for each in conditions if each["if"]["properties"].get("event") == {"const": "error"})
    assert {kind.reason for kind in kinds} == set(allowed["properties"]["reason"]["enum"])


@pytest.mark.parametrize("event", list(events()))
def test_what_the_code_records_is_valid(tmp_path: Path, event: str) -> None:
    """A record of each event is valid."""
    assert faults("audit-v1", record(tmp_path, event, **events()[event])) == []


@pytest.mark.parametrize(
    ("event", "key", "wrong"),
    [
        ("skipped", "version", 2),
        ("skipped", "time", "2026-11-23 19:04:46"),
        ("skipped", "event", "unheard-of"),
        ("skipped", "policy", "xyz"),
        ("skipped", "duration_ms", "1"),
        ("skipped", "enforced", True),
        ("skipped", "reason", "because"),
        ("skipped", "unknown", None),
        ("skipped", "privileges", "none"),
        ("refused", "decision", "accepted"),
        ("refused", "violations", []),
        ("refused", "rule", None),
        ("applied", "sysctls", [{"name": "kernel.shmmax"}]),
        ("applied", "container", None),
        ("teardown", "leftovers", {"shm": {"count": 1}}),
        ("teardown", "objects", [{"kind": "shm"}]),
        ("teardown", "drift", [{"name": "kernel.shmmax", "wanted": 1, "found": 2}]),
        ("error", "reason", "mood"),
        ("drift", "causes", ["the moon"]),
        ("drift", "enforced", False),
        ("ungoverned", "pid", 0),
        ("teardown", "peaks", {"kernel.shmmni": 3}),
        ("teardown", "peaks", {"kernel.panic": "3"}),
    ],
)
def test_what_is_wrong_is_not_valid(tmp_path: Path, event: str, key: str, wrong: Any) -> None:
    """A record with one key of another type or value than ours is not valid."""
    assert faults("audit-v1", {**record(tmp_path, event, **events()[event]), key: wrong}) != []


@pytest.mark.parametrize("event", list(events()))
def test_what_is_missing_is_not_valid(tmp_path: Path, event: str) -> None:
    """A record without one of the keys that every record has is not valid."""
    whole = record(tmp_path, event, **events()[event])
    for key in load("audit-v1")["required"]:
        assert faults("audit-v1", {name: inner for name, inner in whole.items() if name != key}) != []


def test_numbers_are_texts(tmp_path: Path) -> None:
    """A limit that is a JSON number is not valid: many readers would round it."""
    made = record(tmp_path, "applied", **events()["applied"])
    made["sysctls"][0]["wanted"] = 18446744073692774399
    assert faults("audit-v1", made) != []


def test_unknown_keys_are_valid(tmp_path: Path) -> None:
    """Later versions may say more."""
    assert faults("audit-v1", {**record(tmp_path, "skipped", **events()["skipped"]), "new": {}}) == []


def test_what_is_shown_is_valid() -> None:
    """The limits of a namespace and its objects make a valid answer of `show`."""
    found = inventory()
    container = container_of("c1", "/b", Facts())
    usage, objects = found.totals(), found.objects()
    peaks = texts(raised_peaks({}, usage_in(found, 4096)))
    limits = texts(read_limits())
    shown = {"container": container, "limits": limits, "usage": usage, "peaks": peaks, "objects": objects}
    assert faults("show-v1", shown) == []
