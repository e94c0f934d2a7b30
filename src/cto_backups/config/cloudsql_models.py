"""What the policy file says of an instance of Cloud SQL, as pydantic models."""

from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.any_source import AnySource
from cto_backups.config.fields import Duration, Line, Reference, TimeOfDay, WebAddress
from cto_backups.config.part import Part
from cto_backups.config.vault_models import TlsName


class CloudsqlExpects(Part):
    """What the audit wants an instance of Cloud SQL to be set to."""

    backups_kept: Annotated[int, Field(ge=0, le=365)] = 30
    """How many automated backups, one a day, the service keeps at least."""
    newest_within: Duration = "26 h"
    """How old the newest automated backup may be."""
    window: TimeOfDay | None = Field(default=None, examples=["02:00"])
    """When the window for automated backups begins, in UTC; any time will do when left out."""
    log_days: Annotated[int, Field(ge=0, le=35)] = 7
    """For how many days the service keeps its log at least, for point-in-time recovery; 0 for none."""
    region: Line | None = Field(default=None, examples=["us-central1"])
    """Where the instance stands; anywhere when left out."""
    backup_location: Line | None = Field(default=None, examples=["us"])
    """Where the service keeps its backups; anywhere when left out."""
    deletion_protection: bool = True
    """Whether the instance has to be protected from being deleted."""
    backups_survive: bool = True
    """Whether something of its backups has to stay when it is deleted: the backups themselves, or a final one."""
    public_address: bool = False
    """Whether it may have a public address; never one that everybody may come to."""
    encrypted: bool = True
    """Whether it has to refuse connections without TLS."""


class CloudsqlSource(AnySource):
    """An instance of Cloud SQL, PostgreSQL or MySQL: exported to the vaults, and cloned to a moment as a test."""

    kind: Literal["cloudsql"]
    """What kind of source it is: one instance of Google's Cloud SQL."""
    project: Line = Field(examples=["acme-production"])
    """The project of Google Cloud that holds the instance."""
    instance: Line = Field(examples=["ledger"])
    """The instance's name."""
    credentials: Reference | None = Field(default=None, examples=["file:keys/service-account.json"])
    """Where the key file of a service account is; without it, Google's usual places are searched."""
    user: Line = Field(examples=["keeper"])
    """As whom to log in to the database."""
    password: Reference
    """Where the password of that user is."""
    databases: Annotated[list[Line], Field(min_length=1)] | None = Field(default=None, examples=[["shop", "ledger"]])
    """The databases to protect; every one of the instance when left out, new ones included."""
    address: Literal["private", "public"] | None = None
    """Which of its addresses to use; the private one, if it has one, when left out."""
    host: Line | None = Field(default=None, examples=["/cloudsql/acme-production:us-central1:ledger"])
    """Where a proxy in front of the instance listens, instead of its address: a name, or a socket. Not for clones."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(default=None, examples=[5432])
    """The port; that of PostgreSQL, or of MySQL, when left out."""
    export: bool = True
    """Whether the databases are dumped into the vaults; `false`: the data stay in the project alone."""
    clone_tests: bool = True
    """Whether restore tests also clone the instance to the point's moment, and compare that."""
    on_demand: bool = False
    """Whether the service makes a backup of its own for each point, too; nobody but you deletes these."""
    moment_within: Duration = "30 s"
    """How long a moment at which nobody writes is looked for, for clones to be compared; of PostgreSQL alone."""
    log_within: Duration = "15 minutes"
    """How long the service may take until its log leads to the point's moment."""
    operation_within: Duration = "3 h"
    """How long the service may take for a clone, or a backup."""
    lock_timeout: Duration = "30 s"
    """How long a table that somebody has locked is waited for."""
    timeout: Duration = "1 h"
    """How long a program, or the server, may give nothing before it is given up."""
    tools: Line | None = Field(default=None, examples=["/usr/lib/postgresql/17/bin"])
    """The folder of the server's programs; found by its version when left out."""
    scratch: Line | None = Field(default=None, examples=["/var/tmp"])
    """Where throwaway servers of restore tests lie; the folder for temporary files when left out."""
    endpoint: WebAddress | None = Field(default=None, examples=["https://sqladmin.example"])
    """The address of the API, where it is not Google's own."""
    tls: TlsName = "1.3"
    """The lowest version of TLS on the way to the API; `none` for a server of this very machine alone."""
    expects: CloudsqlExpects | None = None
    """What the audit wants the instance to be set to."""
