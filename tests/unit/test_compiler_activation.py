"""A policy is put in force whole, and the one before can come back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ipcwarden.compiler import activation
from ipcwarden.core.policy import Policy, Profile, Rule, pack
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from ipcwarden.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def test_another_kernel_makes_no_other_sources() -> None:
    """What is compiled on two kernels from the same sources says the same."""
    assert activation.same_sources(policy("a", "6.12"), policy("a", ""))
    assert not activation.same_sources(policy("a"), policy("b"))
