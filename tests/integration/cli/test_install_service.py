"""What `install-service` prints and writes is what service managers read, also when a terminal shows it."""

import os
import plistlib
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import environment


def on_a_terminal(home: Any, *words: str, **variables: str) -> str:
    """What a command prints on its stdout where that is a terminal of 80 columns."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cto_backups", *words],
        env=environment(CTO_BACKUPS_POLICY=str(home.policy), COLUMNS="80", TERM="xterm", **variables),
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    said = b""
    try:
        while more := os.read(ours, 65536):
            said += more
    except OSError:  # nobody holds the other side any more
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    return said.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("words", [("systemd",), ("systemd", "--every", "15 min"), ("launchd",), ("cron",)])
def test_a_terminal_shows_what_is_to_be_in_the_file_line_by_line(home: Any, words: tuple[str, ...]) -> None:
    texts = home("install-service", *words, "--json").document["texts"]
    assert on_a_terminal(home, "install-service", *words) == "".join(texts.values())


def test_what_is_written_is_what_systemd_takes_and_is_never_overwritten(home: Any, tmp_path: Path) -> None:
    words = ("install-service", "systemd", "--every", "15 min", "--write", "--folder", str(tmp_path / "units"))
    assert home(*words).status is ExitStatus.SUCCESS
    units = sorted((tmp_path / "units").iterdir())
    assert [unit.name for unit in units] == ["cto-backups.service", "cto-backups.timer"]
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "verify", *units], check=True)
    assert home(*words).status is ExitStatus.SUCCESS  # it says so already
    units[0].write_text("mine")
    assert home(*words).status is ExitStatus.REFUSED
    assert units[0].read_text() == "mine"


def test_the_service_is_the_host_that_this_one_is_called(home: Any) -> None:
    (unit,) = home("install-service", "systemd", "--json", CTO_BACKUPS_HOST="web $1").document["texts"].values()
    assert 'Environment="CTO_BACKUPS_HOST=web $1"' in unit
    (plist,) = home("install-service", "launchd", "--json", CTO_BACKUPS_HOST="web1").document["texts"].values()
    assert plistlib.loads(plist.encode())["EnvironmentVariables"] == {"CTO_BACKUPS_HOST": "web1"}
    (line,) = home("install-service", "cron", "--json", CTO_BACKUPS_HOST="web 1").document["texts"].values()
    assert "&& CTO_BACKUPS_HOST='web 1' " in line
    (unit,) = home("install-service", "systemd", "--json").document["texts"].values()
    assert "Environment" not in unit


def test_what_the_policy_takes_from_the_environment_a_service_does_not_have(home: Any) -> None:
    assert home("install-service", "systemd", "--json").document["variables"] == []
    with home.policy.open("a") as policy:
        policy.write("\nalerts:\n  channels:\n    pager: {kind: webhook, url: env:PAGER_URL, pages: true}\n")
        policy.write("  people:\n    red-phone: {reach: [pager]}\n")
    assert home("install-service", "systemd", "--json").document["variables"] == ["PAGER_URL"]
    assert "takes PAGER_URL from the environment" in home("install-service", "cron").err
