"""What ends have told of is kept while it stands there, and as what it was then."""

from __future__ import annotations

from ipcwarden.core.objects import Inventory, Table
from ipcwarden.core.told import Told, ids_in, ids_less, ids_of_both, told_in

SHM = b"""key shmid
0 7 600 9 21 0 0 0 0 0 0 0 0 50 4096 0
0 8 600 9 21 0 0 0 0 0 0 0 0 60 4096 0
0 9 600 9 21 0 0 0 0 0 0 0 0 50 4096 0
"""


def shm(*ids: int) -> dict[str, frozenset[int]]:
    """Name segments."""
    return {"shm": frozenset(ids)}


def test_sets_of_ids() -> None:
    """Ids are sets by kind: they add up, are taken out of others, and are kept as ranges."""
    assert ids_of_both(shm(1), {**shm(2), "sem": frozenset({3})}) == {**shm(1, 2), "sem": frozenset({3})}
    assert ids_less(shm(1, 2), shm(2)) == shm(1)
    assert ids_less(shm(1), {}) == shm(1)
    assert ids_in({"shm": [[1, 2], [5, 5]]}) == shm(1, 2, 5)
    assert ids_in(None) == {}


def test_what_ends_have_told_of() -> None:
    """What stands there is kept with what one more has told of; what was changed since is told apart."""
    inventory = Inventory({"shm": Table("shm", SHM, 4096)}, [])
    ended = Told(shm(7, 99), shm(8), 55)
    assert ended.given_again(inventory) == shm(8)
    assert ended.without(shm(8)) == Told(shm(7, 99), shm(), 55)
    assert ended.less(Told(shm(8), shm(8))) == Told(shm(7, 99), shm(), 55)
    noted = ended.with_more(inventory, {"proven": {"shm": [[9, 9]]}, "unproven": {}}, 70)
    assert noted == {"at": 70, "proven": {"shm": [[7, 7], [9, 9]]}, "unproven": {"shm": [[8, 8]]}}
    assert Told(shm(99), {}).with_more(inventory, {"proven": {}, "unproven": {}}, 70) == {}
    assert told_in(noted) == Told(shm(7, 9), shm(8), 70)
    assert told_in({"proven": {}, "unproven": {}}) == told_in(None) == Told({}, {}, 0)
