"""The index of an export: the restore tests and verifications of a period in words, made of the records alone."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cto_backups.core.model import Evidence
from cto_backups.evidence.payloads import evidence_from_payload, moment_from_text, moment_to_text
from cto_backups.evidence.records import Record

COLUMNS = (
    "finished_at",
    "what",
    "source",
    "recovery_point",
    "vault",
    "result",
    "rung",
    "seconds",
    "in_words",
    "id",
    "signer",
    "record",
    "digest",
)
WHAT = {
    "restore_test": "restore test",
    "verify": "verification",
    "vault_check": "check of a vault",
    "vault_settings": "look at a bucket's settings",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Scope:
    """What an index speaks of: evidence that ended from `since` to `until`, of one source or (None) of all.

    Verifications of whole vaults belong to every source. The records of an export end no earlier than `until`.
    """

    since: datetime
    until: datetime
    source: str | None = None

    def covers(self, evidence: Evidence) -> bool:
        """Whether this evidence stands in the index."""
        ours = self.source is None or evidence.source in (None, self.source)
        return ours and self.since <= evidence.finished_at <= self.until

    def to_payload(self) -> dict[str, Any]:
        """The scope as plain JSON."""
        return {
            "format": 1,
            "since": moment_to_text(self.since),
            "until": moment_to_text(self.until),
            "source": self.source,
        }

    @classmethod
    def from_payload(cls, payload: Any) -> "Scope":
        """A scope from JSON. Raises ValueError, KeyError or TypeError for what is none."""
        since, until = moment_from_text(payload["since"]), moment_from_text(payload["until"])
        if payload["format"] != 1 or since.tzinfo is None or until.tzinfo is None:
            raise ValueError("unknown format")
        return cls(since, until, payload["source"])


def evidence_of(record: Record) -> Evidence | None:
    """What a record proves; None for one of another kind, and for one whose words are not evidence."""
    if record.kind != "evidence":
        return None
    try:
        return evidence_from_payload(record.payload)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def row(record: Record, evidence: Evidence) -> tuple[str, ...]:
    """A row of the index."""
    seconds = (evidence.finished_at - evidence.started_at).total_seconds()
    return (
        moment_to_text(evidence.finished_at),
        WHAT.get(evidence.kind, evidence.kind),
        evidence.source or "",
        evidence.point or "",
        evidence.vault,
        "passed" if evidence.passed else "FAILED",
        evidence.rung.name.lower(),
        f"{seconds:.1f}",
        in_words(evidence),
        evidence.id,
        record.signer,
        str(record.sequence),
        record.digest,
    )


def in_words(evidence: Evidence) -> str:
    """What was done, how it ended, and each step."""
    about = (
        f"{evidence.point} restored from vault {evidence.vault}" if evidence.point else f"vault {evidence.vault} read"
    )
    steps = "; ".join(
        f"{step.name.replace('_', ' ')} {'ok' if step.passed else 'FAILED'}"
        + (f" ({step.detail})" if step.detail else "")
        for step in evidence.steps
    )
    reason = f": {evidence.reason}" if evidence.reason else ""
    return f"{about}, {'passed' if evidence.passed else 'FAILED'}{reason}" + (f". Steps: {steps}" if steps else "")


def rendered(rows: Iterable[tuple[str, ...]]) -> bytes:
    """The index as CSV (RFC 4180), the oldest evidence first. A cell that a spreadsheet would compute gets a quote."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for each in sorted(rows):
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in each])
    return out.getvalue().encode("utf-8", "backslashreplace")
