"""A source whose points are exports, from the first backup to the last object that a prune deletes; three vaults, two
of which hold the files as they are, and one sealed.
"""

import gzip
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.core.policy import Payload
from cto_backups.core.verification import Part
from cto_backups.exports import manifest
from cto_backups.flows import expire as expiring
from cto_backups.flows import repair as repairing
from cto_backups.flows.browse import Browser
from cto_backups.flows.copy import copy
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import prune
from cto_backups.flows.rebuild import rebuild
from cto_backups.flows.repair import repair
from cto_backups.flows.restore import restore
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify

from .conftest import Workshop, build

PLAIN = ("one", "two")
LARGE = random.Random(1).randbytes((9 << 20) + 77)


def sources(data: Path) -> dict[str, tuple[str, dict[str, object]]]:
    return {"tables": ("files", {"paths": (str(data),), "include": (), "exclude": (), "one_file_system": False})}


@pytest.fixture
def exporting(tmp_path: Path) -> Iterator[Workshop]:
    data = tmp_path / "data"
    (data / "ledger").mkdir(parents=True)
    (data / "ledger" / "part-0.avro").write_bytes(LARGE)
    (data / "ledger" / "part-1.avro").write_bytes(b"Obj\x01" + b"rows" * 500)
    (data / "customers.avro").write_bytes(b"Obj\x01" + b"names" * 900)
    (data / "copy.avro").write_bytes(b"Obj\x01" + b"names" * 900)
    made = build(tmp_path / "home", data, sources(data), payload=Payload.EXPORT, plain=PLAIN)
    yield made
    made.catalog.close()


def objects(workshop: Workshop, vault: str) -> dict[str, bytes]:
    place = workshop.vault_root(vault) / "exports/main/data/objects"
    return {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def manifests(workshop: Workshop, vault: str) -> list[list[dict[str, Any]]]:
    place = workshop.vault_root(vault) / "exports/main/manifests"
    found = sorted(place.iterdir()) if place.is_dir() else []
    return [[json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()] for path in found]


def without_catalog(workshop: Workshop) -> Workshop:
    workshop.catalog.close()
    for file in workshop.root.glob("catalog.db*"):
        file.unlink()
    Catalog.create(f"sqlite:{workshop.root / 'catalog.db'}", now=clock.now()).close()
    return build(workshop.root, workshop.data, workshop.sources, payload=Payload.EXPORT, plain=PLAIN)


def test_each_file_lies_as_it_is_under_a_manifest_that_leads_to_it(exporting: Workshop) -> None:
    protect(exporting.installation, "tables")
    expected = {path: path.read_bytes() for path in exporting.data.rglob("*") if path.is_file()}
    for vault in PLAIN:
        stored = objects(exporting, vault)
        assert sorted(stored.values()) == sorted(set(expected.values())), "each content once, and nothing else"
        (lines,) = manifests(exporting, vault)
        told = {line["path"]: line for line in lines[1:] if line["kind"] == "file"}
        assert set(told) == {str(path) for path in expected}
        for path, content in expected.items():
            line = told[str(path)]
            below = exporting.vault_root(vault) / lines[0]["objects_below"]
            assert (below / line["object"]).read_bytes() == content
            assert (line["sha256"], line["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    sealed = exporting.vault_root("three")
    assert not (sealed / "exports").exists()
    assert not any(b"Obj\x01" in path.read_bytes() for path in sealed.rglob("*") if path.is_file())
    roots = {exporting.installation.store(vault).committed()[0].root for vault in ("one", "two", "three")}
    assert len(roots) == 1, "the same point in every vault, however it lies there"


def test_what_has_not_changed_is_not_stored_again(exporting: Workshop) -> None:
    protect(exporting.installation, "tables")
    before = objects(exporting, "one")
    (exporting.data / "ledger" / "part-2.avro").write_bytes(b"Obj\x01new")
    done = protect(exporting.installation, "tables")
    assert objects(exporting, "one").keys() - before.keys() == {hashlib.sha256(b"Obj\x01new").hexdigest()}
    copies = {facts.copy.vault: facts.copy for facts in exporting.catalog.copies(done.backup.point.id)}
    assert set(copies) == {"one", "two", "three"}
    assert copies["two"].added_bytes < 5000


def test_it_is_verified_by_parts_restored_from_each_vault_and_proven(exporting: Workshop, tmp_path: Path) -> None:
    point = protect(exporting.installation, "tables").backup.point
    for vault in ("one", "two", "three"):
        assert verify(exporting.installation, vault).passed
        parts = [verify(exporting.installation, vault, part=Part(size_bytes=1 << 20)) for _ in range(2)]
        assert all(part.passed and part.evidence.read_since for part in parts)
        restored = restore(exporting.installation, point, tmp_path / vault, vault=vault)
        assert not restored.restored.problems
        inside = tmp_path / vault / str(exporting.data).lstrip("/")
        assert (inside / "ledger/part-0.avro").read_bytes() == LARGE
        assert restore_test(exporting.installation, "tables", vault=vault).passed
    contents = Browser(exporting.installation, "one").point(point)
    node = contents.find(str(exporting.data / "ledger/part-0.avro").encode())
    assert b"".join(contents.content(b"", node)) == LARGE


def test_a_flipped_bit_is_found_and_put_right_in_its_place(exporting: Workshop) -> None:
    protect(exporting.installation, "tables")
    large = next(path for path in (exporting.vault_root("one") / "exports").rglob("*") if path.stat().st_size > 9 << 20)
    small = next(
        (exporting.vault_root("one") / "exports/main/data/objects").rglob(
            hashlib.sha256(b"Obj\x01" + b"rows" * 500).hexdigest()
        )
    )
    manifest = next((exporting.vault_root("one") / "exports/main/manifests").iterdir())
    content = bytearray(LARGE)
    content[5 << 20] ^= 4
    large.write_bytes(content)
    small.unlink()
    found = verify(exporting.installation, "one")
    assert not found.passed
    assert len(found.verified.damages) == 2
    assert repair(exporting.installation, "one").passed
    assert large.read_bytes() == LARGE
    assert small.is_file()
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert any("manifest" in damage.what for damage in verify(exporting.installation, "one").verified.damages)


@pytest.mark.parametrize("harm", ["cut", "gone", "otherwise"])
def test_a_damaged_manifest_is_made_again_or_its_point_is_brought_again(
    exporting: Workshop, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(exporting.installation, "tables")
    (file,) = (exporting.vault_root("one") / "exports/main/manifests").iterdir()
    whole, before = file.read_bytes(), manifests(exporting, "one")
    (held,) = exporting.catalog.copies_in("one")
    file.unlink() if harm == "gone" else file.write_bytes(whole[:-1])
    if harm == "otherwise":  # as with another gzip than the one that made it
        monkeypatch.setattr(manifest, "_LEVEL", 1)
    seen = repairing.plan(exporting.installation, "one")
    assert [damage.what for damage in seen.repaired.damages] == [f"manifest of {held.reference[:12]} is damaged"]
    done = repair(exporting.installation, "one")
    assert done.passed, done.left
    assert bool(done.copies) is (harm == "otherwise")
    ((first, *_),) = manifests(exporting, "one")
    assert first == before[0][0]
    (now,) = exporting.catalog.copies_in("one")
    assert (now.reference == held.reference) is (harm != "otherwise")
    if harm != "otherwise":
        assert file.read_bytes() == whole
    assert repair(exporting.installation, "one").clean


def test_a_damaged_manifest_comes_back_with_no_other_vault(
    exporting: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(exporting.installation, "tables")
    (file,) = (exporting.vault_root("one") / "exports/main/manifests").iterdir()
    file.write_bytes(b"nothing")
    shutil.rmtree(exporting.vault_root("two"))
    monkeypatch.setattr(manifest, "_LEVEL", 1)
    assert repair(exporting.installation, "one").passed
    assert verify(exporting.installation, "one").passed


def test_what_expires_goes_object_by_object_once_no_point_needs_it(
    exporting: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(exporting.installation, "tables")
    (exporting.data / "customers.avro").write_bytes(b"Obj\x01" + b"other" * 900)
    (exporting.data / "ledger" / "part-0.avro").write_bytes(LARGE[:-5] + b"other")
    for number in range(3):
        (exporting.data / "number").write_text(str(number))
        protect(exporting.installation, "tables")
    restore_test(exporting.installation, "tables")
    assert expiring.expire(exporting.installation, expiring.plan(exporting.installation, "tables")).plan.removed
    before = objects(exporting, "one")
    assert prune(exporting.installation, "one").pruned.done
    assert objects(exporting, "one") == before, "first they are listed no longer"
    later = clock.now() + timedelta(days=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert prune(exporting.installation, "one").pruned.plan.deleted_bytes > len(LARGE)
    left = objects(exporting, "one")
    assert LARGE not in left.values() and LARGE[:-5] + b"other" in left.values()
    assert b"Obj\x01" + b"names" * 900 in left.values(), "copy.avro has that content still"
    assert len(manifests(exporting, "one")) == len(exporting.catalog.copies_in("one"))
    assert verify(exporting.installation, "one").passed
    assert prune(exporting.installation, "two").pruned.done
    assert verify(exporting.installation, "two").passed


@pytest.mark.parametrize("alone", ["one", "three"])
def test_from_one_vault_alone_everything_comes_back_and_goes_to_the_others(
    exporting: Workshop, alone: str, tmp_path: Path
) -> None:
    """Of plain objects, and out of the sealed copy."""
    point = protect(exporting.installation, "tables").backup.point
    again = without_catalog(exporting)
    others = [vault for vault in ("one", "two", "three") if vault != alone]
    for vault in others:
        for name in ("exports", "repositories/main/data", "repositories/main/index", "repositories/main/snapshots"):
            for path in (again.vault_root(vault) / name).rglob("*"):
                if path.is_file():
                    path.unlink()
    rebuild(again.installation, (alone,), trusted=frozenset(), retentions_in=lambda _: {})
    assert again.catalog.point(point.id).root == point.root
    for vault in others:
        copy(again.installation, point, vault)
        assert restore_test(again.installation, "tables", vault=vault).passed
        assert (LARGE in objects(again, vault).values()) is (vault in PLAIN)
    again.catalog.close()


def test_python_alone_restores_from_a_manifest_as_the_page_says(exporting: Workshop, tmp_path: Path) -> None:
    (exporting.data / "empty").touch()
    (exporting.data / "link").symlink_to("customers.avro")
    protect(exporting.installation, "tables")
    text = (Path(__file__).parents[2] / "docs/how-to/restore-without-us.md").read_text()
    script = tmp_path / "from-manifest.py"
    script.write_text(text.partition("```python\n")[2].partition("```")[0])
    root = exporting.vault_root("two")
    (manifest,) = (root / "exports/main/manifests").iterdir()
    run = [sys.executable, "-I", str(script), str(root), str(manifest), str(tmp_path / "back")]
    subprocess.run(run, check=True, capture_output=True)
    back = tmp_path / "back" / str(exporting.data).lstrip("/")
    for path in exporting.data.rglob("*"):
        if path.is_file():
            assert (back / path.relative_to(exporting.data)).read_bytes() == path.read_bytes()
    assert (back / "link").readlink() == Path("customers.avro")
    small = next(path for path in (root / "exports/main/data/objects").rglob("*") if path.stat().st_size == 4504)
    small.write_bytes(bytes(4504))
    again = subprocess.run([*run[:-1], str(tmp_path / "again")], check=False, capture_output=True, text=True)
    assert again.returncode and "not what the manifest says" in again.stderr
