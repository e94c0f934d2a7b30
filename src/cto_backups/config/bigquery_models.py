"""What the policy file says of BigQuery projects, as pydantic models."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cto_backups.config.any_source import AnySource
from cto_backups.config.fields import Line, Reference, WebAddress

ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.:-]{4,60}[a-z0-9]$")]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,1024}$")]
BucketPlace = Annotated[
    str, StringConstraints(pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^/\s*?\[\]#]+)*/?$")
]
TablePattern = Annotated[str, StringConstraints(pattern=r"^[^.\s]+\.[^.]+$")]


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
    datasets: Annotated[list[DatasetName], Field(min_length=1)] | None = Field(
        default=None, examples=[["finance", "logs"]]
    )
    """The datasets to protect; every one of the location when left out, new ones included."""
    leave_out: Annotated[list[TablePattern], Field(min_length=1)] | None = Field(
        default=None, examples=[["logs.tmp_*"]]
    )
    """Tables to leave out, as shell patterns of DATASET.TABLE; the audit finds them until `exclude` says why."""
    credentials: Reference | None = Field(default=None, examples=["file:keys/service-account.json"])
    """Where the key file of a service account is; without it, Google's usual places are searched."""
    jobs: Annotated[int, Field(ge=1, le=64)] = 8
    """How many jobs run at once."""
    budget: Annotated[int, Field(ge=1, le=1_048_576)] | None = Field(default=None, examples=[500])
    """How many GiB BigQuery may scan for one backup's fingerprint, and for one test; estimated first. No end when left
    out."""
    endpoint: WebAddress | None = Field(default=None, examples=["https://bigquery-backups.p.googleapis.com"])
    """The address of BigQuery's API, where it is not Google's own."""
    storage_endpoint: WebAddress | None = Field(default=None, examples=["https://storage-backups.p.googleapis.com"])
    """The address of Cloud Storage's API, where it is not Google's own."""
