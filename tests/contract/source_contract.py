"""What every source does, whatever it protects. A new source's test is a subclass with a `subject` fixture.

::

    class TestMySource(SourceContract):
        faults = {"a lost row": lambda restored: ...}     # each must show when the restored data is probed

        @pytest.fixture
        def subject(self, tmp_path): return Subject(source, make, change, original, missing)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from fakes.points import MemoryPoint

from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing, Source
from cto_backups.errors import RefusedError, SourceError, VerificationError

Fault = Callable[[Path], None]


@dataclass(frozen=True)
class Subject:
    """A source with real content, and what a test can do with it.

    `make` builds the same source anew (as a later run would), `change` alters what it protects, `original` is the
    folder that it must leave as it is (None: there is none), `missing` is a source of this kind with nothing behind it.
    """

    source: Source
    make: Callable[[], Source]
    change: Callable[[], None]
    missing: Source
    original: Path | None = None


def captured(source: Source, **how: object) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        point = MemoryPoint.of(capture.tree, **how)  # type: ignore[arg-type]
        assert capture.problems == (), capture.problems
        return point, capture.fingerprint()


def comparable(source: Source, expected: Fingerprint, found: Fingerprint) -> tuple[Fingerprint, Fingerprint]:
    """Both without the parts that this process cannot compare."""

    def without(fingerprint: Fingerprint) -> Fingerprint:
        left_out = source.incomparable(expected)
        kept = {name: value for name, value in fingerprint.checksums.items() if name not in left_out}
        return replace(fingerprint, checksums=kept)

    return without(expected), without(found)


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a folder with its mode, mtime and content."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


class SourceContract:
    """The contract; `faults` are ways in which restored data can be wrong."""

    faults: ClassVar[Mapping[str, Fault]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "fault" in metafunc.fixturenames:
            metafunc.parametrize("fault", list(self.faults.values()), ids=list(self.faults))

    @pytest.fixture
    def taken(self, subject: Subject) -> tuple[MemoryPoint, Fingerprint]:
        """What faults are injected into. Where capturing takes long, a subclass takes it once for all of them."""
        return captured(subject.source)

    def test_what_was_captured_probes_equal_once_it_is_restored(self, subject: Subject, tmp_path: Path) -> None:
        point, expected = captured(subject.source)
        point.restore(tmp_path / "restored")
        found = subject.make().probe(tmp_path / "restored", expected)
        first, second = comparable(subject.source, expected, found)
        assert first == second

    def test_every_fault_in_the_restored_data_shows(
        self, subject: Subject, taken: tuple[MemoryPoint, Fingerprint], tmp_path: Path, fault: Fault
    ) -> None:
        point, expected = taken
        point.restore(tmp_path / "restored")
        fault(tmp_path / "restored")
        try:
            found = subject.source.probe(tmp_path / "restored", expected)
        except VerificationError as error:
            assert error.what and error.why and error.todo
        else:
            first, second = comparable(subject.source, expected, found)
            assert first != second

    def test_an_unchanged_source_has_an_unchanged_fingerprint(self, subject: Subject) -> None:
        assert captured(subject.source)[1] == captured(subject.make())[1]

    def test_a_change_shows_in_the_fingerprint(self, subject: Subject) -> None:
        before = captured(subject.source)[1]
        subject.change()
        after = captured(subject.make())[1]
        assert after.checksums != before.checksums

    def test_a_point_keeps_its_content_when_the_source_changes(self, subject: Subject, tmp_path: Path) -> None:
        point, expected = captured(subject.source)
        subject.change()
        point.restore(tmp_path / "restored")
        found = subject.make().probe(tmp_path / "restored", expected)
        first, second = comparable(subject.source, expected, found)
        assert first == second

    def test_reading_on_several_threads_in_blocks_and_at_once_gives_the_same(self, subject: Subject) -> None:
        point, expected = captured(subject.source)
        for how in ({"threads": 4}, {"block": 7}, {"threads": 4, "block": 64}, {"together": True}):
            again, fingerprint = captured(subject.make(), **how)
            assert fingerprint == expected
            if not _is_staged(subject.source):
                assert {path: content for path, (_, content) in again.entries.items()} == {
                    path: content for path, (_, content) in point.entries.items()
                }

    def test_what_is_known_need_not_be_read_and_counts_the_same(self, subject: Subject, tmp_path: Path) -> None:
        with subject.source.capture() as capture:
            first = MemoryPoint.of(capture.tree)
            expected = capture.fingerprint()
            capture.stored()
        second, fingerprint = captured(subject.make(), known=first)
        assert fingerprint == expected
        third, fingerprint = captured(subject.make(), known=first, together=True)
        assert fingerprint == expected
        assert third.reused == second.reused
        second.restore(tmp_path / "restored")
        found = subject.source.probe(tmp_path / "restored", expected)
        assert comparable(subject.source, expected, found)[0] == comparable(subject.source, expected, found)[1]

    def test_a_fingerprint_says_checksums_counts_and_samples(self, subject: Subject) -> None:
        _, fingerprint = captured(subject.source)
        assert re.fullmatch(r"[a-z-]+/\d+", fingerprint.algorithm)
        assert fingerprint.checksums
        assert all(re.fullmatch(r"[0-9a-f]+", digest) for digest in fingerprint.checksums.values())
        assert fingerprint.counts
        assert fingerprint.samples
        assert len({sample.key for sample in fingerprint.samples}) == len(fingerprint.samples)
        assert orjson.loads(orjson.dumps(fingerprint))["algorithm"] == fingerprint.algorithm

    def test_a_capture_says_when_and_what(self, subject: Subject) -> None:
        with subject.source.capture() as capture:
            assert capture.captured_at.utcoffset() == timedelta(0)
            assert capture.paths
            assert all(path.startswith("/") for path in capture.paths)

    def test_a_capture_tells_the_moment_of_its_newest_content_or_that_it_has_none(self, subject: Subject) -> None:
        with subject.source.capture() as capture:
            MemoryPoint.of(capture.tree)
            before = capture.newest_content_at
            if before is not None:
                assert before.utcoffset() == timedelta(0)
                assert before <= capture.captured_at
        subject.change()
        with subject.make().capture() as capture:
            MemoryPoint.of(capture.tree)
            after = capture.newest_content_at
        assert (after is None) == (before is None)
        assert before is None or after is None or before <= after

    def test_capturing_leaves_the_source_as_it_is(self, subject: Subject) -> None:
        if subject.original is None:
            pytest.skip("it has no folder")
        before = listing(subject.original)
        captured(subject.source)
        assert listing(subject.original) == before

    def test_it_discovers_itself(self, subject: Subject) -> None:
        found = subject.source.discover()
        assert found
        assert all(resource.name.startswith(f"{resource.kind}:") and resource.location for resource in found)

    def test_nothing_to_read_is_an_error_that_says_what_to_do(self, subject: Subject) -> None:
        with pytest.raises(SourceError) as raised, subject.missing.capture():
            pass
        assert subject.missing.name in raised.value.what
        assert raised.value.why
        assert raised.value.todo

    def test_it_restores_through_its_own_hands(self, subject: Subject, tmp_path: Path) -> None:
        point, expected = captured(subject.source)
        place = tmp_path / "restored"
        plan = subject.source.plan_restore(point, place)
        assert plan.entries > 0
        assert plan.conflicts == ()
        assert not place.exists()
        restored = subject.source.restore(point, place)
        assert restored.entries > 0
        assert restored.places
        first, second = comparable(subject.source, expected, subject.source.probe(place, expected))
        assert first == second

    def test_it_overwrites_only_when_told_to(self, subject: Subject, tmp_path: Path) -> None:
        point, expected = captured(subject.source)
        place = tmp_path / "restored"
        subject.source.restore(point, place)
        before = listing(place)
        assert subject.source.plan_restore(point, place).conflicts
        with pytest.raises(RefusedError):
            subject.source.restore(point, place)
        assert listing(place) == before
        subject.source.restore(point, place, existing=Existing.OVERWRITE)
        first, second = comparable(subject.source, expected, subject.source.probe(place, expected))
        assert first == second


def _is_staged(source: Source) -> bool:
    with source.capture() as capture:
        return capture.staged
