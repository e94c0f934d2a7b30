"""Clients that write to a MariaDB or MySQL server all the while that something else happens to it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from servers.mariadb import Server


@dataclass
class Client:
    """What one client does again and again in a database: these statements, in one transaction if they are `together`.

    `pause` is how long it does nothing in between, in seconds; `turns`, how often it was done.
    """

    database: str
    statements: Sequence[str]
    together: bool = False
    pause: float = 0.005
    turns: int = field(default=0, init=False)

    def run(self, server: Server, stop: threading.Event) -> None:
        """Do it until told to stop."""
        with server.connect(self.database) as session, session.cursor() as cursor:
            while not stop.is_set():
                if self.together:
                    session.begin()
                for statement in self.statements:
                    cursor.execute(statement)
                if self.together:
                    session.commit()
                self.turns += 1
                time.sleep(self.pause)


@contextmanager
def writing(server: Server, *clients: Client, hindered: bool = False) -> Iterator[None]:
    """While these clients write, each of which has before; and each goes on meanwhile, unless it may be `hindered`."""
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(server, stop)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        while not all(client.turns for client in clients):
            assert all(thread.is_alive() for thread in threads)
            time.sleep(0.01)
        before = [client.turns for client in clients]
        yield
        went_on = [client.turns > earlier for client, earlier in zip(clients, before, strict=True)]
        assert hindered or all(went_on), "nobody stands still for it"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
