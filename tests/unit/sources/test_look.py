"""What a look below a folder finds, and that it says when it did not see everything."""

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.sources.look import look, survey

AsUser = Callable[[], AbstractContextManager[None]]


def database(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.commit()
    return path


def repository(path: Path, *options: str) -> Path:
    subprocess.run(["git", "init", "--quiet", *options, str(path)], check=True)
    return path


def test_repositories_and_databases_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    repository(tmp_path / "code")
    repository(tmp_path / "code" / "vendor" / "nested")
    repository(tmp_path / "bare", "--bare")
    database(tmp_path / "data" / "app.sqlite3")
    database(tmp_path / "code" / "no-extension")
    (tmp_path / "fake.db").write_bytes(b"x" * 4096)
    (tmp_path / "empty.db").touch()
    found = look(tmp_path)
    assert [resource.name for resource in found] == [
        f"git:{tmp_path}/bare",
        f"git:{tmp_path}/code",
        f"git:{tmp_path}/code/vendor/nested",
        f"sqlite:{tmp_path}/code/no-extension",
        f"sqlite:{tmp_path}/data/app.sqlite3",
    ]
    assert [resource.size_bytes for resource in found] == [None, None, None, 8192, 8192]
    assert survey(tmp_path).complete


def test_a_work_tree_of_another_repository_counts_too(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / ".git").write_text("gitdir: /elsewhere")
    assert [resource.name for resource in look(tmp_path)] == [f"git:{tmp_path}/tree"]


def test_excluded_folders_and_links_are_not_looked_into(tmp_path: Path) -> None:
    database(tmp_path / "state" / "catalog.db")
    database(tmp_path / "real" / "app.db")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = look(tmp_path, exclude=[tmp_path / "state"])
    assert [resource.location for resource in found] == [f"{tmp_path}/real/app.db"]


def test_a_look_that_is_cut_short_by_depth_says_so(tmp_path: Path) -> None:
    database(tmp_path / "a" / "b" / "c" / "deep.db")
    database(tmp_path / "a" / "near.db")
    seen = survey(tmp_path, depth=2)
    assert [resource.location for resource in seen.resources] == [f"{tmp_path}/a/near.db"]
    assert not seen.complete
    assert "more than 2 levels" in seen.reason
    assert survey(tmp_path, depth=4).complete


def test_a_look_that_is_cut_short_by_time_keeps_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database(tmp_path / "near.db")
    database(tmp_path / "a" / "far.db")
    ticks = iter(range(100))
    monkeypatch.setattr(clock, "monotonic", lambda: float(next(ticks)))
    seen = survey(tmp_path, seconds=1)
    assert [resource.location for resource in seen.resources] == [f"{tmp_path}/near.db"]
    assert not seen.complete
    assert "time" in seen.reason


def test_folders_that_may_not_be_read_are_said(open_place: Path, ordinary_user: AsUser) -> None:
    database(open_place / "open" / "app.db")
    (open_place / "shut").mkdir(mode=0)
    with ordinary_user():
        seen = survey(open_place)
    assert len(seen.resources) == 1
    assert seen.reason == "some folders cannot be read"
