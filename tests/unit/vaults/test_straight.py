"""Bytes that are read below the library come whole, and leave its connections as it knows them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from cto_backups.vaults.slow import Filling
from cto_backups.vaults.straight import straight

CONTENT = bytes(range(256)) * 4096


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    callers: set[tuple[str, int]]

    def do_GET(self) -> None:
        self.callers.add(self.client_address)
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for begin in range(0, len(CONTENT), 100_000):
                part = CONTENT[begin : begin + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:1000])
        self.close_connection = self.path == "/short"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ask() -> Iterator[urllib3.HTTPConnectionPool]:
    handler = type("Handler", (Server,), {"callers": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib3.HTTPConnectionPool("127.0.0.1", server.server_port) as pool:
        pool.callers = handler.callers  # type: ignore[attr-defined]
        yield pool
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/whole", "/chunked"])
def test_all_of_it_comes_and_its_connection_serves_the_next(ask: urllib3.HTTPConnectionPool, path: str) -> None:
    for _ in range(5):
        body = straight(ask.urlopen("GET", path, preload_content=False))
        room = bytearray(len(CONTENT))
        Filling(memoryview(room)).take(body)
        assert room == CONTENT
        body.readinto(memoryview(bytearray(1)))  # what ends with an empty chunk is over when that was read
        body.close()
    assert len(ask.callers) == 1  # type: ignore[attr-defined]


def test_what_is_let_go_of_early_takes_its_connection_along(ask: urllib3.HTTPConnectionPool) -> None:
    for _ in range(2):
        body = straight(ask.urlopen("GET", "/whole", preload_content=False))
        room = bytearray(1000)
        Filling(memoryview(room)).take(body)
        assert room == CONTENT[:1000]
        body.close()
    assert straight(ask.urlopen("GET", "/whole", preload_content=False)).read() == CONTENT
    assert len(ask.callers) == 3  # type: ignore[attr-defined]


def test_what_ends_early_is_an_error_that_says_after_how_much(ask: urllib3.HTTPConnectionPool) -> None:
    body = straight(ask.urlopen("GET", "/short", preload_content=False))
    with pytest.raises(OSError, match="ended after 1000 bytes"):
        Filling(memoryview(bytearray(len(CONTENT)))).take(body)


def test_who_waits_for_more_is_woken_from_outside(ask: urllib3.HTTPConnectionPool) -> None:
    body = straight(ask.urlopen("GET", "/stuck", preload_content=False))
    Filling(memoryview(bytearray(1000))).take(body)
    woken = threading.Timer(0.05, body.shutdown)
    woken.start()
    assert body.readinto(memoryview(bytearray(1))) == 0
    body.close()
