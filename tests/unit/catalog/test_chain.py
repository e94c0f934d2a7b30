"""Signed records in the catalog: one gapless chain a signer, whoever writes at once."""

import subprocess
import sys

import pytest

from cto_backups.catalog import chain
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.errors import DamageError
from cto_backups.evidence.payloads import copy_to_payload, point_to_payload
from cto_backups.evidence.records import SigningKey, verify_chain

KEY = SigningKey.generate()


def test_records_form_an_intact_chain_for_each_signer(catalog, build, monkeypatch):
    monkeypatch.setattr(chain, "AT_ONCE", 10)
    other = SigningKey.generate()
    for number in range(20):
        catalog.append_record(KEY, "run", {"number": number}, build.now)
    catalog.append_record(other, "run", {}, build.now)
    records = list(catalog.records_after(KEY.signer, 0))
    assert len(records) == 20
    assert verify_chain(records).intact
    assert verify_chain(catalog.records_after(other.signer, 0)).records == 1
    assert [record.sequence for record in catalog.records_after(KEY.signer, 18)] == [19, 20]
    assert list(catalog.records_after("nobody", 0)) == []


WRITER = """
import sys
from datetime import datetime, UTC
from cto_backups.catalog.catalog import Catalog
from cto_backups.evidence.records import SigningKey
key = SigningKey.load(sys.argv[2])
now = datetime(2026, 1, 1, tzinfo=UTC)
with Catalog.open(sys.argv[1], now=now) as catalog:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(15):
        catalog.append_record(key, "run", {"writer": sys.argv[3], "number": number}, now)
"""


def test_processes_that_write_at_once_share_one_chain(catalog, url):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, KEY.secret(), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=120)
        assert writer.returncode == 0
    records = list(catalog.records_after(KEY.signer, 0))
    assert len(records) == 45
    assert verify_chain(records).intact
    turns = [record.payload["writer"] for record in records]
    assert all(turns.count(str(number)) == 15 for number in range(3))


def test_a_record_damaged_in_the_catalog_is_named(catalog, build):
    catalog.append_record(KEY, "run", {}, build.now)
    with catalog._writing() as connection:
        connection.execute("UPDATE records SET content = substr(content, 2)")
    with pytest.raises(DamageError, match="Record 1 in the catalog"):
        list(catalog.records_after(KEY.signer, 0))


def test_a_vaults_head_goes_forward_only(catalog):
    assert catalog.vault_head("near", KEY.signer) == 0
    for sequence, head in ((3, 3), (2, 3), (9, 9)):
        catalog.advance_vault_head("near", KEY.signer, sequence)
        assert catalog.vault_head("near", KEY.signer) == head
    assert catalog.vault_head("far", KEY.signer) == 0


def test_a_point_signed_as_safe_by_a_backup_that_broke_off_is_found(catalog, build):
    """Killed between the signed record and the catalog's row: nothing that is safe gets lost."""
    shown, lost = build.point("p1"), build.point("p2")
    for point, outcome in ((shown, Outcome.SUCCEEDED), (lost, Outcome.INTERRUPTED)):
        build.run(catalog, ActionKind.BACKUP, outcome, point=point.id)
        catalog.append_record(KEY, "recovery-point", point_to_payload(point), build.now)
        catalog.append_record(KEY, "copy", copy_to_payload(build.copy(point.id)), build.now)
    catalog.add_point_with_copy(shown, build.copy("p1"))
    assert catalog.unshown_points(KEY.signer) == ((lost, build.copy("p2")),)
    assert catalog.unshown_points("nobody") == ()
    catalog.add_point_with_copy(lost, build.copy("p2"))
    assert catalog.unshown_points(KEY.signer) == ()
