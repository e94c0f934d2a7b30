"""A restic repository inside a vault, as a payload store."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from cto_backups.core.ports import Committed, PointReader, Progress, Vault, Verified, Writing
from cto_backups.repository.options import RepositoryOptions


class RepositoryStore:
    """A restic repository (format version 2) under `prefix` in a vault; implements `core.ports.PayloadStore`."""

    @staticmethod
    def exists(vault: Vault, prefix: str) -> bool:
        """Whether a repository is there. Raises VaultMissingError when the vault itself is not."""
        raise NotImplementedError

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
        raise NotImplementedError

    @classmethod
    def open(
        cls, vault: Vault, prefix: str, password: str, *, options: RepositoryOptions | None = None
    ) -> "RepositoryStore":
        """Open a repository.

        Raises KeyProblemError for a wrong password, NotFoundError when no repository is there, VaultMissingError when
        the vault is not, DamageError when config or key files are unreadable.
        """
        raise NotImplementedError

    @property
    def vault(self) -> Vault:
        """The vault it lies in."""
        raise NotImplementedError

    @property
    def polynomial(self) -> int:
        """What the chunking seed derives from; pass it to `create` for the installation's other vaults."""
        raise NotImplementedError

    @property
    def repository_id(self) -> str:
        """The id in its config, 64 hexadecimal digits."""
        raise NotImplementedError

    def writing(self) -> AbstractContextManager[Writing]:
        """Open for writing. Raises BusyError while somebody holds an exclusive lock."""
        raise NotImplementedError

    def reader(self, reference: str) -> PointReader:
        """Read one reference. Raises NotFoundError, DamageError."""
        raise NotImplementedError

    def verify(
        self, references: Sequence[str] | None = None, *, read_data: bool = True, progress: Progress | None = None
    ) -> Verified:
        """Check structure and, with `read_data`, re-read every byte, of these references or of everything."""
        raise NotImplementedError

    def committed(self) -> Sequence[Committed]:
        """Everything committed, oldest first."""
        raise NotImplementedError

    def expire(self, references: Sequence[str]) -> None:
        """Drop references; bytes are reclaimed by a later prune."""
        raise NotImplementedError

    def repair(self) -> tuple[str, ...]:
        """Clear what a killed process left; what was done, in sentences."""
        raise NotImplementedError
