"""What BigQuery does and its emulators do not, before one of them: for tests alone.

Extract jobs write Avro into a bucket and load jobs read it there (`bigquery_avro`, by the documented mapping), a
wildcard is split at a size, a table is snapshotted as of a moment, a job's id is taken once, a dry run estimates,
partitions tell when they last changed, tables how many rows they have. All else goes on to the emulator as it came.
"""

import base64
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import Request, urlopen

from servers import bigquery_avro, bigquery_texts
from servers.bigquery_appends import History
from servers.google_stores import GoogleStore

BYTES_PER_TABLE = 10_000_000
"""What a query is said to scan for each table that it names."""
_JOB = re.compile(r"/bigquery/v2/projects/([^/]+)/jobs(?:/([^/]+))?")
_RESULTS = re.compile(r"/bigquery/v2/projects/([^/]+)/queries/([^/]+)")
_TABLE = re.compile(r"/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables(?:/([^/]+))?")
_TRANSFERS = re.compile(r"/v1/projects/([^/]+)/locations/([^/]+)/transferConfigs")
_PARTITIONS = re.compile(r"`([^`.]+)\.([^`.]+)`\.INFORMATION_SCHEMA\.PARTITIONS", re.IGNORECASE)
_NAMED = re.compile(r"`[^`.]+\.[^`.]+\.[^`.]+`")
_TEXTS = re.compile(r"INSERT INTO `([^`]+)` \((.*?)\) SELECT (.*) FROM `([^`]+)`")
_SUFFIX = re.compile(r"\$(.+)$|@(\d+)$")


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass
class Front:
    """What tests say to it, and ask of it. `refuse` answers a request, or nothing; it is told method, path and body.

    A job is done when it was asked for `polls` times; `shard_bytes` of rows are in one file of an extract.
    An extract says nothing of `lost_rows`. `transfers` are what is scheduled; None: that service is off.
    """

    backend: str
    store: GoogleStore
    time_travels: bool
    endpoint: str = ""
    polls: int = 0
    shard_bytes: int = 1 << 30
    codec: str = "snappy"
    lost_rows: int = 0
    refuse: Callable[[str, str, Any], RefusedError | None] = lambda method, path, body: None
    transfers: list[Any] | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: History = field(default_factory=History)
    _left: dict[str, int] = field(default_factory=dict)
    _results: dict[str, Any] = field(default_factory=dict)
    _changed: dict[tuple[str, ...], tuple[str, int]] = field(default_factory=dict)
    _snapshots: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
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
        if (match := _RESULTS.fullmatch(path)) and match[2] in self._results:
            return {"jobComplete": True, "jobReference": {"jobId": match[2]}, **self._results[match[2]]}
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
                if (project, dataset, each["tableReference"]["tableId"]) in self._snapshots:
                    each["type"] = "SNAPSHOT"
            return listed
        found = self.ask("GET", path)
        found.update(self._snapshots.get((project, dataset, unquote(name)), {}))
        if found["type"] in ("TABLE", "SNAPSHOT"):
            rows = self.ask("GET", f"{path}/data?maxResults=0")
            found["numRows"] = str(rows.get("totalRows") or 0)
            found.setdefault("numBytes", "0")
        return found

    def _polled(self, name: str) -> Any:
        with self._lock:
            self._left[name] -= 1
            job = self.jobs[name]
            return job if self._left[name] < 0 else {**job, "status": {"state": "RUNNING"}}

    def _insert(self, project: str, body: Any) -> Any:
        configuration = body["configuration"]
        if configuration.get("dryRun"):
            tables = len(_NAMED.findall(configuration["query"]["query"]))
            told = {"totalBytesProcessed": str(tables * BYTES_PER_TABLE)}
            return {"statistics": {**told, "query": told}, "status": {"state": "DONE"}, "configuration": configuration}
        name = (body.get("jobReference") or {}).get("jobId") or uuid.uuid4().hex
        with self._lock:
            if name in self.jobs:
                raise RefusedError(409, "duplicate", f"Already Exists: Job {project}:{name}")
            job = {"jobReference": {"projectId": project, "jobId": name}, "configuration": configuration}
            self.jobs[name], self._left[name] = job, self.polls
        job |= {"status": {"state": "DONE"}, "statistics": {"creationTime": str(int(time.time() * 1000))}}
        try:
            self._run(project, name, job, configuration)
        except RefusedError as error:
            job["status"]["errorResult"] = {"reason": error.reason, "message": error.message}
        return job if not self.polls else {**job, "status": {"state": "RUNNING"}}

    def _run(self, project: str, name: str, job: dict[str, Any], configuration: dict[str, Any]) -> None:
        match configuration:
            case {"extract": extract}:
                job["statistics"]["extract"] = self._extract(extract)
            case {"load": load}:
                job["statistics"]["load"] = self._load(load)
            case {"copy": {"operationType": "SNAPSHOT"} as copy}:
                self._snapshot(copy)
            case {"copy": copy} if "@" in copy["sourceTable"]["tableId"] or copy["operationType"] == "RESTORE":
                self._copied(copy)
            case {"copy": _}:
                job |= self.ask("POST", f"/bigquery/v2/projects/{project}/jobs", {"configuration": configuration})
            case {"query": {"destinationTable": target} as query}:
                if not self._appends(query, target):
                    self._select_into(project, query["query"], target)
                told = {"totalBytesProcessed": str(BYTES_PER_TABLE)}
                job["statistics"] |= {**told, "query": told}
            case {"query": query} if self.time_travels and (match := _TEXTS.fullmatch(query["query"])):
                job["statistics"]["query"] = {"numDmlAffectedRows": str(self._read_texts(project, match))}
            case {"query": query}:
                if match := _PARTITIONS.search(query["query"]):
                    self._results[name] = self._partitions(match[1], match[2])
                else:
                    sent = {"jobReference": job["jobReference"], "configuration": configuration}
                    job |= self.ask("POST", f"/bigquery/v2/projects/{project}/jobs", sent)
                    tables = len(_NAMED.findall(query["query"]))
                    told = {"totalBytesProcessed": str(tables * BYTES_PER_TABLE)}
                    answered = job.get("statistics", {})
                    if match := _TEXTS.fullmatch(query["query"]):  # what that one does, and does not tell
                        counted = self.sql(project, f"SELECT COUNT(*) FROM `{match[1]}`")[0]["f"][0]["v"]
                        told["numDmlAffectedRows"] = str(counted)
                    job["statistics"] = {**answered, **told, "query": {**answered.get("query", {}), **told}}
            case _:
                raise RefusedError(400, "invalid", f"no such job here: {sorted(configuration)}")

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _extract(self, asked: Mapping[str, Any]) -> Any:
        source = dict(asked["sourceTable"])
        assert asked["destinationFormat"] == "AVRO" and asked["useAvroLogicalTypes"], asked
        assert asked["compression"] == "SNAPPY", asked
        partition = _SUFFIX.search(source["tableId"])
        source["tableId"] = _SUFFIX.sub("", source["tableId"])
        table = self.table(source)
        fields = table["schema"]["fields"]
        rows = self.sql(source["projectId"], f"SELECT * FROM {_path(source)}")
        if partition is not None and partition[1] is not None:
            rows = [row for row in rows if bigquery_avro.partition_of(table, row) == partition[1]]
        rows = rows[: len(rows) - self.lost_rows]
        (uri,) = asked["destinationUris"]
        assert uri.count("*") == 1, "more than 1 GB needs a wildcard"
        bucket, _, pattern = uri.removeprefix("gs://").partition("/")
        shards: list[list[Any]] = [[]]
        size = 0
        for row in rows:
            if size >= self.shard_bytes:
                shards.append([])
                size = 0
            shards[-1].append(row)
            size += len(json.dumps(row))
        for number, shard in enumerate(shards):
            content = bigquery_avro.written(fields, shard, self.codec)
            self.store.put(bucket, pattern.replace("*", f"{number:012}"), content)
        return {
            "destinationUriFileCounts": [str(len(shards))],
            "inputBytes": str(sum(len(json.dumps(r)) for r in rows)),
        }

    def _load(self, asked: Mapping[str, Any]) -> Any:
        assert asked["sourceFormat"] == "AVRO" and asked["useAvroLogicalTypes"], asked
        target = dict(asked["destinationTable"])
        target["tableId"] = _SUFFIX.sub("", target["tableId"])
        names = {field["name"] for field in self.table(target)["schema"]["fields"]}
        path = f"/bigquery/v2/projects/{target['projectId']}/datasets/{target['datasetId']}/tables/{target['tableId']}"
        rows: list[Any] = []
        files = 0
        for uri in asked["sourceUris"]:
            bucket, _, pattern = uri.removeprefix("gs://").partition("/")
            prefix = pattern.partition("*")[0]
            listed = self.store.ask("GET", f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}").get("items", ())
            found = [each["name"] for each in listed if fnmatchcase(each["name"], pattern)]
            if not found:
                raise RefusedError(404, "notFound", f"Not found: URI {uri}")
            for name in found:
                files += 1
                link = f"{self.store.endpoint}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
                with urlopen(link, timeout=60) as answer:
                    content = answer.read()
                try:
                    rows += bigquery_avro.read(content)
                except Exception as error:
                    raise RefusedError(400, "invalid", f"The Apache Avro library failed to read: {error}") from error
        if not self.time_travels:  # nor does that one decode bytes
            texts = [each["name"] for each in self.table(target)["schema"]["fields"] if each["type"] == "BYTES"]
            rows = [
                {**row, **{each: base64.b64decode(row[each]).decode() for each in texts if row[each] is not None}}
                for row in rows
            ]
        if rows and not rows[0].keys() <= names:
            raise RefusedError(
                400, "invalid", f"Provided Schema does not match Table: {sorted(rows[0].keys() - names)}"
            )
        self._insert_rows(path, rows)
        return {"inputFiles": str(files), "outputRows": str(len(rows)), "badRecords": "0"}

    def _insert_rows(self, path: str, rows: Sequence[Any]) -> None:
        for start in range(0, len(rows), 500):
            sent = {"rows": [{"json": row} for row in rows[start : start + 500]]}
            answer = self.ask("POST", f"{path}/insertAll", sent)
            if answer.get("insertErrors"):
                raise RefusedError(400, "invalid", json.dumps(answer["insertErrors"])[:300])

    def _select_into(self, project: str, statement: str, target: Mapping[str, str]) -> None:
        """The rows of a query, into a new table: as `sources.bigquery.as_text` asks for it."""
        match = _NAMED.search(statement)
        assert match, statement
        _, dataset, name = match[0].strip("`").split(".")
        fields = self.table({"projectId": project, "datasetId": dataset, "tableId": name})["schema"]["fields"]
        if self.time_travels:
            found = [bigquery_texts.texts(fields, row) for row in self.sql(project, bigquery_texts.uncast(statement))]
        else:
            found = self.sql(project, statement)  # that one casts by itself
        columns = bigquery_texts.as_strings(fields)
        path = f"/bigquery/v2/projects/{project}/datasets/{target['datasetId']}/tables"
        self.ask("POST", path, {"tableReference": target, "schema": {"fields": columns}})
        self._insert_rows(f"{path}/{target['tableId']}", bigquery_texts.rows(columns, found))

    def _appends(self, asked: Mapping[str, Any], target: Mapping[str, str]) -> bool:
        """What was added to a table, into a new one; whether that was asked."""
        try:
            told = self.history.told(asked["query"])
        except ValueError as error:
            raise RefusedError(400, "invalidQuery", str(error)) from error
        if told is None:
            return False
        project, dataset, name = told[0].split(".")
        schema = self.table({"projectId": project, "datasetId": dataset, "tableId": name})["schema"]
        cut = {name: asked[name] for name in ("timePartitioning", "rangePartitioning") if name in asked}
        path = f"/bigquery/v2/projects/{project}/datasets/{target['datasetId']}/tables"
        self.ask("POST", path, {"tableReference": target, "schema": schema, **cut})
        self._insert_rows(f"{path}/{target['tableId']}", told[1])
        return True

    def _read_texts(self, project: str, match: re.Match[str]) -> int:
        """Rows of a table with texts, into one with the columns themselves; how many."""
        target, source = match[1].split("."), match[4].split(".")
        columns, fields = (
            self.table({"projectId": project, "datasetId": each[1], "tableId": each[2]})["schema"]["fields"]
            for each in (source, target)
        )
        found = self.sql(project, f"SELECT {bigquery_texts.uncast(match[3])} FROM `{match[4]}`")
        try:
            rows = [bigquery_texts.values(fields, row) for row in bigquery_texts.rows(columns, found)]
        except ValueError as error:
            raise RefusedError(400, "invalidQuery", str(error)) from error
        self._insert_rows(f"/bigquery/v2/projects/{project}/datasets/{target[1]}/tables/{target[2]}", rows)
        return len(rows)

    def _snapshot(self, asked: Mapping[str, Any]) -> None:
        source, target = dict(asked["sourceTable"]), asked["destinationTable"]
        moment = _SUFFIX.search(source["tableId"])
        source["tableId"] = _SUFFIX.sub("", source["tableId"])
        table = self.table(source)
        kept = ("schema", "timePartitioning", "rangePartitioning", "clustering", "labels", "description")
        made = {"tableReference": target, **{name: table[name] for name in kept if name in table}}
        path = f"/bigquery/v2/projects/{target['projectId']}/datasets/{target['datasetId']}/tables"
        if policies := self._policies(source):
            # Whoever sees few rows, copies all: who sees which goes along. The emulator does so without a moment alone.
            self.ask(
                "POST",
                path.partition("/datasets/")[0] + "/jobs",
                {"configuration": {"copy": {"sourceTable": source, "destinationTable": target}}},
            )
            for policy in policies:
                named = {**target, "policyId": policy["rowAccessPolicyReference"]["policyId"]}
                sent = {"rowAccessPolicyReference": named, "filterPredicate": policy["filterPredicate"]}
                sent["grantees"] = policy["grantees"]
                self.ask("POST", f"{path}/{quote(target['tableId'])}/rowAccessPolicies", sent)
            self._told_of(source, asked)
            return
        self.ask("POST", path, made)
        of = ""
        if moment is not None and self.time_travels:
            if int(moment[2]) < int(table["creationTime"]):
                raise RefusedError(400, "invalid", f"Invalid time travel timestamp {moment[2]} for table")
            of = f" FOR SYSTEM_TIME AS OF TIMESTAMP_MILLIS({moment[2]})"
        self.sql(target["projectId"], f"INSERT INTO {_path(target)} SELECT * FROM {_path(source)}{of}")
        self._told_of(source, asked)

    def _copied(self, asked: Mapping[str, Any]) -> None:
        """A table as of a moment, or what a snapshot holds, into one that is empty, or is made."""
        source, target = dict(asked["sourceTable"]), asked["destinationTable"]
        moment = _SUFFIX.search(source["tableId"])
        source["tableId"] = _SUFFIX.sub("", source["tableId"])
        try:
            table = self.table(source)
        except RefusedError as error:
            raise RefusedError(error.status, "notFound", f"Not found: Table {source['tableId']}") from error
        of = ""
        if moment is not None:
            if not self.time_travels or int(moment[2]) < int(table["creationTime"]):
                raise RefusedError(400, "invalid", f"Invalid time travel timestamp {moment[2]} for table")
            of = f" FOR SYSTEM_TIME AS OF TIMESTAMP_MILLIS({moment[2]})"
        path = f"/bigquery/v2/projects/{target['projectId']}/datasets/{target['datasetId']}/tables"
        try:
            standing = self.table(target)
        except RefusedError:
            kept = ("schema", "timePartitioning", "rangePartitioning", "clustering", "description")
            self.ask("POST", path, {"tableReference": target, **{name: table[name] for name in kept if name in table}})
        else:
            names = [[each["name"] for each in one["schema"]["fields"]] for one in (table, standing)]
            if names[0] != names[1]:
                raise RefusedError(400, "invalid", "Provided Schema does not match Table")
            if self.sql(target["projectId"], f"SELECT COUNT(*) FROM {_path(target)}")[0]["f"][0]["v"] != "0":
                raise RefusedError(409, "duplicate", f"Already Exists: Table {target['tableId']}")
        self.sql(target["projectId"], f"INSERT INTO {_path(target)} SELECT * FROM {_path(source)}{of}")

    def _policies(self, source: Mapping[str, str]) -> list[Any]:
        path = f"/bigquery/v2/projects/{source['projectId']}/datasets/{source['datasetId']}/tables/"
        try:
            found = self.ask("GET", f"{path}{quote(source['tableId'])}/rowAccessPolicies")
        except RefusedError:
            return []  # an emulator that has none
        return list(found.get("rowAccessPolicies") or ())

    def _told_of(self, source: Mapping[str, str], asked: Mapping[str, Any]) -> None:
        target = asked["destinationTable"]
        told: dict[str, Any] = {"type": "SNAPSHOT", "snapshotDefinition": {"baseTableReference": source}}
        if "destinationExpirationTime" in asked:
            told["expirationTime"] = asked["destinationExpirationTime"]
        self._snapshots[target["projectId"], target["datasetId"], target["tableId"]] = told

    def _partitions(self, project: str, dataset: str) -> Any:
        """A partition changed last when its rows were found to be others than before."""
        columns = ("table_name", "partition_id", "total_rows", "total_logical_bytes", "last_modified_time")
        rows = []
        path = f"/bigquery/v2/projects/{project}/datasets/{dataset}/tables"
        for listed in self.ask("GET", path).get("tables", ()):
            if listed["type"] != "TABLE":
                continue
            reference = listed["tableReference"]
            table = self.table(reference)
            inside: dict[str | None, list[str]] = {}
            partitioned = "timePartitioning" in table or "rangePartitioning" in table
            if not partitioned:
                inside[None] = []
            for row in (
                self.ask("GET", f"{path}/{quote(reference['tableId'])}/data?maxResults=100000").get("rows") or ()
            ):
                inside.setdefault(bigquery_avro.partition_of(table, row) if partitioned else None, []).append(
                    json.dumps(row)
                )
            for name, found in inside.items():
                digest = sha256("".join(sorted(found)).encode()).hexdigest()
                key = (project, dataset, reference["tableId"], table["creationTime"], str(name))
                if self._changed.get(key, ("", 0))[0] != digest:
                    self._changed[key] = digest, int(time.time() * 1_000_000)
                size = str(sum(map(len, found)))
                cells = (reference["tableId"], name, str(len(found)), size, str(self._changed[key][1]))
                rows.append({"f": [{"v": cell} for cell in cells]})
        kinds = ("STRING", "STRING", "INTEGER", "INTEGER", "TIMESTAMP")
        schema = {"fields": [{"name": name, "type": kind} for name, kind in zip(columns, kinds, strict=True)]}
        return {"schema": schema, "rows": rows, "totalRows": str(len(rows)), "totalBytesProcessed": "10485760"}


def _path(reference: Mapping[str, str]) -> str:
    return f"`{reference['projectId']}.{reference['datasetId']}.{reference['tableId']}`"


@contextmanager
def front(backend: str, store: GoogleStore, *, time_travels: bool) -> Iterator[Front]:
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
    made = Front(backend, store, time_travels, f"http://127.0.0.1:{server.server_address[1]}")
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
