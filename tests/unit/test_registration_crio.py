"""CRI-O's drop-in: a runtime like the default one, with our wrapper for its program."""

from __future__ import annotations

import pytest

from ipcwarden.registration.crio import Default, default_of, document, overrides, registered
from ipcwarden.registration.tables import parse

WRAPPER = "/usr/libexec/ipcwarden/ipcwarden-crun"
# As CRI-O's own packages write it to 10-crio.conf, shortened.
PACKAGED = """\
[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = [
    "io.containers.trace-syscall",
]
"""


def test_handler_is_like_the_default_one() -> None:
    """But for its program; containers stay where the runtime looks for them."""
    after = parse(document(WRAPPER, None, default_of([PACKAGED]), "crun"))["crio"]["runtime"]
    assert after["default_runtime"] == "ipcwarden"
    assert after["runtimes"] == {
        "ipcwarden": {
            "runtime_type": "oci",
            "runtime_root": "/run/crun",
            "monitor_path": "/usr/libexec/crio/conmon",
            "allowed_annotations": ["io.containers.trace-syscall"],
            "runtime_path": WRAPPER,
        }
    }


def test_named_handler_leaves_the_default_alone() -> None:
    """For a RuntimeClass."""
    after = parse(document(WRAPPER, "warden", default_of([]), "crun"))["crio"]["runtime"]
    assert after == {
        "runtimes": {"warden": {"runtime_type": "oci", "runtime_root": "/run/crun", "runtime_path": WRAPPER}}
    }


def test_last_word_about_the_default_counts() -> None:
    """And members are gathered from all files."""
    more = '[crio.runtime.runtimes.runc]\nruntime_path = "/a"\nruntime_root = "/r"\n'
    last = '[crio.runtime]\ndefault_runtime = "runc"\n[crio.runtime.runtimes.runc]\nruntime_path = "/b"\n'
    found = default_of([more, PACKAGED, last])
    assert found == Default("runc", {"runtime_path": "/b", "runtime_root": "/r"})
    assert found.path == "/b"


def test_without_any_file_cri_o_decides() -> None:
    """Its default is another one in each version."""
    assert default_of(["", "[crio]\n"]) == Default("", {})
    assert default_of([]).path == ""


def test_default_that_runs_no_program_is_refused() -> None:
    """A wrapper cannot stand before it."""
    with pytest.raises(ValueError, match="'kata' is of type 'vm'"):
        default_of(['[crio.runtime]\ndefault_runtime = "kata"\n[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n'])


@pytest.mark.parametrize("handler", [None, "warden"])
def test_what_is_registered_is_found(handler: str | None) -> None:
    """By the program."""
    assert registered(document(WRAPPER, handler, default_of([]), "crun")) == {handler or "ipcwarden": WRAPPER}
    assert registered(PACKAGED) == {}


@pytest.mark.parametrize(
    ("text", "handler", "overridden"),
    [
        (PACKAGED, None, True),
        (PACKAGED, "warden", False),
        (PACKAGED, "crun", True),
        ("[crio.image]\n", None, False),
        ("[crio.runtime.runtimes.ipcwarden]\n", None, True),
    ],
)
def test_file_with_the_last_word_is_known(text: str, handler: str | None, overridden: bool) -> None:
    """What it says of the default counts only where we say something of it."""
    assert overrides(text, handler) == overridden
