"""A plugin of pytest's that puts into --junitxml what the table needs: each test's engine, and which versions ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from matrix.features import known
from support.bundle import UNPACKED

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = ("runc", "crun", "podman", "dockerd", "containerd")
# What a test's fixtures tell of its engine where its parameters tell nothing.
FIXTURES = {"cri": "cri", "docker": "docker", "containerd": "ctr"}
_VERSION = re.compile(r"\d+(\.\d+)+")  # without what distributions add


@pytest.fixture(scope="session", autouse=True)
def _versions(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Record what each program says of itself."""
    if kernel := _VERSION.match(platform.release()):
        record_testsuite_property("kernel", kernel[0])
    record_testsuite_property("python", platform.python_version())
    record_testsuite_property("cgroups", "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1")
    for name, version in _programs().items():
        record_testsuite_property(name, version)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Record which engine a test is about, if it is about one."""
    if isinstance(item, pytest.Function) and item.path.parent.name == "e2e":
        params = item.callspec.params if hasattr(item, "callspec") else {}
        engines = [params.get("engine"), *(FIXTURES[name] for name in FIXTURES if name in item.fixturenames)]
        if engine := next((each for each in engines if isinstance(each, str)), None):
            item.user_properties.append(("engine", engine))
            if reason := known(f"{item.module.__name__.rpartition('.')[2]}::{item.name}", engine, _programs()):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@cache
def _programs() -> dict[str, str]:
    return {name: version for name in PROGRAMS if (version := _version(name))}


def _version(program: str) -> str | None:
    """Ask a program for its version, installed or unpacked by `make setup`; the first number that it tells is it."""
    path = os.pathsep.join([os.environ["PATH"], *(f"{UNPACKED}/usr/{directory}" for directory in ("bin", "sbin"))])
    try:
        command = ["env", f"PATH={path}", program, "--version"]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30).stdout
    except subprocess.CalledProcessError:
        return None
    found = _VERSION.search(said)
    return found[0] if found else None
