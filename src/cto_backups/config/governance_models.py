"""The shape of the policy file's section on governance; see `models`."""

from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.fields import Duration, Line
from cto_backups.config.part import Part

ActionName = Literal[
    "expire",
    "prune",
    "restore",
    "key-removal",
    "hold-release",
    "source-removal",
    "shorter-retention",
    "vault-settings",
    "vault-lock",
    "host-revocation",
]

WhoName = Literal["anyone", "second-person"]


class GoverningDocument(Part):
    """A document that is read before destructive work: missing, unreadable or forbidding, it refuses that."""

    path: Line = Field(examples=["AGENTS.md", "/srv/rules/ethics.md"])
    """The file; `~` is the home folder, a relative one starts at the folder of this file."""
    governs: Annotated[list[ActionName], Field(min_length=1)] | None = None
    """The actions that it is read before; all when left out."""


class Approvals(Part):
    """The actions that need an approval, and who may give it: any approver, or one who is not who asked."""

    expire: WhoName | None = None
    """To drop points that no retention keeps."""
    prune: WhoName | None = None
    """To delete stored bytes that no point needs, or write them anew."""
    restore: WhoName | None = None
    """To restore in place, or over what is there (`--overwrite`, with or without `--delete`)."""
    key_removal: WhoName | None = Field(default=None, alias="key-removal")
    """To take away a key that opens a vault, also at the end of a rotation."""
    hold_release: WhoName | None = Field(default=None, alias="hold-release")
    """To release a legal hold."""
    source_removal: WhoName | None = Field(default=None, alias="source-removal")
    """To take a source out of this file: the audit reports it until then."""
    shorter_retention: WhoName | None = Field(default=None, alias="shorter-retention")
    """To let a shortened retention drop what the one before it keeps, after the 72 hours that it always waits."""
    vault_settings: WhoName | None = Field(default=None, alias="vault-settings")
    """To set a vault's bucket as policy asks (`vault apply`)."""
    vault_lock: WhoName | None = Field(default=None, alias="vault-lock")
    """To turn on what nobody can turn off again; this needs an approval by anyone when left out."""
    host_revocation: WhoName | None = Field(default=None, alias="host-revocation")
    """To end what an enrolled host may do (`host revoke`)."""
    document_change: WhoName | None = Field(default=None, alias="document-change")
    """To accept that a governing document has changed; this needs an approval by anyone when left out."""
    governance_change: WhoName | None = Field(default=None, alias="governance-change")
    """To let this section ask for less than it did; by a second person when left out, if any action needs one."""


class Governance(Part):
    """What destructive work needs beside a command: documents that are read, and people who approve."""

    documents: list[GoverningDocument] = []
    """The documents that are read before destructive work; what is read is signed and kept."""
    approvals: Approvals | None = None
    """The actions that need an approval, and whose."""
    approvers: list[Line] = Field(default=[], examples=[["ada", "1002"]])
    """Who may approve: login names of the operating system, or users' numbers in quotes. Everybody when left out."""
    approval_valid_for: Duration = "72 h"
    """How long a request waits for its approval, and then how long that may be used."""
