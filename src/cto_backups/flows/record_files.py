"""What lies beside the repository in a vault: signed records and policies, sealed with the repository's key.

Who can only read the vault learns who signed how many records, of which kinds and when; not what they say: paths,
people, digests of data. Files of earlier releases lie there in clear, and are read all the same; a repair seals them.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cto_backups.errors import CatalogBehindError, DamageError, VaultExistsError, VaultMissingError
from cto_backups.evidence.records import KINDS, Record, record_key
from cto_backups.flows.installation import Installation
from cto_backups.repository.together import each

SEALED = ".sealed"
_RECORD = re.compile(r"records/([0-9a-f]{16})/(\d{8,})-([a-z-]+)\.(?:sealed|json)")
_RECORD_OF_ANY = re.compile(r"records/([^/]+)/(\d{8,})-([a-z-]+)\.(?:sealed|json)")
_POLICY = re.compile(r"policies/([0-9a-f]{64})\.(?:sealed|yaml)")

Keys = Mapping[int, tuple[str, ...]]
"""The keys of one signer's records in one vault, by number; one, where all is well."""


def policy_key(digest: str) -> str:
    """Where a policy lies in a vault."""
    return f"policies/{digest}{SEALED}"


def by_signer(keys: Iterable[str], *, any_signer: bool = False) -> dict[str, dict[int, tuple[str, ...]]]:
    """Keys of records by signer and number; those that are not named so are left out, and what is there sealed too.

    With `any_signer` those in folders that no signer can be called are there as well.
    """
    named = _RECORD_OF_ANY if any_signer else _RECORD
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    present = set(keys)
    for key in present:
        if (match := named.fullmatch(key)) and (key.endswith(SEALED) or sealed_key(key) not in present):
            found[match[1]][int(match[2])].append(key)
    return {signer: {number: tuple(sorted(keys)) for number, keys in each.items()} for signer, each in found.items()}


def sealed_key(key: str) -> str:
    """Where the sealed form of what lies under this key belongs."""
    return _stem(key) + SEALED


def in_clear(key: str) -> str:
    """Where an earlier release put the record that belongs under this key."""
    return _stem(key) + ".json"


def _stem(key: str) -> str:
    return key.rpartition(".")[0]


def behind(vault_name: str, number: int) -> CatalogBehindError:
    """What is wrong when a vault has a record of this installation that the catalog lacks."""
    return CatalogBehindError(
        "The catalog has gone back in time",
        why=f"vault '{vault_name}' has record {number} of this installation, and the catalog ends before it: an older "
        "copy of it was put back, or its server took another's place and had not received all",
        todo="Run 'cto.backups catalog rebuild' before the next backup: it adds what is missing.",
    )


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The records and policies in one vault; all raise VaultError, and what keeps the vault's repository from opening.

    Lists need no key.
    """

    installation: Installation
    vault_name: str

    def sizes(self, folder: str) -> dict[str, int]:
        """The keys in ``records`` or ``policies``, with sizes in bytes."""
        return {stored.key: stored.size_bytes for stored in self.installation.vault(self.vault_name).list(folder)}

    def numbered(self, signer: str, number: int) -> tuple[str, ...]:
        """The keys of a signer's records of one number, of whatever kind: one or none, unless chains have parted.

        Each is asked for by its name: a folder of a hundred thousand records takes a bucket a hundred requests to list.
        """
        vault = self.installation.vault(self.vault_name)

        def found(key: str) -> str | None:
            try:
                vault.size(key)
            except VaultMissingError:
                return None
            return key

        keys = (record_key(signer, number, kind) for kind in KINDS)
        return tuple(key for key in each(vault, found, keys) if key is not None)

    def unsealed(self, keys: Iterable[str]) -> list[str]:
        """Of the listed keys those of records and policies that lie there in clear."""
        ours = (key for key in keys if _RECORD.fullmatch(key) or _POLICY.fullmatch(key))
        return sorted(key for key in ours if not key.endswith(SEALED))

    def read(self, key: str) -> bytes:
        """What stands in a file, opened. Raises VaultMissingError, DamageError."""
        content = self.installation.vault(self.vault_name).read(key)
        return self.installation.store(self.vault_name).unseal(content) if key.endswith(SEALED) else content

    def record(self, key: str) -> Record:
        """The record under a key, not judged but for its name. Raises VaultMissingError, DamageError."""
        record = Record.from_bytes(self.read(key), name=key)
        if _stem(record.key) != _stem(key):
            raise DamageError(f"{key} is damaged", why="it lies under the name of another record")
        return record

    def sealed_size(self, content: bytes) -> int:
        """How many bytes it takes sealed."""
        return len(self.installation.store(self.vault_name).seal(content))

    def put(self, key: str, content: bytes, *, overwrite: bool = False) -> None:
        """Seal and store it. Raises VaultExistsError."""
        sealed = self.installation.store(self.vault_name).seal(content)
        self.installation.vault(self.vault_name).put(key, [sealed], overwrite=overwrite)

    def seal(self, key: str) -> None:
        """Put the sealed form in the place of one that lies there in clear; a sealed one that opens stays."""
        vault, sealed = self.installation.vault(self.vault_name), sealed_key(key)
        content = vault.read(key)
        try:
            self.put(sealed, content)
        except VaultExistsError:
            try:
                self.read(sealed)
            except DamageError:
                self.put(sealed, content, overwrite=True)
        vault.delete(key)

    def policies(
        self, listed: Iterable[str], known: Container[str] = ()
    ) -> Iterator[tuple[str, str, bytes | DamageError]]:
        """Key, digest and text of each policy of the listed keys whose digest is not known, or what is wrong with it.

        Keys that name none are somebody else's; what vanishes meanwhile is left out.
        """
        present = set(listed)
        named = [(key, match[1]) for key in sorted(present) if (match := _POLICY.fullmatch(key))]
        wanted = [
            (key, digest)
            for key, digest in named
            if digest not in known and (key.endswith(SEALED) or sealed_key(key) not in present)
        ]
        for found in each(self.installation.vault(self.vault_name), self._found, wanted):
            if found is not None:
                yield found

    def _found(self, named: tuple[str, str]) -> tuple[str, str, bytes | DamageError] | None:
        try:
            return *named, self._policy(*named)
        except VaultMissingError:
            return None
        except DamageError as error:
            return *named, error

    def _policy(self, key: str, digest: str) -> bytes:
        text = self.read(key)
        if hashlib.sha256(text).hexdigest() != digest:
            raise DamageError(f"{key} is damaged", why="its bytes are not what its name says")
        return text
