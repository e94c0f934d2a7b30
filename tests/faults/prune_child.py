"""Prunes a repository, in a process of its own that dies where the environment tells it to.

Arguments: the vault's folder, and how many hours later than now it is to be.
"""

import sys
from datetime import timedelta
from pathlib import Path

from cto_backups import clock
from cto_backups.core.pruning import PruneRules
from cto_backups.vaults.local import LocalVault
from faults.logged_vault import LoggedVault
from stock.product import QUICK_SMALL_PACKS, open_store

RULES = PruneRules(unused_share=0, small_bytes=0, index_blobs=3)


def main() -> None:
    """Do it."""
    now, later = clock.now, timedelta(hours=float(sys.argv[2]))
    clock.now = lambda: now() + later  # type: ignore[assignment]
    store = open_store(LoggedVault.from_environment(LocalVault("first", Path(sys.argv[1]))), options=QUICK_SMALL_PACKS)
    store.clear_leftovers()
    store.prune(RULES)


if __name__ == "__main__":
    main()
