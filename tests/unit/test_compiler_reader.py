"""Policies are read as YAML that no two readers can read differently."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcwarden.compiler import reader
from ipcwarden.compiler.findings import Report
from ipcwarden.compiler.nodes import plain

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def read(text: str | bytes) -> tuple[object, list[str]]:
    """Return what a source holds, and its findings without the file's name."""
    report = Report()
    node = reader.read("f", text if isinstance(text, bytes) else text.encode(), report)
    return None if node is None else plain(node), [str(finding)[2:] for finding in report.findings()]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("18446744073709551615", 18446744073709551615),
        ("true", True),
        ("false", False),
        ("null", None),
        ("'true'", "true"),
        ('"5"', "5"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("+5", "+5"),
        ("-5", "-5"),
        ("1e3", "1e3"),
        ("1.5", "1.5"),
        ("yes", "yes"),
        ("off", "off"),
        ("True", "True"),
        ("~", "~"),
        ("", ""),
        ("2026-01-01", "2026-01-01"),
        ("'<<'", "<<"),
        ("=", "="),
        ("1" * 5000, "1" * 5000),
        ("250 32000 100 128", "250 32000 100 128"),
        ("größe", "größe"),
    ],
)
def test_guesses_no_scalar(text: str, value: object) -> None:
    """A plain scalar is canonical decimal, true, false, null, or text."""
    found, findings = read(f"k: {text}")
    assert (found, findings) == ({"k": value}, [])
    assert isinstance(found, dict)
    assert type(found["k"]) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (b"", "1:1", "the file is empty"),
        (b"# nothing\n", "2:1", "the file is empty"),
        (b"a: \xff", "1:4", "byte 0xff is not UTF-8"),
        ("ä: 1\nb: ö".encode() + b"\xe4", "2:5", "byte 0xe4 is not UTF-8"),
        (b"a: 1\nb: \x00", "2:4", "the character U+0000 has no place in a policy"),
        ("a: 1 # \u2028b: 2".encode(), "1:8", "the character U+2028 has no place"),
        ("a: \u202e".encode(), "1:4", "the character U+202E has no place"),
        (b"a: &x 1", "1:4", "the anchor '&x' cannot be used"),
        (b"a: *x", "1:4", "the alias '*x' cannot be used"),
        (b"a: !!int 5", "1:4", "the tag 'tag:yaml.org,2002:int' cannot be used"),
        (b"a: !x {b: 1}", "1:4", "the tag '!x' cannot be used"),
        (b"a:\n  <<: {b: 1}", "2:3", "a.<<: the merge key '<<' cannot be used"),
        (b"a: 1\nb: 2\na: 3\n", "3:1", "a: the key 'a' stands here twice (first in line 1)"),
        (b"a: 1\n'a': 2", "2:1", "a: the key 'a' stands here twice"),
        (b"a:\n  b: 1\n  c: {d: 1, d: 2}\n", "3:13", "a.c.d: the key 'd' stands here twice"),
        (b"? [a]\n: 1\n", "1:3", "a key must be a single word or text"),
        (b"? *a\n: 1\n", "1:3", "the alias '*a' cannot be used"),
        (b"a: 1\n---\nb: 1\n", "2:1", "a second document starts here"),
        (b"a: [1, 2\nb: 3\n", "2:2", "it is not YAML"),
        (b"a:\n\tb: 1\n", "2:1", "it is not YAML"),
        (b"a: b: c\n", "1:5", "(put a text with a colon in it into quotes)"),
        (b"a: '\nb: 1\n", "1:4", "(the quote that opens here is not closed)"),
        (b"a: @x\n", "1:4", "it is not YAML"),
        (b"[" * 100000, "1:26", "it is nested deeper than 24 levels"),
        (b"a: " + b"{b: " * 30, "1:100", "it is nested deeper than 24 levels"),
        (b"? " * 50 + b"a", "1:51", "it is nested deeper than 24 levels"),
    ],
)
def test_refuses_what_two_readers_could_read_differently(text: bytes, place: str, message: str) -> None:
    """What hides, repeats, refers or guesses is an error that names its place."""
    findings = read(text)[1]
    assert len(findings) == 1
    assert findings[0].startswith(f"{place}: error: ")
    assert message in findings[0]


def test_a_tab_is_told_by_its_name() -> None:
    """A tab cannot be seen, so the hint names it."""
    assert read("a:\n\tb: 1\n")[1][0].endswith("(indent with blanks, not with tabs)")


def test_goes_on_after_an_error() -> None:
    """One reading finds every alias and every repeated key."""
    assert len(read("a: &x 1\nb: *x\na: 2\nc: [*x, *x]\n")[1]) == 5


def test_keeps_the_first_of_two_values() -> None:
    """What a repeated key brings is left out, so that nothing else is said about it."""
    assert read("a: 1\na: 2")[0] == {"a": 1}


def test_skips_a_byte_order_mark() -> None:
    """Windows' editors write one."""
    assert read(b"\xef\xbb\xbfa: 1") == ({"a": 1}, [])


def test_counts_columns_in_characters() -> None:
    """An editor counts characters, not bytes."""
    assert read("ää: *x")[1][0].startswith("1:5: ")


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=200))
def test_any_bytes_give_findings_or_a_tree(data: bytes) -> None:
    """Nothing but findings ever comes of a broken file."""
    report = Report()
    assert reader.read("f", data, report) is not None or report.failed


@settings(deadline=None)  # the machine may be busy
@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@` \n\tab01#~<\\x", max_size=60))
def test_any_yaml_gives_findings_or_a_tree(text: str) -> None:
    """Nothing but findings ever comes of YAML's own characters in any order."""
    report = Report()
    assert reader.read("f", text.encode(), report) is not None or report.failed


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_reads_with_and_without_libyaml(loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML may have been built without libyaml."""
    monkeypatch.setattr(reader, "_LOADER", getattr(yaml, loader))
    assert read("a: [1, 'x']\nb: *y\n") == (
        {"a": [1, "x"], "b": None},
        ["2:4: error: b: the alias '*y' cannot be used (write the value again, or use extends)"],
    )
    assert read('a: "\\UFFFFFFFF"')[1][0].startswith("1:")


@settings(deadline=None)  # the machine may be busy
@given(TREES)
def test_reads_what_was_written(tree: object) -> None:
    """What PyYAML writes with every text in quotes is read as it was."""
    text = yaml.dump(tree, Dumper=_Quoting, default_flow_style=False)
    assert read(text) == (tree, [])


class _Quoting(yaml.SafeDumper):
    """Puts all text in quotes, and never uses an anchor."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Write everything again."""
        return True


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
