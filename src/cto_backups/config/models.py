"""The policy file's shape: what the JSON Schema, the reference page and validation are all made from.

Optional settings that a file leaves out are None here; `building` fills them from the class, the category or the
defaults. Values stay as they are written: `building` parses them once more. The text below a setting describes it
wherever it is explained (`descriptions`).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cto_backups.config.alert_models import Alerts
from cto_backups.config.any_source import AnySource as AnySource
from cto_backups.config.bigquery_models import BigQuerySource as BigQuerySource
from cto_backups.config.bucket_models import BucketSource as BucketSource
from cto_backups.config.cloudsql_models import CloudsqlSource as CloudsqlSource
from cto_backups.config.elsewhere_models import BarmanSource as BarmanSource
from cto_backups.config.elsewhere_models import PgbackrestSource as PgbackrestSource
from cto_backups.config.elsewhere_models import WalGSource as WalGSource
from cto_backups.config.fields import (
    Arguments,
    Cadence,
    CatalogUrl,
    CategoryName,
    ClassName,
    Duration,
    Filename,
    GitUrl,
    Grace,
    KeyFingerprint,
    KeyReferences,
    Lfs,
    Line,
    Name,
    Paths,
    Patterns,
    Reference,
    ResourceName,
    Retention,
    TimeZone,
    Triggers,
    Until,
    Unused,
    VariableName,
    WebAddress,
)
from cto_backups.config.governance_models import Governance
from cto_backups.config.part import Part
from cto_backups.config.problems import problem
from cto_backups.config.report_models import ReportTo
from cto_backups.config.vault_models import Vault as Vault
from cto_backups.config.worker_models import Worker

VERSION = 1

SslMode = Literal["verify-full", "verify-ca", "require", "prefer", "disable"]
RungName = Literal["recorded", "stored", "read", "restored", "proven", "serving"]


class Escrow(Part):
    """Word shares (SLIP-39) of a secret that opens every vault, for the day on which all other keys are lost."""

    custodians: Annotated[list[Line], Field(min_length=2, max_length=16)] = Field(examples=[["Ada", "Grace", "Linus"]])
    """Who holds a share each; names by which everybody knows them."""
    threshold: Annotated[int, Field(ge=2, le=16)]
    """How many of them together open the vaults."""
    drill: Cadence = "yearly"
    """How often they try it."""


class Keys(Part):
    """Where the keys are: references only, never the keys themselves."""

    repository: KeyReferences
    """Where the secret is that opens the repositories in the vaults, or several such places: any one is enough, and
    without all of them nothing can be restored."""
    evidence: Reference
    """Where the key is that signs the evidence; kept apart from the repository key."""
    evidence_fingerprints: list[KeyFingerprint] = []
    """SHA-256 of the public keys whose records count; old keys stay here for old records. Any key when left out."""
    escrow: Escrow | None = None
    """Who can open the vaults together when every other key is lost."""


class Category(Part):
    """Objectives that many sources share. A, B and C are built in; what is given here overrides them."""

    based_on: CategoryName | None = None
    """The category that what is left out is taken from; A, B and C start from themselves."""
    title: Line | None = None
    """What it is called in reports."""
    rpo: Duration | None = None
    """How much of the newest data may be lost, as a time."""
    rto: Duration | None = None
    """How long a recovery may take."""
    point_in_time: bool | None = None
    """Whether every kept change must be a point to return to."""
    copies: Annotated[int, Field(ge=1, le=100)] | None = None
    """How many copies each recovery point must have."""
    storage_types: Annotated[int, Field(ge=1, le=100)] | None = None
    """On how many types of storage the copies must lie."""
    off_site: bool | None = None
    """Whether one copy must be off-site."""
    read_within: Duration | None = None
    """The time within which every stored byte must have been read again."""
    rung: RungName | None = None
    """How strongly a copy must be proven."""


class DataClass(Part):
    """A kind of data with its defaults. Eleven are built in; what is given here overrides them, or adds one."""

    based_on: ClassName | None = None
    """The class that what is left out is taken from; built-in classes start from themselves."""
    title: Line | None = None
    """What it is called in reports."""
    category: CategoryName | None = None
    """The category of sources of this class."""
    triggers: Triggers | None = None
    """When sources of this class are backed up."""
    retention: Retention | None = None
    """How long their recovery points are kept; left out, each source must say it."""
    test: Cadence | None = None
    """How often they are restored as a test."""


class FilesSource(AnySource):
    """Folders and files."""

    kind: Literal["files"]
    """What kind of source it is."""
    paths: Paths = Field(examples=[["~/src/app", "/etc/app.conf"]])
    """The folders and files to protect; `~` is the home folder, relative ones start at the folder of this file."""
    include: Patterns | None = Field(default=None, examples=[["*.md"]])
    """Shell patterns: only files that one of them matches are protected; everything when left out."""
    exclude: Patterns | None = Field(default=None, examples=[["*.pyc", ".venv"]])
    """Shell patterns: files and folders to leave out."""
    payload: Literal["snapshot", "export"] = "snapshot"
    """`export`: each file lies as it is in vaults with `exports: plain`, so that other programs can read it there."""
    one_file_system: bool = False
    """Whether to stay on the filesystem of each path, and leave out what is mounted below it."""


class GitSource(AnySource):
    """A git repository with all its refs."""

    kind: Literal["git"]
    """What kind of source it is."""
    url: GitUrl
    """The repository: a path of this machine, or any URL that git can fetch from without asking for a password."""
    lfs: Lfs = "auto"
    """Whether to fetch Git LFS objects: `auto` does where the repository uses them."""


class SqliteSource(AnySource):
    """A SQLite database, also while it is in use."""

    kind: Literal["sqlite"]
    """What kind of source it is."""
    path: Line = Field(examples=["/srv/ledger.db"])
    """The database file; `~` is the home folder, a relative one starts at the folder of this file."""
    lock_timeout: Duration = "30 s"
    """How long to wait for a program that holds the database exclusively, before the backup fails."""


class CommandSource(AnySource):
    """What a command prints, such as a database's dump. Commands are lists of arguments, started without a shell."""

    kind: Literal["command"]
    """What kind of source it is."""
    command: Arguments = Field(examples=[["pg_dump", "--format=custom", "app"]])
    """What to run, in the folder of this file; when it ends with another status than 0, nothing is kept."""
    filename: Filename
    """The name under which what it prints is kept."""
    restore_command: Arguments | None = Field(default=None, examples=[["pg_restore", "--clean", "--dbname=app"]])
    """What `restore --in-place` runs; it gets the file as its standard input."""
    test_command: Arguments | None = Field(default=None, examples=[["pg_restore", "--list"]])
    """What restore tests run, where the restored file lies and with it as standard input; status 0 says it works."""
    timeout: Duration = "1 h"
    """How long `command` may give nothing before it is ended, and how long the other two may take."""
    environment: dict[VariableName, Reference] = Field(default={}, examples=[{"PGPASSWORD": "file:keys/app.password"}])
    """Environment variables for the commands, by references; of the others they get only PATH, HOME and the like."""


class PostgresqlSource(AnySource):
    """The databases of a PostgreSQL server, as dumps or as the server's files, and proven on a throwaway server."""

    kind: Literal["postgresql"]
    """What kind of source it is."""
    method: Literal["logical", "physical"] = "logical"
    """`logical`: dumps of its databases; `physical`: the files of the whole server, and the log that goes with them."""
    host: Line = Field(default="/var/run/postgresql", examples=["db.example.com", "/var/run/postgresql"])
    """The server's name, or the folder of its socket."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """The port, which also names the socket."""
    user: Line | None = Field(default=None, examples=["backup"])
    """As whom to log in; the user of the operating system when left out."""
    password: Reference | None = None
    """Where the password is; none is needed where the server trusts a socket's user."""
    databases: Annotated[list[Line], Field(min_length=1)] | None = Field(default=None, examples=[["shop", "ledger"]])
    """The databases to protect; every one of the server when left out, new ones included."""
    sslmode: SslMode | None = None
    """How a host that is a name is trusted; `verify-full` when left out."""
    sslrootcert: Line | None = Field(default=None, examples=["/etc/ssl/certs/db-ca.pem"])
    """The certificates to trust; the system's when left out."""
    role_passwords: bool = True
    """Whether the passwords of roles, as hashes, are kept; only a superuser can read them."""
    lock_timeout: Duration = "30 s"
    """How long a table that somebody has locked is waited for."""
    timeout: Duration = "1 h"
    """How long a program, or the server, may give nothing before it is given up."""
    max_rate: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, examples=[50])
    """How many MiB a second of the server's files are read at most, with `method: physical`."""
    base_every: Duration | None = Field(default=None, examples=["1 day"])
    """How often the files are read, with `method: physical`; in between only the log is, and any moment comes back."""
    full_every: Duration | None = Field(default=None, examples=["7 days"])
    """How often all of them are read (7 days when left out), where PostgreSQL 17 or newer tells what changed since."""
    sums: Literal["all", "sampled"] = "all"
    """`sampled`, with `method: physical`: of tables of 1 GiB or more, parts are compared; a test proves less then."""
    tools: Line | None = Field(default=None, examples=["/usr/lib/postgresql/17/bin"])
    """The folder of PostgreSQL's programs; found by the server's version when left out."""
    scratch: Line | None = Field(default=None, examples=["/var/tmp"])
    """Where throwaway servers of restore tests lie; the folder for temporary files when left out."""


class MysqlSource(AnySource):
    """The databases of a MySQL or MariaDB server, as dumps or as its files, and proven on a throwaway server."""

    kind: Literal["mysql"]
    """What kind of source it is: MySQL or MariaDB; which of them, the server says."""
    method: Literal["logical", "physical"] = "logical"
    """`logical`: dumps of its databases; `physical`: the files of the whole server, read on its machine."""
    host: Line = Field(default="/run/mysqld/mysqld.sock", examples=["db.example.com", "/run/mysqld/mysqld.sock"])
    """The server's name, or the path of its socket."""
    port: Annotated[int, Field(ge=1, le=65535)] = 3306
    """The port of a host that is a name."""
    user: Line | None = Field(default=None, examples=["keeper"])
    """As whom to log in; the user of the operating system when left out."""
    password: Reference | None = None
    """Where the password is; none is needed where the server trusts a socket's user."""
    databases: Annotated[list[Line], Field(min_length=1)] | None = Field(default=None, examples=[["shop", "ledger"]])
    """The databases to protect; every one of the server when left out, new ones included."""
    ssl_mode: Literal["verify-identity", "required", "disabled"] | None = None
    """How a host that is a name is trusted; `verify-identity` when left out."""
    ssl_ca: Line | None = Field(default=None, examples=["/etc/ssl/certs/db-ca.pem"])
    """The certificates to trust; the system's when left out."""
    accounts: bool = True
    """Whether accounts, roles and what they may do are kept, passwords as hashes; needs SELECT on all of the server."""
    base_every: Duration | None = Field(default=None, examples=["1 day"])
    """How often a base is made, dumps or files; in between only MariaDB's binary log is read: any moment comes back."""
    sums_every: Duration | None = Field(default=None, examples=["6 h"])
    """With `base_every`: how often all rows are summed up at most; left out, at each point. Tests take a summed one."""
    lock_timeout: Duration = "30 s"
    """How long a lock that somebody holds is waited for, before the backup gives up."""
    timeout: Duration = "1 h"
    """How long a program may give nothing before it is ended, and how long loading a dump may take."""
    max_rate: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, examples=[50])
    """How many MiB a second of the server's files are read at most, with `method: physical`; not at its standstill."""
    tools: Line | None = Field(default=None, examples=["/opt/mariadb/bin"])
    """The folder of the server's programs; found on PATH when left out."""
    scratch: Line | None = Field(default=None, examples=["/var/tmp"])
    """Where throwaway servers of restore tests lie; the folder for temporary files when left out."""


Source = Annotated[
    FilesSource
    | GitSource
    | SqliteSource
    | CommandSource
    | PostgresqlSource
    | MysqlSource
    | BigQuerySource
    | BucketSource
    | PgbackrestSource
    | BarmanSource
    | WalGSource
    | CloudsqlSource,
    Field(discriminator="kind"),
]


class Exclusion(Part):
    """A resource that is left out on purpose."""

    resource: ResourceName
    """What is left out, as the audit prints it: kind and place."""
    reason: Line
    """Why it needs no protection."""
    owner: Line
    """Who decided so."""
    until: Until
    """The last day on which this holds; after it, the audit reports the resource again."""


class PolicyFile(Part):
    """What must survive, how fast it must be back, and where its copies lie."""

    version: int
    """The version of this file's format: 1."""
    business: Name = Field(examples=["acme"])
    """The business whose data this is, as reports and the status view name it."""
    timezone: TimeZone = "UTC"
    """The time zone of calendar times such as `daily at 02:00`."""
    keys: Keys
    """References to the two keys."""
    catalog: CatalogUrl = "sqlite:catalog.db"
    """Where the catalog is: `sqlite:` and a path, relative to the folder of this file; or, for many hosts, the address
    of a database on a PostgreSQL server."""
    catalog_password: Reference | None = None
    """Where the password of the user in that address is; or it is in `~/.pgpass`, a service or `PGPASSWORD`."""
    state: Line = Field(default="state", examples=["state"])
    """A folder for caches, staging and sandboxes, relative to the folder of this file."""
    compression: Annotated[int, Field(ge=1, le=19)] = 3
    """The zstd compression level, from 1 (fast) to 19 (small); at 3, in a quicker way where that costs at most 1 %."""
    verify_on_write: Literal["full", "sampled"] = "full"
    """How much of what is written is opened and compared again before it counts as stored."""
    prune: Cadence = "weekly"
    """How often the worker prunes each vault, as a cadence; `none` for only by hand, with `cto.backups prune`."""
    prune_unused: Unused = "5%"
    """How much of what a vault keeps may be unused: beyond that, prune writes packs anew."""
    prune_grace: Grace = "24 h"
    """How long prune leaves a pack that is in no index, at least an hour: a lock must never outlive it."""
    dead_mans_switch: WebAddress | None = Field(default=None, examples=["https://watch.example/ping/backups"])
    """An address that gets a GET after each pass of the worker as long as all is well, so that a silence is seen."""
    alerts: Alerts | None = None
    """Who is told when something is wrong."""
    governance: Governance | None = None
    """Documents that are read before destructive work, and approvals that it needs. None of both when left out."""
    report_to: ReportTo | None = None
    """Where backups, tests and status are written beside the catalog, for dashboards. Nowhere when left out."""
    worker: Worker | None = None
    """How workers work: how much at once, and how far they stand back for others."""
    enrolled_as: Name | None = Field(default=None, examples=["web1"])
    """The name under which this host was enrolled in a fleet; 'cto.backups host join' writes it."""
    vaults: Annotated[dict[Name, Vault], Field(min_length=1)]
    """The places for copies, by name."""
    categories: dict[Name, Category] = {}
    """Overrides of the built-in categories A, B and C, and categories of your own."""
    classes: dict[Name, DataClass] = {}
    """Overrides of the built-in data classes, and classes of your own."""
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    """What is protected, by name."""
    exclude: list[Exclusion] = []
    """What is left out on purpose, so that the audit does not report it."""

    @model_validator(mode="before")
    @classmethod
    def _known_version(cls, data: Any) -> Any:
        version = data.get("version") if isinstance(data, dict) else None
        if isinstance(version, int) and not isinstance(version, bool) and version != VERSION:
            newer = version > VERSION
            raise problem(
                f"this file has version {version}; this cto.backups reads version {VERSION}",
                allowed=(str(VERSION),),
                todo="Use a newer cto.backups." if newer else "Write version: 1.",
            )
        return data


SOURCE_MODELS: dict[str, type[AnySource]] = {
    "files": FilesSource,
    "git": GitSource,
    "sqlite": SqliteSource,
    "command": CommandSource,
}
"""What a new policy file may be made with; `SERVER_MODELS` have more settings than its lines have room for."""

SERVER_MODELS: dict[str, type[AnySource]] = {
    "postgresql": PostgresqlSource,
    "mysql": MysqlSource,
    "bigquery": BigQuerySource,
    "bucket": BucketSource,
    "pgbackrest": PgbackrestSource,
    "barman": BarmanSource,
    "wal-g": WalGSource,
    "cloudsql": CloudsqlSource,
}
