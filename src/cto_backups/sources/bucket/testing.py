"""A restore test in a bucket: restored into a place of its own, read back from there object by object, and deleted.

What is known of the place lies in the folder that the test was given, so that whoever proves it afterwards finds it.
"""

import json
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import PointReader, Progress, Restored, RestoreOptions
from cto_backups.errors import BackupsError, VerificationError
from cto_backups.sources.bucket import in_place
from cto_backups.sources.bucket.manifest import INSIDE, lines, name_in
from cto_backups.sources.bucket.reading import GoneError, digest_of
from cto_backups.sources.bucket.stores import (
    Found,
    ObjectStore,
    OtherStateError,
    TornError,
    UncopiedError,
    UnreadableError,
)
from cto_backups.sources.bucket.sums import ALGORITHM, Sums
from cto_backups.sources.moments import nanoseconds
from cto_backups.sources.names import readable

_WHERE: Final = "tested-in.json"
_AT_ONCE: Final = 8
_LEFT: Final = timedelta(days=1)
"""What is younger in the place may be another test's, at work."""
_NAME: Final = re.compile(rb"cto-backups-test-(\d{8}T\d{6}Z)-[0-9a-f]{8}/")
_FAILURES: Final = (BackupsError, OtherStateError, TornError, UncopiedError, UnreadableError)


@dataclass(frozen=True)
class TestPlace:
    """Where tests of one source restore; `at` opens the store at a place of a bucket, by its URL."""

    source: str
    url: str
    at: Callable[[str], AbstractContextManager[ObjectStore]]

    def restore(
        self, reader: PointReader, folder: Path, staging: Path, options: RestoreOptions, progress: Progress | None
    ) -> Restored:
        """Restore into a new place, of which `folder` tells; what tests left that were killed goes first.

        Raises what a restore does, and nothing of it stays then.
        """
        self._clear_left()
        url = f"{self.url}/cto-backups-test-{clock.now().astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        (folder / _WHERE).write_text(json.dumps({"url": url}))
        reader.restore(folder, only=(INSIDE,), options=RestoreOptions(one_copy=True))
        with self.at(url) as store:
            try:
                restored = in_place.restore(store, reader, staging, in_place.Wish(url, options=options), progress)
            except BaseException:
                with suppress(*_FAILURES):
                    _clear(store)
                raise
            if restored.problems:  # then nobody comes to prove it
                with suppress(*_FAILURES):
                    _clear(store)
        return restored

    def probe(self, folder: Path, expected: Fingerprint) -> Fingerprint:
        """Read everything back from the place, sum it up, and delete it. Raises VerificationError."""
        if expected.algorithm != ALGORITHM:
            raise self._failed("the fingerprint is not one of a bucket", f"it is {expected.algorithm}")
        url = str(json.loads((folder / _WHERE).read_text())["url"])
        with self.at(url) as store:
            try:
                found = self._found(store, folder, Sums.like(expected))
            except BaseException:
                with suppress(*_FAILURES):
                    _clear(store)
                raise
            try:
                _clear(store)
            except _FAILURES as error:
                raise self._failed(f"what was restored into {url} cannot be deleted again", str(error)) from error
        return found

    def _found(self, store: ObjectStore, folder: Path, sums: Sums) -> Fingerprint:
        made = {}
        try:
            for line, read in lines(folder / INSIDE.lstrip("/")):
                sums.add_line(name_in(read), line, read)
                made[name_in(read)] = nanoseconds(datetime.fromisoformat(read["made"]))
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="prove") as pool:
                for each, digest in pool.map(lambda each: (each, _digest(store, each)), store.listing()):
                    # When a content was written is the one thing that no store lets be told to it.
                    sums.add_content(each.name, each.size, made.get(each.name, each.made_ns), digest)
        except (OSError, ValueError, UnreadableError) as error:
            raise self._failed("what was restored cannot be read", str(error)) from error
        return sums.fingerprint()

    def _clear_left(self) -> None:
        before = clock.now() - _LEFT
        with self.at(self.url) as store:
            for each in store.listing():
                begun = _NAME.match(each.name)
                if begun is None:
                    continue
                when = datetime.strptime(begun[1].decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                if when < before:
                    with suppress(OtherStateError):
                        store.delete(each)

    def _failed(self, what: str, why: str) -> VerificationError:
        todo = "verify the vault, and test an older recovery point; see docs/how-to/protect-a-bucket.md for the rights"
        return VerificationError(f"source {self.source}: {what}", why=why, todo=todo)


def is_tested_in_a_bucket(folder: Path) -> bool:
    """Whether a folder tells of a place in a bucket."""
    return (folder / _WHERE).is_file()


def _digest(store: ObjectStore, found: Found) -> bytes:
    try:
        return digest_of(store, found)
    except GoneError:
        raise UnreadableError("gone", f"{readable(found.name)} was deleted while it was read") from None


def _clear(store: ObjectStore) -> None:
    """Delete everything at a place."""
    for each in list(store.listing()):
        with suppress(OtherStateError):
            store.delete(each)
