"""What the policy file says of every source, whatever its kind."""

from pydantic import Field

from cto_backups.config.fields import (
    Arguments,
    Cadence,
    CategoryName,
    ClassName,
    Duration,
    HostName,
    Line,
    Retention,
    Triggers,
    VaultNames,
)
from cto_backups.config.part import Part


class AnySource(Part):
    """What every source has, beside its kind."""

    data_class: ClassName | None = Field(default=None, alias="class")
    """The kind of data: gives category, triggers, retention and test cadence. Needed unless those are given."""
    category: CategoryName | None = None
    """The objectives that apply, instead of those of the class."""
    triggers: Triggers | None = None
    """When it is backed up: a set of triggers, as one text with commas or as a list."""
    retention: Retention | None = None
    """How long its recovery points are kept; a point that any of the rules keeps is kept."""
    test: Cadence | None = None
    """How often it is restored as a test and compared; `none` for never."""
    vaults: VaultNames | None = None
    """The vaults its copies go to; all of them when left out."""
    on_host: HostName | None = Field(default=None, examples=["web1", "*"])
    """In a fleet, the host whose worker captures it, or `*`: any. Left out, the first that had it, if it reads files or
    sockets of a machine."""
    owner: Line | None = Field(default=None, examples=["cto@example.com"])
    """Who answers for this data."""
    before: Arguments | None = Field(default=None, examples=[["/usr/local/bin/flush-app"]])
    """What is run before each capture, in the folder of this file, without a shell; with another status than 0 nothing
    is captured, and the backup has failed."""
    after: Arguments | None = Field(default=None, examples=[["/usr/local/bin/resume-app"]])
    """What is run after each capture, also after one that failed, and after a `before` that did."""
    hook_timeout: Duration = "10 minutes"
    """How long each of the two may take."""
    probe: Arguments | None = Field(default=None, examples=[["./try-the-restored-data"]])
    """What restore tests run on what came back, in the folder it was restored to; status 0 says that it serves."""
    probe_timeout: Duration = "10 minutes"
    """How long `probe` may take."""
    backup_timeout: Duration | None = Field(default=None, examples=["2 h"])
    """How long a backup may work at the source; then it is ended, and has failed. As long as it takes when left out."""
    expects_change: Duration | None = Field(default=None, examples=["26 h"])
    """Something in it changes at least this often: a source that stands still for longer is OVERDUE."""
