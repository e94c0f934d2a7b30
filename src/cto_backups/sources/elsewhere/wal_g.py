"""WAL-G's backups of a server, tested as they are."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cto_backups.sources.elsewhere.source import ElsewhereSource
from cto_backups.sources.elsewhere.wal_g_program import WORDS, opened
from cto_backups.sources.options import seconds, text


def wal_g_source(name: str, options: Mapping[str, object], *, state: Path) -> ElsewhereSource:
    """A source for the storage that WAL-G's settings name.

    Options beside those of `ElsewhereSource`: `config`, the file of WAL-G's settings, or `repository`, a folder;
    `program`. Raises PolicyError.
    """
    opening = partial(
        opened,
        name,
        text(options, "program", "wal-g"),
        Path(text(options, "config")) if options.get("config") else None,
        str(options.get("repository") or ""),
        state / "sources" / name,
        seconds(options, "timeout_seconds", 86_400.0),
    )
    return ElsewhereSource("wal-g", name, options, WORDS, opening, state=state)
