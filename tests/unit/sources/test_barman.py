"""What is understood of Barman: its settings, and what it says of its backups."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import SourceError
from cto_backups.sources.elsewhere.barman_program import opened, settings
from cto_backups.sources.elsewhere.barman_standing import catalogue, segments

MADE = datetime(2024, 11, 29, 3, 0, tzinfo=UTC)


def backup(hour: int, at: int, **changes: Any) -> dict[str, Any]:
    begun = MADE + timedelta(hours=hour)
    return {
        "backup_id": f"{begun:%Y%m%dT%H%M%S}",
        "status": "DONE",
        "mode": "postgres",
        "systemid": "77",
        "begin_xlog": f"0/{at * 0x1000000 + 0x28:X}",
        "end_xlog": f"0/{(at + 1) * 0x1000000:X}",
        "timeline": 1,
        "xlog_segment_size": 16 << 20,
        "begin_time": begun.isoformat(),
        "end_time": (begun + timedelta(minutes=1)).isoformat(),
        "size": 1000 + hour,
        "tablespaces": [["apart", 16384, "/srv/space"]],
        **changes,
    }


def said(folder: Path, *backups: dict[str, Any]) -> bytes:
    config = {"backup_directory": str(folder), "wals_directory": str(folder / "wals")}
    told = {"config": config, "backups": {each["backup_id"]: each for each in backups}}
    return json.dumps({"servers": {"main": told}}).encode()


def test_only_what_says_where_backups_are_is_kept_of_the_settings(tmp_path: Path) -> None:
    written = """
[barman]
barman_home = /var/lib/barman
barman_user = barman
log_file = /var/log/barman/barman.log
post_recovery_script = rm -rf /
compression = gzip
[main]
conninfo = host=db user=barman password=secret
ssh_command = ssh postgres@db
basebackups_directory = %(barman_home)s/elsewhere
pre_recovery_script = mail
[other]
conninfo = host=other
"""
    kept = settings(written, "main", tmp_path)
    assert "barman_home = /var/lib/barman\n" in kept and "compression = gzip\n" in kept
    assert "basebackups_directory = %(barman_home)s/elsewhere\n" in kept
    for other in ("_script", "secret", "ssh", "barman.log", "other"):
        assert other not in kept
    assert f"log_file = {tmp_path / 'log'}\n" in kept
    assert f"incoming_wals_directory = {tmp_path / 'nothing'}\n" in kept


@pytest.mark.parametrize(
    ("content", "server", "why"),
    [
        (None, "main", "No such file"),
        ("[barman]\n", "main", "there is no section [main]"),
        ("[barman]\n", "barman", "there is no section [barman]"),
        ("conninfo = password=secret\n", "main", "neither a section nor a setting"),
        ("[barman]\nsecret\n", "main", "neither a section nor a setting"),
    ],
)
def test_settings_without_the_server_are_an_error_that_says_why(
    tmp_path: Path, content: str | None, server: str, why: str
) -> None:
    file = tmp_path / "barman.conf"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SourceError) as raised, opened("x", "barman", server, file, tmp_path / "state", 60):
        pass
    assert why in raised.value.why and "secret" not in str(raised.value)


def test_what_the_settings_include_counts_too(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "main.conf").write_text("[main]\nbackup_directory = /srv/main\n")
    (tmp_path / "d" / "main.template").write_text("[main]\nbackup_directory = /no\n")
    file = tmp_path / "barman.conf"
    file.write_text(f"[barman]\nconfiguration_files_directory = {tmp_path / 'd'}\n")
    program = tmp_path / "barman"
    program.write_text('#!/bin/sh\nstat -c "mode=%a" "$2" >&2; cat "$2" >&2; exit 1\n')
    program.chmod(0o755)
    with opened("x", str(program), "main", file, tmp_path / "state", 60) as opening:
        with pytest.raises(Exception, match="mode=600") as raised:
            opening.look()
        assert "backup_directory = /srv/main" in str(raised.value)
    assert list((tmp_path / "state").iterdir()) == []


def test_backups_that_ended_are_those_to_begin_with(tmp_path: Path) -> None:
    waits = backup(2, 4, status="WAITING_FOR_WALS")
    failed, begun = backup(3, 5, status="FAILED"), backup(4, 6, status="STARTED", end_time=None)
    known = catalogue(said(tmp_path, backup(1, 3), waits, failed, begun, backup(0, 9, systemid="76")), "main")
    assert [each.label[-6:] for each in known.repository.backups] == ["040000", "050000"]
    assert (known.repository.system, known.repository.trouble) == ("77", "")
    assert known.unfinished(MADE) == failed["backup_id"], "it failed, however long ago"
    assert known.unfinished(MADE + timedelta(days=1)) == begun["backup_id"]
    assert known.tablespaces[waits["backup_id"]] == {"apart": 16384}
    later = catalogue(said(tmp_path, failed, backup(5, 7)), "main")
    assert later.unfinished(MADE + timedelta(days=1)) == "", "another came to its end since"


def test_where_nothing_can_be_begun_with_the_repository_says_why(tmp_path: Path) -> None:
    for document, why in (
        (said(tmp_path / "none"), f"there is no folder {tmp_path / 'none'}"),
        (said(tmp_path, backup(1, 3, status="FAILED")), "it has no backup that came to its end"),
        (said(tmp_path, backup(1, 3, mode="snapshot")), "its backups are snapshots of disks in a cloud"),
        (said(tmp_path, backup(1, 3, systemid=None)), "does not say of which server it is"),
    ):
        assert why in catalogue(document, "main").repository.trouble


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"servers": {"main": {}}}', b'{"servers": {"main": 7}}'])
def test_what_makes_no_sense_is_an_error(document: bytes) -> None:
    with pytest.raises(SourceError, match="not understood"):
        catalogue(document, "main")


def test_the_log_is_what_lies_in_its_folders(tmp_path: Path) -> None:
    folder = tmp_path / "0000000100000000"
    folder.mkdir()
    name = "000000010000000000000003"
    for file in (name, f"{name}.00000028.backup", f"{name}.partial", f".tmp.{name}"):
        (folder / file).touch()
    (tmp_path / "xlog.db").touch()
    (tmp_path / "00000002.history").touch()
    assert segments(tmp_path) == {name}
