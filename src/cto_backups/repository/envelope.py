"""A repository's secret as a key service wrapped it: a small file beside the repository, and here with the state.

The names of vault and repository go into the service as authenticated context: a wrapped secret unwraps for this one
repository in this one vault alone, and the service's log says which one was opened.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from cto_backups.core.vaults import Vault
from cto_backups.errors import DamageError, VaultError, VaultExistsError

FOLDER = "wrapped-keys"
LARGEST_BYTES = 64 * 1024
_FORMAT = 1
_NAME = re.compile(r"[0-9a-f]{64}\.json")


@dataclass(frozen=True, slots=True)
class Envelope:
    """`service` is the reference of the key that unwraps, `repository` the id in the repository's config."""

    service: str
    vault: str
    repository: str
    created_at: datetime
    wrapped: bytes

    @property
    def context(self) -> dict[str, str]:
        """What the service authenticates beside the secret; no secret itself."""
        return context_of(self.vault, self.repository)

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        document = {
            "format": _FORMAT,
            "service": self.service,
            "vault": self.vault,
            "repository": self.repository,
            "created_at": self.created_at.astimezone(UTC).isoformat(),
            "wrapped": base64.b64encode(self.wrapped).decode("ascii"),
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Envelope":
        """Raises DamageError."""
        try:
            document: Any = orjson.loads(content)
            if document["format"] != _FORMAT:
                raise ValueError("another format")
            texts = [document[name] for name in ("service", "vault", "repository")]
            if not all(isinstance(text, str) and text.isprintable() for text in texts):
                raise ValueError("not text")
            created_at = datetime.fromisoformat(document["created_at"])
            wrapped = base64.b64decode(document["wrapped"], validate=True)
            if created_at.tzinfo is None:
                raise ValueError("no time zone")
        except (orjson.JSONDecodeError, binascii.Error, LookupError, TypeError, ValueError) as error:
            raise DamageError("A wrapped secret is damaged", why=str(error)[:80]) from error
        return cls(texts[0], texts[1], texts[2], created_at, wrapped)

    @property
    def name(self) -> str:
        """Its file's name, from its content: what is there is never overwritten by anything else."""
        return f"{hashlib.sha256(self.to_bytes()).hexdigest()}.json"


def context_of(vault: str, repository: str) -> dict[str, str]:
    """The authenticated context of a repository's secret."""
    return {"cto-backups:vault": vault, "cto-backups:repository": repository}


def canonical(context: Mapping[str, str]) -> bytes:
    """The context as bytes, for services that authenticate bytes: JSON, keys in order, no spaces."""
    return orjson.dumps(dict(context), option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Envelopes:
    """The wrapped secrets of one vault's repository: here, in the folder `state`, and in the vault itself."""

    vault: Vault
    state: Path

    def __iter__(self) -> Iterator[Envelope]:
        """Every readable one for this vault, the newest first. A vault that is away leaves those that lie here."""
        readable = _read((*self._here(), *self._there()))
        found = {envelope.name: envelope for envelope in readable if envelope.vault == self.vault.name}
        return iter(sorted(found.values(), key=lambda each: (each.created_at, each.name), reverse=True))

    def there(self) -> Sequence[Envelope]:
        """Every readable one that lies in the vault, the newest first: with this machine lost, these are all there are.

        Raises VaultError.
        """
        self.vault.check()
        found = [each for each in _read(self._there()) if each.vault == self.vault.name]
        return sorted(found, key=lambda each: (each.created_at, each.name), reverse=True)

    def in_vault(self) -> frozenset[str]:
        """The names of those that lie in the vault. Raises VaultError."""
        return frozenset(stored.key.rpartition("/")[2] for stored in self.vault.list(FOLDER))

    def is_here(self, envelope: Envelope) -> bool:
        """Whether it lies here, too."""
        return (self._folder / envelope.name).is_file()

    def put(self, envelope: Envelope) -> None:
        """Store it here and in the vault, durable on return. Raises VaultError, OSError."""
        with suppress(VaultExistsError):
            self.vault.put(f"{FOLDER}/{envelope.name}", [envelope.to_bytes()])
        self._put_here(envelope)

    def remove(self, envelope: Envelope) -> None:
        """Forget it, in the vault first. Raises VaultError, OSError."""
        self.vault.delete(f"{FOLDER}/{envelope.name}")
        (self._folder / envelope.name).unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self.state / FOLDER

    def _put_here(self, envelope: Envelope) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / f".{envelope.name}.tmp"
        draft.write_bytes(envelope.to_bytes())
        draft.rename(self._folder / envelope.name)

    def _here(self) -> Iterable[bytes]:
        try:
            names = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return
        for path in names:
            with suppress(OSError):
                yield path.read_bytes()[:LARGEST_BYTES]

    def _there(self) -> Iterable[bytes]:
        try:
            stored = list(self.vault.list(FOLDER))
        except VaultError:
            return
        for file in stored:
            if _NAME.fullmatch(file.key.rpartition("/")[2]) and file.size_bytes <= LARGEST_BYTES:
                with suppress(VaultError):
                    yield self.vault.read(file.key)


def _read(contents: Iterable[bytes]) -> Iterator[Envelope]:
    """What is readable among these."""
    for content in contents:
        with suppress(DamageError):
            yield Envelope.from_bytes(content)
