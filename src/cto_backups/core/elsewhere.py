"""Points whose data another program keeps, in repositories of its own: our vaults hold their records alone; pure.

Their fingerprints say so in samples: `elsewhere` tells whose repositories these are and how much comes back, and
`elsewhere: NAME` of each of them what of the point it lacks, if anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cto_backups.core.facts import SourceFacts
from cto_backups.core.model import Fingerprint, RecoveryPoint, Rung, Sample, Status
from cto_backups.core.policy import Category, SourcePolicy, VaultPolicy
from cto_backups.core.wording import counted, listed

SAMPLE: Final = "elsewhere"
_NAMED: Final = f"{SAMPLE}: "
_FIELDS: Final = ("lacks", "damage", "remark", "cipher", "backup")
UNDECLARED: Final = "not declared"
"""The provider, region and storage type of a repository of which policy says nothing: all of them fail together."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How one repository keeps a point.

    `lacks` says what of it is not there, `damage` what is known to be damaged, `remark` what else is wrong; each is
    empty where nothing is. `cipher` is how it is encrypted, empty where it is not. `backup` is the program's own name
    for what a restore begins with.
    """

    repository: str
    lacks: str = ""
    damage: str = ""
    remark: str = ""
    cipher: str = ""
    backup: str = ""

    @property
    def holds(self) -> bool:
        """Whether all of the point would come back from it, as far as is known."""
        return not self.lacks and not self.damage


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where the data of a point lie: in which program's repositories, and how many bytes a restore would write."""

    program: str
    size_bytes: int
    keeping: tuple[Keeping, ...]

    @property
    def holding(self) -> tuple[Keeping, ...]:
        """The repositories that hold the point."""
        return tuple(each for each in self.keeping if each.holds)

    def samples(self) -> tuple[Sample, ...]:
        """As a fingerprint tells it."""
        return (
            Sample(SAMPLE, {"program": self.program, "size_bytes": str(self.size_bytes)}),
            *(
                Sample(_NAMED + each.repository, {name: value for name in _FIELDS if (value := getattr(each, name))})
                for each in self.keeping
            ),
        )

    def __str__(self) -> str:
        """In words: "1 copy, in pgBackRest's repository repo1 (backup …), with only its record in our vaults"."""
        names = [f"{each.repository} (backup {each.backup})" for each in self.holding]
        if not names:
            return f"no sound copy in {self.program}'s repositories, and only its record in our vaults"
        where = f"{self.program}'s {'repository' if len(names) == 1 else 'repositories'} {listed(names)}"
        return f"{counted(len(names), 'copy', 'copies')}, in {where}, with only its record in our vaults"


def is_of_elsewhere(sample: Sample) -> bool:
    """Whether a sample tells where data lie, and nothing of the data."""
    return sample.key == SAMPLE or sample.key.startswith(_NAMED)


def told(fingerprint: Fingerprint) -> Elsewhere | None:
    """What a fingerprint says of where the data lie; None where they are in our vaults."""
    about = next((sample.fields for sample in fingerprint.samples if sample.key == SAMPLE), None)
    if about is None:
        return None
    named = [sample for sample in fingerprint.samples if sample.key.startswith(_NAMED)]
    size = about.get("size_bytes", "")
    return Elsewhere(
        about.get("program", ""),
        int(size) if size.isdecimal() else 0,
        tuple(Keeping(sample.key.removeprefix(_NAMED), **_known(sample)) for sample in named),
    )


def _known(sample: Sample) -> dict[str, str]:
    return {name: sample.fields.get(name, "") for name in _FIELDS}


def elsewhere(point: RecoveryPoint | None) -> Elsewhere | None:
    """Where the data of a point lie; None where they are in our vaults, or there is no point."""
    return None if point is None else told(point.fingerprint)


def comparable(point: RecoveryPoint) -> bool:
    """Whether its source was asked what it held: else it may come back, and nobody can tell what it should be."""
    return bool(point.fingerprint.checksums)


def data_copies(point: RecoveryPoint | None, copies: int) -> int:
    """How many copies of a point's data there are, when so many vaults have a sound copy of what we stored of it."""
    found = elsewhere(point)
    return copies if found is None else len(found.holding)


def rung_elsewhere(facts: SourceFacts, fresh: Callable[[datetime], bool]) -> Rung | None:
    """On which rung data stand that lie elsewhere, and are not proven; None for those in our vaults.

    What was read of our vaults says nothing of them. `fresh` says whether a moment is recent enough to count.
    """
    newest, last = facts.newest, facts.last_test
    if newest is None or elsewhere(newest) is None:
        return None
    came_back = not comparable(newest) and last is not None and last.rung >= Rung.RESTORED and fresh(last.finished_at)
    return Rung.RESTORED if came_back else Rung.STORED


def findings_elsewhere(point: RecoveryPoint, category: Category) -> Iterator[tuple[Status, str]]:
    """What is wrong with the repositories that keep the newest point of a source of this category."""
    found = elsewhere(point)
    if found is None:
        return
    for each in found.keeping:
        name = f"{found.program}'s {each.repository}"
        if each.damage:
            yield Status.FAILED_TEST, f"{name} is damaged: {each.damage}"
        if each.lacks:
            yield Status.OVERDUE, f"{name} does not hold the newest point: {each.lacks}"
        if each.remark:
            yield Status.OVERDUE, f"{name}: {each.remark}"
    if len(found.keeping) < category.copies:
        has = f"{found.program} has {counted(len(found.keeping), 'repository', 'repositories')}"
        asked = f"category {category.name} asks for {counted(category.copies, 'copy', 'copies')}"
        yield Status.HEALTHY, f"{has}, but {asked}"


def declared(source: SourcePolicy, found: Elsewhere, repository: str) -> VaultPolicy:
    """What policy says of a repository, as of a vault; where it says nothing, nothing is assumed in its favour."""
    known = source.repositories.get(repository)
    if known is not None:
        return known
    return VaultPolicy(
        name=f"{found.program}'s {repository}", url="", provider=UNDECLARED, region=UNDECLARED, storage=UNDECLARED
    )
