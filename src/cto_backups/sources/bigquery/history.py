"""The ways back to a moment, the fastest first: a table's own history, a snapshot that is kept, files from a vault.

Of a moment within a dataset's time travel, a copy job of ``table@milliseconds`` makes the table again without reading
it, also one that was dropped since: https://cloud.google.com/bigquery/docs/access-historical-data. A snapshot is
restored by a copy job too: https://cloud.google.com/bigquery/docs/table-snapshots-restore.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.database_restore import DatabaseWish
from cto_backups.core.time_travel import Window
from cto_backups.errors import RestoreError
from cto_backups.providers.google import RefusedError
from cto_backups.sources.bigquery.client import BigQuery, Document
from cto_backups.sources.bigquery.documents import file_name, lasting, written
from cto_backups.sources.bigquery.inventory import EXTRACTED, places, table_name
from cto_backups.sources.bigquery.loading import made_anew
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import StoredPoint, StoredTable
from cto_backups.sources.bigquery.state import FILE, State
from cto_backups.sources.bigquery.tree import TABLE

USUAL_HOURS: Final = 168
"""A dataset that says nothing of its time travel has this much, seven days."""
_MARGIN: Final = timedelta(minutes=10)
"""A restore that begins this shortly before the window closes could be overtaken by it."""


class Way(StrEnum):
    """How a dataset comes back."""

    TIME_TRAVEL = "time travel"
    SNAPSHOTS = "kept snapshots"
    EXPORT = "export"


@dataclass(frozen=True)
class Route:
    """One way back, to a moment; `is_of_point`: that is the moment of the recovery point."""

    way: Way
    moment: datetime
    is_of_point: bool = True

    @property
    def told(self) -> str:
        """For whoever restores."""
        match self.way:
            case Way.TIME_TRAVEL:
                return f"by time travel: BigQuery's own tables, as of {self.moment:%Y-%m-%d %H:%M:%S %Z}"
            case Way.SNAPSHOTS:
                return "by the point's snapshots of tables, which are kept in BigQuery"
            case Way.EXPORT:
                return "by the point's files, which BigQuery loads"


def hours_of(dataset: Document) -> int:
    """How far back a dataset's time travel leads."""
    return int(dataset.get("maxTimeTravelHours") or USUAL_HOURS)


def windows(bigquery: BigQuery, place: Place) -> Iterator[Window]:
    """How far back each protected dataset's time travel leads, and should."""
    for name, location in places(bigquery):
        if place.covers(name, location):
            hours = hours_of(bigquery.dataset(name))
            yield Window(f"{place.project}.{name}", timedelta(hours=hours), place.time_travel)


def routes(bigquery: BigQuery, place: Place, wish: DatabaseWish, tables: Sequence[str]) -> list[Route]:
    """The ways that are open, the fastest first; `tables` are those of the point that are wanted.

    The last one is the export, which is always there; it is the only one where a vault is asked for.
    """
    found = []
    if not wish.from_vault:
        meant = wish.meant or wish.moment
        hours = _hours(bigquery, wish.database)
        now = clock.now()
        if hours is not None and now - timedelta(hours=hours) + _MARGIN <= meant <= now:
            found.append(Route(Way.TIME_TRAVEL, meant, meant == wish.moment))
        if place.keeps_snapshots and _are_kept(bigquery, place, wish, tables):
            found.append(Route(Way.SNAPSHOTS, wish.moment))
    return [*found, Route(Way.EXPORT, wish.moment)]


def _hours(bigquery: BigQuery, dataset: str) -> int | None:
    """None of a dataset that is gone, and its history with it."""
    try:
        return hours_of(bigquery.dataset(dataset))
    except RefusedError as error:
        if error.status == 404:
            return None
        raise


def _are_kept(bigquery: BigQuery, place: Place, wish: DatabaseWish, tables: Sequence[str]) -> bool:
    try:
        there = {table_name(each) for each in bigquery.tables(place.snapshots_dataset)}
    except RefusedError as error:
        if error.status == 404:
            return False
        raise
    return all(place.snapshot_name(milliseconds(wish.moment), wish.database, table) in there for table in tables)


def milliseconds(moment: datetime) -> int:
    """A moment as BigQuery names one of a table."""
    return round(moment.timestamp() * 1000)


@dataclass(frozen=True)
class Copier:
    """Implements `loading.Loads`: makes tables of what BigQuery itself has, by copy jobs."""

    place: Place
    bigquery: BigQuery
    route: Route

    def load(self, table: StoredTable, dataset: str, name: str, *, bare: bool = False) -> list[str]:
        """Make a table as it was; what a person should know.

        Raises RestoreError, and what `words.FAILURES` has. A table of the point that somebody dropped before the moment
        is told, and not made.
        """
        document, notes = made_anew(table, bare=bare)
        document["tableReference"] = self.bigquery.reference(dataset, name)
        self.bigquery.make_table(dataset, document)
        try:
            self._copy(table, dataset, name)
        except RefusedError as error:
            if self.route.is_of_point or not _is_missing(error) or self._is_there(table):
                raise
            self.bigquery.delete_table(dataset, name)
            return [f"{table.key} was in the point, and is not there any more: {error.message}"]
        rows = int(self.bigquery.table(dataset, name)["numRows"])
        if self.route.is_of_point and rows != table.rows:
            raise RestoreError(
                f"source {self.place.name}: {table.key} came back with {rows:,} rows, and not {table.rows:,}",
                why=f"so it came {self.route.told}",
                todo="name a vault to restore the point's files: --vault NAME",
            )
        return notes

    def _copy(self, table: StoredTable, dataset: str, name: str) -> None:
        at = milliseconds(self.route.moment)
        if self.route.way is Way.SNAPSHOTS:
            source = self.bigquery.reference(
                self.place.snapshots_dataset, self.place.snapshot_name(at, table.dataset, table.name)
            )
        else:
            source = self.bigquery.reference(table.dataset, f"{table.name}@{at}")
        copy = {
            "sourceTable": source,
            "destinationTable": self.bigquery.reference(dataset, name),
            "operationType": "RESTORE" if self.route.way is Way.SNAPSHOTS else "COPY",
            "writeDisposition": "WRITE_EMPTY",
        }
        needs = "bigquery.tables.getData and bigquery.tables.create"
        self.bigquery.job({"copy": copy}, f"cto_backups_back_{secrets.token_hex(16)}", needs)

    def _is_there(self, table: StoredTable) -> bool:
        try:
            self.bigquery.table(table.dataset, table.name)
        except RefusedError as error:
            return error.status != 404
        return True


def _is_missing(error: RefusedError) -> bool:
    return error.status == 404 or error.reason == "notFound"


def add_newer(bigquery: BigQuery, folder: Path, dataset: str, moment: datetime) -> None:
    """Describe the tables that were made after the point, and by a moment, in the folder of the dataset."""
    known = {table.name for table in StoredPoint(folder).tables(folder)}
    for listed in bigquery.tables(dataset):
        name = table_name(listed)
        if listed["type"] not in EXTRACTED or name in known:
            continue
        whole = bigquery.table(dataset, name)
        if int(whole["creationTime"]) <= milliseconds(moment):
            place = folder / "tables" / file_name(name)
            place.mkdir(parents=True)
            (place / TABLE).write_bytes(written(lasting(whole)))
            (place / FILE).write_bytes(State("").written())
