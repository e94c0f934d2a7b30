"""Protect one source in a process of its own that dies where it is told to; run by test_kill_installation.py."""

import os
import sys
from pathlib import Path
from typing import Any

from cto_backups.flows import expire
from cto_backups.flows.protect import protect
from cto_backups.flows.recover import recover
from faults.logged_vault import LoggedVault, die
from integration.conftest import build

CATALOG_KILL = "CTO_FAULT_CATALOG"  # as "add_copy:2:after": die around the second call of a catalog's method

VAULT = "CTO_FAULT_VAULT"  # the vault whose writes are logged, and killed at


def deadly(catalog: Any, told: str) -> Any:
    """The catalog, whose method `told` names kills the process before or after its effect."""
    method, nth, moment = told.split(":")
    original = getattr(type(catalog), method)
    calls = 0

    def instead(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(nth) and moment == "before":
            die()
        result = original(self, *arguments, **named)
        if calls == int(nth) and moment == "after":
            die()
        return result

    setattr(type(catalog), method, instead)


def main() -> None:
    """Arguments: the root of the installation, its data, what to do."""
    root, data, task = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    files = {"paths": (str(data / "files"),), "include": (), "exclude": (), "one_file_system": False}
    workshop = build(root, data, {"documents": ("files", files)})
    deadly_vault = os.environ.get(VAULT, "one")
    workshop.wrap_vault = lambda vault: LoggedVault.from_environment(vault) if vault.name == deadly_vault else vault
    if os.environ.get(CATALOG_KILL):
        deadly(workshop.catalog, os.environ[CATALOG_KILL])
    recover(workshop.installation)
    if task == "protect":
        protect(workshop.installation, "documents")
    else:
        expire.expire(workshop.installation, expire.plan(workshop.installation, "documents"))


if __name__ == "__main__":
    main()
