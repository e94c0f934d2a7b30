"""Every service that Apprise knows: calls, pages, chats. Apprise is loaded when somebody is told through it."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from cto_backups.core.alerts import Message
from cto_backups.errors import ChannelError


class AppriseChannel:
    """Option: `url`, a function that looks up Apprise's URL of the service, which is a secret."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name = name
        self._url: Callable[[], str] = options["url"]

    def send(self, message: Message, address: str | None) -> None:
        """Hand it over. Raises ChannelError, which names the channel alone; KeyProblemError for a URL that is away."""
        url = self._url().strip()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a library warns its developers of is nothing for whoever reads this
            self._send(url, message)

    def _send(self, url: str, message: Message) -> None:
        try:
            import apprise
        except ImportError:
            raise ChannelError(
                f"Channel '{self._name}' cannot be used",
                why="it is of kind apprise, and Apprise is not installed",
                todo="Install it: pip install 'cto-backups[alerts]'.",
            ) from None
        service = apprise.Apprise()
        if not service.add(url):
            raise ChannelError(
                f"Channel '{self._name}' cannot be used",
                why="Apprise does not understand the URL that its url: gives",
                todo="Try it with the command apprise, and correct it.",
            )
        kind = apprise.NotifyType.FAILURE if message.urgent else apprise.NotifyType.WARNING
        if message.event in ("closed", "test"):
            kind = apprise.NotifyType.INFO
        if not service.notify(title=message.title, body=message.text, notify_type=kind):
            raise ChannelError(
                f"Channel '{self._name}' did not take the message",
                why="the service refused it or was not reached",
                todo="Try its URL with the command apprise and -vv, which says more.",
            )
