"""TOML edited as text: what is there stays, what is put in goes again, and what cannot be edited is refused."""

from __future__ import annotations

import pytest

from ipcwarden.registration.tables import append, block, dotted, lines, parse, set_string, string_at, table_at, undo

PATH = ("a", "io.b", "options", "BinaryName")
FILES = [
    '[a."io.b".options]\n',
    "[a.'io.b'.options]",
    '[a."io.b".options] # here\n    Other = true\n\n[z]\n',
    "[a.\"io.b\".options]\r\n\tBinaryName = '/usr/bin/x'  # theirs\r\n[z]\r\n",
    '  [a."io.b".options]\n    BinaryName = ""',
    '[a."io.b"]\n  options.Other = [1,\n  2]\n  options.More = 3\n',
    '[a]\n"io.b".options . BinaryName = "é\\"#"# x\n',
    'a."io.b".options.Root = "/r"',
    '[a."io.b"]\ntype = "x"',
    "",
    "# only a comment",
    'text = """\n[a."io.b".options]\nBinaryName = "no"\n"""\n',
    '[[list]]\nBinaryName = "no"\n[a."io.b".options.deeper]\nx = 1979-05-27\n',
]
every_file = pytest.mark.parametrize("text", FILES)


@every_file
def test_string_is_there_afterwards(text: str) -> None:
    """And nothing else is other than it was."""
    before = parse(text)
    before.setdefault("a", {}).setdefault("io.b", {}).setdefault("options", {})["BinaryName"] = '/new "one"'
    assert parse(set_string(text, PATH, '/new "one"')) == before


@every_file
def test_undo_restores_every_byte(text: str) -> None:
    """Also the end of a last line that was not there."""
    assert undo(set_string(text, PATH, "/new")) == text


@every_file
def test_undo_leaves_what_was_added_since(text: str) -> None:
    """Somebody's later lines are not ours."""
    edited = set_string(text, PATH, "/new")
    later = edited + ("" if edited.endswith("\n") else "\n") + "[later]\nx = 1\n"
    assert parse(undo(later) or "") == {**parse(text), "later": {"x": 1}}


def test_undo_without_edit_changes_nothing() -> None:
    """Nothing in it is ours."""
    assert [undo(text) for text in FILES] == FILES


def test_new_file_goes_again() -> None:
    """Where there was none, none is left; an empty one is."""
    assert undo(append(None, "x = 1\n", {"x": 1})) is None
    assert undo(append("", "x = 1\n", {"x": 1})) == ""


def test_new_file_with_more_in_it_stays() -> None:
    """Somebody else has used it since."""
    assert undo(append(None, "x = 1\n", {"x": 1}) + "y = 2\n") == "y = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "[a]\n'io.b' = {options = {}}\n",
        "[a.'io.b'.options]\nBinaryName = '''\nx'''\n",
        "[a.'io.b'.options]\nBinaryName = 1\n",
        "[[a.'io.b'.options]]\n",
        "a = 1",
    ],
    ids=["inline table", "string of several lines", "no string", "list of tables", "no table"],
)
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    """With what to do instead."""
    with pytest.raises(ValueError, match=r"by hand|is not a table"):
        set_string(text, PATH, "/new")


def test_damaged_block_is_refused() -> None:
    """Nobody knows where it ends."""
    with pytest.raises(ValueError, match="is not as it was written"):
        undo(append("", "x = 1\n", {"x": 1}).replace("to here", "gone"))


def test_block_is_read_as_its_members() -> None:
    """Strings, numbers, lists and tables in tables."""
    members = {"s": 'a"\\\x7f\x01é😀', "n": 1, "f": 1.5, "t": True, "l": ["a", 2], "deep er": {"x": {"y": False}}}
    assert parse(block(("p", "q.r"), members)) == {"p": {"q.r": members}}


def test_date_is_not_copied() -> None:
    """Nothing that containerd has is one."""
    with pytest.raises(ValueError, match="by hand"):
        block(("p",), parse("d = 1979-05-27"))


def test_lines_lead_from_the_top() -> None:
    """Headers and keys, dotted ones too."""
    text = "a.b = 1\n[c]\n  'd e'.f = [\n1]\n[[g]]\nh = 2"
    assert [line.path for line in lines(text)] == [("a", "b"), ("c",), ("c", "d e", "f"), ("g", "[]"), ("g", "[]", "h")]


@pytest.mark.parametrize("path", [("a",), ("a", "b")])
def test_what_is_no_table_is_refused(path: tuple[str, ...]) -> None:
    """By its name."""
    with pytest.raises(ValueError, match="its 'a' is not a table"):
        table_at(parse("a = 1"), path)


def test_what_is_no_string_is_refused() -> None:
    """By its name."""
    with pytest.raises(ValueError, match=r"its 'a\.b' is not a string"):
        string_at(parse("a.b = 1"), ("a", "b"))


def test_names_are_quoted_where_they_must_be() -> None:
    """As TOML has it."""
    assert dotted(("a-1", "io.b", 'c"')) == 'a-1."io.b"."c\\""'


@pytest.mark.parametrize("text", ["", "\n", "a = 1", "a = 1\n", "a = 1\r\n"])
def test_line_put_before_a_block_stays_one(text: str) -> None:
    """Whoever writes above our block, or below it, finds it there afterwards."""
    edited = append(text, "[x]\n", {**parse(text), "x": {}}).replace("# ipcwarden: from", "b = 2\n# ipcwarden: from")
    assert parse(undo(f"{edited}[y]\n") or "") == {**parse(text), "b": 2, "y": {}}
