"""One capture of a project: what there is, its moment, its snapshots, and the tree that is extracted from them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Problem, Sample
from cto_backups.core.wording import counted
from cto_backups.errors import SourceError
from cto_backups.providers.google import RefusedError
from cto_backups.sources.bigquery import documents, inventory, state
from cto_backups.sources.bigquery.ahead import Ahead
from cto_backups.sources.bigquery.client import BigQuery, Document, job_name
from cto_backups.sources.bigquery.extract import Extraction, Moment, Table, size
from cto_backups.sources.bigquery.partitions import Partitioning
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.proof import PROJECT, fingerprint
from cto_backups.sources.bigquery.tree import TABLE, ExtractTree, columns_digest, folder_of
from cto_backups.sources.bigquery.words import FAILURES, telling


class BigQueryCapture:
    """Implements `core.ports.Capture`, and `Remarking`."""

    staged = True
    problems: tuple[Problem, ...] = ()  # what is protected comes whole, or the capture fails
    newest_content_at: datetime | None = None

    def __init__(self, extraction: Extraction, moment: Moment, described: Mapping[str, Any], notes: list[str]) -> None:
        self.captured_at = moment.at
        self.paths = ("/",)
        self.tree = ExtractTree(extraction, moment, described)
        self._extraction, self._moment, self._notes = extraction, moment, notes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, and what was scanned for the fingerprint."""
        scanned = self._extraction.scanned_bytes
        told = f"BigQuery scanned {size(scanned)} for the fingerprint"
        if self._extraction.estimated_bytes is not None:
            told += f"; {size(self._extraction.estimated_bytes)} were estimated"
        return (*self._notes, *self._extraction.notes, *([told] if scanned else []))

    def fingerprint(self) -> Fingerprint:
        """Complete once the whole tree was stored."""
        lacking = {table.key for table in self._moment.tables} - self.tree.states.keys()
        if lacking:
            raise RuntimeError(f"tables that were not extracted: {sorted(lacking)}")
        place, tree = self._extraction.place, self.tree
        sums = {key: found.sums for key, found in tree.states.items()}
        project = Sample(PROJECT, {"project": place.project, "location": place.location})
        return fingerprint(project, sums, tree.definitions, tree.files)

    def stored(self) -> None:
        """Nothing is remembered here: the point itself says how its partitions were found."""


@contextmanager
def capture(place: Place) -> Iterator[BigQueryCapture]:
    """Everything that is protected, at one moment. Raises SourceError."""
    with place.opened() as (bigquery, bucket):
        extraction = Extraction(place, bigquery, bucket)
        with telling(f"source {place.name}: what an earlier run left could not be removed"):
            extraction.clear()
        try:
            yield _begun(place, bigquery, extraction)
        except BaseException:
            with suppress(*FAILURES):  # they expire by themselves
                extraction.forget()
            raise
        finally:
            _cleared(extraction)


def _cleared(extraction: Extraction) -> None:
    """Remove what was made on the way. If that fails it expires by itself, and the next capture tries again."""
    extraction.close()
    try:
        extraction.clear()
    except FAILURES:
        return


def _begun(place: Place, bigquery: BigQuery, extraction: Extraction) -> BigQueryCapture:
    looked = f"source {place.name}: project {place.project} could not be looked at"
    with telling(looked):
        found = _chosen(place, bigquery)
        described = _described(place, bigquery, found)
        before = _tokens(place, bigquery, found, "before")
        (row,) = bigquery.query(
            "SELECT UNIX_MILLIS(CURRENT_TIMESTAMP()) AS now", job_name(place.name, "now", _now())
        ).rows
        milliseconds = int(row["now"])
    with telling(f"source {place.name}: its tables could not be snapshotted"):
        extraction.make_datasets()

    def snapshotted(dataset: str, name: str) -> Table | Document:
        with telling(looked):
            whole = _definition(bigquery, dataset, name)
        if whole["type"] not in inventory.EXTRACTED:
            return whole
        snapshot = place.snapshot_name(milliseconds, dataset, name)
        table = Table(dataset, name, whole, Partitioning.of(whole), columns_digest(whole), snapshot)
        with telling(f"source {place.name}: its tables could not be snapshotted"):
            extraction.snapshot(table, milliseconds)
        return table

    def agreed() -> dict[str, state.Tokens]:
        after = _tokens(place, bigquery, found, "after")
        return {
            key: {part: token for part, token in told.items() if after.get(key, {}).get(part) == token}
            for key, told in before.items()
        }

    tables = []
    left = iter([(each.name, inventory.table_name(table)) for each in found for table in each.tables])
    with Ahead[Table | Document](extraction.threads, 2 * extraction.threads, "snapshot") as ahead:
        while True:
            while ahead.has_place() and (names := next(left, None)):
                ahead.begin(partial(snapshotted, *names))
            if not ahead.under_way:
                break
            one = ahead.taken()
            if isinstance(one, Table):
                kept = documents.lasting(one.definition)
                described[f"{folder_of(one.dataset, one.name)}/{TABLE}"] = kept
                streaming = one.definition.get("streamingBuffer")
                tables.append(replace(one, definition={**kept, "streamingBuffer": streaming}))
            else:
                reference = one["tableReference"]
                top = f"/{documents.file_name(reference['datasetId'])}"
                described[f"{top}/views/{documents.file_name(reference['tableId'])}.json"] = documents.lasting(one)
    tables.sort(key=lambda table: (table.dataset, table.name))
    # What is asked after the moment is waited for where it is needed, while jobs go on.
    told = extraction.beside.submit(agreed).result
    moment = Moment(datetime.fromtimestamp(milliseconds / 1000, UTC), milliseconds, tables, told)
    return BigQueryCapture(extraction, moment, described, _notes(tables))


def _chosen(place: Place, bigquery: BigQuery) -> list[inventory.Dataset]:
    there = list(inventory.datasets(bigquery))
    found = [replace(each, tables=each.covered(place)) for each in there if place.covers(each.name, each.location)]
    missing = sorted(set(place.chosen) - {each.name for each in found})
    if missing or not found:
        elsewhere = [f"{each.name} ({each.location})" for each in there]
        raise SourceError(
            f"source {place.name}: project {place.project} has no dataset {', '.join(missing) or 'at all'}"
            f" in {place.location}",
            why=f"there are: {', '.join(elsewhere) or 'none that this login may see (bigquery.datasets.get)'}",
            todo="correct `project`, `location` or `datasets` of this source in the policy; it is of one location",
        )
    return found


def _described(place: Place, bigquery: BigQuery, found: Sequence[inventory.Dataset]) -> dict[str, Any]:
    """The documents of the tree by their paths, but for those of tables and views."""
    described: dict[str, Any] = {"/project.json": {"project": place.project, "location": place.location}}
    scheduled = documents.transfers(bigquery)
    if scheduled is not None:
        described["/transfers.json"] = scheduled
    for dataset in found:
        top = f"/{documents.file_name(dataset.name)}"
        described[f"{top}/dataset.json"] = documents.lasting(bigquery.dataset(dataset.name))
        for routine in bigquery.routines(dataset.name):
            name = routine["routineReference"]["routineId"]
            described[f"{top}/routines/{documents.file_name(name)}.json"] = documents.lasting(routine)
    return described


def _definition(bigquery: BigQuery, dataset: str, name: str) -> Document:
    found = bigquery.table(dataset, name)
    if found["type"] in inventory.EXTRACTED and (policies := documents.row_policies(bigquery, dataset, name)):
        found["rowAccessPolicies"] = policies
    return found


def _notes(tables: Sequence[Table]) -> list[str]:
    """What is not in a snapshot although it is in its table: rows that still stream in."""
    told = []
    for table in tables:
        streaming = table.definition.get("streamingBuffer") or {}
        rows = int(streaming.get("estimatedRows") or 0)
        if rows:
            told.append(
                f"about {counted(rows, 'row')} of {table.key} are still in its streaming buffer, which no snapshot has:"
                " they come with a later point"
            )
    return told


def _tokens(place: Place, bigquery: BigQuery, found: Sequence[inventory.Dataset], when: str) -> dict[str, state.Tokens]:
    """What BigQuery says of each partition, by DATASET.TABLE; nothing of a dataset whose partitions are not told."""
    told: dict[str, state.Tokens] = {}
    for dataset in found:
        query = state.looking(place.project, dataset.name)
        try:
            answer = bigquery.query(query, job_name(place.name, dataset.name, when, _now()))
        except RefusedError as error:
            if error.status == 403 or error.reason == "accessDenied":
                raise
            continue  # then all of its tables are extracted
        for name, parts in state.tokens(answer).items():
            told[f"{dataset.name}.{name}"] = parts
    return told


def _now() -> str:
    """Something that tells one run's questions from those of another."""
    return clock.now().isoformat()
