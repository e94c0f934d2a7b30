"""What must survive: the declared intent, validated by `config` and read by every pure function."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cto_backups.core.model import Rung
from cto_backups.core.retention import Retention
from cto_backups.core.schedule import Triggers


class LockMode(StrEnum):
    """How strongly a vault protects stored files against deletion."""

    NONE = "none"
    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"


@dataclass(frozen=True, slots=True)
class VaultPolicy:
    """A named place for copies. `provider` with `region` says what fails together; `storage` is the storage type."""

    name: str
    url: str
    provider: str
    region: str
    storage: str
    off_site: bool = False
    lock_mode: LockMode = LockMode.NONE


@dataclass(frozen=True, slots=True)
class Category:
    """Objectives that many sources share.

    `copies`, `storage_types` and `off_site` state the 3-2-1 rule for this category; `read_within` is the time within
    which every stored byte must be read again; `rung` and `rung_within` say how strongly and how freshly proven.
    """

    name: str
    title: str
    rpo: timedelta
    rto: timedelta
    point_in_time: bool
    copies: int
    storage_types: int
    off_site: bool
    read_within: timedelta
    rung: Rung


@dataclass(frozen=True, slots=True)
class DataClass:
    """A kind of data, its defaults. `retention` None: a source must state it; `test_every` None: none required."""

    name: str
    title: str
    category: str
    triggers: Triggers
    retention: Retention | None
    test_every: timedelta | None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A resource that is left out on purpose, by whom, why and until when."""

    resource: str
    reason: str
    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """One protected source, with everything resolved: no default is left to look up."""

    name: str
    kind: str
    category: Category
    triggers: Triggers
    retention: Retention
    test_every: timedelta | None
    vaults: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    data_class: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole declared intent. `digest` is the SHA-256 of its file; calendar times are in `timezone`."""

    business: str
    timezone: str
    sources: Mapping[str, SourcePolicy]
    vaults: Mapping[str, VaultPolicy]
    categories: Mapping[str, Category]
    classes: Mapping[str, DataClass]
    exclusions: tuple[Exclusion, ...]
    digest: str
