"""The shape of the policy file's section on where reports go; see `models`."""

from typing import Annotated

from pydantic import Field

from cto_backups.config.bigquery_models import looks_like
from cto_backups.config.fields import Line, Reference, Text, WebAddress
from cto_backups.config.part import Part
from cto_backups.config.vault_models import TlsName

_PLACE = r"^[a-z](?:[a-z0-9-]|[.:](?=[a-z0-9])){4,60}[a-z0-9]\.[A-Za-z0-9_]{1,1024}$"

DatasetPlace = Annotated[
    str,
    Text(
        looks_like(_PLACE, "dataset of a project", "Write PROJECT.DATASET, such as acme-ops.backups."), pattern=_PLACE
    ),
]


class BigQueryReport(Part):
    """A dataset that gets `backup_logs`, `backup_tests` and `backup_status`; made with the first report."""

    dataset: DatasetPlace = Field(examples=["acme-ops.backups"])
    """The project, which also pays for the queries, and the dataset."""
    location: Line = Field(default="US", examples=["EU", "us-central1"])
    """Where the dataset is, or is to be made."""
    credentials: Reference | None = Field(default=None, examples=["file:keys/reports.json"])
    """Where the key file of a service account is; without it, Google's usual places are searched."""
    endpoint: WebAddress | None = Field(default=None, examples=["https://bigquery-backups.p.googleapis.com"])
    """The address of BigQuery's API, where it is not Google's own."""
    tls: TlsName = "1.3"
    """The lowest version of TLS on the way there; `none` for a server of this very machine alone."""


class ReportTo(Part):
    """Where backups, restore tests and the status of sources are reported, for dashboards."""

    bigquery: BigQueryReport
    """A dataset of BigQuery."""
