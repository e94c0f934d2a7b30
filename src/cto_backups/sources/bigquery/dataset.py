"""One dataset of a point, or tables of it: beside what runs, in its place, or as files (`core.database_restore`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from cto_backups.core.database_restore import DatabasePlan, DatabaseRestored, DatabaseWish, Fetch, Stage
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, PointReader
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import NotFoundError, RefusedError, RestoreError, VerificationError
from cto_backups.providers import google
from cto_backups.sources.bigquery import aside, history
from cto_backups.sources.bigquery.bucket import DamagedObjectError
from cto_backups.sources.bigquery.documents import file_name
from cto_backups.sources.bigquery.landing import Landing
from cto_backups.sources.bigquery.loading import Loader
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.point import DATASET
from cto_backups.sources.bigquery.proof import tables_of
from cto_backups.sources.bigquery.sums import ALGORITHM
from cto_backups.sources.bigquery.tree import DATA, folder_of
from cto_backups.sources.bigquery.words import telling

_DATA: Final = f"/{DATA}".encode()
_DATA_DEPTH: Final = 4  # /DATASET/tables/TABLE/data


class DatasetForm:
    """Takes a dataset out of a point of this source, and brings it where it is wanted."""

    def __init__(self, place: Place, state: Path) -> None:
        self._place = place
        self._state = state

    def plan(self, reader: PointReader, told: Fingerprint, wish: DatabaseWish) -> DatabasePlan:
        """See all that can be seen beforehand. Raises as `core.database_restore.DatabaseSource` says."""
        entries = list(reader.listing(_only(wish)))
        size_bytes = self._there(told, wish, entries)
        if wish.folder is not None:
            there = wish.folder / file_name(wish.database)
            conflict = str(there) if there.exists() else None
            return DatabasePlan(there.name, str(wish.folder), size_bytes, conflict)
        with self._landing() as landing:
            route = self._routes(landing, told, wish)[0]
            name = _name(wish, route)
            stands = landing.bigquery.has_dataset(name)
        self._see_name(wish, name, stands=stands)
        notes = ("its tables there are kept in a dataset of their own, and replaced",) if stands else ()
        if route.way is not history.Way.EXPORT:
            size_bytes = 0
        notes = (f"it comes {route.told}", *notes)
        at = None if route.is_of_point else route.moment
        return DatabasePlan(name, self._place.project, size_bytes, name if stands else None, notes, route.way, at)

    def restore(self, fetch: Fetch, told: Fingerprint, wish: DatabaseWish, stage: Stage) -> DatabaseRestored:
        """Bring it where it is wanted. Raises as `core.database_restore.DatabaseSource` says."""
        entries = list(fetch.listing())
        size_bytes = self._there(told, wish, entries)
        if wish.folder is not None:
            return self._as_files(fetch, wish, size_bytes)
        with aside.folder(self._state) as place, self._landing() as landing:
            routes = self._routes(landing, told, wish)
            refused: list[str] = []
            for route in routes:
                folder = place / route.way.replace(" ", "-")
                rows = [path for path, _ in entries if path.count(b"/") == _DATA_DEPTH and path.endswith(_DATA)]
                fetch(folder, only=_only(wish), spare=rows if route.way is not history.Way.EXPORT else ())
                try:
                    restored = self._landed(landing, folder / file_name(wish.database), wish, route, stage)
                except (google.RefusedError, RestoreError) as error:
                    if route is routes[-1]:
                        raise
                    # What was made of it is gone again; a slower way leads to the point all the same.
                    refused.append(f"it did not come {route.told}: {error}")
                    continue
                size_bytes = size_bytes if route.way is history.Way.EXPORT else 0
                notes = (*refused, f"it came {route.told}", *restored.notes)
                return replace(restored, size_bytes=size_bytes, notes=notes)
        raise AssertionError("unreachable")

    def _routes(self, landing: Landing, told: Fingerprint, wish: DatabaseWish) -> list[history.Route]:
        tables = wish.tables or tables_of(told, wish.database)
        return history.routes(landing.bigquery, self._place, wish, tables)

    def _landed(
        self, landing: Landing, folder: Path, wish: DatabaseWish, route: history.Route, stage: Stage
    ) -> DatabaseRestored:
        """Bring it by one way; `folder` is the dataset's, in a point that was restored for it."""
        name = _name(wish, route)
        verify, kept, besides = wish.verify, None, []
        if route.way is not history.Way.EXPORT:
            landing = replace(landing, loader=history.Copier(self._place, landing.bigquery, route))
        if not route.is_of_point:
            if not wish.tables:
                history.add_newer(landing.bigquery, folder, wish.database, route.moment)
            if wish.verify:
                verify = False
                besides = ["its rows were not compared: of a moment between points no fingerprint was taken"]
        with stage(f"Loading {name}"):
            stands = landing.bigquery.has_dataset(name)
            self._see_name(wish, name, stands=stands)
            if stands:
                kept, notes = landing.in_place(folder, name, verify=verify)
            else:
                notes = landing.anew(folder, wish.database, name, chosen=wish.tables, verify=verify)
        at = None if route.is_of_point else route.moment
        return DatabaseRestored(name, self._place.project, 0, kept, (*besides, *notes), route.way, at)

    def _as_files(self, fetch: Fetch, wish: DatabaseWish, size_bytes: int) -> DatabaseRestored:
        assert wish.folder is not None
        there = wish.folder / file_name(wish.database)
        if there.exists():
            raise RefusedError(
                f"source {self._place.name}: {there} is there already",
                why="a dataset in a folder is many files, which are not mixed with others",
                todo="name a folder without it: --to FOLDER",
            )
        fetch(wish.folder, only=_only(wish))
        notes = ("bq load --source_format=AVRO --use_avro_logical_types takes the files of a table's data folder",)
        return DatabaseRestored(there.name, str(wish.folder), size_bytes, None, notes)

    def _see_name(self, wish: DatabaseWish, name: str, *, stands: bool) -> None:
        """Raise RefusedError for a name that is taken."""
        if stands and not wish.in_place:
            raise RefusedError(
                f"source {self._place.name}: there is a dataset {name} in {self._place.project} already",
                why="what comes back gets a name that is free",
                todo="choose another one: --as NAME",
            )
        if stands and wish.existing is Existing.REFUSE:
            raise RefusedError(
                f"source {self._place.name}: dataset {name} stands in {self._place.project}",
                why="its tables would be replaced; they would be kept in a dataset of their own",
                todo="say so: --overwrite; or leave out --in-place, and it comes beside",
            )

    def _there(self, told: Fingerprint, wish: DatabaseWish, entries: Sequence[tuple[bytes, Entry]]) -> int:
        """How many bytes are to be read. Raises NotFoundError for what the point does not hold."""
        if told.algorithm != ALGORITHM:
            raise RestoreError(
                f"source {self._place.name}: the point is not one of a BigQuery project",
                why=f"its fingerprint is {told.algorithm}",
                todo="restore it without --database",
            )
        paths = {path.decode("utf-8", "surrogateescape"): entry for path, entry in entries}
        top = f"/{file_name(wish.database)}"
        if f"{top}/{DATASET}" not in paths:
            raise NotFoundError(
                f"The point has no dataset {wish.database}",
                todo="see what it has: cto.backups ls POINT",
            )
        missing = [name for name in wish.tables if folder_of(wish.database, name) not in paths]
        if missing:
            raise NotFoundError(
                f"The point has no table {', '.join(missing)} in {wish.database}",
                why="views and the like come with their whole dataset",
                todo=f"see what it has: cto.backups ls POINT {top}/tables",
            )
        wanted = [folder_of(wish.database, name) for name in wish.tables] or [top]
        return sum(
            entry.size
            for path, entry in paths.items()
            if entry.kind is EntryKind.FILE and any(path.startswith(f"{place}/") for place in wanted)
        )

    @contextmanager
    def _landing(self) -> Iterator[Landing]:
        with landing(self._place) as opened:
            yield opened


@contextmanager
def landing(place: Place) -> Iterator[Landing]:
    """What brings datasets back; what fails in it is a RestoreError."""
    with place.opened() as (bigquery, bucket), telling(f"source {place.name}: it was not brought back", RestoreError):
        try:
            yield Landing(place, bigquery, Loader(place, bigquery, bucket))
        except (DamagedObjectError, VerificationError) as error:
            raise RestoreError(
                f"source {place.name}: it was not brought back", why=str(error), todo="restore it again"
            ) from error


def _name(wish: DatabaseWish, route: history.Route) -> str:
    if wish.in_place:
        return wish.database
    return wish.name or f"{wish.database}_{route.moment:%Y%m%dT%H%M%S}"


def _only(wish: DatabaseWish) -> list[str]:
    """The paths of what is wanted."""
    top = f"/{file_name(wish.database)}"
    if not wish.tables:
        return [top]
    return [f"{top}/{DATASET}", *(folder_of(wish.database, name) for name in wish.tables)]
