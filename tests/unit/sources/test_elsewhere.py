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
from cto_backups.sources.elsewhere import restore as elsewhere_restore
from cto_backups.sources.elsewhere.capture import capturing
from cto_backups.sources.elsewhere.keeping import Wanted
from cto_backups.sources.elsewhere.program import Standing, Words
from cto_backups.sources.elsewhere.source import ElsewhereSource
from cto_backups.sources.elsewhere.standing import Backup, Repository, needed, segment_bytes
from cto_backups.sources.postgresql.recovery import Moments

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


class Restoring(Keeper):
    """Writes what is just enough to recover from."""

    def restore(self, repository: Any, backup: Any, data: Path, tablespaces: Path, *, again: bool) -> None:
        (data / "pg_tblspc").mkdir()
        (data / "postgresql.auto.conf").write_text("archive_mode = 'on'\nrecovery_target_time = 'of somebody'\n")

    def fetch(self, repository: Any, name: str, data: Path, into: Path) -> bool:
        into.touch()
        return True


@pytest.mark.parametrize(
    ("target", "set_to"), [(3 * SEGMENT + 256, "'0/3000100'"), (4 * SEGMENT, "''")], ids=["within", "at its end"]
)
def test_recovery_ends_where_the_log_of_the_point_does(tmp_path: Path, target: int, set_to: str) -> None:
    """At the end of a file no record begins that could be waited for: there, all that was fetched is the target."""
    repository = Repository("a", "/a", "77", backups=(backup(0, 3),))
    end = Moments("77", 1, {}, target, target, 0, MADE, MADE, MADE, "", ())
    elsewhere_restore.write(Restoring(repository), "x", tmp_path, end, tmp_path)
    last: dict[str, str] = {}
    for line in (tmp_path / "data" / "postgresql.auto.conf").read_text().splitlines():
        name, _, value = line.partition(" = ")
        last[name] = value
    assert last["recovery_target_lsn"] == set_to
    assert last["recovery_target_time"] == "''"
    assert last["archive_mode"] == "'off'"
    assert sorted(path.name for path in (tmp_path / "wal").iterdir()) == needed(1, 3 * SEGMENT, target, SEGMENT)


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
