"""containerd's config.toml: our wrapper in it, and out again, with everything else as it was."""

from __future__ import annotations

import pytest

from ipcwarden.registration.containerd import (
    Handler,
    default_name,
    default_of,
    imports,
    overrides,
    register,
    registered,
    unregister,
    version_of,
)
from ipcwarden.registration.tables import parse

WRAPPER = "/usr/libexec/ipcwarden/ipcwarden-runc"
OTHER = "/srv/usr/libexec/ipcwarden/ipcwarden-crun"
CRI2, CRI3 = '[plugins."io.containerd.grpc.v1.cri"', "[plugins.'io.containerd.cri.v1.runtime'"
CRUN = f"""\
# ours
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.zfs"]
{CRI2}.containerd]
  default_runtime_name = "crun"  # since May
  {CRI2}.containerd.default_runtime]
    runtime_type = ""
  {CRI2}.containerd.runtimes.crun]
    runtime_type = "io.containerd.runc.v2"
    pod_annotations = ["x/*", "y"]
    privileged_without_host_devices = false
    {CRI2}.containerd.runtimes.crun.options]
      BinaryName = "/usr/bin/crun" # fast
      SystemdCgroup = true
[proxy_plugins]
"""
FILES = {
    "none": None,
    "empty": "",
    "comments": "# nothing\n",
    "no CRI": 'version = 2\nroot = "/srv"',
    "2": f'version = 2\n{CRI2}]\n  sandbox_image = "x"\n',
    "2 with runc": f'version = 2\n{CRI2}.containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n',
    "2 with options": f"version = 2\n{CRI2}.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n",
    "2 with crun": CRUN,
    "2 of Windows' editors": CRUN.replace("\n", "\r\n"),
    "3": f"version = 3\n\n{CRI3}.containerd.runtimes.runc.options]\n  BinaryName = ''\n",
    "4": "version = 4\n",
}
HANDLERS = [None, "ipcwarden"]

every_file = pytest.mark.parametrize("text", FILES.values(), ids=FILES)
as_default_and_beside = pytest.mark.parametrize("handler", HANDLERS, ids=["default", "handler"])


@every_file
@as_default_and_beside
def test_unregister_undoes_register(text: str | None, handler: str | None) -> None:
    """To the byte, or no file where there was none."""
    assert unregister(register(text, WRAPPER, handler, 2)) == text


@every_file
@as_default_and_beside
def test_registering_twice_changes_nothing(text: str | None, handler: str | None) -> None:
    """The second one finds what it would write."""
    once = register(text, WRAPPER, handler, 3)
    assert register(once, WRAPPER, handler, 3) == once


@every_file
@as_default_and_beside
def test_another_registration_replaces_ours(text: str | None, handler: str | None) -> None:
    """As if it had been the first one."""
    before = register(text, OTHER, "other" if handler is None else None, 2)
    assert register(before, WRAPPER, handler, 2) == register(text, WRAPPER, handler, 2)


@every_file
def test_default_handler_runs_the_wrapper(text: str | None) -> None:
    """Whatever its name is."""
    after = register(text, WRAPPER, None, 2)
    assert registered(after) == [Handler(default_name(after), WRAPPER)]


@every_file
def test_handler_stands_beside_the_default(text: str | None) -> None:
    """Which is as it was, and there."""
    after = register(text, WRAPPER, "warden", 3)
    assert registered(after) == [Handler("warden", WRAPPER)]
    assert default_of(after) == default_of(text)
    runtimes = next(iter(parse(after)["plugins"].values()))["containerd"]["runtimes"]
    assert default_name(after) in runtimes


@every_file
@as_default_and_beside
def test_lines_of_others_stay(text: str | None, handler: str | None) -> None:
    """In their order; what is changed are values of ours."""
    after = register(text, WRAPPER, handler, 2).splitlines()
    before = [line for line in (text or "").splitlines() if "BinaryName" not in line]
    assert [line for line in after if line in before and line.strip()] == [line for line in before if line.strip()]


def test_handler_is_like_the_default() -> None:
    """But for the program."""
    runtimes = parse(register(CRUN, WRAPPER, "warden", 2))["plugins"]["io.containerd.grpc.v1.cri"]["containerd"][
        "runtimes"
    ]
    assert runtimes["warden"]["options"].pop("BinaryName") == WRAPPER
    assert runtimes["crun"]["options"].pop("BinaryName") == "/usr/bin/crun"
    assert runtimes["warden"] == runtimes["crun"]


def test_program_of_the_default_is_found_behind_ours() -> None:
    """It is what a second install wraps."""
    assert default_of(register(CRUN, WRAPPER, None, 2)) == default_of(CRUN) == Handler("crun", "/usr/bin/crun")


@pytest.mark.parametrize("version", [2, 3])
def test_new_file_has_the_version_that_is_asked_for(version: int) -> None:
    """And only the newer one names the directory that containerd 2.2 would have read without it."""
    after = register(None, WRAPPER, None, version)
    assert version_of(after) == version
    assert imports(after) == (["conf.d/*.toml"] if version == 3 else [])


@pytest.mark.parametrize(
    ("text", "version", "overridden"),
    [
        ('[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "x"', 2, True),
        ('[plugins."io.containerd.cri.v1.images"]\nsnapshotter = "x"', 3, False),
        ('[plugins."io.containerd.cri.v1.runtime".containerd]\nx = 1', 3, True),
        ('[plugins."io.containerd.cri.v1.runtime".cni]\nx = 1', 3, False),
        ("[proxy_plugins]", 2, False),
    ],
)
def test_imported_file_that_overrides_is_known(text: str, version: int, overridden: bool) -> None:
    """containerd 1 takes a plugin's section whole from the last file, 2 merges them."""
    assert overrides(text, version) == overridden


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "."),
        ('root = "/x"', "it has no version"),
        ("version = 1", "it has version 1"),
        ("version = 5", "it has version 5"),
        ("version = [2]", "it has version"),
        ('version = 2\ndisabled_plugins = ["cri"]', "disabled_plugins has the CRI plugin"),
        ('disabled_plugins = ["cri"]', "disabled_plugins has the CRI plugin"),
        (f'version = 2\n{CRI2}.containerd.default_runtime]\nruntime_type = "x"', "default_runtime_name"),
        (f'version = 2\n{CRI2}.containerd.runtimes.runc]\nruntime_type = "io.containerd.kata.v2"', "kata.v2"),
        (f"version = 2\n{CRI2}.containerd]\nruntimes = 1", "runtimes' is not a table"),
        (f"version = 2\n{CRI2}.containerd]\nruntimes = {{runc = {{}}}}", "by hand"),
        (f'version = 3\n{CRI3}.containerd.runtimes.runc.options]\nBinaryName = "{WRAPPER}"', "put back the BinaryName"),
    ],
)
def test_unusable_file_is_refused(text: str, reason: str) -> None:
    """Rather than made another one."""
    with pytest.raises(ValueError, match=reason):
        register(text, WRAPPER, None, 2)


def test_handler_of_others_is_refused() -> None:
    """It is not ours to change."""
    with pytest.raises(ValueError, match="a handler 'crun' that is none of ours"):
        register(CRUN, WRAPPER, "crun", 2)


@pytest.mark.parametrize("text", ["version = 1", 'disabled_plugins = ["cri"]', "broken", "[plugins.cri]\n"])
def test_file_without_us_is_not_judged(text: str) -> None:
    """There is nothing to take out, whatever else is wrong with it."""
    assert unregister(text) == text
