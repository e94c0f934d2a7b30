"""The client of stores that speak S3: when it asks again, and with which keys."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cto_backups.core.policy import Tls
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import KeyProblemError, SourceError
from cto_backups.providers import aws, aws_words, pauses
from cto_backups.sources.bucket.s3 import S3Store

LISTING = "<ListBucketResult><KeyCount>1</KeyCount><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"


@dataclass
class Store:
    """A store that knows no signatures; `plan` is what the next requests get. `keys` are those it was asked with."""

    address: str = ""
    plan: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def will(self, status: int, code: str, **headers: str) -> None:
        told = f"<Error><Code>{code}</Code><Message>no</Message></Error>" if code else ""
        self.plan.append((status, told, {name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.keys.append(self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0])
            status, body, headers = made.plan.pop(0) if made.plan else (200, LISTING, {})
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; for how long at least it would have been."""
    waits: list[float] = []
    monkeypatch.setattr(pauses, "pause", lambda _, at_least=0.0, **_more: waits.append(at_least))
    return waits


def client(store: Store, *keys: str) -> Any:
    """With the first key, and when it looks for one again, the next."""
    left = list(keys or ["first"])
    logins = {"access_key": lambda: left.pop(0) if len(left) > 1 else left[0], "secret_key": lambda: "swordfish"}
    address = StoreAddress("any", "", "eu-central-1", store.address, Tls.NONE, logins)
    return aws.s3_client("source shop", SourceError, address)


def listed(made: Any) -> list[str]:
    return [each["Key"] for each in made.list_objects_v2(Bucket="any")["Contents"]]


def test_a_store_is_asked_again_as_late_as_it_says_and_an_answer_without_a_body_is_none(
    store: Store, waits: list[float]
) -> None:
    store.will(503, "SlowDown", Retry_After="9")
    store.will(200, "")
    store.will(409, "OperationAborted")
    assert listed(client(store)) == ["a"]
    assert (waits, len(store.keys)) == ([9.0, 0.0], 4)


def test_a_key_that_was_replaced_is_looked_up_anew_once(store: Store) -> None:
    made = client(store, "old", "new")
    store.will(403, "InvalidAccessKeyId")
    assert listed(made) == ["a"]
    assert store.keys == ["old", "new"]
    for _ in range(3):
        store.will(400, "ExpiredToken")
    with pytest.raises(ClientError) as ended:
        listed(made)
    told = aws_words.refused(ended.value)
    assert told is not None and "the login has expired" in told[0]
    assert store.keys == ["old", "new", "new", "new"]


def test_a_right_that_is_missing_has_the_name_that_roles_give_it(store: Store) -> None:
    store.will(403, "AccessDenied")
    with pytest.raises(ClientError) as denied:
        listed(client(store))
    assert aws_words.refused(denied.value) is None, "which right, and on what, is told by who asked"
    assert aws_words.action(denied.value.operation_name) == "ListBucket"


def test_a_key_that_cannot_be_looked_up_is_told_as_the_sources_trouble() -> None:
    def reveal() -> str:
        raise KeyProblemError("Key env:SHOP is not set", todo="Set it.")

    with pytest.raises(SourceError, match=r"source shop: .*Key env:SHOP is not set") as told:
        S3Store("shop", StoreAddress("any", "", "eu-central-1", logins={"access_key": reveal}))
    assert told.value.todo == "Set it."


def test_a_client_is_made_without_looking_for_what_other_services_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would look into hundreds of folders for that; which ones we name are there, in this release of it."""
    assert set(aws._SERVICES) <= set(botocore.session.get_session().get_available_services())

    def looked_into(path: str) -> list[str]:
        looked.append(path)
        return listed(path)

    looked: list[str] = []
    listed = os.listdir
    monkeypatch.setattr("botocore.loaders.os.listdir", looked_into)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    address = StoreAddress("bucket", "", "eu-central-1", "http://127.0.0.1:1", Tls.NONE)
    for made in (
        aws.s3_client("a test", SourceError, address),
        aws.sqs_client("a test", SourceError, address, "http://127.0.0.1:1"),
        aws.iam_client("a test", SourceError, address),
    ):
        made.close()
    assert {Path(path).name for path in looked} <= {"s3", "sqs", "iam"}


def test_a_login_that_comes_from_a_role_is_asked_for_where_roles_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service that gives it has a client of its own, of the same descriptions."""
    settings = tmp_path / "config"
    settings.write_text(
        "[default]\nregion = eu-central-1\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = id\naws_secret_access_key = secret\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    client = aws.s3_client(
        "a test", SourceError, StoreAddress("bucket", "", "eu-central-1", "http://127.0.0.1:1", Tls.NONE)
    )
    try:
        with pytest.raises(EndpointConnectionError, match=r"http://127\.0\.0\.1:1/"):
            client._request_signer._credentials.get_frozen_credentials()
    finally:
        client.close()
