"""A store whose bucket has as many objects as one likes, of which it can only tell the names, by either protocol."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_PAGE = 1000
_MADE = {"generation": "1", "timeCreated": "2026-11-01T00:00:00.000Z"}


def name(number: int) -> str:
    """The name of an object: like that of a pack."""
    return f"v/repositories/main/data/{number % 256:02x}/{number:064x}"


@contextmanager
def long_listing(count: int, *, stuck: bool = False, mute: bool = False) -> Iterator[str]:
    """Its address; `stuck`: each page names itself as the next; `mute`: none tells how to ask for the next."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = {word: values[0] for word, values in parse_qs(urlsplit(self.path).query).items()}
            begin = int(asked.get("continuation-token") or asked.get("pageToken") or 0)
            numbers = range(begin, min(begin + _PAGE, count))
            following = None if numbers.stop >= count else str(max(begin, 1) if stuck else numbers.stop)
            content = (_as_xml if "list-type" in asked else _as_json)(numbers, following)
            if mute:
                content = re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", content)
            self.send_response_only(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _as_xml(numbers: range, following: str | None) -> bytes:
    entries = "".join(
        f"<Contents><Key>{name(number)}</Key><LastModified>2026-11-01T00:00:00.000Z</LastModified>"
        f'<ETag>"0"</ETag><Size>{number}</Size><StorageClass>STANDARD</StorageClass></Contents>'
        for number in numbers
    )
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    truncated = f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>"
    return f"<ListBucketResult><Name>any</Name>{truncated}{more}{entries}</ListBucketResult>".encode()


def _as_json(numbers: range, following: str | None) -> bytes:
    page: dict[str, object] = {"items": [{"name": name(number), "size": str(number), **_MADE} for number in numbers]}
    if following:
        page["nextPageToken"] = following
    return json.dumps(page).encode()
