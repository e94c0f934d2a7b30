"""BigQuery for tests: one of two emulators, behind a front that does what it lacks, with buckets in fake-gcs-server."""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.bigquery_front import Front, front
from servers.google_stores import GoogleStore
from servers.mariadb import free_port
from servers.object_stores import running

PROJECT = "proving"
BASE = f"/bigquery/v2/projects/{PROJECT}"
# Its types for places are an extension that is fetched when it starts; there are no such columns in its tests.
_WITHOUT_PLACES = """
from bqemulator.storage import engine
engine.DuckDBEngine._load_spatial = lambda self: None
from bqemulator.cli import main
main()
"""


@contextmanager
def bqemulator(packages: Path, store: GoogleStore) -> Iterator[Front]:
    """The emulator on DuckDB, in memory, from the folder that it was installed in."""
    port, other = free_port(), free_port()
    words = [sys.executable, "-c", _WITHOUT_PLACES, "start", "--rest-port", str(port), "--grpc-port", str(other)]
    words += ["--log-level", "error", "--project", PROJECT]
    with _place() as place:
        variables = {
            "PYTHONPATH": os.fspath(packages),
            "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
            "BQEMU_GCS_LOCAL_ROOT": os.fspath(place),
            "BQEMU_QUERY_CACHE_TTL_SECONDS": "0",
        }
        with (
            running(words, {"PATH": os.environ["PATH"], "HOME": str(place), **variables}, place, port),
            front(f"http://127.0.0.1:{port}", store, time_travels=True) as made,
        ):
            yield made


@contextmanager
def bigquery_emulator(program: Path, store: GoogleStore) -> Iterator[Front]:
    """The emulator on GoogleSQL's own analyzer, in memory; it knows no moment but now."""
    port, other = free_port(), free_port()
    words = [os.fspath(program), f"--project={PROJECT}", f"--port={port}", f"--grpc-port={other}"]
    words += ["--host=127.0.0.1", "--log-level=error"]
    with (
        _place() as place,
        running(words, {"PATH": os.environ["PATH"], "HOME": str(place)}, place, port),
        front(f"http://127.0.0.1:{port}", store, time_travels=False) as made,
    ):
        yield made


@dataclass(frozen=True)
class Dataset:
    """A dataset of tests, in the project of a front."""

    front: Front
    name: str

    @classmethod
    def new(cls, front: Front, **settings: Any) -> "Dataset":
        """An empty one, under a name of its own."""
        made = cls(front, f"shop_{uuid.uuid4().hex[:8]}")
        reference = {"projectId": PROJECT, "datasetId": made.name}
        front.ask("POST", f"{BASE}/datasets", {"datasetReference": reference, "location": "US", **settings})
        return made

    def table(self, name: str, fields: Sequence[Mapping[str, Any]], rows: Sequence[Any] = (), **settings: Any) -> None:
        """A table with rows, which are JSON as streaming inserts take it."""
        reference = {"projectId": PROJECT, "datasetId": self.name, "tableId": name}
        made = {"tableReference": reference, "schema": {"fields": fields}, **settings}
        self.front.ask("POST", f"{BASE}/datasets/{self.name}/tables", made)
        if rows:
            self.insert(name, *rows)

    def view(self, name: str, query: str) -> None:
        """A view."""
        reference = {"projectId": PROJECT, "datasetId": self.name, "tableId": name}
        made = {"tableReference": reference, "view": {"query": query, "useLegacySql": False}}
        self.front.ask("POST", f"{BASE}/datasets/{self.name}/tables", made)

    def insert(self, name: str, *rows: Any) -> None:
        """Add rows."""
        sent = {"rows": [{"json": row} for row in rows]}
        answer = self.front.ask("POST", f"{BASE}/datasets/{self.name}/tables/{name}/insertAll", sent)
        assert not answer.get("insertErrors"), answer

    def sql(self, statement: str) -> list[Any]:
        """Rows of a query, in which `{}` stands for the dataset."""
        return self.front.sql(PROJECT, statement.replace("{}", f"{PROJECT}.{self.name}"))

    def rows(self, name: str, order: str = "id") -> list[Any]:
        """Every row of a table."""
        return self.sql(f"SELECT * FROM `{{}}.{name}` ORDER BY {order}")

    def drop(self) -> None:
        """Remove it with all that is in it."""
        self.front.ask("DELETE", f"{BASE}/datasets/{self.name}?deleteContents=true")


def datasets(front: Front) -> list[str]:
    """The names of all datasets that there are."""
    return [each["datasetReference"]["datasetId"] for each in front.ask("GET", f"{BASE}/datasets").get("datasets", ())]


@contextmanager
def _place() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="bigquery-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
