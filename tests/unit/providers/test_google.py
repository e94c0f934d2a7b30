"""The client of Google's services: what it sends again, when it logs in anew, and what it never sends."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import RefreshError

from cto_backups.core.limits import UNLIMITED
from cto_backups.core.policy import Tls
from cto_backups.errors import BackupsError, KeyProblemError, SourceError, VaultError
from cto_backups.providers import pauses
from cto_backups.providers.google import UNREACHED, GoogleClient, OutOfTimeError, RefusedError
from cto_backups.sources.bigquery.place import Place
from cto_backups.sources.bigquery.reporting import BigQueryReport
from cto_backups.sources.bigquery.source import BigQuerySource
from cto_backups.sources.cloudsql.client import AdminApi
from cto_backups.sources.cloudsql.source import CloudSqlSource
from servers import google_stores
from servers.certificates import certificate
from servers.google_stores import Logins
from servers.handshakes import shaking_hands

LOST = 0


@dataclass
class Service:
    """A service of Google's kind; `plan` is what the next requests get, LOST for no answer at all. `asked` is all."""

    address: str = ""
    connections: int = 0
    plan: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    asked: list[tuple[str, str, str, bytes]] = field(default_factory=list)

    def will(self, status: int, reason: str = "", times: int = 1, body: str | None = None, **headers: str) -> None:
        told = json.dumps({"error": {"message": "no", "errors": [{"reason": reason}]}}) if body is None else body
        self.plan += [(status, {name.replace("_", "-"): value for name, value in headers.items()}, told)] * times

    @property
    def tokens(self) -> list[str]:
        """With which tokens it was asked."""
        return [login for _, _, login, _ in self.asked]


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    made = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            made.connections += 1
            super().setup()

        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.asked.append((self.command, self.path, self.headers.get("Authorization", ""), sent))
            status, headers, body = made.plan.pop(0) if made.plan else (200, {}, '{"kind": "fine"}')
            if status == LOST:
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

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
def service(running: Service) -> Service:
    running.plan.clear()
    running.asked.clear()
    return running


@pytest.fixture(scope="module")
def login() -> Iterator[Logins]:
    with google_stores.logins() as made:
        yield made


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; for how long at least it would have been."""
    waits: list[float] = []
    monkeypatch.setattr(pauses, "pause", lambda _, at_least=0.0, **_more: waits.append(at_least))
    return waits


@pytest.fixture
def client(service: Service, login: Logins) -> Iterator[GoogleClient]:
    made = connected(service, login)
    yield made
    made.close()


def connected(service: Service, login: Logins, **more: Any) -> GoogleClient:
    given: dict[str, Any] = {"base": service.address, **more}
    return GoogleClient("source shop", SourceError, ["scope"], lambda: login.key_file, **given)


class Limit:
    """So many seconds are left, for ever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def left(self) -> float | None:
        return self.seconds

    def then(self, end: object) -> None:
        pass


# -- asking again


def test_what_passes_by_itself_is_asked_again_and_as_late_as_the_service_says(
    service: Service, client: GoogleClient, waits: list[float]
) -> None:
    service.will(429, "rateLimitExceeded", Retry_After="7")
    service.will(403, "userRateLimitExceeded")
    service.will(503)
    assert client.told("GET", "/a") == {"kind": "fine"}
    assert len(service.asked) == 4
    assert waits == [7.0, 0.0, 0.0]


def test_six_tries_are_the_end_and_a_refusal_for_a_reason_comes_at_once(service: Service, client: GoogleClient) -> None:
    service.will(500, "backendError", times=9)
    with pytest.raises(RefusedError, match="backendError"):
        client.ask("GET", "/a")
    assert len(service.asked) == 6
    service.plan.clear()
    service.will(403, "forbidden")
    with pytest.raises(RefusedError) as refused:
        client.ask("GET", "/b", needs="storage.objects.get")
    assert (refused.value.status, refused.value.needs, refused.value.again) == (403, "storage.objects.get", False)
    assert len(service.asked) == 7


def test_a_reason_that_passes_at_this_service_alone_is_known_to_its_client(service: Service, login: Logins) -> None:
    service.will(409, "operationInProgress", times=2)
    assert connected(service, login, passing={"operationInProgress": 3}).ask("POST", "/a").status_code == 200
    service.will(409, "operationInProgress")
    with pytest.raises(RefusedError, match="operationInProgress"):
        connected(service, login).ask("POST", "/a")


def test_a_change_whose_answer_was_lost_is_sent_whole_again_and_a_refusal_then_says_so(
    service: Service, client: GoogleClient
) -> None:
    service.will(LOST)
    service.will(409, "alreadyExists")
    with pytest.raises(RefusedError) as refused:
        client.ask("POST", "/a", sent={"name": "x"})
    assert refused.value.again, "the first may have come through"
    assert [body for _, _, _, body in service.asked] == [b'{"name": "x"}'] * 2


def test_what_must_not_be_repeated_is_sent_once(service: Service, client: GoogleClient) -> None:
    service.will(LOST)
    with pytest.raises(UNREACHED):
        client.ask("PUT", "/session", body=lambda: b"part", attempts=1)
    assert len(service.asked) == 1


def test_an_answer_that_was_cut_short_is_asked_for_again(service: Service, client: GoogleClient) -> None:
    service.will(200, body='{"items": [')
    service.will(409, "duplicate")
    with pytest.raises(RefusedError) as refused:
        client.told("POST", "/jobs", sent={})
    assert refused.value.again
    service.will(204, body="")
    assert client.told("POST", "/jobs") is None
    service.will(200, body="")
    assert client.told("GET", "/list") == {"kind": "fine"}, "nothing is no listing that is empty"


def test_all_threads_together_have_a_budget_of_tries_that_answers_fill_again(
    service: Service, client: GoogleClient
) -> None:
    service.will(503, times=500)
    for _ in range(25):
        with pytest.raises(RefusedError):
            client.ask("GET", "/a")
    assert len(service.asked) == 25 + 100, "a hundred tries more, then each request is sent once"
    service.plan.clear()
    for _ in range(11):
        client.ask("GET", "/a")
    service.will(503)
    assert client.ask("GET", "/a").status_code == 200


def test_when_the_time_is_over_nothing_is_waited_for(service: Service, login: Logins, waits: list[float]) -> None:
    service.will(503)
    late = connected(service, login, limit=Limit(0.0))
    with pytest.raises(RefusedError):
        late.ask("GET", "/a")
    with pytest.raises(OutOfTimeError):
        late.wait(60.0)
    with pytest.raises(OutOfTimeError):
        late.pause(1)
    assert (len(service.asked), waits) == (1, [])


# -- logging in


def test_a_token_that_expires_in_the_middle_is_replaced_before_it_is_used(service: Service, login: Logins) -> None:
    login.expires_in = 1  # which is none to begin a request with
    try:
        client = connected(service, login)
        for _ in range(3):
            client.ask("GET", "/a")
    finally:
        login.expires_in = 3600
    assert len(set(service.tokens)) == 3
    assert service.tokens == [f"Bearer {token}" for token in login.given[-3:]]


def test_a_token_that_was_taken_back_is_replaced_once_from_where_the_login_comes(
    service: Service, login: Logins
) -> None:
    looked_up: list[str] = []

    def reveal() -> str:
        looked_up.append("")
        return login.key_file

    client = GoogleClient("source shop", SourceError, ["scope"], reveal, base=service.address)
    service.will(401, "authError")
    assert client.ask("GET", "/a", attempts=1).status_code == 200, "which is no further try of the same"
    assert len(looked_up) == 2
    assert len(set(service.tokens)) == 2
    service.will(401, "authError", times=2)
    with pytest.raises(RefusedError, match="authError"):
        client.ask("GET", "/a")


def test_a_key_that_is_no_longer_there_ends_a_login_that_was_taken_back(service: Service, login: Logins) -> None:
    files = [login.key_file]

    def reveal() -> str:
        if not files:
            raise KeyProblemError("Key env:SHOP is not set")
        return files.pop()

    client = GoogleClient("source shop", SourceError, ["scope"], reveal, base=service.address)
    service.will(401, "authError")
    with pytest.raises(RefreshError, match="cannot be looked up anew: Key env:SHOP is not set"):
        client.ask("GET", "/a")


def test_a_login_goes_nowhere_that_an_answer_or_a_file_of_passwords_names(
    service: Service, client: GoogleClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password swordfish\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    service.will(307, Location=f"{service.address}/elsewhere")
    with pytest.raises(RefusedError):
        client.ask("GET", "/a")
    assert [path for _, path, _, _ in service.asked] == ["/a"]
    assert service.tokens[0].startswith("Bearer ")


def test_a_key_that_cannot_be_looked_up_is_told_as_the_sources_trouble() -> None:
    def reveal() -> str:
        raise KeyProblemError("Key env:SHOP is not set", todo="Set it.")

    place = Place("shop", "project", "EU", "gs://staging", credentials=reveal)
    with pytest.raises(SourceError, match=r"source shop: .*Key env:SHOP is not set") as bigquery, place.opened():
        pass
    with pytest.raises(SourceError, match=r"source shop: .*Key env:SHOP is not set") as cloudsql:
        AdminApi("shop", reveal).ask("GET", "x", "look at the instance")
    assert bigquery.value.todo == cloudsql.value.todo == "Set it."


# -- the way there


def test_requests_go_over_one_connection_as_long_as_it_lasts(login: Logins, service: Service) -> None:
    before = service.connections
    client = GoogleClient("vault cloud", VaultError, ["x"], lambda: login.key_file, base=service.address)
    for _ in range(20):
        client.told("GET", "/a")
    assert service.connections == before + 1
    client.close()


def test_a_proxy_of_this_machines_settings_is_gone_through(
    login: Logins, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", service.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    client = GoogleClient("vault cloud", VaultError, ["x"], lambda: login.key_file, base="http://localhost:9")
    client.told("GET", "/a")
    assert service.asked[-1][1] == "http://localhost:9/a"
    near = GoogleClient("vault cloud", VaultError, ["x"], lambda: login.key_file, base=service.address)
    near.told("GET", "/b")
    assert service.asked[-1][1] == "/b"


def test_nothing_is_sent_to_a_server_that_speaks_less_than_is_asked_for(
    login: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.shown))
    given = len(login.given)
    with shaking_hands(shown, ssl.TLSVersion.TLSv1_2) as address:
        api = AdminApi("ledger", lambda: login.key_file, endpoint=address)
        with pytest.raises(
            SourceError, match=r"Source ledger: .* speaks TLS 1\.2, and the policy asks for 1\.3"
        ) as sql:
            api.ask("POST", "x", "clone the instance")
        assert "tls:" not in sql.value.todo, "it has no such setting"
        place = Place("shop", "project", "EU", "gs://staging", credentials=lambda: login.key_file, endpoint=address)
        with pytest.raises(SourceError, match=r"Source shop: .* speaks TLS 1\.2"), place.opened() as (bigquery, _):
            bigquery.datasets()
        vault = GoogleClient("vault cloud", VaultError, ["x"], lambda: login.key_file, base=address, tls=Tls.V1_3)
        with pytest.raises(VaultError) as cloud:
            vault.ask("GET", "/a")
        assert "'tls: 1.2' at vault cloud" in cloud.value.todo
    assert len(login.given) == given, "not even a token was asked for"


def _asking(login: Logins, state: Path, address: str, tls: str) -> list[Callable[[], object]]:
    """Everything that has a setting for it, about to ask a service at the address."""
    given = {"project": "acme-x", "location": "EU", "credentials": lambda: login.key_file, "endpoint": address}
    options = {**given, "staging": "gs://x", "instance": "one", "user": "x", "tls": tls}
    report = BigQueryReport("acme-x.told", {**options, "dataset": "told"})
    return [
        BigQuerySource("shop", options, state=state).discover,
        CloudSqlSource("shop", options, state=state).discover,
        lambda: report.deliver(iter(()), "acme", UNLIMITED),
    ]


@pytest.mark.parametrize("number", range(3))
def test_less_is_spoken_where_policy_says_so_and_nowhere_else(
    login: Logins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    shown = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.shown))
    monkeypatch.setattr(pauses, "pause", lambda *_, **__: None)
    given = len(login.given)
    with shaking_hands(shown, ssl.TLSVersion.TLSv1_2) as address:
        with pytest.raises(BackupsError, match=r"speaks TLS 1\.2, and the policy asks for 1\.3") as refused:
            _asking(login, tmp_path, address, "1.3")[number]()
        assert "'tls: 1.2' at " in refused.value.todo
        assert len(login.given) == given, "not even a token was asked for"
        with pytest.raises(BackupsError) as asked:  # that server says no more than its hello
            _asking(login, tmp_path, address, "1.2")[number]()
        assert "speaks TLS" not in str(asked.value)
        assert len(login.given) > given


def test_a_login_does_not_travel_without_tls(login: Logins) -> None:
    place = Place(
        "shop", "project", "EU", "gs://x", credentials=lambda: login.key_file, endpoint="http://192.0.2.1:443"
    )
    given = len(login.given)
    with place.opened() as (bigquery, _), pytest.raises(SourceError, match="does without TLS"):
        bigquery.datasets()
    assert len(login.given) == given
