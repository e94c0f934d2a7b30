"""A BigQuery of many small tables, for `benchmarks.many_tables`: it costs little, and its jobs take a set time.

    python -m benchmarks.many_tables_front TABLES SECONDS [LATENCY]

It answers what a backup asks, the bucket and the login too, from one row in each table; `/told` says what was asked so
far. A process of its own, so that what is measured shares no lock of an interpreter with it. It prints its port.
"""

import asyncio
import base64
import json
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cto_backups import _native

PROJECT, DATASET = "many-tables", "many"
_SCHEMA = b'{"type":"record","name":"Root","fields":[{"name":"id","type":["null","long"]}]}'
_SYNC = bytes(16)
_BEGUN = 1_700_000_000_000
_TABLES = re.compile(r"/bigquery/v2/projects/[^/]+/datasets/([^/]+)/tables(?:/([^/]+))?")
_OBJECT = re.compile(r"/storage/v1/b/bucket/o/(.+)")


def avro(number: int) -> bytes:
    """A file of one row."""
    told = b"".join(_number(len(part)) + part for part in (b"avro.schema", _SCHEMA, b"avro.codec", b"null"))
    row = b"\x02" + _number(number)
    return b"Obj\x01" + _number(2) + told + b"\x00" + _SYNC + _number(1) + _number(len(row)) + row + _SYNC


def _number(value: int) -> bytes:
    value, told = value << 1, b""
    while value > 0x7F:
        told, value = told + bytes([value & 0x7F | 0x80]), value >> 7
    return told + bytes([value])


class Front:
    """What there is, and what was asked. Jobs are done `seconds` after they were asked for."""

    def __init__(self, tables: int, seconds: float, latency: float = 0.0) -> None:
        self.tables, self.seconds, self.latency = tables, seconds, latency
        self.asked: Counter[str] = Counter()
        self.most = 0
        self._first = 0.0
        self._jobs: dict[str, tuple[float, int, dict[str, Any]]] = {}
        self._running: deque[tuple[float, int, str]] = deque()  # in the order in which they end, since all take as long
        self._ended: deque[tuple[int, str]] = deque(maxlen=4096)
        self._snapshots: dict[str, dict[str, int]] = {}
        self._objects: dict[str, bytes] = {}

    # -- requests -----------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[str, Any]:
        """What kind of request it is, and its answer: a document, bytes of an object, or None for none such."""
        if found := self._beside(method, path, query, body):
            return found
        if match := _TABLES.fullmatch(path):
            return self._tables(method, match[1], unquote(match[2] or ""), query)
        if path.endswith("/jobs") and method == "POST":
            return "jobs.insert", self._job(json.loads(body))
        if path.endswith("/jobs"):
            return "jobs.list", self._done(int(query["minCreationTime"][0]))
        if "/jobs/" in path:
            return "jobs.get", self._state(path.rpartition("/")[2])
        if "/queries/" in path:
            return "jobs.getQueryResults", self._rows(path.rpartition("/")[2])
        if path.endswith("/rowAccessPolicies"):
            return "rowAccessPolicies.list", {}
        if path.endswith("/datasets"):
            return f"datasets.{method}", self._dataset() if method == "POST" else {"datasets": [self._dataset()]}
        if "/datasets/" in path and not path.endswith("/routines"):
            name = path.rpartition("/")[2]
            if method == "DELETE":
                self._snapshots.pop(name, None)
                return "datasets.delete", {}
            there = name == DATASET or name in self._snapshots
            return "datasets.get", self._dataset(name) if there else None
        return "others", {}

    def _beside(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[str, Any] | None:
        """What is no request to BigQuery: of the login, the benchmark and the bucket."""
        if path == "/token":
            return "token", {"access_token": "any", "expires_in": 3600, "token_type": "Bearer"}
        if path == "/told":
            ends = max((ends for ends, _, _ in self._jobs.values()), default=0.0)
            return "told", {"asked": dict(self.asked), "most": self.most, "first": self._first, "last": ends}
        if path == "/forget":
            self.asked.clear()
            self.most, self._first = 0, 0.0
            return "forget", {}
        if path == "/upload/storage/v1/b/bucket/o":
            self._objects[query["name"][0]] = body
            return "objects.insert", self._listed(query["name"][0])[0]
        if path == "/storage/v1/b/bucket/o":
            return "objects.list", {"items": self._listed(query["prefix"][0])}
        if match := _OBJECT.fullmatch(path):
            name = unquote(match[1])
            if method == "DELETE":
                self._objects.pop(name, None)
                return "objects.delete", {}
            return "objects.get", self._objects[name]
        return None

    def _dataset(self, name: str = DATASET) -> dict[str, Any]:
        if name != DATASET:
            self._snapshots.setdefault(name, {})
        return {"datasetReference": {"projectId": PROJECT, "datasetId": name}, "location": "US"}

    def _tables(self, method: str, dataset: str, name: str, query: dict[str, list[str]]) -> tuple[str, Any]:
        snapshots = self._snapshots.setdefault(dataset, {}) if dataset != DATASET else {}
        if not name and method == "POST":
            return "tables.insert", {}
        if not name:
            names = list(snapshots) if dataset != DATASET else [f"t{number:06}" for number in range(self.tables)]
            begin = int(query.get("pageToken", ["0"])[0])
            page: dict[str, Any] = {"tables": [self._table(dataset, each) for each in names[begin : begin + 1000]]}
            if begin + 1000 < len(names):
                page["nextPageToken"] = str(begin + 1000)
            return "tables.list", page
        if method == "DELETE":
            snapshots.pop(name, None)
            return "tables.delete", {}
        return "tables.get", self._table(dataset, name)

    def _table(self, dataset: str, name: str) -> dict[str, Any]:
        return {
            "type": "TABLE" if dataset == DATASET else "SNAPSHOT",
            "tableReference": {"projectId": PROJECT, "datasetId": dataset, "tableId": name},
            "schema": {"fields": [{"name": "id", "type": "INTEGER"}]},
            "numRows": "1",
            "numBytes": "8",
            "creationTime": str(_BEGUN),
        }

    def _listed(self, prefix: str) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "size": str(len(content)),
                "generation": "1",
                "crc32c": base64.b64encode(_native.crc32c(content, 0).to_bytes(4, "big")).decode(),
                "timeCreated": "2024-01-01T00:00:00Z",
            }
            for name, content in self._objects.items()
            if name.startswith(prefix)
        ]

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _job(self, body: dict[str, Any]) -> dict[str, Any]:
        name, configuration = body["jobReference"]["jobId"], body["configuration"]
        now = time.monotonic()
        self._first = self._first or now
        created = int(time.time() * 1000)
        self._jobs[name] = now + self.seconds, created, configuration
        self._running.append((now + self.seconds, created, name))
        self._see_ended()
        self.most = max(self.most, len(self._running))
        if copy := configuration.get("copy"):
            source = copy["sourceTable"]["tableId"].partition("@")[0]
            target = copy["destinationTable"]
            self._snapshots.setdefault(target["datasetId"], {})[target["tableId"]] = int(source[1:])
        if extract := configuration.get("extract"):
            table = extract["sourceTable"]
            number = self._snapshots[table["datasetId"]][table["tableId"]]
            self._objects[extract["destinationUris"][0].partition("gs://bucket/")[2].replace("*", "0" * 12)] = avro(
                number
            )
        return self._state(name)

    def _see_ended(self) -> None:
        now = time.monotonic()
        while self._running and self._running[0][0] <= now:
            _, created, name = self._running.popleft()
            self._ended.append((created, name))

    def _state(self, name: str) -> dict[str, Any]:
        ends, created, configuration = self._jobs[name]
        is_done = time.monotonic() >= ends
        statistics: dict[str, Any] = {"creationTime": str(created), "startTime": str(created)}
        if is_done:
            statistics["endTime"] = str(created + int(self.seconds * 1000))
            if "load" in configuration:
                statistics["load"] = {"outputRows": "1"}
            if "extract" in configuration:
                statistics["extract"] = {"destinationUriFileCounts": ["1"]}
        return {
            "jobReference": {"projectId": PROJECT, "jobId": name, "location": "US"},
            "status": {"state": "DONE" if is_done else "RUNNING"},
            "statistics": statistics,
        }

    def _done(self, since: int) -> dict[str, Any]:
        """What jobs.list says of those that are done, without configurations: the latest first."""
        self._see_ended()
        found = []
        for created, name in reversed(self._ended):
            if created < since or len(found) == 1000:
                break
            job = self._state(name)
            del job["status"]
            found.append({**job, "state": "DONE"})
        return {"jobs": found}

    def left(self, path: str, query: dict[str, list[str]]) -> float:
        """For how many seconds an answer is held back: that of a query, until it is done or nobody waits any more."""
        if "/queries/" not in path:
            return self.latency
        ends, _, _ = self._jobs[path.rpartition("/")[2]]
        wanted = int(query.get("timeoutMs", ["10000"])[0]) / 1000
        return self.latency + max(0.0, min(ends - time.monotonic(), wanted))

    def _rows(self, name: str) -> dict[str, Any]:
        ends, _, configuration = self._jobs[name]
        if time.monotonic() < ends:
            return {"jobReference": {"projectId": PROJECT, "jobId": name}, "jobComplete": False}
        statement = configuration["query"]["query"]
        if "INFORMATION_SCHEMA" in statement:
            names = ["table_name", "partition_id", "total_rows", "total_logical_bytes", "last_modified_time"]
            rows: list[list[Any]] = [[f"t{number:06}", None, "1", "8", "1"] for number in range(self.tables)]
        elif "CURRENT_TIMESTAMP" in statement:
            names, rows = ["now"], [[str(int(time.time() * 1000))]]
        else:
            names = ["part", "number", "one", "two", "least", "sample"]
            rows = [["all", "1", "5", "7", "5", [{"v": '{"id":1}'}]]]
        fields = [{"name": each, "type": "STRING"} for each in names]
        return {
            "jobComplete": True,
            "totalBytesProcessed": "8",
            "schema": {"fields": fields},
            "rows": [{"f": [{"v": cell} for cell in row]} for row in rows],
        }


async def serve(front: Front, ready: Callable[[int], None]) -> None:
    """Answer on a port of this machine until the process ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length") or 0))
                address = urlsplit(target)
                query = parse_qs(address.query)
                if wait := front.left(address.path, query):
                    await asyncio.sleep(wait)
                kind, answer = front.answer(method, address.path, query, body)
                front.asked[kind] += 1
                status = "404 Not Found" if answer is None else "200 OK"
                content = answer if isinstance(answer, bytes) else json.dumps(answer or {}).encode()
                told = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                writer.write(told.encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    ready(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve, as the command line says."""
    tables, seconds = int(sys.argv[1]), float(sys.argv[2])
    front = Front(tables, seconds, float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
    asyncio.run(serve(front, lambda port: print(port, flush=True)))


if __name__ == "__main__":
    main()
