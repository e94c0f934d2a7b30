"""A restic repository inside a vault, as a payload store: the entrance to this package.

What an operation works with is loaded by the operation: a command waits for no other's modules.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from cto_backups.core.payloads import (
    Committed,
    Contents,
    LeftBy,
    Needed,
    PayloadStore,
    Repaired,
    RepairScope,
    Verified,
    Writing,
)
from cto_backups.core.ports import PointReader, Progress
from cto_backups.core.pruning import Pruned, PrunePlan, PruneRules
from cto_backups.core.vaults import Sweeping, Vault
from cto_backups.core.verification import Ledger, Part
from cto_backups.errors import (
    DamageError,
    KeyProblemError,
    NotFoundError,
    RefusedError,
    VaultError,
    VaultExistsError,
    VaultMissingError,
)
from cto_backups.repository.kept import kept_until, still_locked
from cto_backups.repository.keys import open_key, stored_keys, write_key
from cto_backups.repository.layout import below, is_there
from cto_backups.repository.locks import locked, locked_for_reading, remove_stale
from cto_backups.repository.options import RepositoryOptions
from cto_backups.repository.polynomial import DEGREE, irreducible, random_irreducible
from cto_backups.repository.seal import MasterKey, SealBrokenError, Sealer
from cto_backups.repository.snapshot import list_committed, load_snapshot
from cto_backups.repository.stored import StoredFiles, checked_name
from cto_backups.repository.together import both

if TYPE_CHECKING:
    from cto_backups.repository.keyring import RepositoryKeys
    from cto_backups.repository.prune import Adjust

_VERSION = 2


class RepositoryStore:
    """A restic repository (format version 2) under `prefix` in a vault; implements `core.payloads.PayloadStore`."""

    def __init__(
        self, files: StoredFiles, key: str, repository_id: str, polynomial: int, options: RepositoryOptions
    ) -> None:
        self.files = files
        self._key = key
        self._repository_id = repository_id
        self._polynomial = polynomial
        self._options = options
        self._known: dict[str, Committed] = {}

    @classmethod
    def create(
        cls,
        vault: Vault,
        prefix: str,
        password: str,
        *,
        polynomial: int | None = None,
        now: datetime,
        hostname: str,
        username: str,
        options: RepositoryOptions | None = None,
    ) -> "RepositoryStore":
        """Make a new repository. Raises RefusedError when one is there.

        `polynomial` given shares chunking with the installation's other vaults (`RepositoryStore.polynomial`).
        """
        options = options or RepositoryOptions()
        if polynomial is None:
            polynomial = random_irreducible()
        elif polynomial.bit_length() != DEGREE + 1 or not irreducible(polynomial):
            raise RefusedError("This chunking polynomial cannot be used", why="it is not irreducible of degree 53")
        there = RefusedError(
            f"There is a repository {prefix} in vault {vault.name} already",
            todo="open it, or choose another vault or prefix",
        )
        if is_there(vault, prefix):
            raise there
        repository_id = secrets.token_hex(32)
        left = cls._left_behind(vault, prefix, password)
        if left is None:
            master = MasterKey.random()
            cost = options.scrypt
            key = write_key(vault, prefix, password, master, now=now, hostname=hostname, username=username, scrypt=cost)
        else:
            key, master = left
        files = StoredFiles(vault, prefix, Sealer(master))
        config = {"version": _VERSION, "id": repository_id, "chunker_polynomial": f"{polynomial:x}"}
        try:
            vault.put(below(prefix, "config"), [files.sealer.seal(orjson.dumps(config))])
        except VaultExistsError as error:
            if left is None:
                vault.delete(below(prefix, f"keys/{key}"))  # it opens with the password, but not this repository
            raise there from error
        return cls(files, key, repository_id, polynomial, options)

    @staticmethod
    def _left_behind(vault: Vault, prefix: str, password: str) -> tuple[str, MasterKey] | None:
        """The key of a repository whose making was interrupted before its config was stored.

        It is used on: a second key file that opens with the same password makes stock restic fail on one of them.
        """
        for part in ("data", "index", "snapshots"):
            if any(True for _ in vault.list(below(prefix, part))):
                raise DamageError(
                    f"The config of repository {prefix} in vault {vault.name} is missing",
                    why=f"{prefix}/{part} holds files, but {prefix}/config is not there",
                    todo="bring the file back from a backup of this vault, or use another vault or prefix",
                )
        try:
            return open_key(vault, prefix, password)
        except NotFoundError:
            return None
        except (KeyProblemError, DamageError) as error:
            raise RefusedError(
                f"Vault {vault.name} holds a repository {prefix} that was never finished, made with another key",
                why=error.why,
                todo=f"remove {prefix}/keys there (nothing else is stored in it), or use another vault or prefix",
            ) from error

    @classmethod
    def open(
        cls, vault: Vault, prefix: str, password: str, *, options: RepositoryOptions | None = None
    ) -> "RepositoryStore":
        """Open a repository.

        Raises KeyProblemError for a wrong password, NotFoundError when no repository is there, VaultMissingError when
        the vault is not, DamageError when config or key files are unreadable, RefusedError for format version 1.
        """
        place = f"repository {prefix} in vault {vault.name}"
        try:
            sealed, stored = both(
                vault, lambda: vault.read(below(prefix, "config")), lambda: stored_keys(vault, prefix)
            )
        except VaultMissingError as error:
            vault.check()
            raise NotFoundError(
                f"There is no {place}",
                why=f"nothing at {vault.location}/{below(prefix, 'config')}",
                todo="mount what is not mounted, or correct the vault's URL in the policy; "
                f"for a vault that is new, run: cto.backups vault init {vault.name}",
            ) from error
        key, master = open_key(vault, prefix, password, stored)
        files = StoredFiles(vault, prefix, Sealer(master))
        try:
            config = orjson.loads(files.sealer.open(sealed))
            repository_id, polynomial = _parsed(config)
        except (SealBrokenError, orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamageError(
                f"The config of {place} is damaged",
                why=error.why if isinstance(error, SealBrokenError) else str(error)[:80],
                todo="bring the file back from a backup of this vault, or use another vault",
            ) from error
        return cls(files, key, repository_id, polynomial, options or RepositoryOptions())

    @property
    def vault(self) -> Vault:
        """The vault it lies in."""
        return self.files.vault

    @property
    def polynomial(self) -> int:
        """What the chunking seed derives from; pass it to `create` for the installation's other vaults."""
        return self._polynomial

    def over(self, files: StoredFiles) -> "RepositoryStore":
        """A store of the same installation over other stored files, which are sealed with the same key."""
        return RepositoryStore(files, self._key, self._repository_id, self._polynomial, self._options)

    @property
    def options(self) -> RepositoryOptions:
        """How it is written and read."""
        return self._options

    @property
    def keys(self) -> "RepositoryKeys":
        """Its key files."""
        from cto_backups.repository.keyring import RepositoryKeys

        return RepositoryKeys(self.files, self._key, self._options.scrypt)

    @property
    def repository_id(self) -> str:
        """The id in its config, 64 hexadecimal digits."""
        return self._repository_id

    def writing(self) -> AbstractContextManager[Writing]:
        """Open for writing. Raises BusyError while somebody holds an exclusive lock."""
        return self._session()

    @contextmanager
    def _session(self) -> Iterator[Writing]:
        from cto_backups.repository.session import Session

        self.vault.check()
        with locked(self.files, exclusive=False) as lock:
            yield Session(self.files, self._polynomial, self._options, lock)

    def reader(self, reference: str) -> PointReader:
        """Read one reference. Raises NotFoundError, DamageError."""
        from cto_backups.repository.reader import SnapshotReader

        return SnapshotReader(self.files, load_snapshot(self.files, checked_name(self.files, reference)), self._options)

    def contents(self) -> Contents:
        """Look into everything that is stored."""
        from cto_backups.repository.contents import RepositoryContents

        return RepositoryContents(self.files)

    def verify(
        self,
        references: Sequence[str] | None = None,
        *,
        read_data: bool = True,
        part: Part | None = None,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
    ) -> Verified:
        """Check structure and, with `read_data`, re-read every byte, of these references or of everything.

        With `part`, re-read only the next portion of everything, by what the ledger says was read before.
        """
        from cto_backups.repository.check import Checker

        for reference in references or ():
            checked_name(self.files, reference)
        with locked_for_reading(self.files):
            checker = Checker(self.files, self._options, progress)
            if references is not None:
                return checker.run_on(references, read_data=read_data)
            return checker.run(read_data=read_data, part=part, ledger=ledger or Ledger())

    def committed(self) -> Sequence[Committed]:
        """Everything committed, oldest first; what cannot be read is listed with `detail["damage"]` and no root."""
        return list_committed(self.files, self._known)

    def expire(self, references: Sequence[str], progress: Progress | None = None) -> None:
        """Drop references (fine when they are gone already); bytes are reclaimed by a later prune.

        Raises VaultLockedError in the end, when some are `left` since the store keeps them.
        """
        names = [checked_name(self.files, reference) for reference in references]
        left = kept_until(self.files, "snapshots", names)  # before others are kept out: it may be asked day after day
        if going := [name for name in names if name not in left]:
            with locked(self.files, exclusive=True):
                for name in going:
                    self.vault.delete(self.files.key("snapshots", name))
                    self._known.pop(name, None)
                    if progress is not None:
                        progress.advance(entries=1)
        if left:
            raise still_locked(self.files, left)

    def lapsing(self, dropped: Sequence[str]) -> Collection[str]:
        """Keys of files whose locks may end: of dropped references, and packs that no index lists."""
        from cto_backups.repository.index import load_index

        index = load_index(self.files)
        listed = {index.pack_name(number) for number in range(index.pack_count)}
        keys = [self.files.key("snapshots", checked_name(self.files, reference)) for reference in dropped]
        return keys + [self.files.key("data", name.hex()) for name in self.files.pack_sizes() if name not in listed]

    def needed_by(self, references: Sequence[str]) -> Needed:
        """The files without which these cannot be restored; see `repository.needed`. Raises VaultError."""
        from cto_backups.repository.needed import files_that_open, needed_by

        found = needed_by(self.files, references)
        return Needed(found.keys.union(files_that_open(self.files)), found.unread)

    def prune(
        self,
        rules: PruneRules | None = None,
        *,
        dry_run: bool = False,
        expected: Callable[[], Iterable[str]] = tuple,
        agree: Callable[[PrunePlan], None] | None = None,
        progress: Progress | None = None,
        adjust: "Adjust | None" = None,
    ) -> Pruned:
        """Reclaim what no snapshot needs; see `repository.prune`. Raises BusyError, DamageError, VaultError."""
        from cto_backups.repository.prune import as_found, planned, prune

        self.vault.check()
        options = self._options
        rules = rules or PruneRules(
            unused_share=options.prune_unused,
            grace=options.prune_grace,
            small_bytes=options.pack_bytes // 4,
            index_blobs=options.index_blobs,
        )
        if dry_run:
            return planned(self.files, rules, expected, adjust or as_found)
        return prune(self.files, self._options, rules, expected, agree, progress, adjust or as_found)

    def repair(
        self,
        donors: Sequence[PayloadStore] = (),
        *,
        scope: RepairScope = RepairScope.EVERYTHING,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repaired:
        """Put right what is damaged; see `repository.repair`. Raises BusyError, VaultError."""
        from cto_backups.repository.repair import repair, repair_planned

        if dry_run:
            return repair_planned(self.files, self._options, donors, scope, progress)
        self.vault.check()
        return repair(self.files, self._options, donors, scope, progress)

    def seal(self, content: bytes) -> bytes:
        """Encrypt and authenticate what lies in the vault beside the repository: as restic seals, not compressed."""
        return self.files.sealer.seal(content)

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises DamageError."""
        return self.files.sealer.open(sealed)

    def clear_leftovers(self, *, own: bool = False, left: LeftBy | None = None) -> tuple[str, ...]:
        """Clear what a killed process left, of locks only this user's on this host with `own`; in sentences."""
        done = remove_stale(self.files, own=own, left=left)
        if not isinstance(self.vault, Sweeping):
            return tuple(done)
        try:
            if swept := self.vault.sweep():
                done.append(f"Removed {swept} unfinished files of dead processes from vault {self.vault.name}.")
        except VaultError as error:  # they hurt nothing, and a login may lack the right to look for them
            done.append(f"Could not look for unfinished files in vault {self.vault.name}: {error}.")
        return tuple(done)


def _parsed(config: Any) -> tuple[str, int]:
    """Repository id and polynomial. Raises RefusedError for version 1; ValueError, KeyError, TypeError."""
    if config["version"] == 1:
        raise RefusedError(
            "The repository is of restic's format version 1",
            why="this program reads and writes version 2",
            todo="Back its folder up, then run 'restic migrate upgrade_repo_v2' on it (restic 0.14 or newer; "
            "data stays as it is), and try again.",
        )
    if config["version"] != _VERSION:
        raise ValueError(f"it is of format version {config['version']!r:.20}, and this program knows {_VERSION}")
    polynomial = int(config["chunker_polynomial"], 16)
    if not 0 < polynomial < 1 << 64:
        raise ValueError("its chunking polynomial is out of range")
    return str(config["id"]), polynomial
