"""The verification ledger: what was read when, in few bytes."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

from cto_backups.catalog import migrating
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.model import Step
from cto_backups.core.verification import Ledger, Readings
from cto_backups.evidence.payloads import step_to_payload

WHOLE = datetime(2026, 3, 18, 12, tzinfo=UTC)
NOON = WHOLE + timedelta(microseconds=123456)


def pack(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_nothing_is_known_of_a_vault_that_was_never_read(catalog):
    assert catalog.ledger("near") == Ledger()


def test_readings_are_noted_to_the_second_and_never_later_than_they_were(catalog):
    packs = {pack(number) for number in range(3)}
    catalog.note_readings("near", Readings(NOON, packs, intact={pack(0)}, damaged={pack(1)}))
    known = catalog.ledger("near")
    assert known == Ledger({pack(0): WHOLE, pack(1): None, pack(2): None}, {pack(1)})
    assert catalog.ledger("far") == Ledger()


def test_the_stored_ledger_is_what_the_readings_make_of_it(catalog):
    packs = {pack(number) for number in range(5)}
    expected = Ledger()
    for day, present, intact, damaged in (
        (1, packs, {pack(0), pack(1)}, {pack(2)}),
        (2, packs, {pack(3)}, {pack(2), pack(1)}),
        (3, packs - {pack(0)}, {pack(2)}, set()),
        (4, packs | {pack(7)}, set(), set()),
    ):
        readings = Readings(WHOLE + timedelta(days=day), present, intact, damaged)
        expected = readings.after(expected)
        catalog.note_readings("near", readings)
        assert catalog.ledger("near") == expected, day


def test_what_another_verification_noted_meanwhile_stays(catalog):
    packs = {pack(0), pack(1), pack(2)}
    catalog.note_readings("near", Readings(NOON, packs, damaged={pack(1)}))
    catalog.note_readings("near", Readings(NOON, packs, intact={pack(2)}))
    assert catalog.ledger("near") == Ledger({pack(0): None, pack(1): None, pack(2): WHOLE}, {pack(1)})


def test_a_pack_takes_about_fifty_bytes(path, build):
    def size() -> int:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size

    packs = {(number * 0x9E3779B97F4A7C15).to_bytes(32, "little") for number in range(20_000)}
    before = size()
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        catalog.note_readings("near", Readings(NOON, packs, intact=packs))
    assert (size() - before) / len(packs) < 60


def test_a_catalog_of_the_first_version_keeps_what_it_knows_of_readings(path, build):
    """Until then a verification that read anything read everything."""
    path.unlink()
    migrations = migrating.MIGRATIONS / "versions"
    first: dict[str, object] = {}
    exec((migrations / "0001_first.py").read_text(), first)
    with closing(sqlite3.connect(path)) as old, old:
        for statement in first["STATEMENTS"]:
            old.execute(statement)
        old.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        old.execute("INSERT INTO alembic_version VALUES ('0001')")
        for id, kind, passed, step in (
            ("v1", "verify", 1, "read"),
            ("v2", "verify", 0, "read"),
            ("v3", "verify", 0, "check_structure"),
            ("t1", "restore_test", 1, "select_backup"),
        ):
            began, ended = "2026-03-01T10:00:00.000000Z", "2026-03-01T11:00:00.000000Z"
            steps = [step_to_payload(Step(step, NOON, 1.0, passed=bool(passed)))]
            row = (id, kind, None, None, "near", began, ended, passed, 3, json.dumps(steps), "")
            old.execute(f"INSERT INTO evidence VALUES ({', '.join('?' * len(row))})", row)
    with Catalog.open(f"sqlite:{path}", now=build.now) as catalog:
        known = {each.id: each.read_since for each in catalog.evidence()}
        assert catalog.check() == ()
    assert known == {"v1": datetime(2026, 3, 1, 10, tzinfo=UTC), "v2": None, "v3": None, "t1": None}
