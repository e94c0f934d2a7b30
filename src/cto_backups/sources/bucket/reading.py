"""Reading one object whole, whatever happens on the way: resets, cut answers, and whoever overwrites it meanwhile."""

import time
from collections.abc import Callable
from typing import Final

from cto_backups.core.objects import ObjectState
from cto_backups.core.trees import EntryUnreadableError
from cto_backups.sources.bucket.checksums import Checksums
from cto_backups.sources.bucket.stores import Body, Found, ObjectStore, OtherStateError, TornError, UnreadableError

_ATTEMPTS: Final = 4
_PIECE: Final = 1 << 20


class GoneError(Exception):
    """The object was deleted since it was listed."""


def pause(attempt: int) -> None:
    """Wait before the next try."""
    time.sleep(0.1 * 2**attempt)


def opened(store: ObjectStore, found: Found) -> Body:
    """The content of an object; of its newest state, if it was overwritten since. Raises GoneError, and as `open`."""
    for _ in range(_ATTEMPTS):
        try:
            return store.open(found)
        except OtherStateError:
            now = store.look_up(found.name)
            if now is None:
                raise GoneError from None
            found = now
    raise UnreadableError("changed-while-read", f"it was overwritten again and again, {_ATTEMPTS} times")


def whole(store: ObjectStore, found: Found) -> tuple[Found, bytes, bytes]:
    """A small object: as it was read, its content, and that's SHA-256. Raises GoneError, UnreadableError."""
    for attempt in range(1, _ATTEMPTS + 1):
        last = attempt == _ATTEMPTS
        try:
            body = opened(store, found)
            try:
                return _read(body)
            finally:
                body.close()
        except TornError as error:
            if last:
                raise UnreadableError("unreadable", f"each answer was cut short: {error}") from error
        except UnreadableError as error:
            if last or error.kind != "damaged":
                raise
        pause(attempt)
    raise AssertionError("the last attempt returns or raises")


def _read(body: Body) -> tuple[Found, bytes, bytes]:
    size = body.found.size
    content = memoryview(bytearray(size))
    sums = Checksums(body.claims)
    at = 0
    while at < size:
        count = body.readinto(content[at : at + _PIECE])
        if not count:
            raise TornError(f"it ended after {at} bytes of {size}")
        sums.add(content[at : at + count])
        at += count
    _compare(sums)
    return body.found, bytes(content), sums.sha256


def _compare(sums: Checksums) -> None:
    broken = sums.broken()
    if broken:
        detail = f"what came is not that of which the store tells this checksum: {', '.join(broken)}"
        raise UnreadableError("damaged", detail)


class ObjectReader:
    """Implements `core.trees.BlockReader` for a large object, which is read on from where an answer ended.

    It tells which state it reads (`core.objects.FromObject`).

    `done` is told the object as it was read, and its SHA-256; `failed` what went wrong.
    """

    def __init__(
        self,
        store: ObjectStore,
        found: Found,
        done: Callable[[Found, bytes], None],
        failed: Callable[[UnreadableError], EntryUnreadableError],
    ) -> None:
        self._store = store
        self._done = done
        self._failed = failed
        self._body: Body | None = _retried(store, found)
        self.found = self._body.found
        self._sums = Checksums(self._body.claims)
        self._at = 0

    @property
    def state(self) -> ObjectState:
        """The state that is read, from its beginning to its end."""
        return self._store.state(self.found)

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes; 0 at the end."""
        left = self.found.size - self._at
        if not left:
            return 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                if self._body is None:
                    self._body = self._store.open(self.found, self._at)
                count = self._body.readinto(buffer[:left])
                if not count:
                    raise TornError(f"it ended after {self._at} bytes of {self.found.size}")
            except TornError as error:
                self._let_go()
                if attempt == _ATTEMPTS:
                    raise self._failed(UnreadableError("unreadable", f"each answer was cut short: {error}")) from error
                pause(attempt)
            except OtherStateError as error:
                detail = "it was overwritten or deleted while it was read, and the rest of it is gone"
                raise self._failed(UnreadableError("changed-while-read", detail)) from error
            except UnreadableError as error:
                raise self._failed(error) from error
            else:
                self._sums.add(buffer[:count])
                self._at += count
                return count
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Compare it with the store's checksums, when all of it was read."""
        if self._body is None:
            return
        self._let_go()
        if self._at == self.found.size:
            try:
                _compare(self._sums)
            except UnreadableError as error:
                raise self._failed(error) from error
            self._done(self.found, self._sums.sha256)

    def _let_go(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def digest_of(store: ObjectStore, found: Found) -> bytes:
    """The SHA-256 of an object of any size, read for nothing else. Raises GoneError, UnreadableError."""
    told: list[bytes] = []
    failed: list[UnreadableError] = []

    def keep(error: UnreadableError) -> EntryUnreadableError:
        failed.append(error)
        return EntryUnreadableError(error.detail)

    buffer = memoryview(bytearray(_PIECE))
    try:
        reader = ObjectReader(store, found, lambda _, digest: told.append(digest), keep)
        while reader.readinto(buffer):
            pass
        reader.close()
    except EntryUnreadableError:
        raise failed[-1] from None
    except TornError as error:
        raise UnreadableError("unreadable", f"each answer was cut short: {error}") from error
    return told[0]


def _retried(store: ObjectStore, found: Found) -> Body:
    for attempt in range(1, _ATTEMPTS):
        try:
            return opened(store, found)
        except TornError:
            pause(attempt)
    return opened(store, found)
