"""What native doors write into config.json, and that they find again what stood there before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.amendment import NATIVE, REQUESTED, Amendment, amended, restored, runs_us
from ipcwarden.errors import StateError

if TYPE_CHECKING:
    from ipcwarden.core.documents import Document

HOOK = "/usr/libexec/ipcwarden/hook.py"


def ours(stage: str, *options: str) -> dict[str, Document]:
    """Return our entry of a stage."""
    return {"path": "/usr/bin/python3", "args": ["/usr/bin/python3", "-I", "-S", HOOK, *options, stage]}


ENTRIES = {stage: ours(stage, NATIVE) for stage in ("createRuntime", "poststart", "poststop")}
OTHER: dict[str, Document] = {"path": "/usr/bin/other"}
ASKED = {"kernel.shmmax": "5", "kernel/sem": "1 2 3 4", "net.ipv4.tcp_syncookies": "1"}


def config(**members: Any) -> dict[str, Any]:
    """Return a config.json that asks for something, and has more in it that is not ours."""
    return {"ociVersion": "1.0.2", "linux": {"sysctl": dict(ASKED), "resources": {}}, **members}


def amend(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Amend a config.json as a wrapper does."""
    return amended(document, ENTRIES, Amendment(**changes))


def test_replaces_what_is_asked_for() -> None:
    """All spellings of governed names go, what is to hold is written, and sysctls of others stay."""
    after = amend(config(), sysctls={"kernel.shmmax": "7"})
    assert after["linux"] == {"sysctl": {"net.ipv4.tcp_syncookies": "1", "kernel.shmmax": "7"}, "resources": {}}


def test_tells_what_was_asked_for() -> None:
    """The annotation has the governed part of the request, whatever an annotation of that name said."""
    after = amend(config(annotations={REQUESTED: "{}", "a": "b"}), sysctls={})
    assert json.loads(after["annotations"].pop(REQUESTED)) == {"kernel.shmmax": "5", "kernel/sem": "1 2 3 4"}
    assert after["annotations"] == {"a": "b"}


def test_leaves_a_request_that_is_refused() -> None:
    """Without values only hooks and the annotation are new."""
    after = amend(config())
    assert after["linux"] == config()["linux"]
    assert set(after) == {"ociVersion", "linux", "annotations", "hooks"}


def test_has_the_last_word_at_the_start_and_the_first_at_the_stop() -> None:
    """Our hooks stand behind others' at creation and before them at poststop, once, whatever stood there of ours."""
    hooks = {"prestart": [ours("prestart")], "createRuntime": [OTHER], "poststop": [OTHER, ours("poststop")]}
    after = amend(config(hooks=hooks))["hooks"]
    assert [runs_us(each) for each in after["createRuntime"]] == [False, True]
    assert [runs_us(each) for each in after["poststop"]] == [True, False]
    assert (after["prestart"], after["poststart"]) == ([], [ENTRIES["poststart"]])


def test_tells_the_hooks_that_are_there_already() -> None:
    """Without hooks of its own (precreate) those of hooks.d are told of the native door; poststop comes with them."""
    hooks: dict[str, Document] = {
        "prestart": [ours("prestart", "--root", "/r", NATIVE)],
        "poststart": [OTHER, ours("poststart", "--root", "/r")],
        "createRuntime": [{"path": HOOK}],
    }
    after: Any = amended(config(hooks=hooks), {}, Amendment())["hooks"]
    assert [each["args"][-4:] for each in after["prestart"]] == [["--root", "/r", NATIVE, "prestart"]]
    assert [each["args"][-4:] for each in after["poststop"]] == [["--root", "/r", NATIVE, "poststop"]]
    assert (after["poststart"][0], after["poststart"][1]["args"][-2:]) == (OTHER, [NATIVE, "poststart"])
    assert after["createRuntime"] == []


def test_adds_no_hook_where_none_of_ours_is() -> None:
    """Where nobody has registered hooks, precreate does not."""
    assert amended(config(), {}, Amendment())["hooks"] == {}


def test_lowers_the_limit_of_queues() -> None:
    """RLIMIT_MSGQUEUE is replaced, other limits stay."""
    core = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    rlimits = [{"type": "RLIMIT_MSGQUEUE", "soft": 9, "hard": 9}, core]
    after = amend(config(process={"rlimits": rlimits}), msgqueue=4)
    assert after["process"]["rlimits"] == [core, {"type": "RLIMIT_MSGQUEUE", "soft": 4, "hard": 4}]


def test_puts_another_filter_in_place() -> None:
    """linux.seccomp is what was decided."""
    assert amend(config(), seccomp={"defaultAction": "SCMP_ACT_ALLOW"})["linux"]["seccomp"] == {
        "defaultAction": "SCMP_ACT_ALLOW"
    }


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "sysctls": st.dictionaries(st.sampled_from(["kernel.shmmax", "kernel.sem"]), st.just("7")),
        "msgqueue": st.integers(0, 9),
        "seccomp": st.just({"defaultAction": "SCMP_ACT_ALLOW"}),
    },
)
CONFIGS = st.fixed_dictionaries(
    {"ociVersion": st.just("1.0.2")},
    optional={
        "linux": st.fixed_dictionaries({}, optional={"sysctl": st.just(ASKED), "seccomp": st.just({"a": 1})}),
        "process": st.fixed_dictionaries({}, optional={"rlimits": st.just([])}),
    },
)


@given(CONFIGS, CHANGES, CHANGES)
def test_a_bundle_that_runs_twice_is_decided_on_as_it_was_written(document: Any, first: Any, second: Any) -> None:
    """What one call has changed the next one takes back first, so that both come to the same."""
    again = amend(restored(amend(document, **first)), **second)
    for each in (again, fresh := amend(document, **second)):
        del each["hooks"]
    assert {key: each for key, each in again.items() if each} == {key: each for key, each in fresh.items() if each}


def test_what_somebody_has_changed_since_counts() -> None:
    """A bundle that is edited between two calls is taken as it is now."""
    once = amend(config(), sysctls={"kernel.shmmax": "7"})
    assert restored(once)["linux"] == config()["linux"]
    once["linux"]["sysctl"]["kernel.shmmax"] = "8"
    assert restored(once)["linux"]["sysctl"]["kernel.shmmax"] == "8"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"hooks": []}, "its 'hooks' is not an object"),
        ({"hooks": {"poststop": {}}}, "its 'hooks.poststop' is not a list"),
        ({"Hooks": {}}, "which runtimes read differently"),
        ({"Linux": {}}, "which runtimes read differently"),
    ],
)
def test_refuses_what_cannot_be_edited(document: Any, reason: str) -> None:
    """What runtimes would read differently, or not at all, is not written again."""
    with pytest.raises(StateError, match=reason):
        amended(restored(document), ENTRIES, Amendment())


@pytest.mark.parametrize("entry", [None, {}, {"args": "x"}, {"path": 5, "args": [5]}, OTHER])
def test_knows_whose_hook_it_is(entry: Document) -> None:
    """Only what runs our hook file is ours."""
    assert not runs_us(entry)
    assert runs_us(ours("poststop"))
