"""Policy files for the tests of `config`."""

from collections.abc import Callable
from pathlib import Path

import pytest

SOUND = """\
version: 1
business: acme
timezone: Europe/Berlin
keys:
  repository: file:keys/repository.key
  evidence: env:EVIDENCE_KEY
vaults:
  one: {url: "file:vaults/one", provider: local-disk, region: this-machine, storage: disk}
  two: {url: "file:/mnt/disk", provider: usb, region: home, storage: tape, off_site: true, lock: none}
sources:
  checkout:
    kind: files
    class: documentation
    paths: [/srv/app, ~/notes, papers]
    exclude: ["*.pyc", .venv]
  app-repo: {kind: git, class: code-repositories, url: ../app.git}
  ledger: {kind: sqlite, class: financial-records, path: ledger.db, vaults: one}
"""


@pytest.fixture
def sound() -> str:
    """A policy in which nothing is wrong."""
    return SOUND


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a policy file with this text."""

    def write(text: str) -> Path:
        path = tmp_path / "backups.yaml"
        path.write_bytes(text.encode())
        return path

    return write
