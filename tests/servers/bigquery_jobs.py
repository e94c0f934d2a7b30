"""How BigQuery tells of jobs: https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list and ``Job``."""

from collections.abc import Iterable, Mapping
from typing import Any

STATUS = {"accessDenied": 403, "notFound": 404, "duplicate": 409, "backendError": 500, "jobBackendError": 400}
"""With which status a failed job answers whoever asks for its rows; 400 for all other reasons."""
_PAGE = 50
_FULL_ALONE = ("configuration", "status", "user_email", "principal_subject")


def running(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job that is not done: nobody knows what becomes of it, nor when."""
    told = {name: job["statistics"][name] for name in ("creationTime", "startTime") if name in job["statistics"]}
    return {**job, "status": {"state": "RUNNING"}, "statistics": told}


def listed(jobs: Iterable[Mapping[str, Any]], query: Mapping[str, list[str]]) -> dict[str, Any]:
    """The answer to jobs.list: the latest first, of some states, created within some time, without configurations."""
    states = [each.upper() for each in query.get("stateFilter", ())]
    least = int(query.get("minCreationTime", ["0"])[0])
    most = int(query.get("maxCreationTime", [str(1 << 62)])[0])
    found = [
        job
        for job in sorted(jobs, key=_created, reverse=True)
        if least <= _created(job) <= most and (not states or job["status"]["state"] in states)
    ]
    begin, size = int(query.get("pageToken", ["0"])[0]), int(query.get("maxResults", [str(_PAGE)])[0])
    is_full = query.get("projection", ["minimal"])[0].lower() == "full"
    answer: dict[str, Any] = {"kind": "bigquery#jobList"}
    if page := found[begin : begin + size]:
        answer["jobs"] = [_item(job, is_full=is_full) for job in page]
    if begin + size < len(found):
        answer["nextPageToken"] = str(begin + size)
    return answer


def _created(job: Mapping[str, Any]) -> int:
    return int(job["statistics"]["creationTime"])


def _item(job: Mapping[str, Any], *, is_full: bool) -> dict[str, Any]:
    told = {name: value for name, value in job.items() if is_full or name not in _FULL_ALONE}
    failed = job["status"].get("errorResult")
    return {**told, "state": job["status"]["state"], **({"errorResult": failed} if failed else {})}
