"""What every vault in a bucket does on a rough way to a real store.

Nothing is lost, nothing is said to be stored that is not, and what cannot be done is told.

::

    class TestMyRoughWay(RoughContract):
        putting, escaped = "PUT", "/"        # the method that stores an object; a slash of its name in a path

        @pytest.fixture
        def way(self): ...                   # to a store that heeds conditions
        @pytest.fixture
        def made(self): ...
"""

import gc
import os
from collections.abc import Iterator
from typing import ClassVar

import pytest
from bucket_contract import Make
from vault_contract import keys

from cto_backups.errors import VaultError, VaultExistsError, VaultMissingError
from cto_backups.providers import pauses
from cto_backups.vaults import slow
from cto_backups.vaults.bucket import BucketVault
from servers.rough_way import Fault, RoughWay


class RoughContract:
    putting: ClassVar[str]
    escaped: ClassVar[str]

    @pytest.fixture(autouse=True)
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Nobody waits; for how long at least it would have been."""
        waits: list[float] = []
        monkeypatch.setattr(pauses, "pause", lambda _, at_least=0.0, **_more: waits.append(at_least))
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
        return waits

    @pytest.fixture
    def rough(self, way: RoughWay, made: Make) -> Iterator[BucketVault]:
        """A vault at the end of the rough way; nothing has gone wrong yet."""
        way.plan()
        vault = made(way.store, way.store.bucket())
        vault.create()
        yield vault
        way.plan()

    def at(self, key: str) -> str:
        """A file of the vault in the paths of requests."""
        return f"v{self.escaped}{key}"

    # -- putting

    @pytest.mark.parametrize("overwrite", [False, True], ids=["new", "replacing"])
    def test_a_put_of_which_no_answer_arrives_is_read_back_and_compared(
        self, way: RoughWay, rough: BucketVault, overwrite: bool
    ) -> None:
        if overwrite:
            rough.put("a", [b"former"])
        way.plan(Fault(self.putting, self.at("a"), times=99, lost=True))
        memory = bytearray(b"ne")
        rough.put("a", [b"mi", memory], overwrite=overwrite)
        assert rough.read("a") == b"mine"
        gc.collect()
        memory.clear()  # which fails as long as anybody holds a view of it

    def test_a_put_of_which_no_answer_arrives_does_not_take_anothers_file_for_its_own(
        self, way: RoughWay, rough: BucketVault
    ) -> None:
        rough.put("a", [b"them"])
        way.plan(Fault(self.putting, self.at("a"), times=99, lost=True))
        with pytest.raises(VaultError):
            rough.put("a", [b"mine"])
        assert rough.read("a") == b"them"

    def test_a_put_that_breaks_in_the_middle_is_done_again_and_one_that_always_does_is_told(
        self, way: RoughWay, rough: BucketVault
    ) -> None:
        content = os.urandom(300_000)
        way.plan(Fault(self.putting, self.at("a"), times=3, reset=100_000))
        rough.put("a", [content])
        assert rough.read("a") == content
        way.plan(Fault(self.putting, self.at("b"), times=99, reset=100_000))
        with pytest.raises(VaultError, match="cannot store b"):
            rough.put("b", [content])
        way.plan()
        assert keys(rough) == {"a"}, "nothing is there that was told to have failed"
        rough.put("b", [content])

    def test_a_put_is_tried_again_at_errors_of_the_store_and_told_when_they_stay(
        self, way: RoughWay, rough: BucketVault, waits: list[float]
    ) -> None:
        broken = [Fault(self.putting, self.at("a"), status=status, code="InternalError") for status in (500, 502, 503)]
        way.plan(*broken)
        rough.put("a", [b"x"])
        way.plan(Fault(self.putting, self.at("b"), times=99, status=500, code="InternalError"))
        with pytest.raises(VaultError, match="cannot store b"):
            rough.put("b", [b"x"])
        assert self.tries(way, self.putting) == 6
        way.plan(Fault(self.putting, self.at("b"), status=429, code="TooManyRequests", headers=(("Retry-After", "7"),)))
        waits.clear()
        rough.put("b", [b"x"])
        assert 7.0 in waits, "the store said how long it wants to be left alone"

    def test_a_put_that_is_refused_for_what_is_not_there_is_told_to_have_failed(
        self, way: RoughWay, rough: BucketVault
    ) -> None:
        """After a try that may have come through; and not as a file that the vault lacks, which is another's fault."""
        way.plan(
            Fault(self.putting, self.at("a"), status=503, code="ServiceUnavailable"),
            Fault(self.putting, self.at("a"), status=412, code="PreconditionFailed"),
        )
        with pytest.raises(VaultError, match="did not store a") as caught:
            rough.put("a", [b"mine"])
        assert not isinstance(caught.value, VaultExistsError | VaultMissingError)
        assert keys(rough) == set()
        rough.put("a", [b"mine"])

    def tries(self, way: RoughWay, method: str) -> int:
        """How many requests of a method came."""
        return [seen for seen, _ in way.seen].count(method)

    # -- reading

    def test_an_answer_that_was_cut_and_told_to_fit_is_asked_for_again(self, way: RoughWay, rough: BucketVault) -> None:
        content = os.urandom(300_000)
        rough.put("a", [content])
        cut = Fault("GET", self.at("a"), times=2, cut=100_000, fitting=True)
        way.plan(cut)
        assert rough.read("a") == content
        way.plan(cut)
        assert rough.read("a", 1000, 200_000) == content[1000:201_000]
        way.plan(cut)
        memory = bytearray(200_000)
        rough.read_into("a", 50_000, memoryview(memory))
        assert memory == content[50_000:250_000]
        way.plan(Fault("GET", self.at("a"), times=99, cut=100_000, fitting=True))
        with pytest.raises(VaultError, match="cut short each time"):
            rough.read("a")

    def test_a_large_answer_may_break_many_times_if_more_of_it_comes_each_time(
        self, way: RoughWay, rough: BucketVault
    ) -> None:
        content = os.urandom(1_000_000)
        rough.put("a", [content])
        way.plan(Fault("GET", self.at("a"), times=99, cut=100_000))
        memory = bytearray(len(content))
        rough.read_into("a", 0, memoryview(memory))
        assert memory == content
        assert self.tries(way, "GET") == 10, "each went on from where the one before ended"

    def test_an_answer_that_hardly_moves_is_let_go_of_and_a_slow_one_is_not(
        self, way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slow, "_WINDOW_SECONDS", 0.5)
        content = os.urandom(6 * slow.PIECE_BYTES)
        rough.put("a", [content])
        memory = bytearray(len(content))
        way.plan(Fault("GET", self.at("a"), drip=(100, 0.1)))
        rough.read_into("a", 0, memoryview(memory))
        assert (memory, self.tries(way, "GET")) == (content, 2)
        way.plan(Fault("GET", self.at("a"), times=99, drip=(100, 0.1)))
        with pytest.raises(VaultError, match="too slowly"):
            rough.read("a")
        # In all it takes longer than the window.
        way.plan(Fault("GET", self.at("a"), times=99, drip=(slow.PIECE_BYTES, 0.15)))
        assert rough.read("a") == content

    # -- listing

    def test_a_listing_that_does_not_come_whole_is_asked_for_again_and_never_taken_for_empty(
        self, way: RoughWay, rough: BucketVault
    ) -> None:
        for number in range(5):
            rough.put(f"data/{number}", [b"x"])
        everything = {f"data/{number}" for number in range(5)}
        for cut in (0, 60, 250):
            for fitting in (False, True):
                way.plan(Fault("GET", times=2, cut=cut, fitting=fitting))
                assert keys(rough, "data") == everything
                assert self.tries(way, "GET") == 3
        way.plan(Fault("GET", times=99, cut=0, fitting=True))
        with pytest.raises(VaultError, match="cannot list data"):
            keys(rough, "data")

    # -- and what else is asked

    def test_what_exists_is_told_to_exist_however_often_it_was_asked(self, way: RoughWay, rough: BucketVault) -> None:
        rough.put("a", [b"them"])
        way.plan(Fault(self.putting, self.at("a"), times=2, status=503, code="SlowDown"))
        with pytest.raises(VaultExistsError):
            rough.put("a", [b"mine"])
        way.plan(Fault("DELETE", self.at("a"), lost=True))
        rough.delete("a")
        assert keys(rough) == set()
