"""How much: units, shares of memory, and the kernel's own range for each name."""

from __future__ import annotations

import re

from ipcwarden.compiler.findings import Report
from ipcwarden.compiler.nodes import Mapping, Node, Scalar, Spoilt, shown
from ipcwarden.core.sysctls import BYTES, PAGES, range_of
from ipcwarden.values import value

TYPE_CHECKING = False
if TYPE_CHECKING:
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
_MOST_PER_CENT = 10000
_SIZE = re.compile(r"(0|[1-9][0-9]{0,19})(KiB|MiB|GiB|TiB)")
_COUNT_OF_PAGES = re.compile(r"(0|[1-9][0-9]{0,19}) pages")
_SHARE = re.compile(r"([1-9][0-9]{0,4})% of (memory|limit|host)")
_PER_CENT = re.compile(r"([1-9][0-9]{0,4})%")
_PER_GIB = re.compile(r"([1-9][0-9]{0,9}) per GiB")
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_LOOSE_SIZE = re.compile(r"([0-9]+)\s*([kmgt])i?(?:b|bytes)?", re.IGNORECASE)
_LOOSE_SHARE = re.compile(r"([0-9]+)\s*%.*")
_HEX = re.compile(r"0[xX]([0-9a-fA-F]{1,16})")
_DECORATED = re.compile(r"[+]?0*([0-9][0-9_,']{0,30})")


@value
class Machine:
    """What amounts mean here: a fresh namespace's values, the kernel they are from, its page and its ranges."""

    kernel: dict[str, int]
    release: str
    page: int
    ipcmni_extend: bool = False

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
    if text == "kernel":
        return text
    if _NUMBER.fullmatch(text):
        return _in_range(name, node, text, machine, report)
    if (found := _SIZE.fullmatch(text)) and name in BYTES | PAGES:
        number = int(found[1]) * UNITS[found[2]]
        if name in PAGES and number % machine.page:
            report.error(node.at, f"{text} is not a whole number of pages of {machine.page} bytes", "round it up")
            return None
        return _in_range(name, node, str(number // machine.page if name in PAGES else number), machine, report)
    if (found := _COUNT_OF_PAGES.fullmatch(text)) and name in PAGES:
        return _in_range(name, node, found[1], machine, report)
    if (found := _SHARE.fullmatch(text)) and name in SHARES:
        if int(found[1]) > _MOST_PER_CENT:
            report.error(node.at, f"must be 1% to {_MOST_PER_CENT}%, not {shown(node)}")
            return None
        # Who has no limit can use the whole host's memory: that is its limit.
        return ("memory", None if found[2] == "host" else int(found[1]), int(found[1]), 0)
    if (found := _PER_GIB.fullmatch(text)) and name in SCALED:
        return ("per_gib", int(found[1]))
    report.error(node.at, f"must be {wanted(name)}, not {shown(node)}", _meant(name, text))
    return None


def _in_range(name: str, node: Scalar, digits: str, machine: Machine, report: Report) -> int | None:
    low, high = machine.range_of(name)
    if len(digits) <= 40 and low <= int(digits) <= high:
        return int(digits)
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
        if found and int(found[1]) <= _MOST_PER_CENT:
            return int(found[1])
        hint = f"write {node.value}%" if isinstance(node.value, int) and node.value > 0 and node.value is not True else ""
        report.error(node.at, f"must be a percentage from 1% to {_MOST_PER_CENT}%, not {shown(node)}", hint)
    elif not isinstance(node, Spoilt):
        report.error(node.at, f"must be a percentage, not {shown(node)}")
    return -1


def _least(node: Node | None, report: Report) -> int | None:
    if node is None:
        return 0
    if isinstance(node, Spoilt):
        return None
    text = str(node.value) if isinstance(node, Scalar) and not isinstance(node.value, bool) else ""
    found = _SIZE.fullmatch(text)
    if found or (_NUMBER.fullmatch(text) and len(text) <= 20):
        number = int(found[1]) * UNITS[found[2]] if found else int(text)
        if number <= range_of("kernel.shmmax")[1]:
            return number
    report.error(node.at, f"must be bytes, such as 1GiB, not {shown(node)}", _meant("kernel.shmmax", text))
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


def _meant(name: str, text: str) -> str:
    """Guess what was meant, for a hint and never for a value."""
    if found := _HEX.fullmatch(text):
        return f"numbers are decimal: write {int(found[1], 16)}"
    if found := _DECORATED.fullmatch(text):
        digits = "".join(c for c in found[1] if c.isdigit())
        return f"write {digits}: only digits, no leading zero"
    if (found := _LOOSE_SIZE.fullmatch(text)) and name in BYTES | PAGES:
        return f"write {found[1].lstrip('0') or '0'}{found[2].upper()}iB"
    if found := _LOOSE_SHARE.fullmatch(text):
        share = f"'{found[1].lstrip('0') or '1'}% of memory'"
        return f"write {share}" if name in SHARES else "shares of memory are for kernel.shmmax and kernel.shmall"
    if "per" in text:
        return "write '256 per GiB'" if name in SCALED else f"'N per GiB' is for {', '.join(sorted(SCALED))}"
    if _SIZE.fullmatch(text) or _COUNT_OF_PAGES.fullmatch(text):
        return "it counts, without a unit" if name not in BYTES else "it is measured in bytes"
    if re.fullmatch(r"[0-9.]+[.eE:][0-9.eE:+-]*", text):
        return "a whole number in digits alone"
    return "write 'kernel', or the number that you mean" if text in ("max", "unlimited", "-1", "infinity", "") else ""
