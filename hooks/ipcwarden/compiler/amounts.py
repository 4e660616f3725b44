"""How much: units, shares of memory, and the kernel's own range for each name."""

from __future__ import annotations

import re

from ipcwarden.compiler.findings import listed
from ipcwarden.compiler.nodes import Mapping, Scalar, Spoilt, shown
from ipcwarden.core.sysctls import BYTES, PAGES, range_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.compiler.findings import Report
    from ipcwarden.compiler.nodes import Node
    from ipcwarden.core.policy import Amount

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SHARES = frozenset(("kernel.shmmax", "kernel.shmall"))  # the only ones that are memory
SHARE_KEYS = frozenset(("of_limit", "of_host", "at_least"))
# Counts of objects grow with a container; the size of one object does not.
SCALED = frozenset(
    (
        "kernel.shmmni",
        "kernel.msgmni",
        "kernel.sem.semmns",
        "kernel.sem.semmni",
        "fs.mqueue.queues_max",
        "fs.mqueue.msg_max",
    )
)
MOST_PER_CENT = 10000
_UNITS_OF_TIME = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 366 * 86400  # seconds
RLIMIT_MSGQUEUE = 819200  # MQ_BYTES_MAX of linux/mqueue.h, what every process starts with
_MOST_OF_RLIMIT = (1 << 63) - 1
_DIGITS = 40
_SIZE = re.compile(r"(0|[1-9][0-9]{0,19})(KiB|MiB|GiB|TiB)")
_COUNT_OF_PAGES = re.compile(r"(0|[1-9][0-9]{0,19}) pages")
_SHARE = re.compile(r"([1-9][0-9]{0,4})% of (memory|limit|host)")
_PER_CENT = re.compile(r"([1-9][0-9]{0,4})%")
_PER_GIB = re.compile(r"([1-9][0-9]{0,9}) per GiB")
_DURATION = re.compile(r"(0|[1-9][0-9]{0,8})([smhd]?)")
_LOOSE_DURATION = re.compile(r"([0-9]+)\s*([smhd]|)[a-z]*", re.IGNORECASE)
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_LOOSE_SIZE = re.compile(r"([0-9]+)\s*([kmgt])i?(?:b|bytes)?", re.IGNORECASE)
_LOOSE_SHARE = re.compile(r"([0-9]+)\s*%.*")
_HEX = re.compile(r"0[xX]([0-9a-fA-F]{1,16})")
_FRACTION = re.compile(r"[0-9]+[.eE:][0-9.eE:+-]*([KMGT]i?B?)?")
_UNLIMITED = frozenset(("", "max", "unlimited", "infinity", "-1"))
_DECORATED = re.compile(r"[+]?0*([0-9][0-9_,']{0,30})")


def _nobody(_name: str) -> None:
    return None


@value
class Machine:
    """What a policy means here: a fresh namespace's values, the kernel they are from, its page and its ranges, users.

    `uid_of` tells a user's uid by name; None where nobody has that name.
    """

    kernel: dict[str, int]
    release: str
    page: int
    ipcmni_extend: bool = False
    uid_of: Callable[[str], int | None] = _nobody

    def range_of(self, name: str) -> tuple[int, int]:
        """Return the least and the greatest value of a name."""
        return range_of(name, self.ipcmni_extend)


def amount_of(name: str, node: Node, machine: Machine, report: Report) -> Amount | None:
    """Return an amount, or None where there is none to be had: reported, here or before."""
    if isinstance(node, Spoilt):
        return None
    if isinstance(node, Mapping) and name in SHARES:
        return _share(node, report)
    if not isinstance(node, Scalar) or node.value is None or isinstance(node.value, bool):
        hint = "null drops a whole rule" if isinstance(node, Scalar) and node.value is None else ""
        report.error(node.at, f"must be {wanted(name)}, not {shown(node)}", hint)
        return None
    return _written(name, node, str(node.value), machine, report)


def _written(name: str, node: Scalar, text: str, machine: Machine, report: Report) -> Amount | None:
    number = _number(name, text, machine.page)
    if number is not None:
        return _in_range(name, node, number, machine, report)
    amount = text if text == "kernel" else _relative(name, text)
    if amount is None:
        hint = _misspelled(text, name) or _misplaced(text, name, machine.page)
        report.error(node.at, f"must be {wanted(name)}, not {shown(node)}", hint)
    return amount


def _number(name: str, text: str, page: int) -> int | None:
    """Return a number as the kernel counts it; None where it is no number, or has a unit that does not fit."""
    if _NUMBER.fullmatch(text):
        return int(text[:_DIGITS])  # still far beyond every range
    if (found := _SIZE.fullmatch(text)) and name in BYTES | PAGES:
        number = int(found[1]) * UNITS[found[2]]
        if name in BYTES:
            return number
        return None if number % page else number // page
    found = _COUNT_OF_PAGES.fullmatch(text)
    return int(found[1]) if found and name in PAGES else None


def _relative(name: str, text: str) -> Amount | None:
    if (found := _SHARE.fullmatch(text)) and name in SHARES and int(found[1]) <= MOST_PER_CENT:
        # Who has no limit can use the whole host's memory: that is its limit.
        return ("memory", None if found[2] == "host" else int(found[1]), int(found[1]), 0)
    if (found := _PER_GIB.fullmatch(text)) and name in SCALED:
        return ("per_gib", int(found[1]))
    return None


def _in_range(name: str, node: Scalar, number: int, machine: Machine, report: Report) -> int | None:
    low, high = machine.range_of(name)
    if low <= number <= high:
        return number
    hint = ""
    if high < range_of(name, ipcmni_extend=True)[1]:
        hint = "more needs the kernel's boot option ipcmni_extend"
    elif name == "kernel.shm_rmid_forced":
        hint = "it is a switch"
    report.error(node.at, f"must be {low} to {high}, not {shown(node)}", hint)
    return None


def _share(node: Mapping, report: Report) -> Amount | None:
    limit, host = (_per_cent(node.entries.get(key), report) for key in ("of_limit", "of_host"))
    least = _least(node.entries.get("at_least"), report)
    if not node.entries.keys() & {"of_limit", "of_host"}:
        report.error(node.at, "must have of_limit or of_host", "such as {of_limit: 50%, of_host: 10%, at_least: 64MiB}")
        return None
    if -1 in (limit, host) or least is None:
        return None
    return ("memory", limit, limit if host is None else host, least)


def _per_cent(node: Node | None, report: Report) -> int | None:
    """Return a percentage; None where there is none, -1 where it is wrong."""
    if node is None:
        return None
    if isinstance(node, Scalar):
        found = _PER_CENT.fullmatch(str(node.value))
        if found and int(found[1]) <= MOST_PER_CENT:
            return int(found[1])
        hint = (
            f"write {node.value}%" if isinstance(node.value, int) and node.value > 0 and node.value is not True else ""
        )
        report.error(node.at, f"must be a percentage from 1% to {MOST_PER_CENT}%, not {shown(node)}", hint)
    elif not isinstance(node, Spoilt):
        report.error(node.at, f"must be a percentage, not {shown(node)}")
    return -1


def _least(node: Node | None, report: Report) -> int | None:
    return 0 if node is None else bytes_of(node, report)


def bytes_of(node: Node, report: Report) -> int | None:
    """Return bytes of memory, or None where there are none to be had: reported, here or before."""
    if isinstance(node, Spoilt):
        return None
    text = _text_of(node)
    number = _number("kernel.shmmax", text, 1)
    if number is not None and number <= range_of("kernel.shmmax")[1]:
        return number
    hint = "" if text in _UNLIMITED else _misspelled(text, "kernel.shmmax")
    report.error(node.at, f"must be bytes, such as 1GiB, not {shown(node)}", hint)
    return None


def seconds_of(node: Node, report: Report) -> int | None:
    """Return a duration in seconds, or None where there is none to be had: reported, here or before."""
    if isinstance(node, Spoilt):
        return None
    text = _text_of(node)
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _UNITS_OF_TIME[found[2]] if found else _LONGEST + 1
    if seconds <= _LONGEST:
        return seconds
    hint = "at most 366d" if found else ""
    if not found and (loose := _LOOSE_DURATION.fullmatch(text)):
        hint = f"write {loose[1].lstrip('0') or '0'}{loose[2].lower()}"
    report.error(node.at, f"must be a duration, such as 90s, 10m, 2h or 1d, not {shown(node)}", hint)
    return None


def _text_of(node: Node) -> str:
    return str(node.value) if isinstance(node, Scalar) and not isinstance(node.value, bool) else ""


def rlimit_of(node: Node, report: Report) -> int | None:
    """Return RLIMIT_MSGQUEUE in bytes, or None where there is none to be had: reported, here or before."""
    if isinstance(node, Spoilt):
        return None
    text = _text_of(node)
    number = RLIMIT_MSGQUEUE if text == "kernel" else _number("kernel.msgmax", text, 1)
    if number is not None and number <= _MOST_OF_RLIMIT:
        return number
    wanted_here = "must be bytes, such as 819200 or 800KiB, or 'kernel'"
    report.error(node.at, f"{wanted_here}, not {shown(node)}", _misspelled(text, "kernel.msgmax"))
    return None


def wanted(name: str) -> str:
    """Say what can be written for a name."""
    if name in PAGES:
        return "pages or a size, such as '262144 pages', 1GiB or '50% of memory', or 'kernel'"
    if name in SHARES:
        return "bytes, such as 1GiB or '50% of memory', or 'kernel'"
    if name in BYTES:
        return "bytes, such as 65536 or 64KiB, or 'kernel'"
    if name in SCALED:
        return "a count, such as 128 or '256 per GiB', or 'kernel'"
    return "0, 1 or 'kernel'" if name == "kernel.shm_rmid_forced" else "a count, such as 250, or 'kernel'"


def _misspelled(text: str, name: str) -> str:
    """Guess what was meant, for a hint and never for a value."""
    if found := _HEX.fullmatch(text):
        return f"numbers are decimal: write {int(found[1], 16)}"
    if found := _DECORATED.fullmatch(text):
        return f"write {''.join(c for c in found[1] if c.isdigit())}: only digits, no leading zero"
    if (found := _LOOSE_SIZE.fullmatch(text)) and name in BYTES | PAGES and not _SIZE.fullmatch(text):
        return f"write {found[1].lstrip('0') or '0'}{found[2].upper()}iB"
    if _FRACTION.fullmatch(text):
        return "a whole number in digits alone"
    return "write 'kernel', or the number that you mean" if text in _UNLIMITED else ""


def _misplaced(text: str, name: str, page: int) -> str:
    """Say where a spelling belongs that does not belong here."""
    if found := _LOOSE_SHARE.fullmatch(text):
        if name not in SHARES:
            return f"shares of memory are for {listed(sorted(SHARES), 'and')}"
        return f"write '{found[1].lstrip('0') or '1'}% of memory', at most {MOST_PER_CENT}%"
    if "per" in text:
        return "write '256 per GiB'" if name in SCALED else f"'N per GiB' is for {listed(sorted(SCALED), 'and')}"
    if _SIZE.fullmatch(text) or _COUNT_OF_PAGES.fullmatch(text):
        if name in PAGES:
            return f"the kernel counts whole pages of {page} bytes: round it up"
        return "it is measured in bytes" if name in BYTES else "it is a count, without a unit"
    return ""
