"""Where transactions end in a binary log, by its events alone."""

import struct

import pytest

from cto_backups.sources.mysql.binlog import Event, Groups

HEADER = struct.Struct("<IBIIIH")
GTID, QUERY, XID, ROWS, COMPRESSED, PREPARE, FORMAT = 162, 2, 16, 23, 165, 38, 15


def event(kind: int, body: bytes = b"", *, at: int = 400) -> Event:
    size = HEADER.size + len(body) + 4
    return Event("binlog.000001", at, HEADER.pack(1, kind, 7, size, at + size, 0) + body + b"CRC!")


def begun(*, standalone: bool) -> Event:
    return event(GTID, struct.pack("<QIB", 1, 0, 1 if standalone else 12))


def statement(words: bytes) -> Event:
    return event(QUERY, struct.pack("<IIBHH", 1, 0, 3, 0, 5) + b"\x00" * 5 + b"zoo\x00" + words)


@pytest.mark.parametrize(
    ("events", "is_open"),
    [
        ([], False),
        ([begun(standalone=False)], True),
        ([begun(standalone=False), event(ROWS), event(XID)], False),
        ([begun(standalone=False), event(ROWS), statement(b"COMMIT")], False),
        ([begun(standalone=False), event(ROWS), statement(b"ROLLBACK")], False),
        ([begun(standalone=False), statement(b"SAVEPOINT a"), statement(b"ROLLBACK TO a")], True),
        ([begun(standalone=False), statement(b"CREATE TABLE t (n int)"), event(ROWS)], True),
        ([begun(standalone=False), event(COMPRESSED, b"\x00" * 20)], True),
        ([begun(standalone=False), event(PREPARE)], False),
        ([begun(standalone=True)], True),
        ([begun(standalone=True), statement(b"DROP TABLE t")], False),
        ([begun(standalone=True), event(COMPRESSED, b"\x00" * 20)], False),
        ([begun(standalone=False), event(ROWS), event(FORMAT, at=4)], False),
    ],
)
def test_a_transaction_is_open_until_what_ends_it(events: list[Event], is_open: bool) -> None:
    groups = Groups()
    for each in events:
        groups.pass_by(each)
    assert groups.is_open is is_open
