"""A policy is put in force whole, and the one before can come back."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from ipcwarden.compiler import activation
from ipcwarden.compiler.changes import changes
from ipcwarden.core.policy import Choice, Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What ipcwarden's first version stored of `policy("a")`.
VERSION_1 = base64.b64decode(
    b"aXBjd2FyZGVuIHBvbGljeSAxIDYyMDQwMjAwNzdlNDBhMjgyODZjMmIzN2E0ZmI2MmZjCigGAAAAdQkAAABlbmZvcmNpbmd1BAAAADYu"
    b"MTh7dQ0AAABrZXJuZWwuc2htYWxsbAUAAAD/f/99/3//fw8AdQ0AAABrZXJuZWwuc2htbWF4bAUAAAD/f/99/3//fw8AdQ0AAABrZXJu"
    b"ZWwuc2htbW5paQAQAAB1FgAAAGtlcm5lbC5zaG1fcm1pZF9mb3JjZWRpAAAAAHURAAAAa2VybmVsLnNlbS5zZW1tc2xpAH0AAHURAAAA"
    b"a2VybmVsLnNlbS5zZW1tbnNpAAAJPXURAAAAa2VybmVsLnNlbS5zZW1vcG1p9AEAAHURAAAAa2VybmVsLnNlbS5zZW1tbmlpAH0AAHUN"
    b"AAAAa2VybmVsLm1zZ21heGkAIAAAdQ0AAABrZXJuZWwubXNnbW5iaQBAAAB1DQAAAGtlcm5lbC5tc2dtbmlpAH0AAHUUAAAAZnMubXF1"
    b"ZXVlLnF1ZXVlc19tYXhpAAEAAHURAAAAZnMubXF1ZXVlLm1zZ19tYXhpCgAAAHUVAAAAZnMubXF1ZXVlLm1zZ19kZWZhdWx0aQoAAAB1"
    b"FQAAAGZzLm1xdWV1ZS5tc2dzaXplX21heGkAIAAAdRkAAABmcy5tcXVldWUubXNnc2l6ZV9kZWZhdWx0aQAgAAAwKAEAAAAoBAAAAHUB"
    b"AAAAYSgAAAAAaQAAAAB1CQAAAGVuZm9yY2luZygBAAAAczwAAAAoBwAAAHUBAAAAcHswdQYAAAByZWZ1c2V1BQAAAGF1ZGl0dQYAAABy"
    b"ZXBvcnR1BQAAAGFsbG93dQAAAABG"
)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Make directories that only we can write, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def policy(name: str, release: str = "6.18") -> Policy:
    """Return a policy of one rule."""
    return Policy("enforcing", release, KERNEL_DEFAULTS, (Rule(name, (), 0, "enforcing"),), (Profile("p", {}),))


def name_in_force(root: Path) -> str | None:
    """Return the name of the only rule in force."""
    found = activation.in_force(str(root))
    return found.rules[0].name if found else None


def state(root: Path) -> Path:
    """Return where the policy in force lies."""
    return root / "var/lib/ipcwarden"


def test_nothing_is_in_force_at_first(tmp_path: Path) -> None:
    """Neither without the directory nor without the file."""
    assert activation.in_force(str(tmp_path)) is None
    state(tmp_path).mkdir(parents=True)
    assert activation.in_force(str(tmp_path)) is None


def test_activates(tmp_path: Path) -> None:
    """The file and its directory can be read by everybody, whatever the umask, and written by root alone."""
    os.umask(0o077)
    done = activation.activate(str(tmp_path), policy("a"))
    assert (done.old, done.changed, done.new.rules[0].name) == (None, True, "a")
    assert len(done.new.digest) == 32
    assert name_in_force(tmp_path) == "a"
    assert state(tmp_path).stat().st_mode & 0o777 == 0o755
    assert (state(tmp_path) / "policy.compiled").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in state(tmp_path).iterdir()] == ["policy.compiled"]


def test_keeps_the_one_before(tmp_path: Path) -> None:
    """Only where it differs."""
    for name in ("a", "b", "b"):
        done = activation.activate(str(tmp_path), policy(name))
    assert not done.changed
    assert (state(tmp_path) / "policy.previous").read_bytes() == pack(policy("a"))
    assert name_in_force(tmp_path) == "b"


def test_rolls_back_and_forth(tmp_path: Path) -> None:
    """Rolling back twice changes nothing."""
    for name in ("a", "b"):
        activation.activate(str(tmp_path), policy(name))
    done = activation.roll_back(str(tmp_path))
    assert done.old is not None
    assert (done.old.rules[0].name, done.new.rules[0].name, name_in_force(tmp_path)) == ("b", "a", "a")
    activation.roll_back(str(tmp_path))
    assert name_in_force(tmp_path) == "b"


def test_there_may_be_nothing_to_roll_back_to(tmp_path: Path) -> None:
    """The policy in force stays."""
    activation.activate(str(tmp_path), policy("a"))
    with pytest.raises(PolicyError, match="there is no previous policy"):
        activation.roll_back(str(tmp_path))
    assert name_in_force(tmp_path) == "a"


@pytest.mark.parametrize("damage", [b"", b"ipcwarden policy 9 x\n", pack(policy("x"))[:-1] + b"?"])
def test_a_damaged_policy_is_replaced_and_never_kept(tmp_path: Path, damage: bytes) -> None:
    """Nothing can be done with it, so that it must not come back."""
    activation.activate(str(tmp_path), policy("a"))
    (state(tmp_path) / "policy.compiled").write_bytes(damage)
    with pytest.raises(PolicyError, match=r"cannot use '.*/policy.compiled'.*\(run ipcwarden compile\)"):
        activation.in_force(str(tmp_path))
    assert activation.activate(str(tmp_path), policy("b")).old is None
    assert [path.name for path in state(tmp_path).iterdir()] == ["policy.compiled"]


def test_rolls_back_from_a_damaged_policy(tmp_path: Path) -> None:
    """What cannot be used is not kept for another time."""
    for name in ("a", "b"):
        activation.activate(str(tmp_path), policy(name))
    (state(tmp_path) / "policy.compiled").write_bytes(b"")
    assert activation.roll_back(str(tmp_path)).old is None
    assert name_in_force(tmp_path) == "a"


def test_a_damaged_previous_policy_does_not_come_back(tmp_path: Path) -> None:
    """The policy in force stays."""
    activation.activate(str(tmp_path), policy("a"))
    (state(tmp_path) / "policy.previous").write_bytes(b"x")
    with pytest.raises(PolicyError, match=r"cannot use '.*/policy.previous': its format is unknown"):
        activation.roll_back(str(tmp_path))
    assert name_in_force(tmp_path) == "a"


def test_what_others_can_write_is_not_in_force(tmp_path: Path) -> None:
    """Neither the file nor its directory."""
    activation.activate(str(tmp_path), policy("a"))
    (state(tmp_path) / "policy.compiled").chmod(0o666)
    with pytest.raises(PolicyError, match="others can write it"):
        activation.in_force(str(tmp_path))
    state(tmp_path).chmod(0o777)
    with pytest.raises(PolicyError, match="others can write it"):
        activation.activate(str(tmp_path), policy("b"))


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A directory in the file's place, for one."""
    (state(tmp_path) / "policy.compiled").mkdir(parents=True)
    with pytest.raises(PolicyError, match=r"cannot write '.*/policy.compiled'"):
        activation.activate(str(tmp_path), policy("b"))


def test_a_policy_of_the_version_before_stays_in_force(tmp_path: Path) -> None:
    """An upgrade changes nothing until somebody compiles, and can be rolled back to."""
    state(tmp_path).mkdir(parents=True, mode=0o755)
    (state(tmp_path) / "policy.compiled").write_bytes(VERSION_1)
    found = activation.in_force(str(tmp_path))
    assert found is not None
    assert activation.same_sources(found, policy("a"))
    assert not activation.same_sources(found, policy("b"))
    done = activation.activate(str(tmp_path), policy("b"))
    assert done.old is not None
    assert done.old.digest == found.digest
    assert (state(tmp_path) / "policy.previous").read_bytes() == VERSION_1
    activation.roll_back(str(tmp_path))
    assert name_in_force(tmp_path) == "a"


def test_trusting_another_annotation_makes_other_sources() -> None:
    """Rules and profiles may be the same."""
    one = policy("a")
    other = Policy(one.mode, one.release, one.kernel, one.rules, one.profiles, trust_annotations=("k",))
    assert not activation.same_sources(one, other)
    assert changes(one, other)["trust_annotations"] == {"added": ["k"], "removed": [], "changed": [], "omitted": 0}
    assert changes(other, one)["trust_annotations"] == {"added": [], "removed": ["k"], "changed": [], "omitted": 0}
    assert "trust_annotations" not in changes(other, other)
    assert "trust_annotations" not in changes(None, one)


def test_the_time_after_which_pins_are_stale_is_a_change() -> None:
    """As the mode is; not where it is the default before and after."""
    one = policy("a")
    other = Policy(one.mode, one.release, one.kernel, one.rules, one.profiles, stale_pins=60)
    assert not activation.same_sources(one, other)
    assert changes(one, other)["stale_pins"] == {"old": 600, "new": 60}
    assert changes(None, other)["stale_pins"] == {"old": None, "new": 60}
    assert "stale_pins" not in {**changes(other, other), **changes(None, one)}


def test_what_a_rule_offers_is_told_by_name() -> None:
    """Where other rules use other profiles, an offer is the same; with another list or key it is not."""

    def offering(profile: int | Choice, *names: str) -> Policy:
        rules = (Rule("r", (), profile, "enforcing"),)
        return Policy("enforcing", "", KERNEL_DEFAULTS, rules, tuple(Profile(name, {}) for name in names))

    def changed(one: Policy, other: Policy) -> object:
        found = changes(one, other)["rules"]
        assert isinstance(found, dict)
        return found["changed"]

    before = offering(Choice("k", {"p": 0}, 1), "p", "q")
    assert changed(before, offering(Choice("k", {"p": 1}, 0), "q", "p")) == []
    assert changed(before, offering(Choice("x", {"p": 0}, 1), "p", "q")) == ["r"]
    assert changed(before, offering(Choice("k", {"q": 1}, 0), "p", "q")) == ["r"]
    assert changed(before, offering(1, "p", "q")) == ["r"]


def test_another_kernel_makes_no_other_sources() -> None:
    """What is compiled on two kernels from the same sources says the same."""
    assert activation.same_sources(policy("a", "6.12"), policy("a", ""))
    assert not activation.same_sources(policy("a"), policy("b"))
