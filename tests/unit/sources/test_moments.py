"""The dates of files, and how far they are believed."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cto_backups import clock
from cto_backups.core.trees import Entry, EntryKind
from cto_backups.sources.moments import NewestContent, changed_at, moment, nanoseconds, written_at

HOUR = timedelta(hours=1)


@pytest.fixture
def now() -> datetime:
    return clock.now()


def entry(written: datetime, changed: datetime | None = None, kind: EntryKind = EntryKind.FILE) -> Entry:
    return Entry(b"x", b"/x", kind, mtime_ns=nanoseconds(written), ctime_ns=nanoseconds(changed or written))


def newest(now: datetime, *folders: list[Entry]) -> datetime | None:
    found = NewestContent()
    for entries in folders:
        found.see(entries)
    return found.by(now)


def test_a_moment_and_its_nanoseconds_are_the_same_to_the_microsecond() -> None:
    at = datetime(2026, 3, 18, 12, 0, 0, 123456, UTC)
    assert moment(nanoseconds(at)) == at
    assert moment(nanoseconds(at) + 999) == at


def test_the_newest_file_counts_in_whatever_order_folders_come(now: datetime) -> None:
    old, new = [entry(now - 3 * HOUR)], [entry(now - 5 * HOUR), entry(now - 2 * HOUR)]
    assert newest(now, old, new) == newest(now, new, old) == now - 2 * HOUR
    assert newest(now, [], old, []) == now - 3 * HOUR
    assert newest(now) is None


def test_folders_and_links_are_no_content(now: datetime) -> None:
    """A lock that comes and goes beside a dump changes the folder, not the dump."""
    others = [entry(now - HOUR, kind=EntryKind.FOLDER), entry(now - HOUR, kind=EntryKind.SYMLINK)]
    assert newest(now, others) is None
    assert newest(now, [*others, entry(now - 9 * HOUR)]) == now - 9 * HOUR


def test_a_copy_is_as_old_as_what_was_copied(now: datetime) -> None:
    assert newest(now, [entry(now - 900 * HOUR, changed=now - HOUR)]) == now - 900 * HOUR


def test_an_mtime_in_the_future_counts_for_no_more_than_the_kernel_saw(now: datetime) -> None:
    assert newest(now, [entry(now + 9000 * HOUR, changed=now - 2 * HOUR)]) == now - 2 * HOUR


def test_what_is_wholly_in_the_future_is_not_believed_and_hides_nothing(now: datetime) -> None:
    ahead = entry(now + 9000 * HOUR)
    assert newest(now, [ahead]) is None
    assert newest(now, [ahead, entry(now - 7 * HOUR)]) == now - 7 * HOUR


def test_a_file_without_a_date_has_none(now: datetime) -> None:
    assert newest(now, [Entry(b"x", b"/x", EntryKind.FILE, ctime_ns=nanoseconds(now - HOUR))]) is None


def test_what_is_written_during_the_capture_is_of_the_captures_moment(now: datetime) -> None:
    assert newest(now - HOUR, [entry(now - timedelta(minutes=1))]) == now - HOUR


def test_files_are_asked_for_their_dates(tmp_path: Path, now: datetime) -> None:
    first, second, empty, missing = (tmp_path / name for name in ("a", "b", "empty", "missing"))
    for file, hours in ((first, 5), (second, 3), (empty, 1)):
        file.write_bytes(b"" if file is empty else b"x")
        at = nanoseconds(now - hours * HOUR)
        os.utime(file, ns=(at, at))
    every = (first, second, empty, missing)
    assert written_at(every, now) == now - 3 * HOUR
    assert written_at((first, missing), now) == now - 5 * HOUR
    assert written_at((empty, missing), now) is None
    assert written_at((first,), now - 6 * HOUR) is None, "from the future, as seen from then"
    changed = changed_at(every)
    assert changed is not None
    assert now - timedelta(minutes=1) <= changed <= clock.now(), "setting a date is a change"
    assert changed_at((missing,)) is None
