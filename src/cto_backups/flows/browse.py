"""Browse: look into recovery points, and read single files, without restoring; nothing is written, and no lock taken.

Whatever is damaged or away in one vault is taken from another one that holds the point.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cto_backups.core.model import Problem, RecoveryPoint
from cto_backups.core.payloads import Contents, Node
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import BackupsError, NotFoundError, UsageError
from cto_backups.flows.installation import Installation
from cto_backups.flows.restore import nowhere, ordered, troubles

T = TypeVar("T")

PREPARED = {
    "barman": "what Barman said of its backups, and to which moments they lead; the data are there alone",
    "bigquery": "each table's rows as Avro files, which bq load reads, and beside them definitions as JSON",
    "bucket": "the objects of the bucket, below /objects, and /properties/objects.jsonl, which tells the rest of each",
    "cloudsql": "dumps of the databases, as of a server of one's own, and what the service said of the instance; or"
    " that alone, with export: false: the data are in the service's log and backups",
    "git": "a bare mirror of the repository; 'git clone' makes a working copy of what is restored",
    "mysql": "dumps of the databases, of their views, of accounts and their rights, which mariadb or mysql reads, or"
    " the server's files, which mariadb-backup does; and with base_every the log since, which mariadb-binlog does",
    "pgbackrest": "what pgBackRest said of its repositories, and to which moments they lead; the data are there alone",
    "postgresql": "dumps of the databases, which pg_restore reads, and of what they share, which psql does",
    "sqlite": "a backup that the database made of itself, not its original file",
    "wal-g": "what WAL-G said of its backups, and to which moments they lead; the data are there alone",
}
"""What the tree of a point holds, by the kind of its source, where it is not the original files."""


@dataclass
class Browser:
    """Looks into the recovery points of an installation; `vault` is the only one to read, if it is given."""

    installation: Installation
    vault: str | None = None
    _opened: dict[str, Contents | BackupsError] = field(default_factory=dict)

    def point(self, found: RecoveryPoint) -> "PointContents":
        """Look into a recovery point. Raises NotFoundError when `vault` has no copy of it."""
        vaults = [facts.copy.vault for facts in ordered(self.installation, found, self.vault)]
        return PointContents(self, found, vaults)

    def contents(self, vault: str) -> Contents:
        """What a vault holds. Raises what keeps it from opening, each time."""
        if vault not in self._opened:
            try:
                self.installation.check_readable(vault)
                self._opened[vault] = self.installation.store(vault).contents()
            except BackupsError as error:
                self._opened[vault] = error
        opened = self._opened[vault]
        if isinstance(opened, BackupsError):
            raise opened
        return opened


@dataclass
class PointContents:
    """What is in one recovery point.

    `errors` are the first ones of each vault that could not give what was asked for; `problems` are folders that no
    vault could give.
    """

    browser: Browser
    point: RecoveryPoint
    vaults: Sequence[str]
    errors: dict[str, BackupsError] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def root(self) -> Node:
        """The folder that holds everything; its path is empty."""
        return Node(Entry(b"", b"", EntryKind.FOLDER), (), bytes.fromhex(self.point.root))

    @property
    def unused(self) -> tuple[str, ...]:
        """What other vaults had to stand in for, in words."""
        return troubles(self.errors)

    def folder(self, path: bytes, node: Node) -> Sequence[Node]:
        """What is in a folder, sorted by name bytes. Raises DamageError, VaultError when no vault can tell."""
        subtree = node.subtree
        assert subtree is not None, "only folders have a subtree"
        return self._from_any(path, lambda contents: contents.folder(subtree))

    def content(self, path: bytes, node: Node) -> Iterator[bytes]:
        """A file's bytes, in verified pieces. Raises DamageError, VaultError in place of one that no vault has."""
        done = 0
        failed: dict[str, BackupsError] = {}  # at this byte: one that lacks it may well have what follows
        while (vault := next((one for one in self.vaults if one not in failed), None)) is not None:
            try:
                for piece in self.browser.contents(vault).content(node.content, done):
                    done += len(piece)
                    failed.clear()
                    yield piece
                return
            except BackupsError as error:
                failed[vault] = error
                self.errors.setdefault(vault, error)
        raise self._nowhere(path, failed)

    def find(self, path: bytes) -> Node:
        """The node at a path. Raises NotFoundError with the nearest name, DamageError, VaultError."""
        node, here = self.root, b""
        for name in path.split(b"/"):
            if not name:
                continue
            names = {one.entry.name: one for one in self.folder(here, node)} if node.subtree is not None else {}
            if name not in names:
                seen = _typed(here) if node.subtree is not None else ""
                above, known = os.fsdecode(here) or "/", [os.fsdecode(one) for one in names]
                raise NotFoundError(
                    f"There is no {os.fsdecode(path)} in recovery point {self.point.id}"
                    f"{did_you_mean(os.fsdecode(name), known)}",
                    why=f"{above} is no folder" if node.subtree is None else f"'{os.fsdecode(name)}' is not in {above}",
                    todo=f"See what there is: cto.backups ls {self.point.id} {seen}".rstrip(),
                )
            node, here = names[name], here + b"/" + name
        return node

    def start(self) -> tuple[bytes, Node]:
        """The first folder, from the root down, that holds more than one other folder, and its path."""
        path, node = b"", self.root
        while True:
            inside = self.folder(path, node)
            if len(inside) != 1 or inside[0].subtree is None:
                return path, node
            path, node = path + b"/" + inside[0].entry.name, inside[0]

    def below(self, path: bytes, node: Node, *, recursive: bool) -> Iterator[tuple[bytes, Node]]:
        """What is directly in a folder, or with `recursive` all that is; of anything else only itself. See `walk`."""
        if node.subtree is None:
            yield path, node
        elif recursive:
            yield from self.walk(path, node)
        else:
            yield from ((path + b"/" + one.entry.name, one) for one in self.folder(path, node))

    def walk(self, path: bytes, node: Node) -> Iterator[tuple[bytes, Node]]:
        """Everything below a folder with its path, each folder before its content; what cannot be read is a problem."""
        stack = [iter(self.known(path, node))]
        paths = [path]
        while stack:
            one = next(stack[-1], None)
            if one is None:
                stack.pop()
                paths.pop()
                continue
            inner = paths[-1] + b"/" + one.entry.name
            yield inner, one
            if one.subtree is not None:
                stack.append(iter(self.known(inner, one)))
                paths.append(inner)

    def known(self, path: bytes, node: Node) -> Sequence[Node]:
        """What is in a folder; nothing, and a problem, when no vault can tell."""
        try:
            return self.folder(path, node)
        except BackupsError as error:
            self.problems.append(Problem(os.fsdecode(path) or "/", "damaged", f"what is in this folder: {error.why}"))
            return ()

    def _from_any(self, path: bytes, ask: Callable[[Contents], T]) -> T:
        failed: dict[str, BackupsError] = {}
        for vault in self.vaults:
            try:
                return ask(self.browser.contents(vault))
            except BackupsError as error:
                failed[vault] = error
                self.errors.setdefault(vault, error)
        raise self._nowhere(path, failed)

    def _nowhere(self, path: bytes, failed: dict[str, BackupsError]) -> BackupsError:
        return nowhere(f"{os.fsdecode(path) or '/'} of recovery point {self.point.id} cannot be read", failed)


def _typed(path: bytes) -> str:
    """A path as it is to be typed in a shell, folders of several words too."""
    return shlex.quote(os.fsdecode(path) or "/")


def file_at(contents: PointContents, path: bytes) -> Node:
    """The file at a path. Raises NotFoundError, UsageError for what is no file."""
    node = contents.find(path)
    name = os.fsdecode(path)
    if node.subtree is not None:
        raise UsageError(
            f"{name} is a folder",
            why="only files have content",
            todo=f"See what is in it: cto.backups ls {contents.point.id} {_typed(path)}",
        )
    if node.entry.kind is EntryKind.SYMLINK:
        raise UsageError(
            f"{name} is a symbolic link",
            why=f"it leads to {os.fsdecode(node.entry.linktarget)}, here or elsewhere",
            todo="Give the path of a file.",
        )
    if node.entry.kind is not EntryKind.FILE:
        raise UsageError(f"{name} is no file", why=f"it is of kind {node.entry.kind.name.lower()}")
    return node
