"""How much of each limit is used, as far as objects tell; and the most that was ever seen."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ipcwarden.core.objects import Inventory


def usage_of(column: Callable[[str, str], list[int]], page: int) -> dict[str, int]:
    """Return what objects make of each limit that can be told from them; `page` is the page size in bytes.

    `column` gives what all objects of a kind have under a name.  A limit of what a single object may be is used by the
    largest: kernel.msgmnb by the bytes in a queue, since none lists what a queue may hold, fs.mqueue.msg_max and
    msgsize_max by what queues were made for.  Of kernel.msgmax, SEMOPM and the defaults no object tells.
    """
    sizes, arrays = column("shm", "size"), column("sem", "nsems")
    queues, lengths = column("msg", "usedbytes"), column("mqueue", "maxmsg")
    return {
        "kernel.shmall": sum(column("shm", "claimed")) // page,
        "kernel.shmmax": max(sizes, default=0),
        "kernel.shmmni": len(sizes),
        "kernel.sem.semmsl": max(arrays, default=0),
        "kernel.sem.semmns": sum(arrays),
        "kernel.sem.semmni": len(arrays),
        "kernel.msgmnb": max(queues, default=0),
        "kernel.msgmni": len(queues),
        "fs.mqueue.queues_max": len(lengths),
        "fs.mqueue.msg_max": max(lengths, default=0),
        "fs.mqueue.msgsize_max": max(column("mqueue", "msgsize"), default=0),
    }


def usage_in(found: Inventory, page: int) -> dict[str, int]:
    """Return how much of each limit is in use in a namespace; `page` is the page size in bytes."""

    def column(kind: str, name: str) -> list[int]:
        if kind in found.tables:
            return found.tables[kind].column(name)
        return [int(each.get(name, 0)) for each in found.queues]  # of one that could not be opened less is known

    return usage_of(column, page)


def raised_peaks(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """Return the most of each that was ever in use, by name; what never was is left out."""
    found = {name: max(number, before.get(name, 0)) for name, number in now.items()}
    return {**before, **{name: number for name, number in found.items() if number}}
