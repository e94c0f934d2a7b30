"""Pub/Sub for tests: Google's own fake behind its REST API, and a store that writes its events to it."""

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from servers import google_stores
from servers.google_stores import GoogleStore
from servers.mariadb import free_port
from servers.object_stores import running

PROJECT = "tests"
TOPIC = f"projects/{PROJECT}/topics/changes"


@dataclass(frozen=True)
class Pubsub:
    """A running server: REST at `endpoint`; `store` writes all that changes in it to TOPIC."""

    endpoint: str
    store: GoogleStore

    def subscription(self) -> str:
        """The URL of a new subscription to all that the store tells."""
        path = f"/v1/projects/{PROJECT}/subscriptions/of-{uuid.uuid4().hex[:12]}"
        self.ask("PUT", path, {"topic": TOPIC})
        return self.endpoint + path

    def acknowledged(self, bucket: str) -> int:
        """How many of the messages about a bucket were acknowledged."""
        told = self.ask("GET", "/messages") or ()
        return sum(each["Acks"] > 0 for each in told if each["Attributes"].get("bucketId") == bucket)

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """What the server answers."""
        headers = {"Content-Type": "application/json", "Authorization": "Bearer of-tests"}
        body = None if content is None else json.dumps(content).encode()
        with urlopen(Request(self.endpoint + path, body, headers, method=method), timeout=60) as answer:
            return json.loads(answer.read())


@contextmanager
def pubsub(program: Path, fake_gcs_server: Path) -> Iterator[Pubsub]:
    """The fake, its front, and a store that has a topic there."""
    grpc, port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="pubsub-") as place:
        words = [os.fspath(program), str(grpc), str(port)]
        variables = {"PATH": os.environ["PATH"], "HOME": place}
        with running(words, variables, Path(place), port):
            topic = ["-event.pubsub-project-id", PROJECT, "-event.pubsub-topic", TOPIC.rpartition("/")[2]]
            told = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{grpc}"}
            events = [*topic, "-event.list", "finalize,delete,metadataUpdate"]
            with google_stores.fake_gcs_server(fake_gcs_server, *events, variables=told) as store:
                made = Pubsub(f"http://127.0.0.1:{port}", store)
                made.ask("PUT", f"/v1/{TOPIC}", {})
                yield made
