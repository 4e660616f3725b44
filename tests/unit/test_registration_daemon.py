"""Docker's daemon.json: our runtime in it, and out again, with everything else as it was."""

from __future__ import annotations

import json

import pytest

from ipcwarden.registration.daemon import (
    Default,
    Registered,
    data_root,
    default_of,
    register,
    registered,
    unregister,
    without_default,
)

WRAPPER = "/usr/libexec/ipcwarden/ipcwarden-runc"
OTHER = "/srv/usr/libexec/ipcwarden/ipcwarden-crun"
FILES = [
    None,
    "",
    "\n",
    "{}",
    "{ }\n",
    '{"log-driver": "journald"}',
    '{\n  "iptables": false,\n  "hosts": ["unix:///run/d.sock"]\n}\n',
    '{\r\n\t"a\\u0026b":1.0,\r\n\t"runtimes":{}\r\n}',
    '{"runtimes": null, "default-runtime": null}',
    '{"default-runtime":"runc","debug":true}',
    json.dumps({"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "/nv", "runtimeArgs": ["-d"]}}}, indent=4),
    '{"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}, "data-root": "/srv/docker"}',
]

every_file = pytest.mark.parametrize("text", FILES)
with_default_and_without = pytest.mark.parametrize("default", [True, False], ids=["default", "no default"])


@every_file
@with_default_and_without
def test_unregister_undoes_register(text: str | None, default: bool) -> None:
    """To the byte, or no file where there was none."""
    assert unregister(register(text, WRAPPER, default)) == text


@every_file
@with_default_and_without
def test_registering_twice_changes_nothing(text: str | None, default: bool) -> None:
    """The second one finds what it would write."""
    once = register(text, WRAPPER, default)
    assert register(once, WRAPPER, default) == once


@every_file
@with_default_and_without
def test_another_registration_replaces_ours(text: str | None, default: bool) -> None:
    """As if it had been the first one."""
    assert register(register(text, OTHER, not default), WRAPPER, default) == register(text, WRAPPER, default)


@every_file
@with_default_and_without
def test_all_else_stays(text: str | None, default: bool) -> None:
    """What dockerd reads is what it read, with our runtime."""
    before = json.loads(text if text and text.strip() else "{}")
    after = json.loads(register(text, WRAPPER, default))
    assert after["runtimes"].pop("ipcwarden")["path"] == WRAPPER
    assert after["runtimes"] == (before.pop("runtimes", None) or {})
    old = before.pop("default-runtime", None)
    assert after.pop("default-runtime", None) == ("ipcwarden" if default else old)
    assert {key: value for key, value in after.items() if key != "runtimes"} == before


@every_file
@with_default_and_without
def test_what_is_registered_is_found(text: str | None, default: bool) -> None:
    """The program, and whether it is the default."""
    assert text is None or registered(text) is None
    assert registered(register(text, WRAPPER, default)) == Registered(WRAPPER, default)


@every_file
def test_default_alone_can_be_given_up(text: str | None) -> None:
    """Containers that were made with our runtime keep it."""
    kept = without_default(register(text, WRAPPER, default=True))
    assert registered(kept) == Registered(WRAPPER, is_default=False)
    assert default_of(kept) == default_of(text or "")


def test_later_default_of_the_operator_s_stays() -> None:
    """What somebody chose after us is no registration of ours."""
    text = register('{"debug": true}', WRAPPER, default=True).replace('runtime": "ipcwarden"', 'runtime": "crun"')
    assert json.loads(unregister(text) or "") == {"debug": True, "default-runtime": "crun"}


def test_arguments_of_the_wrapped_runtime_are_kept() -> None:
    """Docker hands them to whatever the entry names."""
    after = json.loads(register(FILES[-2], WRAPPER, default=True, arguments=default_of(FILES[-2] or "").arguments))
    assert after["runtimes"]["ipcwarden"]["runtimeArgs"] == ["-d"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Default("runc", None)),
        ('{"default-runtime": ""}', Default("runc", None)),
        ('{"default-runtime": "io.containerd.runc.v2"}', Default("io.containerd.runc.v2", None)),
        (FILES[-2], Default("nvidia", "/nv", ("-d",))),
        (
            '{"default-runtime": "k", "runtimes": {"k": {"runtimeType": "io.containerd.kata.v2"}}}',
            Default("k", ""),
        ),
        ('{"default-runtime": "io.containerd.kata.v2"}', Default("io.containerd.kata.v2", "")),
    ],
)
def test_default_is_found(text: str, found: Default) -> None:
    """With its program, if it has one that is run as runc is."""
    assert default_of(text) == found


def test_data_root_is_found() -> None:
    """Where dockerd keeps what it knows of each container."""
    assert [data_root(""), data_root(FILES[-1] or "")] == ["/var/lib/docker", "/srv/docker"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "not an object"),
        ("{", "."),
        ('{"runtimes": []}', "'runtimes' is not an object"),
        ('{"default-runtime": 1}', "'default-runtime' is not a string"),
        ('{"Runtimes": {}}', "as 'Runtimes'"),
        ('{"default-runtime": "a", "default-runtime": "b"}', "read differently"),
        ('{"runtimes": {"ipcwarden": {"path": "/usr/bin/other"}}}', "none of ours"),
        ('{"runtimes": {"ipcwarden": null}}', "none of ours"),
    ],
)
def test_unusable_file_is_refused(text: str, reason: str) -> None:
    """Rather than made another one."""
    with pytest.raises(ValueError, match=reason):
        register(text, WRAPPER, default=True)
    with pytest.raises(ValueError, match=reason):
        unregister(text)
