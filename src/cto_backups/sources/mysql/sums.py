"""What rows summed up to last, in a point that goes on from there: with `sums_every`, the log alone is read in between.

``sums.json`` beside a point's log has it, so that nothing is remembered here.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cto_backups.core.log_range import SUMMED_UNTIL
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.sources.mysql.dump import Position
from cto_backups.sources.mysql.log import Log, unrecovered

SUMS_FILE: Final = "sums.json"


@dataclass(frozen=True)
class Sums:
    """What a server held at a place in its log: by its clock at `until`, by ours at `at`."""

    place: Position
    until: datetime
    at: datetime
    fingerprint: Fingerprint

    def written(self) -> bytes:
        """As a file."""
        told = self.fingerprint
        document = {
            "format": 1,
            "place": [self.place.file, self.place.offset],
            "until": self.until.isoformat(),
            "at": self.at.isoformat(),
            "algorithm": told.algorithm,
            "checksums": dict(told.checksums),
            "counts": dict(told.counts),
            "samples": [[sample.key, dict(sample.fields)] for sample in told.samples],
        }
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes) -> "Sums":
        """What `written` gave. Raises VerificationError."""
        try:
            document = json.loads(content)
            file, offset = document["place"]
            return cls(
                Position(str(file), int(offset)),
                datetime.fromisoformat(document["until"]),
                datetime.fromisoformat(document["at"]),
                Fingerprint(
                    str(document["algorithm"]),
                    {str(name): str(value) for name, value in document["checksums"].items()},
                    {str(name): int(value) for name, value in document["counts"].items()},
                    tuple(
                        Sample(str(key), {str(name): str(value) for name, value in fields.items()})
                        for key, fields in document["samples"]
                    ),
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise unrecovered(f"{SUMS_FILE} does not tell what was summed up") from error

    def serve(self, log: Log, now: datetime, every: timedelta) -> bool:
        """Whether they are of this log, and young enough for a point that goes on from them."""
        there = self.place == log.begins or any(self.place == Position(p.file, p.ends) for p in log.pieces)
        return there and timedelta(0) <= now - self.at < every

    def of(self, log: Log) -> Fingerprint:
        """The fingerprint of a point whose log leads on from there."""
        return replace(self.fingerprint, samples=(*self.fingerprint.samples, log_sample(log, self)))


def log_sample(log: Log, sums: Sums | None) -> Sample:
    """What a fingerprint says of a log, and where in it rows were summed up, if that is not its end."""
    if sums is None or sums.place == log.ends:
        return log.sample
    told = {SUMMED_UNTIL: sums.until.isoformat(), "summed_at": f"{sums.place.file}:{sums.place.offset}"}
    return Sample(log.sample.key, {**log.sample.fields, **told})


def sums_in(place: Path) -> Sums | None:
    """What a folder tells of them; None where each point has its own. Raises VerificationError."""
    try:
        return Sums.read((place / SUMS_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unrecovered(f"{SUMS_FILE}: {error.strerror}") from error


def split(log: Log | None, sums: Sums | None) -> tuple[Log | None, Log | None]:
    """What of a log leads to where rows were summed up, and what leads on from there. Raises VerificationError."""
    if log is None or sums is None or sums.place == log.ends:
        return log, None
    if sums.place == log.begins:
        return replace(log, pieces=()), log
    for number, piece in enumerate(log.pieces, 1):
        if sums.place == Position(piece.file, piece.ends):
            return replace(log, pieces=log.pieces[:number]), replace(log, pieces=log.pieces[number:])
    raise unrecovered(f"{SUMS_FILE} tells of a place that is not in the log")
