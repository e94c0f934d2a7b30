"""The policy's section on reports, resolved."""

from collections.abc import Callable

from cto_backups.config.report_models import ReportTo
from cto_backups.config.secrets import SecretReference
from cto_backups.config.vaults import on_the_way
from cto_backups.core.policy import ReportPolicy, Tls

Place = tuple[str | int, ...]


def built_report(given: ReportTo | None, refuse: Callable[[Place, str, str], None]) -> ReportPolicy | None:
    """Where reports go; nowhere without the section. `refuse` notes a place, what is wrong there, and what to do."""
    if given is None:
        return None
    place = given.bigquery
    for setting, message, todo in on_the_way("report_to bigquery", place.endpoint, place.tls):
        refuse(("report_to", "bigquery", setting), message, todo)
    project, _, dataset = place.dataset.rpartition(".")
    options: dict[str, object] = {
        "project": project,
        "dataset": dataset,
        "location": place.location,
        "credentials": SecretReference.parse(place.credentials) if place.credentials else None,
        "endpoint": (place.endpoint or "").rstrip("/"),
        "tls": place.tls,
    }
    return ReportPolicy("bigquery", place.dataset, options, Tls(place.tls))
