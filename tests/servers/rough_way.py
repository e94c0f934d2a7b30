"""A way to a store on which planned things go wrong; everything else passes through it unchanged."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore

_NOT_PASSED_ON = {"expect", "connection", "transfer-encoding"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next `times` requests of this method whose path has `key` in it.

    `lost`: the store does what is asked, and its answer never arrives. `cut`: only so many bytes of the answer's body
    do; `altered` stands in place of its first bytes. `status` with `code` and `headers`: answered on the way, as a
    store would. `asked` changes the headers and the body of the request, `told` the headers of the answer.
    """

    method: str
    key: str = ""
    times: int = 1
    lost: bool = False
    cut: int | None = None
    altered: bytes = b""
    status: int = 0
    code: str = ""
    message: str = "no"
    headers: tuple[tuple[str, str], ...] = ()
    asked: Callable[[dict[str, str], bytes], bytes] | None = None
    told: Callable[[dict[str, str]], None] | None = None


@dataclass
class RoughWay:
    """The way, at the store's address in place of it; `seen` are the methods and paths that came."""

    store: Any
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, *faults: Fault) -> None:
        """Let these things go wrong from now on, and no others."""
        with self.lock:
            self.faults[:] = faults
            self.seen.clear()

    def fault(self, method: str, path: str) -> Fault | None:
        """What is to go wrong with a request, which counts."""
        with self.lock:
            self.seen.append((method, path))
            for index, fault in enumerate(self.faults):
                if fault.method == method and fault.key in path:
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self.faults[index : index + 1] = left
                    return fault
        return None


def _refusal(store: ObjectStore | GoogleStore, fault: Fault) -> str:
    """As the kind of store says it."""
    if isinstance(store, GoogleStore):
        errors = [{"reason": fault.code, "message": fault.message}]
        return json.dumps({"error": {"code": fault.status, "message": fault.message, "errors": errors}})
    return f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message></Error>"


def _spoilt(fault: Fault | None, told: dict[str, str], content: bytes) -> bytes:
    """An answer's content, and its headers, as they arrive."""
    if fault is None:
        return content
    if fault.told is not None:
        fault.told(told)
    return fault.altered + content[len(fault.altered) :]


@contextmanager
def rough_way(store: ObjectStore | GoogleStore) -> Iterator[RoughWay]:
    """A way to the store; `way.store` is it by its new address."""
    place = urlsplit(store.endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = way.fault(self.command, self.path)
            if fault is not None and fault.status:
                self._refuse(fault)
                return
            if fault is not None and fault.asked is not None:
                body = fault.asked(headers, body)
            connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault is not None and fault.lost:
                self.close_connection = True
                return
            told = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_PASSED_ON}
            if self.command != "HEAD":
                told = {name: value for name, value in told.items() if name.lower() != "content-length"}
                told["Content-Length"] = str(len(content))
            content = _spoilt(fault, told, content)
            self._answer(answer.status, told, content, None if fault is None else fault.cut)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_PATCH = pass_on  # noqa: N815 - the names that the library looks for

        def _refuse(self, fault: Fault) -> None:
            said = _refusal(store, fault)
            content = said.encode() if self.command != "HEAD" and fault.code else b""
            told = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(content)),
                **dict(fault.headers),
            }
            self._answer(fault.status, told, content, None)

        def _answer(self, status: int, told: dict[str, str], content: bytes, cut: int | None) -> None:
            self.send_response_only(status)
            for name, value in told.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content if cut is None else content[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # whoever left in the middle, which these tests are about

    server = Server(("127.0.0.1", 0), Handler)
    way = RoughWay(replace(store, endpoint=f"http://127.0.0.1:{server.server_address[1]}"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield way
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
