"""Protect: a backup, and its copies in all the vaults that policy asks for."""

from collections.abc import Iterable
from dataclasses import dataclass

from cto_backups.core.model import RecoveryPoint
from cto_backups.errors import BackupsError
from cto_backups.flows.backup import BackupResult, backup
from cto_backups.flows.copy import CopyResult, copy, missing_vaults
from cto_backups.flows.installation import Installation


@dataclass(frozen=True)
class Protected:
    """A backup with its copies; `vault_problems` names the vaults that have none, and why."""

    backup: BackupResult
    copies: tuple[CopyResult, ...]
    vault_problems: dict[str, BackupsError]


def protect(installation: Installation, source_name: str, *, label: str | None = None) -> Protected:
    """Back a source up and bring the point to every vault of the source; one bad vault does not keep it from others.

    Raises what `backup` raises; what goes wrong with a copy is part of the result.
    """
    result = backup(installation, source_name, label=label)
    copies, problems = copy_to(installation, result.point, missing_vaults(installation, result.point))
    absent = _absent(installation, source_name)
    return Protected(result, copies, {**absent, **result.vault_problems, **problems})


def _absent(installation: Installation, source_name: str) -> dict[str, BackupsError]:
    """Vaults of the source that are not usable now: told also when there is nothing new to bring there."""
    absent: dict[str, BackupsError] = {}
    for vault_name in installation.policy.sources[source_name].vaults:
        try:
            installation.vault(vault_name).check()
        except BackupsError as error:
            absent[vault_name] = error
    return absent


def copy_to(
    installation: Installation, point: RecoveryPoint, vault_names: Iterable[str]
) -> tuple[tuple[CopyResult, ...], dict[str, BackupsError]]:
    """Copy a point to each of these vaults: what was copied, and which vaults could not take it."""
    copies: list[CopyResult] = []
    problems: dict[str, BackupsError] = {}
    for vault_name in vault_names:
        try:
            copies.append(copy(installation, point, vault_name))
        except BackupsError as error:
            problems[vault_name] = error
    return tuple(copies), problems
