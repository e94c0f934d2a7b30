"""The shape of the policy file's section on workers; see `models`."""

from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.bandwidth_models import Weekday
from cto_backups.config.fields import Duration, TimeOfDay
from cto_backups.config.part import Part

AtOnce = Annotated[int, Field(ge=1, le=64)]


class HeavyWindow(Part):
    """When heavy work may begin."""

    begin: TimeOfDay | None = Field(default=None, alias="from", examples=["22:00"])
    """From what time of day on, in the time zone of `timezone`; all day when left out."""
    end: TimeOfDay | None = Field(default=None, alias="to", examples=["06:00"])
    """When that ends; may be on the next day."""
    days: Annotated[list[Weekday], Field(min_length=1)] | None = Field(default=None, examples=[["saturday", "sunday"]])
    """The days of the week on which it begins; every day when left out."""


class Worker(Part):
    """How each worker works."""

    actions: AtOnce = 2
    """How many actions it does at once, each in a process of its own. Of several, one place is kept for backups and
    copies, whatever else there is to test, read and prune."""
    per_source: AtOnce = 2
    """How many of them at one source: while it is backed up, say, its points may be copied."""
    per_vault: AtOnce = 2
    """How many of them in one vault; a prune has it for itself."""
    spread: Duration | None = Field(default=None, examples=["20 minutes"])
    """Calendar times come later by up to so long, each source of each host by a time of its own that stays the same: so
    a fleet does not begin at once. The times between two runs, and so the RPO, stay what they are."""
    nice: Annotated[int, Field(ge=0, le=19)] = 5
    """How far its actions stand back from other programs for the processor: 0 not at all, 19 the farthest. On a
    host that is never idle, a high number may cost an RPO."""
    io: Literal["normal", "low", "idle"] = "low"
    """How far they stand back for disks, where the system has `ionice`: `idle` waits for everybody."""
    heavy_work: list[HeavyWindow] = []
    """The windows in which restore tests, verifications and prunes begin; at any time when left out. What would be
    late by waiting for the next one begins outside them, and says so. Backups, copies and locks never wait."""
