"""What keeps points against their retention: legal holds, suspicion of what came after, retentions of before."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cto_backups.core.model import RecoveryPoint


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: what it covers is not dropped until somebody releases it, whatever retention says.

    With `point` None it is on all of the source: the points that are kept, and those made later. `approver` is who
    agreed to it, in the words of whoever placed it; `placed_by` and `released_by` are users of the operating system.
    """

    id: str
    source: str
    point: str | None
    reason: str
    placed_at: datetime
    placed_by: str
    approver: str | None = None
    released_at: datetime | None = None
    released_by: str | None = None
    released_because: str | None = None

    def covers(self, point: "RecoveryPoint") -> bool:
        """Whether it is in force, and on this point."""
        return self.released_at is None and self.source == point.source and self.point in (None, point.id)

    @property
    def placing(self) -> str:
        """Who placed it, and who approved that where somebody did."""
        return f"{self.placed_by}, approved by {self.approver}" if self.approver else self.placed_by


@dataclass(frozen=True, slots=True)
class Mark:
    """A point under suspicion, kept or expired, until a person clears it by saying that its change was meant."""

    point: str
    source: str
    captured_at: datetime
    suspicions: tuple[str, ...]
    cleared_at: datetime | None = None
    cleared_by: str | None = None
    cleared_because: str | None = None


@dataclass(frozen=True, slots=True)
class RetentionSeen:
    """A retention that policy gave a source, in its written form, and when that was first seen.

    `settled`: what applied before binds no longer. `approved`: somebody has approved that, which ends no wait.
    """

    text: str
    since: datetime
    settled: bool
    approved: bool = False


@dataclass(frozen=True, slots=True)
class RetentionTold:
    """That a source had this retention, in written form, at a moment, as a record tells.

    `approved` by somebody. One that is not `believed` was signed by somebody else.
    """

    text: str
    since: datetime
    approved: bool = False
    believed: bool = True
