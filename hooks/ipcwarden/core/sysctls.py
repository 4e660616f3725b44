"""The governed sysctls: names, units, the kernel's own ranges and defaults, and how their values are spelled.

Everywhere a limit is one of sixteen names: `kernel.sem` counts as its four fields (proc_sys_kernel(5), mq_overview(7),
ipc/ipc_sysctl.c, ipc/mq_sysctl.c).
"""

from __future__ import annotations

SEM_FIELDS = ("kernel.sem.semmsl", "kernel.sem.semmns", "kernel.sem.semopm", "kernel.sem.semmni")

# Written in this order: a ceiling before what it holds down.
FILES: dict[str, tuple[str, ...]] = {
    "kernel.shmall": ("kernel.shmall",),
    "kernel.shmmax": ("kernel.shmmax",),
    "kernel.shmmni": ("kernel.shmmni",),
    "kernel.shm_rmid_forced": ("kernel.shm_rmid_forced",),
    "kernel.sem": SEM_FIELDS,
    "kernel.msgmax": ("kernel.msgmax",),
    "kernel.msgmnb": ("kernel.msgmnb",),
    "kernel.msgmni": ("kernel.msgmni",),
    "fs.mqueue.queues_max": ("fs.mqueue.queues_max",),
    "fs.mqueue.msg_max": ("fs.mqueue.msg_max",),
    "fs.mqueue.msg_default": ("fs.mqueue.msg_default",),
    "fs.mqueue.msgsize_max": ("fs.mqueue.msgsize_max",),
    "fs.mqueue.msgsize_default": ("fs.mqueue.msgsize_default",),
}
NAMES = tuple(name for names in FILES.values() for name in names)

# A fresh namespace's values; nothing is inherited.  2^64-1-2^24 is ULONG_MAX - (1UL << 24) of ipc/shm.c.
KERNEL_DEFAULTS = {
    "kernel.shmall": 18446744073692774399,
    "kernel.shmmax": 18446744073692774399,
    "kernel.shmmni": 4096,
    "kernel.shm_rmid_forced": 0,
    "kernel.sem.semmsl": 32000,
    "kernel.sem.semmns": 1024000000,
    "kernel.sem.semopm": 500,
    "kernel.sem.semmni": 32000,
    "kernel.msgmax": 8192,
    "kernel.msgmnb": 16384,
    "kernel.msgmni": 32000,
    "fs.mqueue.queues_max": 256,
    "fs.mqueue.msg_max": 10,
    "fs.mqueue.msg_default": 10,
    "fs.mqueue.msgsize_max": 8192,
    "fs.mqueue.msgsize_default": 8192,
}

_INT_MAX = 2147483647
_ULONG_MAX = 18446744073709551615
_IPCMNI = 32768  # 16777216 where the kernel was booted with ipcmni_extend
_IPCMNI_EXTENDED = 16777216

BYTES = frozenset(
    ("kernel.shmmax", "kernel.msgmax", "kernel.msgmnb", "fs.mqueue.msgsize_max", "fs.mqueue.msgsize_default")
)
PAGES = frozenset(("kernel.shmall",))
_RANGES = {
    "kernel.shmall": (0, _ULONG_MAX),
    "kernel.shmmax": (0, _ULONG_MAX),
    "kernel.shm_rmid_forced": (0, 1),
    "fs.mqueue.msg_max": (1, 65536),
    "fs.mqueue.msg_default": (1, 65536),
    "fs.mqueue.msgsize_max": (128, 16777216),
    "fs.mqueue.msgsize_default": (128, 16777216),
}
_COUNTED = frozenset(("kernel.shmmni", "kernel.msgmni", "kernel.sem.semmni"))


def range_of(name: str, ipcmni_extend: bool = False) -> tuple[int, int]:
    """Return the least and the greatest value that one of `NAMES` can sensibly have.

    It is the kernel's range but for four that the kernel does not check at all and takes negative: there -1 means
    no limit (queues_max, SEMOPM) or nothing at all (SEMMSL, SEMMNS), so they start at 0 here.
    """
    if name in _COUNTED:
        return (0, _IPCMNI_EXTENDED if ipcmni_extend else _IPCMNI)
    return _RANGES.get(name, (0, _INT_MAX))


def file_of(name: str) -> str:
    """Return which of `FILES` one of `NAMES` stands in."""
    return "kernel.sem" if name in SEM_FIELDS else name


def path_of(name: str) -> str:
    """Return the path below /proc/sys of one of `FILES`."""
    return name.replace(".", "/")


def canonical(text: str) -> int | None:
    """Return the number that is spelled in the one way nobody can misread, else None.

    The kernel takes 010 for 8 and 0x10 for 16, ignores blanks and whatever follows the 4095th byte; runtimes pass
    all of that on.
    """
    if text.isascii() and text.isdigit() and len(text) <= 20 and (text[0] != "0" or text == "0"):
        return int(text)
    return None


def numbers(name: str, text: str) -> tuple[int, ...] | None:
    """Return the value of one of `FILES` as its fields, or None where it is not spelled canonically."""
    count = len(FILES[name])
    words = text.replace("\t", " ").split(" ") if count > 1 else [text]
    words = [word for word in words if word] if text[:1].isdigit() and text[-1:].isdigit() else words
    found = [number for number in map(canonical, words) if number is not None]
    return tuple(found) if len(found) == len(words) == count else None


def as_kernel_reads(text: str) -> int | None:
    """Return the number that the kernel takes a text for, or None: 010 is 8 and 0x10 is 16 (simple_strtoul)."""
    word = text.partition("\0")[0].strip(" \t\n").lower()
    digits, base = (word[2:], 16) if word.startswith("0x") else (word, 8 if word.startswith("0") else 10)
    if not digits or len(digits) > 24 or any(digit not in "0123456789abcdef"[:base] for digit in digits):
        return None
    return int(digits, base)


def spelled(name: str, limits: dict[str, int]) -> str:
    """Return what is written to one of `FILES` for these limits: canonical decimal, the four of sem with blanks."""
    return " ".join(str(limits[field]) for field in FILES[name])
