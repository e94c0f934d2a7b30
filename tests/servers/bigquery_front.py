"""What BigQuery does and its emulators do not, before one of them: for tests alone.

Extract jobs write Avro into a bucket and load jobs read it there (`bigquery_avro`, by the documented mapping), a
wildcard is split at a size, a table is snapshotted as of a moment, a job's id is taken once, a dry run estimates,
partitions tell when they last changed, tables how many rows they have. All else goes on to the emulator as it came.
"""

import json
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import Request, urlopen

from servers import bigquery_copies, bigquery_files, bigquery_jobs, bigquery_queries
from servers.bigquery_appends import History
from servers.bigquery_queries import NAMED
from servers.bigquery_wire import RefusedError
from servers.google_stores import GoogleStore

BYTES_PER_TABLE = 10_000_000
"""What a query is said to scan for each table that it names."""
_JOB = re.compile(r"/bigquery/v2/projects/([^/]+)/jobs(?:/([^/]+))?")
_RESULTS = re.compile(r"/bigquery/v2/projects/([^/]+)/queries/([^/]+)")
_TABLE = re.compile(r"/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables(?:/([^/]+))?")
_TRANSFERS = re.compile(r"/v1/projects/([^/]+)/locations/([^/]+)/transferConfigs")
_PARTITIONS = re.compile(r"`([^`.]+)\.([^`.]+)`\.INFORMATION_SCHEMA\.PARTITIONS", re.IGNORECASE)
_TEXTS = re.compile(r"INSERT INTO `([^`]+)` \((.*?)\) SELECT (.*) FROM `([^`]+)`")


@dataclass
class Front:
    """What tests say to it, and ask of it. `refuse` answers a request, or nothing; it is told method, path and body.

    A job is done when it was asked for `polls` times, and no sooner than after `seconds`; `shard_bytes` of rows are in
    one file of an extract. An extract says nothing of `lost_rows`. `transfers` are what is scheduled; None: that
    service is off.
    """

    backend: str
    store: GoogleStore
    time_travels: bool
    endpoint: str = ""
    polls: int = 0
    seconds: float = 0.0
    shard_bytes: int = 1 << 30
    codec: str = "snappy"
    lost_rows: int = 0
    refuse: Callable[[str, str, Any], RefusedError | None] = lambda method, path, body: None
    transfers: list[Any] | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: History = field(default_factory=History)
    _left: dict[str, int] = field(default_factory=dict)
    _ends: dict[str, float] = field(default_factory=dict)
    _results: dict[str, Any] = field(default_factory=dict)
    changed: dict[tuple[str, ...], tuple[str, int]] = field(default_factory=dict)
    snapshots: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    _told: dict[tuple[str, ...], Any] = field(default_factory=dict)
    _asking: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # -- what the emulator answers ------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the emulator. Raises RefusedError."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        match = _TABLE.fullmatch(path)
        if match and method == "POST" and match[3] is None:  # what emulators take, and do not tell
            told = {name: body[name] for name in ("view", "rangePartitioning") if name in body}
            self._told[match[1], match[2], body["tableReference"]["tableId"]] = told
        self.history.note(method, path, body)
        request = Request(self.backend + path, content, {"Content-Type": "application/json"}, method=method)
        try:
            # One at a time: at once, an emulator gives the answer to one question to another.
            with self._asking, urlopen(request, timeout=120) as answer:
                found = json.loads(answer.read() or b"null")
            if match and method == "GET" and match[3] is not None:
                found |= self._told.get((match[1], match[2], unquote(match[3])), {})
            return found
        except HTTPError as error:
            told = error.read()
            try:
                said = json.loads(told)["error"]
                reason = said["errors"][0]["reason"] if said.get("errors") else str(error.code)
                raise RefusedError(error.code, reason, str(said["message"])) from error
            except (ValueError, LookupError, TypeError):
                raise RefusedError(error.code, "", told.decode("utf-8", "replace")) from error

    def sql(self, project: str, statement: str) -> list[Any]:
        """The rows of a query; AssertionError for one that fails."""
        path = f"/bigquery/v2/projects/{project}/queries"
        answer = self.ask("POST", path, {"query": statement, "useLegacySql": False, "maxResults": 100_000})
        assert not answer.get("errors"), f"{statement}: {answer['errors']}"
        return list(answer.get("rows") or ())

    def table(self, reference: Mapping[str, str]) -> dict[str, Any]:
        path = f"/bigquery/v2/projects/{reference['projectId']}/datasets/{reference['datasetId']}/tables/"
        found: dict[str, Any] = self.ask("GET", path + quote(reference["tableId"]))
        return found

    def streams(self, project: str, dataset: str, table: str, rows: int) -> None:
        """Tell from now on that so many rows of a table, about, are still in its streaming buffer; 0: it has none."""
        told = {"streamingBuffer": {"estimatedRows": str(rows), "estimatedBytes": str(rows * 8)}} if rows else {}
        kept = self._told.get((project, dataset, table), {})
        self._told[project, dataset, table] = {name: kept[name] for name in kept if name != "streamingBuffer"} | told

    # -- requests -----------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> Any:
        """The answer, or None where the emulator is to be asked."""
        if refused := self.refuse(method, path, body):
            raise refused
        if match := _JOB.fullmatch(path):
            if method == "POST" and match[2] is None:
                return self._insert(match[1], body)
            if method == "GET" and match[2] in self.jobs:
                return self._polled(match[2])
            if method == "GET" and match[2] is None:
                return bigquery_jobs.listed([self._polled(name) for name in tuple(self.jobs)], query)
        if (match := _RESULTS.fullmatch(path)) and method == "GET" and match[2] in self.jobs:
            return self._answered(match[1], match[2], query)
        if (match := _TABLE.fullmatch(path)) and method == "GET":
            return self._tables(path, match[1], match[2], match[3])
        if not self.time_travels and method == "GET" and path.endswith(("/routines", "/rowAccessPolicies")):
            return {}  # the one that knows no moments has no such lists
        if not self.time_travels and method == "GET" and path == "/bigquery/v2/projects":
            found = self.ask(method, path)  # nor does it tell of which project an entry is, but by its `id`
            return found | {
                "projects": [{"projectReference": {"projectId": each["id"]}} | each for each in found["projects"]]
            }
        if _TRANSFERS.fullmatch(path):
            if self.transfers is None:
                raise RefusedError(403, "SERVICE_DISABLED", "BigQuery Data Transfer API has not been used")
            return {"transferConfigs": self.transfers}
        return None

    def _tables(self, path: str, project: str, dataset: str, name: str | None) -> Any:
        if name is None:
            listed = self.ask("GET", path + "?maxResults=10000")
            for each in listed.get("tables", ()):
                if (project, dataset, each["tableReference"]["tableId"]) in self.snapshots:
                    each["type"] = "SNAPSHOT"
            return listed
        found = self.ask("GET", path)
        found.update(self.snapshots.get((project, dataset, unquote(name)), {}))
        if found["type"] in ("TABLE", "SNAPSHOT"):
            rows = self.ask("GET", f"{path}/data?maxResults=0")
            found["numRows"] = str(rows.get("totalRows") or 0)
            found.setdefault("numBytes", "0")
        return found

    def _polled(self, name: str) -> Any:
        """A job as it is now."""
        with self._lock:
            self._left[name] -= 1
            job = self.jobs[name]
            is_done = self._left[name] < 0 and time.monotonic() >= self._ends[name]
            return job if is_done else bigquery_jobs.running(job)

    def _answered(self, project: str, name: str, query: Mapping[str, list[str]]) -> Any:
        """The answer to a query: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/getQueryResults."""
        reference = {"jobReference": {"projectId": project, "jobId": name}}
        until = time.monotonic() + int(query.get("timeoutMs", ["10000"])[0]) / 1000
        while (job := self._polled(name))["status"]["state"] != "DONE":
            if time.monotonic() >= until:
                return {**reference, "jobComplete": False}
            time.sleep(0.01)
        if failed := job["status"].get("errorResult"):
            raise RefusedError(bigquery_jobs.STATUS.get(failed["reason"], 400), failed["reason"], failed["message"])
        found = self._results.get(name)
        if found is None:
            path = f"/bigquery/v2/projects/{project}/queries/{quote(name)}"
            asked = "&".join(f"{key}={quote(value)}" for key, values in query.items() for value in values)
            found = self.ask("GET", f"{path}?{asked}")
        told = job["statistics"].get("totalBytesProcessed", "0")
        return {**found, **reference, "jobComplete": True, "totalBytesProcessed": told}

    def _insert(self, project: str, body: Any) -> Any:
        configuration = body["configuration"]
        if configuration.get("dryRun"):
            tables = len(NAMED.findall(configuration["query"]["query"]))
            told = {"totalBytesProcessed": str(tables * BYTES_PER_TABLE)}
            return {"statistics": {**told, "query": told}, "status": {"state": "DONE"}, "configuration": configuration}
        name = (body.get("jobReference") or {}).get("jobId") or uuid.uuid4().hex
        with self._lock:
            if name in self.jobs:
                raise RefusedError(409, "duplicate", f"Already Exists: Job {project}:{name}")
            job = {"jobReference": {"projectId": project, "jobId": name}, "configuration": configuration}
            created = int(time.time() * 1000)
            job["statistics"] = {"creationTime": str(created), "startTime": str(created)}
            self._left[name], self._ends[name] = self.polls, math.inf
            self.jobs[name] = job
        ends, failed = time.monotonic() + self.seconds, {}
        try:
            self.run(project, name, job, configuration)
        except RefusedError as error:
            failed = {"errorResult": {"reason": error.reason, "message": error.message}}
        with self._lock:
            ended = max(int(time.time() * 1000), created + int(self.seconds * 1000))
            job["statistics"] = {**job["statistics"], "creationTime": str(created), "endTime": str(ended)}
            job["status"] = {**job.get("status", {}), "state": "DONE", **failed}
            self._ends[name] = ends
        return bigquery_jobs.running(job) if self.polls or self.seconds else job

    def run(self, project: str, name: str, job: dict[str, Any], configuration: dict[str, Any]) -> None:
        match configuration:
            case {"extract": extract}:
                job["statistics"]["extract"] = bigquery_files.extract(self, extract)
            case {"load": load}:
                job["statistics"]["load"] = bigquery_files.load(self, load)
            case {"copy": {"operationType": "SNAPSHOT"} as copy}:
                bigquery_copies.snapshot(self, copy)
            case {"copy": copy} if "@" in copy["sourceTable"]["tableId"] or copy["operationType"] == "RESTORE":
                bigquery_copies.copied(self, copy)
            case {"copy": _}:
                job |= self.ask("POST", f"/bigquery/v2/projects/{project}/jobs", {"configuration": configuration})
            case {"query": {"destinationTable": target} as query}:
                if not bigquery_queries.appends(self, query, target):
                    bigquery_queries.select_into(self, project, query["query"], target)
                told = {"totalBytesProcessed": str(BYTES_PER_TABLE)}
                job["statistics"] |= {**told, "query": told}
            case {"query": query} if self.time_travels and (match := _TEXTS.fullmatch(query["query"])):
                job["statistics"]["query"] = {
                    "numDmlAffectedRows": str(bigquery_queries.read_texts(self, project, match))
                }
            case {"query": query}:
                if match := _PARTITIONS.search(query["query"]):
                    self._results[name] = bigquery_queries.partitions(self, match[1], match[2])
                else:
                    sent = {"jobReference": job["jobReference"], "configuration": configuration}
                    job |= self.ask("POST", f"/bigquery/v2/projects/{project}/jobs", sent)
                    tables = len(NAMED.findall(query["query"]))
                    told = {"totalBytesProcessed": str(tables * BYTES_PER_TABLE)}
                    answered = job.get("statistics", {})
                    if match := _TEXTS.fullmatch(query["query"]):  # what that one does, and does not tell
                        counted = self.sql(project, f"SELECT COUNT(*) FROM `{match[1]}`")[0]["f"][0]["v"]
                        told["numDmlAffectedRows"] = str(counted)
                    job["statistics"] = {**answered, **told, "query": {**answered.get("query", {}), **told}}
            case _:
                raise RefusedError(400, "invalid", f"no such job here: {sorted(configuration)}")


@contextmanager
def front(backend: str, store: GoogleStore, *, time_travels: bool, kind: type[Front] = Front) -> Iterator[Front]:
    """A front before the emulator at an address, with its buckets in a store."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            address = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(content) if content else None
            try:
                query = parse_qs(address.query)
                answer = made.answer(self.command, address.path, query, body)
                if answer is None:
                    answer = made.ask(self.command, self.path, body)
                self._send(200, answer)
            except RefusedError as error:
                errors = [{"reason": error.reason, "message": error.message}]
                told = {"code": error.status, "message": error.message, "errors": errors}
                self._send(error.status, {"error": told})

        def _send(self, status: int, answer: Any) -> None:
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response_only(status if content else 204)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    made = kind(backend, store, time_travels, f"http://127.0.0.1:{server.server_address[1]}")
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
