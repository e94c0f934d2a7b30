"""What a watch tells of changes, and that it says where it cannot."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cto_backups.core.watched import Place, Watchable
from cto_backups.errors import SourceError
from cto_backups.sources import inotify, mounts
from cto_backups.sources.files import FilesSource
from cto_backups.sources.git.source import GitSource
from cto_backups.sources.patterns import Patterns
from cto_backups.sources.sqlite.source import SqliteSource
from cto_backups.sources.watcher import Watcher


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    made = Watcher()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    (place / "sub").mkdir(parents=True)
    (place / "file").write_text("1")
    return place


def tree(folder: Path, *exclude: str) -> Place:
    return Place(os.fsencode(folder), below=True, leaves=Patterns(exclude).match)


def changed(watcher: Watcher) -> bool:
    seen = watcher.look()
    assert not seen.lost
    return seen.changed == {"s"}


# What is done, and whether it is a change.
DEEDS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "written": (lambda folder: (folder / "file").write_text("2"), True),
    "made": (lambda folder: (folder / "sub" / "new").touch(), True),
    "removed": (lambda folder: (folder / "file").unlink(), True),
    "renamed": (lambda folder: (folder / "file").rename(folder / "other"), True),
    "mode": (lambda folder: (folder / "file").chmod(0o600), True),
    "odd name": (lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff\n")).touch(), True),
    "folder made": (lambda folder: (folder / "sub" / "more").mkdir(), True),
    "only read": (lambda folder: ((folder / "file").read_bytes(), list(folder.rglob("*"))), False),
    "left out": (lambda folder: (folder / "app.log").write_text("x"), False),
    "in a folder left out": (lambda folder: (folder / "cache" / "x").write_text("x"), False),
    "behind a link": (lambda folder: (folder.parent / "elsewhere" / "x").write_text("x"), False),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_counts_as_a_change(watcher: Watcher, folder: Path, deed: str) -> None:
    (folder / "cache").mkdir()
    (folder.parent / "elsewhere").mkdir()
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    assert watcher.add("s", [tree(folder, "*.log", "cache/")]) is None
    act, counts = DEEDS[deed]
    act(folder)
    assert changed(watcher) is counts
    assert not changed(watcher), "told twice"


def test_folders_that_are_made_later_are_watched_with_all_in_them(watcher: Watcher, folder: Path) -> None:
    watcher.add("s", [tree(folder)])
    (folder / "a" / "b" / "c").mkdir(parents=True)
    assert changed(watcher)
    (folder / "a" / "b" / "c" / "file").touch()
    assert changed(watcher)


def test_a_folder_that_is_moved_is_watched_where_it_went_and_no_more_where_it_left(
    watcher: Watcher, folder: Path
) -> None:
    watcher.add("s", [tree(folder)])
    (folder / "sub").rename(folder / "moved")
    assert changed(watcher)
    (folder / "moved" / "x").touch()
    assert changed(watcher)
    (folder / "moved").rename(folder.parent / "outside")
    assert changed(watcher)
    (folder.parent / "outside" / "y").touch()
    assert not changed(watcher)


def test_of_a_place_with_names_only_these_count(watcher: Watcher, folder: Path) -> None:
    watcher.add("s", [Place(os.fsencode(folder), names=frozenset({b"db", b"db-wal"}))])
    (folder / "db-shm").touch()
    (folder / "sub" / "db").touch()
    assert not changed(watcher)
    (folder / "db-wal").touch()
    assert changed(watcher)


def test_two_sources_in_one_folder_are_told_apart(watcher: Watcher, folder: Path) -> None:
    watcher.add("s", [tree(folder)])
    watcher.add("other", [Place(os.fsencode(folder), names=frozenset({b"db"}))])
    (folder / "file").write_text("2")
    assert watcher.look().changed == {"s"}
    (folder / "db").touch()
    assert watcher.look().changed == {"s", "other"}


@pytest.mark.parametrize("what", ["removed", "renamed"])
def test_a_place_that_goes_away_is_lost_with_the_reason(watcher: Watcher, folder: Path, what: str) -> None:
    watcher.add("s", [tree(folder / "sub")])
    (folder / "sub").rmdir() if what == "removed" else (folder / "sub").rename(folder / "other")
    seen = watcher.look()
    assert seen.changed == {"s"}
    assert "was removed, renamed or unmounted" in seen.lost["s"]
    (folder / "sub").mkdir()
    assert watcher.add("s", [tree(folder / "sub")]) is None
    (folder / "sub" / "x").touch()
    assert changed(watcher)


def test_a_place_whose_folder_above_was_exchanged_is_found_out(watcher: Watcher, folder: Path) -> None:
    watcher.add("s", [tree(folder)])
    assert watcher.replaced() == {}
    folder.parent.rename(folder.parent.with_name("former"))
    assert "No such file" in watcher.replaced()["s"]
    folder.mkdir(parents=True)
    assert watcher.add("s", [tree(folder)]) is None
    folder.rename(folder.with_name("former"))
    watcher.look()  # lost once more
    folder.mkdir()
    watcher.add("s", [tree(folder)])
    folder.parent.rename(folder.parent.with_name("former-too"))
    folder.mkdir(parents=True)
    assert "has been replaced" in watcher.replaced()["s"]
    assert watcher.replaced() == {}


def test_events_that_the_kernel_dropped_count_as_a_change_of_everything(
    watcher: Watcher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.add("s", [tree(folder)])
    monkeypatch.setattr(inotify.Inotify, "events", lambda _queue: iter([inotify.Event(-1, inotify.OVERFLOWED, b"")]))
    assert changed(watcher)


def test_more_folders_than_are_allowed_are_a_reason_and_none_of_them_is_watched(
    watcher: Watcher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "most_watches", lambda: 6)
    assert watcher.add("s", [tree(folder)]) is None
    for number in range(2):
        (folder / f"more-{number}").mkdir()
    assert "a user may watch 6 folders (fs.inotify.max_user_watches)" in watcher.look().lost["s"]
    (folder / "file").write_text("2")
    assert not changed(watcher)
    assert "fs.inotify.max_user_watches" in str(watcher.add("s", [tree(folder)]))
    (folder / "file").write_text("3")
    assert not changed(watcher)


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EMFILE, "max_user_instances"), (errno.ENOSYS, "cannot watch folders")]
)
def test_a_system_that_allows_no_watch_is_a_reason(
    watcher: Watcher, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(_self: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    assert said in str(watcher.add("s", [tree(folder)]))
    assert not changed(watcher)


def test_a_missing_place_is_a_reason(watcher: Watcher, folder: Path) -> None:
    assert "nothing: No such file" in str(watcher.add("s", [tree(folder), tree(folder / "nothing")]))
    (folder / "file").write_text("2")
    assert not changed(watcher)


MOUNTS = b"""\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:2 / /srv/my\\040share rw shared:1 - nfs4 server:/share rw
3 2 8:2 / /srv/my\\040share/disk rw - xfs /dev/sdb rw
4 1 0:3 / /home/ada/far rw - fuse.sshfs ada@far: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/my share", "nfs4"),
        ("/srv/my share/x", "nfs4"),
        ("/srv/my share/disk/x", None),
        ("/srv/my shared", None),
        ("/home/ada/far/x", "fuse.sshfs"),
        ("/home/ada", None),
    ],
)
def test_network_file_systems_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_bytes(MOUNTS)
    monkeypatch.setattr(mounts, "_LIST", listed)
    assert mounts.network_file_system(os.fsencode(path)) == kind


def test_a_place_on_a_network_file_system_is_a_reason(
    watcher: Watcher, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_bytes(MOUNTS + b"5 1 0:4 / %s rw - nfs server:/x rw\n" % os.fsencode(folder))
    monkeypatch.setattr(mounts, "_LIST", listed)
    assert "is on a network file system (nfs)" in str(watcher.add("s", [tree(folder / "sub")]))


# -- which places


def watch(watcher: Watcher, source: object) -> None:
    assert isinstance(source, Watchable)
    assert watcher.add("s", source.places()) is None


def test_files_are_watched_without_what_is_left_out(watcher: Watcher, folder: Path) -> None:
    (folder.parent / "single").touch()
    options = {"paths": (str(folder), str(folder.parent / "single")), "exclude": ("*.tmp",)}
    watch(watcher, FilesSource("s", options, state=folder.parent / "state"))
    (folder / "x.tmp").touch()
    (folder.parent / "other").touch()
    assert not changed(watcher)
    (folder.parent / "single").write_text("2")
    assert changed(watcher)
    (folder / "sub" / "x").touch()
    assert changed(watcher)


def test_paths_that_are_not_there_are_said(folder: Path) -> None:
    options = {"paths": (str(folder), str(folder.parent / "nothing"))}
    with pytest.raises(SourceError, match="not all of its paths"):
        FilesSource("s", options, state=folder.parent / "state").places()


@pytest.mark.parametrize("layout", ["ordinary", "bare", "working tree"])
def test_a_repository_is_watched_for_its_refs_and_not_its_objects(
    watcher: Watcher, tmp_path: Path, layout: str
) -> None:
    place, git = tmp_path / "app", ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C"]

    def run(*arguments: str) -> None:
        subprocess.run([*git, *arguments], check=True, capture_output=True)

    run(str(tmp_path), "init", "-q", "-b", "main", *(["--bare"] if layout == "bare" else []), "app")
    tree = (
        subprocess.run([*git, str(place), "mktree"], input=b"", check=True, capture_output=True).stdout.decode().strip()
    )
    commit = subprocess.run([*git, str(place), "commit-tree", "-m", "x", tree], check=True, capture_output=True)
    first = commit.stdout.decode().strip()
    run(str(place), "update-ref", "refs/heads/main", first)
    configured = place
    if layout == "working tree":
        configured = tmp_path / "further"
        run(str(place), "worktree", "add", "-q", "-b", "further", str(configured))
    watch(watcher, GitSource("s", {"url": str(configured)}, state=tmp_path / "state"))
    run(str(place), "hash-object", "-w", "--stdin-paths")
    (place / "uncommitted").touch()
    assert not changed(watcher)
    run(str(place), "update-ref", "refs/heads/other/deep", first)
    assert changed(watcher)
    run(str(configured), "symbolic-ref", "HEAD", "refs/heads/other/deep")
    assert changed(watcher)
    run(str(place), "pack-refs", "--all")
    assert changed(watcher)


def test_what_lies_elsewhere_has_no_places_here(tmp_path: Path) -> None:
    assert GitSource("s", {"url": "https://git.example.com/app"}, state=tmp_path).places() == ()
    with pytest.raises(SourceError, match="is not there"):
        GitSource("s", {"url": str(tmp_path / "app")}, state=tmp_path).places()


def test_a_database_is_watched_with_its_log_and_the_link_to_it(watcher: Watcher, folder: Path, tmp_path: Path) -> None:
    (folder / "app.db").touch()
    (tmp_path / "link.db").symlink_to(folder / "app.db")
    watch(watcher, SqliteSource("s", {"path": str(tmp_path / "link.db")}, state=tmp_path / "state"))
    (folder / "app.db-shm").touch()
    assert not changed(watcher)
    for name in ("app.db", "app.db-wal", "app.db-journal"):
        (folder / name).write_text("x")
        assert changed(watcher), name
    (tmp_path / "link.db").unlink()
    assert changed(watcher)
