"""The key files of an opened repository: list, add, remove. Implements `core.keys.KeyRing`."""

from dataclasses import dataclass

from cto_backups import clock
from cto_backups.core.keys import MOST_KEYS, KeyFile
from cto_backups.errors import DamageError, KeyProblemError, NotFoundError, RefusedError
from cto_backups.repository.keys import calibrated, key_files, open_key, write_key
from cto_backups.repository.locks import locked
from cto_backups.repository.options import ScryptParameters
from cto_backups.repository.stored import StoredFiles


@dataclass(frozen=True, slots=True)
class RepositoryKeys:
    """Locks are those of restic's own `key` commands: a shared one to add, an exclusive one to remove."""

    _files: StoredFiles
    in_use: str
    _scrypt: ScryptParameters

    def files(self) -> tuple[KeyFile, ...]:
        """Every key file, the newest first."""
        return key_files(self._files.vault, self._files.prefix)

    def opened_by(self, secret: str) -> str | None:
        """The id of the key file that a secret opens. Raises DamageError when it holds another repository's key."""
        try:
            name, master = open_key(self._files.vault, self._files.prefix, secret)
        except KeyProblemError:
            return None
        if master != self._files.sealer.key:
            raise DamageError(
                f"Key file {name[:12]} of {self._place} holds the key of another repository",
                why="it opens, but what is stored here was not sealed with what is inside",
                todo=f"remove the file {self._files.key('keys', name)} from the vault, then run again",
            )
        return name

    def add(self, secret: str, *, username: str, hostname: str, chosen: bool) -> str:
        """Make a key file for a secret, unless it opens one already; the file's id. Raises RefusedError, BusyError."""
        vault, prefix = self._files.vault, self._files.prefix
        with locked(self._files, exclusive=False):
            present = self.opened_by(secret)
            if present is not None:
                return present
            if len(self.files()) >= MOST_KEYS:
                raise RefusedError(
                    f"No key can be added to {self._place}",
                    why=f"it has {MOST_KEYS} already, and stock restic looks at no more",
                    todo="Remove one that is not needed: 'cto.backups key list' shows them.",
                )
            return write_key(
                vault,
                prefix,
                secret,
                self._files.sealer.key,
                now=clock.now(),
                hostname=hostname,
                username=username,
                scrypt=calibrated() if chosen else self._scrypt,
            )

    def end(self, key: str) -> None:
        """Remove a key file whatever goes on there: whoever uses it is to be stopped. Raises RefusedError for the one
        in use; fine when it is gone.
        """
        if key == self.in_use:
            raise RefusedError(f"Key {key[:12]} of {self._place} is the one in use")
        self._files.vault.delete(self._files.key("keys", key))

    def remove(self, key: str) -> None:
        """Remove a key file. Raises NotFoundError, RefusedError for the one in use and the last one, BusyError."""
        with locked(self._files, exclusive=True):
            there = self.files()
            if key not in {file.id for file in there}:
                raise NotFoundError(
                    f"There is no key {key[:12]} in {self._place}",
                    why=f"there are: {', '.join(file.id[:12] for file in there)}",
                    todo="Use one of these.",
                )
            if key == self.in_use:
                last = len(there) == 1
                raise RefusedError(
                    f"Key {key[:12]} of {self._place} is {'the last one' if last else 'the one in use'}",
                    why="without it, the secret that the policy names would open nothing here",
                    todo="Run 'cto.backups key rotate' to go over to another secret.",
                )
            if self.in_use not in {file.id for file in there}:
                raise RefusedError(
                    f"No key of {self._place} is removed",
                    why="the one in use was removed by somebody else just now",
                    todo="Run again: if the secret that the policy names still opens this vault, this is found then.",
                )
            self._files.vault.delete(self._files.key("keys", key))

    @property
    def _place(self) -> str:
        return f"{self._files.prefix} in vault {self._files.vault.name}"
