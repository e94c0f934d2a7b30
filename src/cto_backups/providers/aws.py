"""The client of a store that speaks S3: how it logs in, what it tries again, and over how many connections."""

import gzip
import hashlib
import os
from collections.abc import MutableMapping
from functools import cache
from typing import Any

import botocore.loaders
import botocore.session
import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session

from cto_backups.core.policy import Tls
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import BackupsError
from cto_backups.providers import aws_retries, handshake

_ATTEMPTS = 6
_CONNECTIONS = 32  # more than any crew of ours has threads; one that waits for none makes none
_CONNECT_SECONDS = 15.0
_SMALL_BYTES = 64 << 10
_ANSWER_SECONDS = 60.0  # without a single byte
_SERVICES = ("iam", "s3", "sqs", "sso", "sso-oidc", "sts")  # ours, and where a login may come from


def s3_client(whose: str, fail: type[BackupsError], address: StoreAddress) -> Any:
    """A client for the store, which may be shared by threads, after a proof of the version of TLS it speaks.

    Requests that fail are tried again with pauses that grow and jitter, until a budget is used up ("standard" in
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html, and `aws_retries`). `whose` it is, as
    in "vault cloud", is told where less TLS is spoken than the address asks for: `fail` is raised then. Raises
    KeyProblemError, and botocore's errors.
    """
    login, ours, certificates = _session(address)
    # By boto3's engine: all that it has besides for S3 are transfers of files, which take long to load.
    client = ours.create_client(
        "s3",
        region_name=address.region or None,
        endpoint_url=address.endpoint,
        use_ssl=address.tls is not Tls.NONE,
        verify=certificates,
        config=_config(
            max_pool_connections=_CONNECTIONS,
            tcp_keepalive=True,
            # What the environment says of other stores must not lead away from where the policy says.
            ignore_configured_endpoint_urls=True,
            # The checksums that we send and compare are our own; stores that know no others answer as well.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if address.endpoint else "auto"},
        ),
    )
    aws_retries.register(client, login, _ATTEMPTS)
    client.meta.events.register_last("before-call.s3", _send_small_at_once)
    return _proven(client, address, whose, fail, certificates)


def _send_small_at_once(params: MutableMapping[str, Any], **_: Any) -> None:
    """Send what is small without waiting for the store to say that it may come: that takes as long as to store it."""
    if int(params["headers"].get("Content-Length", _SMALL_BYTES + 1)) <= _SMALL_BYTES:
        params["headers"].pop("Expect", None)


def sqs_client(whose: str, fail: type[BackupsError], address: StoreAddress, endpoint: str) -> Any:
    """A client for the queues at an endpoint, with the login and the TLS of the store that writes to them.

    Raises as `s3_client` does.
    """
    _, ours, certificates = _session(address)
    client = ours.create_client(
        "sqs",
        region_name=address.region or None,
        endpoint_url=endpoint,
        use_ssl=address.tls is not Tls.NONE,
        verify=certificates,
        config=_config(ignore_configured_endpoint_urls=True),
    )
    return _proven(client, address, whose, fail, certificates)


def iam_client(whose: str, fail: type[BackupsError], address: StoreAddress) -> Any:
    """A client for AWS's users, with the login of a store; where they are, AWS's own settings may say otherwise.

    Raises as `s3_client` does.
    """
    _, ours, certificates = _session(address)
    client = ours.create_client(
        "iam",
        region_name=address.region or None,
        use_ssl=address.tls is not Tls.NONE,
        verify=certificates,
        config=_config(),
    )
    return _proven(client, address, whose, fail, certificates)


def _config(**more: Any) -> Config:
    """How often and for how long any of the clients asks, and what is its own besides."""
    return Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_ANSWER_SECONDS,
        **more,
    )


def _proven(client: Any, address: StoreAddress, whose: str, fail: type[BackupsError], certificates: str | None) -> Any:
    """The client, once its server has shown the TLS that the address asks for; closed where it has not."""
    try:
        handshake.prove(client.meta.endpoint_url, address.tls, whose, fail, certificates)
    except BaseException:
        client.close()
        raise
    return client


def sent_signed(address: StoreAddress, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send one request of no API that the client knows to a store, signed with its login; status and answer.

    Raises KeyProblemError, and botocore's errors.
    """
    login, _, certificates = _session(address)
    request = AWSRequest(method, f"{address.endpoint}{path}", data=body)
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
    SigV4Auth(login.get_frozen_credentials(), "s3", address.region).add_auth(request)
    session = URLLib3Session(verify=certificates or True, timeout=_ANSWER_SECONDS)
    try:
        answer = session.send(request.prepare())
        return int(answer.status_code), bytes(answer.content)
    finally:
        session.close()


def _session(address: StoreAddress) -> tuple[aws_retries.Login, Any, str | None]:
    """The login of an address, a session that logs in with it where it finds one, and the authorities to trust."""
    ours = botocore.session.get_session()
    ours.register_component("data_loader", _loader())
    unused = [ours]  # what keys it finds, it keeps: who looks again does so in a new one
    login = aws_retries.Login(lambda: _login(address, unused.pop() if unused else botocore.session.get_session()))
    if login.found:
        ours._credentials = login
    return login, ours, authorities(ours)


class _Descriptions(botocore.loaders.JSONFileLoader):  # type: ignore[misc]
    """What describes the API: megabytes of JSON, which are read as quickly as any that we read."""

    def load_file(self, file_path: str) -> Any:
        """What a file holds, whose name lacks its ending; None where there is no such file."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            try:
                with opened(file_path + ending, "rb") as file:
                    return orjson.loads(file.read())
            except FileNotFoundError:
                continue
        return None


@cache
def _loader() -> Any:
    """What reads the descriptions: once for all clients of this process."""
    loader = botocore.loaders.create_loader()
    loader.file_loader = _Descriptions()
    # To see which services there are, it would look into four hundred folders, twice, which takes longer than the rest.
    loader.list_available_services = lambda type_name: list(_SERVICES)
    return loader


def _login(address: StoreAddress, session: Any) -> Any:
    """The keys that the policy names, as they are now, or what AWS's programs would take; None for neither."""
    logins = {setting: reveal() for setting, reveal in address.logins.items()}
    if logins:
        return Credentials(logins.get("access_key"), logins.get("secret_key"))
    return session.get_credentials()


def authorities(session: Any = None) -> str | None:
    """The file of the authorities to trust, where this machine's settings name one."""
    own = (session or botocore.session.get_session()).get_config_variable("ca_bundle")
    return str(own) if own else os.environ.get("SSL_CERT_FILE") or None
