"""Long work is told while it is done: as much as was said to come, and each thing once."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.findings import Environment
from cto_backups.evidence.index import Scope
from cto_backups.flows.audit import audit
from cto_backups.flows.evidence import check_catalog, check_vault, write_export
from cto_backups.flows.expire import expire, plan
from cto_backups.flows.protect import protect


class Watcher:
    """Everything that was told, by title: [entries that are to come, entries done]."""

    def __init__(self) -> None:
        self.told: dict[str, list[int]] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[Any]:
        self._now = self.told.setdefault(title, [0, 0])
        yield self

    def total(self, *, entries: int, size_bytes: int) -> None:
        self._now[0] = entries

    def advance(self, *, entries: int = 0, size_bytes: int = 0) -> None:
        self._now[1] += entries


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def watched(workshop: Any, watcher: Watcher) -> Any:
    """An installation with a few points, of which somebody watches what is done next."""
    for _ in range(4):
        with (workshop.data / "files" / "report.txt").open("a") as file:
            file.write("more\n")
        protect(workshop.installation, "documents")
    return dataclasses.replace(workshop.installation, progress=watcher)


def test_records_are_counted_while_they_are_checked_and_written(watched: Any, watcher: Watcher, tmp_path: Path) -> None:
    records = check_catalog(watched, ()).records
    assert records > 10
    check_vault(watched, "one", ())
    write_export(watched, tmp_path / "auditor.zip", Scope(clock.now() - timedelta(days=1), clock.now()))
    there = watched.catalog.vault_head("one", watched.signer.signer)
    assert watcher.told == {
        "Checking the records in the catalog": [0, 2 * records],  # the export checks them first
        "Checking the records in one": [there, there],
        "Writing auditor.zip": [records, records],
    }


def test_expired_points_are_counted_while_they_are_dropped(watched: Any, watcher: Watcher) -> None:
    dropped = len(expire(watched, plan(watched, "documents")).plan.removed)
    assert dropped >= 1
    assert watcher.told == {
        f"Dropping what has expired from {name}": [dropped, dropped] for name in watched.policy.vaults
    }


def test_sources_are_counted_while_an_audit_looks_at_them(watched: Any, watcher: Watcher) -> None:
    audit(watched, Environment())
    assert watcher.told["Looking at every source"] == [len(watched.policy.sources)] * 2
