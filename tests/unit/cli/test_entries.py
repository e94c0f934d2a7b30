"""Entries as they are listed: one line each, whatever their names hold, and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cto_backups.cli import entries
from cto_backups.cli.selecting import unescaped
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.errors import DamageError, ExitStatus


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (b"new\nline\ttab", "new\\x0aline\\x09tab"),
        (b"caf\xe9", "caf\\xe9"),
        (b"bell\x07 \x1b[31m", "bell\\x07 \\x1b[31m"),
        ("\u202egnp.txt \x85".encode(), "\\u202egnp.txt \\u0085"),
        ("\U000e0001".encode(), "\\U000e0001"),
        (b"back\\slash", "back\\\\slash"),
    ],
)
def test_what_terminals_cannot_show_is_escaped(name: bytes, shown: str) -> None:
    assert entries.shown(name) == shown


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_every_name_is_shown_on_one_line_and_meant_again(name: bytes) -> None:
    shown = entries.shown(name)
    assert shown.isprintable()
    assert unescaped(shown.encode()) == name


def test_kinds_are_told_apart() -> None:
    assert entries.labelled(b"a", Entry(b"a", b"", EntryKind.FOLDER)) == "a/"
    assert entries.labelled(b"a", Entry(b"a", b"", EntryKind.SYMLINK, linktarget=b"b\n")) == "a -> b\\x0a"
    assert entries.labelled(b"a", Entry(b"a", b"", EntryKind.FIFO)) == "a"
    assert entries.kind(Entry(b"a", b"", EntryKind.CHARACTER_DEVICE)) == "character-device"


@pytest.mark.parametrize("nanoseconds", [0, -(2**63), 2**63 - 1])
def test_any_time_that_a_disk_holds_is_told(nanoseconds: int) -> None:
    entry = Entry(b"a", b"", EntryKind.FILE, mtime_ns=nanoseconds)
    assert entries.document(b"/a", entry)["modified_at"].endswith("Z")


def test_a_streamed_document_is_valid_however_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def listed(number: int, error: bool) -> Any:
        yield from ({"number": one} for one in range(number))
        if error:
            raise DamageError("Pack is damaged")

    for number, error in ((0, False), (3, False), (3, True), (0, True)):
        status = entries.stream({"point": None}, "entries", listed(number, error), lambda: {"status": 0})
        document = json.loads(capsys.readouterr().out)
        assert document["entries"] == [{"number": one} for one in range(number)]
        assert document["status"] == status == (ExitStatus.DAMAGE if error else ExitStatus.SUCCESS)
        assert ("error" in document) is error
