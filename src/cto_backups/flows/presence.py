"""Which vaults are there now: a copy in one that is not counts for nothing, whatever the catalog says."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from cto_backups import clock
from cto_backups.core.facts import Facts
from cto_backups.errors import BackupsError, VaultError
from cto_backups.flows.fleet import vaults_elsewhere
from cto_backups.flows.installation import Installation
from cto_backups.repository.layout import is_there

T = TypeVar("T")

log = logging.getLogger("cto_backups")

PATIENCE_SECONDS = 10.0
"""How long all vaults together may take to answer: a file system that went away can hang for ever."""


def looked_at(installation: Installation, facts: Facts) -> Facts:
    """The facts, with what keeps each vault of the policy from being read now."""
    return replace(facts, vaults_away=away(installation))


def note(installation: Installation) -> None:
    """Note which vaults cannot be read now, for whoever asks the catalog alone. A failure of that is only logged."""
    try:
        others = vaults_elsewhere(installation)
        installation.catalog.note_away(_away_here(installation, others), clock.now(), but=others)
    except BackupsError as error:
        log.warning("vaults not noted", extra={"fields": {"message": str(error)}})


def away(installation: Installation) -> dict[str, str]:
    """The vaults that cannot be read now, and why. Takes 10 s at most. Of folders of other hosts, these tell."""
    others = vaults_elsewhere(installation)
    told = installation.catalog.noted_away() & others if others else ()
    there = {name: "its own host could not read it when it last looked" for name in told}
    return {**_away_here(installation, others), **there}


def _away_here(installation: Installation, others: Collection[str]) -> dict[str, str]:
    names = [name for name in installation.policy.vaults if name not in others]
    found = answers(names, partial(_problem, installation))
    silent = f"it did not answer within {PATIENCE_SECONDS:g} s"
    return {name: problem for name in names if (problem := found.get(name, silent)) is not None}


def answers(names: Iterable[str], ask: Callable[[str], T]) -> Mapping[str, T]:
    """What each vault answers, all asked at once; `ask` raises nothing. One that takes longer than 10 s is left out."""
    found: dict[str, T] = {}

    def look(name: str) -> None:
        found[name] = ask(name)

    # Daemons: one that hangs must not keep the process from ending either.
    threads = [threading.Thread(target=look, args=(name,), name=f"look-{name}", daemon=True) for name in names]
    for thread in threads:
        thread.start()
    until = clock.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        thread.join(max(until - clock.monotonic(), 0.0))
    return dict(found)


def _problem(installation: Installation, name: str) -> str | None:
    try:
        installation.check_readable(name)
        vault, place = installation.vault(name), installation.policy.vaults[name].repository
        if installation.catalog.repository_of(name) is None:
            return None  # one that holds nothing yet was never used: what is not in it, is said of each source
        if (gone := installation.key_gone(name)) is not None:
            return str(gone)
        if not is_there(vault, place):
            raise VaultError(
                f"Vault {name} at {vault.location} has no repository at {place}",
                why="recovery points were stored there, and its configuration file is gone",
                todo="Bring it back, or make a new vault under another name.",
            )
    except BackupsError as error:
        return str(error)
    return None
