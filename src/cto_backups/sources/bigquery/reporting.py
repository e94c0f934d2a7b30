"""Reports in a dataset of BigQuery: tables that are made when they are missing, and rows that are merged into them.

A statement MERGE does all or nothing, and once more changes nothing: what was delivered when an answer was lost is
delivered again. Rows go as one parameter of JSON, of which a request takes 10 MB:
https://cloud.google.com/bigquery/quotas#query_jobs.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from google.auth.exceptions import GoogleAuthError

from cto_backups import clock
from cto_backups.core.limits import Limit
from cto_backups.core.reporting import Row, Told
from cto_backups.errors import KeyProblemError, ReportError
from cto_backups.providers.google import GoogleClient, OutOfTimeError, RefusedError
from cto_backups.sources.bigquery.client import PASSING, BigQuery, Document, job_name
from cto_backups.sources.bigquery.report_tables import LOGS, STATUS, STATUS_VIEW, TESTS, ReportTable, status_view
from cto_backups.sources.bigquery.words import explained, telling
from cto_backups.sources.options import lowest_tls

_SCOPES: Final = ("https://www.googleapis.com/auth/bigquery",)
_NEEDS: Final = "bigquery.tables.updateData"
_AT_ONCE_BYTES: Final = 4_000_000


class BigQueryReport:
    """Implements `core.reporting.Report`.

    Options: `project`, `dataset`, `location`, `credentials` (what reveals a key file; this machine's login without),
    `endpoint` (Google's own when empty), `tls`.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._project, self._dataset = str(options["project"]), str(options["dataset"])
        self._location, self._endpoint = str(options["location"]), str(options.get("endpoint") or "")
        self._tls = lowest_tls(options)
        self._credentials: Callable[[], str] | None = options.get("credentials")

    def deliver(self, told: Iterator[Told], business: str, limit: Limit) -> None:
        """Make the dataset, its tables and the view where they are missing; write these rows. Raises ReportError."""
        login = self._login(limit)
        try:
            with telling(f"Nothing could be reported to {self.name}", ReportError), _in_time(self.name):
                bigquery = BigQuery(login, self._project, self._location, self._endpoint)
                self._make(bigquery)
                for part in told:
                    self._merge(bigquery, LOGS, part.logs)
                    for text in _texts(part.expired):
                        self._run(bigquery, LOGS.update(self._place(LOGS), "expired_at"), {"rows": text})
                    self._merge(bigquery, TESTS, part.tests)
                    if part.status or part.former:
                        at = clock.now().astimezone(UTC)
                        self._merge(bigquery, STATUS, [_reported(row, at) for row in part.status])
                        self._forget(bigquery, business, part.former)
        finally:
            login.close()

    def _login(self, limit: Limit) -> GoogleClient:
        try:
            return GoogleClient(
                f"report_to {self.name}",
                ReportError,
                _SCOPES,
                self._credentials,
                tls=self._tls,
                limit=limit,
                passing=PASSING,
            )
        except (KeyProblemError, GoogleAuthError, ValueError) as error:
            why, todo = explained(error)
            raise ReportError(
                f"Nothing could be reported to {self.name}: it cannot be logged in to Google Cloud", why=why, todo=todo
            ) from error

    def _make(self, bigquery: BigQuery) -> None:
        if not bigquery.has_dataset(self._dataset):
            reference = {"projectId": self._project, "datasetId": self._dataset}
            told = "What cto.backups reports; docs/how-to/report-to-bigquery.md"
            _made(
                lambda: bigquery.make_dataset(
                    {"datasetReference": reference, "location": self._location, "description": told}
                )
            )
        there = {each["tableReference"]["tableId"] for each in bigquery.tables(self._dataset)}
        for table in (LOGS, TESTS, STATUS):
            if table.name not in there:
                self._make_table(bigquery, table.name, {"schema": {"fields": list(table.fields)}})
        if STATUS_VIEW not in there:
            query = status_view(f"{self._project}.{self._dataset}")
            self._make_table(bigquery, STATUS_VIEW, {"view": {"query": query, "useLegacySql": False}})

    def _make_table(self, bigquery: BigQuery, name: str, document: Document) -> None:
        made = {"tableReference": bigquery.reference(self._dataset, name), **document}
        _made(lambda: bigquery.make_table(self._dataset, made))

    def _merge(self, bigquery: BigQuery, table: ReportTable, rows: Sequence[Row]) -> None:
        for text in _texts(rows):
            self._run(bigquery, table.merge(self._place(table)), {"rows": text})

    def _forget(self, bigquery: BigQuery, business: str, former: Sequence[str]) -> None:
        """The sources that policy has no more are no more in the status; whoever reports beside is left alone."""
        if former:
            self._run(bigquery, STATUS.forget(self._place(STATUS)), {"business": business, "rows": json.dumps(former)})

    def _place(self, table: ReportTable) -> str:
        return f"`{self._project}.{self._dataset}.{table.name}`"

    def _run(self, bigquery: BigQuery, statement: str, given: Mapping[str, str]) -> None:
        parameters = [
            {"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": value}}
            for name, value in given.items()
        ]
        query = {"query": statement, "useLegacySql": False, "parameterMode": "NAMED", "queryParameters": parameters}
        # A name of its own: one made of the rows would be answered with what became of them once, and not done again.
        bigquery.job({"query": query}, job_name("report", secrets.token_hex(16)), _NEEDS)


@contextmanager
def _in_time(name: str) -> Iterator[None]:
    try:
        yield
    except OutOfTimeError as error:
        raise ReportError(
            f"Nothing could be reported to {name}",
            why="BigQuery took longer than a report may hold up what goes on beside it",
            todo="what is missing is delivered with the next one; 'cto.backups report' waits for as long as it takes",
        ) from error


def _reported(row: Row, at: datetime) -> Row:
    return {**row, "reported_at": at.isoformat()}


def _made(make: Callable[[], None]) -> None:
    """Make it; fine when another process has done so meanwhile."""
    try:
        make()
    except RefusedError as error:
        if error.status != 409:
            raise


def _texts(rows: Sequence[Row]) -> Iterator[str]:
    """Rows as arrays of JSON, none of which is larger than a request takes."""
    parts: list[str] = []
    size = 0
    for row in rows:
        part = json.dumps(row)
        if parts and size + len(part) > _AT_ONCE_BYTES:
            yield f"[{','.join(parts)}]"
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield f"[{','.join(parts)}]"
