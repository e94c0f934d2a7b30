"""What a command prints, from end to end: proven from every vault, unchanged when it is, and whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from cto_backups.core.model import Outcome
from cto_backups.errors import SourceError
from cto_backups.flows.backup import backup
from cto_backups.flows.protect import protect
from cto_backups.flows.restore import restore
from cto_backups.flows.restore_test import restore_test
from integration.conftest import build

SIZE = 9_000_000


@pytest.fixture
def dumped(tmp_path: Path) -> Any:
    """An installation that protects what a script prints."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "dump.sh").write_text(f"yes 'a row' | head -c {SIZE}")
    options = {
        "command": ("sh", "dump.sh"),
        "filename": "app.dump",
        "folder": str(data),
        "restore_command": ("sh", "-c", "cat >> restored"),
        "test_command": ("grep", "-q", "a row"),
    }
    made = build(tmp_path / "home", data, {"app": ("command", options)})
    yield made
    made.catalog.close()


def test_it_is_copied_to_every_vault_and_proven_from_each(dumped: Any) -> None:
    point = protect(dumped.installation, "app").backup.point
    assert (point.size_bytes, point.entry_count, point.paths) == (SIZE, 1, ("/app.dump",))
    for vault in ("one", "two", "three"):
        evidence = restore_test(dumped.installation, "app", vault=vault)
        assert evidence.passed, evidence.reason


def test_the_same_output_confirms_the_last_point(dumped: Any) -> None:
    first = backup(dumped.installation, "app")
    again = backup(dumped.installation, "app")
    assert not again.changed
    assert again.point.id == first.point.id
    (dumped.data / "dump.sh").write_text(f"yes 'a row' | head -c {SIZE}; echo one more")
    assert backup(dumped.installation, "app").changed


@pytest.mark.parametrize("ending", ["echo the server went away >&2; exit 1", "kill -9 $$"])
def test_what_ended_early_is_no_point_and_the_last_one_stays(dumped: Any, ending: str) -> None:
    good = backup(dumped.installation, "app").point
    (dumped.data / "dump.sh").write_text(f"yes 'a row' | head -c {SIZE // 2}; {ending}")
    with pytest.raises(SourceError, match="gave nothing whole"):
        backup(dumped.installation, "app")
    assert dumped.catalog.latest("app", complete=False).id == good.id
    assert len(dumped.installation.store("one").committed()) == 1
    assert dumped.catalog.runs("app")[0].outcome is Outcome.FAILED


def test_in_place_the_command_reads_what_came_back(dumped: Any) -> None:
    point = backup(dumped.installation, "app").point
    result = restore(dumped.installation, point, None)
    assert result.restored.places == ("read by sh",)
    assert (dumped.data / "restored").stat().st_size == SIZE


def test_nothing_damaged_is_given_to_the_command_but_what_another_vault_has_whole(dumped: Any) -> None:
    (dumped.data / "rows").write_bytes(os.urandom(SIZE))
    (dumped.data / "dump.sh").write_text("cat rows")
    point = protect(dumped.installation, "app").backup.point
    packs = [path for path in (dumped.vault_root("one") / "repositories/main/data").rglob("*") if path.is_file()]
    pack = max(packs, key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[40] ^= 1
    pack.write_bytes(content)
    result = restore(dumped.installation, point, None)
    assert result.healed == 1
    assert (dumped.data / "restored").read_bytes() == (dumped.data / "rows").read_bytes()
