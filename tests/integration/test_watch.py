"""A worker that watches: what changes is backed up soon, by the plan, and nothing depends on it."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.model import ActionKind, Outcome
from cto_backups.core.schedule import parse_triggers
from cto_backups.core.watched import Hint, Seen
from cto_backups.flows import watch as watch_flow
from cto_backups.flows import work as work_flow
from cto_backups.flows.backup import backup
from cto_backups.flows.installation import Installation
from cto_backups.flows.watch import Watching, watching
from cto_backups.flows.work import run_due, work
from cto_backups.sources.watcher import Watcher

PATIENCE_SECONDS = 30


@dataclass
class Told:
    """A watch that tells what the test says."""

    changed: set[str] = field(default_factory=set)
    refusal: str | None = None

    def add(self, source: str, places: Any) -> str | None:
        return self.refusal

    def look(self) -> Seen:
        seen = Seen(frozenset(self.changed))
        self.changed.clear()
        return seen

    def replaced(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        """Nothing is held."""


def watchful(workshop: Any, watch: Any = Watcher, **triggers: str) -> Installation:
    """The installation with these triggers, and no other source."""
    policy = workshop.installation.policy
    sources = {
        name: replace(policy.sources[name], triggers=parse_triggers(text), test_every=None, vaults=("one",))
        for name, text in triggers.items()
    }
    return replace(workshop.installation, policy=replace(policy, sources=sources), watch=watch)


def write(database: Path, note: str = "new") -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO entries (note) VALUES (?)", (note,))


def points(workshop: Any, source: str = "ledger") -> list[Any]:
    return list(workshop.catalog.points(source))


def done_by(installation: Installation, watch: Watching) -> list[ActionKind]:
    return [each.action.kind for each in run_due(installation, threading.Event(), expiry=False, watching=watch)]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moment, self.ticks = clock.now(), 0.0
        monkeypatch.setattr(clock, "now", lambda: self.moment)
        monkeypatch.setattr(clock, "monotonic", lambda: self.ticks)

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.ticks += seconds


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_what_is_noticed_is_due_once_and_served_by_the_backup(workshop: Any, time_passes: Clock) -> None:
    told = Told()
    installation = watchful(workshop, lambda: told, ledger="continuous")
    with watching(installation, pytest.fail) as watch:
        assert watch is not None
        assert done_by(installation, watch) == [ActionKind.BACKUP]
        time_passes.forward(20)
        assert (done_by(installation, watch), watch.due()) == ([], ())
        write(workshop.data / "ledger.db")
        told.changed.add("ledger")
        watch.look()
        assert watch.due() == (), "others may follow at once"
        time_passes.forward(1)
        assert watch.due() == ("ledger",)
        assert done_by(installation, watch) == [ActionKind.BACKUP]
        assert len(points(workshop)) == 2
        time_passes.forward(60)
        assert (done_by(installation, watch), watch.due()) == ([], ())


def test_a_backup_by_somebody_else_serves_what_was_noticed(workshop: Any, time_passes: Clock) -> None:
    told = Told()
    installation = watchful(workshop, lambda: told, ledger="continuous")
    with watching(installation, pytest.fail) as watch:
        assert watch is not None
        done_by(installation, watch)
        time_passes.forward(20)
        told.changed.add("ledger")
        watch.look()
        time_passes.forward(1)
        backup(installation, "ledger")
        assert watch.due() == ("ledger",), "as far as is known here"
        assert done_by(installation, watch) == []
        assert watch.due() == ()


def test_who_begins_to_watch_looks_at_what_nobody_watched(workshop: Any, time_passes: Clock) -> None:
    """What changed while no worker ran would otherwise wait for the next rescan."""
    installation = watchful(workshop, Told, ledger="on change")
    backup(installation, "ledger")
    time_passes.forward(60)
    write(workshop.data / "ledger.db")
    with watching(installation, pytest.fail) as watch:
        assert watch is not None
        assert done_by(installation, watch) == []
        time_passes.forward(10)
        assert done_by(installation, watch) == [ActionKind.BACKUP]
    assert len(points(workshop)) == 2


def test_a_watch_that_tells_nothing_never_keeps_a_source_from_its_rescan(workshop: Any, time_passes: Clock) -> None:
    installation = watchful(workshop, Told, ledger="continuous")
    with watching(installation, pytest.fail) as watch:
        assert watch is not None
        done_by(installation, watch)
        for _ in range(2):
            time_passes.forward(14 * 60)
            assert done_by(installation, watch) == []
            time_passes.forward(61)
            write(workshop.data / "ledger.db")
            assert done_by(installation, watch) == [ActionKind.BACKUP]
    assert len(points(workshop)) == 3


def test_who_writes_all_the_time_does_not_keep_a_pass_from_ending(
    workshop: Any, time_passes: Clock, monkeypatch: Any
) -> None:
    """Each look finds changes, and backups need no rest: the pass still does each once."""
    told = Told()
    both = {"ledger", "documents"}
    installation = watchful(workshop, lambda: told, **dict.fromkeys(both, "continuous"))
    monkeypatch.setattr("cto_backups.core.watching.shortest_pause", lambda _source: timedelta())
    monkeypatch.setattr("cto_backups.core.watching.REST_FACTOR", 0)
    with watching(installation, pytest.fail) as watch:
        assert watch is not None
        done_by(installation, watch)
        time_passes.forward(2)
        told.changed |= both
        watch.look()
        time_passes.forward(2)
        done = []
        for each in run_due(installation, threading.Event(), expiry=False, watching=watch):
            done.append(each.action.source)
            write(workshop.data / "ledger.db")
            (workshop.data / "files" / "report.txt").write_text(str(len(done)))
            told.changed |= both
            time_passes.forward(2)
            assert len(done) < 5
        assert sorted(done) == sorted(both)
        watch.look()
        assert set(watch.due()) == both


def test_where_watching_is_impossible_that_is_said_once_and_rescans_go_on(workshop: Any, time_passes: Clock) -> None:
    told, said = Told(refusal="the moon is full"), list[str]()
    installation = watchful(workshop, lambda: told, ledger="continuous", documents="daily")
    with watching(installation, said.append) as watch:
        assert watch is not None
        done_by(installation, watch)
        for _ in range(3):
            time_passes.forward(5 * 60 + 1)
            watch.look()
        assert said == [
            "ledger is not watched for changes: the moon is full. It is looked at every 15 minutes instead."
        ]
        assert done_by(installation, watch) == [ActionKind.BACKUP]
        told.refusal = None
        time_passes.forward(60)
        watch.look()
        assert said[1:] == ["ledger is watched for changes again."]
        time_passes.forward(1)
        assert watch.due() == ("ledger",), "nobody knows what happened meanwhile"


def test_a_place_that_is_gone_is_said_and_watched_again_once_it_is_back(workshop: Any, time_passes: Clock) -> None:
    said = list[str]()
    installation = watchful(workshop, documents="on change")
    files = workshop.data / "files"
    with watching(installation, said.append) as watch:
        assert watch is not None and watch.watched == ("documents",)
        files.rename(files.with_name("away"))
        watch.look()
        assert "was removed, renamed or unmounted" in said[0]
        time_passes.forward(61)
        watch.look()
        assert "is there" in said[1] and watch.watched == ()
        files.with_name("away").rename(files)
        time_passes.forward(61)
        watch.look()
        assert watch.watched == ("documents",)


def test_a_source_is_watched_where_a_link_leads_now(workshop: Any, time_passes: Clock) -> None:
    """One that is a folder above it too: a release is often put in the place of another so."""
    installation = watchful(workshop, ledger="continuous")
    for name in ("first", "second"):
        shutil.copytree(workshop.data, workshop.data.with_name(name))
    shutil.rmtree(workshop.data)
    workshop.data.symlink_to("first")
    with watching(installation, pytest.fail) as watch:
        assert watch is not None
        assert done_by(installation, watch) == [ActionKind.BACKUP]
        workshop.data.unlink()
        workshop.data.symlink_to("second")
        time_passes.forward(61)
        watch.look()
        time_passes.forward(1)
        assert done_by(installation, watch) == [ActionKind.BACKUP], "nobody watched this one"
        time_passes.forward(20)
        write(workshop.data / "ledger.db")
        watch.look()
        time_passes.forward(1)
        assert done_by(installation, watch) == [ActionKind.BACKUP]


def test_what_is_not_in_files_here_is_not_watched(workshop: Any) -> None:
    said = list[str]()
    installation = watchful(workshop, app="continuous")
    options = {"url": "https://git.example.com/app", "lfs": "auto"}
    from cto_backups.sources.git.source import GitSource

    installation = replace(installation, source=lambda name: GitSource(name, options, state=workshop.root))
    with watching(installation, said.append):
        assert said[0].startswith("app is not watched for changes: it is not in files of this machine. It is looked at")


def test_of_a_kind_that_is_never_watched_nothing_is_said(workshop: Any) -> None:
    """Its `continuous` means rescans, or a log that is followed."""
    installation = watchful(workshop, ledger="continuous")
    with watching(replace(installation, source=lambda _name: object()), pytest.fail) as watch:
        assert watch is not None and watch.watched == ()


def test_a_place_that_cannot_be_looked_at_does_not_stop_the_worker(workshop: Any, monkeypatch: Any) -> None:
    def refuse(_source: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/app/.git/refs")

    monkeypatch.setattr("cto_backups.sources.git.source.GitSource.places", refuse)
    said = list[str]()
    with watching(watchful(workshop, app="continuous"), said.append):
        assert "/srv/app/.git/refs: Permission denied." in said[0]


def test_nothing_is_watched_where_no_trigger_asks_for_it(workshop: Any) -> None:
    with watching(watchful(workshop, pytest.fail, ledger="hourly"), pytest.fail) as watch:
        assert watch is None


def test_a_rescan_of_an_unchanged_database_reads_nothing(workshop: Any, time_passes: Clock) -> None:
    time_passes.forward(60)  # its times are not the latest any more
    installation = watchful(workshop, Told, ledger="continuous")
    first = backup(installation, "ledger")
    time_passes.forward(60)
    again = backup(installation, "ledger")
    assert (again.changed, again.point.id, again.draft.read_bytes) == (False, first.point.id, 0)
    known = workshop.catalog.facts(clock.now()).sources["ledger"]
    assert known.confirmed_at == clock.now()
    assert known.last_runs[ActionKind.BACKUP].outcome is Outcome.UNCHANGED
    assert backup(installation, "ledger", label="before a migration").changed
    first_vault = replace(installation.policy.sources["ledger"], vaults=("two", "one"))
    elsewhere = replace(installation, policy=replace(installation.policy, sources={"ledger": first_vault}))
    assert backup(elsewhere, "ledger").vault == "two", "that vault has no copy of it yet"


def test_what_a_source_remarks_is_told(workshop: Any) -> None:
    with closing(sqlite3.connect(workshop.data / "ledger.db")) as connection, connection:
        connection.execute("DROP TABLE entries")
    assert backup(watchful(workshop, Told, ledger="daily"), "ledger").notes == (
        "the database is empty: it holds no table",
    )


@contextmanager
def worker(installation: Installation) -> Iterator[list[Any]]:
    """A worker at work, in a thread; what it did."""
    stop, done = threading.Event(), list[Any]()
    thread = threading.Thread(target=work, args=(installation, stop, done.append))
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_worker_backs_a_database_up_within_seconds_while_it_is_written(workshop: Any, monkeypatch: Any) -> None:
    """The whole of it: the kernel tells, the plan asks, the point holds what was committed."""
    monkeypatch.setattr("cto_backups.core.watching.shortest_pause", lambda _source: timedelta(seconds=0.5))
    monkeypatch.setattr("cto_backups.core.watching.REST_FACTOR", 0)
    monkeypatch.setattr("cto_backups.core.watching.CONTINUOUS_QUIET", timedelta(seconds=0.1))
    monkeypatch.setattr(watch_flow, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(work_flow, "LOOK_SECONDS", 0.05)
    database = workshop.data / "ledger.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
    installation = watchful(workshop, ledger="continuous", documents="daily")
    with worker(installation) as done, closing(sqlite3.connect(database, isolation_level=None)) as connection:
        until(lambda: len(done) >= 2)
        before, began = len(points(workshop)), time.monotonic()
        while time.monotonic() < began + 2:
            connection.execute("INSERT INTO entries (note) VALUES ('written')")
            time.sleep(0.01)
        (written,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        until(lambda: points(workshop)[0].fingerprint.counts["rows:entries"] == written)
        made = len(points(workshop)) - before
        assert 2 <= made <= 6, "bounded, and not only at the end"
        time.sleep(0.7)
        assert len(points(workshop)) - before == made, "nothing changes any more"
    assert all(each.error is None for each in done)
    assert [each.action.source for each in done].count("documents") == 1
    runs = workshop.catalog.facts(clock.now()).sources["ledger"].last_runs
    assert runs[ActionKind.BACKUP].outcome in (Outcome.SUCCEEDED, Outcome.UNCHANGED)


@dataclass
class Line:
    """A feed that tells what the test says."""

    hint: Hint = field(default_factory=Hint)
    closed: bool = False

    def look(self) -> Hint:
        told, self.hint = self.hint, Hint(lost=self.hint.lost)
        return told

    def close(self) -> None:
        self.closed = True


class Listening:
    """A source of which a service tells."""

    def __init__(self, source: Any, lines: list[Line]) -> None:
        self._source = source
        self._lines = lines

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def feed(self) -> Line:
        self._lines.append(Line())
        return self._lines[-1]


def test_what_a_service_tells_is_a_hint_and_a_service_that_falls_silent_is_asked_again(
    workshop: Any, time_passes: Clock
) -> None:
    """The source is looked at for each hint; whether something has changed, its content says."""
    lines: list[Line] = []
    said: list[str] = []
    plain = watchful(workshop, Told, ledger="on change")
    installation = replace(plain, source=lambda name: Listening(plain.source(name), lines))
    with watching(installation, said.append) as watch:
        assert watch is not None
        assert watch.watched == ("ledger",)
        done_by(installation, watch)
        time_passes.forward(20)
        done_by(installation, watch)
        first = len(points(workshop))
        time_passes.forward(20)
        assert watch.due() == ()

        lines[0].hint = Hint(changed=True)
        watch.look()
        time_passes.forward(400)
        assert watch.due() == ("ledger",)
        assert done_by(installation, watch) == [ActionKind.BACKUP]
        assert len(points(workshop)) == first, "nothing had changed"
        time_passes.forward(1)
        write(workshop.data / "ledger.db")
        lines[0].hint = Hint(changed=True)
        watch.look()
        time_passes.forward(400)
        assert done_by(installation, watch) == [ActionKind.BACKUP]
        assert len(points(workshop)) == first + 1

        lines[0].hint = Hint(lost="there is no queue")
        watch.look()
        assert "ledger is not watched for changes: there is no queue. It is looked at every" in said[-1]
        assert watch.watched == ()
        time_passes.forward(61)
        watch.look()
        assert (len(lines), lines[0].closed, watch.watched) == (2, True, ("ledger",))
        assert said[-1] == "ledger is watched for changes again."
    assert lines[1].closed
