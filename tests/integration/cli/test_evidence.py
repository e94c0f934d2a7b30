"""`evidence`: listed, shown, exported and checked, with the exit statuses that scripts rely on."""

import csv
import io
import subprocess
import zipfile
from pathlib import Path

import pytest

from cto_backups.errors import ExitStatus
from cto_backups.evidence.records import SigningKey

from .conftest import Home, run


@pytest.fixture
def proven(home: Home) -> Home:
    """Two passed restore tests of the files, and a verification of a vault that is damaged."""
    assert home("test", "data-files").status is ExitStatus.SUCCESS
    assert home("test", "app-repository").status is ExitStatus.SUCCESS
    pack = next(path for path in (home.vault("one") / "repositories" / "main" / "data").rglob("*") if path.is_file())
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    assert home("verify", "one").status is ExitStatus.DAMAGE
    return home


def export(home: Home, path: Path, *options: str) -> dict[str, object]:
    answer = home("evidence", "export", "--since", "yesterday", "--for", str(path), "--json", *options)
    assert answer.status is ExitStatus.SUCCESS, answer
    document: dict[str, object] = answer.document
    return document


def test_evidence_is_listed_newest_first_passed_and_failed(proven: Home) -> None:
    found = proven("evidence", "list", "--json").document["evidence"]
    assert [(each["kind"], each["passed"]) for each in found] == [
        ("verify", False),
        ("restore_test", True),
        ("restore_test", True),
    ]
    of_files = proven("evidence", "list", "data-files", "--json").document["evidence"]
    assert [each["source"] for each in of_files] == [None, "data-files"]
    (failed,) = proven("evidence", "list", "--failed", "--json").document["evidence"]
    assert failed["vault"] == "one"
    one = proven("evidence", "list", "--limit", "1")
    assert "failed" in one.out and "There are more" in one.out
    assert proven("evidence").out == proven("evidence", "list").out
    assert proven("evidence", "list", "data-fils").status is ExitStatus.NOT_FOUND


def test_all_of_one_is_shown_with_its_record(proven: Home) -> None:
    (_, wanted) = proven("evidence", "list", "data-files", "--json").document["evidence"]
    document = proven("evidence", "show", wanted["id"], "--json").document
    record = document["record"]
    stored = proven.vault("one") / record["place"]
    assert record["digest"] in proven.opened(stored).decode() and record["faults"] == []
    told = proven("evidence", "show", wanted["id"][:-1]).out
    assert f"number {record['sequence']} of signer {record['signer']}" in told and record["digest"] in told
    assert "checksums match: True" in told and "as it was signed" in told and "hidden" not in told
    assert proven("evidence", "show", "test-").status is ExitStatus.NOT_FOUND
    assert proven("evidence", "show", "nothing").status is ExitStatus.NOT_FOUND


def test_an_export_is_handed_over_and_checked_without_the_installation(proven: Home, tmp_path: Path) -> None:
    path = tmp_path / "auditor.zip"
    document = export(proven, path)
    assert (document["evidence"], document["failed"]) == (3, 1)
    with zipfile.ZipFile(path) as packed:
        with_rows = [name for name in packed.namelist() if b"text entry " in packed.read(name)]
    assert document["points_with_rows"] == len(with_rows) == 0
    with zipfile.ZipFile(path) as packed:
        rows = list(csv.DictReader(io.StringIO(packed.read("evidence.csv").decode())))
        packed.extractall(tmp_path / "unpacked")
    assert [row["result"] for row in rows] == ["passed", "passed", "FAILED"]
    heads = tmp_path / "heads.txt"
    heads.write_text(
        proven("evidence", "export", "--since", "yesterday", "--for", str(path), "--overwrite").out.splitlines()[-1]
    )
    alone = run("evidence", "verify", str(path), "--heads", str(heads), cwd=tmp_path)
    assert alone.status is ExitStatus.SUCCESS and "intact" in alone.out, alone
    assert "compared with nothing" in run("evidence", "verify", str(path), cwd=tmp_path).err
    script = (tmp_path / "unpacked" / "README.txt").read_text().partition("Check it\n")[2]
    lines = [line for line in script.splitlines() if line.startswith("    ")]
    done = subprocess.run(
        ["sh", "-c", "\n".join(lines)], cwd=tmp_path / "unpacked", capture_output=True, text=True, check=False
    )
    assert "Every record is there" in done.stdout and "BROKEN" not in done.stdout, done
    assert done.stdout.count("records/") == 1, "the one that failed, straight from the records"


def test_an_export_is_refused_where_something_is(proven: Home, tmp_path: Path) -> None:
    path = tmp_path / "auditor.zip"
    path.write_text("the last one")
    answer = proven("evidence", "export", "--since", "yesterday", "--for", str(path))
    assert answer.status is ExitStatus.REFUSED and path.read_text() == "the last one"
    for options in (["--since", "now", "--until", "yesterday"], ["--since", "tomorrowish"]):
        assert proven("evidence", "export", "--for", str(tmp_path / "x"), *options).status is ExitStatus.USAGE


def test_damage_ends_with_its_status(proven: Home, tmp_path: Path) -> None:
    assert proven("evidence", "verify").status is ExitStatus.SUCCESS
    path = tmp_path / "auditor.zip"
    export(proven, path)
    with zipfile.ZipFile(path) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    name = next(name for name in content if name.endswith(".sig"))
    with zipfile.ZipFile(path, "w") as made:
        for each, bytes_ in content.items():
            made.writestr(each, bytes(64) if each == name else bytes_)
    answer = proven("evidence", "verify", str(path), "--json")
    assert answer.status is ExitStatus.DAMAGE and answer.document["status"] == 9
    assert any("signature" in fault for fault in answer.document["checked"][0]["faults"])
    sorted(proven.vault("two").glob("records/*/*.sealed"))[-1].unlink()
    answer = proven("evidence", "verify", "--vault", "two")
    assert answer.status is ExitStatus.DAMAGE and "cut off" in answer.err
    assert proven("evidence", "verify", "--vault", "three").status is ExitStatus.SUCCESS
    assert proven("evidence", "verify", str(path), "--vault", "two").status is ExitStatus.USAGE
    assert proven("evidence", "verify", "--heads", str(path)).status is ExitStatus.USAGE


def pin(home: Home, *fingerprints: str) -> None:
    listed = ", ".join(f'"{each}"' for each in fingerprints)
    text = home.policy.read_text().replace("\nkeys:\n", f"\nkeys:\n  evidence_fingerprints: [{listed}]\n", 1)
    home.policy.write_text(text)


def test_only_records_of_pinned_keys_count_and_old_keys_stay_valid(proven: Home) -> None:
    old = proven("evidence", "verify", "--json").document["checked"][0]["heads"][0]["fingerprint"]
    new = SigningKey.generate()
    file = proven.root / "keys" / "evidence.key"
    file.chmod(0o600)
    file.write_text(new.secret())
    assert proven("test", "data-files").status is ExitStatus.SUCCESS
    before = proven.policy.read_text()
    pin(proven, old)
    refused = proven("backup")
    assert refused.status is ExitStatus.POLICY and new.fingerprint in refused.err
    assert proven("points").status is ExitStatus.SUCCESS, "what only reads goes on"
    assert proven("evidence", "verify").status is ExitStatus.DAMAGE
    proven.policy.write_text(before)
    pin(proven, old, new.fingerprint)
    assert proven("backup").status is ExitStatus.SUCCESS
    assert proven("evidence", "verify").status is ExitStatus.SUCCESS
    proven.policy.write_text(before)
    pin(proven, "4bfa")
    mistake = proven("status")
    assert mistake.status is ExitStatus.POLICY and "64 hexadecimal digits" in mistake.err
