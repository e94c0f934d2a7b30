"""Looking into recovery points of a real installation: every vault stands in for every other, little is read."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.fakes.vaults import ReadOnlyVault
from cto_backups.core.model import RecoveryPoint
from cto_backups.core.trees import EntryKind
from cto_backups.core.vaults import Vault
from cto_backups.errors import DamageError, NotFoundError, UsageError, VaultError
from cto_backups.flows.browse import Browser, PointContents, file_at
from cto_backups.flows.diff import Difference, Totals, diff
from cto_backups.flows.find import Findings, Wanted, find
from cto_backups.flows.protect import protect
from cto_backups.repository.index import BlobKind, load_index
from integration.conftest import build
from integration.test_flows import change, flip, packs

LARGE = random.Random(5).randbytes(20 << 20)


class CountingVault:
    """A vault that remembers which parts of packs were read."""

    def __init__(self, inner: Vault) -> None:
        self.inner = inner
        self.reads: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        if "/data/" in key:
            self.reads.append((key, offset))
        return self.inner.read(key, offset, length)


@pytest.fixture
def point(workshop: Any) -> RecoveryPoint:
    """A point of the files, with one that is larger than several parts."""
    (workshop.data / "files" / "large").write_bytes(LARGE)
    (workshop.data / "files" / "hard").hardlink_to(workshop.data / "files" / "report.txt")
    found = protect(workshop.installation, "documents").backup.point
    assert isinstance(found, RecoveryPoint)
    return found


def look(workshop: Any, point: RecoveryPoint, vault: str | None = None) -> PointContents:
    return Browser(workshop.installation, vault).point(point)


def inside(workshop: Any, name: str) -> bytes:
    return bytes(workshop.data / "files" / name)


def damage(workshop: Any, vault: str, blob: bytes) -> None:
    """Flip a bit in a data blob where this vault has it."""
    index = load_index(workshop.installation.store(vault).files)
    (place,) = index.locate(BlobKind.DATA, blob)
    (pack,) = (path for path in packs(workshop, vault) if path.name == index.pack_name(place.pack).hex())
    flip(pack, place.offset + place.length // 2)


def read(contents: PointContents, path: bytes) -> bytes:
    return b"".join(contents.content(path, file_at(contents, path)))


def test_every_file_of_a_point_is_listed_and_read(workshop: Any, point: RecoveryPoint) -> None:
    contents = look(workshop, point)
    found = {path: node for path, node in contents.walk(b"", contents.root)}
    on_disk = {bytes(path) for path in workshop.data.rglob("*") if "files" in path.parts}
    assert on_disk <= set(found)
    files = {path for path, node in found.items() if node.entry.kind is EntryKind.FILE}
    assert {path: read(contents, path) for path in files} == {path: Path(path.decode()).read_bytes() for path in files}
    assert found[inside(workshop, "hard")].entry.links == 2
    assert list(found) == sorted(found, key=lambda path: path.split(b"/")), "folders before their content, by name"
    assert contents.unused == ()


def test_the_list_begins_where_something_is(workshop: Any, point: RecoveryPoint) -> None:
    path, node = look(workshop, point).start()
    assert path == bytes(workshop.data / "files")
    assert node.entry.name == b"files"


def test_a_damaged_file_is_read_from_another_vault_and_never_wrong(workshop: Any, point: RecoveryPoint) -> None:
    """Each vault is damaged somewhere else: what goes out comes from all of them, and is right."""
    blobs = file_at(look(workshop, point), inside(workshop, "large")).content
    for number, vault in enumerate(("one", "two", "three")):
        damage(workshop, vault, blobs[number + 1])
    contents = look(workshop, point)
    assert read(contents, inside(workshop, "large")) == LARGE
    assert len(contents.unused) >= 2
    for vault in ("one", "two", "three"):
        with pytest.raises(DamageError, match="large"):
            read(look(workshop, point, vault), inside(workshop, "large"))


def test_what_no_vault_has_ends_after_the_bytes_before_it(workshop: Any, point: RecoveryPoint) -> None:
    contents = look(workshop, point)
    node = file_at(contents, inside(workshop, "large"))
    for vault in ("one", "two", "three"):
        damage(workshop, vault, node.content[2])
    given = b""
    with pytest.raises(DamageError, match="large") as caught:
        for piece in contents.content(inside(workshop, "large"), node):
            given += piece
    assert all(vault in caught.value.why for vault in ("one", "two", "three"))
    assert 0 < len(given) < len(LARGE)
    assert given == LARGE[: len(given)]


def test_folders_too_come_from_whichever_vault_has_them(workshop: Any, point: RecoveryPoint) -> None:
    whole = [path for path, _ in look(workshop, point).walk(b"", look(workshop, point).root)]
    for pack in packs(workshop, "one"):
        flip(pack)
        flip(pack, pack.stat().st_size // 2)
    shutil.rmtree(workshop.vault_root("two"))
    contents = look(workshop, point)
    assert [path for path, _ in contents.walk(b"", contents.root)] == whole
    assert contents.problems == []
    shutil.rmtree(workshop.vault_root("three"))
    with pytest.raises((DamageError, VaultError)):
        look(workshop, point).find(inside(workshop, "large"))


def test_vaults_that_can_only_be_read_are_good_enough(workshop: Any, point: RecoveryPoint) -> None:
    again = build(workshop.root, workshop.data, workshop.sources)
    again.wrap_vault = ReadOnlyVault
    assert read(look(again, point), inside(workshop, "large")) == LARGE


def test_only_files_have_content(workshop: Any, point: RecoveryPoint) -> None:
    contents = look(workshop, point)
    for name, said in (("deep", "is a folder"), ("link", "symbolic link")):
        with pytest.raises(UsageError, match=said):
            file_at(contents, inside(workshop, name))
    with pytest.raises(NotFoundError, match=r"did you mean 'report\.txt'"):
        file_at(contents, inside(workshop, "reprot.txt"))
    with pytest.raises(NotFoundError) as caught:
        file_at(contents, inside(workshop, "report.txt/below"))
    assert "no folder" in caught.value.why


def differences(workshop: Any, one: RecoveryPoint, two: RecoveryPoint, **named: Any) -> dict[str, tuple[Any, ...]]:
    top = len(str(workshop.data / "files")) + 1
    changes = diff(look(workshop, one), look(workshop, two), **named)
    return {change.path.decode()[top:]: (change.difference, *change.fields) for change in changes}


@pytest.fixture
def later(workshop: Any, point: RecoveryPoint) -> RecoveryPoint:
    """A later point: added, removed and modified files, another type, and changed metadata."""
    files = workshop.data / "files"
    change(workshop)
    (files / "new").mkdir()
    (files / "new" / "n").write_text("new")
    shutil.rmtree(files / "deep" / "er")
    (files / "deep" / "er").write_text("now a file")
    (files / "link").unlink()
    (files / "link").symlink_to("large")
    (files / "large").chmod(0o600)
    found = protect(workshop.installation, "documents").backup.point
    assert isinstance(found, RecoveryPoint)
    return found


def test_a_diff_names_what_was_added_removed_and_modified(
    workshop: Any, point: RecoveryPoint, later: RecoveryPoint
) -> None:
    expected = {
        "report.txt": (Difference.MODIFIED,),
        "hard": (Difference.MODIFIED,),
        "link": (Difference.MODIFIED,),
        "deep/er": (Difference.TYPE,),
        "deep/er/blob.bin": (Difference.REMOVED,),
        "new": (Difference.ADDED,),
        "new/n": (Difference.ADDED,),
    }
    assert differences(workshop, point, later) == expected
    swapped = {Difference.ADDED: Difference.REMOVED, Difference.REMOVED: Difference.ADDED}
    assert differences(workshop, later, point) == {path: (swapped.get(one, one),) for path, (one,) in expected.items()}
    assert differences(workshop, point, later, metadata=True)["large"] == (Difference.METADATA, "mode")
    assert set(differences(workshop, point, later, paths=[inside(workshop, "deep")])) == {"deep/er", "deep/er/blob.bin"}
    with pytest.raises(NotFoundError):
        diff(look(workshop, point), look(workshop, later), [b"/nowhere"])


def test_a_diff_counts_the_bytes_of_both_sides(workshop: Any, point: RecoveryPoint, later: RecoveryPoint) -> None:
    totals = Totals()
    for one in diff(look(workshop, point), look(workshop, later), metadata=True):
        totals.add(one)
    assert totals.bytes_before == 8000 * 2 + 256 * 9000
    assert totals.bytes_after == 14 * 2 + 3 + 10
    assert totals.counts[Difference.MODIFIED] == 3
    assert not totals.equal


def test_points_in_different_vaults_compare(workshop: Any, point: RecoveryPoint, later: RecoveryPoint) -> None:
    whole = list(diff(look(workshop, point), look(workshop, later)))
    assert list(diff(look(workshop, point, "one"), look(workshop, later, "three"))) == whole


def test_what_is_equal_is_not_read_for_a_diff(workshop: Any, point: RecoveryPoint) -> None:
    vaults: list[CountingVault] = []

    def counted(vault: Vault) -> Any:
        vaults.append(CountingVault(vault))
        return vaults[-1]

    again = build(workshop.root, workshop.data, workshop.sources)
    again.wrap_vault = counted
    assert list(diff(look(again, point), look(again, point))) == []
    assert sum(len(vault.reads) for vault in vaults) == 0
    look(again, point).start()
    assert sum(len(vault.reads) for vault in vaults) > 0, "the vaults are counted"


def test_a_folder_that_is_damaged_everywhere_is_told_and_not_called_removed(
    workshop: Any, point: RecoveryPoint, later: RecoveryPoint
) -> None:
    one, two = look(workshop, point), look(workshop, later)
    real = two.folder

    def broken(path: bytes, node: Any) -> Any:
        if path.endswith(b"/deep"):
            raise DamageError("Pack is damaged", why="a bit was flipped")
        return real(path, node)

    two.folder = broken  # type: ignore[method-assign]
    names = {change.path.rpartition(b"/")[2] for change in diff(one, two)}
    assert names == {b"report.txt", b"hard", b"link", b"new", b"n"}
    assert [problem.path for problem in two.problems] == [str(workshop.data / "files" / "deep")]


def versions(found: Findings) -> dict[str, list[tuple[int, int]]]:
    """By the last part of a path: the size of each version, and how many points hold it."""
    return {
        history.path.decode().rpartition("/")[2]: [(one.entry.size, len(one.points)) for one in history.versions]
        for history in found.histories
    }


@pytest.fixture
def points(workshop: Any) -> Iterator[list[RecoveryPoint]]:
    """Five points of the files, oldest first: report.txt changes twice, and back; other.txt comes and goes."""
    made = []
    for number, text in enumerate(("one", "three", "three", "one", "one")):
        (workshop.data / "files" / "report.txt").write_text(text)
        (workshop.data / "files" / f"always-{number}").write_text("x")
        other = workshop.data / "files" / "deep" / "other.txt"
        other.write_text("other") if number in (1, 2) else other.unlink(missing_ok=True)
        made.append(protect(workshop.installation, "documents").backup.point)
    yield made


def test_every_version_of_a_file_is_found_with_the_points_that_hold_it(
    workshop: Any, points: list[RecoveryPoint]
) -> None:
    found = find(workshop.installation, Wanted(("report.txt",)), source="documents")
    (history,) = found.histories
    assert found.searched == 5
    held = [point.id for version in history.versions for point in version.points]
    assert sorted(held) == sorted(point.id for point in points)
    assert history.versions[0].points[0].id == points[-1].id
    for version in history.versions:
        moments = [point.captured_at for point in version.points]
        assert moments == sorted(moments, reverse=True)
    other = find(workshop.installation, Wanted(("other.*",)), source="documents")
    assert {one.id for history in other.histories for version in history.versions for one in version.points} == {
        points[1].id, points[2].id
    }  # fmt: skip


def test_what_stays_is_carried_from_point_to_point_without_being_read(
    workshop: Any, points: list[RecoveryPoint]
) -> None:
    """blob.bin lies in a folder that never changed; each of the five points holds the same version of it."""
    found = find(workshop.installation, Wanted(("blob.bin", "always-0")), source="documents")
    assert versions(found) == {"blob.bin": [(256 * 9000, 5)], "always-0": [(1, 5)]}
    asked: list[bytes] = []
    real = PointContents.folder

    def counted(contents: PointContents, path: bytes, node: Any) -> Any:
        asked.append(path)
        return real(contents, path, node)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PointContents, "folder", counted)
        find(workshop.installation, Wanted(("blob.bin",)), source="documents")
    assert asked.count(inside(workshop, "deep/er")) == 1
    assert asked.count(inside(workshop, "deep")) < 10


def test_time_kind_path_and_vault_narrow_a_search(workshop: Any, points: list[RecoveryPoint]) -> None:
    search = workshop.installation
    late = find(search, Wanted(("report.txt",), since=points[3].captured_at), source="documents")
    assert late.searched == 2
    early = find(search, Wanted(("report.txt",), until=points[0].captured_at), source="documents")
    assert [len(one.points) for history in early.histories for one in history.versions] == [1]
    assert find(search, Wanted(("report.txt",), kinds=frozenset({EntryKind.FOLDER}))).histories == []
    exact = find(search, Wanted((str(workshop.data / "files" / "deep"),)))
    assert [history.path for history in exact.histories] == [inside(workshop, "deep")]
    assert find(search, Wanted(("*.bin",)), vault="three").histories[0].source == "documents"
    with pytest.raises(NotFoundError, match="no recovery point"):
        find(search, Wanted(("x",)), source="ledger")
    with pytest.raises(NotFoundError):
        find(search, Wanted(("x",)), source="app", vault="one")


def test_a_search_goes_on_where_folders_are_damaged_and_says_so(workshop: Any, points: list[RecoveryPoint]) -> None:
    for vault in ("two", "three"):
        shutil.rmtree(workshop.vault_root(vault))
    real = PointContents.folder

    def broken(contents: PointContents, path: bytes, node: Any) -> Any:
        if path.endswith(b"/deep") and contents.point.id == points[-1].id:
            raise DamageError("Pack is damaged", why="a bit was flipped")
        return real(contents, path, node)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PointContents, "folder", broken)
        found = find(workshop.installation, Wanted(("blob.bin",)), source="documents")
    assert list(found.problems) == [points[-1].id]
    assert versions(found) == {"blob.bin": [(256 * 9000, 4)]}
