"""Telling, beside a worker's other work: now and then, for a part of its time at most, and never long at once."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cto_backups import clock
from cto_backups.errors import ApprovalNeededError, BackupsError, BusyError
from cto_backups.flows.desk import LONGEST_SLEEP
from cto_backups.flows.escalate import escalate_beside
from cto_backups.flows.heartbeat import ping
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed
from cto_backups.flows.report import report_beside
from cto_backups.flows.troubles import Judging, unanswered

log = logging.getLogger("cto_backups")

TELL_FACTOR: Final = 10
"""A worker judges all there is, to tell what is wrong, for a tenth of its time at most: rarely where that is much."""
JUDGE_SECONDS = 1.0
"""How long sources are judged before the worker looks again whether anything is due: with another policy, all are."""


def tell_people_and_switch(
    installation: Installation, performed: Iterable[Performed], judged: Judging | None = None
) -> Iterator[str]:
    """Tell people what is wrong, and where nothing is, the policy's dead man's switch; what went wrong, in sentences.

    The switch hears of the whole, and not of this process alone: nothing is told to it while an alert rule holds, on
    whatever host, that nobody has acknowledged; nor where somebody could not be told; nor after something of what was
    `performed` has failed. What another process is at (`BusyError`), or somebody has yet to approve, has not failed.
    With `judged`, the sources and the vaults were looked at before.
    """
    untold = escalate_beside(installation, judged)
    if untold is not None:
        yield untold
    url, waiting = installation.policy.dead_mans_switch, (BusyError, ApprovalNeededError)
    if url is None or untold is not None:
        return
    failed = next((done.error for done in performed if done.error and not isinstance(done.error, waiting)), None)
    wrong = str(failed) if failed is not None else unanswered(installation, judged)
    if wrong is not None:
        log.info("dead man's switch not told", extra={"fields": {"message": wrong}})
    elif (problem := ping(url)) is not None:
        yield problem


class Telling:
    """What one worker has yet to tell, and when it does so next. `warn` is told what went wrong with that."""

    def __init__(self, installation: Installation, stop: threading.Event, warn: Callable[[str], None]) -> None:
        self._installation, self._stop, self._warn = installation, stop, warn
        self._due = self._rested_at = self._began = clock.monotonic()
        self._performed: list[Performed] = []
        self._judging: Judging | None = None
        self._took = 0.0

    def note(self, done: Performed) -> None:
        """Something was done."""
        self._performed.append(done)

    def go_on(self, *, leads: bool, is_idle: bool, is_alone: bool) -> bool:
        """Do some more of it, where it is time, for about a second; whether all is told now.

        Whoever does not lead leaves it to who does. With `is_idle`, what was done is told at once. Unless a worker
        `is_alone`, something fails now and then, and is tried again: what matters there is what is wrong.
        """
        at = clock.monotonic()
        if self._judging is None and at < self._due and not (is_idle and self._performed and at >= self._rested_at):
            return False
        if not leads or self._stop.is_set():
            self._rest(at)
            return False
        if self._judging is None:
            self._began, self._took = at, 0.0
        try:
            is_judged = self._judge()
        except BackupsError as error:
            log.warning("not judged", extra={"fields": {"message": str(error)}})
            self._warn(f"Nobody could be told what is wrong: {error}")
            self._rest(at)
            return False
        if is_judged:
            self._tell(self._performed if is_alone else ())
        self._took += clock.monotonic() - at
        if is_judged:
            self._rest(self._began)
        return is_judged

    def _judge(self) -> bool:
        policy = self._installation.policy
        if not policy.alerts.people and policy.dead_mans_switch is None:
            return True  # nobody is to be told
        if self._judging is None:
            self._judging = Judging(self._installation)
        return self._judging.go_on(JUDGE_SECONDS)

    def _tell(self, performed: Iterable[Performed]) -> None:
        for sentence in tell_people_and_switch(self._installation, performed, self._judging):
            self._warn(sentence)
        if not self._stop.is_set() and (problem := report_beside(self._installation)):
            self._warn(problem)

    def _rest(self, began: float) -> None:
        self._performed, self._judging = [], None
        self._rested_at = clock.monotonic() + TELL_FACTOR * self._took
        self._due = max(began + LONGEST_SLEEP.total_seconds(), self._rested_at)
        self._took = 0.0
