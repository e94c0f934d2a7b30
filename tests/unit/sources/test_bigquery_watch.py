"""Jobs of BigQuery that are under way, looked at together; and what happens where a list says less than it should."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from cto_backups.core.limits import UNLIMITED, Limit
from cto_backups.errors import SourceError
from cto_backups.providers import pauses
from cto_backups.providers.google import GoogleClient, OutOfTimeError, RefusedError
from cto_backups.sources.bigquery.client import PASSING, BigQuery
from cto_backups.sources.bigquery.watch import took
from servers import bigquery_wire, google_stores
from servers.bigquery_front import Front, front
from servers.google_stores import Logins

TOLD = {"totalBytesProcessed": "7"}


@dataclass
class Idle(Front):
    """Jobs that do nothing and take their time; those in `unlisted` no list tells of, and of those `lost` nothing does.

    Configurations say what becomes of them: `{"copy": {"fails": REASON}}`. `most` jobs were under way at once.
    """

    unlisted: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    most: int = 0

    def run(self, project: str, name: str, job: dict[str, Any], configuration: dict[str, Any]) -> None:
        kind, asked = next(iter(configuration.items()))
        self.most = max(self.most, sum(self._ends[each] > time.monotonic() for each in tuple(self.jobs)))
        if kind == "extract":
            job["statistics"]["extract"] = {"destinationUriFileCounts": ["1"]}
        if kind == "query":
            job["statistics"] |= TOLD
            self._results[name] = {"schema": {"fields": [{"name": "n"}]}, "rows": [{"f": [{"v": "1"}]}]}
        if reason := asked.pop("fails", None):
            raise bigquery_wire.RefusedError(400, reason, f"it failed: {reason}")

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> Any:
        with self._lock:
            self.asked[f"{method} {'list' if path.endswith('/jobs') else path.split('/')[5]}"] += 1
        if path.rpartition("/")[2] in self.lost and method == "GET":
            raise bigquery_wire.RefusedError(404, "notFound", "Not found: Job")
        found = super().answer(method, path, query, body)
        if method == "GET" and path.endswith("/jobs"):
            hidden = self.unlisted | self.lost
            return {"jobs": [each for each in found.get("jobs", ()) if each["jobReference"]["jobId"] not in hidden]}
        return found


@pytest.fixture(scope="module")
def login() -> Iterator[Logins]:
    with google_stores.logins() as made:
        yield made


@pytest.fixture
def service() -> Iterator[Idle]:
    with front("", None, time_travels=True, kind=Idle) as made:  # type: ignore[arg-type] - it has no buckets
        assert isinstance(made, Idle)
        made.seconds = 0.5
        yield made


def connected(service: Idle, login: Logins, jobs: int = 16, limit: Limit = UNLIMITED) -> BigQuery:
    client = GoogleClient("it", SourceError, ["any"], lambda: login.key_file, limit=limit, passing=PASSING)
    return BigQuery(client, "any", "US", service.endpoint, jobs)


@pytest.fixture
def bigquery(service: Idle, login: Logins) -> Iterator[BigQuery]:
    made = connected(service, login)
    yield made
    made.login.close()


def all_done(bigquery: BigQuery, kinds: list[str], threads: int = 24, **asked: Any) -> list[dict[str, Any]]:
    """Jobs of these kinds, each named by its number."""
    with ThreadPoolExecutor(threads) as pool:
        began = [pool.submit(bigquery.job, {kind: dict(asked)}, f"job{n}", "any") for n, kind in enumerate(kinds)]
        return [each.result() for each in began]


def test_jobs_are_looked_at_together_and_seen_soon_after_they_are_done(service: Idle, bigquery: BigQuery) -> None:
    began = time.monotonic()
    done = all_done(bigquery, ["copy", "extract"] * 48)
    wall, jobs = time.monotonic() - began, 96 * service.seconds / 16
    assert all(job["status"]["state"] == "DONE" for job in done)
    assert done[1]["statistics"]["extract"]["destinationUriFileCounts"] == ["1"]
    assert service.most <= 16, "more threads than jobs, and no more jobs than may be"
    assert service.asked["GET jobs"] <= 8, "the first and the last, while they are alone"
    assert service.asked["GET list"] <= 96
    assert wall <= 3 * jobs, "a busy machine sees them later"


def test_one_job_is_looked_at_by_itself(service: Idle, bigquery: BigQuery) -> None:
    (done,) = all_done(bigquery, ["copy"])
    assert done["status"]["state"] == "DONE"
    assert service.asked["GET list"] == 0
    assert 1 <= service.asked["GET jobs"] <= 8


def test_where_nobody_may_list_each_is_looked_at_by_itself(service: Idle, bigquery: BigQuery) -> None:
    service.refuse = lambda method, path, body: (
        bigquery_wire.RefusedError(403, "accessDenied", "no") if method == "GET" and path.endswith("/jobs") else None
    )
    all_done(bigquery, ["copy"] * 32)
    assert service.asked["GET list"] == 1
    assert service.asked["GET jobs"] >= 32


def test_what_no_list_tells_of_is_looked_at_by_itself(service: Idle, bigquery: BigQuery) -> None:
    service.unlisted = {"job3", "job20"}
    all_done(bigquery, ["copy"] * 32)
    assert 2 <= service.asked["GET jobs"] <= 6


def test_a_list_that_lacks_what_was_asked_for_is_not_enough(service: Idle, bigquery: BigQuery) -> None:
    """An extract's job has to say how many files there are: what a list leaves out is asked for."""
    with ThreadPoolExecutor(4) as pool:
        began = [pool.submit(bigquery.job, {"load": {}}, f"job{n}", "any") for n in range(4)]
        assert all(each.result()["status"]["state"] == "DONE" for each in began)
    assert service.asked["GET jobs"] >= 4


def test_a_job_that_vanished_is_told_and_the_others_end(service: Idle, bigquery: BigQuery) -> None:
    service.lost = {"job5"}
    with ThreadPoolExecutor(16) as pool:
        began = [pool.submit(bigquery.job, {"copy": {}}, f"job{n}", "any") for n in range(16)]
        with pytest.raises(RefusedError, match="Not found: Job"):
            began[5].result()
        assert all(each.result() for n, each in enumerate(began) if n != 5)


def test_a_job_that_failed_says_why_and_one_that_may_pass_is_done_anew(
    service: Idle, bigquery: BigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "pause", lambda *_, **__: None)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(bigquery.job, {"copy": {}}, f"other{n}", "any") for n in range(2)]
        failed = pool.submit(bigquery.job, {"copy": {"fails": "invalid"}}, "failed", "the.permission")
        busy = pool.submit(bigquery.job, {"copy": {"fails": "backendError"}}, "busy", "any")
        with pytest.raises(RefusedError, match="it failed: invalid") as raised:
            failed.result()
        assert raised.value.needs == "the.permission"
        with pytest.raises(RefusedError, match="backendError"):
            busy.result()
        assert all(each.result() for each in others)
    assert {"busy", "busy-1", "busy-2", "busy-3"} <= service.jobs.keys()
    assert "failed-1" not in service.jobs


def test_a_service_that_is_busy_while_jobs_are_waited_for_is_asked_again(
    service: Idle, bigquery: BigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "pause", lambda *_, **__: time.sleep(0.02))
    lock, seen = threading.Lock(), Counter[str]()

    def refuse(method: str, path: str, body: Any) -> bigquery_wire.RefusedError | None:
        with lock:
            seen[path] += 1
            if method == "GET" and seen[path] % 3 == 1:
                status, reason = ((503, "backendError"), (403, "rateLimitExceeded"), (429, ""))[len(seen) % 3]
                return bigquery_wire.RefusedError(status, reason, "later")
        return None

    service.refuse = refuse
    with ThreadPoolExecutor(24) as pool:
        queries = [pool.submit(bigquery.query, "SELECT 1", f"query{n}") for n in range(8)]
        assert len(all_done(bigquery, ["copy", "extract"] * 12)) == 24
        assert [each.result().rows for each in queries] == [[{"n": "1"}]] * 8


def test_the_answer_to_a_query_is_waited_for_in_one_request(service: Idle, bigquery: BigQuery) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: bigquery.query("SELECT 1", f"query{n}"), range(8)))
    assert {(answer.rows[0]["n"], answer.scanned_bytes) for answer in answers} == {("1", 7)}
    assert service.asked["GET queries"] == 8
    assert service.asked["GET jobs"] == service.asked["GET list"] == 0


def test_a_query_that_takes_longer_than_an_answer_is_waited_for_is_asked_again(
    service: Idle, bigquery: BigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cto_backups.sources.bigquery.client._ANSWER_MS", 100)
    assert bigquery.query("SELECT 1", "slow").rows == [{"n": "1"}]
    assert 3 <= service.asked["GET queries"] <= 7


def test_a_query_that_fails_says_why(service: Idle, bigquery: BigQuery) -> None:
    def failing(method: str, path: str, body: Any) -> None:
        if body:
            body["configuration"]["query"]["fails"] = "invalidQuery"

    service.refuse = failing
    with pytest.raises(RefusedError, match="it failed: invalidQuery"):
        bigquery.query("SELECT", "wrong")


def test_what_waits_ends_when_there_is_no_time_left(service: Idle, login: Logins) -> None:
    service.seconds = 30.0
    until = time.monotonic() + 1.0

    class Short:
        def left(self) -> float | None:
            return max(until - time.monotonic(), 0.0)

        def then(self, end: Any) -> None: ...

    bigquery = connected(service, login, limit=Short())
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(bigquery.job, {"copy": {}}, f"job{n}", "any") for n in range(3)]
        waiting.append(pool.submit(bigquery.query, "SELECT 1", "query"))  # type: ignore[arg-type]
        for each in waiting:
            with pytest.raises(OutOfTimeError):
                each.result()
    assert time.monotonic() < until + 5.0
    bigquery.login.close()


def test_bigquery_says_itself_how_long_a_job_took() -> None:
    assert took({"statistics": {"creationTime": "1000", "endTime": "3500"}}) == 2.5
    assert took({"statistics": {"creationTime": "1000"}}) is None
    assert took({}) is None
