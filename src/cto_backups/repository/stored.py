"""Sealed JSON files: index, snapshots, locks (and the config, which is not compressed).

A file's name is the SHA-256 of its stored bytes; its plain form is ``0x02`` and a zstd frame, in old files bare JSON.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from cto_backups import _native
from cto_backups.core.vaults import Vault
from cto_backups.errors import DamageError, NotFoundError, VaultMissingError
from cto_backups.repository.layout import below
from cto_backups.repository.options import MIB
from cto_backups.repository.seal import Sealer

_COMPRESSED = b"\x02"
_NAME = re.compile(r"[0-9a-f]{64}")
LARGEST_FILE = 512 * MIB


class StoredFiles:
    """The small files of one repository, below `prefix` in a vault."""

    def __init__(self, vault: Vault, prefix: str, sealer: Sealer) -> None:
        self.vault = vault
        self.prefix = prefix
        self.sealer = sealer

    def key(self, folder: str, name: str) -> str:
        """Where a file lies in the vault."""
        if folder == "data":
            return below(self.prefix, f"data/{name[:2]}/{name}")
        return below(self.prefix, f"{folder}/{name}")

    def companions(self, _listed: Iterable[bytes], _strays: Iterable[bytes]) -> Sequence[bytes]:
        """Packs among the strays, which no index lists, that would be deleted with one that is listed: here none."""
        return ()

    def named_by_digest(self, _pack: bytes) -> bool:
        """Whether a pack's name is the SHA-256 of its bytes."""
        return True

    def reads_alike(self, _pack: bytes) -> bool:
        """Whether the bytes of a pack are the same each time they are read, so that parts of them fit together."""
        return True

    def save(self, folder: str, document: dict[str, Any]) -> str:
        """Seal and store a JSON document; its name."""
        return self.save_plain(folder, orjson.dumps(document))

    def save_plain(self, folder: str, json: bytes) -> str:
        """Seal and store what is JSON already; its name."""
        name, sealed = self.sealed(json)
        self.vault.put(self.key(folder, name), [sealed])
        return name

    def sealed(self, json: bytes) -> tuple[str, bytes]:
        """A file to be stored, with its name."""
        sealed = self.sealer.seal(_COMPRESSED + _native.compress_file(json))
        return hashlib.sha256(sealed).hexdigest(), sealed

    def load(self, folder: str, name: str) -> Any:
        """The JSON in a file. Raises NotFoundError, DamageError."""
        return self.parse(self._sealed(folder, name), self._label(folder, name))

    def load_plain(self, folder: str, name: str) -> bytes:
        """The bytes of the JSON in a file, not parsed. Raises NotFoundError, DamageError."""
        return self._plain(self._sealed(folder, name), self._label(folder, name))

    def _label(self, folder: str, name: str) -> str:
        return f"{folder}/{name[:12]} of {self.prefix} in vault {self.vault.name}"

    def _sealed(self, folder: str, name: str) -> bytes:
        label = self._label(folder, name)
        try:
            sealed = self.vault.read(self.key(folder, name))
        except VaultMissingError as error:
            self.vault.check()
            raise NotFoundError(f"There is no {label}", why=error.why or error.what) from error
        if hashlib.sha256(sealed).hexdigest() != name:
            raise DamageError(f"{label} is damaged", why="its bytes are not what its name says")
        return sealed

    def parse(self, sealed: bytes, label: str) -> Any:
        """Open sealed bytes and parse the JSON inside. Raises DamageError with `label` in it."""
        try:
            return orjson.loads(self._plain(sealed, label))
        except orjson.JSONDecodeError as error:
            raise DamageError(f"{label} is damaged", why="what is sealed in it is not JSON") from error

    def _plain(self, sealed: bytes, label: str) -> bytes:
        try:
            plain = self.sealer.open(sealed)
            if plain[:1] == _COMPRESSED:
                plain = _native.expand_file(memoryview(plain)[1:], LARGEST_FILE)
            return plain
        except DamageError as error:
            raise DamageError(f"{label} is damaged", why=error.why or error.what) from error

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted; anything not named like one is left alone."""
        found = (file.key.rpartition("/")[2] for file in self.vault.list(below(self.prefix, folder)))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def pack_sizes(self) -> dict[bytes, int]:
        """Every stored pack's id and size in bytes."""
        return self.data_files()[0]

    def data_files(self) -> tuple[dict[bytes, int], list[str]]:
        """Every stored pack's id and size in bytes, and the keys of files in their place that are none."""
        sizes: dict[bytes, int] = {}
        others = []
        for file in self.vault.list(below(self.prefix, "data")):
            name = file.key.rpartition("/")[2]
            if _NAME.fullmatch(name) and file.key == self.key("data", name):
                sizes[bytes.fromhex(name)] = file.size_bytes
            else:
                others.append(file.key)
        return sizes, others


def is_name(text: str) -> bool:
    """Whether it could be a stored file's name."""
    return _NAME.fullmatch(text) is not None


def checked_name(files: StoredFiles, reference: str) -> str:
    """The reference when it could be one. Raises NotFoundError."""
    if not is_name(reference):
        raise NotFoundError(
            f"There is no snapshot {reference!r:.80} in {files.prefix} of vault {files.vault.name}",
            why="a snapshot's id has 64 hexadecimal digits",
        )
    return reference
