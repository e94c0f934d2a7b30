"""Objects of several sections, which the files of the contract are too small for: their arithmetic."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from fakes.memory import MemoryTree, MemoryVault
from payload_store_contract import store_tree, walked

from cto_backups import clock
from cto_backups.errors import DamageError
from cto_backups.exports import layout
from cto_backups.exports.layout import PART, SECTION
from cto_backups.exports.store import ExportStore
from cto_backups.repository.options import RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore

SIZE = SECTION + 5 * PART + 12_345
CONTENT = random.Random(7).randbytes(SIZE)
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2))


def new_store(name: str) -> ExportStore:
    vault = MemoryVault(name)
    repository = RepositoryStore.create(
        vault, "repositories/main", "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    return ExportStore(repository, vault, "exports/main")


def memory(store: ExportStore) -> MemoryVault:
    assert isinstance(store.vault, MemoryVault)
    return store.vault


@pytest.fixture(scope="module")
def stored() -> tuple[ExportStore, str, str]:
    store = new_store("one")
    draft, reference = store_tree(store, MemoryTree({b"large": CONTENT, b"first": CONTENT[:PART]}))
    return store, draft.root, reference


def test_it_is_one_object_and_is_read_from_any_offset(stored: tuple[ExportStore, str, str]) -> None:
    store, root, _ = stored
    (key,) = [key for key, content in memory(store).files.items() if len(content) == SIZE]
    assert memory(store).files[key] == CONTENT
    assert CONTENT[:PART] in memory(store).files.values(), (
        "a file that is the beginning of it has an object all the same"
    )
    node = walked(store, bytes.fromhex(root))[b"/large"]
    for offset in (0, PART - 1, SECTION - 1, SECTION, SECTION + PART + 3, SIZE - 1, SIZE):
        assert b"".join(store.contents().content(node.content, offset)) == CONTENT[offset:]


def test_damage_in_a_later_section_is_found_told_and_put_right(stored: tuple[ExportStore, str, str]) -> None:
    store, root, reference = stored
    other = new_store("two")
    with other.writing() as writing:
        copied = writing.copy(store, reference)
    assert copied.added_bytes > SIZE
    (key,) = [key for key, content in memory(other).files.items() if len(content) == SIZE]
    memory(other).flip(key, SECTION + PART + 1)
    node = walked(other, bytes.fromhex(root))[b"/large"]
    read = b""
    with pytest.raises(DamageError):
        for piece in other.contents().content(node.content):
            read += piece
    assert read == CONTENT[: SECTION + PART]
    (damage,) = other.verify().damages
    assert (damage.references, damage.paths) == ((copied.reference,), ("/large",))
    repaired = other.repair([store])
    assert (repaired.fetched_blobs, repaired.salvaged_blobs) == ({"one": 1}, 21)
    assert memory(other).files[key] == CONTENT
    assert other.verify().damages == ()


def test_what_goes_on_as_an_object_that_is_there_gets_one_of_its_own(stored: tuple[ExportStore, str, str]) -> None:
    """Longer, shorter at the end of a section, and equal: only that one is there already."""
    store = stored[0]
    before = set(memory(store).files)
    grown = MemoryTree({b"grown": CONTENT + b"more", b"shorter": CONTENT[:SECTION], b"same": CONTENT})
    draft, reference = store_tree(store, grown, number=1)
    assert draft.moved_entries == 1
    new = [memory(store).files[key] for key in set(memory(store).files) - before if "/objects/" in key]
    assert sorted(map(len, new)) == [SECTION, SIZE + 4]
    assert store.verify([reference]).damages == ()
    store.expire([reference])
    plan = store.prune(dry_run=True).plan
    gone = {layout.section_of(bytes.fromhex(use.name)).object for use in plan.drop if use.kind == "object"}
    assert len(gone) == 2
    assert not any(use.kind == "object" for use in plan.repack)


def test_an_object_of_which_a_late_writer_relies_on_one_section_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of its other section can be had elsewhere: that one must not go, since the object goes with it."""
    store = new_store("late")
    _, reference = store_tree(store, MemoryTree({b"large": CONTENT}))
    late = {
        key: content for key, content in memory(store).files.items() if "/snapshots/" in key or "/manifests/" in key
    }
    store.expire([reference])
    store.prune()
    store_tree(store, MemoryTree({b"beginning": CONTENT[:SECTION]}), number=1)
    memory(store).files.update(late)
    later = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    store.prune()
    assert CONTENT in memory(store).files.values()
    assert store.verify().damages == ()


@pytest.mark.parametrize("size", [1, PART, PART + 1, SECTION, SECTION + 1, 3 * SECTION, SIZE])
def test_the_sizes_of_sections_as_packs_add_up(size: int) -> None:
    names = layout.section_names("ab" * 24, size)
    sections = [layout.section_of(name) for name in names]
    assert [section.start for section in sections] == list(range(0, size, SECTION))
    assert {section.object for section in sections} == {"ab" * 24}
    assert all(map(layout.is_random, names)) and len(set(names)) == len(names)
    assert layout.may_name(bytes(32)) and not layout.may_name(names[0])
