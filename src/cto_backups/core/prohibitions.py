"""What a governing document forbids: lines of its front matter, the block between two lines of `---` at its beginning.

Such a line is ``cto.backups: forbid prune until 2027-01-01``: after `forbid` come actions with commas between them, or
`everything`; then, where the prohibition ends, `until` and its last day. There may be several such lines.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cto_backups.core.calendar_times import require_aware
from cto_backups.core.governance import DESTRUCTIVE, Governed
from cto_backups.core.wording import did_you_mean

ALLOWED = "'forbid', then actions with commas between them or 'everything', then perhaps 'until' and a date"
EVERYTHING = "everything"

_LINE = re.compile(r"cto\.backups\s*:(.*)\Z", re.DOTALL)
_RULE = re.compile(r"forbid\s+(?P<actions>.+?)(?:\s+until\s+(?P<until>\S+))?\Z")
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Prohibition:
    """Actions that a document forbids, for ever or to the end of the day `until`."""

    actions: frozenset[Governed]
    until: date | None = None

    def forbids(self, action: Governed, now: datetime, zone: ZoneInfo) -> bool:
        """Whether the action is forbidden now; days end at midnight in `zone`. Raises ValueError for a naive `now`."""
        require_aware(now)
        if action not in self.actions:
            return False
        return self.until is None or now < datetime.combine(self.until, time(), zone) + timedelta(days=1)


def parse_prohibitions(text: str) -> tuple[Prohibition, ...]:
    """What a document's front matter forbids; nothing where it has none. Raises ValueError for what is no rule."""
    return tuple(_parse(rule) for rule in _rules(text))


def _rules(text: str) -> Iterator[str]:
    lines = text.removeprefix(_BYTE_ORDER_MARK).splitlines()
    if not lines or lines[0].rstrip() != "---":
        return
    for line in lines[1:]:
        if line.rstrip() == "---":
            return
        found = _LINE.match(line)
        if found:
            yield " ".join(found[1].strip().strip("\"'").split())


def _parse(rule: str) -> Prohibition:
    found = _RULE.match(rule)
    if found is None:
        raise ValueError(f"'{rule}' is no rule: write {ALLOWED}")
    named = [name.strip() for name in found["actions"].split(",")]
    known = tuple(action.value for action in DESTRUCTIVE)
    for name in named:
        if name not in known and named != [EVERYTHING]:
            hint = did_you_mean(name, known)
            raise ValueError(f"'{name}' is no action: they are {', '.join(known)}{hint}")
    actions = DESTRUCTIVE if named == [EVERYTHING] else tuple(Governed(name) for name in named)
    return Prohibition(frozenset(actions), _until(found["until"]))


def _until(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        until = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no date: write it like 2027-01-01") from None
    if until >= date.max - timedelta(days=2):
        raise ValueError(f"'{text}' is too far away: leave 'until' out for ever")
    return until
