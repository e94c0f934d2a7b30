"""What a status report comes to: counted part by part, so that not all of it need be in memory."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cto_backups.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cto_backups.core.model import Status
    from cto_backups.flows.status import StatusReport

_MOST_NAMED = 3


@dataclass
class Tally:
    """The words of all sources by number, and what failed last of those that are HEALTHY; some of that by name."""

    words: "Counter[Status]" = field(default_factory=Counter)
    suspected: list[str] = field(default_factory=list)
    last: "StatusReport | None" = None
    _failing: list[str] = field(default_factory=list)
    _failures: int = 0

    def counting(self, parts: "Iterable[StatusReport]") -> "Iterator[StatusReport]":
        """The parts as they come, each counted."""
        for part in parts:
            self.add(part)
            yield part

    def add(self, part: "StatusReport") -> "Tally":
        """Count one part; this."""
        self.last = part
        self.words.update(verdict.status for verdict in part.verdicts.values())
        self.suspected += [name for name in part.verdicts if part.facts.marks.get(name)]
        for failed in _failed(part):
            self._failures += 1
            if len(self._failing) < _MOST_NAMED:
                self._failing.append(failed)
        return self

    @property
    def all_healthy(self) -> bool:
        """Whether every source is HEALTHY, workers alive, who was revoked shut out, and the catalog no older one."""
        from cto_backups.core.model import Status

        last = self.last
        others = last is not None and (last.silence or last.half_revoked or last.gone_back)
        return set(self.words) <= {Status.HEALTHY} and not others

    @property
    def exit_status(self) -> ExitStatus:
        """RED unless all is as it should be."""
        return ExitStatus.SUCCESS if self.all_healthy else ExitStatus.RED

    @property
    def summary(self) -> str:
        """All verdicts in one line, the gravest first; and what failed last without having made its source red yet."""
        from cto_backups.core.assurance import SEVERITY
        from cto_backups.core.model import Status
        from cto_backups.core.wording import counted, listed

        many = self.words.total()
        if not many:
            return "The policy names no source: nothing is protected."
        others = self._failures - len(self._failing)
        failing = [*self._failing, counted(others, "other")] if others else self._failing
        but = f", but failed last: {listed(failing)}" if failing else ""
        if set(self.words) == {Status.HEALTHY}:
            every = f"All {many} sources are" if many > 1 else "The source is"
            return f"{every} HEALTHY{but}."
        told = ", ".join(f"{self.words[word]} {word.value}" for word in SEVERITY if self.words[word])
        return f"{counted(many, 'source')}: {told}{but}."


def _failed(part: "StatusReport") -> "Iterator[str]":
    """What failed when it was last tried of sources that are HEALTHY, since what they have is young enough."""
    from cto_backups.core.model import Outcome, Status

    for name, verdict in part.verdicts.items():
        facts = part.facts.sources.get(name)
        if verdict.status is Status.HEALTHY and facts is not None:
            for kind, run in facts.last_runs.items():
                if run.outcome is Outcome.FAILED:
                    yield f"the {kind.value.replace('_', ' ')} of {name}"
