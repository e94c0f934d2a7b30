"""The policy file's shape of a vault; see `models`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cto_backups.config.bandwidth_models import BandwidthLimit
from cto_backups.config.fields import (
    HostName,
    KeyReferences,
    Line,
    LockWindow,
    Name,
    Reference,
    RepositoryPlace,
    Share,
    Triggers,
    VaultUrl,
    WebAddress,
)
from cto_backups.config.part import Part
from cto_backups.config.price_models import Prices

AccessName = Literal["full", "append-only"]
LockName = Literal["none", "governance", "compliance"]
LegalHoldsName = Literal["renewed", "stored"]


def _as_text(value: Any) -> Any:
    """1.3 without quotes is a number in YAML, and nobody means one."""
    return str(value) if isinstance(value, float) else value


TlsName = Annotated[
    Literal["1.3", "1.2", "none"],
    BeforeValidator(_as_text, json_schema_input_type=Literal["1.3", "1.2", "none"] | float),
]


class VaultSettings(Part):
    """How the bucket of a vault has to be set: `vault plan` compares, `vault apply` sets, the audit looks."""

    versioning: bool = True
    """Whether it keeps what is overwritten and deleted as versions."""
    noncurrent_days: Annotated[int, Field(ge=0, le=36500)] = 365
    """After so many days, no sooner, a rule deletes such versions; they are paid for till then. 0: none is needed."""
    soft_delete_days: Annotated[int, Field(ge=0, le=90)] = 7
    """For how long at the least `gs://` gives back what was deleted; 0: nobody asks for it."""
    replicated: bool = False
    """Whether its provider has to keep it in several regions."""
    access_logs: Line | None = Field(default=None, examples=["acme-logs"])
    """The bucket that gets the logs of who reads and deletes; none is asked for when left out."""
    retention_days: Annotated[int, Field(ge=0, le=36500)] = 0
    """For how long `s3://` keeps each version of whatever is stored, in the vault's lock mode; 0: no such rule."""


class Vault(Part):
    """A named place for copies."""

    url: VaultUrl
    """Where it is: `file:` and a path, relative to the folder of this file; or a place in a bucket: `s3://`, `gs://`."""
    provider: Line = Field(examples=["local-disk", "gcs", "aws"])
    """Who runs it. Copies with one provider and one region can be lost together."""
    region: Line = Field(examples=["this-machine", "us-central1"])
    """Where it stands: a machine, a building, a cloud region. Requests to `s3://` are signed for it."""
    storage: Line = Field(examples=["disk", "object-storage"])
    """The type of storage, for the rule of two storage types."""
    off_site: bool = False
    """Whether it survives the loss of the place where the sources are."""
    lock: LockName = "none"
    """How strongly its store keeps stored files from deletion: Object Lock in `s3://`, object retention in `gs://`."""
    lock_for: LockWindow = "30 d"
    """How long it locks at a time, at least a day. What is needed longer is locked anew."""
    legal_holds: LegalHoldsName = "renewed"
    """What holds do there: locks are renewed; or `stored`: the store's own legal hold is put on each file as well."""
    endpoint: WebAddress | None = Field(default=None, examples=["https://s3.office.example:9000"])
    """The address of the server of an object store, where it is not the provider's own."""
    tls: TlsName = "1.3"
    """The lowest version of TLS on the way to an object store; `none` for a server of this very machine alone."""
    access_key: Reference | None = Field(default=None, examples=["env:BACKUPS_ACCESS_KEY"])
    """Where the id of the access key to `s3://` is; with neither key, the usual places of AWS are searched."""
    secret_key: Reference | None = Field(default=None, examples=["file:keys/s3.secret"])
    """Where the secret of that access key is."""
    credentials: Reference | None = Field(default=None, examples=["file:keys/service-account.json"])
    """Where the key file of a service account for `gs://` is; without it, Google's usual places are searched."""
    access: AccessName = "full"
    """`append-only`: this host adds and reads, and deletes or overwrites nothing; its owner expires and prunes."""
    on_host: HostName | None = Field(default=None, examples=["web1", "*"])
    """In a fleet, the host whose folder it is, or `*` for one that every host has there, as on a file server."""
    repository: RepositoryPlace = "repositories/main"
    """Where its repository lies inside: `.` for one that restic made and that was taken over."""
    key: KeyReferences | None = Field(default=None, examples=["file:keys/cloud.key"])
    """Where the secret is that opens this vault alone, as under `keys: repository:`; left out, that one opens it. For
    a vault that was used before: `key separate`."""
    exports: Literal["sealed", "plain"] = "sealed"
    """How sources with `payload: export` lie here: each file as an object of its own, `plain`; or in the repository."""
    kms_key: Line | None = Field(
        default=None, examples=["projects/acme/locations/us/keyRings/backups/cryptoKeys/exports"]
    )
    """The key in the provider's key service under which it encrypts what is stored; asked for, and seen, each time."""
    domain_of: Name | None = Field(default=None, examples=["web1"])
    """The enrolled host whose trust domain this is: only sources that name it get copies here. See `host enrol`."""
    copies: Triggers | None = None
    """When copies come here, as calendar times and intervals; each as soon as its point is made when left out."""
    checks: Triggers | None = None
    """When the worker tries out what its store enforces, and looks how its bucket is set; people do when left out."""
    bandwidth: list[BandwidthLimit] = []
    """How fast what travels to and from it may go, by the time of day; as fast as it can when left out."""
    prices: Prices | None = None
    """What its provider charges, so that `status --vaults` tells costs; without it, bytes and requests alone."""
    settings: VaultSettings | None = None
    """How its bucket has to be set, where that is not as usual."""
    read_part: Share | None = None
    """How much of it one scheduled verification reads; all at once when left out. Each goes on where the last ended."""
