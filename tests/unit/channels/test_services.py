"""Through Apprise: a service that is a web hook of this machine, a URL that is none, and Apprise not installed."""

import json
import sys

import pytest

from cto_backups.channels.services import AppriseChannel
from cto_backups.errors import ChannelError

from .conftest import MESSAGE, Receiver


def channel(url: str) -> AppriseChannel:
    return AppriseChannel("phone", {"url": lambda: url})


def test_a_service_takes_it(receiver: Receiver) -> None:
    receiver.status = 200
    channel(receiver.url.replace("http://", "json://") + "\n").send(MESSAGE, None)
    ((_, body),) = receiver.received
    said = json.loads(body)
    assert (said["title"], said["message"].strip(), said["type"]) == (MESSAGE.title, MESSAGE.text.strip(), "failure")


def test_a_service_that_refuses_and_a_url_that_is_none(receiver: Receiver) -> None:
    receiver.status = 500
    for url in (receiver.url.replace("http://", "json://"), "nothing://secret-path", "secret-path"):
        with pytest.raises(ChannelError) as raised:
            channel(url).send(MESSAGE, None)
        assert "'phone'" in raised.value.what and "secret-path" not in f"{raised.value} {raised.value.todo}"


def test_where_apprise_is_not_installed_it_is_told_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelError, match="not installed") as raised:
        channel("json://127.0.0.1").send(MESSAGE, None)
    assert "pip install 'cto-backups[alerts]'" in raised.value.todo
