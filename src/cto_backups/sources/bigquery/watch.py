"""Jobs that are under way, looked at together: one list tells of all that are done, instead of a request for each.

jobs.list gives the jobs that this login began, by their state and by when they were created:
https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list. It takes no permission of its own. A list is a
proposal all the same: whoever waits for a job looks at it by itself when no list has told of it in time, and where
there are no lists.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cto_backups import clock
from cto_backups.providers.google import FAILED, OutOfTimeError, RefusedError
from cto_backups.sources.bigquery.patience import Patience

_TELLS_ALL: Final = ("copy",)
"""Kinds of jobs of which nothing is asked but that they are done."""

Lists = Callable[[int], Sequence[Mapping[str, Any]]]
"""The jobs that are done, of those that were created since so many milliseconds after 1970."""


@dataclass(eq=False)
class _Awaited:
    kind: str
    began: float
    created: int
    told: dict[str, Any] | None = None
    is_told: threading.Event = field(default_factory=threading.Event)


class Watch:
    """The jobs of one login in one project. Thread-safe; a thread of its own asks while there are two jobs or more."""

    def __init__(self, lists: Lists) -> None:
        self.patience = Patience()
        self._lists: Lists | None = lists
        self._awaited: dict[str, _Awaited] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._listed_at = 0.0

    def wait(self, job: Mapping[str, Any], kind: str, began: float, left: float | None) -> dict[str, Any] | None:
        """Wait for a job that was begun at a moment of `clock.monotonic`, for `left` seconds at most.

        What a list said of it once it is done; None when it is to be looked at by itself.
        """
        waited = clock.monotonic() - began
        created = int(job.get("statistics", {}).get("creationTime") or 0)
        seconds = self.patience.pause(kind, waited)
        if self._lists is None or not created:
            clock.sleep(seconds if left is None else min(seconds, left))
            return None
        awaited = _Awaited(kind, began, created)
        name = job["jobReference"]["jobId"]
        with self._changed:
            self._awaited[name] = awaited
            if len(self._awaited) > 1:
                seconds = max(seconds, self.patience.overdue(kind, waited))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                    self._thread.start()
                self._changed.notify()
        try:
            awaited.is_told.wait(seconds if left is None else min(seconds, left))
        finally:
            with self._changed:
                self._awaited.pop(name, None)
        return awaited.told

    # -- lists --------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (since := self._next()) is not None:
            assert self._lists is not None
            self._listed_at = clock.monotonic()
            try:
                found = self._lists(since)
            except (RefusedError, OutOfTimeError, *FAILED):
                self._lists = None  # each job is looked at by itself from now on, which tells what is wrong
                continue
            with self._changed:
                for job in found:
                    self._tell(job)

    def _next(self) -> int | None:
        """Wait until a list may tell of something; since when it has to. None once there is too little to ask for."""
        with self._changed:
            while self._lists is not None and len(self._awaited) > 1:
                now = clock.monotonic()
                ripens, gaps, since = [], [], []
                for each in self._awaited.values():
                    waited = now - each.began
                    begins, ends = self.patience.ripe(each.kind)
                    if waited <= ends:
                        ripens.append(begins - waited)
                        gaps.append(self.patience.gap(each.kind, waited))
                        since += [each.created] if waited >= begins else []
                if ripens:
                    wait = max(min(ripens), self._listed_at + min(gaps) - now)
                    if wait <= 0:
                        return min(since)
                    self._changed.wait(wait)
                else:
                    self._changed.wait()
            self._thread = None
            return None

    def _tell(self, job: Mapping[str, Any]) -> None:
        """Pass on what is said of a job that is done, to whom waits for it. What it does not say is asked for."""
        name = (job.get("jobReference") or {}).get("jobId")
        awaited = self._awaited.get(str(name))
        if awaited is None or job.get("state") != "DONE":
            return
        statistics = job.get("statistics") or {}
        if not job.get("errorResult") and (awaited.kind in _TELLS_ALL or awaited.kind in statistics):
            awaited.told = {"jobReference": job["jobReference"], "status": {"state": "DONE"}, "statistics": statistics}
        del self._awaited[str(name)]
        awaited.is_told.set()


def took(job: Mapping[str, Any]) -> float | None:
    """For how many seconds BigQuery says that a job was under way."""
    told = job.get("statistics") or {}
    if not (told.get("creationTime") and told.get("endTime")):
        return None
    return max(int(told["endTime"]) - int(told["creationTime"]), 0) / 1000
