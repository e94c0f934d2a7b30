"""The way of the benchmark of clouds: bytes pass as they are, and every request waits."""

import http.client
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from servers.mariadb import free_port
from servers.object_stores import running

ROOT = Path(__file__).resolve().parents[3]


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[::-1])

    def log_message(self, *_: object) -> None:
        pass


def test_each_request_waits_and_its_bytes_pass_as_they_are(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.cloud_way", str(port), str(server.server_address[1]), "700"]
    try:
        with running(words, {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, tmp_path, port):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            began = time.monotonic()
            for size in (10, 3_000_000, 100_000):
                content = os.urandom(size)
                connection.request("PUT", "/", content)
                assert connection.getresponse().read() == content[::-1]
            assert time.monotonic() - began >= 3 * 0.7
            connection.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
