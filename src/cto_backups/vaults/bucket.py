"""A vault in a bucket of an object store: what is the same at every provider.

Each stored file is one object, written in one go under the condition that there is none of its name. Such stores show
an object whole or not at all, and keep it once they have said so. A marker object at the vault's root tells an empty
vault from a wrong bucket. What one asks of a store is in `object_store`; the stores are `s3` and `gcs`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from cto_backups import _native, clock
from cto_backups.core.bucket_settings import BucketSettings
from cto_backups.core.object_locks import (
    FileLock,
    Hidden,
    Locking,
    locked_at_first,
)
from cto_backups.core.objects import ObjectState
from cto_backups.core.trees import Buffer
from cto_backups.core.vault_settings import Change
from cto_backups.core.vaults import StoreAddress, StoredFile
from cto_backups.errors import VaultError, VaultExistsError
from cto_backups.vaults import versions
from cto_backups.vaults.holding import BucketHolds, lock_anew, see_free
from cto_backups.vaults.joined import Joined
from cto_backups.vaults.marker import MARKER, check_key, identity_in, is_key, new_marker
from cto_backups.vaults.object_store import AbsentError, Answer, BeyondError, ObjectStore, TakenError, UnansweredError
from cto_backups.vaults.passing import Passing
from cto_backups.vaults.slow import Filling, untorn
from cto_backups.vaults.trial import Trial

_PART_BYTES = 16 << 20  # of a stream, of which there are a handful in memory
_AT_ONCE = 8
_SEEN_SECONDS = 10.0
_STEP_BYTES = 8 << 20  # of what is read back
_UPLOADS_END = timedelta(days=1)  # no upload of ours takes so long, nor do clocks differ by it


class BucketVault:
    """A vault below a prefix of a bucket; implements what `core.vaults` has, and `core.objects.CopyingWithin`."""

    def __init__(self, name: str, location: str, store: ObjectStore) -> None:
        self._name = name
        self._location = location
        self._store = store
        self._seen_at = float("-inf")

    @property
    def name(self) -> str:
        """Its name in the policy."""
        return self._name

    @property
    def location(self) -> str:
        """The place in the bucket, and the server where it is not the provider's own."""
        return self._location

    @property
    def address(self) -> StoreAddress:
        """Where it is, for those who ask the store for more than a vault gives."""
        return self._store.address

    @property
    def requests_at_once(self) -> int:
        """How many requests to have under way: each waits for tens of milliseconds, whatever it asks for."""
        return _AT_ONCE

    @property
    def identity(self) -> str:
        """The id that the vault was given when it was made, to tell it from another. Raises VaultMissingError."""
        try:
            marker = self._read(MARKER, 0, None)
        except AbsentError as error:
            self._store.look()  # says so if it is the bucket that is not there
            marked = self.address.key(MARKER)
            raise self._store.say.absent(f"there is no marker object {marked} in the bucket") from error
        except BeyondError:
            marker = b""
        identity = identity_in(marker, f"Vault {self._name} at {self._location}")
        self._seen_at = clock.monotonic()
        return identity

    def check(self) -> None:
        """Raise VaultMissingError when the bucket or the marker in it is not there; VaultError when nobody answers."""
        _ = self.identity

    def create(self) -> None:
        """Make the marker in a bucket that is there; fine when it is there already.

        Raises VaultMissingError with the command that makes the bucket, and VaultError for a store that would let two
        writers replace each other's files.
        """
        self._store.look()
        marker = [new_marker()]
        try:
            self._put(MARKER, marker, overwrite=False)
        except VaultExistsError:
            self.check()
            return
        try:
            self._put(MARKER, marker, overwrite=False, anew=True)
        except VaultExistsError:
            return
        raise self._store.say.heedless(self._store.condition)

    def put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined parts, whole or not at all, durable on return; proven by the checksum that the store tells.

        Raises VaultExistsError when the key is there and `overwrite` is false; VaultFullError; VaultReadOnlyError.
        """
        check_key(key, self._name)
        self._put(key, parts, overwrite=overwrite)

    def put_stream(self, key: str, pieces: Iterable[Buffer], *, overwrite: bool = False) -> None:
        """Store the joined pieces as they come; proven by the checksums that the store tells.

        What the pieces raise is raised, and nothing is stored then. Raises what `put` raises.
        """
        check_key(key, self._name)
        passing = Passing(pieces, _PART_BYTES)
        begun = passing.begin(2)
        if len(begun) < 2:
            self._put(key, begun, overwrite=overwrite)
            return
        if not overwrite:
            self._see_absent(key)  # before all of it goes there for nothing
        try:
            self._store.put_stream(key, passing, overwrite=overwrite, until=self._locked_at_first(key))
        except TakenError as error:
            self._see_own(error, key, lambda: self._holds_stream(key, passing))
        except UnansweredError as error:
            self._see_answered(error, lambda: self._holds_stream(key, passing))

    def copies(self, state: ObjectState) -> bool:
        """Whether an object lies where the store can copy from."""
        return self._store.copies(state)

    def state_of(self, key: str) -> ObjectState:
        """A stored file as it is now, for another vault to copy. Raises VaultMissingError."""
        try:
            return self._store.state_of(key)
        except AbsentError as error:
            raise self._gone(error) from error

    def copy_within(self, key: str, state: ObjectState) -> Mapping[str, str]:
        """Have a state copied to a new key by the store; the copy's checksums. Raises NotCopiedError."""
        check_key(key, self._name)
        self._see_absent(key)  # not every store takes a condition for a copy
        return self._store.copy_within(key, state, until=self._locked_at_first(key))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, `length` of them or all. Raises VaultMissingError; VaultError when there are fewer."""
        check_key(key, self._name)
        if length == 0:
            self.size(key)
            return b""
        try:
            return self._read(key, offset, length)
        except BeyondError as error:
            there = self.size(key)
            if length is None and there == offset:
                return b""  # all that comes after its end: nothing, which is no range to a store
            raise self._short(key, offset, length, there) from error
        except AbsentError as error:
            raise self._gone(error) from error

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with the bytes from `offset`. Raises VaultMissingError; VaultError when there are fewer."""
        check_key(key, self._name)
        if not buffer.nbytes:
            self.size(key)
            return
        try:
            self._read_into(key, offset, buffer)
        except BeyondError as error:
            raise self._short(key, offset, buffer.nbytes, self.size(key)) from error
        except AbsentError as error:
            raise self._gone(error) from error

    def size(self, key: str) -> int:
        """Size in bytes. Raises VaultMissingError."""
        check_key(key, self._name)
        try:
            return self._store.size(key)
        except AbsentError as error:
            raise self._gone(error) from error

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Every stored file below the folder `prefix` ("" for all), a page of a thousand at a time."""
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        page, found = self._store.page(folder, None), False
        while True:
            found = found or bool(page.files)
            # A key that we would not write is not ours; such as the "folders" that people make in browsers.
            yield from (stored for stored in page.files if is_key(stored.key))
            if page.next is None:
                break
            following = self._store.page(folder, page.next)
            if following.next == page.next:
                raise self._store.say.in_circles(folder)
            page = following
        # An empty answer must not be given for a wrong bucket. One that was the right one just now is it still.
        if not found and clock.monotonic() - self._seen_at > _SEEN_SECONDS:
            _ = self.identity

    def delete(self, key: str) -> None:
        """Remove a stored file; fine when it is gone already.

        Raises VaultReadOnlyError, VaultMissingError; VaultLockedError while a lock or a hold keeps it, see `holding`.
        """
        check_key(key, self._name)
        if self.locking is not None:
            see_free(self._store, self.locking, key)
        try:
            self._store.delete(key)
        except AbsentError:
            _ = self.identity  # fine, unless it is the vault that is gone

    def sweep(self) -> int:
        """Remove what uploads of dead writers left behind; how many. Raises VaultMissingError, VaultReadOnlyError."""
        return self._store.sweep(clock.now() - _UPLOADS_END)

    def settings(self) -> BucketSettings:
        """How its bucket is set now. Raises VaultError."""
        return self._store.settings()

    def change(self, change: Change) -> str:
        """Set its bucket; why not, or "" once the store has taken it. Raises VaultError."""
        return self._store.change(change)

    def trial(self) -> Trial:
        """What asks its store for more than a vault does. Raises VaultError."""
        return self._store.trial()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    # -- locks --------------------------------------------------------------------------------------------------------

    @property
    def locking(self) -> Locking | None:
        """How it locks what it stores; None when it does not."""
        return self.address.locking

    def lock_of(self, key: str) -> FileLock | None:
        """The lock of a stored file, read from the store; None when it has none. Raises VaultMissingError."""
        try:
            return self._store.lock_of(key)
        except AbsentError as error:
            raise self._gone(error) from error

    def lock(self, key: str) -> FileLock | None:
        """Lock a stored file for a whole window from now, and read back what came of it. Raises VaultMissingError."""
        assert self.locking is not None, "a vault without a lock mode locks nothing"
        try:
            lock_anew(self._store, self.locking, key)
        except AbsentError as error:
            raise self._gone(error) from error
        return self.lock_of(key)

    @property
    def legal_holds(self) -> BucketHolds:
        """What puts the store's own holds on stored files."""
        return BucketHolds(self._store, self._gone)

    def hidden(self) -> Iterator[Hidden]:
        """What was deleted or replaced while it is kept. Raises RefusedError where the store cannot tell."""
        holds = self._store.legal_holds if self.locking is not None and self.locking.holds else None
        return versions.hidden(versions.versioned(self._name, self._store), clock.now(), holds)

    def bring_back(self, hidden: Hidden) -> None:
        """Let it be read again, as it was: undo its deletion, or store it above what replaced it. Raises VaultError."""
        store = versions.versioned(self._name, self._store)
        for marker in hidden.markers:
            store.remove_marker(hidden.key, marker)
        if hidden.replaced:
            self._put(hidden.key, [store.read_version(hidden.key, hidden.version)], overwrite=True)

    # -- how ----------------------------------------------------------------------------------------------------------

    def _put(self, key: str, parts: Sequence[Buffer], *, overwrite: bool, anew: bool = False) -> None:
        """Store it; with `anew`, what is there already is another's even if it is the same."""
        try:
            self._store.put(key, parts, overwrite=overwrite, until=self._locked_at_first(key))
        except TakenError as error:
            if anew:
                raise
            self._see_own(error, key, lambda: self._holds(key, parts))
        except UnansweredError as error:
            # The last try may have come through as well: what is there is the answer.
            if anew:
                raise
            self._see_answered(error, lambda: self._holds(key, parts))

    def _locked_at_first(self, key: str) -> datetime | None:
        return None if self.locking is None else locked_at_first(key, self.locking, clock.now())

    def _see_own(self, error: TakenError, key: str, holds: Callable[[], bool]) -> None:
        """Raise the error, unless an earlier try of this call came through; VaultError where nothing is there."""
        if not error.again:
            raise error
        try:
            held = holds()
        except AbsentError:
            raise self._store.say.contradicted(key) from error
        if not held:
            raise error

    def _see_answered(self, error: VaultError, holds: Callable[[], bool]) -> None:
        """Raise the error, unless what is there shows that it was stored."""
        try:
            if holds():
                return
        except VaultError:
            raise error from None
        raise error

    def _holds(self, key: str, parts: Sequence[Buffer]) -> bool:
        """Whether what is there is these parts; where the store's checksums do not tell, it is read and compared."""
        if (held := self._store.holds(key, parts)) is not None:
            return held
        content = Joined(parts)
        return all(piece == content.read(len(piece)) for piece in self._read_back(key, content.size))

    def _holds_stream(self, key: str, passed: Passing) -> bool:
        """Whether what is there is what passed; where the store does not tell, it is read and compared."""
        if (held := self._store.holds_stream(key, passed)) is not None:
            return held
        checksum = 0
        for piece in self._read_back(key, passed.size):
            checksum = _native.crc32c(piece, checksum)
        return checksum == passed.crc32c

    def _read_back(self, key: str, size: int) -> Iterator[bytes]:
        """So many bytes of an object, in pieces."""
        for begin in range(0, size, _STEP_BYTES):
            yield self._read(key, begin, min(_STEP_BYTES, size - begin))

    def _see_absent(self, key: str) -> None:
        with suppress(AbsentError):
            self._store.size(key)
            raise self._store.say.exists(key)

    def _gone(self, error: AbsentError) -> VaultError:
        """There is no such object; or no vault, which is told then."""
        try:
            _ = self.identity
        except VaultError as absent:
            return absent
        return error

    def _short(self, key: str, offset: int, length: int | None, there: int) -> VaultError:
        return self._store.say.short(key, offset, 1 if length is None else length, max(there - offset, 0))

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        """What is asked for. Raises AbsentError, BeyondError."""

        def read() -> bytes:
            with self._open(key, offset, length) as answer:
                content = bytearray(answer.size_bytes)
                Filling(memoryview(content)).take(answer.body)
            return bytes(content)

        return untorn(self._store, key, read)

    def _read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; what came stays, and only the rest is asked for again. Raises AbsentError, BeyondError."""
        filling = Filling(buffer)

        def fill() -> None:
            with self._open(key, offset + filling.filled, buffer.nbytes - filling.filled) as answer:
                filling.take(answer.body)

        untorn(self._store, key, fill, lambda: filling.filled)

    def _open(self, key: str, offset: int, length: int | None) -> Answer:
        """The stream of a range, which was compared with what was asked for. Raises AbsentError, BeyondError."""
        last = "" if length is None else offset + length - 1
        answer = self._store.get(key, {"Range": f"bytes={offset}-{last}"})  # also of the whole: its size is told then
        first, last_there, whole = answer.range
        problem: Exception | None = None
        whole_comes = first is None and not offset and length is None  # a store that tells no range of the whole
        if first != offset and not whole_comes:
            problem = self._store.say.other_range(key)
        elif whole is not None and whole < offset:  # which providers refuse, and not every store
            problem = self._short(key, offset, length, whole)
        elif last_there is not None and answer.size_bytes < last_there + 1 - offset:
            problem = OSError(f"{answer.size_bytes} bytes came of a range to {last_there}")  # cut by who stands between
        elif length is not None and answer.size_bytes != length:
            problem = self._store.say.short(key, offset, length, answer.size_bytes)
        if problem is not None:
            answer.body.close()
            raise problem
        return answer
