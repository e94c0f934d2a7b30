"""How errors are shown: what, why, what next."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cto_backups.cli import errors
from cto_backups.cli.restore_test import failed
from cto_backups.core.model import Evidence, Rung
from cto_backups.errors import IncompleteError, NotFoundError, VaultMissingError

MISSING = VaultMissingError(
    "Vault 'two' is not there",
    why="the folder /mnt/vaults/two does not exist, and an unmounted disk must not be filled by accident",
    todo="Mount it, or take the vault out of the policy.",
)


def test_an_error_on_a_terminal_is_wrapped_under_its_labels() -> None:
    assert errors.as_text(MISSING, colored=False, width=60) == (
        "Error: Vault 'two' is not there\n"
        "  Why:  The folder /mnt/vaults/two does not exist, and an\n"
        "        unmounted disk must not be filled by accident\n"
        "  Next: Mount it, or take the vault out of the policy."
    )


def test_a_piped_error_keeps_each_sentence_on_one_line() -> None:
    assert errors.as_text(MISSING, colored=False, width=None).splitlines() == [
        "Error: Vault 'two' is not there",
        "  Why:  The folder /mnt/vaults/two does not exist, and an unmounted disk must not be filled by accident",
        "  Next: Mount it, or take the vault out of the policy.",
    ]


def test_without_colour_there_is_no_escape_and_with_colour_there_is() -> None:
    assert "\x1b" not in errors.as_text(MISSING, colored=False, width=80)
    assert errors.as_text(MISSING, colored=True, width=80).startswith("\x1b[1;31mError:\x1b[0m Vault")


def test_only_what_is_known_is_told() -> None:
    assert errors.as_text(NotFoundError("Nothing there"), colored=False, width=80) == "Error: Nothing there"


def test_a_reason_of_many_lines_is_shown_as_it_is() -> None:
    error = IncompleteError("2 of notes could not be captured", why="\n/a: permission (no)\n/b: vanished (gone)")
    assert errors.as_text(error, colored=False, width=40, prefix="Incomplete") == (
        "Incomplete: 2 of notes could not be\n            captured\n  /a: permission (no)\n  /b: vanished (gone)"
    )


def test_a_file_name_cannot_drive_the_terminal() -> None:
    hostile = NotFoundError("There is no \x1b]0;owned\x07\x9b31m file")
    assert "\x1b" not in errors.as_text(hostile, colored=False, width=None)
    assert "\\x1b]0;owned\\x07\\x9b31m" in errors.as_text(hostile, colored=False, width=None)


def test_the_document_of_an_error_has_four_fields() -> None:
    assert errors.as_document(MISSING) == {
        "code": "vault-missing",
        "what": "Vault 'two' is not there",
        "why": MISSING.why,
        "todo": MISSING.todo,
    }


def test_secrets_that_were_read_are_hidden_from_messages() -> None:
    from cto_backups.config.redaction import remember

    remember("correct-horse-battery")
    error = NotFoundError("It said correct-horse-battery", why="password=correct-horse-battery", todo="nothing")
    assert "correct-horse" not in errors.as_text(error, colored=False, width=None)
    assert "correct-horse" not in str(errors.as_document(error))


@pytest.mark.parametrize("debugging", [True, False])
def test_a_defect_tells_its_type_and_where_to_see_more_but_not_its_text(debugging: bool) -> None:
    shown = errors.as_text(errors.defect(ValueError("s3cret text"), debugging=debugging), colored=False, width=None)
    assert "ValueError" in shown
    assert "s3cret" not in shown
    assert ("--verbose" in shown) is not debugging


def test_an_error_of_the_system_names_the_file_and_what_is_wrong_with_it() -> None:
    """A folder of another user is no defect of the program."""
    shown = errors.as_text(
        errors.defect(PermissionError(13, "Permission denied", "/x/y"), debugging=False), colored=False, width=None
    )
    assert "/x/y: Permission denied" in shown and "defect" not in shown


@pytest.mark.parametrize(
    ("text", "shown"), [("a\udcffb", "a\\xffb"), ("a\x1bb", "a\\x1bb"), ("a\u202eb", "a\\u202eb"), ("\u00e9", "\u00e9")]
)
def test_what_a_terminal_would_obey_is_escaped_by_its_byte_or_its_code(text: str, shown: str) -> None:
    """A name that is not UTF-8 shows the bytes it has."""
    assert errors.clean(text) == shown


def test_what_to_do_about_a_failed_restore_test_depends_on_whether_there_is_a_point() -> None:
    """Nothing can be damaged where nothing was stored."""
    at = datetime(2026, 11, 29, tzinfo=UTC)
    evidence = Evidence("t", "restore_test", "ledger", None, "", at, at, False, Rung.DECLARED, ())
    assert failed(evidence).todo == "Run 'cto.backups backup ledger', and test again."
    assert "'cto.backups repair'" in failed(replace(evidence, point="ledger-1")).todo
