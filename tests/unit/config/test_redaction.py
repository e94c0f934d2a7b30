"""What is or looks like a secret does not reach logs; what only resembles one does."""

import pytest
import structlog

from cto_backups.config.redaction import HIDDEN, has_credentials, is_sensitive, redact, redact_processor, remember
from cto_backups.config.secrets import Secret


def test_a_value_that_was_resolved_is_hidden_wherever_it_occurs_in_any_form() -> None:
    Secret("p@ss word/with+signs")
    for text in ("p@ss word/with+signs", "x=p%40ss%20word%2Fwith%2Bsigns&", "p%40ss+word%2Fwith%2Bsigns"):
        hidden = redact(f"before {text} after")
        assert HIDDEN in hidden
        assert "word" not in hidden
        assert hidden.startswith("before ")


def test_a_short_value_does_not_blank_innocent_text() -> None:
    remember("abc")
    assert redact("abc is the alphabet") == "abc is the alphabet"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://me:hunter2@example.com/a.git", f"https://me:{HIDDEN}@example.com/a.git"),
        ("s3://key:se/cret@host", "s3://key:se/cret@host"),
        ("https://ghp_012345678901234567890123456789@github.com/a", f"https://{HIDDEN}@github.com/a"),
        ("ssh://git@example.com/a.git", "ssh://git@example.com/a.git"),
        ("password=hunter2 next", f"password={HIDDEN} next"),
        ('{"api_key": "hunter2", "n": 1}', f'{{"api_key": {HIDDEN}, "n": 1}}'),
        ("aws_secret_access_key: hunter2", f"aws_secret_access_key: {HIDDEN}"),
        ("Authorization: Bearer abcdefghij", f"Authorization: Bearer {HIDDEN}"),
        ("password: file:keys/db", "password: file:keys/db"),
        ("RESTIC_PASSWORD_FILE=/srv/keys/repository.key", "RESTIC_PASSWORD_FILE=/srv/keys/repository.key"),
        ("the key file keys/repository.key", "the key file keys/repository.key"),
        ("3 tokens were counted", "3 tokens were counted"),
    ],
)
def test_credentials_in_text_are_hidden_and_the_rest_stays(text: str, hidden: str) -> None:
    assert redact(text) == hidden


@pytest.mark.parametrize(
    "text",
    ["x" * 200_000, "a." * 100_000, 'password="' * 20_000, "token" * 40_000, "://" * 60_000, "secret   " * 20_000],
)
def test_long_text_costs_time_in_proportion(text: str) -> None:
    """A quadratic pattern would run into the time limit of the test."""
    redact(text)


def test_a_long_quoted_password_is_hidden_too() -> None:
    assert "x" not in redact(f'password="{"x" * 5000}"')


def test_hiding_twice_is_hiding_once() -> None:
    once = redact("https://me:hunter2@h/a password=hunter2 token: 'hunter2'")
    assert redact(once) == once


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "passphrase", "client_secret", "token", "access_token", "api-key", "Authorization"],
)
def test_names_that_sound_like_secrets_are_known(name: str) -> None:
    assert is_sensitive(name)


@pytest.mark.parametrize("name", ["key", "source", "vault", "tokens_counted", "path", "repository"])
def test_ordinary_names_are_not(name: str) -> None:
    assert not is_sensitive(name)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://me:pw@h/a", True),
        ("https://h/a?access_token=abc", True),
        ("ssh://git@h/a", False),
        ("git@h:a.git", False),
        ("https://me@h/a", False),
        ("/srv/a@b:c", False),
    ],
)
def test_credentials_in_urls_are_recognised(url: str, found: bool) -> None:
    assert has_credentials(url) is found


def test_the_log_processor_masks_every_field_and_keeps_what_is_harmless() -> None:
    remember("top-secret-value")

    class Odd:
        def __repr__(self) -> str:
            return "Odd(top-secret-value)"

    event = redact_processor(
        None,
        "info",
        {
            "event": "opened https://me:hunter2@h/a",
            "password": "hunter2",
            "nested": {"api_key": "hunter2", "list": ["top-secret-value", 3, ("token=hunter2",)]},
            "odd": Odd(),
            "error": ValueError("top-secret-value"),
            "bytes": b"top-secret-value",
            "key": "data/ab/ab12",
            "count": 7,
            "secret": Secret("another-secret"),
        },
    )
    assert "hunter2" not in repr(event)
    assert "top-secret" not in repr(event)
    assert "another-secret" not in repr(event)
    assert (event["key"], event["count"]) == ("data/ab/ab12", 7)
    assert event["password"] == HIDDEN


def test_a_logged_exception_does_not_carry_the_secret() -> None:
    secret = Secret("the-secret-in-an-exception")
    written: list[str] = []

    def write(_logger: object, _method: str, event: object) -> str:
        written.append(repr(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(
        None, processors=[structlog.processors.format_exc_info, redact_processor, write], wrapper_class=None
    )
    try:
        raise RuntimeError(f"refused {secret.reveal()}")
    except RuntimeError:
        log.exception("failed")
    (line,) = written
    assert "RuntimeError" in line
    assert "the-secret-in-an-exception" not in line
