"""The wheel and the sdist have all that an installation needs, and work where there is no checkout."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.shell import REPOSITORY, run

if TYPE_CHECKING:
    from pathlib import Path

SCHEMAS = sorted(path.name for path in (REPOSITORY / "schemas").iterdir())
POLICY = "version: 1\nrules:\n  - {name: everything, profile: restricted}\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel and an sdist of the checkout."""
    directory = tmp_path_factory.mktemp("dist")
    run("env", "-C", REPOSITORY, sys.executable, "-m", "hatchling", "build", "-d", directory, timeout=120).check()
    return directory


def test_wheel_has_schemas_and_profiles(built: Path) -> None:
    """The wheel has every schema and the built-in profiles as package data, once each."""
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sorted(n.rpartition("/")[2] for n in names if n.startswith("ipcwarden/schemas/")) == SCHEMAS
    assert {n for n in names if n.startswith("ipcwarden/profiles/")} == {
        "ipcwarden/profiles/baseline.yaml",
        "ipcwarden/profiles/restricted.yaml",
    }


def test_sdist_has_what_it_is_built_from(built: Path) -> None:
    """The sdist has the sources, the schemas, the tests and the licence."""
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "LICENSE", "README.md", "Makefile", "hooks/ipcwarden/hook.py", "tests/demo.py"}
    assert wanted | {f"schemas/{name}" for name in SCHEMAS} <= names


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_installed_without_a_checkout(built: Path, scratch: Path, kind: str) -> None:
    """Installed from either, `check`, `compile` and `install bundle` work: schemas and the hook's sources are found."""
    [file] = built.glob(kind)
    target = scratch / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target]
    run(*pip, file, timeout=120).check()
    root, bundle = scratch / "root", scratch / "bundle"
    (root / "etc" / "ipcwarden").mkdir(parents=True)
    (root / "etc" / "ipcwarden" / "policy.yaml").write_text(POLICY, encoding="utf-8")
    bundle.mkdir()
    (bundle / "config.json").write_text("{}", encoding="utf-8")
    program = f"import sys; sys.path.insert(0, {str(target)!r}); from ipcwarden.cli import main; main()"
    for verb in (["check", "--strict"], ["compile"], ["install", "bundle", bundle]):
        said = run(sys.executable, "-I", "-c", program, "--root", root, *verb).check()
        assert str(REPOSITORY) not in said.stdout
    assert (root / "usr" / "libexec" / "ipcwarden" / "_ipcwarden_create.py").stat().st_size > 10000
