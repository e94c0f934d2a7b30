"""A way to a PostgreSQL server on which a commit gets lost: before it arrives, or after it was carried out."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass
class Way:
    """The way's port, and what is to happen to the next commits: each is used up by one."""

    port: int
    planned: list[Literal["before", "after"]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)


@contextlib.contextmanager
def way_to(socket_file: Path) -> Iterator[Way]:
    """A way to the server that listens at a socket; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        way = Way(listening.getsockname()[1])
        threading.Thread(target=_serve, args=(listening, socket_file, way), daemon=True).start()
        yield way


def _serve(listening: socket.socket, socket_file: Path, way: Way) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(socket_file))
        threading.Thread(target=_pass_on, args=(client, server, way), daemon=True).start()


def _pass_on(client: socket.socket, server: socket.socket, way: Way) -> None:
    lost = threading.Event()

    def answers() -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if lost.is_set():
                    break  # the server has answered, so it has done it
                client.sendall(data)
        _end(client, server)

    with client, server:
        answering = threading.Thread(target=answers, daemon=True)
        answering.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and b"INSERT INTO writes" in data and way.planned:
                    planned = way.planned.pop(0)
                    way.happened.append(planned)
                    if planned == "before":
                        break
                    lost.set()
                server.sendall(data)
        if not lost.is_set():
            _end(client, server)
        answering.join()


def _end(*sides: socket.socket) -> None:
    for side in sides:
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
