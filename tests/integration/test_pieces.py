"""What was streamed into vaults is read, mended and pruned as everything else that lies there."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cto_backups import clock
from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Fingerprint, Rung, Sample
from cto_backups.core.payloads import SnapshotLabel
from cto_backups.core.policy import Access
from cto_backups.core.streams import JOIN_LEAST, Mark, Piece, PieceRead, StreamFacts, gets_nothing
from cto_backups.core.verification import Part
from cto_backups.errors import DamageError, SourceError
from cto_backups.flows import hold, store_holds
from cto_backups.flows.piece_check import put_back
from cto_backups.flows.piece_upkeep import fill, join, tidy
from cto_backups.flows.pieces import PieceFiles, tail_of
from cto_backups.flows.protect import protect
from cto_backups.flows.prune import plan as prune_plan
from cto_backups.flows.prune import prune
from cto_backups.flows.repair import plan, repair
from cto_backups.flows.stream import follow
from cto_backups.flows.verify import verify
from integration.conftest import Workshop, build
from integration.test_flows import change, flip

LOG = "one-log"
MOMENT = datetime(2026, 1, 2, 12, tzinfo=UTC)
VAULTS = ("one", "two", "three")


class Logged:
    """A source whose points also hold a log, up to `ends`: what is streamed goes on from there."""

    def __init__(self, source: Any, places: dict[str, int]) -> None:
        self._source = source
        self._places = places

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @contextmanager
    def capture(self, *limit: Any) -> Iterator[Any]:
        with self._source.capture(*limit) as capture:
            yield LoggedCapture(capture, self._places["ends"])


class LoggedCapture:
    def __init__(self, capture: Any, ends: int) -> None:
        self._capture = capture
        self._ends = ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)

    def fingerprint(self) -> Fingerprint:
        told = {"log": LOG, "first_position": "1", "end_position": str(self._ends), "tablespaces": ""}
        told |= {"since": MOMENT.isoformat(), "until": MOMENT.isoformat()}
        found = self._capture.fingerprint()
        return replace(found, samples=(*found.samples, Sample(LOG_SAMPLE, told)))


@pytest.fixture
def places() -> dict[str, int]:
    return {"ends": 100}


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """An installation with one small source."""
    (tmp_path / "data" / "files").mkdir(parents=True)
    (tmp_path / "data" / "files" / "report.txt").write_text("figures")
    options = {"paths": (str(tmp_path / "data" / "files"),), "include": (), "exclude": (), "one_file_system": False}
    made = build(tmp_path / "home", tmp_path / "data", {"documents": ("files", options)})
    yield made
    made.catalog.close()


@pytest.fixture
def streamed(workshop: Any, places: dict[str, int]) -> Any:
    """An installation with a point that holds a log up to 100, and four pieces up to 500 in each vault."""
    workshop.wrap_source = lambda source: Logged(source, places)
    protect(workshop.installation, "documents")
    for begins in range(100, 500, 100):
        stream(workshop, begins, begins + 100)
    return workshop


def stream(
    workshop: Any, begins: int, ends: int, vaults: tuple[str, ...] = VAULTS, about: dict[str, str] | None = None
) -> None:
    moment = MOMENT + timedelta(seconds=ends)
    for vault in vaults:
        read = PieceRead(Piece(LOG, begins, ends), Mark(ends - 1, moment), content(begins, ends), moment, about or {})
        files(workshop, vault).put(read)


def content(begins: int, ends: int) -> bytes:
    return bytes(at % 251 for at in range(begins, ends))


def files(workshop: Any, vault: str) -> PieceFiles:
    return PieceFiles(workshop.installation, vault, "documents")


def harm(workshop: Any, begins: int, vaults: tuple[str, ...] = VAULTS) -> None:
    for vault in vaults:
        (path,) = (workshop.vault_root(vault) / "streams/main/documents" / LOG).glob(f"{begins:016X}-*")
        flip(path)


def newest(workshop: Any) -> Any:
    return workshop.catalog.latest("documents")


def test_what_was_streamed_is_read_with_the_rest_and_counts_for_every_byte(streamed: Any) -> None:
    whole = verify(streamed.installation, "one")
    assert whole.passed and whole.evidence.rung is Rung.READ
    assert whole.verified.bytes_read == whole.verified.pack_bytes
    assert len(streamed.catalog.ledger("one").last_read) == whole.verified.packs + 4
    stream(streamed, 500, 600)
    part = verify(streamed.installation, "one", part=Part(share=Fraction(1, 100)))
    assert part.passed and part.evidence.read_since is not None, "what is new is read at once"
    structure = verify(streamed.installation, "one", read_data=False)
    assert structure.passed and len(streamed.catalog.ledger("one").last_read) == whole.verified.packs + 5


def test_damage_and_a_gap_are_said_with_the_point_that_they_hurt(streamed: Any) -> None:
    harm(streamed, 200, ("one",))
    found = verify(streamed.installation, "one")
    assert not found.passed and "is damaged" not in found.evidence.reason and "piece" in found.evidence.reason
    assert set(found.hurt) == {newest(streamed).id}
    assert verify(streamed.installation, "one", read_data=False).passed, "the damaged one is there"
    assert verify(streamed.installation, "two").passed
    files(streamed, "two").delete(Piece(LOG, 200, 300))
    for read_data in (True, False):
        found = verify(streamed.installation, "two", read_data=read_data)
        assert not found.passed and "pieces are missing from" in found.evidence.reason
    assert not verify(streamed.installation, "one", part=Part(share=Fraction(1, 100))).passed, "until it is mended"


def test_a_vault_that_a_stream_is_still_filling_is_not_damaged(streamed: Any) -> None:
    files(streamed, "two").delete(Piece(LOG, 200, 300))
    now = clock.now()
    token = streamed.catalog.streams.lease("documents", "w", "host", 1, now, bool)
    facts = StreamFacts("documents", LOG, token=token, problem=f"{gets_nothing('two')}: away")
    streamed.catalog.streams.report(facts, now)
    assert verify(streamed.installation, "two").passed


def test_repair_brings_pieces_from_a_vault_that_has_them_whole_however_they_are_cut_there(streamed: Any) -> None:
    harm(streamed, 200, ("one",))
    files(streamed, "one").delete(Piece(LOG, 300, 400))
    for piece in (Piece(LOG, 200, 300), Piece(LOG, 300, 400)):
        files(streamed, "two").delete(piece)
    stream(streamed, 150, 450, ("two",))
    harm(streamed, 200, ("three",))
    shown = plan(streamed.installation, "one")
    assert not shown.passed and len(shown.pieces) == 2
    done = repair(streamed.installation, "one")
    assert done.passed and not done.clean and len(done.pieces) == 2 and not done.reread
    for piece in (Piece(LOG, 200, 300), Piece(LOG, 300, 400)):
        assert files(streamed, "one").read(piece).data == content(piece.begins, piece.ends)
    assert repair(streamed.installation, "one").clean


def test_what_no_vault_has_whole_is_in_a_new_point_after_a_repair(streamed: Any, places: dict[str, int]) -> None:
    harm(streamed, 200)
    before = newest(streamed)
    places["ends"] = 500
    change(streamed)
    done = repair(streamed.installation, "one")
    assert done.passed and done.reread == ("documents",), done
    assert newest(streamed).id != before.id
    assert any("no vault has it whole" in problem for problem in done.problems)
    assert verify(streamed.installation, "one").passed


def test_a_restore_goes_round_a_damaged_piece_where_others_hold_the_same(
    streamed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream(streamed, 100, 400, ("two",))
    harm_large = (streamed.vault_root("two") / "streams/main/documents" / LOG).glob(f"{100:016X}-{400:016X}*")
    flip(next(iter(harm_large)))
    seen = list[str]()
    vault = streamed.installation.vault("one")
    monkeypatch.setattr(type(vault), "read", _noting(type(vault).read, seen))
    tail = tail_of(streamed.installation, newest(streamed))
    assert tail is not None and (tail.begins, tail.ends) == (100, 500)
    data = bytearray()
    for read in tail.read():
        data += read.data[100 + len(data) - read.piece.begins :]
    assert bytes(data) == content(100, 500)
    assert len(seen) == len(set(seen)), "each is read once"


def small_ones(workshop: Any, count: int = 40, vaults: tuple[str, ...] = VAULTS) -> None:
    for begins in range(500, 500 + count):
        stream(workshop, begins, begins + 1, vaults)


def whole_tail(workshop: Any, vault: str | None = None) -> bytes:
    tail = tail_of(workshop.installation, newest(workshop), vault)
    assert tail is not None and tail.gap is None
    data = bytearray()
    for read in tail.read():
        data += read.data[100 + len(data) - read.piece.begins :]
    return bytes(data)


def test_small_pieces_are_joined_once_they_are_an_hour_old_and_say_the_same(
    streamed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_ones(streamed)
    before = tail_of(streamed.installation, newest(streamed), "one")
    assert before is not None
    monkeypatch.setattr(clock, "now", lambda: MOMENT + timedelta(minutes=60))
    assert join(streamed.installation, "documents", "one") == (0, 0), "a new point may take their place"
    monkeypatch.setattr(clock, "now", lambda: MOMENT + timedelta(minutes=60, seconds=535))
    assert join(streamed.installation, "documents", "one") == (39, 1), "of 44, those that are old enough"
    monkeypatch.undo()
    assert set(files(streamed, "one").listed()) == {Piece(LOG, 100, 535), *pieces(range(535, 540))}
    assert whole_tail(streamed, "one") == content(100, 540)
    after = tail_of(streamed.installation, newest(streamed), "one")
    assert after is not None and (after.mark, after.until) == (before.mark, before.until)
    assert b"".join(read.data for read in before.read()) == content(100, 540), "who began to read finds them joined"
    assert fill(streamed.installation, "documents", "two", ["one"], 0) == 0
    assert fill(streamed.installation, "documents", "one", ["two"], 0) == 0
    assert join(streamed.installation, "documents", "one") == (0, 0), "few are not worth it"
    assert verify(streamed.installation, "one").passed


def test_of_a_slow_log_what_is_locked_no_more_is_joined_and_does_not_wait_for_what_comes(
    streamed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest piece is always locked; until they are joined, nobody locks the others anew."""
    small_ones(streamed)
    asked: list[Piece] = []

    def kept_until(_files: PieceFiles, piece: Piece) -> datetime | None:
        asked.append(piece)
        return clock.now() + timedelta(hours=1) if piece.begins >= 530 else None

    monkeypatch.setattr(PieceFiles, "kept_until", kept_until)
    monkeypatch.setattr(clock, "now", lambda: MOMENT + timedelta(days=1))
    assert join(streamed.installation, "documents", "one") == (34, 1)
    assert len(asked) < 10, "each question is a request"
    monkeypatch.undo()
    assert set(files(streamed, "one").listed()) == {Piece(LOG, 100, 530), *pieces(range(530, 540))}
    assert whole_tail(streamed, "one") == content(100, 540)


def pieces(places: range) -> list[Piece]:
    return [Piece(LOG, at, at + 1) for at in places]


def test_what_a_source_writes_into_several_files_is_joined_and_mended_within_each(workshop: Any) -> None:
    """A piece tells of which file it is, and where in it: that has to be true of what is made of it."""
    workshop.wrap_source = lambda source: Logged(source, {"ends": 100})
    protect(workshop.installation, "documents")
    for number, (first, last) in enumerate([(100, 120), (120, 140)]):
        for begins in range(first, last):
            about = {"file": f"log.{number}", "offset": str(begins - first + 4)}
            stream(workshop, begins, begins + 1, about=about)
    assert join(workshop.installation, "documents", "one") == (40, 2)
    there = files(workshop, "one")
    told = {piece: there.read(piece).about for piece in there.listed()}
    assert told == {
        Piece(LOG, 100, 120): {"file": "log.0", "offset": "4"},
        Piece(LOG, 120, 140): {"file": "log.1", "offset": "4"},
    }
    for begins in range(110, 130):
        files(workshop, "two").delete(Piece(LOG, begins, begins + 1))
    put_back(workshop.installation, "two")
    mended = files(workshop, "two")
    assert mended.read(Piece(LOG, 110, 120)).about == {"file": "log.0", "offset": "14"}
    assert mended.read(Piece(LOG, 120, 130)).about == {"file": "log.1", "offset": "4"}
    assert mended.read(Piece(LOG, 110, 120)).data + mended.read(Piece(LOG, 120, 130)).data == content(110, 130)


def test_who_was_killed_while_joining_left_nothing_that_stays(streamed: Any) -> None:
    small_ones(streamed)
    stream(streamed, 500, 540, ("one",))
    assert whole_tail(streamed, "one") == content(100, 540)
    join(streamed.installation, "documents", "one")
    assert Piece(LOG, 500, 540) in files(streamed, "one").listed()
    assert not set(pieces(range(500, 540))) & set(files(streamed, "one").listed())
    small_ones(streamed, vaults=("two",))
    stream(streamed, 500, 540, ("two",))
    flip(streamed.vault_root("two") / files(streamed, "two").key(Piece(LOG, 500, 540)))
    join(streamed.installation, "documents", "two")
    assert whole_tail(streamed, "two") == content(100, 540), "a larger one that is damaged takes the place of none"


def test_nothing_is_removed_when_what_was_joined_does_not_come_back(
    streamed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_ones(streamed)
    vault = type(streamed.installation.vault("one"))
    put = vault.put

    def lying(self: Any, key: str, parts: Any, **options: Any) -> None:
        put(self, key, [bytes(part)[:-1] + b"?" for part in parts], **options)

    monkeypatch.setattr(vault, "put", lying)
    with pytest.raises(DamageError):
        join(streamed.installation, "documents", "one")
    monkeypatch.undo()
    assert whole_tail(streamed, "one") == content(100, 540)


def test_prune_removes_what_points_hold_and_joins_the_rest(streamed: Any, places: dict[str, int]) -> None:
    small_ones(streamed)
    places["ends"] = 300
    change(streamed)
    protect(streamed.installation, "documents")
    shown = prune_plan(streamed.installation, "one")
    assert (shown.pieces.deleted, shown.pieces.joined) == (2, 0)
    done = prune(streamed.installation, "one")
    assert (done.pieces.deleted, done.pieces.deleted_bytes) == (2, shown.pieces.deleted_bytes)
    assert (done.pieces.joined, done.pieces.larger) == (42, 1)
    assert set(files(streamed, "one").listed()) == {Piece(LOG, 300, 540)}
    only_added_to = replace(
        streamed.installation,
        policy=replace(
            streamed.installation.policy,
            vaults={
                name: replace(vault, access=Access.APPEND_ONLY)
                for name, vault in streamed.installation.policy.vaults.items()
            },
        ),
    )
    before = files(streamed, "two").listed()
    assert tidy(only_added_to, "documents", "two") == 0
    assert join(only_added_to, "documents", "two") == (0, 0)
    assert files(streamed, "two").listed() == before


def test_what_belongs_to_no_point_any_more_goes_with_a_prune_and_not_while_nobody_knows(streamed: Any) -> None:
    for name in ("gone", "another-hosts"):
        read = files(streamed, "one").read(Piece(LOG, 100, 200))
        PieceFiles(streamed.installation, "one", name).put(read)
    stream(streamed, 500, 600)
    label = SnapshotLabel(MOMENT, "host", "user", ("/x",), ("source:another-hosts", "point:p"))
    with streamed.installation.store("one").writing() as writing:
        writing.recommit(newest(streamed).root, label)
    done = prune(streamed.installation, "one")
    assert (done.pieces.deleted, done.pieces.kept) == (1, ["another-hosts"])
    assert not PieceFiles(streamed.installation, "one", "gone").listed()
    assert PieceFiles(streamed.installation, "one", "another-hosts").listed()
    assert whole_tail(streamed, "one") == content(100, 600)


class Dying:
    """A log whose source is gone after its last words."""

    def __init__(self, begins: int, error: Exception) -> None:
        self.ends = begins
        self._error = error

    def take(self, seconds: float) -> bytes:
        data = content(self.ends, self.ends + 10)
        self.ends += 10
        return data

    def about(self, begins: int) -> dict[str, str]:
        return {}

    def look(self) -> Any:
        raise self._error


@pytest.mark.parametrize(("error", "ends"), [(OSError("reset by peer"), 510), (SourceError("not to be kept"), 500)])
def test_the_last_words_of_a_source_are_kept_unless_it_says_otherwise(
    streamed: Any, error: Exception, ends: int
) -> None:
    class Following(Logged):
        streams = True

        @contextmanager
        def follow(self, follows: Any, last: PieceRead) -> Iterator[Dying]:
            yield Dying(last.piece.begins, error)  # what was stored last comes once more

    streamed.wrap_source = lambda source: Following(source, {"ends": 100})
    with pytest.raises(type(error)):
        follow(streamed.installation, "documents", "worker", threading.Event())
    tail = tail_of(streamed.installation, newest(streamed))
    assert tail is not None and tail.ends == ends
    assert whole_tail(streamed) == content(100, ends)


def _noting(read: Any, seen: list[str]) -> Any:
    def noted(vault: Any, key: str, *arguments: Any) -> bytes:
        if key.startswith("streams/"):
            seen.append(f"{vault.name}:{key}")
        found: bytes = read(vault, key, *arguments)
        return found

    return noted


def test_what_leads_on_from_a_held_point_is_held_but_for_what_is_still_to_be_joined(streamed: Any) -> None:
    """Held pieces do not go, and what is joined has to."""
    installation = streamed.installation
    hold.place(installation, "documents", reason="case 4711", approver=None)
    held = store_holds._held(installation, "one")
    (references,) = held.values()

    def keys() -> set[str]:
        return {key.rpartition("/")[2] for key in store_holds._pieces(installation, "one", "documents", references)}

    assert keys() == {f"{begins:016X}-{begins + 100:016X}.sealed" for begins in range(100, 500, 100)}
    stream(streamed, 0, 100, ("one",))
    stream(streamed, 900, 1000, ("one",))
    assert f"{0:016X}-{100:016X}.sealed" not in keys(), "the point itself holds it"
    for begins in range(500, 500 + 100 * JOIN_LEAST, 100):
        stream(streamed, begins, begins + 100, ("one",))
    assert not keys() - {f"{900:016X}-{1000:016X}.sealed"}, "they are to be joined"
    needed = store_holds._needed(installation, "one", held)
    store = installation.store("one")
    assert {"vault.json", *store.needed_by(sorted(references)).keys} <= needed.keys
    assert not store_holds._needed(installation, "one", {}).keys
