"""Objects of a point that the store itself copies out of the vault, into the bucket that they are restored to."""

import threading
from typing import Final

from cto_backups.core.objects import KnowingStates, ObjectState, proof
from cto_backups.core.ports import PointReader
from cto_backups.core.wording import counted
from cto_backups.errors import BackupsError
from cto_backups.sources.bucket.manifest import Line, name_in
from cto_backups.sources.bucket.reading import GoneError, digest_of
from cto_backups.sources.bucket.stores import Found, ObjectStore, UncopiedError, UnreadableError

LARGER_THAN: Final = 4 << 20
"""Up to this, content is written: that takes one request, too."""


class ByStore:
    """Asks for copies where they can be had; any thread may call."""

    def __init__(self, store: ObjectStore, reader: PointReader) -> None:
        self._store = store
        self._reader = reader if isinstance(reader, KnowingStates) else None
        self._lock = threading.Lock()
        self._copied = 0
        self._reasons: dict[str, None] = {}
        self._refused = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        with self._lock:
            told = (f"{counted(self._copied, 'object')} copied by the provider",) if self._copied else ()
            return (*told, *(f"not copied by the provider: {reason}" for reason in self._reasons))

    def copied(self, line: Line, now: Found | None) -> bool:
        """Whether it was copied; false where it has to be written. Raises OtherStateError, UnreadableError."""
        state = self._state(line)
        if state is None:
            return False
        try:
            told = self._store.copy(name_in(line), state, line, now)
        except UncopiedError as error:
            with self._lock:
                self._refused = self._refused or error.lasting
                self._reasons.setdefault(str(error))
            return False
        found = proof({**state.checksums, "sha256": str(line["sha256"])}, told)
        if found.differing:
            raise UnreadableError("altered", f"what the provider copied differs in its {found.differing[0]}")
        if not found.holds and not self._is_read_back(line):
            raise UnreadableError("altered", "what the provider copied is not what is in the point")
        with self._lock:
            self._copied += 1
        return True

    def _is_read_back(self, line: Line) -> bool:
        """Whether what is there is the content of the point: of a store that tells no checksum of what it copies."""
        made = self._store.look_up(name_in(line))
        try:
            return made is not None and digest_of(self._store, made).hex() == line["sha256"]
        except GoneError:
            return False

    def _state(self, line: Line) -> ObjectState | None:
        if self._reader is None or self._refused or int(line["size"]) <= LARGER_THAN:
            return None
        try:
            state = self._reader.state_of(str(line["path"]).encode("utf-8", "surrogateescape"))
        except BackupsError:
            return None  # what is wrong in the vault is told by reading it
        return state if state is not None and self._store.copies(state) else None
