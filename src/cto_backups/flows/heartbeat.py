"""The workers' signs of life: given in the catalog, and to whoever watches from outside."""

import logging
import os
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from cto_backups import __version__, clock
from cto_backups.core.facts import Facts, Heartbeat
from cto_backups.core.wording import did_you_mean
from cto_backups.errors import BackupsError, NotFoundError
from cto_backups.flows.installation import Installation
from cto_backups.flows.processes import process_alive

log = logging.getLogger("cto_backups")

PING_SECONDS = 10.0
MISSED_BEATS = 2
"""After how many times the interval without a sign of life a worker is taken for dead."""


def beat(
    installation: Installation, interval: timedelta, name: str, busy_with: str = "", load: tuple[int, int] = (0, 0)
) -> None:
    """Note that this worker is alive, and gives the next sign within `interval`. A failure of that is only logged.

    `load` is how many actions it does, and how many at most.
    """
    now = clock.now()
    try:
        sign = Heartbeat(
            now,
            now + MISSED_BEATS * interval,
            installation.host,
            os.getpid(),
            busy_with,
            name,
            version=__version__,
            running=load[0],
            most=load[1],
            policy=installation.policy.digest,
            machine=machine(),
        )
        installation.catalog.beat(sign, process_alive)
    except BackupsError as error:
        log.warning("heartbeat not noted", extra={"fields": {"message": str(error)}})


@cache
def machine() -> str:
    """What tells this machine, since it was started, from any other of its name; "" where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def observed(installation: Installation, facts: Facts, now: datetime) -> Facts:
    """The facts, with the signs of life that are seen here: a process in the middle of a long action gives no other."""

    def seen(last: Heartbeat) -> Heartbeat:
        if not last.busy_with or last.host != installation.host or not process_alive(last.pid):
            return last
        return replace(last, next_by=max(now, last.next_by))

    return replace(facts, heartbeats=tuple(seen(last) for last in facts.heartbeats))


def forget(installation: Installation, name: str) -> None:
    """Forget a worker that was retired. Raises NotFoundError naming those there are."""
    if not installation.catalog.forget_worker(name):
        known = [last.name for last in installation.catalog.facts(clock.now(), ()).heartbeats]
        raise NotFoundError(
            f"There is no worker '{name}'{did_you_mean(name, known)}",
            why=f"known are: {', '.join(known) or 'none'}",
            todo="'cto.backups status --json' lists them under worker.",
        )


def ping(url: str) -> str | None:
    """Tell a dead man's switch that all is well, with a GET; what went wrong, in a sentence. Takes 10 s at most.

    The sentence names the host alone: the path of such an address is often a secret.
    """
    outcome: list[str | None] = []

    def get() -> None:
        outcome.append(_get(url))

    # A thread, since a time limit on each read does not limit all of them, nor the look-up of the name.
    thread = threading.Thread(target=get, name="dead-mans-switch", daemon=True)
    thread.start()
    thread.join(PING_SECONDS)
    problem = outcome[0] if outcome else f"no answer within {PING_SECONDS:.0f} s"
    if problem is None:
        return None
    sentence = f"The dead man's switch at {urlsplit(url).hostname} was not told that all is well: {problem}"
    log.warning("dead man's switch", extra={"fields": {"message": sentence}})
    return sentence


def _get(url: str) -> str | None:
    # Loaded when used: only a worker whose policy names an address needs it.
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        # Policy allows http and https alone.
        with urlopen(Request(url, headers={"User-Agent": "cto.backups"}), timeout=PING_SECONDS):
            return None
    except HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except URLError as error:
        reason = error.reason
        return (reason.strerror if isinstance(reason, OSError) else None) or type(reason).__name__
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
