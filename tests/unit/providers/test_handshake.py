"""What version of TLS a server speaks is proved before anything is sent to it."""

import socket
import ssl
import threading

import pytest

from cto_backups.core.policy import Tls
from cto_backups.errors import VaultError
from cto_backups.providers import handshake
from servers.certificates import Certificate, certificate
from servers.handshakes import shaking_hands


def prove(endpoint: str, lowest: Tls, vault: str, certificates: str | None = None) -> str | None:
    return handshake.prove(endpoint, lowest, f"vault {vault}", VaultError, certificates)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificates"), "localhost")


def test_a_server_that_speaks_what_is_asked_for_passes(shown: Certificate) -> None:
    with shaking_hands(shown, ssl.TLSVersion.TLSv1_3) as address:
        assert prove(address, Tls.V1_3, "cloud", str(shown.shown)) == "TLSv1.3"
        assert prove(address, Tls.V1_2, "cloud", str(shown.shown)) == "TLSv1.3", "the best that both speak"


def test_a_server_that_speaks_less_is_refused_with_the_setting_that_would_allow_it(shown: Certificate) -> None:
    with shaking_hands(shown, ssl.TLSVersion.TLSv1_2) as address:
        with pytest.raises(VaultError, match=r"speaks TLS 1\.2, and the policy asks for 1\.3") as caught:
            prove(address, Tls.V1_3, "cloud", str(shown.shown))
        assert "'tls: 1.2' at vault cloud" in caught.value.todo
        assert prove(address, Tls.V1_2, "cloud", str(shown.shown)) == "TLSv1.2"


def test_a_certificate_that_nobody_vouches_for_is_refused(shown: Certificate) -> None:
    with (
        shaking_hands(shown, ssl.TLSVersion.TLSv1_3) as address,
        pytest.raises(VaultError, match="the certificate of https://localhost"),
    ):
        prove(address, Tls.V1_3, "cloud")


def test_a_server_of_no_tls_is_told_as_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                accepted, _ = listener.accept()
                with accepted:
                    accepted.recv(100)
                    accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(VaultError, match=r"does not agree on TLS 1\.3 or newer"):
            prove(f"https://localhost:{listener.getsockname()[1]}", Tls.V1_3, "cloud")
        thread.join()


def test_a_server_that_is_not_there_is_told_as_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(VaultError, match="cannot be reached"):
        prove(f"https://localhost:{port}", Tls.V1_3, "cloud")


def test_the_handshake_goes_through_the_proxy_that_this_machine_uses(
    shown: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    with (
        shaking_hands(shown, ssl.TLSVersion.TLSv1_3) as address,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):

        def tunnel() -> None:
            accepted, _ = listener.accept()
            asked.append(accepted.recv(1000))
            onward = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
            accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

            def pump(origin: socket.socket, destination: socket.socket) -> None:
                try:
                    while content := origin.recv(10_000):
                        destination.sendall(content)
                    destination.shutdown(socket.SHUT_WR)
                except OSError:
                    pass

            back = threading.Thread(target=pump, args=(onward, accepted))
            back.start()
            pump(accepted, onward)
            back.join()
            accepted.close()
            onward.close()

        thread = threading.Thread(target=tunnel)
        thread.start()
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("https_proxy", f"http://ada:swordfish@127.0.0.1:{listener.getsockname()[1]}")
        assert prove(address, Tls.V1_3, "cloud", str(shown.shown)) == "TLSv1.3"
        thread.join()
    assert asked[0].startswith(b"CONNECT localhost:")
    assert b"Proxy-Authorization: Basic YWRhOnN3b3JkZmlzaA==" in asked[0]


def test_nothing_is_asked_where_the_policy_asks_for_nothing() -> None:
    assert prove("http://127.0.0.1:1", Tls.NONE, "cloud") is None
