"""Chains of signed records in vaults: grouped, read and judged here, for all flows that go through them.

Under each number stands one record, where all is well. Two ways lead through a chain: `Chain.walk` looks at everything
and tells all that is wrong; `Chain.after` gives sound records alone, and nothing that comes after one that is not.
Where several vaults have a record, the first sound one serves: what one vault lost, another may have.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain as joined
from typing import TypeVar

from cto_backups.core.payloads import Damage
from cto_backups.core.ports import Progress, Silent
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError, VaultMissingError
from cto_backups.evidence.export import Head
from cto_backups.evidence.records import Record, fingerprint_of, follows, verify_chain
from cto_backups.flows.installation import Installation
from cto_backups.flows.record_files import Keys, RecordFiles, by_signer, in_clear

_Read = TypeVar("_Read", bound=Record | None)


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands under a key in a vault: a record that is not judged yet, or the error that reading it ended with."""

    vault: str
    key: str
    found: Record | DamageError | VaultMissingError


@dataclass(frozen=True, slots=True)
class Walk:
    """A chain from its first record to its last: the digests in order, how it ends, and all that is wrong with it."""

    digests: tuple[str, ...]
    head: Head | None
    faults: tuple[str, ...]


def walk(records: Iterable[Record | None]) -> Walk:
    """Judge what should be a signer's whole chain, in the order given. None stands for what is no record."""
    digests: list[str] = []
    fingerprints: list[str] = []
    unreadable: list[str] = []

    def readable() -> Iterator[Record]:
        for number, record in enumerate(records, start=1):
            if record is None:
                unreadable.append(f"what stands in place {number} is no record")
                continue
            digests.append(record.digest)
            if not fingerprints:
                fingerprints.append(fingerprint_of(record.public_key))
            yield record

    report = verify_chain(readable())
    of = f"signer {report.signer or '(unknown)'}"
    head = Head(fingerprints[0], len(digests), digests[-1]) if digests else None
    return Walk(tuple(digests), head, tuple(f"{of}, {fault}" for fault in (*unreadable, *report.faults)))


def told(progress: Progress, records: Iterable[_Read]) -> Iterator[_Read]:
    """The records as they are read, each of them told."""
    for record in records:
        yield record
        progress.advance(entries=1)


def in_catalog(installation: Installation, signer: str) -> Iterator[Record | None]:
    """A signer's records in the catalog; None, and nothing after it, for one that is damaged."""
    try:
        yield from installation.catalog.records_after(signer, 0)
    except DamageError:
        yield None


@dataclass(frozen=True)
class Chain:
    """One signer's records in vaults (by name), as they were listed.

    What reads them raises VaultError, and what keeps a vault's repository from opening: its key opens the records.
    """

    installation: Installation
    signer: str
    vaults: Mapping[str, Keys]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The numbers under which some vault has something, in order."""
        return tuple(sorted({number for keys in self.vaults.values() for number in keys}))

    def only_in(self, vault_names: Iterable[str]) -> "Chain":
        """What some of the vaults have of it."""
        return Chain(
            self.installation, self.signer, {name: self.vaults[name] for name in vault_names if name in self.vaults}
        )

    def whole_up_to(self, vault_name: str, last: int) -> int:
        """Up to which number a vault has every record, if the chain ends with number `last`."""
        keys = self.vaults.get(vault_name, {})
        return next((number - 1 for number in range(1, last + 1) if number not in keys), last)

    def at(self, number: int) -> Iterator[Entry]:
        """What stands under a number, vault by vault."""
        return joined.from_iterable(self.at_in(vault_name, number) for vault_name in self.vaults)

    def at_in(self, vault_name: str, number: int) -> Iterator[Entry]:
        """What stands under a number in one vault."""
        files = RecordFiles(self.installation, vault_name)
        for key in self.vaults[vault_name].get(number, ()):
            self.installation.store(vault_name)  # what keeps it from opening is no fault of a record
            found: Record | DamageError | VaultMissingError
            try:
                found = files.record(key)
            except (DamageError, VaultMissingError) as error:
                found = error
            yield Entry(vault_name, key, found)

    def walk(self, progress: Progress = Silent()) -> Walk:  # noqa: B008
        """Judge all of it, from number 1 on. Raises VaultMissingError for what was listed and is gone."""
        return walk(told(progress, self._all()))

    def _all(self) -> Iterator[Record | None]:
        for entry in joined.from_iterable(map(self.at, self.numbers)):
            if isinstance(entry.found, VaultMissingError):
                raise entry.found
            yield entry.found if isinstance(entry.found, Record) else None

    def after(self, sequence: int, previous: str | None) -> "Continuation":
        """How it goes on after the record with this number and digest; 0 and None for all of it."""
        return Continuation(self, sequence, previous)


@dataclass
class Continuation:
    """The sound records of a chain after number `sequence`, whose digest is `previous`; iterated once.

    Then these two are of the last sound one, `faults` says what is wrong with the others, and `broken` whether records
    were left that nothing sound leads to.
    """

    chain: Chain
    sequence: int
    previous: str | None
    faults: list[Damage] = field(default_factory=list)
    broken: bool = False

    def __iter__(self) -> Iterator[Record]:
        last = max(self.chain.numbers, default=0)
        while self.sequence < last:
            record = self._next()
            if record is None:
                self._break_off(last)
                return
            self.sequence, self.previous = record.sequence, record.digest
            yield record

    def _next(self) -> Record | None:
        for vault_name in self.chain.vaults:
            sound = None
            for entry in self.chain.at_in(vault_name, self.sequence + 1):
                if isinstance(entry.found, VaultMissingError):
                    continue
                if wrong := self._wrong(entry.found):
                    self.faults.append(Damage(f"{entry.key} in vault {vault_name}", "; ".join(wrong)))
                elif isinstance(entry.found, Record):
                    sound = sound or entry.found
            if sound is not None:
                return sound
        return None

    def _wrong(self, found: Record | DamageError) -> tuple[str, ...]:
        if isinstance(found, DamageError):
            return (found.why,)
        return follows(found, signer=self.chain.signer, sequence=self.sequence + 1, previous=self.previous)

    def _break_off(self, last: int) -> None:
        first, left = self.sequence + 1, [number for number in self.chain.numbers if number > self.sequence]
        untrusted = len([number for number in left if number > first])
        # Whoever writes to the vault may put anything under this signer's name, far ahead: that breaks no chain.
        self.broken = first in left or any(map(self._is_signed, left))
        why = f"{counted(untrusted, 'record')} after it, up to {last}, cannot be trusted"
        if first not in left:
            why = f"it is missing; {why}"
        self.faults.append(Damage(f"record {first} of signer {self.chain.signer}", why))

    def _is_signed(self, number: int) -> bool:
        return any(
            isinstance(entry.found, Record) and entry.found.signer == self.chain.signer and not entry.found.faults()
            for entry in self.chain.at(number)
        )


def grouped(
    installation: Installation, listed: Mapping[str, Iterable[str]], *, any_signer: bool = False
) -> dict[str, Chain]:
    """The chains in vaults by signer, from the keys that were listed in each vault.

    With `any_signer` also those in folders that no signer can be called.
    """
    found: dict[str, dict[str, Keys]] = defaultdict(dict)
    for vault_name, keys in listed.items():
        for signer, numbered in by_signer(keys, any_signer=any_signer).items():
            found[signer][vault_name] = numbered
    return {signer: Chain(installation, signer, vaults) for signer, vaults in sorted(found.items())}


def expired_by_others(installation: Installation, vault_name: str) -> frozenset[str]:
    """The points whose expiry another signer than this installation has recorded in a vault.

    Raises VaultError.
    """
    expired = set()
    listed = RecordFiles(installation, vault_name).sizes("records")
    for signer, chain in grouped(installation, {vault_name: listed}).items():
        if signer != installation.signer.signer:
            expired |= {str(record.payload.get("point")) for record in chain.after(0, None) if record.kind == "expiry"}
    return frozenset(expired)


def difference(files: RecordFiles, listed: Mapping[str, int], key: str, content: bytes, *, read_data: bool) -> str:
    """How what a vault has under a key differs from the record that belongs there; empty when it does not.

    `listed` has the sizes in bytes. A record in clear is judged where it lies. Without `read_data` only what is missing
    or of another size is seen. Raises VaultError, and what keeps the vault's repository from opening.
    """
    clear = in_clear(key)
    lies = key if key in listed or clear not in listed else clear
    size = listed.get(lies)
    if size is None:
        return "it is missing"
    written = files.sealed_size(content) if lies == key else len(content)
    if size != written:
        return f"it has {size} bytes, and had {written} when it was written"
    if read_data:
        try:
            if files.read(lies) != content:
                return "it says something else than what was signed"
        except VaultMissingError:
            return "it is missing"
        except DamageError as error:
            return error.why or error.what
    return ""
