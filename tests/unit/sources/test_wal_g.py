"""What is understood of WAL-G: its settings, what it lists, and where it is told to write."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import SourceError
from cto_backups.sources.elsewhere.wal_g_program import opened
from cto_backups.sources.elsewhere.wal_g_standing import repository, restore_specification, segments
from cto_backups.sources.postgresql.log import segment_name

MB = 1 << 20
MADE = datetime(2024, 11, 29, 3, 0, tzinfo=UTC)


def backup(hour: int, at: int, *, delta: str = "", size: int = 16 * MB, **changes: Any) -> dict[str, Any]:
    begun = MADE + timedelta(hours=hour)
    first = segment_name(1, at, size)
    return {
        "backup_name": f"base_{first}{delta and '_D_'}{delta}",
        "wal_file_name": first,
        "start_time": f"{begun:%Y-%m-%dT%H:%M:%S}.5Z",
        "finish_time": f"{begun:%Y-%m-%dT%H:%M:%S}.75Z",
        "start_lsn": at * size + 40,
        "finish_lsn": at * size + 256,
        "system_identifier": 77,
        "uncompressed_size": 1000,
        **changes,
    }


def listed(*backups: dict[str, Any]) -> Any:
    return repository(json.dumps(backups).encode(), "/srv/wal-g", "")


def test_backups_of_the_newest_server_count_the_oldest_first() -> None:
    found = listed(backup(3, 5), backup(1, 900, system_identifier=76), backup(2, 4))
    assert [each.begins // (16 * MB) for each in found.backups] == [4, 5]
    assert (found.system, found.trouble, found.name) == ("77", "", "storage")
    assert found.backups[0].started_at == MADE + timedelta(hours=2, seconds=0.5)


def test_a_delta_is_as_large_as_what_it_is_one_of() -> None:
    found = listed(backup(0, 1), backup(1, 2, delta=segment_name(1, 1, 16 * MB), uncompressed_size=5))
    assert [each.size_bytes for each in found.backups] == [1000, 1000]
    found = listed(backup(0, 1), backup(1, 2, uncompressed_size=5))
    assert [each.size_bytes for each in found.backups] == [1000, 5], "a full one is what it is"


def test_a_storage_without_a_backup_says_so() -> None:
    assert repository(b"", "/x", "").trouble == "it has no backup"
    assert "does not say of which server" in listed(backup(0, 1, system_identifier=None)).trouble


@pytest.mark.parametrize("document", [b"{", b"[{}]", b"[7]", b"7", b'{"backup_name": "x"}'])
def test_what_makes_no_sense_is_an_error(document: bytes) -> None:
    with pytest.raises(SourceError, match="not understood"):
        repository(document, "/x", "")


@pytest.mark.parametrize("size", [1 * MB, 16 * MB, 64 * MB])
def test_the_log_is_what_each_timeline_has_without_what_is_missing(size: int) -> None:
    last = (1 << 32) // size + 1
    names = [segment_name(1, number, size) for number in range(last - 3, last + 1)]
    shown = {"id": 1, "start_segment": names[0], "end_segment": names[-1], "missing_segments": [names[1]]}
    other = {"id": 2, "start_segment": segment_name(2, 9, size), "end_segment": segment_name(2, 9, size)}
    document = json.dumps([shown, {**other, "missing_segments": None}]).encode()
    assert segments(document, size) == {names[0], names[2], names[3], segment_name(2, 9, size)}
    assert segments(b"", size) == frozenset()
    for odd in (b"{", b"[7]", b'[{"id": 1}]'):
        with pytest.raises(ValueError, match=r"."):
            segments(odd, size)


def test_no_tablespace_is_written_to_where_the_server_has_its_own(tmp_path: Path) -> None:
    spec = {"base_prefix": "/var/lib/postgresql", "tablespaces": ["16384"]}
    spec["16384"] = {"loc": "/srv/space", "link": "pg_tblspc/16384"}  # type: ignore[assignment]
    sentinel = json.dumps({"Spec": spec}).encode()
    where = restore_specification(sentinel, tmp_path / "data", tmp_path / "tablespaces")
    assert where == {
        "base_prefix": str(tmp_path / "data"),
        "tablespaces": ["16384"],
        "16384": {"loc": str(tmp_path / "tablespaces" / "16384"), "link": "pg_tblspc/16384"},
    }
    assert restore_specification(b"{}", tmp_path, tmp_path)["tablespaces"] == []
    for odd in (b"", b"[]", b'{"Spec": {"tablespaces": ["../x"]}}'):
        with pytest.raises(ValueError, match=r"."):
            restore_specification(odd, tmp_path, tmp_path)


def test_the_program_is_given_its_variables_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "wal-g"
    program.write_text('#!/bin/sh\n{ env | grep -E "WALG|PG" || true; echo "$@"; } >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("WALG_LIBSODIUM_KEY", "of-the-storage")
    monkeypatch.setenv("PGPASSWORD", "secret")
    with opened("x", str(program), None, "/srv/wal-g", tmp_path / "state", 60) as opening:
        with pytest.raises(Exception, match="WALG_LIBSODIUM_KEY") as raised:
            opening.look()
        said = str(raised.value)
        assert "PGPASSWORD" not in said and "--config" in said
        assert opening._cipher() == "libsodium"
    monkeypatch.delenv("WALG_LIBSODIUM_KEY")
    file = tmp_path / "wal-g.json"
    file.write_text('{"WALG_FILE_PREFIX": "/srv/wal-g", "WALG_PGP_KEY_PATH": "/etc/key"}')
    with opened("x", str(program), file, "", tmp_path / "state", 60) as opening:
        assert opening._cipher() == "openpgp"
    with pytest.raises(SourceError) as missing, opened("x", "wal-g", tmp_path / "none", "", tmp_path / "state", 60):
        pass
    assert "No such file" in missing.value.why
