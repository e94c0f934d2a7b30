"""Bringing the objects of a point into a store of exports, from another one or from a repository.

Between vaults of one provider the provider copies, where a checksum of ours proves it; else every part comes through
here, and is compared with its SHA-256 on the way.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial

from cto_backups.core.objects import CopyingWithin, Ways
from cto_backups.core.ports import Progress, Silent
from cto_backups.errors import DamageError
from cto_backups.exports.files import ExportFiles
from cto_backups.exports.layout import PART
from cto_backups.exports.objects import ObjectWriter
from cto_backups.exports.within import twin_of
from cto_backups.repository.crew import Crew
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import load_index
from cto_backups.repository.locks import locked_for_reading
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.session import Session
from cto_backups.repository.stored import StoredFiles
from cto_backups.repository.tree import decode_tree


def bring_objects(
    files: ExportFiles,
    session: Session,
    options: RepositoryOptions,
    origin: StoredFiles,
    root: bytes,
    progress: Progress | None,
) -> tuple[int, int, Ways]:
    """Store every file of a tree that is not here; the bytes and the parts that were added, and which way they came.

    Raises DamageError for what is not intact at the origin, or not cut evenly there; VaultError.
    """
    with locked_for_reading(origin), session.depot() as depot:
        origin_index = load_index(origin)
        fetcher = Fetcher(origin, origin_index)
        writer = ObjectWriter(files, depot)

        def bring(_: None, content: Sequence[bytes]) -> None:
            told = progress or Silent()
            twin = twin_of(origin, origin_index, content) if isinstance(files.view.vault, CopyingWithin) else None
            writer.bring(content, _pieces(fetcher, content, told), twin, lambda count: told.advance(size_bytes=count))

        with Crew(options.threads, lambda: None, name="copy") as crew:
            for content in contents_of(fetcher, [root]):
                crew.submit(partial(bring, content=content))
        writer.finish()
        depot.finish()
        return depot.added_bytes, depot.added_blobs, depot.beside.ways or Ways()


def contents_of(fetcher: Fetcher, roots: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The content of every file below these trees, by its parts; each tree is read once, each content told once.

    Raises DamageError, VaultError.
    """
    seen = set(roots)
    told: set[bytes] = set()
    stack = list(roots)
    while stack:
        for node in decode_tree(fetcher.tree(stack.pop())):
            if node.subtree is not None and node.subtree not in seen:
                seen.add(node.subtree)
                stack.append(node.subtree)
            if node.content and (one := hashlib.sha256(b"".join(node.content)).digest()) not in told:
                told.add(one)
                yield node.content


def _pieces(fetcher: Fetcher, content: Sequence[bytes], progress: Progress) -> Iterator[bytes]:
    for number, part in enumerate(content):
        plain = fetcher.data(part)
        if len(plain) != PART and number + 1 < len(content):
            raise DamageError(
                f"A file in {fetcher.files.prefix} of vault {fetcher.files.vault.name} is not cut evenly",
                why="it was stored as a snapshot, and cannot become an object without being another point",
                todo="make a new recovery point with 'payload: export'",
            )
        progress.advance(size_bytes=len(plain))
        yield plain
