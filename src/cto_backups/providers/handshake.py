"""Proof, by a handshake, that a server speaks the version of TLS that the policy asks for.

A client and a server that both know TLS 1.3 agree on it, and nobody between them can talk them into less (RFC 8446,
4.1.3). So what one handshake shows holds for the connections that a provider's library makes by itself.
"""

import http.client
import ssl
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from cto_backups.core.policy import Tls
from cto_backups.errors import BackupsError

_VERSIONS = {Tls.V1_2: ssl.TLSVersion.TLSv1_2, Tls.V1_3: ssl.TLSVersion.TLSv1_3}
_TIMEOUT_SECONDS = 15.0


def prove(
    endpoint: str,
    lowest: Tls,
    whose: str,
    fail: type[BackupsError],
    certificates: str | None = None,
    *,
    has_setting: bool = True,
) -> str | None:
    """Shake hands with the server of an address, and return the version agreed upon; None where none is asked for.

    `certificates` is a file with the authorities to trust, else the system's are. Raises `fail` that names the setting
    that would allow less, where there is one, or says what stands in the way; `whose` names what is reached there, as
    in "vault cloud".
    """
    if lowest is Tls.NONE:
        return None
    named = f"{whose[:1].upper()}{whose[1:]}"
    begin = f"{named}: {endpoint}"
    try:
        return _version(endpoint, lowest, certificates)
    except ssl.SSLCertVerificationError as error:
        raise fail(
            f"{named}: the certificate of {endpoint} is not trusted",
            why=error.verify_message or "it cannot be verified",
            todo="If its authority is your own, name its file in SSL_CERT_FILE; else somebody may stand between this "
            "machine and the server.",
        ) from error
    except ssl.SSLError as error:
        less = _less(endpoint, lowest, certificates)
        if less is None:
            raise fail(
                f"{begin} does not agree on TLS {lowest} or newer",
                why=error.reason or str(error),
                todo="See that a server of HTTPS listens there, and that it speaks TLS 1.3.",
            ) from error
        raise fail(
            f"{begin} speaks {less.replace('v', ' ')}, and the policy asks for {lowest} or newer",
            why="nothing is sent over less than the policy asks for",
            todo=f"Let the server speak TLS {lowest}."
            + (f" To accept less, which the audit tells: 'tls: 1.2' at {whose}." if has_setting else ""),
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise fail(
            f"{begin} cannot be reached",
            why=str(error) or type(error).__name__,
            todo=f"See to the network, its names and proxies, or correct the {whose.partition(' ')[0]}'s endpoint or "
            "region in the policy.",
        ) from error


def _less(endpoint: str, lowest: Tls, certificates: str | None) -> str | None:
    if lowest is not Tls.V1_3:
        return None
    try:
        return _version(endpoint, Tls.V1_2, certificates)
    except (OSError, http.client.HTTPException):
        return None


def _version(endpoint: str, lowest: Tls, certificates: str | None) -> str:
    context = ssl.create_default_context(cafile=certificates)
    context.minimum_version = _VERSIONS[lowest]
    connection = _connection(endpoint, context)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        return connection.sock.version() or ""
    finally:
        connection.close()


def _connection(endpoint: str, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    """A connection that is not open yet, through the proxy that this machine's settings name."""
    address = urlsplit(endpoint)
    host, port = address.hostname or "", address.port or 443
    proxy = None if proxy_bypass(host) else getproxies().get("https")
    if not proxy:
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = http.client.HTTPSConnection(
        via.hostname or "", via.port or 80, timeout=_TIMEOUT_SECONDS, context=context
    )
    connection.set_tunnel(host, port, _authorization(via.username, via.password))
    return connection


def _authorization(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    import base64

    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()}
