"""Mail reaches a real server, and what goes wrong is told in one sentence without the password."""

import socket

import pytest

from cto_backups.channels.smtp import SmtpChannel
from cto_backups.errors import ChannelError

from .conftest import MESSAGE, PASSWORD, Certificate, Mailbox


def channel(port: int, security: str = "none", *, host: str = "127.0.0.1", password: str | None = None) -> SmtpChannel:
    options = {"host": host, "port": port, "security": security, "sender": "backups@example.com", "user": None}
    if password is not None:
        options["user"] = "backups"
    return SmtpChannel("mail", {**options, "password": (lambda: password) if password is not None else None})


def fails(port: int, *arguments: str, address: str | None = "cto@example.com", **options: str) -> ChannelError:
    with pytest.raises(ChannelError) as raised:
        channel(port, *arguments, **options).send(MESSAGE, address)  # type: ignore[arg-type]
    assert PASSWORD not in f"{raised.value} {raised.value.todo} {raised.value.__cause__!r}"
    return raised.value


def test_a_mail_arrives_whole(mailbox: Mailbox) -> None:
    channel(mailbox.port).send(MESSAGE, "cto@example.com")
    (mail,) = mailbox.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == ("backups@example.com", "cto@example.com", MESSAGE.title)
    assert mail["Date"] == "Wed, 18 Mar 2026 12:00:00 +0000"
    assert mail["Importance"] == "high" and mail["Auto-Submitted"] == "auto-generated"
    assert mail["References"] == "<alert-1@cto.backups>" and mail["Message-ID"].endswith("@example.com>")
    assert mail.get_payload(decode=True).decode("utf-8").replace("\r\n", "\n") == MESSAGE.text  # type: ignore[union-attr]


def test_with_starttls_and_a_password(
    guarded: Mailbox, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    channel(guarded.port, "starttls", host="localhost", password=PASSWORD).send(MESSAGE, "cto@example.com")
    assert len(guarded.mails) == 1
    wrong = fails(guarded.port, "starttls", host="localhost", password="wrong")
    assert "did not let backups in (535)" in wrong.why
    assert "530" in fails(guarded.port, "none").why, "it wants STARTTLS first"
    assert len(guarded.mails) == 1


def test_a_certificate_of_somebody_else_is_not_trusted(guarded: Mailbox) -> None:
    """Who is in between gets neither the password nor the message."""
    assert (
        "certificate is not to be trusted" in fails(guarded.port, "starttls", host="localhost", password=PASSWORD).why
    )
    assert guarded.mails == []


def test_a_server_without_tls_never_sees_the_password(mailbox: Mailbox) -> None:
    assert "STARTTLS" in fails(mailbox.port, "starttls", password=PASSWORD).why
    assert mailbox.mails == []


def test_what_the_server_says_is_told(mailbox: Mailbox) -> None:
    refused = fails(mailbox.port, address="nobody@example.com")
    assert "refuses nobody@example.com: 550 no such user here" in refused.why
    assert "it was not told to whom" in fails(mailbox.port, address=None).why


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = fails(taken.getsockname()[1])
    assert error.what.startswith("Channel 'mail' (127.0.0.1:") and "refused" in error.why.lower()
    assert fails(25, host="no-such-host.invalid").why
