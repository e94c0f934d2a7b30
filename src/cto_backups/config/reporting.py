"""The policy's section on reports, resolved."""

from cto_backups.config.report_models import ReportTo
from cto_backups.config.secrets import SecretReference
from cto_backups.core.policy import ReportPolicy


def built_report(given: ReportTo | None) -> ReportPolicy | None:
    """Where reports go; nowhere without the section."""
    if given is None:
        return None
    place = given.bigquery
    project, _, dataset = place.dataset.rpartition(".")
    options: dict[str, object] = {
        "project": project,
        "dataset": dataset,
        "location": place.location,
        "credentials": SecretReference.parse(place.credentials) if place.credentials else None,
        "endpoint": (place.endpoint or "").rstrip("/"),
    }
    return ReportPolicy("bigquery", place.dataset, options)
