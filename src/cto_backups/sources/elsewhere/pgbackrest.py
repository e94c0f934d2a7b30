"""Repositories of pgBackRest, tested as they are."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cto_backups.sources.elsewhere.pgbackrest_program import opened, words
from cto_backups.sources.elsewhere.source import ElsewhereSource
from cto_backups.sources.options import seconds, text


def pgbackrest_source(name: str, options: Mapping[str, object], *, state: Path) -> ElsewhereSource:
    """A source for one stanza in the repositories that pgBackRest's settings name.

    Options beside those of `ElsewhereSource`: `stanza`; `config`, the file of pgBackRest's settings, or `repository`, a
    folder; `program`. Raises PolicyError.
    """
    stanza = text(options, "stanza")
    opening = partial(
        opened,
        name,
        text(options, "program", "pgbackrest"),
        stanza,
        Path(text(options, "config")) if options.get("config") else None,
        str(options.get("repository") or ""),
        state / "sources" / name,
        seconds(options, "timeout_seconds", 86_400.0),
    )
    return ElsewhereSource("pgbackrest", name, options, words(stanza), opening, state=state)
