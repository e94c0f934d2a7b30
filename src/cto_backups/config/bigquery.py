"""What the adapter of BigQuery projects is given, made from what the file says."""

from cto_backups.config.bigquery_models import BigQuerySource
from cto_backups.config.secrets import SecretReference

_GIB = 1 << 30


def bigquery_options(source: BigQuerySource) -> dict[str, object]:
    """The options of a source."""
    return {
        "project": source.project,
        "location": source.location,
        "staging": source.staging.rstrip("/"),
        "datasets": tuple(source.datasets or ()),
        "leave_out": tuple(source.leave_out or ()),
        "credentials": SecretReference.parse(source.credentials) if source.credentials else None,
        "jobs": source.jobs,
        "budget_bytes": source.budget * _GIB if source.budget else None,
        "endpoint": (source.endpoint or "").rstrip("/"),
        "storage_endpoint": (source.storage_endpoint or "").rstrip("/"),
    }
