"""A POST reaches a real receiver, which can check who speaks; addresses, which are secrets, are never told."""

import hashlib
import hmac
import json
import socket

import pytest

from cto_backups.channels.webhook import SIGNATURE, WebhookChannel
from cto_backups.errors import ChannelError

from .conftest import MESSAGE, Receiver

KEY = "a key that both know"


def send(url: str, key: str | None = KEY) -> None:
    WebhookChannel("pager", {"url": lambda: url, "key": (lambda: key) if key else None}).send(MESSAGE, "+4912345")


def fails(url: str) -> ChannelError:
    with pytest.raises(ChannelError) as raised:
        send(url)
    assert "secret-path" not in f"{raised.value} {raised.value.todo} {raised.value.__cause__!r}"
    return raised.value


def test_what_arrives_is_signed_and_says_everything(receiver: Receiver) -> None:
    send(receiver.url + "\n")
    ((headers, body),) = receiver.received
    seconds, _, digest = headers[SIGNATURE.lower()].removeprefix("t=").partition(",v1=")
    expected = hmac.new(KEY.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert digest == expected and int(seconds) == int(MESSAGE.at.timestamp())
    said = json.loads(body)
    assert (said["event"], said["alert"], said["to"], said["urgent"]) == ("raised", "alert-1", "+4912345", True)
    assert (said["title"], said["text"]) == (MESSAGE.title, MESSAGE.text)
    assert len(headers["x-cto-backups-delivery"]) == 32


def test_without_a_key_nothing_is_signed(receiver: Receiver) -> None:
    send(receiver.url, None)
    assert SIGNATURE.lower() not in receiver.received[0][0]


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_refusal_is_one(receiver: Receiver, status: int) -> None:
    receiver.status = status
    assert fails(receiver.url).why == f"it answered {status}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_it_is_not_passed_on(receiver: Receiver, status: int) -> None:
    """Who answers for an address must not send what is told there to another."""
    receiver.status, receiver.location = status, receiver.url + "-elsewhere"
    assert fails(receiver.url).why == f"it answered {status}"
    assert len(receiver.received) == 1


def test_nobody_there_and_no_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = fails(f"http://127.0.0.1:{taken.getsockname()[1]}/secret-path")
    assert error.what.startswith("Channel 'pager' (127.0.0.1)") and error.why
    for url in ("secret-path", "ftp://x/secret-path", "http://[secret-path"):
        assert "has no address" in fails(url).what
