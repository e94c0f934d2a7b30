"""What lies sealed beside a repository is opened with restic and openssl, by the commands in our reference."""

import re
import subprocess
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.evidence.records import Record, SigningKey, sign
from stock.product import PREFIX, Ours

pytestmark = pytest.mark.stock_restic

FORMATS = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"


def commands(after: str) -> str:
    """The first block of commands after these words."""
    block = re.search(r"^    .*\n(?:^    .*\n)*", FORMATS.read_text().partition(after)[2], re.MULTILINE)
    assert block is not None
    return block[0]


def test_a_sealed_record_is_opened_and_checked_by_the_documented_commands(ours: Ours, tmp_path: Path) -> None:
    record = sign(SigningKey.generate(), "run", {"said": "ünïcode"}, sequence=1, previous=None, written_at=clock.now())
    sealed = tmp_path / "00000001-run.sealed"
    sealed.write_bytes(ours.store.seal(record.to_bytes()))
    told = [commands(f"To {what} with stock tools") for what in ("open one", "check one record")]
    stock = f"'{ours.restic.binary}' -r '{ours.restic.repository}'"
    script = "\n".join(("set -eu", *told)).replace("restic -r VAULT/repositories/main", stock)
    done = subprocess.run(
        ["sh", "-c", script.replace("FILE", str(sealed))],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "RESTIC_PASSWORD": ours.restic.password},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert "Signature Verified Successfully" in done.stdout and record.digest in done.stdout
    assert Record.from_bytes((tmp_path / "RECORD").read_bytes()) == record
    assert str(ours.restic.repository).endswith(PREFIX)
