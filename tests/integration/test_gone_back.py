"""A catalog that has gone back in time: an older copy of its file was put back, and what writes goes on with it."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from cto_backups.catalog.catalog import Catalog
from cto_backups.core.model import ActionKind
from cto_backups.errors import CatalogBehindError, DamageError
from cto_backups.flows import expire, hold, records
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import prune
from cto_backups.flows.recover import recover

from .conftest import VAULTS, build

Back = Callable[[], Any]


@pytest.fixture
def points(workshop: Any) -> list[str]:
    """Four points, the oldest first; retention keeps two versions."""
    return [another(workshop, number) for number in range(4)]


def another(workshop: Any, number: int) -> str:
    (workshop.data / "files" / "report.txt").write_text(f"version {number}\n")
    return str(protect(workshop.installation, "documents").backup.point.id)


@pytest.fixture
def older(workshop: Any) -> Iterator[Callable[[], Back]]:
    """Keeps a copy of the catalog as it is; what that gives puts the copy back, and opens the installation anew."""
    opened = []

    def keep() -> Back:
        file, copy = workshop.root / "catalog.db", workshop.root / "older.db"
        with closing(sqlite3.connect(file)) as live, closing(sqlite3.connect(copy)) as kept:
            live.backup(kept)

        def back() -> Any:
            workshop.catalog.close()
            for each in workshop.root.glob("catalog.db*"):
                each.unlink()
            shutil.move(copy, file)
            opened.append(build(workshop.root, workshop.data, workshop.sources))
            return opened[-1]

        return back

    yield keep
    for each in opened:
        each.catalog.close()


def snapshots(workshop: Any) -> list[int]:
    return [len(workshop.installation.store(vault).committed()) for vault in VAULTS]


def test_what_is_under_a_legal_hold_that_the_catalog_forgot_stays(
    workshop: Any, points: list[str], older: Callable[[], Back]
) -> None:
    """The expiry would be signed under the number of the hold; no vault takes it, and nothing is deleted there."""
    back = older()
    hold.place(workshop.installation, points[0], reason="case 4711", approver=None)
    again = back()
    done = expire.expire(again.installation, expire.plan(again.installation, "documents"))
    assert snapshots(again) == [4, 4, 4]
    assert set(done.problems) == set(VAULTS)
    for problem in done.problems.values():
        assert isinstance(problem, DamageError) and "have parted" in str(problem.why)


def test_a_catalog_that_went_back_under_a_process_at_work_is_noticed(
    workshop: Any, points: list[str], older: Callable[[], Back]
) -> None:
    """What the catalog knows of is less than what this process has brought."""
    back = older()
    hold.place(workshop.installation, points[0], reason="case 4711", approver=None)
    again = back()
    again.installation.brought.update(workshop.installation.brought)
    with pytest.raises(CatalogBehindError, match="gone back in time"):
        records.deliver(again.installation, "one")


def test_a_backup_that_was_under_way_when_the_copy_was_made_is_not_taken_for_one_that_broke_off(
    workshop: Any, older: Callable[[], Back], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the copy its run goes on, and nothing is signed; in the vaults it is whole, and its records are there."""
    another(workshop, 0)
    sign, backs = Catalog.append_records, list[Back]()

    def copied_before(catalog: Catalog, *said: Any) -> Any:
        if not backs:
            backs.append(older())
        return sign(catalog, *said)

    with monkeypatch.context() as patched:
        patched.setattr(Catalog, "append_records", copied_before)
        another(workshop, 1)
    again = backs[0]()
    (run,) = [run for run in again.catalog.runs() if run.finished_at is None]
    assert run.action is ActionKind.BACKUP
    monkeypatch.setattr("cto_backups.flows.recover.process_alive", lambda _pid: False)
    told = recover(again.installation)
    assert snapshots(again) == [2, 2, 2], told
    assert sum("The catalog has gone back in time" in sentence for sentence in told) == 3, told
    for vault in VAULTS:
        with pytest.raises(CatalogBehindError):
            prune(again.installation, vault)
    assert snapshots(again) == [2, 2, 2]
