"""What is registered: entries that runtimes take, files that engines read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ipcwarden import wrapper
from ipcwarden.errors import UsageError
from ipcwarden.hook import STAGES, parse_arguments
from ipcwarden.registration import hooksd
from ipcwarden.registration.bundle import register
from ipcwarden.registration.entry import SECONDS, Registration, is_ours
from support.shell import REPOSITORY

REGISTRATIONS = [
    Registration("/", "/usr/bin/python3"),
    Registration("/srv/ä b", "/usr/libexec/platform-python", on_error="allow", creation_stage="prestart"),
]

every_registration = pytest.mark.parametrize("registration", REGISTRATIONS, ids=["plain", "all options"])
every_stage = pytest.mark.parametrize("number", range(3), ids=["creation", "poststart", "poststop"])


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Read the schema of what we write."""
    file = REPOSITORY / "schemas" / "hook-registration.schema.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(found)
    return found


@every_registration
def test_files_are_valid(registration: Registration, schema: dict[str, Any]) -> None:
    """Each file of hooks.d is as the schema says."""
    for content in (*hooksd.documents(registration).values(), hooksd.precreate_document(registration)):
        Draft202012Validator(schema).validate(json.loads(content))


@pytest.mark.parametrize("hooks", [{}, {"poststop": None}], ids=["hooks", "stage"])
def test_entries_of_a_bundle_are_valid(hooks: dict[str, Any], schema: dict[str, Any]) -> None:
    """Each entry of config.json is as the schema says, also with what it remembers."""
    config = json.loads(register(json.dumps({"hooks": hooks}), REGISTRATIONS[0]))
    entries = [entry for stage in config["hooks"].values() for entry in stage]
    Draft202012Validator(schema["$defs"]["hook"]).validate(entries[0])
    assert [
        each for entry in entries for each in Draft202012Validator(schema["$defs"]["hook"]).iter_errors(entry)
    ] == []
    assert any("ipcwarden.was" in entry for entry in entries)


def test_plain_entry() -> None:
    """This is what runtimes get to see."""
    assert REGISTRATIONS[0].entry("createRuntime") == {
        "path": "/usr/bin/python3",
        "args": ["/usr/bin/python3", "-I", "-S", "/usr/libexec/ipcwarden/hook.py", "createRuntime"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "timeout": 10,
    }


@every_registration
def test_poststart_has_no_timeout(registration: Registration) -> None:
    """crun would take a hook that ended well for one that did not end: our own deadline must do."""
    assert [registration.entry(stage).get("timeout") for stage in registration.stages] == [10, None, 30]


def test_timeout_of_another_version_goes() -> None:
    """Registering anew takes it away, so that an upgrade mends bundles too."""
    text = register("{}", REGISTRATIONS[0])
    config = json.loads(text)
    config["hooks"]["poststart"][0]["timeout"] = 5
    assert json.loads(register(json.dumps(config), REGISTRATIONS[0])) == json.loads(text)


@every_stage
@every_registration
def test_hook_understands_its_arguments(registration: Registration, number: int) -> None:
    """What is registered behind the hook's file is what the hook parses."""
    stage = registration.stages[number]
    arguments = registration.entry(stage)["args"]
    assert isinstance(arguments, list)
    options = parse_arguments([str(each) for each in arguments[4:]], STAGES)
    assert (options.stage, options.root, options.allow) == (
        stage,
        registration.root,
        registration.on_error == "allow",
    )


@pytest.mark.parametrize("stage", SECONDS)
def test_hook_s_own_deadline_is_shorter(stage: str) -> None:
    """The hook ends by itself before the runtime, or podman, kills it."""
    own = wrapper._SECONDS if stage == "precreate" else STAGES[stage].seconds
    assert own < SECONDS[stage]


@every_stage
def test_file_names_its_stage_twice(number: int) -> None:
    """The engine runs it at the stage that its arguments say: engines do not tell."""
    document = json.loads(hooksd.documents(REGISTRATIONS[0])[hooksd.NAMES[number]])
    assert document["stages"] == [document["hook"]["args"][-1]]


@every_registration
def test_files_are_recognised(registration: Registration) -> None:
    """What we write is ours."""
    assert all(map(hooksd.is_ours, hooksd.documents(registration).values()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"hook": null}',
        b'{"version": "1.0.0", "hook": {"path": "/usr/bin/other", "args": ["other", "hook.py"]}}',
        b'{"version": "1.0.0", "hook": {"path": "/x/ipcwarden/hook.py", "args": [1]}}',
    ],
)
def test_other_files_are_not_ours(content: bytes) -> None:
    """Neither rubbish nor somebody else's hook is taken for ours."""
    assert not hooksd.is_ours(content)


def test_entry_with_the_script_as_its_program_is_ours() -> None:
    """Whoever registered the hook's file by itself has registered us."""
    assert is_ours({"path": "/srv/r/usr/libexec/ipcwarden/hook.py"})


def test_root_that_is_not_utf8_is_refused() -> None:
    """JSON cannot say it, and another root must not be registered instead."""
    with pytest.raises(UsageError, match="not UTF-8"):
        Registration("/srv/\udcff", "/usr/bin/python3")
