"""Objects that the provider copies into a store of exports by itself; and which way each one came.

A copy counts once a checksum that its store tells of all of it is the one that was made here of the same content: while
it was read at the source, or when the vault that it is copied from got it. What is not copied is sent.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cto_backups.core.objects import CopyingWithin, FromObject, ObjectState, Ways, proof
from cto_backups.core.trees import BlockReader
from cto_backups.errors import BackupsError, DamageError, NotCopiedError, VaultError, VaultExistsError
from cto_backups.exports.files import ExportFiles, object_of
from cto_backups.exports.layout import PART
from cto_backups.exports.view import ObjectsView
from cto_backups.repository.index import Index
from cto_backups.repository.stored import StoredFiles

_COMPARED = frozenset({"sha256", "crc32c"})


@dataclass(frozen=True, slots=True)
class Twin:
    """An object of another store of exports with the content that is wanted; `crc32c` is None where it is not known."""

    state: ObjectState
    sizes: list[int]
    sha256: bytes
    crc32c: int | None

    @property
    def known(self) -> dict[str, str]:
        """What is known of its content, as checksums are told."""
        known = {"sha256": self.sha256.hex()}
        return known if self.crc32c is None else {**known, "crc32c": f"{self.crc32c:08x}"}


def state_of(reader: BlockReader) -> ObjectState | None:
    """The object that is read, if it is one."""
    return reader.state if isinstance(reader, FromObject) else None


def twin_of(files: StoredFiles, index: Index, content: Sequence[bytes]) -> Twin | None:
    """The object of a content in a store of exports, where another store can be asked to copy it; None: there is none.

    Of a small one nothing is known but its SHA-256: where its store does not tell that, no copy could be proven.
    """
    if not isinstance(files, ExportFiles) or not isinstance(files.view.vault, CopyingWithin):
        return None
    try:
        found = object_of(index, files.view, content)
        if found is None:
            return None
        name = found[0]
        state = files.view.vault.state_of(files.view.object_key(name))
        if len(name) == 64:
            return Twin(state, [state.size], content[0], None) if "sha256" in state.checksums else None
        parts = files.view.parts(name)
    except (DamageError, VaultError):
        return None  # what is wrong there is seen by reading it
    sizes = [min(PART, parts.size - start) for start in range(0, parts.size, PART)]
    return Twin(state, sizes, parts.sha256, parts.crc32c)


class ByProvider:
    """Has objects copied into the vault below a view; any thread may call."""

    def __init__(self, view: ObjectsView) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._copied = self._copied_bytes = self._passed = self._passed_bytes = 0
        self._reasons: dict[str, None] = {}
        self._refused: set[str] = set()

    @property
    def ways(self) -> Ways:
        """Which way contents came so far."""
        with self._lock:
            return Ways(self._copied, self._copied_bytes, self._passed, self._passed_bytes, tuple(self._reasons))

    def copied(self, name: str, state: ObjectState, known: frozenset[str] = _COMPARED) -> Mapping[str, str] | None:
        """Have it copied; the copy's checksums. None where it has to be sent: nothing is there under a random name.

        `known` are the algorithms of which one has to be told. Raises VaultError for a vault that is full.
        """
        told, reason = self._tried(name, state)
        if told is not None and not known & told.keys():
            self._undo(name)
            told, reason = None, f"the store of vault {self._view.vault.name} tells no checksum of what it copies"
        if told is None:
            with self._lock:
                self._passed += 1
                self._passed_bytes += state.size
                if reason:
                    self._reasons.setdefault(reason)
        return told

    def _tried(self, name: str, state: ObjectState) -> tuple[Mapping[str, str] | None, str]:
        """The copy's checksums; or why there is none, "" where that was told before."""
        vault = self._view.vault
        if state.place in self._refused:
            return None, ""
        if not isinstance(vault, CopyingWithin) or not vault.copies(state):
            return None, f"vault {vault.name} does not lie where {state.place} does: no provider copies"
        try:
            return vault.copy_within(self._view.object_key(name), state), ""
        except NotCopiedError as error:
            if error.lasting:
                with self._lock:
                    self._refused.add(state.place)
            self._undo(name)
            return None, f"{error.what}: {error.why}. {error.todo}".rstrip(".")
        except VaultExistsError:
            return None, ""

    @contextmanager
    def undone(self, name: str) -> Iterator[None]:
        """Remove a copy again if what is done with it fails."""
        try:
            yield
        except BaseException:
            self._undo(name)
            raise

    def check(self, name: str, size: int, known: Mapping[str, str], told: Mapping[str, str]) -> None:
        """Raise VaultError unless a copy is what is known of it; count it else."""
        found = proof(known, told)
        there = self._view.object_size(name)
        if there != size or not found.holds:
            differ = f"its {found.differing[0]}" if found.differing else f"{there} bytes and not {size}: its size"
            raise VaultError(
                f"Vault {self._view.vault.name} does not hold what its provider was to copy into it",
                why=f"object {name[:12]} differs in {differ}",
                todo="Run again: nothing of it was kept. If it happens again, the provider has to be told.",
            )
        with self._lock:
            self._copied += 1
            self._copied_bytes += size

    def _undo(self, name: str) -> None:
        """What a vault keeps by itself is left to a prune; so is what is named by its content.

        Another writer may have brought that meanwhile, or found it there, and relies on it.
        """
        if len(name) == 64:
            return
        with suppress(BackupsError):
            self._view.delete_object(name)
