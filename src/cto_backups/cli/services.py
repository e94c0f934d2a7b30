"""The texts by which service managers run a worker: a systemd unit and timer, launchd's file, a line for cron.

A unit keeps the worker from what no backup needs, and leaves it what some do: temporary folders (servers have sockets
there), devices, other users (throwaway servers run as one), and marks such as setuid on what a test restores.
"""

import plistlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
STOP_SECONDS = 3600
"""How long actions in progress may take to finish before a service manager ends them."""

_HARDENING = """\
# What a worker needs of the system is files; it writes to its own places, and where tests restore.
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
UMask=0077
"""
_USER_HARDENING = "NoNewPrivileges=yes\nLockPersonality=yes\nUMask=0077\n"


@dataclass(frozen=True, slots=True)
class Service:
    """A worker as a service: `command` runs it, `name` tells it from others, `own` are the folders that it writes to.

    `every`: it runs once, so often; None: it stays. `system`: for the whole machine, and not for one user alone.
    `variables` are set in its environment.
    """

    command: Sequence[str]
    name: str
    folder: Path
    own: Sequence[Path] = ()
    every: timedelta | None = None
    system: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


def systemd_unit(service: Service) -> str:
    """The unit of the worker."""
    stays = service.every is None
    unit = ["[Unit]", "Description=cto.backups: backups, copies, restore tests", "Wants=network-online.target"]
    unit += ["After=network-online.target", "", "[Service]", f"Type={'exec' if stays else 'oneshot'}"]
    unit += [f"WorkingDirectory={_escaped(str(service.folder))}"]
    unit += [f"Environment={_variable(name, value)}" for name, value in service.variables.items()]
    unit += [f"ExecStart={' '.join(_quoted(word) for word in service.command)}"]
    if stays:
        unit += ["ExecReload=/bin/kill -HUP $MAINPID", "Restart=always", "RestartSec=30"]
    # The worker alone is told to stop: what its processes are at is finished first.
    unit += ["KillMode=mixed", f"TimeoutStopSec={STOP_SECONDS}"]
    if stays:  # a process that takes too much memory ends with its action alone, which is quarantined in the end
        unit += ["OOMPolicy=continue"]
    unit += [(_HARDENING if service.system else _USER_HARDENING).rstrip("\n")]
    if service.system:
        unit += [f"ReadWritePaths={_quoted(f'-{folder}')}" for folder in service.own]
    if stays:
        unit += ["", "[Install]", f"WantedBy={'multi-user' if service.system else 'default'}.target"]
    return "\n".join(unit) + "\n"


def systemd_timer(service: Service) -> str:
    """The timer of a worker that runs once, so often. Raises ValueError for one that stays."""
    if service.every is None:
        raise ValueError("a worker that stays needs no timer")
    seconds = int(service.every.total_seconds())
    return (
        "[Unit]\nDescription=cto.backups: what is due, now and then\n\n"
        f"[Timer]\nOnBootSec=2min\nOnUnitInactiveSec={seconds}\nRandomizedDelaySec={min(seconds // 10, 300)}\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )


def launchd_plist(service: Service) -> str:
    """What launchd runs the worker by."""
    settings: dict[str, object] = {
        "Label": service.name,
        "ProgramArguments": list(service.command),
        "WorkingDirectory": str(service.folder),
        **({"EnvironmentVariables": dict(service.variables)} if service.variables else {}),
        "RunAtLoad": True,
        "ExitTimeOut": STOP_SECONDS,
        "Umask": 0o077,
        "ProcessType": "Background",
        "StandardOutPath": str(service.folder / "worker.log"),
        "StandardErrorPath": str(service.folder / "worker.log"),
    }
    if service.every is None:
        settings["KeepAlive"] = True
    else:
        settings["StartInterval"] = int(service.every.total_seconds())
    return plistlib.dumps(settings, sort_keys=False).decode()


def cron_line(service: Service) -> str:
    """The line of a crontab. Raises ValueError for a time between two runs that cron cannot keep."""
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in service.variables.items())
    line = f"cd {shlex.quote(str(service.folder))} && {variables}{shlex.join(service.command)}"
    return f"{_cron_times(service.every)} {line.replace('%', chr(92) + '%')}\n"


def _cron_times(every: timedelta | None) -> str:
    if every is not None and not every % MINUTE:
        minutes = every // MINUTE
        if minutes == 1:
            return "* * * * *"
        if minutes < 60 and not 60 % minutes:
            return f"*/{minutes} * * * *"
        if not minutes % 60 and minutes // 60 < 24 and not 24 % (minutes // 60):
            return "0 * * * *" if minutes == 60 else f"0 */{minutes // 60} * * *"
        if minutes == 24 * 60:
            return "0 2 * * *"
    raise ValueError(
        "cron runs something every so many minutes of an hour, or hours of a day, such as '15 min' or '6 h'"
    )


def _quoted(word: str) -> str:
    """A word in a unit's line: quoted, and what systemd would replace in it doubled."""
    return '"' + _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def _variable(name: str, value: str) -> str:
    # Unlike in a command, a dollar sign is one here.
    return _quoted(f"{name}={value}").replace("$$", "$")


def _escaped(word: str) -> str:
    return word.replace("%", "%%")
