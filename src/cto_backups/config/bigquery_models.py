"""What the policy file says of BigQuery projects, as pydantic models."""

import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.any_source import AnySource
from cto_backups.config.fields import Duration, Line, Reference, Surroundings, Text, WebAddress
from cto_backups.config.problems import problem
from cto_backups.config.vault_models import TlsName

_PROJECT = r"^[a-z](?:[a-z0-9-]|[.:](?=[a-z0-9])){4,60}[a-z0-9]$"
_DATASET = r"^[A-Za-z0-9_]{1,1024}$"
_PLACE = r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^/\s*?\[\]#]+)*/?$"
_TABLE = r"^[^.\s]+\.[^.]+$"


def looks_like(pattern: str, what: str, todo: str) -> Callable[[str, Surroundings | None], None]:
    """A check that a text is of a form."""

    def check(value: str, _around: Surroundings | None) -> None:
        if not re.match(pattern, value, re.ASCII):
            raise problem(f"'{value}' is no {what}", todo=todo)

    return check


ProjectName = Annotated[
    str, Text(looks_like(_PROJECT, "id of a project", "Write it as 'gcloud projects list' does."), pattern=_PROJECT)
]
DatasetName = Annotated[
    str,
    Text(looks_like(_DATASET, "name of a dataset", "Write it without its project, as 'bq ls' does."), pattern=_DATASET),
]
BucketPlace = Annotated[
    str,
    Text(looks_like(_PLACE, "bucket of Cloud Storage", "Write gs://BUCKET, or gs://BUCKET/FOLDER."), pattern=_PLACE),
]
TablePattern = Annotated[
    str, Text(looks_like(_TABLE, "pattern of tables", "Write DATASET.TABLE, such as logs.tmp_*."), pattern=_TABLE)
]


class BigQuerySource(AnySource):
    """The datasets of a BigQuery project in one location, as Avro files, and proven in a dataset made for that."""

    kind: Literal["bigquery"]
    """What kind of source it is."""
    project: ProjectName = Field(examples=["acme-analytics"])
    """The id of the project; it also pays for the jobs."""
    location: Line = Field(default="US", examples=["EU", "us-central1"])
    """Where its datasets are, as BigQuery calls it; those elsewhere are found, and are for another source."""
    staging: BucketPlace = Field(examples=["gs://acme-backups-staging/bigquery"])
    """A bucket in that location, or a folder in it, for files on their way; nothing of it is kept."""
    payload: Literal["snapshot", "export"] = "snapshot"
    """`export`: each file lies as it is in vaults with `exports: plain`, copied there by the provider where it can."""
    datasets: Annotated[list[DatasetName], Field(min_length=1)] | None = Field(
        default=None, examples=[["finance", "logs"]]
    )
    """The datasets to protect; every one of the location when left out, new ones included."""
    leave_out: Annotated[list[TablePattern], Field(min_length=1)] | None = Field(
        default=None, examples=[["logs.tmp_*"]]
    )
    """Tables to leave out, as shell patterns of DATASET.TABLE; the audit finds them until `exclude` says why."""
    appended: Annotated[list[TablePattern], Field(min_length=1)] | None = Field(default=None, examples=[["logs.*"]])
    """Tables to which rows are only added, as such patterns: what was added since the point before is extracted alone,
    where the sums of all rows prove that it is all that changed."""
    credentials: Reference | None = Field(default=None, examples=["file:keys/service-account.json"])
    """Where the key file of a service account is; without it, Google's usual places are searched."""
    keep_snapshots: Duration | None = Field(default=None, examples=["14 days"])
    """For how long a point's snapshots of tables stay in BigQuery, so that it comes back without files; not at all when
    left out. What changes meanwhile is stored and paid for twice."""
    time_travel: Duration = "7 days"
    """How far back the time travel of each dataset has to lead; the audit looks."""
    jobs: Annotated[int, Field(ge=1, le=64)] = 8
    """How many jobs run at once."""
    budget: Annotated[int, Field(ge=1, le=1_048_576)] | None = Field(default=None, examples=[500])
    """How many GiB BigQuery may scan for one backup's fingerprint, and for one test; estimated first. No end when left
    out."""
    endpoint: WebAddress | None = Field(default=None, examples=["https://bigquery-backups.p.googleapis.com"])
    """The address of BigQuery's API, where it is not Google's own."""
    storage_endpoint: WebAddress | None = Field(default=None, examples=["https://storage-backups.p.googleapis.com"])
    """The address of Cloud Storage's API, where it is not Google's own."""
    tls: TlsName = "1.3"
    """The lowest version of TLS on the way to both; `none` for servers of this very machine alone."""
