"""A way to a store on which planned things go wrong; everything else passes through it unchanged."""

import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit
from xml.sax.saxutils import escape

from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore

_NOT_PASSED_ON = {"expect", "connection", "transfer-encoding"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next `times` requests of this method whose path has `key` in it.

    `lost`: the store does what is asked, and its answer never arrives. `reset`: the connection breaks once so many
    bytes of the request's body have come; the store never hears of it. `cut`: only so many bytes of the answer's body
    arrive; with `fitting`, its length is told to fit. `altered` stands in place of its first bytes. `drip`: the
    answer's body comes in pieces of so many bytes, with that many seconds between. `old`: a listing is what the same
    request was answered first. `status` with `code` and `headers`: answered on the way, as a store would. `asked`
    changes the headers and the body of the request, `told` the headers of the answer.
    """

    method: str
    key: str = ""
    times: int = 1
    lost: bool = False
    reset: int | None = None
    cut: int | None = None
    fitting: bool = False
    altered: bytes = b""
    drip: tuple[int, float] | None = None
    old: bool = False
    status: int = 0
    code: str = ""
    message: str = "no"
    headers: tuple[tuple[str, str], ...] = ()
    asked: Callable[[dict[str, str], bytes], bytes] | None = None
    told: Callable[[dict[str, str]], None] | None = None


@dataclass
class RoughWay:
    """The way, at the store's address in place of it; `seen` are the methods and paths that came.

    `dice` is asked what goes wrong with a request of which nothing is planned. `bytes_came` counts what was sent.
    """

    store: Any
    faults: list[Fault] = field(default_factory=list)
    dice: Callable[[str, str], Fault | None] | None = None
    struck: Counter[str] = field(default_factory=Counter)
    bytes_came: int = 0
    first_answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, *faults: Fault) -> None:
        """Let these things go wrong from now on, and no others."""
        with self.lock:
            self.faults[:] = faults
            self.seen.clear()
            self.bytes_came = 0

    def came(self, size_bytes: int) -> None:
        """Count bytes of a request's body."""
        with self.lock:
            self.bytes_came += size_bytes

    def fault(self, method: str, path: str) -> Fault | None:
        """What is to go wrong with a request, which counts."""
        with self.lock:
            self.seen.append((method, path))
            for index, fault in enumerate(self.faults):
                if fault.method == method and fault.key in path:
                    left = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    self.faults[index : index + 1] = left
                    return fault
            return self.dice(method, path) if self.dice else None


def _refusal(store: ObjectStore | GoogleStore, fault: Fault) -> str:
    """As the kind of store says it."""
    if isinstance(store, GoogleStore):
        errors = [{"reason": fault.code, "message": fault.message}]
        return json.dumps({"error": {"code": fault.status, "message": fault.message, "errors": errors}})
    return f"<Error><Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message></Error>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    way: ClassVar[RoughWay]
    place: ClassVar[SplitResult]

    def pass_on(self) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
        fault = self.way.fault(self.command, self.path) or Fault(self.command)
        size = int(self.headers.get("Content-Length") or 0)
        if fault.reset is not None:
            body = self.rfile.read(min(size, fault.reset))
            self.way.came(len(body))
            self._reset()
            return
        body = self.rfile.read(size)
        self.way.came(len(body))
        if fault.status:
            self._refuse(fault)
            return
        if fault.asked is not None:
            body = fault.asked(headers, body)
        connection = http.client.HTTPConnection(self.place.hostname or "", self.place.port, timeout=60)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault.lost:
            self.close_connection = True
            return
        told = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_PASSED_ON}
        if self.command != "HEAD":
            told = {name: value for name, value in told.items() if name.lower() != "content-length"}
            told["Content-Length"] = str(len(content))
        if fault.told is not None:
            fault.told(told)
        status = answer.status
        if self.command == "GET" and _lists(self.path):
            first = self.way.first_answers.setdefault(self.path, (status, told, content))
            status, told, content = first if fault.old else (status, told, content)
        content = fault.altered + content[len(fault.altered) :]
        if fault.cut is not None and fault.fitting:
            content = content[: fault.cut]
            told = {**told, "Content-Length": str(len(content))}
        self._answer(status, told, content, fault)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_PATCH = pass_on  # noqa: N815 - as the library calls them

    def _refuse(self, fault: Fault) -> None:
        said = _refusal(self.way.store, fault)
        content = said.encode() if self.command != "HEAD" and fault.code else b""
        told = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(content)),
            **dict(fault.headers),
        }
        self._answer(fault.status, told, content, Fault(self.command))

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _answer(self, status: int, told: dict[str, str], content: bytes, fault: Fault) -> None:
        self.send_response_only(status)
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            if fault.drip is None:
                self.wfile.write(content if fault.cut is None else content[: fault.cut])
            else:
                size, seconds = fault.drip
                for begin in range(0, len(content), size):
                    time.sleep(seconds)
                    self.wfile.write(content[begin : begin + size])
        if fault.cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # whoever left in the middle, which these tests are about


def _lists(path: str) -> bool:
    """Whether a request is for a listing, of either kind of store."""
    return "list-type=2" in path or path.partition("?")[0].endswith("/o")


@contextmanager
def rough_way(store: ObjectStore | GoogleStore) -> Iterator[RoughWay]:
    """A way to the store; `way.store` is it by its new address."""
    way = RoughWay(store)
    handler = type("Handler", (_Handler,), {"way": way, "place": urlsplit(store.endpoint)})
    server = _Server(("127.0.0.1", 0), handler)
    way.store = replace(store, endpoint=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield way
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
