"""Through Apprise: a service that is a web hook of this machine, a URL that is none, and Apprise not installed."""

import json
import sys
from html import unescape
from urllib.parse import unquote_plus

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


@pytest.mark.parametrize(
    "service",
    ["xml://{host}", "form://{host}", "ntfy://{host}/backups", "gotify://{host}/a-token", "mmost://{host}/{token}"],
)
def test_services_that_people_run_themselves_take_it(receiver: Receiver, service: str) -> None:
    """Each in the form of its own; what they answer to is a receiver on this machine, and not the service."""
    receiver.status = 200
    host = receiver.url.removeprefix("http://").partition("/")[0]
    channel(service.format(host=host, token="a1b2c3d4e5f6g7h8i9j0k1l2m3")).send(MESSAGE, None)
    ((_, body),) = receiver.received
    said = unescape(unquote_plus(body.decode()))
    assert "No backup of ledger for 26 h" in said


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
