"""Take a repository over in a process of its own that dies before or after its n-th write; run by test_kill_adopt.py.

Arguments: the number (0: never), the file for the count of writes, then the command line.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cto_backups.catalog.catalog import Catalog
from cto_backups.cli.main import main as command_line
from cto_backups.config import edit
from cto_backups.vaults.local import LocalVault
from faults.logged_vault import die

moments = 0


def deadly(place: Any, name: str, at: int) -> None:
    """Have each call of a function be two moments at which the process may die: before its effect, and after."""
    original: Callable[..., Any] = getattr(place, name)

    def instead(*arguments: Any, **named: Any) -> Any:
        pass_by(at)
        result = original(*arguments, **named)
        pass_by(at)
        return result

    setattr(place, name, instead)


def pass_by(at: int) -> None:
    global moments
    moments += 1
    if moments == at:
        die()


def main() -> None:
    at, count = int(sys.argv[1]), Path(sys.argv[2])
    for place, name in (
        (LocalVault, "put"),
        (LocalVault, "delete"),
        (edit, "save"),
        (Catalog, "sync_policy"),
        (Catalog, "expect_repository"),
        (Catalog, "append_records"),
        (Catalog, "add_point_with_copy"),
    ):
        deadly(place, name, at)
    sys.argv = ["cto.backups", *sys.argv[3:]]
    try:
        command_line()
    finally:
        count.write_text(str(moments))


if __name__ == "__main__":
    main()
