"""Whether a clone holds what its instance held: every row that a log can bring back, and the words of the catalogues.

Rows of unlogged tables are in no log. A dump has them, and a clone does not: sums of what was dumped are taken once
with them, as any dump's are, and once without. What is MySQL's own about it is in `mysql`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import psycopg

from cto_backups.core.cloud_sql import ABOUT
from cto_backups.core.comparison import compare
from cto_backups.core.elsewhere import is_of_elsewhere
from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.errors import VerificationError
from cto_backups.sources.cloudsql.service import LogPlace
from cto_backups.sources.postgresql.inventory import unlogged
from cto_backups.sources.postgresql.rows import SequenceAt, sequences
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.sums import (
    PHYSICAL,
    Summed,
    fingerprint_of,
    rows_digest,
    sequence_from,
    sequence_key,
    sequence_sample,
    shared_lines,
    summed_up,
)

_ROWS: Final = ": rows"


def of_elsewhere(sample: Sample) -> bool:
    """Whether a sample tells of the instance and its service, and nothing that a restore could bring back."""
    return (
        sample.key == ABOUT
        or sample.key.startswith(f"{ABOUT}: ")
        or sample.key == LOG_SAMPLE
        or is_of_elsewhere(sample)
    )


def about(fingerprint: Fingerprint) -> Sample | None:
    """What a fingerprint tells of the instance."""
    return next((sample for sample in fingerprint.samples if sample.key == ABOUT), None)


def without_unlogged(summed: Summed, names: Collection[str]) -> Sample:
    """A sample of the rows of a database that a clone will have: without those of the unlogged tables."""
    kept = [table for table in summed.tables if table.name not in names]
    return Sample(f"{ABOUT}: {summed.name}", {"rows": rows_digest(kept)})


def told_of(place: LogPlace | None) -> dict[str, str]:
    """How a record, and a fingerprint, tell a place in the log."""
    return {"log_file": place.file, "log_position": str(place.offset)} if place is not None else {}


def leads_to(told: Mapping[str, str]) -> str | LogPlace:
    """To which moment, or place in the log, a clone has to be made, as a record or a fingerprint tells; "" for none.

    Raises LookupError, TypeError, ValueError.
    """
    if told.get("log_file"):
        return LogPlace(str(told["log_file"]), int(told["log_position"]))
    return str(told.get("at") or "")


class Found(Protocol):
    """What the databases of a server are summed up to, without what a clone cannot have.

    `ran` are the events that it has executed by itself since it came up.
    """

    @property
    def ran(self) -> Sequence[str]:
        """See above."""

    def fingerprint(self, samples: Sequence[Sample]) -> Fingerprint:
        """Of it, with these samples beside those of its tables."""

    def moved_on(self, expected: Fingerprint) -> list[Sample]:
        """The samples of what only moves on: each is as it was, or further on, which a recovery may leave it."""


@dataclass(frozen=True)
class FoundPostgresql:
    """Implements `Found` for databases of PostgreSQL, without what is in no log."""

    summed: Sequence[Summed]
    shared: tuple[dict[str, str], int]
    sequences: dict[str, SequenceAt]
    ran: Sequence[str] = ()

    def fingerprint(self, samples: Sequence[Sample]) -> Fingerprint:
        """Of it, with these samples beside those of its tables."""
        return fingerprint_of(self.summed, *self.shared, samples, PHYSICAL)

    def moved_on(self, expected: Fingerprint) -> list[Sample]:
        """See `Found`."""
        samples = []
        for sample in expected.samples:
            if "last" in sample.fields and sample.key in self.sequences:
                come = self.sequences[sample.key]
                samples.append(sample if come.reached(sequence_from(sample)) else sequence_sample(sample.key, come))
        return samples


def found_on(server: Server, names: Sequence[str]) -> FoundPostgresql:
    """Sum up these databases of a server that nobody writes to. Raises VerificationError, SourceError."""
    summed: list[Summed] = []
    come: dict[str, SequenceAt] = {}
    shared: tuple[dict[str, str], int] = ({}, 0)
    for name in names:
        with server.session(name) as session:
            try:
                found = summed_up(session, name)
            except psycopg.Error as error:
                raise server.unreadable(name, error) from error
            hidden = {".".join(pair) for pair in unlogged(session)}
            summed.append(replace(found, tables=[each for each in found.tables if each.name not in hidden]))
            come |= {sequence_key(name, each): each for each in sequences(session)}
            shared = shared_lines(session)
    return FoundPostgresql(summed, shared, come)


def fingerprint_of_clone(source: str, expected: Fingerprint, found: Found) -> Fingerprint:
    """What a clone is summed up to, to be compared with a fingerprint that was taken for clones alone.

    Raises VerificationError where it is another, and events may be why.
    """
    known = {sample.key: sample for sample in expected.samples}
    made = found.fingerprint([*([known["server"]] if "server" in known else []), *found.moved_on(expected)])
    told = [sample for sample in made.samples if sample.key in known]
    whole = replace(made, samples=(*told, *(sample for sample in expected.samples if of_elsewhere(sample))))
    if found.ran and not (comparison := compare(expected, whole)).passed:
        raise _changed_by_events(source, found.ran, comparison.differences)
    return whole


def compare_with_dump(source: str, moment: str, expected: Fingerprint, found: Found) -> None:
    """Raise VerificationError where a clone is not what was dumped at its moment."""
    rows = {
        f"{sample.key.removeprefix(f'{ABOUT}: ')}{_ROWS}": sample.fields["rows"]
        for sample in expected.samples
        if sample.key.startswith(f"{ABOUT}: ")
    }
    digests = {name: digest for name, digest in expected.checksums.items() if not name.endswith(_ROWS)}
    moved = [sample for sample in expected.samples if "last" in sample.fields]
    counts = {name: expected.counts[name] for name in ("databases", "roles") if name in expected.counts}
    made = found.fingerprint(())
    then = Fingerprint(made.algorithm, {**digests, **rows}, counts, tuple(moved) or _NONE)
    now = replace(
        made,
        counts={name: made.counts[name] for name in counts},
        samples=tuple(found.moved_on(expected)) or _NONE,
    )
    comparison = compare(then, now)
    if not comparison.passed:
        if found.ran:
            raise _changed_by_events(source, found.ran, comparison.differences)
        raise VerificationError(
            f"source {source}: a clone of the instance to {moment} is not what the instance held then",
            why="; ".join(comparison.differences[:5]),
            todo="the export in the vaults came back; see what the service says of the instance's log and its backups",
        )


def _changed_by_events(source: str, ran: Sequence[str], differences: Sequence[str]) -> VerificationError:
    """A clone in which something went on cannot be compared: it says nothing of the instance's log."""
    return VerificationError(
        f"source {source}: events ran in the clone before its rows were summed up, so it proves nothing",
        why=f"{', '.join(ran[:5])} ran; {'; '.join(differences[:3])}",
        todo="a clone has the flags of its instance until they are switched off: test again when none of them "
        "is due; or leave clones out, `clone_tests: false`",
    )


_NONE: Final = (Sample("sequences", {"number": "0"}),)
