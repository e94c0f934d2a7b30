"""Barman's backups of a server, tested as they are."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cto_backups.sources.elsewhere.barman_program import opened, words
from cto_backups.sources.elsewhere.source import ElsewhereSource
from cto_backups.sources.options import seconds, text


def barman_source(name: str, options: Mapping[str, object], *, state: Path) -> ElsewhereSource:
    """A source for one of the servers in Barman's settings.

    Options beside those of `ElsewhereSource`: `server`; `config`, the file of Barman's settings; `program`. Raises
    PolicyError.
    """
    server = text(options, "server")
    opening = partial(
        opened,
        name,
        text(options, "program", "barman"),
        server,
        Path(text(options, "config")) if options.get("config") else None,
        state / "sources" / name,
        seconds(options, "timeout_seconds", 86_400.0),
    )
    return ElsewhereSource("barman", name, options, words(server), opening, state=state)
