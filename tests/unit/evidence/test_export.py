"""An export shows every tampering: to `evidence verify`, and to its own README with the stock tools of this machine."""

import csv
import io
import os
import re
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cto_backups.errors import DamageError, NotFoundError
from cto_backups.evidence import bundle, export
from cto_backups.evidence.index import Scope
from cto_backups.evidence.records import Record, sign

from . import conftest as tampering
from .conftest import BEGIN, KEY, LENGTH, OTHER_KEY, SCOPE, Files, Tampering, chain, packed

WHOLE = "Every record is there, in order, as it was signed."


def recipe(folder: Path, shell: str, heads: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script that the README of an unpacked export tells."""
    script = re.search(r"^    \($.*?^    \)$", (folder / export.ABOUT).read_text(), re.MULTILINE | re.DOTALL)
    assert script is not None
    environment = {"PATH": os.environ["PATH"], **({"HEADS": str(heads)} if heads else {})}
    return subprocess.run(
        [shell, "-c", script[0]], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def faults(path: Path, heads: Path | None = None) -> list[str]:
    """What `check` finds, also against heads from elsewhere."""
    found = bundle.check(path)
    if heads is not None:
        found.faults += bundle.beyond(found, bundle.parse_heads(heads.read_bytes()), "heads", whole=False)
    return found.faults


@pytest.fixture
def stock(required_tool: Callable[..., Path]) -> None:
    """What the README asks for."""
    required_tool("openssl", package="openssl")
    required_tool("sha256sum", package="coreutils")


def test_a_sound_export_is_whole(tmp_path: Path, heads: Path) -> None:
    path = Files.of(packed(chain(), chain(OTHER_KEY, 2))).to_zip(tmp_path / "e.zip")
    assert faults(path) == []
    found = bundle.check(path)
    assert (found.evidence, found.failed) == (LENGTH + 2, 1)
    assert {head.sequence for head in found.heads()} == {LENGTH, 2}
    alone = Files.of(packed(chain())).to_zip(tmp_path / "alone.zip")
    assert faults(alone, heads) == []


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_recipe_passes_a_sound_export(tmp_path: Path, heads: Path, shell: str) -> None:
    both = Files.of(packed(chain(), chain(OTHER_KEY, 2))).unpack(tmp_path / "both")
    done = recipe(both, shell)
    assert (done.returncode, WHOLE in done.stdout, done.stderr) == (0, True, ""), done
    assert f"{LENGTH} records" in done.stdout and KEY.fingerprint in done.stdout
    alone = Files.of(packed(chain())).unpack(tmp_path / "alone")
    assert recipe(alone, shell, heads).returncode == 0


@pytest.mark.usefixtures("stock")
def test_older_heads_do_not_make_newer_records_suspicious(tmp_path: Path, heads: Path) -> None:
    path = Files.of(longer := packed(chain(length=LENGTH + 2))).to_zip(tmp_path / "e.zip")
    assert faults(path, heads) == []
    assert recipe(Files.of(longer).unpack(tmp_path / "e"), "sh", heads).returncode == 0


def test_a_signer_that_the_heads_from_elsewhere_do_not_name_is_found(tmp_path: Path, heads: Path) -> None:
    path = Files.of(packed(chain(), chain(OTHER_KEY, 2))).to_zip(tmp_path / "e.zip")
    (fault,) = faults(path, heads)
    assert OTHER_KEY.signer in fault


@pytest.mark.parametrize("added_up", [False, True])
@pytest.mark.parametrize("tamper", tampering.TAMPERINGS)
def test_each_tampering_is_found(tmp_path: Path, tamper: Tampering, added_up: bool) -> None:
    files = Files.of(packed(chain()))
    tamper(files)
    if added_up:
        files.add_up()
    found = faults(files.to_zip(tmp_path / "e.zip"))
    assert [fault for fault in found if export.SUMS not in fault or not added_up] != []
    if added_up:  # and by the records themselves, not by what stands beside them
        assert any("record" in fault or "key" in fault or "end" in fault for fault in found), found


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("added_up", [False, True])
@pytest.mark.parametrize("tamper", tampering.TAMPERINGS)
def test_the_recipe_fails_on_each_tampering(tmp_path: Path, tamper: Tampering, added_up: bool) -> None:
    files = Files.of(packed(chain()))
    tamper(files)
    if added_up:
        files.add_up()
    done = recipe(files.unpack(tmp_path / "e"), "sh")
    assert done.returncode == 1 and "BROKEN" in done.stdout and WHOLE not in done.stdout, done
    if added_up:
        assert "SHA256SUMS" not in done.stdout, "the sums are right: the signatures and the chain must show it"


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("forge", tampering.CONSISTENT)
def test_what_is_consistent_in_itself_shows_against_heads_from_elsewhere(
    tmp_path: Path, heads: Path, forge: Callable[[], bytes]
) -> None:
    files = Files.of(forge())
    path, folder = files.to_zip(tmp_path / "e.zip"), files.unpack(tmp_path / "e")
    assert faults(path) == [] and recipe(folder, "sh").returncode == 0, "by itself nothing shows it"
    assert faults(path, heads) != []
    done = recipe(folder, "sh", heads)
    assert done.returncode == 1 and "BROKEN" in done.stdout, done


def test_an_index_that_hides_a_failed_test_is_found(tmp_path: Path) -> None:
    files = Files.of(packed(chain()))
    assert b",FAILED," in files.content[export.INDEX]
    files.content[export.INDEX] = files.content[export.INDEX].replace(b",FAILED,", b",passed,")
    files.add_up()
    (fault,) = faults(files.to_zip(tmp_path / "e.zip"))
    assert export.INDEX in fault


def test_a_period_that_was_changed_does_not_fit_the_index(tmp_path: Path) -> None:
    files = Files.of(packed(chain()))
    files.content[export.SCOPE] = files.content[export.SCOPE].replace(b"2026-03-01", b"2026-03-05")
    files.add_up()
    assert any(export.INDEX in fault for fault in faults(files.to_zip(tmp_path / "e.zip")))


def test_the_same_records_give_the_same_bytes_that_only_their_owner_reads() -> None:
    first = packed(chain(), chain(OTHER_KEY, 2))
    assert first == packed(chain(OTHER_KEY, 2), chain())
    with zipfile.ZipFile(io.BytesIO(first)) as made:
        assert {stat.S_IMODE(entry.external_attr >> 16) for entry in made.infolist()} == {0o600}


def test_the_index_has_the_evidence_of_the_period_and_the_records_all_of_it() -> None:
    scope = Scope(BEGIN.replace(day=4), BEGIN.replace(day=7), "contracts")
    files = Files.of(packed(chain(), scope=scope))
    rows = list(csv.DictReader(io.StringIO(files.content[export.INDEX].decode(), newline="")))
    assert [(row["record"], row["result"]) for row in rows] == [("3", "FAILED"), ("4", "passed"), ("5", "passed")]
    assert rows[2]["what"] == "verification", "a whole vault's verification concerns every source"
    assert "contracts-point-3 restored from vault one, FAILED" in rows[0]["in_words"]
    assert len([name for name in files.content if name.endswith(".sig")]) == LENGTH
    elsewhere = Files.of(packed(chain(), scope=Scope(SCOPE.since, SCOPE.until, "other")))
    assert [row["what"] for row in csv.DictReader(io.StringIO(elsewhere.content[export.INDEX].decode()))] == [
        "verification"
    ]


def test_a_spreadsheet_computes_nothing_of_it() -> None:
    from cto_backups.evidence.index import rendered

    assert b"'=HYPERLINK" in rendered([("=HYPERLINK(1)", "b")])


def test_the_body_and_signature_are_those_of_the_stored_record() -> None:
    files, records = Files.of(packed(chain())), chain()
    for record in records:
        body = files.content[export.body_name(record)]
        assert b'{"body":' + body + b',"digest":' in record.to_bytes()
        assert files.content[export.body_name(record).replace("json", "sig")] == record.signature
    assert isinstance(records[0], Record)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_there_twice_or_do_not_belong_are_told(tmp_path: Path) -> None:
    path = Files.of(packed(chain())).to_zip(tmp_path / "e.zip")
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(export.INDEX, b"nothing failed")
        made.writestr("../../etc/passwd", b"")
    found = faults(path)
    assert any("more than once" in fault for fault in found) and any("passwd" in fault for fault in found)


def test_a_file_too_large_for_a_record_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 1000)
    files = Files.of(packed(chain()))
    files.content[files.name(2)] = b" " * 1001
    assert any("larger than anything" in fault for fault in faults(files.to_zip(tmp_path / "e.zip")))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.zip"
    path.write_bytes(content)
    with pytest.raises(DamageError, match="no evidence export"):
        bundle.check(path)
    with pytest.raises(NotFoundError):
        bundle.check(tmp_path / "nowhere.zip")


def test_every_flipped_byte_of_an_export_is_found_or_changes_nothing(tmp_path: Path) -> None:
    sound = packed(chain(length=2))
    path = tmp_path / "e.zip"
    silent = 0
    for place in range(0, len(sound), 7):
        broken = bytearray(sound)
        broken[place] ^= 0x41
        path.write_bytes(broken)
        try:
            found = faults(path)
        except DamageError:
            continue
        if not found:  # a bit that says nothing of the content: a date, a mode
            silent += 1
            assert Files.of(bytes(broken)).content == Files.of(sound).content
    assert silent < len(sound) / 7 / 2


def test_points_with_rows_in_clear_are_counted() -> None:
    """Only earlier versions made such; they are never given away unsaid."""
    records: list[Record] = []
    for number, algorithm in enumerate(("sqlite/1", "sqlite/2", "files/1", "sqlite/1"), start=1):
        payload = {"id": f"point-{number}", "fingerprint": {"algorithm": algorithm}}
        previous = records[-1].digest if records else None
        records.append(sign(KEY, "recovery-point", payload, sequence=number, previous=previous, written_at=BEGIN))
    assert export.write(io.BytesIO(), {KEY.signer: records}, SCOPE).points_with_rows == 2
