"""What another program keeps of a server, whichever it is: which of it counts, and what is never written over."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing
from cto_backups.errors import RefusedError
from cto_backups.process import ToolError
from cto_backups.sources import elsewhere_restore
from cto_backups.sources.elsewhere import ElsewhereSource
from cto_backups.sources.elsewhere_capture import capturing
from cto_backups.sources.elsewhere_keeping import Wanted
from cto_backups.sources.elsewhere_program import Standing, Words
from cto_backups.sources.elsewhere_standing import Backup, Repository, needed, segment_bytes

MB = 1 << 20
SEGMENT = 16 * MB
MADE = datetime(2024, 11, 29, 3, 0, tzinfo=UTC)
WORDS = Words("Keeper", "keeper", "server x", "server", "keeper.json", *["keeper it"] * 6)


def backup(hour: int, at: int) -> Backup:
    """A backup that lies in one file of the log."""
    begun = MADE + timedelta(hours=hour)
    place = at * SEGMENT
    return Backup(f"b{hour}", place + 40, place + 256, 1, SEGMENT, begun, begun + timedelta(minutes=1), 1000)


class Keeper:
    """Keeps what a test says."""

    words = WORDS

    def __init__(self, *repositories: Repository) -> None:
        self._repositories = repositories

    def look(self) -> Standing:
        return Standing(b"{}", self._repositories)

    def archived(self, repository: Repository) -> Collection[str]:
        return {name for each in repository.backups for name in needed(1, each.begins, each.ends, SEGMENT)}

    def unfinished(self, repository: Repository, before: datetime) -> str:
        return ""

    def restore(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody asked for it")

    fetch: Any = restore


def test_of_two_servers_nobody_could_ask_the_one_counts_whose_backup_is_newer(tmp_path: Path) -> None:
    """Where in their logs the backups were made tells nothing of which of them is newer."""
    former = Repository("a", "/a", "76", backups=(backup(0, 900),))
    present = Repository("b", "/b", "77", backups=(backup(5, 3),))
    with capturing(Keeper(former, present), None, Wanted("x", None, 0.1), tmp_path) as capture:
        found: Fingerprint = capture.fingerprint()
    assert capture.captured_at == present.backups[-1].stopped_at
    about = {sample.key: sample.fields for sample in found.samples}
    assert about["elsewhere: a"] == {"lacks": "its backups are of another server, system 76"}
    assert about["elsewhere: b"] == {"backup": "b5"}


def test_a_running_servers_files_are_not_written_over(tmp_path: Path) -> None:
    source = ElsewhereSource("keeper", "x", {}, WORDS, lambda: pytest.fail("nobody asked for it"), state=tmp_path)
    (tmp_path / "back" / "data").mkdir(parents=True)
    (tmp_path / "back" / "data" / "postmaster.pid").touch()
    reader: Any = None
    with pytest.raises(RefusedError, match="a server runs on"):
        source.restore(reader, tmp_path / "back", existing=Existing.OVERWRITE)


def test_nothing_that_was_restored_leads_to_the_servers_own_tablespaces(tmp_path: Path) -> None:
    data, own = tmp_path / "back" / "data", tmp_path / "own"
    (data / "pg_tblspc").mkdir(parents=True)
    (tmp_path / "back" / "tablespaces" / "16384").mkdir(parents=True)
    (data / "tablespace_map").write_text(f"16384 {own}\n")
    (data / "pg_tblspc" / "16384").symlink_to(tmp_path / "back" / "tablespaces" / "16384")
    elsewhere_restore.link_from_within(data)
    assert not (data / "tablespace_map").exists()
    (data / "pg_tblspc" / "16385").symlink_to(own)
    with pytest.raises(ToolError, match="tablespace 16385 did not come back beside"):
        elsewhere_restore.link_from_within(data)


@pytest.mark.parametrize("size", [1 * MB, 16 * MB, 64 * MB])
def test_how_large_files_of_the_log_are_their_names_tell_also_when_the_last_is_full(size: int) -> None:
    begins, ends = 37 * size + 40, 39 * size
    names = needed(1, begins, ends, size)
    assert segment_bytes(1, begins, ends, names[0], names[-1]) == size
    assert segment_bytes(1, begins, ends, names[0]) == size
