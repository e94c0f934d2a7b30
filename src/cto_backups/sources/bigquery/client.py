"""What is asked of BigQuery: its lists and definitions, jobs that are waited for, and queries."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from cto_backups import clock
from cto_backups.providers.google import GoogleClient, RefusedError
from cto_backups.sources.bigquery.watch import Watch, took

OWN: Final = "https://bigquery.googleapis.com"
TRANSFERS: Final = "https://bigquerydatatransfer.googleapis.com"

Document = dict[str, Any]
"""A resource, as the API describes it."""

PASSING: Final = dict.fromkeys(
    (
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "rateLimitExceeded",
        "jobRateLimitExceeded",
    ),
    0,
)
"""Reasons that pass by themselves, whatever the status; a job that failed for one of them may be tried anew."""

_PAGE: Final = 1000
_PACKED: Final = {"Accept-Encoding": "gzip"}
_MICROSECONDS: Final[dict[str, Any]] = {"formatOptions.useInt64Timestamp": "true"}
_LISTED: Final = "jobs(jobReference/jobId,state,errorResult,statistics)"
_TRIES: Final = 4
_ANSWER_MS: Final = 20_000
"""For how long a query's answer is waited for in one request, which the service holds open."""


@dataclass(frozen=True)
class Answer:
    """The rows of a query by the names of their columns, and how many bytes it scanned."""

    rows: Sequence[Mapping[str, Any]]
    scanned_bytes: int


class BigQuery:
    """One project, in one location, where at most so many `jobs` run at once. Thread-safe.

    Everything raises what `words.FAILURES` has.
    """

    def __init__(self, login: GoogleClient, project: str, location: str, endpoint: str = "", jobs: int = 8) -> None:
        self.login = login
        self.project = project
        self.location = location
        self._base = endpoint or OWN
        self._watch = Watch(self._done_since)
        self._places = threading.Semaphore(jobs)
        self._transfers = endpoint or TRANSFERS

    # -- what there is ------------------------------------------------------------------------------------------------

    def projects(self) -> Sequence[str]:
        """The projects that this login sees."""
        found = self._pages("projects", "projects", "resourcemanager.projects.get", whole=True)
        return [str(each["projectReference"]["projectId"]) for each in found]

    def datasets(self) -> Sequence[Document]:
        """Every dataset of the project, in few words; hidden ones are BigQuery's own."""
        return list(self._pages("datasets", "datasets", "bigquery.datasets.get"))

    def dataset(self, name: str) -> Document:
        """A dataset, whole."""
        return self._one("GET", f"datasets/{quote(name)}", "bigquery.datasets.get")

    def has_dataset(self, name: str) -> bool:
        """Whether there is a dataset of this name."""
        try:
            self.dataset(name)
        except RefusedError as error:
            if error.status != 404:
                raise
            return False
        return True

    def tables(self, dataset: str) -> Iterator[Document]:
        """Every table, view, snapshot and so on of a dataset, in few words."""
        return self._pages(f"datasets/{quote(dataset)}/tables", "tables", "bigquery.tables.list")

    def table(self, dataset: str, name: str) -> Document:
        """A table or view, whole."""
        return self._one("GET", self._table(dataset, name), "bigquery.tables.get")

    def routines(self, dataset: str) -> Sequence[Document]:
        """Every routine of a dataset, whole."""
        path = f"datasets/{quote(dataset)}/routines"
        found = self._pages(path, "routines", "bigquery.routines.list")
        names = [each["routineReference"]["routineId"] for each in found]
        return [self._one("GET", f"{path}/{quote(name)}", "bigquery.routines.get") for name in names]

    def row_policies(self, dataset: str, name: str) -> Sequence[Document]:
        """Who sees which rows of a table; nothing where everybody sees all."""
        path = f"{self._table(dataset, name)}/rowAccessPolicies"
        return list(self._pages(path, "rowAccessPolicies", "bigquery.rowAccessPolicies.list"))

    def grantees(self, dataset: str, name: str, policy: str) -> Sequence[str]:
        """Whom a row access policy lets see rows."""
        path = f"{self._table(dataset, name)}/rowAccessPolicies/{quote(policy)}:getIamPolicy"
        found = self._one("POST", path, "bigquery.rowAccessPolicies.getIamPolicy", {})
        return sorted({member for binding in found.get("bindings", ()) for member in binding.get("members", ())})

    def transfers(self) -> Sequence[Document]:
        """What the Data Transfer Service has scheduled here, queries too."""
        address = f"{self._transfers}/v1/projects/{self.project}/locations/{self.location.lower()}/transferConfigs"
        found: list[Document] = []
        token = None
        while True:
            page = self.login.told("GET", address, needs="bigquery.transfers.get", pageSize=_PAGE, pageToken=token)
            found += (page or {}).get("transferConfigs", ())
            token = (page or {}).get("nextPageToken")
            if not token:
                return found

    # -- making and removing ------------------------------------------------------------------------------------------

    def make_dataset(self, document: Document) -> None:
        """Make a dataset."""
        try:
            self._one("POST", "datasets", "bigquery.datasets.create", document)
        except RefusedError as error:
            if error.status != 409 or not error.again:  # else an earlier try made it, whose answer was lost
                raise

    def delete_dataset(self, name: str) -> None:
        """Delete a dataset with all that is in it; fine when there is none."""
        with _gone_is_fine():
            self._ask("DELETE", f"datasets/{quote(name)}", "bigquery.datasets.delete", deleteContents="true")

    def make_table(self, dataset: str, document: Document) -> None:
        """Make a table or a view."""
        self._one("POST", f"datasets/{quote(dataset)}/tables", "bigquery.tables.create", document)

    def delete_table(self, dataset: str, name: str) -> None:
        """Delete a table; fine when there is none."""
        with _gone_is_fine():
            self._ask("DELETE", self._table(dataset, name), "bigquery.tables.delete")

    def make_routine(self, dataset: str, document: Document) -> None:
        """Make a routine."""
        self._one("POST", f"datasets/{quote(dataset)}/routines", "bigquery.routines.create", document)

    def make_row_policy(self, dataset: str, name: str, document: Document) -> None:
        """Say who sees which rows of a table."""
        path = f"{self._table(dataset, name)}/rowAccessPolicies"
        self._one("POST", path, "bigquery.rowAccessPolicies.create", document)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def job(self, configuration: Document, name: str, needs: str) -> Document:
        """Have a job done, and return what became of it. Whoever asks again under its name gets the same one.

        `needs` is the permission that it takes beside bigquery.jobs.create. One that failed for a reason that passes is
        tried anew, under a name with a number.
        """
        return self._run(configuration, name, needs, self._ended)

    def query(self, statement: str, name: str, needs: str = "bigquery.tables.getData") -> Answer:
        """The rows of a query, all of them in memory. Raises as `job` does."""
        configuration = {"query": {"query": statement, "useLegacySql": False, "useQueryCache": False}}
        first: list[Document] = []

        def answered(job: Document, kind: str) -> Document:
            return self._answered(job, kind, needs, first)

        done = self._run(configuration, name, needs, answered)
        page = first[-1] if first else self._page(done, needs)
        rows: list[Mapping[str, Any]] = []
        while True:
            names = [each["name"] for each in (page.get("schema") or {}).get("fields", ())]
            for row in page.get("rows") or ():
                rows.append(dict(zip(names, (_plain(cell["v"]) for cell in row["f"]), strict=True)))
            token = page.get("pageToken")
            if not token:
                return Answer(rows, scanned(done))
            page = self._page(done, needs, pageToken=token)

    def estimate(self, statement: str) -> int:
        """How many bytes a query would scan."""
        configuration = {"query": {"query": statement, "useLegacySql": False}, "dryRun": True}
        sent = {"configuration": configuration, "jobReference": {"projectId": self.project, "location": self.location}}
        return scanned(self._one("POST", "jobs", "bigquery.jobs.create", sent))

    def _run(
        self, configuration: Document, name: str, needs: str, ended: Callable[[Document, str], Document]
    ) -> Document:
        """As `job`; `ended` waits for a job of a kind that was begun."""
        kind = next(iter(configuration))
        for number in range(_TRIES):
            with self._places:
                done = ended(self._begun(configuration, f"{name}-{number}" if number else name), kind)
            failed = done["status"].get("errorResult")
            if failed is None:
                return done
            if failed.get("reason") not in PASSING or number == _TRIES - 1:
                raise RefusedError(0, str(failed.get("reason", "")), _short(failed.get("message")), needs=needs)
            self.login.pause(number + 1)
        raise AssertionError("unreachable")

    def _begun(self, configuration: Document, name: str) -> Document:
        reference = {"projectId": self.project, "jobId": name, "location": self.location}
        sent = {"jobReference": reference, "configuration": configuration}
        try:
            return self._one("POST", "jobs", "bigquery.jobs.create", sent)
        except RefusedError as error:
            if error.status != 409:
                raise
            return self._look(name)

    def _ended(self, job: Document, kind: str) -> Document:
        """Wait until a job is done."""
        name, began, looks = job["jobReference"]["jobId"], clock.monotonic(), 0
        while job["status"]["state"] != "DONE":
            looks += 1
            self.login.wait(0)  # which says when there is no time left
            job = self._watch.wait(job, kind, began, self.login.limit.left()) or self._look(name)
        self._watch.patience.done(kind, clock.monotonic() - began, looks, took(job))
        return job

    def _answered(self, job: Document, kind: str, needs: str, first: list[Document]) -> Document:
        """Wait until a query is done, by asking for its answer, the beginning of which goes into `first`."""
        while True:
            self.login.wait(0)
            left = self.login.limit.left()
            wait = _ANSWER_MS if left is None else max(min(_ANSWER_MS, int(left * 1000)), 1)
            try:
                page = self._page(job, needs, timeoutMs=wait, attempts=2)
            except RefusedError:  # a query that failed answers with that
                return self._ended(self._look(job["jobReference"]["jobId"]), kind)
            if page.get("jobComplete", True):
                break
        first.append(page)
        told = page.get("totalBytesProcessed") or scanned(job)
        return {**job, "status": {"state": "DONE"}, "statistics": {"totalBytesProcessed": told}}

    def _look(self, name: str) -> Document:
        return self._one("GET", f"jobs/{quote(name)}", "bigquery.jobs.get", location=self.location)

    def _page(self, job: Document, needs: str, **query: Any) -> Document:
        """A page of the answer to a query."""
        path = f"queries/{quote(job['jobReference']['jobId'])}"
        return self._one("GET", path, needs, **_MICROSECONDS, location=self.location, maxResults=10_000, **query)

    def _done_since(self, milliseconds: int) -> Sequence[Document]:
        """Jobs that are done, of those that this login created since a moment: the latest thousand."""
        query: Document = {"stateFilter": "done", "projection": "minimal", "fields": _LISTED, "maxResults": _PAGE}
        found = self._one("GET", "jobs", "bigquery.jobs.list", minCreationTime=milliseconds, **query)
        return found.get("jobs") or ()

    # -- requests -----------------------------------------------------------------------------------------------------

    def reference(self, dataset: str, name: str) -> Document:
        """A table, as jobs name it."""
        return {"projectId": self.project, "datasetId": dataset, "tableId": name}

    def _table(self, dataset: str, name: str) -> str:
        return f"datasets/{quote(dataset)}/tables/{quote(name, safe='')}"

    def _one(self, method: str, path: str, needs: str, sent: Document | None = None, **query: Any) -> Document:
        found: Document = self._ask(method, path, needs, sent, **query)
        return found

    def _ask(self, method: str, path: str, needs: str, sent: Document | None = None, **query: Any) -> Any:
        address = f"{self._base}/bigquery/v2/projects/{quote(self.project)}/{path}"
        return self.login.told(method, address, needs=needs, sent=sent, headers=_PACKED, **query)

    def _pages(self, path: str, what: str, needs: str, *, whole: bool = False) -> Iterator[Document]:
        """Everything of a list, page by page; `whole`: of all projects."""
        place = "" if whole else f"projects/{quote(self.project)}/"
        token = None
        while True:
            address = f"{self._base}/bigquery/v2/{place}{path}"
            page = self.login.told("GET", address, needs=needs, headers=_PACKED, maxResults=_PAGE, pageToken=token)
            yield from page.get(what) or ()
            token = page.get("nextPageToken")
            if not token:
                return


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        if error.status != 404:
            raise


def job_name(*parts: str) -> str:
    """The name of a job, which says the same for the same parts."""
    return f"cto_backups_{sha256(chr(0).join(parts).encode()).hexdigest()[:40]}"


def scanned(job: Document) -> int:
    """How many bytes a query's job scanned, or would."""
    told = job.get("statistics", {})
    return int(told.get("totalBytesProcessed") or told.get("query", {}).get("totalBytesProcessed") or 0)


def _plain(value: Any) -> Any:
    """A cell: an array as a list, everything else as it came."""
    return [_plain(each["v"]) for each in value] if isinstance(value, list) else value


def _short(message: object) -> str:
    return " ".join(str(message).split())[:300]
