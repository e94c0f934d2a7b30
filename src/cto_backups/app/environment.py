"""What the controls need to know beside policy and catalog: this machine, the keys, and what custodians hold."""

from pathlib import Path

from cto_backups.app import Opened, local_paths
from cto_backups.app.adapters import catalog_path, local_roots
from cto_backups.app.escrow import known_escrow
from cto_backups.app.own_keys import alike, key_files, separated
from cto_backups.app.wrapping import key_service_problems
from cto_backups.core.findings import Environment, Place
from cto_backups.core.governing_rules import loosened
from cto_backups.flows.report import known as known_report


def environment(opening: Opened) -> Environment:
    """What controls need to know of this machine: where keys, vaults, data and catalog lie, and on which devices."""
    accepted = opening.installation.catalog.approvals.rules()
    settings, policy = opening.configuration.settings, opening.configuration.policy
    catalog = catalog_path(opening.configuration)
    evidence = settings.evidence_key.path(settings.home)
    keys, opens = {}, {}
    for name, path, vaults in key_files(opening.configuration):
        keys[name], opens[name] = path, vaults
    if evidence is not None:
        keys["the evidence key"] = evidence
    return Environment(
        keys={name: _place(path) for name, path in keys.items()},
        vaults={name: _place(root) for name, root in local_roots(opening.configuration).items()},
        sources={
            name: tuple(_place(path) for path in local_paths(source.options)) for name, source in policy.sources.items()
        },
        ciphers=dict.fromkeys(policy.vaults, "AES-256-CTR with Poly1305-AES, in the restic format"),
        catalog=_place(catalog) if catalog is not None else None,
        loosened=loosened(accepted, policy.governance) if accepted or policy.governance else None,
        key_services=key_service_problems(opening),
        opens=opens,
        secrets=alike(opening.configuration),
        separated=separated(opening, settings.vault_keys),
        escrow=known_escrow(opening),
        report=known_report(settings.state, policy.report_to.name) if policy.report_to else None,
    )


def _place(path: Path) -> Place:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return Place(str(path), existing.stat().st_dev, existing == path)
