"""config.json is read as the runtime and the kernel would read it, and where they could differ, not at all."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcwarden.core.spec import Request, parse_spec
from ipcwarden.core.sysctls import FILES
from ipcwarden.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "linux.sysctl"
SEM = ("kernel.sem.semmsl", "kernel.sem.semmns", "kernel.sem.semopm", "kernel.sem.semmni")


def request_of(document: object) -> Request:
    """Return the request in a config.json, given as text or as what it holds."""
    text = document if isinstance(document, str) else json.dumps(document)
    return parse_spec(text.encode()).request


def asking(*pairs: tuple[str, object]) -> Request:
    """Return the request of a `linux.sysctl` with these pairs, in this order, keys repeated where they are."""
    table = ",".join(f"{json.dumps(key)}:{json.dumps(content)}" for key, content in pairs)
    return request_of(f'{{"linux":{{"sysctl":{{{table}}}}}}}')


def refusal_of(document: object) -> str:
    """Return why a config.json is refused."""
    with pytest.raises(StateError) as refusal:
        parse_spec(json.dumps(document).encode())
    return str(refusal.value)


@pytest.mark.parametrize("name", [name for name in FILES if name != "kernel.sem"])
def test_reads_a_governed_name_in_both_spellings(name: str) -> None:
    """Dots and slashes are one name."""
    expected = Request({name: "7"}, {name: 7})
    assert asking((name, "7")) == asking((name.replace(".", "/"), "7")) == expected


@pytest.mark.parametrize("text", ["0", "1", "42", "2147483648", "18446744073709551615", "18446744073709551616"])
def test_reads_canonical_numbers(text: str) -> None:
    """A number in decimal is that number, even where the kernel would refuse it."""
    assert asking(("kernel.shmmax", text)).numbers == {"kernel.shmmax": int(text)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "010",
        "00",
        "0x10",
        "0X10",
        "0b1",
        "0o7",
        " 5",
        "\t5",
        "\n5",
        "5 ",
        "5\n",
        "5\r\n",
        "+5",
        "-5",
        "-0",
        "5K",
        "5 6",
        "5,6",
        "1.5",
        "1e3",
        "1_000",
        "5\0",
        "\u0665",
        "\uff15",
        "\u00b2",
        "\u0be7",
        "\u2002" + "5",
        "184467440737095516160",
        "0" * 5000 + "7",
        "5" + " " * 5000,
        "9" * 5000,
        "kernel",
        "64MiB",
        "\ud800",
    ],
)
def test_never_guesses_a_number(text: str) -> None:
    """What runtimes and the kernel take but people misread is malformed, and no number."""
    assert asking(("kernel.shmmax", text)) == Request({"kernel.shmmax": text}, {}, (("kernel.shmmax", text),))


@pytest.mark.parametrize("content", [5, 5.0, True, None, [], ["5"], {}, {"5": "5"}])
def test_takes_texts_only(content: object) -> None:
    """A value that is no text is malformed: runtimes differ on what they make of it."""
    shown = repr(content)
    assert asking(("kernel.shmmax", content)) == Request({"kernel.shmmax": shown}, {}, (("kernel.shmmax", shown),))


@given(st.text(st.sampled_from("0123456789 \t\n+-xXabcdef_.,\0\u0660\uff10")) | st.integers(0, 10**21).map(str))
def test_takes_exactly_the_canonical_spelling(text: str) -> None:
    """A text is a number where it has up to twenty ASCII digits without a leading zero, and nowhere else."""
    canonical = re.fullmatch("0|[1-9][0-9]{0,19}", text) is not None
    found = asking(("kernel.shmmax", text))
    assert found.numbers == ({"kernel.shmmax": int(text)} if canonical else {})
    assert bool(found.malformed) is not canonical


@pytest.mark.parametrize(
    "key",
    [
        "kernel..shmmax",
        "kernel//shmmax",
        "kernel./shmmax",
        "/kernel/shmmax",
        ".kernel.shmmax",
        "kernel.shmmax.",
        "kernel/shmmax/",
        "kernel/./shmmax",
        "./kernel/shmmax",
    ],
)
def test_takes_no_other_separators(key: str) -> None:
    """A path that leads to a governed file, but not by its plain name, is malformed."""
    assert asking((key, "5")) == Request({"kernel.shmmax": "5"}, {}, (("kernel.shmmax", "5"),))


@pytest.mark.parametrize("key", ["fs/mqueue.msg_max", "fs.mqueue/msg_max", "fs//mqueue/msg_max"])
def test_takes_no_mixed_separators(key: str) -> None:
    """Dots and slashes in one key are malformed."""
    assert asking((key, "5")) == Request({"fs.mqueue.msg_max": "5"}, {}, (("fs.mqueue.msg_max", "5"),))


@given(st.text("kernl.shmax/", max_size=16), st.sampled_from(["5", "05"]))
def test_takes_exactly_two_keys_for_a_name(key: str, text: str) -> None:
    """No key but the dotted and the slashed one of a name ever gives a number."""
    named = [name for name in FILES if key in (name, name.replace(".", "/")) and name != "kernel.sem"]
    assert asking((key, text)).numbers == (dict.fromkeys(named, 5) if text == "5" else {})


@pytest.mark.parametrize(
    ("pairs", "value"),
    [
        ([("kernel.shmmax", "5"), ("kernel.shmmax", "5")], "5"),
        ([("kernel.shmmax", "5"), ("kernel/shmmax", "5")], "5"),
        ([("kernel/shmmax", "5"), ("kernel.shmmax", "5"), ("kernel/shmmax", "5")], "5"),
    ],
)
def test_takes_one_value_twice(pairs: list[tuple[str, object]], value: str) -> None:
    """A name that is given twice with one value leaves no doubt."""
    assert asking(*pairs) == Request({"kernel.shmmax": value}, {"kernel.shmmax": int(value)})


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        ([("kernel.shmmax", "5"), ("kernel.shmmax", "6")], "5 and 6"),
        ([("kernel.shmmax", "5"), ("kernel/shmmax", "6")], "5 and 6"),
        ([("kernel/shmmax", "6"), ("kernel.shmmax", "5")], "6 and 5"),
        ([("kernel.shmmax", "5"), ("kernel/shmmax", "0x5")], "5 and 0x5"),
        ([("kernel.shmmax", "5"), ("kernel.shmmax", 5)], "5"),
        ([("kernel.shmmax", 5), ("kernel.shmmax", "5")], "5"),
        ([("kernel.shmmax", "5"), ("kernel.shmmax", "6"), ("kernel.shmmax", "6")], "5 and 6"),
        ([("kernel.shmmax", "5"), ("kernel.shmmax", "6"), ("kernel.shmmax", "5")], "6 and 5"),
    ],
)
def test_takes_no_two_values(pairs: list[tuple[str, object]], shown: str) -> None:
    """A name with two values is malformed: readers differ on which one counts."""
    found = asking(*pairs)
    assert (found.numbers, found.malformed) == ({}, (("kernel.shmmax", shown),))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("250 32000 100 128", (250, 32000, 100, 128)),
        ("250\t32000\t100\t128", (250, 32000, 100, 128)),
        ("250  32000 \t 100 128", (250, 32000, 100, 128)),
        ("0 0 0 0", (0, 0, 0, 0)),
    ],
)
def test_reads_the_four_fields_of_sem(text: str, numbers: tuple[int, ...]) -> None:
    """kernel.sem is four numbers with blanks or tabs between."""
    assert asking(("kernel.sem", text)) == Request({"kernel.sem": text}, dict(zip(SEM, numbers, strict=True)))


@pytest.mark.parametrize(
    "text",
    [
        "250",
        "250 32000 100",
        "250 32000 100 128 1",
        "250,32000,100,128",
        "250\n32000\n100\n128",
        "250\v32000\v100\v128",
        " 250 32000 100 128",
        "250 32000 100 128 ",
        "250 32000 100 0x80",
        "250 32000 0100 128",
        "250 32000 -1 128",
        "250 32000 100 \u0661",
        "\u0661 32000 100 128",
        "250 32000 100 12\u00a08",
        "",
    ],
)
def test_guesses_no_field_of_sem(text: str) -> None:
    """With fewer, more or odd fields none of the four is known."""
    assert asking(("kernel.sem", text)) == Request({"kernel.sem": text}, {}, (("kernel.sem", text),))


def test_lists_everything_malformed() -> None:
    """One doubtful name does not hide another, nor what is fine."""
    found = asking(("kernel.sem", "1"), ("kernel.shmmax", "0x1"), ("kernel/msgmax", "5"))
    assert found.malformed == (("kernel.sem", "1"), ("kernel.shmmax", "0x1"))
    assert found.numbers == {"kernel.msgmax": 5}


@pytest.mark.parametrize(
    "key",
    [
        "net.ipv4.ip_forward",
        "kernel.domainname",
        "kernel.shm_next_id",
        "kernel.auto_msgmni",
        "fs.mqueue",
        "fs.mqueue.msg_maxx",
        "kernel.sem.semmni",
        "kernel.Shmmax",
        "KERNEL.SHMMAX",
        "\0kernel.shmmax",
        "kernel\0.shmmax",
        "kernel.shmmax ",
        "kernel\\shmmax",
        "shmmax",
        "",
        ".",
    ],
)
@pytest.mark.parametrize("content", ["0x10", "", 5, None])
def test_leaves_other_names_alone(key: str, content: object) -> None:
    """What is not governed is the runtime's business, whatever its value."""
    assert asking((key, content)) == Request({}, {})


@pytest.mark.parametrize("key", ["kernel.shmmax\0", "kernel.shmmax\0x", "kernel/shmmax\0.y", "kernel.shmmax.\0\0"])
def test_ends_a_key_at_its_first_nul(key: str) -> None:
    """For crun, which is C, such a key is the name itself: it is malformed under it, not somebody else's."""
    assert asking((key, "5")) == Request({"kernel.shmmax": "5"}, {}, (("kernel.shmmax", "5"),))


@pytest.mark.parametrize("keys", [("kernel.shmmax", "kernel.shmmax\0"), ("kernel.shmmax\0", "kernel.shmmax")])
def test_lets_no_plain_key_hide_one_with_a_nul(keys: tuple[str, str]) -> None:
    """Whatever stands first: readers differ on which one counts."""
    assert asking(*((key, "5") for key in keys)) == Request({"kernel.shmmax": "5"}, {}, (("kernel.shmmax", "5"),))


@pytest.mark.parametrize(
    ("top", "key"),
    [
        ("Linux", "sysctl"),
        ("linux", "Sysctl"),
        ("Linux", "Sysctl"),
        ("LINUX", "SYSCTL"),
        ("lInUx", "sYsCtL"),
        ("linux", "\u017fysctl"),
        ("linux", "sy\u017fctl"),
        ("Linux", "\u017fY\u017fCTL"),
        ("linux\0", "sysctl"),
        ("linux", "sysctl\0x"),
        ("Linux\0", "Sysctl\0"),
    ],
)
def test_doubts_other_spellings(top: str, key: str) -> None:
    """Runc obeys any letter case and Unicode's folds, crun what ends in NUL: such a table is malformed as a whole.

    What it asks for is known all the same: crun may have written it.
    """
    expected = Request({"kernel.shmmax": "5"}, {}, ((TABLE, f"{top}.{key}"),))
    assert request_of({top: {key: {"kernel.shmmax": "5"}}}) == expected


@pytest.mark.parametrize(
    ("document", "malformed"),
    [
        # the plain table does not count where another one may
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"}},"Linux":{"sysctl":{}}}', "Linux.sysctl"),
        ('{"Linux":{"sysctl":{}},"linux":{"sysctl":{"kernel.shmmax":"5"}}}', "Linux.sysctl"),
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"}},"Linux":{}}', "linux.sysctl"),
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"}},"linux\\u0000":7}', "linux.sysctl"),
        # written twice: some readers merge, some take the first, some the last
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"},"sysctl":{"kernel.shmmax":"5"}}}', "linux.sysctl"),
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"}},"linux":{"sysctl":{}}}', "linux.sysctl"),
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"}},"linux":{}}', "linux.sysctl"),
        ('{"linux":{"sysctl":{"kernel.shmmax":"5"}},"linux":null}', "linux.sysctl"),
        ('{"linux":{},"linux":{"sysctl":{"kernel.shmmax":"5"}}}', "linux.sysctl"),
    ],
)
def test_doubts_a_second_table(document: str, malformed: str) -> None:
    """A table that may be another one to another reader is malformed as a whole, and no number of it counts."""
    assert request_of(document) == Request({"kernel.shmmax": "5"}, {}, ((TABLE, malformed),))


@pytest.mark.parametrize(
    "text",
    [
        '{"linux":{"namespaces":[{"type":"ipc"}]},"Linux":{"namespaces":[{"type":"ipc","path":"/x"}]}}',
        '{"linux":{"namespaces":[{"type":"user"}]},"linux":{"namespaces":[]}}',
        '{"Linux":{"resources":{"memory":{"limit":9}}}}',
        '{"linux":{},"linux\\u0000":{"namespaces":[{"type":"ipc"}]}}',
        '{"Linux":5}',
    ],
)
def test_doubts_a_second_section_without_a_table(text: str) -> None:
    """Namespaces and memory of a `linux` that runtimes read differently are no more certain than its sysctls."""
    try:
        assert request_of(text).malformed
    except StateError:
        pass


def test_knows_all_that_doubtful_tables_ask_for() -> None:
    """Whatever stands in any of them may be what a runtime has written."""
    found = request_of(
        '{"linux":{"sysctl":{"kernel.shmmax":"5","kernel/msgmni":"0x7"},"sysctl":{"kernel.shmmax":"6"}},'
        '"Linux":{"sysctl":{"kernel.msgmax":"8"}}}'
    )
    assert found.raw == {"kernel.shmmax": "6", "kernel.msgmni": "0x7", "kernel.msgmax": "8"}
    assert found.numbers == {}
    assert dict(found.malformed) == {TABLE: "Linux.sysctl", "kernel.shmmax": "5 and 6", "kernel.msgmni": "0x7"}


def test_takes_a_table_and_a_null_for_one() -> None:
    """A null is no table."""
    found = request_of('{"linux":{"sysctl":{"kernel.shmmax":"5"},"sysctl":null}}')
    assert found == Request({"kernel.shmmax": "5"}, {"kernel.shmmax": 5})


# A document with room for the members of one section, and what the member may hold.
MEMBERS = {
    "linux.namespaces": ('{"linux":{%s}}', "[]"),
    "linux.namespaces.type": ('{"linux":{"namespaces":[{"path":"",%s}]}}', '"ipc"'),
    "linux.namespaces.path": ('{"linux":{"namespaces":[{"type":"pid",%s}]}}', '"/x"'),
    "linux.resources": ('{"linux":{%s}}', "{}"),
    "linux.resources.memory": ('{"linux":{"resources":{%s}}}', "{}"),
    "linux.resources.memory.limit": ('{"linux":{"resources":{"memory":{%s}}}}', "1"),
    "process": ("{%s}", "{}"),
    "process.capabilities": ('{"process":{%s}}', "{}"),
    "process.capabilities.bounding": ('{"process":{"capabilities":{%s}}}', '["CAP_SYS_ADMIN"]'),
}


def spelled_as(member: str, *keys: str, contents: str | None = None) -> bytes:
    """Return a config.json that has a member under these keys."""
    template, content = MEMBERS[member]
    pairs = ",".join(f"{json.dumps(key)}:{contents or content}" for key in keys)
    more = ',"type":"ipc"' if member == "linux.namespaces.type" and "type" not in keys else ""
    return (template % (pairs + more)).encode()


@pytest.mark.parametrize("contents", [None, "null"])
@pytest.mark.parametrize(
    "spellings",
    [
        lambda name: (name, name),
        lambda name: (name.upper(),),
        lambda name: (name, name.capitalize()),
        lambda name: (name.title(), name),
        lambda name: (f"{name}\0",),
        lambda name: (name, f"{name}\0x"),
        lambda name: (f"{name.upper()}\0",),
        lambda name: (name.replace("s", "\u017f").replace("i", "I"),),
    ],
    ids=["twice", "upper", "beside", "before", "nul", "nul-beside", "upper-nul", "fold"],
)
@pytest.mark.parametrize("member", MEMBERS)
def test_refuses_a_member_that_runtimes_read_differently(
    member: str, spellings: Callable[[str], tuple[str, ...]], contents: str | None
) -> None:
    """What says whose namespace it is, how large or how mighty the container is, must be the same to every reader."""
    keys = spellings(member.rpartition(".")[2])
    if keys == (member.rpartition(".")[2],):
        keys *= 2  # a name without a letter that folds
    with pytest.raises(StateError, match=r"which runtimes read differently$") as refusal:
        parse_spec(spelled_as(member, *keys, contents=contents))
    assert f"it has {member} as " in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("member", MEMBERS)
def test_takes_a_member_in_its_one_spelling(member: str) -> None:
    """The plain key is fine, and so are keys that no runtime takes for it."""
    name = member.rpartition(".")[2]
    others = (f"{name}x", f"x{name.upper()}", f"\0{name}", f"{name} ", name.replace("i", "\u0131") + "\u0131")
    plain = parse_spec(spelled_as(member, name))
    assert parse_spec(spelled_as(member, name, *others)) == plain


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"linux": None},
        {"linux": {}},
        {"linux": {"sysctl": None}},
        {"linux": {"sysctl": {}}},
        {"l\u0131nux": {"sysctl": {"kernel.shmmax": "5"}}},
        {"linux": {"sysctls": {"kernel.shmmax": "5"}}},
        {"sysctl": {"kernel.shmmax": "5"}},
    ],
)
def test_sees_where_nothing_is_asked(document: object) -> None:
    """No table, an empty one and keys that no runtime obeys are no request."""
    assert request_of(document) == Request({}, {})


@pytest.mark.parametrize(
    ("linux", "ipc", "path"),
    [
        ({}, "host", ""),
        ({"namespaces": None}, "host", ""),
        ({"namespaces": []}, "host", ""),
        ({"namespaces": [{"type": "pid"}, {"type": "mount", "path": "/x"}]}, "host", ""),
        ({"namespaces": [{"type": "ipc"}]}, "private", ""),
        ({"namespaces": [{"type": "ipc", "path": ""}]}, "private", ""),
        ({"namespaces": [{"type": "ipc", "path": None}]}, "private", ""),
        ({"namespaces": [{"type": "ipc", "path": "/proc/7/ns/ipc"}]}, "shared", "/proc/7/ns/ipc"),
        ({"namespaces": [{"type": "pid", "path": "/p"}, {"type": "ipc"}]}, "private", ""),
    ],
)
def test_tells_whose_namespace_it_will_be(linux: object, ipc: str, path: str) -> None:
    """No ipc namespace is the host's, one without a path a new one, one with a path somebody's."""
    spec = parse_spec(json.dumps({"linux": linux}).encode())
    assert (spec.ipc, spec.ipc_path) == (ipc, path)


@pytest.mark.parametrize(
    "namespaces",
    [
        "ipc",
        "",
        5,
        0,
        False,
        {},
        {"type": "ipc"},
        [None],
        ["ipc"],
        [{}],
        [{"path": "/x"}],
        [{"type": None}],
        [{"type": ["ipc"]}],
        [{"type": "ipc", "path": 5}],
    ],
)
def test_refuses_namespaces_that_are_no_list(namespaces: object) -> None:
    """What a runtime could not read either is refused."""
    assert "cannot use config.json: its 'linux.namespaces" in refusal_of({"linux": {"namespaces": namespaces}})


def test_refuses_two_ipc_namespaces() -> None:
    """Runtimes differ on which of two counts."""
    namespaces = [{"type": "ipc"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}]
    assert "lists ipc twice" in refusal_of({"linux": {"namespaces": namespaces}})


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [([], False), ([{"type": "ipc"}], False), ([{"type": "user"}], True), ([{"type": "user", "path": "/u"}], True)],
)
def test_tells_a_user_namespace(namespaces: object, expected: bool) -> None:
    """A user namespace, new or somebody's, is noticed."""
    assert parse_spec(json.dumps({"linux": {"namespaces": namespaces}}).encode()).user_namespace is expected


@pytest.mark.parametrize(
    ("namespaces", "process", "uid"),
    [
        ([], {"user": {"uid": 999}}, 999),
        ([], {"user": {}}, 0),
        ([], {}, 0),
        ([], {"user": {"uid": True}}, 0),
        ([], {"user": {"uid": "root"}}, 0),
        ([{"type": "ipc"}], {"user": {"uid": 999}}, 0),
    ],
)
def test_reads_the_user_where_that_counts(namespaces: object, process: object, uid: int) -> None:
    """Of a container in the host's namespace the first process' uid is read, and what is no number is root's."""
    document = {"process": process, "linux": {"namespaces": namespaces}}
    assert parse_spec(json.dumps(document).encode()).uid == uid


@pytest.mark.parametrize(
    ("resources", "limit"),
    [
        (None, None),
        ({}, None),
        ({"memory": None}, None),
        ({"memory": {}}, None),
        ({"memory": {"limit": None}}, None),
        ({"memory": {"limit": 0}}, None),
        ({"memory": {"limit": -1}}, None),
        ({"memory": {"limit": 1}}, 1),
        ({"memory": {"limit": 536870912}}, 536870912),
        ({"memory": {"limit": 9223372036854775807}}, 9223372036854775807),
    ],
)
def test_reads_the_memory_limit(resources: object, limit: int | None) -> None:
    """A positive number of bytes is the limit; engines write none as 0 or -1."""
    assert parse_spec(json.dumps({"linux": {"resources": resources}}).encode()).memory_limit == limit


@pytest.mark.parametrize("limit", ["512m", "1", 1.5, 1e9, True, False, [], {}])
def test_guesses_no_memory_limit(limit: object) -> None:
    """A limit that is no whole number is refused."""
    assert "is not a whole number" in refusal_of({"linux": {"resources": {"memory": {"limit": limit}}}})


CAPABLE = {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}


@pytest.mark.parametrize(
    ("process", "linux", "expected"),
    [
        (CAPABLE, {}, True),
        (CAPABLE, {"maskedPaths": [], "readonlyPaths": None}, True),
        (CAPABLE, None, True),
        # shields can be imitated: a mask over nothing, a filter that allows all
        (CAPABLE, {"maskedPaths": ["/proc/kcore"]}, True),
        (CAPABLE, {"readonlyPaths": ["/nothing"]}, True),
        (CAPABLE, {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, True),
        ({"capabilities": {"bounding": []}}, {"maskedPaths": [], "readonlyPaths": []}, False),
        ({"capabilities": {"bounding": ["SYS_ADMIN", "CAP_SYS_ADMINS", 7]}}, {}, False),
        ({"capabilities": {"bounding": ["cap_sys_admin"]}}, {}, True),
        ({"capabilities": {"bounding": ["CAP_SYS_ADMIN\0x"]}}, {}, True),
        ({"capabilities": {"bounding": ["CAP_CHOWN"]}}, {}, False),
        ({"capabilities": {"effective": ["CAP_SYS_ADMIN"]}}, {}, False),
        ({"capabilities": {"bounding": "CAP_SYS_ADMIN"}}, {}, False),
        ({"capabilities": None}, {}, False),
        ({}, {}, False),
        (None, {}, False),
    ],
)
def test_tells_a_privileged_container(process: object, linux: object, expected: bool) -> None:
    """Privileged is CAP_SYS_ADMIN in the bounding set, whatever else is masked, read-only or filtered."""
    assert parse_spec(json.dumps({"process": process, "linux": linux}).encode()).privileged is expected


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "it is not an object"),
        (None, "it is not an object"),
        ("{}", "it is not an object"),
        ({"linux": []}, "its 'linux' is not an object"),
        ({"linux": "x"}, "its 'linux' is not an object"),
        ({"linux": ""}, "its 'linux' is not an object"),
        ({"linux": 0}, "its 'linux' is not an object"),
        ({"linux": False}, "its 'linux' is not an object"),
        ({"linux": {"sysctl": []}}, "its 'linux.sysctl' is not an object"),
        ({"linux": {"sysctl": "kernel.shmmax=5"}}, "its 'linux.sysctl' is not an object"),
        ({"linux": {"sysctl": False}}, "its 'linux.sysctl' is not an object"),
        ({"Linux": {"sysctl": []}}, "its 'linux.sysctl' is not an object"),
        ({"linux": {"resources": 5}}, "its 'linux.resources' is not an object"),
        ({"linux": {"resources": {"memory": []}}}, "its 'linux.resources.memory' is not an object"),
        ({"process": []}, "its 'process' is not an object"),
        ({"process": False}, "its 'process' is not an object"),
        ({"process": {"capabilities": []}}, "its 'process.capabilities' is not an object"),
    ],
)
def test_refuses_a_section_of_another_type(document: object, reason: str) -> None:
    """What is no object where one must be is refused by name."""
    assert reason in refusal_of(document)


SHIELDED = {"readonlyPaths": ["/proc/sys"]}
PROC = {"destination": "/proc", "type": "proc", "source": "proc"}


@pytest.mark.parametrize(
    ("document", "writable"),
    [
        ({}, False),
        ({"mounts": [PROC]}, True),
        ({"mounts": [PROC], "linux": SHIELDED}, False),
        ({"mounts": [PROC], "linux": {"readonlyPaths": ["/proc//sys/"]}}, False),
        ({"mounts": [PROC], "linux": {"maskedPaths": ["/proc"]}}, False),
        ({"mounts": [PROC], "linux": {"readonlyPaths": ["/proc/sys/net"]}}, True),
        ({"mounts": [{**PROC, "options": ["nosuid", "ro"]}]}, False),
        ({"mounts": [PROC, {**PROC, "destination": "/other"}], "linux": SHIELDED}, True),
        ({"mounts": [PROC, {"destination": "/host", "source": "/", "options": ["rbind"]}], "linux": SHIELDED}, True),
        ({"mounts": [PROC, {"destination": "/host", "source": "/", "options": ["bind"]}], "linux": SHIELDED}, False),
        ({"mounts": [{"destination": "/host", "source": "/proc", "options": ["bind"]}], "linux": SHIELDED}, True),
        ({"mounts": [{"destination": "/s", "source": "/proc/sys/kernel"}], "linux": SHIELDED}, True),
        ({"mounts": [{"destination": "/s", "source": "/proc/1"}], "linux": SHIELDED}, False),
        ({"mounts": [{"destination": "/s", "source": "/proc/sys"}], "linux": {"readonlyPaths": ["/s", 5]}}, False),
        ({"mounts": [PROC], "process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}, "linux": SHIELDED}, True),
    ],
)
def test_knows_ways_to_write_proc_sys(document: object, writable: bool) -> None:
    """Every procfs that is not shielded is a way, wherever it is mounted; so is the capability to remount it."""
    assert parse_spec(json.dumps(document).encode()).proc_sys_writable is writable


# Every member that we read: where it stands, and something that it may hold.
PLACES = [
    ("linux", {}),
    ("linux.namespaces", []),
    ("linux.namespaces.0.type", "ipc"),
    ("linux.namespaces.0.path", ""),
    ("linux.resources", {}),
    ("linux.resources.memory", {}),
    ("linux.resources.memory.limit", 5),
    ("linux.readonlyPaths", []),
    ("linux.maskedPaths", []),
    ("linux.cgroupsPath", "/x"),
    ("linux.seccomp", {}),
    ("process", {}),
    ("process.capabilities", {}),
    ("process.capabilities.bounding", []),
    ("process.rlimits", []),
    ("process.rlimits.0.type", "RLIMIT_MSGQUEUE"),
    ("process.rlimits.0.soft", 1),
    ("process.rlimits.0.hard", 1),
    ("mounts", []),
    ("mounts.0.destination", "/x"),
    ("mounts.0.type", "proc"),
    ("mounts.0.source", "proc"),
    ("mounts.0.options", []),
    ("annotations", {}),
    ("root", {}),
    ("root.path", "/x"),
    ("hooks", {}),
    *((f"hooks.{stage}", []) for stage in ("prestart", "createRuntime", "createContainer", "startContainer")),
    *((f"hooks.{stage}", []) for stage in ("poststart", "poststop")),
]
COMPLETE = {
    "linux": {"namespaces": [{"type": "ipc"}], "resources": {"memory": {}}},
    "process": {"capabilities": {}, "rlimits": [{"type": "RLIMIT_MSGQUEUE", "soft": 1, "hard": 1}]},
    "mounts": [PROC],
    "root": {},
    "hooks": {},
}


@pytest.mark.parametrize(("place", "content"), PLACES)
@pytest.mark.parametrize("spelling", [str.swapcase, lambda name: f"{name}\0x", lambda name: f"{name}\0"])
def test_refuses_a_second_spelling_of_whatever_is_read(
    place: str, content: object, spelling: Callable[[str], str]
) -> None:
    """Beside the right one or in its place: runc takes any letter case, crun a name up to its first NUL."""
    *way, name = place.split(".")
    for keep in (True, False):
        document = json.loads(json.dumps(COMPLETE))
        section = document
        for step in way:
            section = section[int(step)] if step.isdigit() else section[step]
        if keep:
            section.setdefault(name, content)
        else:
            section.pop(name, None)
        section[spelling(name)] = content
        assert "which runtimes read differently" in refusal_of(document)


def limiting(*rlimits: object) -> object:
    """Return a config.json with these `process.rlimits`."""
    return {"process": {"rlimits": list(rlimits)}}


def test_reads_the_limit_of_queues() -> None:
    """RLIMIT_MSGQUEUE is read as soft and hard; other limits are not ours."""
    document = limiting({"type": "RLIMIT_CORE"}, {"type": "RLIMIT_MSGQUEUE", "soft": 5, "hard": 18446744073709551615})
    assert parse_spec(json.dumps(document).encode()).msgqueue == (5, 18446744073709551615)
    assert parse_spec(b"{}").msgqueue is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (limiting({"type": "RLIMIT_MSGQUEUE", "soft": 5}), "its RLIMIT_MSGQUEUE is not {soft, hard} in whole numbers"),
        (limiting({"type": "RLIMIT_MSGQUEUE", "soft": True, "hard": 5}), "is not {soft, hard} in whole numbers"),
        (limiting(*[{"type": "RLIMIT_MSGQUEUE", "soft": 5, "hard": 5}] * 2), "lists RLIMIT_MSGQUEUE twice"),
        (limiting({"type": "RLIMIT_MSGQUEUE\0", "soft": 5, "hard": 5}), "is a limit to crun alone"),
        (limiting(5), "its 'process.rlimits' is not a list of objects"),
        ({"mounts": 5}, "its 'mounts' is not a list"),
        ({"mounts": [{"source": 5}]}, "its 'mounts.source' is not a text"),
        ({"linux": {"readonlyPaths": "/proc/sys"}, "mounts": [PROC]}, "its 'linux.readonlyPaths' is not a list"),
        ({"annotations": {"a": 5}}, "its 'annotations' is not an object of texts"),
        ({"annotations": {}, "Annotations": {}}, "which runtimes read differently"),
    ],
)
def test_refuses_members_of_another_type(document: object, reason: str) -> None:
    """What runtimes could read in two ways, or not at all, is refused by name."""
    assert reason in refusal_of(document)


def test_reads_what_facts_rest_on() -> None:
    """Annotations, the cgroup and what is mounted on /etc/hostname are read as they stand there."""
    document = {
        "annotations": {"team": "db"},
        "linux": {"cgroupsPath": "/a/b"},
        "mounts": [{"destination": "/etc/hostname", "source": "/var/lib/docker/containers/x/hostname"}],
    }
    spec = parse_spec(json.dumps(document).encode())
    assert (spec.annotations, spec.cgroups_path) == ({"team": "db"}, "/a/b")
    assert spec.hostname_source == "/var/lib/docker/containers/x/hostname"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff{}", b"{}{}", b"[" * 100_000, b'{"a":NaN}'])
def test_refuses_what_is_no_document(data: bytes) -> None:
    """A torn config.json is a StateError of one line."""
    with pytest.raises(StateError, match=r"cannot read config\.json as JSON: ") as refusal:
        parse_spec(data)
    assert str(refusal.value).isprintable()


KEYS = "linux Linux sysctl Sysctl kernel.shmmax kernel/shmmax namespaces type Type path resources memory limit process"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.sampled_from(["ipc", "user", "/x", "5", "0x5", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=3),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries({"linux": st.fixed_dictionaries({"sysctl": JSON}, optional={"namespaces": JSON})})


@given(JSON | NEARLY)
def test_reads_or_refuses(document: object) -> None:
    """A document of any shape is read or refused, and no name is ever both a number and malformed."""
    try:
        request = parse_spec(json.dumps(document).encode()).request
    except StateError:
        return
    assert not {name for name, _ in request.malformed} & set(request.numbers)
