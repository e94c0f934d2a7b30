"""A socket by which a program reaches a server through us, so that a statement of its waits until we are ready for it.

A program that lets everybody stand still for its own purpose does not say so before it is over. Here it is known: the
statement that ends the standstill is not given to the server before what is to be done meanwhile is done.

Of the protocol it needs to know where a packet ends (3 bytes tell its size, the least first, and one its number), and
that a statement comes in a packet with the number 0 whose first byte is 3. TLS would hide that, and compression: a
server's own socket has neither. Newer clients of MySQL say before the statement that it has no attributes, in two
bytes that begin no statement. Format: https://mariadb.com/kb/en/0-packet/, https://mariadb.com/kb/en/com_query/,
https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query.html
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Final

from cto_backups.sources.disposable import sweep

_HEADER: Final = 4
_QUERY: Final = 3
_NO_ATTRIBUTES: Final = b"\0\1"
_ASKING_FOR_TLS: Final = 32
"""How long the packet is by which a client asks for TLS: one that logs in is longer."""
_TLS: Final = 0x800
_PART: Final = 1 << 16
_FOLDER: Final = "cto-backups-relay"


class Relay:
    """Brings connections at `path` to a server's socket; `asked` is given each statement before the server is.

    What `asked` raises is kept as `failure`, and breaks all connections: the program fails for that.
    """

    def __init__(self, path: Path, server: str, asked: Callable[[str], None]) -> None:
        self.path = path
        self.failure: Exception | None = None
        self._server, self._asked = server, asked
        self._lock = Lock()
        self._closed = False
        self._ends: list[socket.socket] = []
        self._threads: list[Thread] = []
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        self._begin(self._accept)

    def close(self) -> None:
        """Break all connections, and wait until nobody is asked any more."""
        self._break()
        for thread in list(self._threads):
            thread.join()

    def _break(self) -> None:
        with self._lock:
            self._closed = True
            ends = [self._listening, *self._ends]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _begin(self, run: Callable[[], None]) -> None:
        thread = Thread(target=run, name="relay", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                program, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                with self._lock:
                    if self._closed:
                        program.close()
                        server.close()
                        return
                    self._ends += [program, server]
                try:
                    server.connect(self._server)
                except OSError:  # the program is told, as its connection ends
                    program.close()
                    server.close()
                    continue
                self._begin(lambda pair=(program, server): self._forth(*pair))  # type: ignore[misc]
                self._begin(lambda pair=(server, program): self._back(*pair))  # type: ignore[misc]

    def _forth(self, program: socket.socket, server: socket.socket) -> None:
        """Packets from the program to the server, each once it is known."""
        try:
            while header := _exactly(program, _HEADER):
                content = _exactly(program, int.from_bytes(header[:3], "little"))
                if header[3] == 1 and _asks_for_tls(content):
                    self._fail(ConnectionError("it asked for TLS, which would hide what it asks of the server"))
                    return
                if header[3] == 0 and content[:1] == bytes([_QUERY]) and not self._may(content[1:]):
                    return
                server.sendall(header + content)
        except OSError:
            pass
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _may(self, statement: bytes) -> bool:
        """Whether a statement may be carried out, once all is done that is to be done before it."""
        try:
            self._asked(statement.removeprefix(_NO_ATTRIBUTES).decode("utf-8", "replace"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told where the program is waited for
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or error
        self._break()

    @staticmethod
    def _back(server: socket.socket, program: socket.socket) -> None:
        with suppress(OSError):
            while part := server.recv(_PART):
                program.sendall(part)
        with suppress(OSError):
            program.shutdown(socket.SHUT_WR)


@contextmanager
def relayed(server: str, asked: Callable[[str], None]) -> Iterator[Relay]:
    """A relay in a folder that is closed to others, gone in the end; a socket's path may have 107 bytes and no more.

    Whoever could enter it might be taken for us: a server asks the operating system who is at the other end.
    """
    sweep(_FOLDER)
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}.{os.getpid()}."))
    try:
        relay = Relay(folder / "s", server, asked)
        try:
            yield relay
        finally:
            relay.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _asks_for_tls(content: bytes) -> bool:
    return len(content) == _ASKING_FOR_TLS and bool(int.from_bytes(content[:2], "little") & _TLS)


def _exactly(end: socket.socket, count: int) -> bytes:
    """So many bytes; none when the connection ended before."""
    taken = b""
    while len(taken) < count:
        part = end.recv(count - len(taken))
        if not part:
            return b""
        taken += part
    return taken
