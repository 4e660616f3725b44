"""The reference of the language says what the compiler does."""

from __future__ import annotations

import pytest

from ipcwarden.compiler import compile_sources
from ipcwarden.compiler.engines import KNOWN, RUNTIMES
from ipcwarden.compiler.schema import validator
from ipcwarden.compiler.sources import MAIN, Source
from ipcwarden.core.policy import Profile
from ipcwarden.core.sysctls import KERNEL_DEFAULTS
from support import documents

TEXT = documents.read("docs/policy.md")
EXAMPLES = documents.policies("docs/policy.md")


def test_there_are_examples() -> None:
    """Some of them with what check says of them."""
    assert len(EXAMPLES) >= 5
    assert any(findings for _, findings in EXAMPLES)


@pytest.mark.parametrize(("policy", "findings"), EXAMPLES)
def test_an_example_does_what_it_says(policy: str, findings: str) -> None:
    """It compiles without a finding, or gives those that stand behind it."""
    assert documents.findings(policy) == findings.splitlines()


def test_inheritance_comes_to_what_the_comments_say() -> None:
    """The example of inheritance shows the results."""
    policy = next(policy for policy, _ in EXAMPLES if "child:" in policy)
    found = compile_sources([Source(MAIN, "f", policy.encode())], KERNEL_DEFAULTS, "", 4096).policy
    assert found is not None
    child = found.profiles[0]
    assert isinstance(child, Profile)
    assert child.on_violation == "clamp"
    assert child.sysctls == {
        "kernel.msgmax": (None, None, 8192, 12288),
        "kernel.msgmni": (None, None, None, 32),
    }


def test_every_key_is_in_the_reference() -> None:
    """Those of lists, too."""
    definitions = validator().schema["$defs"]
    keys = {*validator().schema["properties"]}
    for name in ("keep", "reap", "expect"):
        keys |= definitions["profile"]["properties"][name]["items"]["properties"].keys()
    for name in ("profile", "rule", "conditions"):
        keys |= definitions[name]["properties"].keys()
    assert [key for key in sorted(keys) if f"`{key}`" not in TEXT] == []


def test_the_table_of_engines_is_what_check_goes_by() -> None:
    """A fact that the table has is one that a condition on that engine may ask for."""
    facts = ("image", "name", "pod", "namespace")
    rows = documents.table("docs/policy.md", "What engines tell")
    told = {
        documents.code(row[0])[0]: {
            fact for fact, cell in zip(facts, row[1:], strict=True) if not cell.startswith("no")
        }
        for row in rows
    }
    assert told == KNOWN


def test_the_runtimes_are_those_that_are_known() -> None:
    """Each of them is named."""
    assert [name for name in RUNTIMES if f"`{name}`" not in TEXT] == []
