"""E-mail, through an SMTP server."""

import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

from cto_backups.core.alerts import Message
from cto_backups.errors import ChannelError

SECONDS = 20.0


class SmtpChannel:
    """Options: `host`, `port`, `security` (starttls, tls, none), `sender`; `user`, `password` (a function) or None."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name = name
        self._host: str = options["host"]
        self._port: int = options["port"]
        self._security: str = options["security"]
        self._sender: str = options["sender"]
        self._user: str | None = options["user"]
        self._password: Callable[[], str] | None = options["password"]

    def send(self, message: Message, address: str | None) -> None:
        """Send one mail. Raises ChannelError; KeyProblemError when the password is not there."""
        if address is None:
            raise self._failed("it was not told to whom", "Give the person's address after the channel's name.")
        password = self._password() if self._password else None
        try:
            with self._connected() as server:
                if self._user is not None and password is not None:
                    server.login(self._user, password)
                server.send_message(self._mail(message, address))
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise self._failed(f"it refuses {address}: {code} {_told(said)}", "Correct the address.") from None
        except smtplib.SMTPAuthenticationError as error:
            # What the server says may hold what was sent.
            raise self._failed(
                f"it did not let {self._user} in ({error.smtp_code})", "Correct user or password."
            ) from None
        except smtplib.SMTPResponseException as error:
            raise self._failed(f"it answered {error.smtp_code} {_told(error.smtp_error)}") from None
        except ssl.SSLCertVerificationError as error:
            why = f"its certificate is not to be trusted: {error.verify_message}"
            raise self._failed(why, "Correct the host's name, or make its certificate's issuer known here.") from None
        except smtplib.SMTPException as error:
            raise self._failed(str(error) or type(error).__name__) from None
        except (OSError, ValueError) as error:
            raise self._failed(getattr(error, "strerror", None) or str(error) or type(error).__name__) from None

    def _connected(self) -> smtplib.SMTP:
        if self._security == "tls":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=SECONDS, context=ssl.create_default_context())
        server = smtplib.SMTP(self._host, self._port, timeout=SECONDS)
        if self._security == "starttls":
            try:
                server.starttls(context=ssl.create_default_context())
            except BaseException:
                server.close()
                raise
        return server

    def _mail(self, message: Message, address: str) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._sender
        mail["To"] = address
        mail["Subject"] = message.title
        mail["Date"] = format_datetime(message.at)
        mail["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2] or "localhost")
        mail["Auto-Submitted"] = "auto-generated"
        if message.urgent:
            mail["Importance"] = "high"
        if message.alert:
            # Mails of one alert are one conversation.
            mail["References"] = f"<{message.alert}@cto.backups>"
        mail.set_content(message.text)
        return mail

    def _failed(self, why: str, todo: str = "See whether the mail server is reachable, and its log.") -> ChannelError:
        return ChannelError(
            f"Channel '{self._name}' ({self._host}:{self._port}) did not take the message", why=why, todo=todo
        )


def _told(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:200]
