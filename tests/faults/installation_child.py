"""Do something in a process of its own that dies, or is stopped, where it is told to.

Run by test_kill_installation.py and test_frozen_installation.py.
"""

import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cto_backups.core.vaults import Vault
from cto_backups.errors import ClaimLostError
from cto_backups.flows import expire
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import prune
from cto_backups.flows.recover import recover
from cto_backups.flows.restore_test import restore_test
from cto_backups.flows.verify import verify
from cto_backups.vaults.fenced import FencedVault
from faults.logged_vault import LoggedVault, die
from integration import conftest
from integration.conftest import Workshop, build

CATALOG_KILL = "CTO_FAULT_CATALOG"  # as "add_copy:2:after": die around the second call of a catalog's method

VAULT = "CTO_FAULT_VAULT"  # the vault whose writes are logged, and killed at

LOST = 99
"""The status of a process that found that another had taken over."""


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
    conftest.OPTIONS = replace(conftest.OPTIONS, prune_grace=timedelta())
    files = {"paths": (str(data / "files"),), "include": (), "exclude": (), "one_file_system": False}
    workshop = build(root, data, {"documents": ("files", files)})
    deadly_vault = os.environ.get(VAULT, "one")

    def wrapped(vault: Vault) -> Vault:
        vault = FencedVault(vault, workshop.catalog.claims.check)
        return LoggedVault.from_environment(vault) if vault.name == deadly_vault else vault

    workshop.wrap_vault = wrapped
    if os.environ.get(CATALOG_KILL):
        deadly(workshop.catalog, os.environ[CATALOG_KILL])
    recover(workshop.installation)
    try:
        problems = do(workshop, task, deadly_vault)
    except ClaimLostError as error:
        problems = [error]
    if any(isinstance(problem, ClaimLostError) for problem in problems):
        sys.exit(LOST)


def do(workshop: Workshop, task: str, vault: str) -> list[Exception]:
    """Do something; what stood in the way of parts of it."""
    if task == "protect":
        return [*protect(workshop.installation, "documents").vault_problems.values()]
    if task == "prune":
        prune(workshop.installation, vault)
    elif task == "verify":
        verify(workshop.installation, vault)
    elif task == "test":
        restore_test(workshop.installation, "documents")
    else:
        expired = expire.expire(workshop.installation, expire.plan(workshop.installation, "documents"))
        return [*expired.problems.values()]
    return []


if __name__ == "__main__":
    main()
