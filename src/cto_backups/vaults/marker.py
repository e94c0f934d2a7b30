"""The file at a vault's root that says that there is one (``vault.json``), and which keys may stand beside it.

It tells an empty vault from a disk that is not mounted, or from the wrong bucket, and one vault from another.
"""

import json
import uuid

from cto_backups.core.vaults import MARKER as MARKER
from cto_backups.errors import VaultError
from cto_backups.vaults import durable

FORMAT = 1


def new_marker() -> bytes:
    """The content of a new vault's marker, with an id of its own."""
    return (json.dumps({"format": FORMAT, "id": uuid.uuid4().hex}) + "\n").encode()


def identity_in(marker: bytes, vault: str) -> str:
    """The id in a marker's content. Raises VaultError; `vault` says in it which one, and where it is."""
    try:
        said = json.loads(marker)
        known, identity = int(said["format"]), str(said["id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VaultError(
            f"{vault} has an unreadable marker file {MARKER}",
            why="it is not what this program wrote there",
            todo=f'See what changed it; its content is {{"format": {FORMAT}, "id": "…"}}.',
        ) from error
    if known > FORMAT:
        raise VaultError(
            f"{vault} has format {known}",
            why=f"this version of cto.backups knows formats up to {FORMAT}",
            todo="Use a newer cto.backups.",
        )
    return identity


def is_key(key: str) -> bool:
    """Whether something may be stored under this key, in any vault; never in place of the marker."""
    wrong = [part for part in key.split("/") if part in ("", ".", "..") or part.startswith(durable.TEMPORARY)]
    return not wrong and "\0" not in key and key != MARKER


def check_key(key: str, vault: str) -> None:
    """Raise VaultError unless something may be stored under the key in the vault of this name."""
    if not is_key(key):
        raise VaultError(
            f"Vault {vault} cannot store anything under the key {key!r}",
            why="a key is relative, '/'-separated, without empty, '.', '..' or temporary components",
            todo="This is a defect: please report it.",
        )
