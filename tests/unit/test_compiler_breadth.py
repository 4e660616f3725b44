"""An image of anybody's that gets more than the rest is a warning."""

from __future__ import annotations

import pytest

from ipcwarden.compiler import Outcome, compile_sources
from ipcwarden.compiler.sources import MAIN, Source, built_in
from ipcwarden.core.sysctls import KERNEL_DEFAULTS

USUAL = "{kernel.shmmax: 1MiB, kernel.msgmni: {max: 10}, kernel.shmall: {max: 50% of memory}}"


def compiled(profiles: str, when: str, profile: str = "wide", usual: str = "usual") -> Outcome:
    """Compile a rule with these conditions before one that takes everything."""
    text = f"""\
version: 1
profiles:
  usual: {{sysctls: {USUAL}}}
  {profiles}
rules:
  - {{name: r, profile: {profile}, when: {when}}}
  - {{name: all, profile: {usual}}}
"""
    return compile_sources([*built_in(), Source(MAIN, "f", text.encode())], KERNEL_DEFAULTS, "", 4096)


def warned(profiles: str, when: str, profile: str = "wide", usual: str = "usual") -> list[str]:
    """Return the warnings of such a policy."""
    outcome = compiled(profiles, when, profile, usual)
    assert outcome.policy is not None
    return [str(finding) for finding in outcome.findings]


def test_an_image_of_any_registry_that_gets_more_is_a_warning() -> None:
    """Told at the glob, with what it is more of, and than what."""
    wide = "wide: {extends: usual, sysctls: {kernel.shmmax: 2MiB}}"
    found = warned(wide, "{image: [registry.example/x, '*/pg*']}")
    more = "profile 'wide' allows more kernel.shmmax than 'usual', which they would get without"
    hint = "write the registry out, such as 'registry.example/*'"
    place = "f:6:65: warning: rules[0].when.image[1]"
    assert found == [f"{place}: '*/pg*' takes images of any registry, and {more} ({hint})"]


@pytest.mark.parametrize(
    ("sysctls", "more"),
    [
        ("{kernel.shmmax: 2MiB}", "kernel.shmmax"),
        ("{kernel.shmmax: {max: 2MiB}}", "kernel.shmmax"),
        ("{kernel.shmmax: kernel}", "kernel.shmmax"),
        ("{kernel.shmmax: {default: 1}}", "kernel.shmmax"),
        ("{kernel.shmmax: null}", "kernel.shmmax"),
        ("{kernel.msgmni: {max: 11}}", "kernel.msgmni"),
        ("{kernel.shmall: {max: 51% of memory}}", "kernel.shmall"),
        ("{kernel.shmall: {max: {of_limit: 50%, of_host: 51%}}}", "kernel.shmall"),
        ("{kernel.shmall: {max: 1GiB}}", "kernel.shmall"),
    ],
)
def test_more_is_more_for_some_container(sysctls: str, more: str) -> None:
    """As a number, a share of memory, or because nothing bounds it."""
    found = warned(f"wide: {{extends: usual, sysctls: {sysctls}}}", "{image: '*'}")
    assert [f"allows more {more} than 'usual'" in each for each in found] == [True]


@pytest.mark.parametrize(
    "profile",
    [
        "{extends: usual}",
        "{extends: usual, sysctls: {kernel.shmmax: 1}}",
        "{extends: usual, sysctls: {kernel.shmmax: {default: 1, max: 1MiB}}}",
        "{extends: usual, sysctls: {kernel.shmall: {max: 49% of memory}}}",
        "{extends: usual, sysctls: {kernel.shmall: {max: 4096}}}",
        "{extends: usual, sysctls: {kernel.shm_rmid_forced: 1}}",
        "{extends: usual, unlisted: refuse}",
    ],
)
def test_what_is_no_more_is_no_warning(profile: str) -> None:
    """Anybody may have less."""
    assert warned(f"wide: {profile}", "{image: '*/x'}") == []


def test_what_may_not_be_requested_is_the_kernels() -> None:
    """A profile that refuses what it does not list is narrower than one that leaves it to the runtime."""
    usual = "strict: {extends: usual, unlisted: refuse}\n  wide: {extends: usual}"
    assert ["allows more kernel.shmmni" in each for each in warned(usual, "{image: '*/x'}", usual="strict")] == [True]


@pytest.mark.parametrize(
    ("image", "loose"),
    [
        ("'*'", True),
        ("'*/postgres:*'", True),
        ("'?egistry.example/x'", True),
        ("postgres*", True),
        ("registry.example*/x", True),
        ("registry.*/x", True),
        ("registry.example/*", False),
        ("registry.example/*/postgres:*", False),
        ("registry.example:5000/x*", False),
        ("postgres:*", False),
        ("postgres@*", False),
        ("postgres", False),
    ],
)
def test_what_names_no_registry(image: str, loose: bool) -> None:
    """A wildcard stands before the first slash, and not for a tag."""
    assert bool(warned("wide: {}", f"{{image: {image}}}")) is loose


@pytest.mark.parametrize("when", ["{not: {image: '*/x'}}", "{name: '*'}", "{engine: '*'}"])
def test_what_excludes_images_or_is_none_is_no_matter(when: str) -> None:
    """It hands nothing out by an image's name."""
    assert warned("wide: {}", when) == []


def test_every_profile_that_can_be_picked_counts() -> None:
    """Whoever builds an image may set annotations, too."""
    chosen = "{annotation: a, among: [usual, wide], else: usual}"
    assert len(warned("wide: {}", "{image: '*/x'}", chosen)) == 1
    assert warned("wide: {}", "{image: '*/x'}", "{annotation: a, among: [usual], else: usual}") == []


def test_without_a_rule_for_the_rest_nothing_is_more() -> None:
    """They would get no limits at all."""
    text = b"version: 1\nrules: [{name: r, profile: baseline, when: {image: '*/x'}}]\n"
    assert compile_sources([*built_in(), Source(MAIN, "f", text)], KERNEL_DEFAULTS, "", 4096).findings == ()
