"""The objects that a listing told of, on disk beside the state: a bucket may hold more than fits into memory.

One SQLite file a source. The one of the last stored point tells which objects were read before, and with what result:
it is a cache, and without it everything is read again. Paths are those inside ``/objects``, without a slash before
them; the folder "" is that itself.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Final

from cto_backups.sources.bucket.names import ITSELF, path_of
from cto_backups.sources.bucket.stores import Found

_AT_ONCE: Final = 1000
_SCHEMA: Final = """
CREATE TABLE folders (path BLOB PRIMARY KEY, parent BLOB NOT NULL, name BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX folders_in ON folders (parent, name);
CREATE TABLE objects (
    name BLOB PRIMARY KEY, folder BLOB NOT NULL, file BLOB NOT NULL, size INTEGER NOT NULL, made_ns INTEGER NOT NULL,
    state TEXT NOT NULL, told TEXT NOT NULL, more TEXT NOT NULL DEFAULT '{}', sha256 BLOB, counted INTEGER DEFAULT 0
) WITHOUT ROWID;
"""
_COLUMNS: Final = "name, folder, file, size, made_ns, state, told, more, sha256"


@dataclass(frozen=True, slots=True)
class Row:
    """An object, where it lies in the tree, and the SHA-256 of its content where that is known."""

    found: Found
    folder: bytes
    file: bytes
    sha256: bytes | None

    @property
    def path(self) -> bytes:
        """Its path inside ``/objects``."""
        return self.folder + b"/" + self.file if self.folder else self.file


class Inventory:
    """A new file, filled with a listing. Thread-safe once it is. `path` must not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        self._database.execute("BEGIN")

    def fill(self, listing: Iterable[Found]) -> int:
        """Take every object of a listing; how many there are."""
        count = 0
        folders: set[bytes] = set()
        found = iter(listing)
        while some := list(islice(found, _AT_ONCE)):
            count += len(some)
            rows = []
            for each in some:
                folder, _, file = path_of(each.name).rpartition(b"/")
                if folder and folder not in folders:
                    if len(folders) > _AT_ONCE:
                        folders.clear()
                    self._add_folders(folder, folders)
                rows.append((each.name, folder, file, each.size, each.made_ns, each.state, _text(each.told)))
            self._database.executemany(
                "INSERT OR REPLACE INTO objects (name, folder, file, size, made_ns, state, told)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        # An object that is called as a folder of others lies in that folder.
        self._database.execute(
            "UPDATE objects SET file = ?, folder ="
            " CASE folder WHEN x'' THEN file ELSE CAST(folder || x'2f' || file AS BLOB) END"
            " WHERE EXISTS (SELECT 1 FROM folders WHERE parent = objects.folder AND name = objects.file)",
            (ITSELF,),
        )
        self._database.execute("CREATE INDEX objects_in ON objects (folder, file)")
        return count

    def _add_folders(self, folder: bytes, known: set[bytes]) -> None:
        while folder and folder not in known:
            known.add(folder)
            parent, _, name = folder.rpartition(b"/")
            self._database.execute("INSERT OR IGNORE INTO folders VALUES (?, ?, ?)", (folder, parent, name))
            folder = parent

    def remember(self, before: Path) -> None:
        """Take over what was learned of objects that are in the same state as in an earlier inventory."""
        if not before.is_file():
            return
        try:
            self._database.execute("COMMIT")
            self._database.execute("ATTACH ? AS before", (str(before),))
            self._database.execute(
                "UPDATE objects SET sha256 = old.sha256, more = old.more FROM before.objects AS old"
                " WHERE old.name = objects.name AND old.state = objects.state AND old.size = objects.size"
                " AND old.counted"
            )
            self._database.execute("DETACH before")
        except sqlite3.DatabaseError:
            self._database.execute("UPDATE objects SET sha256 = NULL, more = '{}'")
        finally:
            self._database.execute("BEGIN")

    def folders(self, folder: bytes) -> list[bytes]:
        """The names of the folders in a folder, sorted."""
        with self._lock:
            found = self._database.execute("SELECT name FROM folders WHERE parent = ? ORDER BY name", (folder,))
            return [name for (name,) in found]

    def files(self, folder: bytes) -> list[Row]:
        """The objects in a folder, sorted by their files' names."""
        with self._lock:
            asked = f"SELECT {_COLUMNS} FROM objects WHERE folder = ? ORDER BY file"
            return [_row(each) for each in self._database.execute(asked, (folder,))]

    def get(self, name: bytes) -> Row:
        """One object, as it is known now."""
        with self._lock:
            asked = f"SELECT {_COLUMNS} FROM objects WHERE name = ?"
            return _row(self._database.execute(asked, (name,)).fetchone())

    def find(self, name: bytes) -> Row | None:
        """One object, if the listing told of it."""
        with self._lock:
            found = self._database.execute(f"SELECT {_COLUMNS} FROM objects WHERE name = ?", (name,)).fetchone()
        return None if found is None else _row(found)

    def mark(self, name: bytes) -> None:
        """Count an object, whatever is known of its content."""
        with self._lock:
            self._database.execute("UPDATE objects SET counted = 1 WHERE name = ?", (name,))

    def reuse(self, name: bytes) -> bool:
        """Count an object's content as known; false when it is not."""
        with self._lock:
            done = self._database.execute(
                "UPDATE objects SET counted = 1 WHERE name = ? AND sha256 IS NOT NULL", (name,)
            )
            return done.rowcount == 1

    def learn(self, found: Found, sha256: bytes) -> None:
        """An object was read, in the state that is told here."""
        with self._lock:
            self._database.execute(
                "UPDATE objects SET size = ?, made_ns = ?, state = ?, told = ?, more = ?, sha256 = ?, counted = 1"
                " WHERE name = ?",
                (found.size, found.made_ns, found.state, _text(found.told), _text(found.more), sha256, found.name),
            )

    def counted(self) -> Iterator[Row]:
        """Every object that was read, or known, in the order of names; to be taken once nothing is learned any more."""
        return self._in_order("counted")

    def unmarked(self) -> Iterator[Row]:
        """Every other object, in the order of names."""
        return self._in_order("NOT counted")

    def _in_order(self, which: str) -> Iterator[Row]:
        last = b""
        asked = f"SELECT {_COLUMNS} FROM objects WHERE {which} AND name > ? ORDER BY name LIMIT {_AT_ONCE}"
        while True:
            with self._lock:
                some = [_row(each) for each in self._database.execute(asked, (last,))]
            yield from some
            if len(some) < _AT_ONCE:
                return
            last = some[-1].found.name

    def keep(self, place: Path) -> None:
        """Become the inventory at `place`, in place of the one before."""
        with self._lock:
            self._database.execute("COMMIT")
            self._database.close()
        self._path.replace(place)

    def discard(self) -> None:
        """Remove the file; fine once it was kept."""
        with self._lock:
            self._database.close()
        self._path.unlink(missing_ok=True)


def _text(properties: object) -> str:
    return json.dumps(properties, sort_keys=True, separators=(",", ":"))


def _row(each: tuple[bytes, bytes, bytes, int, int, str, str, str, bytes | None]) -> Row:
    name, folder, file, size, made_ns, state, told, more, sha256 = each
    return Row(Found(name, size, made_ns, state, json.loads(told), json.loads(more)), folder, file, sha256)
