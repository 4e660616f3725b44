"""config.json with and without our hooks: nothing of others' is lost, and what was done can be undone to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.amendment import REQUESTED, Amendment, amended, restored
from ipcwarden.registration.bundle import register, unregister
from ipcwarden.registration.entry import STAGES, Registration, is_ours

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = Registration("/", "/usr/bin/python3")
ELSEWHERE = Registration("/srv/warden", "/usr/libexec/platform-python", on_error="allow")
PRESTART = Registration("/", "/usr/bin/python3", creation_stage="prestart")

THEIRS = {"path": "/usr/bin/theirs", "args": ["theirs", "a & b"]}
BARE: dict[str, Any] = {"ociVersion": "1.0.2", "process": {"args": ["sh", "-c", "a && b"]}, "mounts": []}
CONFIGS: dict[str, dict[str, Any]] = {
    "empty": {},
    "no hooks": BARE,
    "null hooks": {**BARE, "hooks": None},
    "empty hooks": {"hooks": {}, **BARE},
    "empty stage": {**BARE, "hooks": {"createRuntime": []}},
    "null stage": {"hooks": {"poststop": None, "poststart": []}, **BARE},
    "another's stage": {**BARE, "hooks": {"createContainer": [THEIRS]}},
    "another's hook": {**BARE, "hooks": {"poststop": [THEIRS], "createRuntime": [THEIRS, THEIRS]}, "linux": {}},
    "another's prestart": {**BARE, "hooks": {"prestart": [THEIRS]}},
}
STYLES: dict[str, Callable[[object], str]] = {
    "runc spec": lambda config: json.dumps(config, indent="\t"),
    "python": json.dumps,
    "compact": lambda config: json.dumps(config, separators=(",", ":")),
    "two spaces": lambda config: json.dumps(config, indent=2) + "\n",
    "no indentation": lambda config: json.dumps(config, indent=0),
    "windows": lambda config: json.dumps(config, indent=4).replace("\n", "\r\n"),
    "blanks around colons": lambda config: json.dumps(config, indent=1, separators=(" ,", " : ")),
    "go": lambda config: json.dumps(config, indent="\t").replace("&", "\\u0026"),
    "margins": lambda config: "\n " + json.dumps(config) + "\n\n",
}

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
every_style = pytest.mark.parametrize("written", STYLES.values(), ids=STYLES)


def hooks(text: str) -> dict[str, list[Any]]:
    """Read the hooks of a config.json."""
    found: dict[str, list[Any]] = json.loads(text)["hooks"]
    return found


def ours(text: str) -> dict[str, list[Any]]:
    """Read our own hooks of a config.json, by stage."""
    found = {stage: [each for each in entries or [] if is_ours(each)] for stage, entries in hooks(text).items()}
    return {stage: entries for stage, entries in found.items() if entries}


@every_style
@every_config
def test_unregister_undoes_register_to_the_byte(config: object, written: Callable[[object], str]) -> None:
    """Whatever the hooks were and however the file was written, it is the same afterwards."""
    text = written(config)
    assert unregister(register(text, OURS)) == text


@every_style
@every_config
def test_second_register_changes_nothing(config: object, written: Callable[[object], str]) -> None:
    """What is registered is recognised."""
    once = register(written(config), OURS)
    assert register(once, OURS) == once


@every_style
@every_config
def test_three_stages_are_registered_once_each(config: object, written: Callable[[object], str]) -> None:
    """Creation, poststart and poststop have one entry of ours."""
    found = ours(register(written(config), OURS))
    assert {stage: len(entries) for stage, entries in found.items()} == {
        "createRuntime": 1,
        "poststart": 1,
        "poststop": 1,
    }


@every_config
def test_others_stay_as_they_are(config: dict[str, Any]) -> None:
    """All but our own entries is there, in its order."""
    after = json.loads(register(json.dumps(config), OURS))
    assert [key for key in after if key in config] == list(config)
    for stage, entries in (config.get("hooks") or {}).items():
        assert [each for each in after["hooks"][stage] if not is_ours(each)] == (entries or [])


@every_config
def test_another_registration_is_replaced_in_place(config: object) -> None:
    """A registration with other options stands where the old one stood."""
    text = json.dumps(config, indent="\t")
    assert register(register(text, ELSEWHERE), OURS) == register(text, OURS)


@every_config
def test_prestart_replaces_create_runtime(config: object) -> None:
    """The two creation stages are never registered both."""
    both = ours(register(register(json.dumps(config), OURS), PRESTART))
    assert sorted(both) == ["poststart", "poststop", "prestart"]


@every_style
@every_config
def test_change_of_the_creation_stage_is_undone(config: object, written: Callable[[object], str]) -> None:
    """What the first registration replaced is still known after a second one with another stage."""
    text = written(config)
    assert unregister(register(register(text, PRESTART), OURS)) == text


def test_entry_in_the_middle_stays_there() -> None:
    """Hooks that others appended after ours keep their place."""
    config = json.loads(register(json.dumps(BARE), ELSEWHERE))
    config["hooks"]["poststart"] = [THEIRS, *config["hooks"]["poststart"], THEIRS]
    found = hooks(register(json.dumps(config), OURS))["poststart"]
    assert [is_ours(each) for each in found] == [False, True, False]


def test_repeated_entries_become_one() -> None:
    """A stage that has us twice gets us once."""
    config = json.loads(register(json.dumps(BARE), OURS))
    config["hooks"]["poststop"] *= 3
    assert len(hooks(register(json.dumps(config), OURS))["poststop"]) == 1


def test_unregister_leaves_what_was_added_since() -> None:
    """Hooks that others registered after us stay."""
    config = json.loads(register(json.dumps(BARE), OURS))
    config["hooks"]["poststop"].append(THEIRS)
    assert hooks(unregister(json.dumps(config))) == {"poststop": [THEIRS]}


def test_unregister_without_registration_changes_nothing() -> None:
    """Empty hooks that are not our doing stay."""
    text = '{ "hooks": { "poststop": [ ] } }'
    assert unregister(text) == text


def test_last_word_at_creation_and_first_at_the_stop() -> None:
    """Another's creation hook cannot overrule ours, and another's failing poststop cannot keep ours from running."""
    config = {"hooks": {stage: [THEIRS] for stage in OURS.stages}}
    found = hooks(register(json.dumps(config), OURS))
    places = {stage: [is_ours(each) for each in entries] for stage, entries in found.items()}
    assert places == {"createRuntime": [False, True], "poststart": [False, True], "poststop": [True, False]}


def test_indentation_is_the_file_s() -> None:
    """A file written by `runc spec` still looks like one."""
    text = register(json.dumps(BARE, indent="\t"), OURS)
    assert text == json.dumps(json.loads(text), indent="\t")


def test_what_a_parser_would_lose_stays() -> None:
    """Keys that stand twice and unusual spellings are not ours to tidy up."""
    text = '{"linux": {}, "linux": {"x": 1.50e1}, "\\u0061": "\\u003c\\/"}'
    assert register(text, OURS).startswith(text[:-1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "JSON|expecting value"),
        ("[]", "not an object"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1} {}', "something follows"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"hooks": []}', "its 'hooks' is not an object"),
        ('{"hooks": {"poststop": {}}}', "its 'hooks.poststop' is not a list"),
        ('{"hooks": {}, "hooks": {}}', "'hooks', 'hooks', which runtimes read differently"),
        ('{"Hooks": {}}', "'Hooks', which runtimes read differently"),
        ('{"hook\\u017f": {}}', "which runtimes read differently"),
        ('{"hooks": {"createRuntime": [], "CreateRuntime": []}}', "'CreateRuntime', which runtimes read differently"),
    ],
)
@pytest.mark.parametrize("edit", [lambda text: register(text, OURS), unregister], ids=["register", "unregister"])
def test_unusable_config_is_refused(edit: Callable[[str], str], text: str, reason: str) -> None:
    """A file that runtimes would not read in one way is not edited."""
    with pytest.raises(ValueError, match=reason):
        edit(text)


def test_reinstall_keeps_no_memory_that_is_not_ours() -> None:
    """What somebody wrote into our entry is not carried into the next one."""
    memory: dict[str, Any] = {"hooks": {}, "planted": 1}
    entry = {**ELSEWHERE.entry("poststop"), "ipcwarden.was": memory}
    text = register(json.dumps({"hooks": {"poststop": [entry]}}), OURS)
    assert hooks(text)["poststop"] == [{**OURS.entry("poststop"), "ipcwarden.was": {"hooks": {}}}]


@pytest.mark.parametrize("memory", [{"hooks": {"planted": 1}}, {"poststop": [1]}, {"poststop": False}, [], "x"])
def test_memory_that_is_not_ours_is_ignored(memory: object) -> None:
    """Nothing but null and empty values is ever restored from an entry."""
    entry = {**OURS.entry("poststop"), "ipcwarden.was": memory}
    assert json.loads(unregister(json.dumps({"a": 1, "hooks": {"poststop": [entry]}}))) == {"a": 1}


WANTED = {"linux": {"sysctl": {"kernel.shmmax": "5"}}, **BARE}
NATIVE = Registration("/", "/usr/bin/python3", native=True)


def by_wrapper(config: dict[str, Any]) -> str:
    """Write a config.json as a wrapper leaves it, which has run it once."""
    entries = {stage: NATIVE.entry(stage) for stage in NATIVE.stages}
    return json.dumps(amended(config, entries, Amendment({"kernel.shmmax": "7"}, msgqueue=1)))


@pytest.mark.parametrize("annotations", [{}, {"annotations": {"a": "b"}}], ids=["alone", "with others'"])
def test_amendment_of_a_wrapper_does_not_become_permanent(annotations: dict[str, Any]) -> None:
    """What is registered is the file as it was written: our entry, which knows that, is replaced."""
    config = {**WANTED, **annotations}
    once = json.loads(register(by_wrapper(config), OURS))
    assert {**once, "hooks": None} == {**config, "hooks": None}
    assert restored(once) == once
    assert ours(json.dumps(once)) == {stage: [OURS.entry(stage)] for stage in OURS.stages}


def test_uninstall_undoes_what_a_wrapper_has_changed() -> None:
    """With and without an install in between."""
    assert json.loads(unregister(by_wrapper(WANTED))) == WANTED
    assert json.loads(unregister(register(by_wrapper(WANTED), OURS))) == WANTED


def test_annotation_alone_tells_of_no_amendment() -> None:
    """Anybody can write one: without a wrapper's entry the file stays as it is."""
    text = register(json.dumps({**WANTED, "annotations": {REQUESTED: "{}"}}), OURS)
    assert register(text, OURS) == text
    assert REQUESTED in text


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_entries = st.none() | st.lists(_values, max_size=3)
_hooks = st.none() | st.dictionaries(st.sampled_from([*STAGES, "createContainer", "other"]), _entries, max_size=5)
_keys = st.text(max_size=6).filter(lambda key: key.casefold() != "hooks")


@st.composite
def _texts(draw: st.DrawFn) -> str:
    """Write some config.json in some style."""
    members = list(draw(st.dictionaries(_keys, _values, max_size=4)).items())
    for found in draw(st.lists(_hooks, max_size=1)):
        members.insert(draw(st.integers(0, len(members))), ("hooks", found))
    indent = draw(st.none() | st.integers(0, 3) | st.sampled_from(["\t", " \t"]))
    separators = draw(st.tuples(st.sampled_from([",", ", ", " , "]), st.sampled_from([":", ": ", " :\t"])))
    return json.dumps(dict(members), indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))


@given(text=_texts(), registration=st.sampled_from([OURS, ELSEWHERE, PRESTART]))
def test_any_config_survives(text: str, registration: Registration) -> None:
    """Registering keeps all else, is idempotent, and is undone to the byte."""
    once = register(text, registration)
    assert {**json.loads(text), "hooks": None} == {**json.loads(once), "hooks": None}
    assert sorted(ours(once)) == sorted(registration.stages)
    assert register(once, registration) == once
    assert unregister(once) == text
