"""What service managers are given runs the worker as it is meant, and says so in their own words."""

import plistlib
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cto_backups.cli.services import Service, cron_line, launchd_plist, systemd_timer, systemd_unit

ODD = "/srv/back ups/100%/$home"
STAYS = Service(["/usr/bin/true", "--policy", f"{ODD}/backups.yaml", "worker"], "cto-backups", Path("/"), (Path(ODD),))
ONCE = replace(STAYS, command=[*STAYS.command, "--once"], every=timedelta(minutes=15))


@pytest.mark.parametrize("service", [STAYS, ONCE, replace(STAYS, system=False), replace(ONCE, system=False)])
def test_systemd_finds_nothing_wrong_with_its_units(service: Service, tmp_path: Path) -> None:
    (tmp_path / "cto-backups.service").write_text(systemd_unit(service))
    units = [tmp_path / "cto-backups.service"]
    if service.every is not None:
        (tmp_path / "cto-backups.timer").write_text(systemd_timer(service))
        units.append(tmp_path / "cto-backups.timer")
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "cto-backups" in line]
    assert (done.returncode, ours) == (0, []), done


def test_systemd_reads_words_as_they_are_and_lets_actions_finish() -> None:
    unit = systemd_unit(STAYS)
    assert 'ExecStart="/usr/bin/true" "--policy" "/srv/back ups/100%%/$$home/backups.yaml" "worker"' in unit
    assert "KillMode=mixed" in unit and "ExecReload=/bin/kill -HUP $MAINPID" in unit and "Restart=always" in unit
    assert "OOMPolicy=continue" in unit, "or all would end with the one process that takes too much memory"
    assert 'ReadWritePaths="-/srv/back ups/100%%/$$home"' in unit
    assert "Restart" not in systemd_unit(ONCE) and "OnUnitInactiveSec=900" in systemd_timer(ONCE)
    assert "ProtectSystem" not in systemd_unit(replace(STAYS, system=False))
    with pytest.raises(ValueError, match="no timer"):
        systemd_timer(STAYS)


def test_launchd_gets_the_same_words() -> None:
    settings = plistlib.loads(launchd_plist(STAYS).encode())
    assert settings["ProgramArguments"] == STAYS.command and settings["KeepAlive"] is True
    assert plistlib.loads(launchd_plist(ONCE).encode())["StartInterval"] == 900


@pytest.mark.parametrize(
    ("minutes", "times"),
    [
        (1, "* * * * *"),
        (15, "*/15 * * * *"),
        (60, "0 * * * *"),
        (360, "0 */6 * * *"),
        (1440, "0 2 * * *"),
    ],
)
def test_cron_runs_it_as_often_as_was_said(minutes: int, times: str) -> None:
    line = cron_line(replace(ONCE, every=timedelta(minutes=minutes)))
    assert line.startswith(f"{times} cd / && ")
    assert "100\\%" in line and "'/srv/back ups" in line


def test_a_shell_reads_what_cron_passes_on_as_the_words_that_were_meant(tmp_path: Path) -> None:
    service = Service(["printf", "%s|", "a b", "$HOME", "it's"], "x", tmp_path, every=timedelta(minutes=1))
    passed_on = cron_line(service).removeprefix("* * * * * ").replace("\\%", "%")
    assert subprocess.run(["sh", "-c", passed_on], capture_output=True, text=True).stdout == "a b|$HOME|it's|"


@pytest.mark.parametrize("every", [None, timedelta(minutes=7), timedelta(hours=5), timedelta(seconds=90)])
def test_what_cron_cannot_keep_is_refused(every: timedelta | None) -> None:
    with pytest.raises(ValueError, match="so many minutes of an hour"):
        cron_line(replace(STAYS, every=every))
