"""What the fleet's policy says of a host's domain, as of the vault around it."""

from pathlib import Path

from cto_backups.app import enrolment
from cto_backups.config.reading import parse
from cto_backups.core.policy import LegalHolds, LockMode

POLICY = """\
version: 1
business: acme
keys: {repository: "file:keys/repository.key", evidence: "file:keys/evidence.key"}
vaults:
  cloud: {url: "s3://acme-backups/office", provider: aws, region: eu-central-1, storage: object-storage,
    lock: compliance, legal_holds: stored}
sources:
  notes: {kind: files, class: documentation, paths: [/srv/notes], vaults: [cloud]}
"""


def test_a_domain_in_a_vault_that_stores_holds_stores_them_too(tmp_path: Path) -> None:
    """A hold on what a host protects would be renewed alone, and nobody would have asked for less."""
    path = tmp_path / "backups.yaml"
    path.write_text(POLICY)
    made = enrolment._with_domain(parse(path, POLICY.encode()), "cloud", "web1").policy.vaults["cloud-web1"]
    assert (made.lock_mode, made.legal_holds) == (LockMode.COMPLIANCE, LegalHolds.STORED)
