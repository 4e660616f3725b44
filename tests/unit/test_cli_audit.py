"""`ipcwarden audit`, on logs made here."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcwarden import layout
from ipcwarden.cli import Settings, audit, logs, summary, table
from ipcwarden.core.record import line_of
from ipcwarden.errors import RecordError, UsageError

if TYPE_CHECKING:
    from click.testing import Result

SCHEMA = Path(__file__).parents[2] / "schemas" / "audit-v1.schema.json"
CHANGES = {
    "mode": {"old": None, "new": "permissive"},
    "rules": {"added": [], "removed": [], "changed": ["a"], "omitted": 1},
    "profiles": {"added": ["b", "c"], "removed": [], "changed": [], "omitted": 0},
}
NOTHING = {"count": 0, "bytes": 0, "claimed": 0}


def record(second: int, event: str = "skipped", container: str = "c1", **more: Any) -> dict[str, Any]:
    """Return a record made `second` seconds after a certain moment."""
    about = {"id": container, "bundle": "/b", "engine": "bare", "name": more.pop("name", container), "image": None}
    time = f"2026-11-23T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000000Z"
    return {"version": 1, "time": time, "event": event, "container": about, "profile": "base", **more}


def refused(second: int, container: str = "c1", **violation: Any) -> dict[str, Any]:
    """Return a record of a refusal."""
    one = {"name": "kernel.shmmax", "requested": "4096000000000", "min": None, "max": "1073741824", "kind": "bound"}
    return record(second, "refused", container, decision="refused", violations=[{**one, **violation}])


def teardown(second: int, container: str = "c1", **more: Any) -> dict[str, Any]:
    """Return a record of a container that left two segments."""
    each = {"kind": "shm", "key": "0x0000002a", "perms": "0600", "owner": "0", "size": 65536, "nattch": 0, "cpid": 7}
    left = {"shm": {"count": 2, "bytes": 131072, "claimed": 131072}, "sem": NOTHING, "msg": NOTHING, "mqueue": NOTHING}
    objects = [{**each, "id": number, "lpid": 7, "status": "", "fate": "freed"} for number in (0, 1)]
    namespace = {"id": 1, "inode": 2, "shared": False, "destroyed": True, "holders": []}
    found = {"leftovers": left, "objects": objects, "objects_omitted": 0, "drift": [], "namespace": namespace}
    return record(second, "teardown", container, **{**found, **more})


def write(root: Path, *records: dict[str, Any] | bytes, name: str = layout.LOG) -> Path:
    """Write a file of the log: records, or lines as they are."""
    directory = root / layout.LOGS
    directory.mkdir(parents=True, exist_ok=True)
    content = b"".join(each if isinstance(each, bytes) else line_of(each) for each in records)
    file = directory / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return file


def run(root: Path, *arguments: str) -> Result:
    """Run `ipcwarden audit`; what it raises is raised."""
    return CliRunner().invoke(audit.command, arguments, obj=Settings(str(root)), catch_exceptions=False)


def printed(root: Path, *arguments: str) -> list[dict[str, Any]]:
    """Return the records that `ipcwarden audit --json` prints."""
    return [json.loads(line) for line in run(root, "--json", *arguments).stdout.splitlines()]


def times(records: list[dict[str, Any]]) -> list[str]:
    """Return the seconds of records, as two digits."""
    return [each["time"][17:19] for each in records]


def test_json_prints_records_as_they_are(tmp_path: Path) -> None:
    """--json prints each record's own line."""
    file = write(tmp_path, record(1), refused(2))
    assert run(tmp_path, "--json").stdout == file.read_text()


def test_rotated_files_come_first(tmp_path: Path) -> None:
    """Files are read in the order of their first records, whatever logrotate calls them."""
    write(tmp_path, record(5), record(6))
    write(tmp_path, record(4), name="audit.jsonl.1")
    write(tmp_path, record(3), name="audit.jsonl.2.gz")
    write(tmp_path, record(1), name="audit.jsonl-20261101.gz")
    write(tmp_path, record(2), name="audit.jsonl-20261102")
    assert times(printed(tmp_path)) == ["01", "02", "03", "04", "05", "06"]


def test_records_of_one_moment_are_put_in_order(tmp_path: Path) -> None:
    """Hooks that end together append in any order; the records are printed by time."""
    write(tmp_path, record(2), record(1), record(3))
    assert times(printed(tmp_path)) == ["01", "02", "03"]


def test_a_file_being_compressed_is_read_once(tmp_path: Path) -> None:
    """While logrotate compresses a file, both forms of it are there."""
    write(tmp_path, record(1), name="audit.jsonl.1")
    write(tmp_path, record(1), name="audit.jsonl.1.gz")
    assert len(printed(tmp_path)) == 1


def test_rotation_meanwhile_loses_nothing(tmp_path: Path) -> None:
    """A file that is renamed, and a new one begun, after the log was opened is still read once."""
    file = write(tmp_path, record(1))
    with logs.Log(str(tmp_path)) as log:
        file.rename(file.with_suffix(".jsonl.1"))
        write(tmp_path, record(2))
        assert [each.time[17:19] for each in log.read(logs.Filter())] == ["01"]


def test_torn_and_foreign_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """What is no record is not printed; how many lines that were is said on standard error."""
    write(tmp_path, line_of(record(1))[:-20] + b"\n", record(2), b'{"some":"thing"}\n', b"\xff\x00\n", b"\n")
    result = run(tmp_path, "--json")
    assert len(result.stdout.splitlines()) == 1
    assert "3 lines are no records: skipped" in result.stderr


def test_one_torn_line_is_said_in_the_singular(tmp_path: Path) -> None:
    """One line is not several lines."""
    write(tmp_path, record(1), b'{"version":1,"time')
    assert "1 line is no record: skipped" in run(tmp_path, "--json").stderr


def test_torn_lines_are_counted_with_a_filter_too(tmp_path: Path) -> None:
    """A filter that need not look into a line still sees that it is torn."""
    write(tmp_path, line_of(record(1))[:90] + b"\n", refused(2))
    assert "1 line is no record" in run(tmp_path, "--json", "--event", "refused").stderr


def test_an_endless_line_is_one_line(tmp_path: Path) -> None:
    """A line too long for any record is skipped in pieces, and counted once."""
    write(tmp_path, b"x" * (3 << 20) + b"\n", record(1))
    result = run(tmp_path, "--json")
    assert len(result.stdout.splitlines()) == 1
    assert "1 line is no record" in result.stderr


def test_a_last_record_without_its_newline_counts(tmp_path: Path) -> None:
    """A record is whole without the newline that would follow."""
    write(tmp_path, line_of(record(1)).rstrip())
    assert len(printed(tmp_path)) == 1


def test_a_damaged_archive_gives_what_it_has(tmp_path: Path) -> None:
    """Of a cut .gz the records before the cut are printed, and the file is named."""
    file = write(tmp_path, *(record(each, note=os.urandom(99).hex()) for each in range(60)), name="audit.jsonl.1.gz")
    file.write_bytes(file.read_bytes()[:-2000])
    result = run(tmp_path, "--json")
    assert 0 < len(result.stdout.splitlines()) < 60
    assert "audit.jsonl.1.gz' is damaged" in result.stderr


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    """A file that looks like the log's, but cannot be read as one, is named on standard error."""
    write(tmp_path, record(1))
    write(tmp_path, b"", name="audit.jsonl.2.xz")
    assert "audit.jsonl.2.xz' is not read" in run(tmp_path, "--json").stderr


def test_no_log_is_no_failure(tmp_path: Path) -> None:
    """Without any log nothing is printed, and why is said on standard error."""
    result = run(tmp_path, "--json")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing has been recorded" in result.stderr


def test_reading_makes_no_directory(tmp_path: Path) -> None:
    """Looking at a host that has recorded nothing changes nothing there."""
    run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """What stands in the log's place and is no file is refused, with what to do."""
    (tmp_path / layout.LOGS / layout.LOG).mkdir(parents=True)
    with pytest.raises(RecordError, match=r"cannot read .*regular file \(only root reads the log\)") as caught:
        run(tmp_path)
    assert caught.value.exit_code == 74


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link in the log's place is refused."""
    write(tmp_path, record(1)).rename(tmp_path / "elsewhere")
    (tmp_path / layout.LOGS / layout.LOG).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError):
        run(tmp_path)


def test_event_filters(tmp_path: Path) -> None:
    """--event leaves only that event's records, however they are written."""
    spaced = json.dumps(refused(3)).encode() + b"\n"
    write(tmp_path, record(1), refused(2), spaced, record(4, message='"refused"'))
    assert times(printed(tmp_path, "--event", "refused")) == ["02", "03"]


def test_events_are_those_of_the_schema() -> None:
    """--event takes what the schema lists."""
    assert json.loads(SCHEMA.read_text())["properties"]["event"]["enum"] == list(logs.EVENTS)


@pytest.mark.parametrize("asked", ["db1", "db", "db-name"])
def test_container_is_an_id_or_a_prefix_or_a_name(tmp_path: Path, asked: str) -> None:
    """--container takes an exact id, a unique prefix, or an exact name."""
    write(tmp_path, record(1, container="web1"), record(2, container="db1", name="db-name"))
    assert times(printed(tmp_path, "--container", asked)) == ["02"]


def test_an_exact_id_wins_over_a_name_and_a_prefix(tmp_path: Path) -> None:
    """An id that is also another's name, and the beginning of a third one's id, is the id."""
    write(
        tmp_path, record(1, container="ab", name="x"), record(2, container="y", name="ab"), record(3, container="abc")
    )
    assert times(printed(tmp_path, "--container", "ab")) == ["01"]


def test_a_name_is_all_who_had_it(tmp_path: Path) -> None:
    """Containers that had one name after each other are all printed."""
    write(tmp_path, record(1, container="a1", name="web"), record(2, container="b2", name="web"))
    assert len(printed(tmp_path, "--container", "web")) == 2


def test_a_name_that_json_escapes_is_found(tmp_path: Path) -> None:
    """A name that is not plain ASCII is compared as text."""
    write(tmp_path, record(1, name='b"är'), record(2))
    assert times(printed(tmp_path, "--container", 'b"är')) == ["01"]


def test_an_ambiguous_prefix_is_an_error_that_names_some(tmp_path: Path) -> None:
    """A prefix of several ids is wrong usage, and some of them are named."""
    write(tmp_path, *(record(each, container=f"abc{each}") for each in range(9)))
    with pytest.raises(UsageError, match=r"'abc' is: abc0, abc1, abc2, abc3, \.\.\. \(write more of the id\)"):
        run(tmp_path, "--json", "--container", "abc")


def test_an_unknown_container_is_said(tmp_path: Path) -> None:
    """A container without a record prints nothing but a note."""
    write(tmp_path, record(1))
    result = run(tmp_path, "--json", "--container", "nope")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such record of a container 'nope'" in result.stderr


def test_waiting_records_are_announced(tmp_path: Path) -> None:
    """Records that wait in the ledger are not printed, but counted on standard error."""
    write(tmp_path, record(1))
    entries = tmp_path / layout.RUN / "containers"
    entries.mkdir(parents=True)
    (entries / "c1-0.json").write_text('{"version":1,"state":"recorded","undelivered":["{}","{}"]}')
    (entries / "c2-0.json").write_text("torn")
    result = run(tmp_path, "--json")
    assert len(result.stdout.splitlines()) == 1
    assert "2 records wait in the ledger" in result.stderr


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A log is never held in memory as a whole."""
    file = write(tmp_path, *(teardown(each % 86400) for each in range(12_000)))
    assert file.stat().st_size > 8 << 20
    with logs.Log(str(tmp_path)) as log:
        tracemalloc.start()
        count = sum(1 for _ in log.read(logs.Filter()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 12_000
    assert peak < 4 << 20


def test_people_see_what_was_refused(tmp_path: Path) -> None:
    """The table says what was asked for, and what it exceeds."""
    write(tmp_path, refused(1))
    line = run(tmp_path).stdout.splitlines()[1]
    assert line.split("  ")[0] == "2026-11-23 00:00:01"
    assert line.endswith("kernel.shmmax 4096000000000 > 1073741824")


def test_people_see_objects_of_one_container(tmp_path: Path) -> None:
    """With --container the objects are listed under lsipc's column names, owners by name."""
    write(tmp_path, teardown(1))
    result = run(tmp_path, "--container", "c1").stdout
    assert "2 shm 128 KiB freed" in result
    heading = "KEY         ID  OWNER  PERMS    SIZE  NATTCH  STATUS  CPID  LPID  FATE"
    assert heading in result
    assert "0x0000002a   1  root   0600   64 KiB" in result


def test_people_see_why_objects_stayed(tmp_path: Path) -> None:
    """What became of each object that was shared, why it stayed, whether it was expected, and how sure that is."""
    each = {"kind": "shm", "key": "0x00000000", "perms": "0600", "owner": "0", "size": 65536, "nattch": 0, "cpid": 7}
    each = {**each, "lpid": 7, "status": ""}
    objects = [
        {**each, "id": 1, "confidence": "proven", "fate": "removed"},
        {**each, "id": 2, "confidence": "proven", "fate": "held", "why": "not-named"},
        {**each, "id": 3, "confidence": "plausible", "fate": "held", "why": "plausible", "expected": True},
    ]
    write(tmp_path, teardown(1, objects=objects))
    result = run(tmp_path, "--container", "c1").stdout
    assert "CONFIDENCE  FATE\n" in result
    assert "proven      removed\n" in result
    assert "proven      held: not-named\n" in result
    assert "plausible   held: plausible, expected\n" in result


def test_people_see_what_was_in_use(tmp_path: Path) -> None:
    """With --container the peaks are told, and the files in /dev/shm, of which odd names are escaped."""
    files = [
        {"name": "psm_1", "owner": "0", "perms": "0600", "size": 8192, "bytes": 4096},
        {"name_hex": "1b5b", "owner": "0", "perms": "0644", "size": 1, "bytes": 0},
    ]
    shm = {"path": "/x", "count": 12, "bytes": 4096, "partial": False, "files": files, "files_omitted": 10}
    write(tmp_path, teardown(1, dev_shm=shm, peaks={"kernel.shmmni": "3", "kernel.shmall": "40"}), record(2))
    result = run(tmp_path, "--container", "c1").stdout
    assert "kernel.shmall    40\n" in result
    assert "12 files 4 KiB in /dev/shm" in result
    assert "psm_1  root   0600    8 KiB  4 KiB\n" in result
    assert "\\x1b[  root   0644      1 B    0 B\n" in result
    assert "and 10 smaller ones" in result
    assert result.splitlines()[-1].startswith("2026-11-23 00:00:02  skipped")


def test_a_narrow_terminal_has_room_for_what_became_of_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns no key, id or fate is broken over two lines."""
    monkeypatch.setattr(table, "_WIDE", 80)
    each = {"kind": "shm", "key": "0x00004711", "perms": "0600", "owner": "4294967294", "size": 1073741824, "nattch": 0}
    each = {**each, "id": 1048576, "cpid": 4194304, "lpid": 4194304, "status": "", "fate": "held"}
    write(tmp_path, teardown(1, objects=[{**each, "confidence": "plausible", "why": "plausible"}]))
    lines = run(tmp_path, "--container", "c1").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    [row] = [line for line in lines if "0x00004711" in line]
    assert row.split() == ["0x00004711", "1048576", "4294967294", "1", "GiB", "plausible", "held:", "plausible"]


def test_people_see_no_objects_of_everybody(tmp_path: Path) -> None:
    """Without --container a record is one line."""
    write(tmp_path, teardown(1), teardown(2))
    assert len(run(tmp_path).stdout.splitlines()) == 3


def test_omitted_objects_are_said(tmp_path: Path) -> None:
    """Objects that a record had no room for are counted."""
    write(tmp_path, teardown(1, objects_omitted=41))
    assert "and 41 smaller ones" in run(tmp_path, "--container", "c1").stdout


def test_a_long_log_is_shown_in_pages(tmp_path: Path) -> None:
    """More records than one table has are shown all the same."""
    write(tmp_path, *(record(each) for each in range(1100)))
    assert run(tmp_path).stdout.count("no rule matches") == 0
    assert run(tmp_path).stdout.count("skipped") == 1100


def test_hostile_texts_draw_nothing(tmp_path: Path) -> None:
    """Escape sequences, new lines and markup in a name are shown, not obeyed."""
    write(tmp_path, record(1, name="[red]a\x1b[2J\nb\u202e"))
    lines = run(tmp_path).stdout.splitlines()
    assert len(lines) == 2
    assert r"[red]a\x1b[2J\nb\u202e" in lines[1]


def test_no_text_is_cut_where_there_is_no_terminal(tmp_path: Path) -> None:
    """A file or a pipe gets whole lines without colours."""
    name = "registry.example/" + "long/" * 90
    write(tmp_path, record(1, name=name))
    assert name in run(tmp_path).stdout
    assert "\x1b" not in run(tmp_path).stdout


@pytest.mark.parametrize("wrong", [None, 7, "text", [], {"name": []}])
@pytest.mark.parametrize("event", logs.EVENTS)
def test_foreign_records_break_nothing(tmp_path: Path, event: str, wrong: Any) -> None:
    """A record whose keys hold anything is shown as far as it goes."""
    keys = ("container", "sysctls", "violations", "namespace", "leftovers", "present", "objects", "drift", "changes")
    write(tmp_path, {**record(1, event), **dict.fromkeys((*keys, "uid", "reason"), wrong)})
    assert run(tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (refused(1, requested="5", min="9", max=None), "kernel.shmmax 5 < 9"),
        (refused(1, requested="5", min="9", max="99"), "kernel.shmmax 5 < 9"),
        (refused(1, requested="100", min="9", max="99"), "kernel.shmmax 100 > 99"),
        (refused(1, requested="9", min="7", kind="set"), "kernel.shmmax 9, fixed at 7"),
        (refused(1, requested="9", min="7", kind="owner"), "kernel.shmmax 9 differs from 7 in force"),
        (refused(1, requested="0x10", kind="malformed"), "kernel.shmmax '0x10' is malformed"),
        (refused(1, requested="9", kind="unlisted"), "kernel.shmmax 9 is not listed in the profile"),
        (refused(1, name="ipc", requested="host", kind="host_ipc"), "asks for the host's IPC namespace"),
        (refused(1, name="x", requested="9", max="7", kind="rlimit"), "x 9 > 7"),
        (refused(1, name="/proc/sys", kind="writable_proc_sys"), "can write /proc/sys"),
        (refused(1, name="x", kind="nested_ipc"), "its seccomp filter does not deny nested namespaces"),
        (refused(1, name="x", requested="9", kind="of tomorrow"), "x 9 (of tomorrow)"),
        (record(1, reason="no-rule"), "no rule matches"),
        (record(1, "error", reason="apply", message="cannot set x"), "apply: cannot set x"),
        (
            record(1, "policy", policy="0123", uid=0, changes=CHANGES),
            "0123 put in force by root; mode permissive; rule changed: a; and 1 more rules; profiles added: b, c",
        ),
        (
            record(1, "applied", enforced=True, sysctls=[{"name": "kernel.msgmni", "found": "7"}]),
            "kernel.msgmni 7 in force",
        ),
        (record(1, "applied", enforced=True, sysctls=[{"name": "x", "found": "7"}] * 9), "9 limits in force"),
        (
            record(1, "applied", enforced=False, sysctls=[{"name": "x", "found": "7"}]),
            "permissive: nothing written, x 7 found",
        ),
        (
            record(
                1,
                "applied",
                enforced=True,
                sysctls=[],
                rlimits={"msgqueue": {"wanted": "5"}},
                writable_proc_sys=True,
                nested_ipc="unenforced",
            ),
            "0 limits in force; RLIMIT_MSGQUEUE at most 5; can write /proc/sys; nested namespaces are not denied",
        ),
        (
            record(1, "applied", enforced=True, sysctls=[], dev_shm={"size": 32768, "warn_below": 65536}),
            "0 limits in force; its /dev/shm has 32768 bytes, less than 65536",
        ),
        (
            record(1, "verified", rlimits={"msgqueue": {"wanted": "5", "found": "9"}}),
            "RLIMIT_MSGQUEUE 9 put right to 5",
        ),
        (
            record(1, "verified", sysctls=[{"name": "x", "found": "9", "wanted": "7"}], joiner={"id": "ab" * 32}),
            "x 9 put right to 7; by abababababab, which joined",
        ),
        (
            record(1, "verified", late=True, sysctls=[{"name": "x", "found": "9", "wanted": "7"}]),
            "x 9 put right to 7; the user's process had it for a while",
        ),
        (teardown(1), "2 shm 128 KiB freed"),
        (teardown(1, leftovers=dict.fromkeys(("shm", "sem", "msg", "mqueue"), NOTHING)), "nothing visible left"),
        (
            teardown(1, drift=[{"name": "x", "wanted": "1", "found": "2"}]),
            "2 shm 128 KiB freed; drift x 1 -> 2",
        ),
        (
            teardown(1, namespace={"destroyed": False, "holders": [{"pid": 7, "command": "sh"}]}),
            "2 shm 128 KiB left, held by sh(7)",
        ),
        (teardown(1, namespace={"destroyed": False, "holders": []}), "2 shm 128 KiB left, held by somebody unseen"),
        (
            teardown(1, namespace={"destroyed": False, "holders": [], "host": True}),
            "2 shm 128 KiB perhaps left in the host's namespace",
        ),
        (teardown(1, dev_shm={"count": 2, "bytes": 8192}), "2 shm 128 KiB freed; 2 files 8 KiB in /dev/shm"),
        (teardown(1, dev_shm={"count": 0, "bytes": 0}), "2 shm 128 KiB freed"),
        (teardown(1, leftovers=None), "its namespace went with an earlier boot"),
        (
            teardown(1, leftovers=None, present={"sem": {"count": 1, "bytes": 64}}),
            "its namespace lives on: 1 sem 64 B in it",
        ),
        (
            teardown(1, present={"shm": {"count": 3, "bytes": 196608}}, removed={"shm": {"count": 1, "bytes": 65536}}),
            "left 2 shm 128 KiB, 1 shm 64 KiB of that removed; its namespace lives on: 3 shm 192 KiB in it before",
        ),
        (
            teardown(1, present={"shm": {"count": 3, "bytes": 196608}}),
            "left 2 shm 128 KiB, nothing of that removed; its namespace lives on: 3 shm 192 KiB in it",
        ),
        (
            teardown(1, drift=[{"name": "x", "wanted": "1", "found": "2"}], causes=["privileged", "host"]),
            "2 shm 128 KiB freed; drift x 1 -> 2; could be the container, which has CAP_SYS_ADMIN, the host's root",
        ),
        (teardown(1, dev_shm={"count": 1, "bytes": 8192}), "2 shm 128 KiB freed; 1 file 8 KiB in /dev/shm"),
        (record(1, "collected", removed={"sem": {"count": 1, "bytes": 64}}), "1 sem 64 B removed"),
        (
            record(1, "drift", drift=[{"name": "x", "wanted": "1", "found": "2"}], causes=["joiner", "later", "host"]),
            "drift x 1 -> 2; could be another one's runtime, later, the host's root",
        ),
        (record(1, "drift", drift=[], causes=[]), "all limits are as they were put in force again"),
        (record(1, "ungoverned", pid=7, rootless=False), "runs, and no hook has seen it: pid 7"),
        (record(1, "ungoverned", pid=7, rootless=True), "an ordinary user's, and no hook of ours has seen it: pid 7"),
    ],
)
def test_what_happened_is_told(given: dict[str, Any], told: str) -> None:
    """Each event comes down to a few words."""
    assert summary.what(given) == told


def test_long_ids_are_shown_short() -> None:
    """A container without a name is called by the beginning of its id, as engines do."""
    assert summary.container_of(record(1, container="ab" * 32, name=None)) == "abababababab"


WHOLE = st.fixed_dictionaries({"event": st.sampled_from(logs.EVENTS), "text": st.text(max_size=30)})
TORN = st.one_of(
    st.tuples(WHOLE, st.floats(0, 1)),  # a record, cut at that part of its length
    st.binary(max_size=40).filter(lambda line: b"\n" not in line),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(WHOLE, TORN), max_size=25), st.lists(st.integers(0, 25), max_size=3), st.booleans())
def test_every_whole_record_comes_out_in_order(lines: list[Any], cuts: list[int], compressed: bool) -> None:
    """Whatever is torn between them, and however the log is cut into files, whole records come out in order."""
    written: list[bytes] = []
    whole: list[bytes] = []
    for second, line in enumerate(lines):
        if isinstance(line, dict):
            whole.append(line_of(record(second, line["event"], line["text"] or "c")))
            written.append(whole[-1])
        elif isinstance(line, tuple):
            full = line_of(record(second, line[0]["event"], line[0]["text"]))[:-1]
            written.append(full[: int(len(full) * line[1] * 0.999)] + b"\n")
        else:
            written.append(line + b"\n")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for number, (begin, end) in enumerate(pairwise(sorted({0, len(written), *cuts}))):
            write(root, *written[begin:end], name=f"audit.jsonl.{number}" + (".gz" if compressed else ""))
        with logs.Log(directory) as log:
            assert [each.line for each in log.read(logs.Filter())] == whole
            assert log.skipped == sum(bool(line.strip()) for line in written) - len(whole)
            some = [each for each in whole if json.loads(each)["event"] == "refused"]
            assert [each.line for each in log.read(logs.Filter(event="refused"))] == some
