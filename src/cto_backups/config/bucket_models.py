"""The policy file's shape of a source that is a bucket; see `models`."""

from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.any_source import AnySource
from cto_backups.config.fields import BucketUrl, Line, Reference, WebAddress
from cto_backups.config.vault_models import TlsName


class BucketSource(AnySource):
    """The objects in a bucket of Google Cloud Storage, or of a store that speaks S3, each in its newest version."""

    kind: Literal["bucket"]
    """What kind of source it is."""
    url: BucketUrl
    """The bucket, or a place in it, by the beginning of names: `gs://` or `s3://`."""
    payload: Literal["snapshot", "export"] = "snapshot"
    """`export`: each file lies as it is in vaults with `exports: plain`, copied there by the provider where it can."""
    region: Line | None = Field(default=None, examples=["eu-central-1"])
    """The region for which requests to `s3://` are signed; that of AWS's own settings, or us-east-1, when left out."""
    endpoint: WebAddress | None = Field(default=None, examples=["https://s3.office.example:9000"])
    """The address of the server of an object store, where it is not the provider's own."""
    tls: TlsName = "1.3"
    """The lowest version of TLS on the way there; `none` for a server of this very machine alone."""
    access_key: Reference | None = Field(default=None, examples=["env:READER_ACCESS_KEY"])
    """Where the id of the access key to `s3://` is; with neither key, the usual places of AWS are searched."""
    secret_key: Reference | None = Field(default=None, examples=["file:keys/reader.secret"])
    """Where the secret of that access key is."""
    credentials: Reference | None = Field(default=None, examples=["file:keys/reader.json"])
    """Where the key file of a service account for `gs://` is; without it, Google's usual places are searched."""
    test_in: BucketUrl | None = Field(default=None, examples=["gs://acme-scratch/tests"])
    """A bucket, or a place in it, in which restore tests restore, compare and delete; this machine when left out."""
    feed: WebAddress | None = Field(
        default=None,
        examples=[
            "https://sqs.eu-central-1.amazonaws.com/111122223333/media",
            "https://pubsub.googleapis.com/v1/projects/acme/subscriptions/media",
        ],
    )
    """The queue (SQS) or subscription (Pub/Sub) that tells of changes, for this source alone: a hint for triggers."""
    versioning: bool = True
    """Whether the bucket has to keep what is overwritten and deleted as versions; the audit looks."""
    noncurrent_days: Annotated[int, Field(ge=0, le=36500)] = 365
    """After so many days, no sooner, a rule of the bucket has to delete such versions; 0: nobody asks for one."""
    public: bool = False
    """Whether anybody may read the bucket; if not, the audit tells when that is so."""
    replicated: bool = False
    """Whether the bucket has to be replicated to another region by its provider."""
