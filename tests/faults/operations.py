"""What is killed, and has faults injected: each operation as one function, with the stages of its order of commit.

Another operation is an entry in `OPERATIONS`. As a program, one of them in a process of its own, which dies where the
environment tells it to: ``python -m faults.operations ROOT TREE NAME``.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cto_backups import clock
from cto_backups.core.pruning import PruneRules
from cto_backups.core.vaults import Vault
from cto_backups.repository.layout import is_there
from cto_backups.repository.store import RepositoryStore
from faults.logged_vault import Kill, LoggedVault
from faults.workplace import PREFIX, Workplace, copy_missing
from stock.product import QUICK_SMALL_PACKS, new_store

RULES = PruneRules(unused_share=0, small_bytes=0, index_blobs=3)
_LATER = timedelta(hours=25)

Run = Callable[[Workplace, Vault], None]
Step = str | tuple[str, Kill]


@dataclass(frozen=True)
class Operation:
    """`run` works on the vault `writes_to`, through what it is given for it. `stages` are all it writes, in order.

    `after` are the operations (and where they are killed) that make its work. Doing it a second time must be fine. One
    that `mends` begins with a vault that is damaged.
    """

    run: Run
    stages: tuple[str, ...]
    after: tuple[Step, ...] = ()
    writes_to: str = "first"
    mends: bool = False

    @property
    def touches(self) -> tuple[str, ...]:
        """The vaults whose snapshots may be harmed when it goes wrong."""
        return {"first": ("first",), "second": ("first", "second")}.get(self.writes_to, ())


def _create(place: Workplace, vault: Vault) -> None:
    vault.create()
    if not is_there(vault, PREFIX):
        new_store(vault, options=QUICK_SMALL_PACKS)
    _cleared(place, vault)


def _backup(place: Workplace, vault: Vault) -> None:
    place.back_up(_cleared(place, vault))


def _copy(place: Workplace, vault: Vault) -> None:
    copy_missing(place, place.store("first"), _cleared(place, vault))


def _expire(place: Workplace, vault: Vault) -> None:
    store = _cleared(place, vault)
    oldest = [committed.reference for committed in store.committed() if committed.time.day == 1]
    for reference in oldest:
        place.withdraw(vault.name, reference)
    store.expire(oldest)


def _prune(place: Workplace, vault: Vault) -> None:
    # What was reported is what a catalog would know.
    _cleared(place, vault).prune(
        RULES, expected=lambda: [one.reference for one in place.promised() if one.vault == vault.name]
    )


def _delete(place: Workplace, vault: Vault) -> None:
    now = clock.now
    clock.now = lambda: now() + _LATER  # type: ignore[assignment]
    try:
        _prune(place, vault)
    finally:
        clock.now = now


def _clear(place: Workplace, vault: Vault) -> None:
    _cleared(place, vault)


def _harm(place: Workplace, vault: Vault) -> None:
    """One pack loses its first blob, another one is gone, and an index file cannot be read."""
    top = place.root / vault.name / PREFIX
    packs = sorted((top / "data").glob("*/*"), key=lambda path: (-path.stat().st_size, path.name))
    for path in (packs[0], sorted((top / "index").iterdir())[0]):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(bytes(20) + content[20:])
    packs[1].unlink()


def _repair(place: Workplace, vault: Vault) -> None:
    _cleared(place, vault).repair([place.store("second")])


def _cleared(place: Workplace, vault: Vault) -> RepositoryStore:
    store = place.store(vault.name, vault)
    store.clear_leftovers()
    return store


_KILLED = ("backup", Kill.parse("pack:3:during"))

OPERATIONS = {
    "create": Operation(_create, ("key", "config"), writes_to="third"),
    "backup": Operation(_backup, ("lock", "pack", "index", "snapshot", "lock-delete")),
    "copy": Operation(
        _copy, ("lock", "pack", "index", "snapshot", "lock-delete"), after=("backup",), writes_to="second"
    ),
    "expire": Operation(_expire, ("lock", "snapshot-delete", "lock-delete")),
    "prune": Operation(
        _prune, ("lock", "pack", "index", "marks", "index-delete", "lock-delete"), after=("backup", "expire")
    ),
    # The second phase of a prune, a day later.
    "delete": Operation(
        _delete, ("lock", "pack-delete", "marks-delete", "lock-delete"), after=("backup", "expire", "prune")
    ),
    "clear": Operation(_clear, ("lock-delete",), after=(_KILLED,)),
    # The vault is harmed before it: until it is through, only the other one gives everything back.
    "repair": Operation(
        _repair,
        ("lock", "pack", "index", "marks", "index-delete", "lock-delete"),
        after=("backup", "copy", "harm"),
        mends=True,
    ),
}
_PREPARATIONS = {"harm": Operation(_harm, ())}


def wrong_after(place: Workplace, name: str) -> list[str]:
    """What must not be so after an operation was disturbed, in whatever way: see `workplace`."""
    operation = OPERATIONS[name]
    if operation.mends:
        return place.broken_promises() + place.half_shown(["second"])
    return place.half_shown(operation.touches)


def main() -> None:
    """Do it."""
    place = Workplace(Path(sys.argv[1]), Path(sys.argv[2]))
    operation = (OPERATIONS | _PREPARATIONS)[sys.argv[3]]
    operation.run(place, LoggedVault.from_environment(place.vault(operation.writes_to)))


if __name__ == "__main__":
    main()
