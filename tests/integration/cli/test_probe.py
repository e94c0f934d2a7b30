"""The user's own probe has the last word on what came back: rung "serving", or a failed restore test."""

import json
import sys

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home

SOURCE = "ledger-database"


def probing(home: Home, script: str, *, timeout: str = "1 minute", shell: str = "/bin/sh") -> None:
    """Let the database's restore tests run a script."""
    probe = home.root / "probe"
    probe.write_text(f"#!{shell}\n{script}\n")
    probe.chmod(0o700)
    text = home.policy.read_text()
    head = f"  {SOURCE}:\n"
    assert head in text
    home.policy.write_text(text.replace(head, f"{head}    probe: [{probe}]\n    probe_timeout: {timeout}\n"))


def rungs(home: Home) -> dict[str, str]:
    document = home("status", SOURCE, "--json").document
    (source,) = document["sources"]
    tested = [copy for copy in source["ladders"] if any(step["rung"] == "serving" for step in copy["steps"])]
    return {step["rung"]: step["standing"] for step in tested[0]["steps"]} | {"now": source["rung"]} if tested else {}


def test_data_that_serves_stands_on_the_highest_rung(home: Home) -> None:
    count = (
        "sqlite3.connect(next(pathlib.Path().rglob('ledger.db'))).execute('SELECT count(*) FROM entries').fetchone()[0]"
    )
    probing(home, f"import pathlib, sqlite3, sys\nsys.exit({count} != 500)", shell=sys.executable)
    answer = home("test", SOURCE, "--json")
    assert answer.status is ExitStatus.SUCCESS, answer
    (evidence,) = answer.document["tests"]
    assert evidence["rung"] == "serving"
    assert [step["name"] for step in evidence["steps"]][-2:] == ["probe", "cleanup"]
    told = home("test", SOURCE)
    assert "says that it serves" in told.out
    standing = rungs(home)
    assert (standing["serving"], standing["proven"], standing["now"]) == ("holds", "holds", "serving")


@pytest.mark.parametrize(
    ("script", "timeout", "words"),
    [
        ("echo no customers in it >&2; exit 3", "1 minute", "no customers in it"),
        ("sleep 60", "1 seconds", "it was not done after 1 seconds"),
        ("kill -9 $$", "1 minute", "says that what came back does not serve"),
    ],
)
def test_a_probe_that_says_no_fails_the_test_though_all_is_equal(
    home: Home, script: str, timeout: str, words: str
) -> None:
    probing(home, script, timeout=timeout)
    answer = home("test", SOURCE)
    assert answer.status is ExitStatus.VERIFICATION and words in answer.err
    standing = rungs(home)
    assert (standing["serving"], standing["proven"]) == ("failed", "holds")
    assert home("status", SOURCE, "--json").document["sources"][0]["status"] == "FAILED_TEST"
    assert list((home.root / "state" / "sandboxes").iterdir()) == []


def test_a_probe_that_is_not_there_has_failed(home: Home) -> None:
    probing(home, "exit 0")
    (home.root / "probe").unlink()
    answer = home("test", SOURCE)
    assert answer.status is ExitStatus.VERIFICATION and "is not installed" in answer.err


def test_a_probe_sees_where_it_is_and_no_secret(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    told = home.root / "told.json"
    script = f"import json, os\njson.dump({{**os.environ, 'cwd': os.getcwd()}}, open({str(told)!r}, 'w'))"
    probing(home, script, shell=sys.executable)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert home("test", SOURCE).status is ExitStatus.SUCCESS
    seen = json.loads(told.read_text())
    assert seen["cwd"] == seen["CTO_BACKUPS_RESTORED"] and seen["CTO_BACKUPS_SOURCE"] == SOURCE
    assert seen["CTO_BACKUPS_POINT"].startswith(SOURCE) and "AWS_SECRET_ACCESS_KEY" not in seen
