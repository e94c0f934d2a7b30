"""What the adapter of BigQuery projects is given, made from what the file says."""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta

from cto_backups.config.bigquery_models import BigQuerySource
from cto_backups.config.secrets import SecretReference
from cto_backups.config.vaults import on_the_way
from cto_backups.core.duration import parse_duration

Place = tuple[str | int, ...]

_GIB = 1 << 30
_SHORTEST_KEPT = timedelta(days=1)


def bigquery_options(name: str, source: BigQuerySource, refuse: Callable[[Place, str, str], None]) -> dict[str, object]:
    """The options of the source `name`; `refuse` notes a place, what is wrong there, and what to do about it."""
    for address, setting in ((source.endpoint, "endpoint"), (source.storage_endpoint, "storage_endpoint")):
        for at, message, todo in on_the_way(f"source {name}", address, source.tls, setting):
            refuse(("sources", name, at), message, todo)
    kept = parse_duration(source.keep_snapshots) if source.keep_snapshots else None
    if kept is not None and kept < _SHORTEST_KEPT:
        refuse(
            ("sources", name, "keep_snapshots"),
            f"source {name} keeps its snapshots for less than a day: so long they are there while they are extracted",
            "Write a day or more, or leave it out.",
        )
    return {
        "project": source.project,
        "location": source.location,
        "staging": source.staging.rstrip("/"),
        "datasets": tuple(source.datasets or ()),
        "leave_out": tuple(source.leave_out or ()),
        "appended": tuple(source.appended or ()),
        "credentials": SecretReference.parse(source.credentials) if source.credentials else None,
        "keep_snapshots_seconds": kept.total_seconds() if kept else 0.0,
        "time_travel_seconds": parse_duration(source.time_travel).total_seconds(),
        "jobs": source.jobs,
        "budget_bytes": source.budget * _GIB if source.budget else None,
        "endpoint": (source.endpoint or "").rstrip("/"),
        "storage_endpoint": (source.storage_endpoint or "").rstrip("/"),
        "tls": source.tls,
    }


def see_apart(names: Iterable[str], refuse: Callable[[Place, str, str], None]) -> None:
    """Refuse sources whose datasets and objects would be called alike: each removes what it finds left of its own."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(re.sub(r"\W", "_", name, flags=re.ASCII), name)
        if other != name:
            refuse(
                ("sources", name),
                f"sources {other} and {name} would share datasets and extracts, and each would remove the other's",
                "Name one of them so that more than dashes, dots and underscores tells them apart.",
            )
