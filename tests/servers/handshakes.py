"""A server that shakes hands, in one version of TLS at most, and says no more."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from servers.certificates import Certificate


@contextmanager
def shaking_hands(shown: Certificate, highest: ssl.TLSVersion) -> Iterator[str]:
    """Its address, for a block; its certificate is of localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.shown, shown.key)
    context.maximum_version = highest
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(accepted, server_side=True) as secured:
                    secured.recv(1)
            except OSError:
                accepted.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
