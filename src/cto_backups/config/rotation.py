"""The files of a secret that is being exchanged: what the policy names opens every vault at any moment.

Beside the key file lie ``NAME.new`` until every vault opens with it and it takes the key file's place, then
``NAME.old`` until no vault opens with that any more.
"""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cto_backups.config.secrets import Secret, SecretKind, SecretReference, create_file_secret, sync_folder
from cto_backups.errors import KeyProblemError, RefusedError


def beside(key: Path) -> tuple[Path, Path]:
    """Where the new secret and the old one lie while the one in `key` is exchanged."""
    return key.with_name(f"{key.name}.new"), key.with_name(f"{key.name}.old")


@dataclass(frozen=True)
class Rotation:
    """The exchange of the secret in the file `key`; each step may be taken again after a run that was killed."""

    key: Path

    @property
    def new(self) -> Path:
        """The secret that is to be used."""
        return beside(self.key)[0]

    @property
    def old(self) -> Path:
        """The secret that was used."""
        return beside(self.key)[1]

    @property
    def switched(self) -> bool:
        """Whether the new secret is in place, and the old one still to be taken away from vaults."""
        return self.old.exists() and not self.new.exists()

    def begin(self) -> Secret:
        """The new secret, made now or by a run before. Raises KeyProblemError."""
        if not self.new.exists():
            create_file_secret(self.new, secrets.token_hex(32))
        return _read(self.new)

    def switch(self) -> None:
        """Put the new secret in place; the old one stays under its other name. Raises RefusedError, KeyProblemError."""
        now = _read(self.key)
        if self.old.exists():
            if _read(self.old) != now:
                raise RefusedError(
                    f"{self.old} is in the way of the new secret",
                    why=f"it is not the secret in {self.key}, and may still open something",
                    todo="See what it is, move it away, then run again.",
                )
        else:
            create_file_secret(self.old, now.reveal())
        try:
            status = self.key.stat()
            with suppress(PermissionError):  # only root gives files away
                os.chown(self.new, status.st_uid, status.st_gid)
            self.new.rename(self.key)
            sync_folder(self.key.parent)
        except OSError as error:
            raise KeyProblemError(
                f"The new secret cannot take the place of {self.key}",
                why=f"{error.strerror}",
                todo="Every vault opens with both. Make the folder writable, then run again.",
            ) from error

    def now(self) -> Secret:
        """The secret in place. Raises KeyProblemError."""
        return _read(self.key)

    def was(self) -> Secret:
        """The secret that was in use before. Raises KeyProblemError."""
        return _read(self.old)

    def finish(self) -> None:
        """Forget the old secret, which opens no vault any more. Raises KeyProblemError."""
        try:
            self.old.unlink(missing_ok=True)
            sync_folder(self.old.parent)
        except OSError as error:
            raise KeyProblemError(f"{self.old} cannot be removed", why=f"{error.strerror}") from error


def _read(path: Path) -> Secret:
    return SecretReference(SecretKind.FILE, str(path)).resolve(path.parent)
