"""What is understood of pgBackRest: its settings, what it says of its repositories, and which of it leads where."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import RestoreError, SourceError
from cto_backups.process import ToolError
from cto_backups.sources.elsewhere import keeping
from cto_backups.sources.elsewhere import pgbackrest_standing as pgbackrest_standing
from cto_backups.sources.elsewhere import restore as elsewhere_restore
from cto_backups.sources.elsewhere.capture import Remembered
from cto_backups.sources.elsewhere.keeping import Wanted, kept, start
from cto_backups.sources.elsewhere.pgbackrest_program import opened, settings, words
from cto_backups.sources.elsewhere.pgbackrest_standing import segments, unfinished
from cto_backups.sources.elsewhere.primary import Primary
from cto_backups.sources.elsewhere.program import Standing
from cto_backups.sources.elsewhere.standing import Repository, gap, needed
from cto_backups.sources.postgresql.log import segment_name
from cto_backups.sources.postgresql.point import Moments

MB = 1 << 20
MADE = datetime(2024, 11, 29, 3, 0, tzinfo=UTC)


def backup(number: int, at: int, *, timeline: int = 1, size: int = 16 * MB, repo: int = 1, **changes: Any) -> Any:
    """What `info` says of a backup that lies in one file of the log."""
    name = segment_name(timeline, at, size)
    begun = MADE + timedelta(hours=number)
    return {
        "label": f"{begun:%Y%m%d-%H%M%S}F",
        "lsn": {"start": f"0/{at * size + 0x28:X}", "stop": f"0/{at * size + 0x100:X}"},
        "archive": {"start": name, "stop": name},
        "timestamp": {"start": int(begun.timestamp()), "stop": int(begun.timestamp()) + 60},
        "info": {"size": 1000 + number},
        "database": {"id": 1, "repo-key": repo},
        "error": False,
        **changes,
    }


def info(*backups: Any, repos: int = 1, status: int = 0, **changes: Any) -> bytes:
    stanza = {
        "name": "main",
        "archive": [{"database": {"id": 1, "repo-key": n + 1}, "id": "15-1"} for n in range(repos)],
        "backup": list(backups),
        "db": [{"id": 1, "repo-key": n + 1, "system-id": 77, "version": "15"} for n in range(repos)],
        "repo": [
            {"cipher": "none", "key": n + 1, "status": {"code": status, "message": "so so" if status else "ok"}}
            for n in range(repos)
        ],
        **changes,
    }
    return json.dumps([stanza]).encode()


def moments(ends: int, *, timeline: int = 1, first: int | None = None) -> Moments:
    return Moments("77", timeline, {"a": first} if first else {}, ends, ends, 0, MADE, MADE, MADE, "", ())


def repositories(told: bytes, stanza: str) -> tuple[Repository, ...]:
    return pgbackrest_standing.repositories(told, stanza, "/etc/pgbackrest")


class Asked:
    """What answers as the program would, from what a test says."""

    words = words("main")

    def __init__(self, told: bytes, archived: list[list[str]], listed: list[str] | None = None) -> None:
        self._told = told
        self._archived = archived
        self._listed = listed or []
        self.asked = 0

    def look(self) -> Standing:
        return Standing(self._told, repositories(self._told, "main"))

    def archived(self, repository: Repository) -> list[str]:
        found = self._archived[min(self.asked, len(self._archived) - 1)]
        self.asked += 1
        return found

    def unfinished(self, repository: Repository, before: datetime) -> str:
        return unfinished(repository, self._listed, before)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_only_what_says_where_repositories_are_is_kept_of_the_settings() -> None:
    written = """
[global]
repo1-path=/srv/backups
repo1-cipher-pass=secret
 repo2-s3-bucket = far
log-path=/var/log/other
process-max=4
spool-path=/var/spool
[main]
pg1-path=/var/lib/postgresql
pg1-host=db
recovery-option=restore_command=rm
"""
    assert settings(written).split("\n") == [
        "[global]",
        "repo1-path=/srv/backups",
        "repo1-cipher-pass=secret",
        " repo2-s3-bucket = far",
        "process-max=4",
        "[main]",
        "",
    ]


def test_the_program_is_given_private_settings_and_the_repositories_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pgbackrest"
    program.write_text('#!/bin/sh\nenv; stat -c "mode=%a" "${1#--config=}"; cat "${1#--config=}"; echo "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PGBACKREST_REPO1_CIPHER_PASS", "secret")
    monkeypatch.setenv("PGBACKREST_PG1_PATH", "/var/lib/postgresql")
    monkeypatch.setenv("OTHER_SECRET", "of somebody")
    with opened("x", str(program), "main", None, "/srv/backups", tmp_path / "state", 60) as opening:
        said = opening._run("info", "--output=json").decode()
    assert "PGBACKREST_REPO1_CIPHER_PASS=secret" in said
    assert "PGBACKREST_PG1_PATH" not in said and "OTHER_SECRET" not in said
    assert "mode=600" in said and "repo1-path=/srv/backups" in said
    assert "--stanza=main" in said and "info --output=json" in said
    assert list((tmp_path / "state").iterdir()) == []


def test_what_the_program_complains_of_is_told_whole(tmp_path: Path) -> None:
    program = tmp_path / "pgbackrest"
    program.write_text(
        "#!/bin/sh\necho 'ERROR: [042]: unable to get 1:' >&2\necho '       it is damaged' >&2\nexit 42\n"
    )
    program.chmod(0o755)
    with (
        opened("x", str(program), "main", None, "/srv/backups", tmp_path / "state", 60) as opening,
        pytest.raises(ToolError) as raised,
    ):
        opening.look()
    assert raised.value.detail == "ERROR: [042]: unable to get 1: it is damaged"


def test_settings_that_cannot_be_read_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError) as raised,
        opened("x", "pgbackrest", "main", tmp_path / "none.conf", "", tmp_path / "state", 60),
    ):
        pass
    assert "none.conf" in raised.value.why and "`config`" in raised.value.todo


# -- what stands there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1 * MB, 16 * MB, 64 * MB, 1024 * MB])
def test_the_size_of_files_of_the_log_is_what_their_names_tell(size: int) -> None:
    (found,) = repositories(info(backup(0, 3, size=size)), "main")
    assert found.backups[0].segment_bytes == size


def test_what_cannot_be_told_is_taken_for_usual() -> None:
    (found,) = repositories(info(backup(0, 0)), "main")
    assert found.backups[0].segment_bytes == 16 * MB


def test_backups_of_the_newest_database_count_alone() -> None:
    old, new = backup(0, 2), backup(1, 3)
    new["database"]["id"] = 2
    databases = [{"id": 1, "repo-key": 1, "system-id": 76}, {"id": 2, "repo-key": 1, "system-id": 77}]
    archive = [{"database": {"id": 2, "repo-key": 1}, "id": "16-2"}]
    (found,) = repositories(info(old, new, db=databases, archive=archive), "main")
    assert [each.label for each in found.backups] == [new["label"]]
    assert (found.system, found.archive, found.trouble) == ("77", "16-2", "")
    (found,) = repositories(info(old, db=databases, archive=archive), "main")
    assert found.trouble == "it has no backup of the stanza's newest database"


def test_a_repository_with_trouble_says_so() -> None:
    (found,) = repositories(info(backup(0, 2), status=99), "main")
    assert found.trouble == "so so"
    (found,) = repositories(info(db=[]), "main")
    assert found.trouble == "it holds nothing of this stanza"
    assert repositories(info(name="other"), "main") == ()


@pytest.mark.parametrize("document", [b"", b"[{}]", b'[{"name": "main"}]', b'[{"name": "main", "repo": [7]}]', b"{"])
def test_what_makes_no_sense_is_an_error(document: bytes) -> None:
    with pytest.raises(SourceError, match="not understood"):
        repositories(document, "main")


def test_files_of_the_log_from_one_place_to_another() -> None:
    size = 16 * MB
    assert needed(1, 5, 5, size) == ["0" * 7 + "1" + "0" * 16]
    assert needed(1, 5, size, size) == ["000000010000000000000000"]
    assert needed(2, 255 * size, 256 * size + 1, size) == ["0000000200000000000000FF", "000000020000000100000000"]


def test_whole_files_of_the_log_are_told_from_others() -> None:
    name = "000000010000000000000002"
    mark = "0" * 40
    listed = [
        f"15-1/{name}-{mark}.zst",
        f"{name[:-1]}3-{mark}",
        f"{name[:-1]}4.partial-{mark}",
        f"{name}.00000028.backup",
    ]
    assert segments(listed) == {name, name[:-1] + "3"}


def test_a_gap_is_told_in_few_words() -> None:
    assert gap(["a", "b"], {"a", "b"}) == ""
    assert gap(["a", "b"], {"a"}) == "the log has a gap: b is not in its archive"
    assert gap(["a", "b", "c"], {"b"}) == "the log has a gap: a and 1 more, up to c, is not in its archive"


def test_a_backup_that_never_ended_is_found_once_it_is_late() -> None:
    (found,) = repositories(info(backup(1, 2)), "main")
    listed = ["20241129-000000F", "20241129-040000F", "20241129-050000F_20241129-060000I", "backup.info", "latest"]
    assert unfinished(found, listed, MADE) == ""
    assert unfinished(found, listed, MADE + timedelta(hours=4)) == "20241129-050000F_20241129-060000I"


@pytest.mark.parametrize("hours", [-9.5, -3.0, 0.0, 5.75, 14.0])
def test_labels_are_in_the_time_zone_of_who_made_the_backups(hours: float) -> None:
    ahead = timedelta(hours=hours)
    begun = MADE + timedelta(hours=1)
    known = backup(1, 2, label=f"{begun + ahead + timedelta(seconds=7):%Y%m%d-%H%M%S}F")
    (found,) = repositories(info(known), "main")
    left = f"{MADE + timedelta(hours=4) + ahead:%Y%m%d-%H%M%S}F"
    assert unfinished(found, [known["label"], left], MADE + timedelta(hours=3, minutes=59)) == ""
    assert unfinished(found, [known["label"], left], MADE + timedelta(hours=4, minutes=1)) == left


# -- what keeps a point -----------------------------------------------------------------------------------------------

WANTED = Wanted("x", None, 0.2)


def test_recovery_begins_at_the_newest_backup_before_the_first_moment() -> None:
    (found,) = repositories(info(backup(0, 2), backup(1, 4), backup(2, 9)), "main")
    size = 16 * MB
    begin = start(found, moments(7 * size, first=5 * size))
    assert begin is not None and begin.begins // size == 4
    assert start(found, moments(7 * size, first=size)) is None
    assert start(found, moments(7 * size, timeline=2)) is None


def archive_of(*numbers: int) -> list[str]:
    return [segment_name(1, number, 16 * MB) for number in numbers]


def test_the_archive_is_waited_for() -> None:
    told = info(backup(0, 2))
    program: Any = Asked(told, [archive_of(2), archive_of(2, 3), archive_of(2, 3, 4)])
    found = kept(program, repositories(told, "main"), moments(4 * 16 * MB + 5), 16 * MB, Wanted("x", None, 30))
    assert [each.repository for each in found.holding] == ["repo1"]
    assert (found.size_bytes, program.asked) == (1000, 3)


def test_an_archive_that_never_gets_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    told = info(backup(0, 2))
    program: Any = Asked(told, [archive_of(2)])
    found = kept(program, repositories(told, "main"), moments(4 * 16 * MB + 5), 16 * MB, WANTED)
    assert found.holding == ()
    assert "up to 000000010000000000000004" in found.keeping[0].lacks
    # What lies between is missing, and what follows it is there: nobody waits for long.
    monkeypatch.setattr(keeping, "_OUT_OF_ORDER_SECONDS", 0.0)
    program = Asked(told, [archive_of(2, 4)])
    found = kept(program, repositories(told, "main"), moments(4 * 16 * MB + 5), 16 * MB, Wanted("x", None, 1e9))
    assert "000000010000000000000003" in found.keeping[0].lacks


def test_what_else_is_wrong_in_a_repository_is_remarked() -> None:
    label = f"{MADE + timedelta(hours=5):%Y%m%d-%H%M%S}F"
    told = info(backup(0, 2), backup(1, 3), backup(2, 4, error=True))
    program: Any = Asked(told, [archive_of(3, 4)], [label])
    wanted = Wanted("x", timedelta(days=1), 0.2)
    (found,) = kept(program, repositories(told, "main"), moments(4 * 16 * MB + 0x100), 16 * MB, wanted).keeping
    assert found.lacks == ""
    assert found.damage.endswith("pages with wrong checksums were found")
    assert not found.holds
    assert f"backup {label} was begun, and never ended" in found.remark
    assert "policy expects one every 24 h" in found.remark
    assert "backup 20241129-030000F does not come back: the log has a gap" in found.remark


def test_a_repository_that_leads_nowhere_says_why() -> None:
    told = info(backup(0, 2), backup(1, 9, repo=2), repos=2)
    program: Any = Asked(told, [archive_of(2, 3, 4, 9)])
    found = kept(program, repositories(told, "main"), moments(4 * 16 * MB), 16 * MB, WANTED)
    assert [each.lacks.partition("F, ")[2] for each in found.keeping] == ["", "ended later, and none leads there"]
    found = kept(program, repositories(told, "main"), moments(4 * 16 * MB, timeline=2), 16 * MB, WANTED)
    assert [each.lacks.partition("F, ")[2] for each in found.keeping] == ["is of timeline 1, and not of 2"] * 2
    told = info(backup(0, 2), status=99)
    found = kept(program, repositories(told, "main"), moments(4 * 16 * MB), 16 * MB, WANTED)
    assert [each.lacks for each in found.keeping] == ["so so"]


class Broken(Asked):
    """Restores from the repositories in `sound` alone."""

    def __init__(self, told: bytes, archived: list[list[str]], sound: set[str]) -> None:
        super().__init__(told, archived)
        self.sound = sound
        self.tried: list[str] = []

    def restore(self, repository: Any, backup: Any, data: Path, tablespaces: Path, *, again: bool) -> None:
        self.tried.append(repository.name)
        if repository.name not in self.sound:
            raise ToolError("pgbackrest", 29, "it is damaged")
        (data / "pg_tblspc").mkdir(exist_ok=True)

    def fetch(self, repository: Any, name: str, data: Path, into: Path) -> bool:
        into.touch()
        return True


THREE = info(backup(0, 2), backup(0, 2, repo=2), backup(1, 9, repo=3), repos=3)


def test_a_restore_takes_what_comes_back_and_a_test_what_has_its_turn(tmp_path: Path) -> None:
    program: Any = Broken(THREE, [archive_of(2, 3)], {"repo2"})
    state, end = tmp_path / "state", moments(4 * 16 * MB)
    state.mkdir()

    def written(name: str, *, one_copy: bool) -> str:
        program.tried.clear()
        (tmp_path / name).mkdir()
        return elsewhere_restore.write(program, "x", tmp_path / name, end, state, one_copy=one_copy)

    told = written("restored", one_copy=False)
    assert "the data came from pgBackRest's repo2: backup 20241129-030000F" in told
    assert "repo1, backup 20241129-030000F: it is damaged" in told
    assert Moments.read((tmp_path / "restored" / "moments.json").read_bytes()).begins == 2 * 16 * MB + 0x28
    for number in range(2):
        with pytest.raises(RestoreError, match="does not come back") as raised:
            written(f"test {number}", one_copy=True)
        assert program.tried == ["repo1"], "it fails until it is put right"
        assert "it is damaged" in raised.value.why
    program.sound.add("repo1")
    tested = []
    for number in range(3):
        written(f"again {number}", one_copy=True)
        tested += program.tried
        elsewhere_restore.passed(state)
    assert tested == ["repo1", "repo2", "repo1"]
    (state / "turn").write_text("no number")
    assert "repo1" in written("at last", one_copy=True)


def test_what_leads_nowhere_is_not_restored() -> None:
    program: Any = Asked(THREE, [archive_of(2, 3)])
    end = moments(4 * 16 * MB)
    assert [each.name for each, _ in elsewhere_restore.choose(program, "x", end)] == ["repo1", "repo2"]
    for wanted, why in (
        (moments(16 * MB), "no backup in it leads there"),
        (moments(5 * 16 * MB), "the log has a gap"),
        (replace(end, system="78"), "it is of another server now, system 77"),
    ):
        with pytest.raises(RestoreError, match="no repository of pgBackRest leads") as raised:
            elsewhere_restore.choose(program, "x", wanted)
        assert f"repo1: {why}" in raised.value.why


def remembered(tmp_path: Path, age: timedelta, **changes: Any) -> tuple[Remembered, Primary]:
    found = Fingerprint("postgresql-physical/1", {"a: rows": "ab"}, {"rows": 1}, (Sample("server", {"version": "15"}),))
    before = replace(moments(7 * 16 * MB, first=5 * 16 * MB), tablespaces=(16385,))
    Remembered({"repo1": "F"}, clock.now() - age, before, found).keep(tmp_path)
    again = Remembered.last(tmp_path)
    assert again is not None and (again.fingerprint, again.moments) == (found, before)
    primary = Primary("77", 1, 16 * MB, ("a",), (16385,), Sample("server", {}))
    return again, replace(primary, **changes)


def test_what_was_summed_up_serves_until_there_is_another_backup(tmp_path: Path) -> None:
    before, primary = remembered(tmp_path, timedelta(hours=3))
    (older,) = repositories(info(backup(0, 4), backup(1, 6)), "main")
    (newer,) = repositories(info(backup(1, 6)), "main")
    assert before.goes_on({"repo1": "F"}, primary, [older], None)
    assert not before.goes_on({"repo1": "G"}, primary, [older], None)
    assert before.goes_on({"repo1": "G"}, primary, [older], timedelta(hours=4)), "recovery begins at an older one"
    assert not before.goes_on({"repo1": "G"}, primary, [newer], timedelta(hours=4)), "which is not there any more"
    assert not before.goes_on({"repo1": "G"}, primary, [older], timedelta(hours=2))
    for changes in ({"system": "78"}, {"timeline": 2}, {"databases": ("a", "b")}, {"tablespaces": ()}):
        before, primary = remembered(tmp_path, timedelta(hours=3), **changes)
        assert not before.goes_on({"repo1": "F"}, primary, [older], None), changes


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"labels": {}, "moments": "x"}'])
def test_what_is_remembered_and_makes_no_sense_is_forgotten(tmp_path: Path, content: str) -> None:
    assert Remembered.last(tmp_path) is None
    (tmp_path / "sums.json").write_text(content)
    assert Remembered.last(tmp_path) is None


def test_links_to_tablespaces_lead_within_what_was_restored(tmp_path: Path) -> None:
    (tmp_path / "data" / "pg_tblspc").mkdir(parents=True)
    (tmp_path / "tablespaces" / "apart").mkdir(parents=True)
    (tmp_path / "tablespaces" / "apart" / "file").touch()
    link = tmp_path / "data" / "pg_tblspc" / "16385"
    link.symlink_to(tmp_path / "tablespaces" / "apart")
    elsewhere_restore.link_from_within(tmp_path / "data")
    assert not link.readlink().is_absolute()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("data", "tablespaces"):
        (tmp_path / name).rename(moved / name)
    assert (moved / "data" / "pg_tblspc" / "16385" / "file").exists()
