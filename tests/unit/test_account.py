"""Whose places hooks and commands use: the host's, or those of an ordinary user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ipcwarden.files import is_private
from ipcwarden.host import account
from ipcwarden.layout import Place, Places, host_places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Look = Callable[..., Places]

USER = 4711


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Make a runtime directory."""
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def look() -> Look:
    """Ask where things lie for a user who has an environment, and to whom the host's root looks like `host`."""

    def look(environment: Mapping[str, str | Path], uid: int = USER, host: int = 0) -> Places:
        ours = {os.fsencode(name): os.fsencode(text) for name, text in environment.items()}
        return account.user_places("/", host, uid, ours)

    return look


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_roots_places() -> None:
    """Whoever owns the root directory has everything below it."""
    assert account.places_at("/") == host_places("/")


def test_places_below_a_root_of_ones_own(tmp_path: Path) -> None:
    """Everything is below a root directory that belongs to whoever runs us, root or not."""
    assert account.places_at(str(tmp_path)) == host_places(str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_root_below_a_directory_of_somebody_elses(tmp_path: Path) -> None:
    """Root stays root: what others may have written is refused, and not taken for a user's."""
    os.chown(tmp_path, USER, USER)
    assert account.places_at(str(tmp_path)) == host_places(str(tmp_path))


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    """What is missing is left to whoever opens it."""
    assert account.places_at(str(tmp_path / "no")) == host_places(str(tmp_path / "no"))


def test_a_users_places(look: Look, runtime: Path) -> None:
    """The ledger is in XDG_RUNTIME_DIR, log and policy in the home, and the host's policy comes first."""
    places = look({"XDG_RUNTIME_DIR": runtime, "HOME": "/h"}, host=65534)
    own = Place("/h", ".local/state/ipcwarden")
    assert places.policies == (Place("/", "var/lib/ipcwarden", (65534,)), own)
    assert (places.logs, places.run) == (own, Place(str(runtime), "ipcwarden"))
    assert places.rootless
    assert str(places.entries) == f"{runtime}/ipcwarden/containers"
    assert str(places.pins) == f"{runtime}/ipcwarden/pins"
    assert str(places.namespaces) == f"{runtime}/ipcwarden/namespaces"


def test_sources_are_the_users_own(look: Look) -> None:
    """A user's policy is written in XDG_CONFIG_HOME, by default ~/.config."""
    assert str(look({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}).sources) == "/c/ipcwarden"
    assert str(look({"HOME": "/h"}).sources) == "/h/.config/ipcwarden"


def test_state_is_in_the_home(look: Look) -> None:
    """XDG_STATE_HOME is not told to every hook, and so counts for none."""
    places = look({"HOME": "/h", "XDG_STATE_HOME": "/s"})
    assert str(places.logs) == str(places.policies[-1]) == "/h/.local/state/ipcwarden"


def test_without_a_home(look: Look) -> None:
    """Nobody guesses where a home is: then there is no log, and only the host's policy."""
    places = look({})
    assert places.logs.base == ""
    assert [place.base for place in places.policies] == ["/"]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o702, 0o770])
def test_a_runtime_directory_that_others_see_into(look: Look, runtime: Path, mode: int) -> None:
    """A directory that others can list or change is not used."""
    runtime.chmod(mode)
    assert look({"XDG_RUNTIME_DIR": runtime}).run.base == ""


def test_a_runtime_directory_that_others_pass_through(look: Look, runtime: Path) -> None:
    """podman with --uidmap adds the right to search, which takes nothing away."""
    runtime.chmod(0o711)
    assert look({"XDG_RUNTIME_DIR": runtime}).run.base == str(runtime)


@pytest.mark.parametrize("named", ["relative", "/no/such/directory", "/proc/self/status", ""])
def test_no_runtime_directory(look: Look, named: str) -> None:
    """What is no directory of the user's is not used."""
    assert look({"XDG_RUNTIME_DIR": named}).run.base == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_runtime_directory(look: Look, runtime: Path) -> None:
    """A directory of another user's is not used, whatever its mode."""
    os.chown(runtime, USER, USER)
    assert not is_private(str(runtime))
    assert look({"XDG_RUNTIME_DIR": runtime}).run.base == ""


@pytest.mark.parametrize(
    ("uid", "outside"), [(0, 1000), (1, 100000), (65536, 165535), (65537, 65534)], ids=["root", "1", "last", "unmapped"]
)
def test_ids_outside(monkeypatch: pytest.MonkeyPatch, uid: int, outside: int) -> None:
    """The map of a user namespace tells who somebody is outside of it."""
    monkeypatch.setattr(
        account, "read", lambda *_: b"         0       1000          1\n         1     100000      65536\n"
    )
    assert account.outer_uid(uid) == outside


def test_our_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, and hooks that got one, use their own environment."""
    monkeypatch.setattr(account.posix, "environ", {b"HOME": b"/h"})
    assert account.environment() == {b"HOME": b"/h"}


def test_our_parents_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook without an environment to speak of uses that of whoever started it."""
    monkeypatch.setattr(account.posix, "environ", {b"PATH": b"/bin"})
    known = account.environment()
    assert known[b"PATH"] == b"/bin"
    assert known[b"HOME"] == os.environb[b"HOME"]  # of pytest's own parent, or further above


def test_a_parent_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no parent to ask knows nothing."""
    monkeypatch.setattr(account.posix, "environ", {})
    monkeypatch.setattr(account.posix, "getppid", lambda: 0)
    assert account.environment() == {}
