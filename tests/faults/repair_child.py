"""Repairs a repository, in a process of its own that dies where the environment tells it to.

Arguments: the vault's folder, and the folder of another vault that may help.
"""

import sys
from pathlib import Path

from cto_backups.vaults.local import LocalVault
from faults.logged_vault import LoggedVault
from stock.product import QUICK_SMALL_PACKS, open_store


def main() -> None:
    """Do it."""
    store = open_store(LoggedVault.from_environment(LocalVault("first", Path(sys.argv[1]))), options=QUICK_SMALL_PACKS)
    donor = open_store(LocalVault("second", Path(sys.argv[2])))
    store.clear_leftovers()
    store.repair([donor])


if __name__ == "__main__":
    main()
