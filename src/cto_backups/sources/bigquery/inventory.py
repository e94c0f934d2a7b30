"""What is in a project: datasets, and in them tables, views, routines and so on; and what of it is protected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cto_backups.core.model import Resource
from cto_backups.providers.google import RefusedError
from cto_backups.sources.bigquery.client import BigQuery, Document
from cto_backups.sources.bigquery.place import OURS, Place

KIND: Final = "bigquery"
EXTRACTED: Final = ("TABLE",)
"""What has rows of its own, which are extracted; of all else, its definition is kept."""


@dataclass(frozen=True)
class Dataset:
    """A dataset, and what is in it, each in few words; `covered` are of a name that is protected."""

    name: str
    location: str
    tables: Sequence[Document]

    def covered(self, place: Place) -> list[Document]:
        """The tables, views and so on that are protected."""
        return [each for each in self.tables if place.covers(self.name, self.location, table_name(each))]


def table_name(document: Document) -> str:
    """The name of a table or view."""
    return str(document["tableReference"]["tableId"])


def places(bigquery: BigQuery) -> Iterator[tuple[str, str]]:
    """Every dataset of the project, and its location, but those that this program made for a while."""
    for each in bigquery.datasets():
        name = each["datasetReference"]["datasetId"]
        if not name.startswith(OURS):
            yield name, each.get("location") or bigquery.dataset(name).get("location", "")


def datasets(bigquery: BigQuery) -> Iterator[Dataset]:
    """The same, with what is in them."""
    for name, location in places(bigquery):
        yield Dataset(name, location, list(bigquery.tables(name)))


def resources(bigquery: BigQuery, place: Place) -> Sequence[Resource]:
    """The project with all that is in it; and other projects that this login sees, which are not covered."""
    found = [Resource(f"{KIND}:{place.project}", KIND, place.project)]
    for dataset in datasets(bigquery):
        where = f"{place.project}.{dataset.name}"
        covered = place.covers(dataset.name, dataset.location)
        found.append(Resource(f"{KIND}:{where}", KIND, where, covered=covered))
        for table in dataset.tables:
            name = table_name(table)
            is_covered = place.covers(dataset.name, dataset.location, name)
            found.append(_resource(f"{where}.{name}", table, covered=is_covered))
        for routine in bigquery.routines(dataset.name):
            name = routine["routineReference"]["routineId"]
            found.append(_resource(f"{where}.{name}()", routine, covered=covered))
    found += [
        Resource(f"{KIND}:{project}", KIND, project, covered=False)
        for project in _projects(bigquery)
        if project != place.project
    ]
    return found


def _resource(where: str, document: Document, *, covered: bool) -> Resource:
    return Resource(
        f"{KIND}:{where}", KIND, where, changed_at=_moment(document.get("lastModifiedTime")), covered=covered
    )


def _projects(bigquery: BigQuery) -> Sequence[str]:
    """Who may see no list of projects sees this one alone."""
    try:
        return bigquery.projects()
    except RefusedError as error:
        if error.status in (403, 404):
            return ()
        raise


def _moment(milliseconds: Any) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None
