"""`audit --format`: the reports of a real installation, on stdout and in files."""

import csv
import io
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus


def test_each_form_goes_to_stdout_alone_and_fails_as_the_text_does(home: Any) -> None:
    document = home("audit", "--format", "json", "--fail-on", "low")
    assert document.status is ExitStatus.RED
    assert document.document.keys() == home("audit", "--json").document.keys()
    assert document.document["failed"] is True
    findings = len(document.document["findings"])
    sarif = home("audit", "--format", "SARIF", "--fail-on", "low")
    assert sarif.status is ExitStatus.RED
    assert len(sarif.document["runs"][0]["results"]) == findings
    lines = list(csv.DictReader(io.StringIO(home("audit", "--format", "csv").out)))
    assert [line["result"] for line in lines].count("failed") == findings
    page = home("audit", "--format", "html")
    assert page.status is ExitStatus.SUCCESS
    assert page.out.startswith("<!DOCTYPE html>")
    assert page.out.endswith("</html>\n")


def test_what_lies_together_on_this_machine_is_found(home: Any) -> None:
    findings = {finding["control"]: finding for finding in home("audit", "--json").document["findings"]}
    catalog = findings["catalog"]
    assert catalog["detail"] == "its records lie only in one, two and three, on the same device as the catalog"
    assert "CP-9" in catalog["frameworks"]["NIST SP 800-53 rev. 5"]
    assert findings["keys-parted"]["severity"] == "low"
    assert findings["write-only"]["subject"] in ("data-files", "app-repository", "ledger-database")


def test_a_report_goes_to_a_file_and_the_score_to_people(home: Any, tmp_path: Path) -> None:
    file = tmp_path / "audit.sarif"
    answer = home("audit", "--format", "sarif", "--output", str(file), "--fail-on", "low")
    assert answer.status is ExitStatus.RED
    assert json.loads(file.read_text())["version"] == "2.1.0"
    assert answer.out.startswith("Audit score ")
    assert str(file) in answer.out
    quiet = home("audit", "--format", "html", "--output", str(tmp_path / "audit.html"), "--quiet")
    assert (quiet.out, quiet.status) == ("", ExitStatus.SUCCESS)
    assert (tmp_path / "audit.html").stat().st_size > 1000


def test_a_report_is_in_its_file_whole_or_the_former_one_stays(home: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        file, filler = disk / "audit.html", disk / "filler"
        file.write_text("of last week")
        with suppress(OSError), filler.open("wb", buffering=0) as full:
            while full.write(bytes(4096)):
                pass
        answer = home("audit", "--format", "html", "--output", str(file))
        assert answer.status is ExitStatus.USAGE
        assert "No space left" in answer.err
        assert file.read_text() == "of last week"
        assert sorted(path.name for path in disk.iterdir()) == ["audit.html", "filler"]
        filler.unlink()
        assert home("audit", "--format", "html", "--output", str(file)).status is ExitStatus.SUCCESS
        assert file.read_text().endswith("</html>\n")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_report_goes_through_a_pipe_as_it_comes(home: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        home("audit", "--format", "csv", "--output", str(pipe))
        assert "severity" in read.result(30).partition("\n")[0]
    assert pipe.is_fifo()


def test_reports_that_cannot_be_are_refused(home: Any, tmp_path: Path) -> None:
    for arguments, told in (
        (("--format", "sarf"), "did you mean 'sarif'?"),
        (("--format", "csv", "--json"), "ask for two answers"),
        (("--output", "x"), "--output writes no text"),
        (("--format", "csv", "--output", str(tmp_path / "none" / "x")), "No such file or directory"),
    ):
        answer = home("audit", *arguments)
        assert answer.status is ExitStatus.USAGE, answer
        assert told in answer.out + answer.err
