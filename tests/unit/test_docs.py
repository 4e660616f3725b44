"""The documents say what is there; tests/e2e/test_docs.py runs what they tell to run."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from typing import TYPE_CHECKING, Any

import click
import pytest
from jsonschema import Draft202012Validator

import ipcwarden
from ipcwarden import errors, hook, layout, privileges
from ipcwarden.cli import VERBS, cli
from ipcwarden.cli.install import command as install
from ipcwarden.cli.logs import EVENTS
from ipcwarden.registration import containersconf, crio
from ipcwarden.registration.entry import SECONDS, Registration, RegistrationError
from ipcwarden.registration.hooksd import DIRECTORY, PRECREATE
from support import documents
from support.documents import NAMES, Block, all_blocks, code, commands, table
from support.shell import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIT, THREATS, INSTALL = "docs/audit.md", "docs/threat-model.md", "docs/install.md"
# What the words behind a fence mean to a test; a block of any other kind would be seen by none.
KINDS = {
    ("yaml",),  # compiled
    ("yaml", "/etc/ipcwarden/policy.yaml"),  # compiled, and written there by tests/e2e
    ("text",),  # a picture, or a policy's findings
    ("json", "audit-v1"),  # a record
    ("json", "audit-v1", "abridged"),  # a record without some of what every record has
    ("json", "hook"),  # a hook's registration
    ("toml", "containers.conf"),  # used by tests/e2e
    ("logrotate",),  # used by tests/e2e
    ("console",),  # run by tests/e2e, in this order
    ("console", "pip"),  # run by tests/e2e where there is a package index
    ("console", "reap"),  # run by tests/e2e, in a namespace that has been leaked into
    ("console", "demo"),  # compared by tests/e2e with what `make demo` says
    ("console", "make"),  # targets of the Makefile
}
# Options that are other programs'.
FOREIGN = {
    "--add-runtime",
    "--default-runtime",
    "--ipc",
    "--privileged",
    "--runc-binary",
    "--sysctl",
    "--user",
    "--userns",
}
# Of engines, in directories of theirs.
OWN_FILES = (
    (containersconf.DIRECTORY, containersconf.NAME),
    (containersconf.PRECREATE, PRECREATE),
    (crio.DIRECTORY, crio.NAME),
)
# What no verb has and every verb takes.
COMMON = {"--help", "--root", "--version"}
PATHS = (
    *(f"/{getattr(layout, name)}" for name in ("SOURCES", "SITE_PROFILES", "STATE", "RUN", "LOGS", "PROGRAMS")),
    f"/{DIRECTORY}/10-ipcwarden-",
    "/etc/containers/oci/hooks.d/10-ipcwarden-",  # where install.md puts them with --hooks-dir
    *(f"/{directory}/{name}" for directory, name in OWN_FILES),
    "/opt/ipcwarden",  # the environment that install.md makes
    "/usr/local/bin/ipcwarden",
    "/etc/logrotate.d/ipcwarden",
)


def described(block: Block) -> str:
    """Name a block in a test's id."""
    return str(block)


@pytest.mark.parametrize("block", all_blocks(), ids=described)
def test_every_block_is_of_a_kind_that_is_tested(block: Block) -> None:
    """Nothing stands in a fence that no test looks at."""
    assert block.info in KINDS


@pytest.mark.parametrize(
    "policy", [p for name in NAMES if name != "docs/policy.md" for p, _ in documents.policies(name)]
)
def test_a_policy_compiles(policy: str) -> None:
    """Without a finding; those of docs/policy.md have a test of their own."""
    assert documents.findings(policy) == []


def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((REPOSITORY / f"schemas/{name}.schema.json").read_text("utf-8"))
    return schema


@pytest.mark.parametrize("block", all_blocks("json", "audit-v1"), ids=described)
def test_a_record_is_valid(block: Block) -> None:
    """What an abridged one leaves out is as in the first of its document."""
    record = json.loads(block.text)
    if "abridged" in block.info:
        whole = json.loads(documents.blocks(block.document, "json", "audit-v1")[0].text)
        common = _schema("audit-v1")["required"]
        record = {**{key: whole[key] for key in common}, **record}
    assert [error.message for error in Draft202012Validator(_schema("audit-v1")).iter_errors(record)] == []


@pytest.mark.parametrize("block", all_blocks("json", "hook"), ids=described)
def test_a_registration_is_what_install_writes(block: Block) -> None:
    """To the last member."""
    assert json.loads(block.text) == Registration("/", "/usr/bin/python3").entry("createRuntime")


@pytest.mark.parametrize("block", all_blocks("toml", "containers.conf"), ids=described)
def test_containers_conf_names_the_directory_of_the_command(block: Block) -> None:
    """What podman is told is where `install podman --hooks-dir` has put the files."""
    [directory] = tomllib.loads(block.text)["engine"]["hooks_dir"]
    assert f"--hooks-dir {directory}\n" in documents.read(block.document)


@pytest.mark.parametrize("block", all_blocks("console", "make"), ids=described)
def test_make_has_the_targets(block: Block) -> None:
    """Each line calls make with one that is there."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    for command in commands(block):
        _make, target = command.text.split()
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE)


def _calls() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        for block in documents.blocks(name, "console"):
            yield from ((str(block), command.text) for command in commands(block))
        yield from ((name, text) for text in documents.inline(name))


def _ours(text: str) -> list[str]:
    """Return the words of a call of ipcwarden's, up to a pipe; none of a call of anything else's."""
    words = shlex.split(text, comments=False) if text.count("'") % 2 == 0 else text.split()
    return words[1 : words.index("|") if "|" in words else None] if words[:1] == ["ipcwarden"] else []


@pytest.mark.parametrize(("place", "call"), [(p, c) for p, c in _calls() if _ours(c)])
def test_a_call_is_one_that_the_command_line_knows(place: str, call: str) -> None:
    """Verb, subcommand and options exist, and choices are among those that there are."""
    words = _ours(call)
    if words[:1] == ["--root"]:
        del words[:2]
    if words == ["VERB"]:
        return
    command: click.Command = cli
    context = click.Context(cli, info_name="ipcwarden")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words.pop(0))
        assert found is not None, place
        command = found
    options = {
        name: option for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)
    }
    for word, behind in zip(words, [*words, ""][1:], strict=True):
        if word.startswith("-"):
            assert word in options, f"{place}: {word}"
            kind = options[word].type
            assert not isinstance(kind, click.Choice) or not behind or behind in kind.choices, f"{place}: {behind}"


def _options(command: click.Command) -> set[str]:
    context = click.Context(command)
    names = {name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)}
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner is not None
            names |= _options(inner)
    return names


@pytest.mark.parametrize("document", NAMES)
def test_an_option_exists(document: str) -> None:
    """Each that stands in backticks is ours, the hook's, or a known other program's."""
    known = _options(cli) | COMMON | FOREIGN | set(re.findall(r"--[a-z-]+", hook.USAGE))
    named = {word for text in documents.inline(document) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}
    assert named - known == set()


def test_options_of_install_are_in_its_table() -> None:
    """Each with the engines that have it."""
    told = {
        (option, engine)
        for options, engines, _ in table(INSTALL, "Options of install")
        for option in code(options)
        for engine in (install.commands if engines == "all" else engines.split(", "))
    }
    there = {
        (name, engine)
        for engine, command in install.commands.items()
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("-")
    }
    assert told == there


def test_every_verb_is_in_the_readme_or_the_instructions() -> None:
    """Nobody has to find one by chance."""
    text = "".join(map(documents.read, ("README.md", INSTALL, "docs/scan.md", "docs/doctor.md")))
    assert [verb for verb in VERBS if f"ipcwarden {verb}" not in text] == []


@pytest.mark.parametrize("document", NAMES)
def test_links_lead_somewhere(document: str) -> None:
    """To a file of ours, and to a heading that is there."""
    for link in documents.links(document):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        assert target.is_file(), link
        assert not anchor or anchor in documents.anchors(target.relative_to(REPOSITORY).as_posix()), link


@pytest.mark.parametrize("document", NAMES)
def test_paths_of_ours_are_those_that_the_code_uses(document: str) -> None:
    """Wherever a path has our name in it."""
    found = re.findall(r"(?<![\w.*/])/[\w./*-]*ipcwarden[\w./*-]*", documents.read(document))
    ours = [path for path in found if not path.startswith(("/run/host", "/path/to"))]
    assert [path for path in ours if not path.startswith(PATHS)] == []


def test_capabilities_are_those_of_the_code() -> None:
    """The table of each stage's set, row by row, is what privileges.py keeps."""
    sets: dict[str, set[int]] = {}
    for name, _when, capability, purpose in table(THREATS, "Capabilities"):
        assert purpose
        sets.setdefault(name, set()).add(getattr(privileges, capability))
    assert sets == {name: set(getattr(privileges, name)) for name in ("DOCUMENTS", "CREATE", "POSTSTART", "POSTSTOP")}
    assert set(hook.STAGES["createRuntime"].capabilities) == sets["DOCUMENTS"] | sets["CREATE"]
    assert set(hook.STAGES["poststart"].capabilities) == sets["POSTSTART"]
    assert set(hook.STAGES["poststop"].capabilities) == sets["POSTSTOP"]


def test_rooms_have_all_modules() -> None:
    """Each module of each room stands in the table, and no other."""
    told: dict[str, set[str]] = {}
    room = ""
    for name, modules, _ in table("docs/architecture.md", "Rooms"):
        room = name.strip("`/") or room
        told.setdefault(room, set()).update(code(modules))
    package = REPOSITORY / "hooks" / "ipcwarden"
    there = {each.stem for each in package.glob("*.py")} | {each.parent.name for each in package.glob("*/__init__.py")}
    rooms = {name: {each.stem for each in (package / name).glob("*.py")} for name in ("stages", "host", "core")}
    assert {name: told[name] for name in rooms} == {name: modules - {"__init__"} for name, modules in rooms.items()}
    assert told["doors"] | told["ground"] == there - {"__init__", *rooms}


def test_deadlines_are_those_of_the_code() -> None:
    """Ours, and the runtime's."""
    rows = table("docs/architecture.md", "Stages")
    told = {stage: (own, theirs) for stages, _, own, theirs in rows for stage in code(stages)}
    assert told == {stage: (f"{own.seconds} s", _seconds(stage)) for stage, own in hook.STAGES.items()}


def _seconds(stage: str) -> str:
    return f"{SECONDS[stage]} s" if stage in SECONDS else "none"


CLASSES = [*vars(errors).values(), RegistrationError]
CODES = {c.exit_code for c in CLASSES if isinstance(c, type) and issubclass(c, errors.WardenError)}
OF_HOST = {c.exit_code for c in CLASSES if isinstance(c, type) and issubclass(c, errors.WardenError) and c.of_host} - {
    errors.UsageError.exit_code
}


def test_exit_codes_are_those_of_the_code() -> None:
    """Every class of errors has its row, and no row is of nothing."""
    rows = {int(row[0]) for row in table(AUDIT, "Exit codes")}
    assert rows == CODES | {0, 1, 129, 130, 141, 143}


def test_who_decides_on_a_fault() -> None:
    """What is the host's fault is left to --on-error, with the code of its class; all else is refused."""
    rows = table(THREATS, "Who decides on a fault")
    assert {int(number) for _, who, number in rows if "--on-error" in who} == OF_HOST
    refused = {int(number) for _, who, number in rows if who.startswith("refused")}
    # With codes that are the host's, too: what tells the two apart is whether the container asked for it.
    either = {errors.NamespaceError.exit_code, errors.PolicyViolation.exit_code, errors.ApplyError.exit_code}
    assert refused - {2} == CODES - OF_HOST | either


def test_events_are_those_of_the_log() -> None:
    """Each has its row."""
    assert [event for row in table(AUDIT, "Events") for event in code(row[0])] == list(EVENTS)


@pytest.mark.parametrize(
    "name", ["container", "sysctl", "violation", "total", "object", "drift", "namespace", "dev_shm", "file"]
)
def test_fields_of_a_part_are_those_of_the_schema(name: str) -> None:
    """Every one, and no other."""
    rows = [field for row in table(AUDIT, name) for field in code(row[0])]
    assert sorted(rows) == sorted(_schema("audit-v1")["$defs"][name]["properties"])


def test_fields_of_a_record_are_those_of_the_schema() -> None:
    """Those that every record has, and those that some have."""
    schema = _schema("audit-v1")
    always, sometimes = (
        [field for row in table(AUDIT, heading) for field in code(row[0])]
        for heading in ("Every record", "Some records")
    )
    assert sorted(always) == sorted(schema["required"])
    assert sorted(sometimes) == sorted(schema["properties"].keys() - set(always))


@pytest.mark.parametrize(("part", "field"), [("sysctl", "why"), ("violation", "kind")])
def test_values_of_a_field_are_those_of_the_schema(part: str, field: str) -> None:
    """Where there are few of them."""
    [row] = [row for row in table(AUDIT, part) if code(row[0]) == [field]]
    assert set(_schema("audit-v1")["$defs"][part]["properties"][field]["enum"]) <= set(code(row[1]))


def test_the_version_is_the_one_that_the_log_of_changes_begins_with() -> None:
    """So that no release goes without a word."""
    versions = re.findall(r"^## \[([^\]]+)\]", documents.read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == ipcwarden.__version__
