"""Restores over what stands there, in a process of its own that its parent kills.

Arguments: the vault's folder, a snapshot, where to restore to, and "patch", "replace" or "delete".
"""

import sys
from pathlib import Path

from cto_backups.core.ports import Existing, RestoreOptions
from stock.product import open_store


def main() -> None:
    """Say when it begins, and do it."""
    folder, snapshot, place, how = sys.argv[1:5]
    reader = open_store(Path(folder)).reader(snapshot)
    print("begin", flush=True)
    options = RestoreOptions(patch=how == "patch", delete=how == "delete")
    reader.restore(Path(place), existing=Existing.OVERWRITE, options=options)


if __name__ == "__main__":
    main()
