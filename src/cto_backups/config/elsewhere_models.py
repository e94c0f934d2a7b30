"""What the policy file says of repositories that another program keeps, as pydantic models."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cto_backups.config.any_source import AnySource
from cto_backups.config.fields import Duration, Line, Name, Reference
from cto_backups.config.part import Part


class KeptRepository(Part):
    """One of the repositories that another program keeps: what is said of a vault is said of it."""

    provider: Line = Field(examples=["local-disk", "gcs", "aws"])
    """Who runs it. Copies with one provider and one region can be lost together."""
    region: Line = Field(examples=["this-machine", "us-central1"])
    """Where it stands: a machine, a building, a cloud region."""
    storage: Line = Field(examples=["disk", "object-storage"])
    """The type of storage, for the rule of two storage types."""
    off_site: bool = False
    """Whether it survives the loss of the place where the server is."""
    lock: Literal["none", "governance", "compliance"] = "none"
    """How strongly its storage protects stored files from deletion."""
    access: Literal["full", "append-only"] = "full"
    """`append-only`: this host, and the server, can only add to it."""


class KeptElsewhere(AnySource):
    """What is said of each server whose backups another program keeps, whichever it is: its `title`."""

    title: ClassVar[str]

    repositories: dict[Name, KeptRepository] = {}
    """What vaults say of themselves, of each of its repositories; left out, all of them fail together."""
    backup_every: Duration | None = Field(default=None, examples=["26 h"])
    """How old the newest backup in each repository may be, whatever log came after it."""
    sums_every: Duration | None = Field(default=None, examples=["1 day"])
    """How often the server's rows are summed up at most; left out, once for each new backup of the program's."""
    archive_within: Duration = "5 minutes"
    """How long the archive may take to get what the server hands to it."""
    timeout: Duration = "24 h"
    """How long one call of the program may take."""
    host: Line | None = Field(default=None, examples=["db.example.com", "/var/run/postgresql"])
    """The server's name, or the folder of its socket. Left out, nobody is asked, and nothing can be proven."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """The port, which also names the socket."""
    user: Line | None = Field(default=None, examples=["keeper"])
    """As whom to log in; the user of the operating system when left out. Without `host`, the server's superuser."""
    password: Reference | None = None
    """Where the password is; none is needed where the server trusts a socket's user."""
    sslmode: Literal["verify-full", "verify-ca", "require", "prefer", "disable"] | None = None
    """How a host that is a name is trusted; `verify-full` when left out."""
    sslrootcert: Line | None = Field(default=None, examples=["/etc/ssl/certs/db-ca.pem"])
    """The certificates to trust; the system's when left out."""
    lock_timeout: Duration = "30 s"
    """How long a table that somebody has locked is waited for."""
    tools: Line | None = Field(default=None, examples=["/usr/lib/postgresql/17/bin"])
    """The folder of PostgreSQL's programs; found by the server's version when left out."""
    scratch: Line | None = Field(default=None, examples=["/var/tmp"])
    """Where throwaway servers of restore tests lie; the folder for temporary files when left out."""


class PgbackrestSource(KeptElsewhere):
    """What pgBackRest keeps of a PostgreSQL server, tested as it is: nothing is copied, and nothing written there."""

    title: ClassVar[str] = "pgBackRest"

    kind: Literal["pgbackrest"]
    """What kind of source it is."""
    stanza: Line = Field(examples=["main"])
    """What pgBackRest calls the server."""
    config: Line | None = Field(default=None, examples=["/etc/pgbackrest/pgbackrest.conf"])
    """The file of pgBackRest's settings; those in the usual places when left out. Only those of repositories count."""
    repository: Line | None = Field(default=None, examples=["/srv/pgbackrest"])
    """Instead of `config`: the folder of an unencrypted repository, which is then called `repo1`."""
    program: Line = "pgbackrest"
    """The program; found on PATH when left out."""


class BarmanSource(KeptElsewhere):
    """What Barman keeps of a PostgreSQL server, tested as it is: nothing is copied, and nothing changed there."""

    title: ClassVar[str] = "Barman"

    kind: Literal["barman"]
    """What kind of source it is."""
    server: Line = Field(examples=["main"])
    """What Barman calls the server; its only repository is called so, too."""
    config: Line | None = Field(default=None, examples=["/etc/barman.conf"])
    """The file of Barman's settings; `/etc/barman.conf` when left out. Only those count that say where backups are."""
    program: Line = "barman"
    """The program; found on PATH when left out."""


class WalGSource(KeptElsewhere):
    """What WAL-G keeps of a PostgreSQL server, tested as it is: nothing is copied, and nothing written there."""

    title: ClassVar[str] = "WAL-G"

    kind: Literal["wal-g"]
    """What kind of source it is."""
    config: Line | None = Field(default=None, examples=["/etc/wal-g.json"])
    """The file of WAL-G's settings; `~/.walg.json`, and variables, when left out."""
    repository: Line | None = Field(default=None, examples=["/srv/wal-g"])
    """Instead of `config`: the folder of an unencrypted storage."""
    program: Line = "wal-g"
    """The program; found on PATH when left out."""
