"""Backs up a folder into a repository, in a process of its own that dies where the environment tells it to.

Arguments: the vault's folder, the folder to back up, the source's state folder. The repository is made when there is
none.
"""

import sys
from pathlib import Path

from cto_backups.repository.store import RepositoryStore
from cto_backups.vaults.local import LocalVault
from faults.logged_vault import LoggedVault
from stock.product import PREFIX, QUICK_SMALL_PACKS, back_up, new_store, open_store


def main() -> None:
    """Do it."""
    folder, tree, state = map(Path, sys.argv[1:4])
    vault = LoggedVault.from_environment(LocalVault("first", folder))
    vault.create()
    options = QUICK_SMALL_PACKS
    if RepositoryStore.exists(vault, PREFIX):
        store = open_store(vault, options=options)
        store.clear_leftovers()
    else:
        store = new_store(vault, options=options)
    committed = store.committed()
    back_up(store, tree, state=state, parent=committed[-1].reference if committed else None)


if __name__ == "__main__":
    main()
