"""Chains of signed records in vaults: read in order, each checked, nothing trusted after one that is not sound.

Where several vaults have a record, the first sound one serves: what one vault lost, another may have.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cto_backups.core.payloads import Damage
from cto_backups.core.wording import counted
from cto_backups.errors import DamageError, VaultMissingError
from cto_backups.evidence.records import Record, follows
from cto_backups.flows.installation import Installation
from cto_backups.flows.record_files import Keys, RecordFiles


@dataclass
class Chain:
    """One signer's records after number `sequence`, whose digest is `previous`, in vaults (by name).

    Iterated once: the sound records, in order; then `faults` says what is wrong with the others, and `broken` whether
    records were left that nothing sound leads to.
    """

    installation: Installation
    signer: str
    vaults: Mapping[str, Keys]
    sequence: int
    previous: str | None
    faults: list[Damage] = field(default_factory=list)
    broken: bool = False

    def __iter__(self) -> Iterator[Record]:
        last = max((number for keys in self.vaults.values() for number in keys), default=0)
        while self.sequence < last:
            record = self._next()
            if record is None:
                self._break_off(last)
                return
            self.sequence, self.previous = record.sequence, record.digest
            yield record

    def _next(self) -> Record | None:
        number, sound, faults = self.sequence + 1, None, []
        for vault_name, keys in self.vaults.items():
            for key in keys.get(number, ()):
                try:
                    record = RecordFiles(self.installation, vault_name).record(key)
                    wrong = follows(record, signer=self.signer, sequence=number, previous=self.previous)
                except DamageError as error:
                    wrong = (error.why,)
                except VaultMissingError:
                    continue
                if wrong:
                    faults.append(Damage(f"{key} in vault {vault_name}", "; ".join(wrong)))
                else:
                    sound = sound or record
            if sound is not None:
                break
        self.faults.extend(faults)
        return sound

    def _break_off(self, last: int) -> None:
        first, left = self.sequence + 1, {number for keys in self.vaults.values() for number in keys}
        untrusted = len([number for number in left if number > first])
        # Whoever writes to the vault may put anything under this signer's name, far ahead: that breaks no chain.
        self.broken = first in left or any(map(self._is_signed, left - set(range(first + 1))))
        why = f"{counted(untrusted, 'record')} after it, up to {last}, cannot be trusted"
        if first not in left:
            why = f"it is missing; {why}"
        self.faults.append(Damage(f"record {first} of signer {self.signer}", why))

    def _is_signed(self, number: int) -> bool:
        for vault_name, keys in self.vaults.items():
            for key in keys.get(number, ()):
                try:
                    record = RecordFiles(self.installation, vault_name).record(key)
                except (DamageError, VaultMissingError):
                    continue
                if record.signer == self.signer and not record.faults():
                    return True
        return False


def expired_by_others(installation: Installation, vault_name: str) -> frozenset[str]:
    """The points whose expiry another signer than this installation has recorded in a vault.

    Raises VaultError.
    """
    expired = set()
    for signer, keys in RecordFiles(installation, vault_name).by_signer().items():
        if signer != installation.signer.signer:
            expired |= _expired(Chain(installation, signer, {vault_name: keys}, 0, None))
    return frozenset(expired)


def _expired(records: Iterable[Record]) -> set[str]:
    return {str(record.payload.get("point")) for record in records if record.kind == "expiry"}


def whole_up_to(keys: Keys, last: int) -> int:
    """Up to which number a vault has every record of a chain that ends with number `last`."""
    return next((number - 1 for number in range(1, last + 1) if number not in keys), last)
