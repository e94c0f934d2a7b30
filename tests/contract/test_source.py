"""Every source passes the source contract; so does the fake."""

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from fakes.sources import MemorySource
from source_contract import Fault, SourceContract, Subject

from cto_backups.sources.command import CommandSource
from cto_backups.sources.files import FilesSource
from cto_backups.sources.git.source import GitSource
from cto_backups.sources.sqlite.source import SqliteSource


def found(restored: Path, name: str) -> Path:
    """The one restored thing of that name."""
    (path,) = restored.rglob(name)
    return path


def keeping_times(path: Path, act: Callable[[], object]) -> None:
    status = path.lstat()
    act()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip_a_bit(path: Path, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    keeping_times(path, lambda: path.write_bytes(content))


def without_times(path: Path) -> None:
    keeping_times(path.parent, path.unlink)


class TestMemorySource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a flipped bit": lambda restored: flip_a_bit(found(restored, "one")),
        "a lost file": lambda restored: found(restored, "one").unlink(),
    }

    @pytest.fixture
    def subject(self) -> Subject:
        source = MemorySource("heap", {"one": b"1" * 100, "two": b"22"})
        return Subject(
            source=source,
            make=lambda: source,
            change=lambda: source.files.update(one=b"changed"),
            missing=MemorySource("void", {}),
        )


# -- files ------------------------------------------------------------------------------------------------------------


def swap_contents(restored: Path) -> None:
    one, two = found(restored, "one"), found(restored, "two")
    first, second = one.read_bytes(), two.read_bytes()
    keeping_times(one, lambda: one.write_bytes(second))
    keeping_times(two, lambda: two.write_bytes(first))


def retarget(restored: Path) -> None:
    link = found(restored, "link")

    def act() -> None:
        link.unlink()
        link.symlink_to("two")

    status = link.lstat()
    keeping_times(link.parent, act)
    os.utime(link, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def part_hard_links(restored: Path) -> None:
    name = found(restored, "linked")
    content, status = name.read_bytes(), name.stat()

    def act() -> None:
        name.unlink()
        name.write_bytes(content)

    keeping_times(name.parent, act)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns))


def drop_equal_pair(restored: Path) -> None:
    for name in ("twin-a", "twin-b"):
        without_times(found(restored, name))


def add_a_file(restored: Path) -> None:
    folder = found(restored, "deep")
    keeping_times(folder, lambda: (folder / "more").touch())


class TestFilesSource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a flipped bit": lambda restored: flip_a_bit(found(restored, "one")),
        "a lost file": lambda restored: without_times(found(restored, "one")),
        "a lost empty file": lambda restored: without_times(found(restored, "empty")),
        "a lost empty folder": lambda restored: keeping_times(
            found(restored, "hollow").parent, found(restored, "hollow").rmdir
        ),
        "an added file": add_a_file,
        "a wrong time": lambda restored: os.utime(found(restored, "one"), ns=(0, 1)),
        "a wrong time of a folder": lambda restored: os.utime(found(restored, "deep"), ns=(0, 1)),
        "a wrong mode": lambda restored: found(restored, "one").chmod(0o611),
        "two swapped contents": swap_contents,
        "a link that leads elsewhere": retarget,
        "hard links that were parted": part_hard_links,
        "two equal files lost": drop_equal_pair,
    }

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        tree = tmp_path / "tree"
        deep = tree / "deep"
        deep.mkdir(parents=True)
        (deep / "hollow").mkdir()
        (tree / "one").write_bytes(b"first" * 50)
        (tree / "two").write_bytes(b"other" * 50)
        (tree / "empty").touch()
        (deep / "twin-a").write_bytes(b"twin")
        (deep / "twin-b").write_bytes(b"twin")
        (tree / "linked").hardlink_to(tree / "one")
        (tree / "link").symlink_to("one")
        (tree / "loose").symlink_to("/nowhere/at all")
        os.mkfifo(tree / "pipe")
        (deep / os.fsdecode(b"not \xff utf-8\n")).write_bytes(b"odd name")
        old = 1_600_000_000_123_456_789
        for path in (tree / "one", tree / "two", deep / "twin-a"):
            os.utime(path, ns=(old, old))

        def make() -> FilesSource:
            return FilesSource("papers", {"paths": (str(tree),)}, state=tmp_path / "state")

        return Subject(
            source=make(),
            make=make,
            change=lambda: (tree / "one").write_bytes(b"fresh" * 50) and None,
            missing=FilesSource("nothing", {"paths": (str(tmp_path / "nowhere"),)}, state=tmp_path / "state"),
            original=tree,
        )


# -- SQLite -----------------------------------------------------------------------------------------------------------


def tell(*statements: str) -> Fault:
    """Run SQL on the restored database."""

    def act(restored: Path) -> None:
        with closing(sqlite3.connect(found(restored, "app.db"))) as database:
            for statement in statements:
                assert database.execute(statement).rowcount != 0
            database.commit()

    return act


class SqliteFaults(SourceContract):
    journal: ClassVar[str]
    faults: ClassVar[dict[str, Fault]] = {
        "a flipped bit in the header": lambda restored: flip_a_bit(found(restored, "app.db"), 3),
        "a flipped bit in the middle": lambda restored: flip_a_bit(found(restored, "app.db"), 5000),
        "a cut file": lambda restored: os.truncate(found(restored, "app.db"), 4096),
        "a lost file": lambda restored: found(restored, "app.db").unlink(),
        "a lost row": tell("DELETE FROM people WHERE id = 7"),
        "a pair of equal rows lost": tell("DELETE FROM events WHERE what = 'twice'"),
        "two swapped values": tell(
            "UPDATE people SET name = CASE id WHEN 1 THEN 'person 2' ELSE 'person 1' END WHERE id IN (1, 2)"
        ),
        "a text that became a blob": tell("UPDATE people SET name = CAST(name AS BLOB) WHERE id = 3"),
        "an integer that became a text": tell("UPDATE events SET amount = CAST(amount AS TEXT) WHERE what = 'once'"),
        "a lost index": tell("DROP INDEX by_name"),
        "another user_version": tell("PRAGMA user_version = 8"),
    }

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        folder = tmp_path / "data"
        folder.mkdir()
        path = folder / "app.db"
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA journal_mode = {self.journal}")
            database.executescript(
                """
                CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
                CREATE INDEX by_name ON people (name);
                CREATE TABLE events (what, amount);
                INSERT INTO events VALUES ('twice', 5), ('twice', 5), ('once', 9);
                PRAGMA user_version = 7;
                """
            )
            rows = [(number, f"person {number}") for number in range(1, 501)]
            database.executemany("INSERT INTO people VALUES (?, ?)", rows)
            database.commit()

        def make() -> SqliteSource:
            return SqliteSource("people", {"path": str(path)}, state=tmp_path / "state")

        def change() -> None:
            with closing(sqlite3.connect(path)) as database:
                database.execute("UPDATE people SET name = 'somebody else' WHERE id = 5")
                database.commit()

        return Subject(
            source=make(),
            make=make,
            change=change,
            missing=SqliteSource("nothing", {"path": str(folder / "nowhere.db")}, state=tmp_path / "state"),
            original=folder,
        )


class TestSqliteSourceWithRollbackJournal(SqliteFaults):
    journal = "delete"


class TestSqliteSourceWithWriteAheadLog(SqliteFaults):
    journal = "wal"


# -- git --------------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def garble_pack(restored: Path) -> None:
    (pack,) = restored.rglob("*.pack")
    pack.chmod(0o644)
    flip_a_bit(pack, pack.stat().st_size // 2)


def lose_pack(restored: Path) -> None:
    for path in [*restored.rglob("*.pack"), *restored.rglob("*.idx")]:
        path.unlink()


class TestGitSource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a flipped bit in a pack": garble_pack,
        "a lost pack": lose_pack,
        "a lost ref": lambda restored: git(restored / "code.git", "update-ref", "-d", "refs/notes/commits") and None,
        "a moved ref": lambda restored: git(restored / "code.git", "branch", "-f", "side", "main") and None,
        "another HEAD": lambda restored: git(restored / "code.git", "symbolic-ref", "HEAD", "refs/heads/side") and None,
        "a lost repository": lambda restored: (restored / "code.git").rename(restored / "elsewhere") and None,
    }

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        work = tmp_path / "code"
        work.mkdir()
        git(work, "init", "--quiet")
        for number in range(4):
            (work / f"file {number}").write_text(f"content {number}\n" * 20)
            git(work, "add", ".")
            git(work, "commit", "--quiet", "-m", f"Change {number}")
        git(work, "branch", "side", "HEAD~2")
        git(work, "tag", "-a", "v1", "-m", "First")
        git(work, "notes", "add", "-m", "a note")
        (work / "file 0").write_text("not committed yet")
        git(work, "stash", "--quiet")

        def make() -> GitSource:
            return GitSource("code", {"url": str(work)}, state=tmp_path / "state")

        def change() -> None:
            git(work, "commit", "--quiet", "--allow-empty", "-m", "One more")

        return Subject(
            source=make(),
            make=make,
            change=change,
            missing=GitSource("nothing", {"url": str(tmp_path / "nowhere")}, state=tmp_path / "state"),
            original=work,
        )


# -- commands ---------------------------------------------------------------------------------------------------------


class TestCommandSource(SourceContract):
    faults: ClassVar[dict[str, Fault]] = {
        "a flipped bit": lambda restored: flip_a_bit(found(restored, "app.dump"), 70_000),
        "a flipped bit in a later block": lambda restored: flip_a_bit(found(restored, "app.dump"), 3_300_000),
        "a cut file": lambda restored: os.truncate(found(restored, "app.dump"), 3_400_000),
        "an empty file": lambda restored: os.truncate(found(restored, "app.dump"), 0),
        "a longer file": lambda restored: os.truncate(found(restored, "app.dump"), 3_600_000),
        "a lost file": lambda restored: found(restored, "app.dump").unlink(),
        "what the test command refuses": lambda restored: found(restored, "app.dump").chmod(0o640),
    }

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        data = tmp_path / "data"
        data.mkdir()
        (data / "rows").write_bytes(b"a row of the table\n" * 184_211)

        def make(command: str = "cat") -> CommandSource:
            options = {
                "command": (command, "rows"),
                "filename": "app.dump",
                "folder": str(data),
                "test_command": ("sh", "-c", 'test "$(stat -c %a app.dump)" = 600 && tail -n 1 | grep -q table'),
            }
            return CommandSource("app", options, state=tmp_path / "state")

        return Subject(
            source=make(),
            make=make,
            change=lambda: (data / "rows").write_bytes(b"another row\n" * 200_000) and None,
            missing=make("no-such-program"),
            original=data,
        )
