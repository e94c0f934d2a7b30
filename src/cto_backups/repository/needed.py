"""Which stored files of a repository some of its snapshots need: in memory, a bit for each blob and a name a pack."""

from collections.abc import Sequence

from cto_backups import _native
from cto_backups.core.payloads import Needed
from cto_backups.errors import DamageError, VaultError
from cto_backups.repository.fetch import Fetcher
from cto_backups.repository.index import BlobKind, load_index
from cto_backups.repository.layout import below
from cto_backups.repository.snapshot import Snapshot, load_snapshots
from cto_backups.repository.stored import StoredFiles, checked_name


def files_that_open(files: StoredFiles) -> list[str]:
    """The keys of the files without which nothing in a repository can be opened: its config and its key files."""
    return [below(files.prefix, "config"), *(files.key("keys", name) for name in files.names("keys"))]


def needed_by(files: StoredFiles, references: Sequence[str]) -> Needed:
    """The snapshots, the index as it stands, and every pack that holds a blob they need. Raises VaultError.

    All trees of the snapshots are walked, each once. Where one cannot be read, any pack may be needed.
    """
    if not references:
        return Needed(frozenset())
    wanted = [checked_name(files, reference) for reference in references]
    names = files.names("index")
    index = load_index(files, names=names)
    fetcher, needs = Fetcher(files, index), _native.Needs(index.native)
    unread = []
    for name, snapshot in load_snapshots(files, wanted):
        if isinstance(snapshot, Snapshot):
            needs.add(snapshot.tree)
            if not _walk(fetcher, needs):
                unread.append(name)
        else:
            unread.append(name)
    if index.damages or needs.missing(BlobKind.DATA):
        unread = wanted
    packs = range(index.pack_count) if unread else sorted(needs.packs())
    keys = [files.key("snapshots", name) for name in wanted]
    keys += [files.key("index", name) for name in names]
    keys += [files.key("data", fetcher.pack_name(number)) for number in packs]
    return Needed(frozenset(keys), tuple(unread))


def _walk(fetcher: Fetcher, needs: _native.Needs) -> bool:
    """Enter every tree that is needed and was not entered before; whether all of them could be read."""
    whole = True
    while (tree := needs.next()) is not None:
        try:
            needs.enter(fetcher.tree(tree))
        except (DamageError, VaultError):
            whole = False
    return whole
