"""BigQuery as an export: what is extracted goes under the manifest by copies of the store, and is loaded from there."""

import gzip
import json
import random
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cto_backups.core.payloads import Draft, SnapshotLabel
from cto_backups.core.policy import Payload
from cto_backups.exports.store import ExportStore
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.sources.bigquery.source import BigQuerySource
from cto_backups.vaults.bucket import BucketVault
from cto_backups.vaults.gcs import gcs_vault
from servers.bigquery import Dataset
from servers.bigquery_front import Front

from .test_bigquery import making, staged

FIELDS = [{"name": "id", "type": "INTEGER"}, {"name": "what", "type": "STRING"}]
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2))


@pytest.fixture
def shop(bqemulator: Front) -> Iterator[Dataset]:
    """A table whose file is larger than what goes in one part, and a small one."""
    made = Dataset.new(bqemulator)
    noise = random.Random(5)
    made.table("large", FIELDS, [{"id": n, "what": b64encode(noise.randbytes(450_000)).decode()} for n in range(10)])
    made.table("small", FIELDS, [{"id": 1, "what": "little"}])
    yield made
    made.drop()


@pytest.fixture
def vaults(bqemulator: Front) -> Iterator[tuple[BucketVault, BucketVault]]:
    store = bqemulator.store
    made = [gcs_vault(name, store.address(store.bucket(), "v")) for name in ("near", "far")]
    yield made[0], made[1]
    for vault in made:
        vault.close()


def exports(vault: BucketVault) -> ExportStore:
    vault.create()
    repository = RepositoryStore.create(
        vault, "repositories/main", "s", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    return ExportStore(repository, vault, "exports/main")


def backed_up(
    source: BigQuerySource, into: ExportStore, parent: str | None = None, payload: Payload = Payload.EXPORT
) -> tuple[Draft, str, Any]:
    with source.capture() as capture, into.writing() as writing:
        draft = writing.write(capture.tree, parent=parent, payload=payload)
        label = SnapshotLabel(capture.captured_at, "h", "u", capture.paths, ())
        return draft, writing.commit(draft, label), capture.fingerprint()


def uris(vault: BucketVault, table: str) -> list[str]:
    """The files of a table as whoever has the newest manifest finds them."""
    keys = [file.key for file in vault.list("exports/main/manifests")]
    manifests = [[json.loads(line) for line in gzip.decompress(vault.read(key)).splitlines()] for key in keys]
    head, *lines = max(manifests, key=lambda manifest: manifest[0]["time"])
    below = f"gs://{vault.address.bucket}/{vault.address.prefix}/{head['objects_below']}/"
    found = [line for line in lines if f"/tables/{table}/data/" in line["path"] and line["kind"] == "file"]
    return [below + line["object"] for line in found]


def test_files_go_under_the_manifest_by_the_store_and_load_from_there(
    bqemulator: Front, shop: Dataset, vaults: tuple[BucketVault, BucketVault], tmp_path: Path
) -> None:
    bucket = bqemulator.store.bucket()
    source = making(bqemulator, bucket, shop, tmp_path)()
    near, far = vaults
    origin, other = exports(near), exports(far)
    draft, reference, expected = backed_up(source, origin)
    assert draft.ways is not None
    assert (draft.ways.copied, draft.ways.passed, draft.ways.reasons) == (1, 0, ())
    assert draft.ways.copied_bytes > 5_000_000
    assert staged(bqemulator, bucket) == [], "what was on the way is gone"
    assert origin.verify().damages == ()

    with other.writing() as writing:
        copied = writing.copy(origin, reference)
    assert copied.ways is not None
    assert copied.ways.copied == 1
    assert other.verify().damages == ()
    assert not other.reader(copied.reference).restore(tmp_path / "back").problems
    assert source.probe(tmp_path / "back", expected) == expected

    with source._place.opened() as (bigquery, _):
        for vault in vaults:
            name = f"again_{vault.name}"
            shop.table(name, FIELDS)
            load = {
                "sourceUris": uris(vault, "large"),
                "destinationTable": bigquery.reference(shop.name, name),
                "sourceFormat": "AVRO",
                "useAvroLogicalTypes": True,
            }
            bigquery.job({"load": load}, f"load_{shop.name}_{name}", "")
            assert shop.rows(name) == shop.rows("large")


def test_a_partition_that_did_not_change_is_not_extracted_nor_copied_again(
    bqemulator: Front, shop: Dataset, vaults: tuple[BucketVault, BucketVault], tmp_path: Path
) -> None:
    source = making(bqemulator, bqemulator.store.bucket(), shop, tmp_path)()
    into = exports(vaults[0])
    _, reference, _ = backed_up(source, into)
    shop.insert("small", {"id": 2, "what": "more"})
    draft, _, expected = backed_up(source, into, reference)
    assert draft.ways is not None
    assert draft.ways.copied == 0
    assert len(uris(vaults[0], "large")) == 1, "its manifest refers to the object that the first point stored"
    (_, newest) = into.committed()
    assert not into.reader(newest.reference).restore(tmp_path / "back").problems
    assert source.probe(tmp_path / "back", expected) == expected
