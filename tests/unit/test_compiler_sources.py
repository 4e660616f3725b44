"""Sources are found in their order, and only root can have written them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipcwarden.compiler import check, load
from ipcwarden.compiler.sources import BUILT_IN, DROP_IN, IGNORED, MAIN, MAX_BYTES, SITE, installed, single
from ipcwarden.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY = "version: 1\nrules: [{name: r, profile: baseline}]\n"


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Make directories that only we can write, whoever runs the tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with a policy.yaml."""
    (tmp_path / "etc/ipcwarden/policy.d").mkdir(parents=True)
    (tmp_path / "usr/share/ipcwarden/profiles").mkdir(parents=True)
    write(tmp_path / "etc/ipcwarden/policy.yaml", POLICY)
    return tmp_path


def write(path: Path, text: str = "version: 1\n") -> None:
    """Write a file that nobody else can write."""
    path.write_text(text)
    path.chmod(0o644)


def test_sources_come_in_their_order(root: Path) -> None:
    """Built-in profiles, the site's, policy.yaml, drop-ins by the bytes of their names."""
    for name in ("b.yaml", "B.yaml", "10.yaml", "9.yaml", ".hidden.yaml", "x.yml", "README"):
        write(root / "etc/ipcwarden/policy.d" / name)
    write(root / "usr/share/ipcwarden/profiles/site.yaml")
    found = [(source.kind, Path(source.file).name) for source in installed(str(root))]
    assert found == [
        (BUILT_IN, "baseline.yaml"),
        (BUILT_IN, "restricted.yaml"),
        (SITE, "site.yaml"),
        (MAIN, "policy.yaml"),
        (DROP_IN, "10.yaml"),
        (DROP_IN, "9.yaml"),
        (DROP_IN, "B.yaml"),
        (DROP_IN, "b.yaml"),
        (IGNORED, "x.yml"),
    ]


def test_directories_may_be_missing(root: Path) -> None:
    """Only policy.yaml has to be there."""
    (root / "etc/ipcwarden/policy.d").rmdir()
    (root / "usr/share/ipcwarden/profiles").rmdir()
    assert [source.kind for source in installed(str(root))] == [BUILT_IN, BUILT_IN, MAIN]


def test_a_missing_policy_is_an_error_that_says_what_to_write(root: Path) -> None:
    """There is no policy to guess."""
    (root / "etc/ipcwarden/policy.yaml").unlink()
    with pytest.raises(PolicyError, match=r"there is no policy: '.*/etc/ipcwarden/policy.yaml' does not exist"):
        installed(str(root))


@pytest.mark.parametrize(
    "path",
    ["etc/ipcwarden/policy.yaml", "etc/ipcwarden/policy.d/a.yaml", "etc/ipcwarden", "etc/ipcwarden/policy.d", "etc"],
)
def test_what_others_can_write_is_not_trusted(root: Path, path: str) -> None:
    """Who can write the policy is root."""
    write(root / "etc/ipcwarden/policy.d/a.yaml")
    (root / path).chmod(0o777)
    with pytest.raises(PolicyError, match="others can write it"):
        installed(str(root))


def test_a_link_is_not_followed(root: Path) -> None:
    """A source is the file itself."""
    (root / "etc/ipcwarden/policy.d/a.yaml").symlink_to(root / "etc/ipcwarden/policy.yaml")
    with pytest.raises(PolicyError, match=r"cannot read '.*/a.yaml': too many levels of symbolic links"):
        installed(str(root))


def test_a_directory_is_no_source(root: Path) -> None:
    """Neither is anything else that is no regular file."""
    (root / "etc/ipcwarden/policy.d/a.yaml").mkdir()
    with pytest.raises(PolicyError, match="it is not a regular file"):
        installed(str(root))


def test_a_source_has_a_size_that_a_person_can_have_written(root: Path) -> None:
    """4 MiB are enough for anybody."""
    write(root / "etc/ipcwarden/policy.yaml", "#" * (MAX_BYTES + 1))
    for attempt in (lambda: installed(str(root)), lambda: [single(str(root / "etc/ipcwarden/policy.yaml"))]):
        with pytest.raises(PolicyError, match="it is larger than 4194304 bytes"):
            attempt()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("policy.d/x.yaml", DROP_IN), ("profiles/x.yaml", SITE), ("x.yaml", MAIN), ("policy.d/below/x.yaml", MAIN)],
)
def test_a_single_file_is_what_its_directory_says(tmp_path: Path, path: str, kind: str) -> None:
    """A drop-in is checked as one."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("")
    assert single(str(tmp_path / path)).kind == kind


@pytest.mark.parametrize("path", ["missing", "", "a\0b"])
def test_a_single_file_that_cannot_be_read_is_an_error(path: str) -> None:
    """Whatever is wrong with the path."""
    with pytest.raises(PolicyError, match="cannot read"):
        single(path)


def test_load_compiles_all_of_a_root(root: Path) -> None:
    """Drop-ins use the site's profiles, and this kernel's values are stored."""
    write(root / "usr/share/ipcwarden/profiles/s.yaml", "version: 1\nprofiles: {s: {extends: baseline}}\n")
    write(root / "etc/ipcwarden/policy.d/a.yaml", "version: 1\nrules: [{name: a, profile: s, when: {pod: x}}]\n")
    outcome = load(str(root))
    assert outcome.findings == ()
    assert outcome.policy is not None
    assert [rule.name for rule in outcome.policy.rules] == ["a", "r"]
    assert len(outcome.policy.kernel) == 16
    assert [Path(file).name for file in outcome.files] == ["s.yaml", "policy.yaml", "a.yaml"]


def test_check_compiles_one_file_with_the_sites_profiles(root: Path, tmp_path: Path) -> None:
    """What lies in /etc has no part in it."""
    write(root / "usr/share/ipcwarden/profiles/s.yaml", "version: 1\nprofiles: {s: {extends: baseline}}\n")
    file = tmp_path / "mine.yaml"
    write(file, "version: 1\nrules: [{name: r, profile: s}]\n")
    assert check(str(root), str(file)).findings == ()
