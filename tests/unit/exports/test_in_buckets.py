"""Exports in buckets of both kinds of stores: stored there as they are, copied between them, mended, and pruned."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.memory import MemoryTree
from payload_store_contract import CONTENT, LARGE, store_tree

from cto_backups.core.vaults import Vault
from cto_backups.exports.store import ExportStore
from cto_backups.providers import pauses
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.gcs import gcs_vault
from cto_backups.vaults.s3 import s3_vault
from servers.google_stores import GoogleStore
from servers.object_stores import ObjectStore

OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2))
LARGER = {**CONTENT, b"larger": LARGE * 4}  # more than one part of an upload


def exports(vault: Vault) -> ExportStore:
    vault.create()
    repository = RepositoryStore.create(
        vault, "repositories/main", "s", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    return ExportStore(repository, vault, "exports/main")


def test_a_point_goes_from_one_to_the_other_and_mends_it(
    versitygw: ObjectStore, fake_gcs_server: GoogleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "pause", lambda *_: None)
    near = s3_vault("near", versitygw.address(versitygw.bucket(), "v"))
    far = gcs_vault("far", fake_gcs_server.address(fake_gcs_server.bucket(), "v"))
    try:
        origin, copy = exports(near), exports(far)
        draft, reference = store_tree(origin, MemoryTree(LARGER))
        with copy.writing() as writing:
            copied = writing.copy(origin, reference)
        (committed,) = copy.committed()
        assert (committed.reference, committed.root) == (copied.reference, draft.root)
        key = next(file.key for file in far.list("exports/main/data/objects") if file.size_bytes == 4 * len(LARGE))
        assert far.read(key) == 4 * LARGE
        far.delete(key)
        assert copy.verify().damages
        assert copy.repair([origin]).fetched_blobs == {"near": 6}, "the first part lies in another object as well"
        assert copy.verify().damages == ()
        assert not copy.reader(copied.reference).restore(tmp_path / "out").problems
        assert (tmp_path / "out/larger").read_bytes() == 4 * LARGE
        copy.expire([copied.reference])
        assert copy.prune().plan.freed_bytes > 5 * len(LARGE)
    finally:
        near.close()
        far.close()
