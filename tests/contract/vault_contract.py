"""What every vault does, whatever it is made of. A new vault's test is a subclass with a `vault` fixture.

::

    class TestMyVault(VaultContract):
        @pytest.fixture
        def vault(self, tmp_path): ...       # empty, created
"""

import random
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cto_backups.core.vaults import ReadingInto, StoredFile, Streaming, Vault
from cto_backups.errors import VaultError, VaultExistsError, VaultMissingError
from cto_backups.vaults import bucket

BAD_KEYS = [
    "",
    "/",
    "/absolute",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "..",
    "../a",
    "a/../../b",
    "nul\0",
    ".tmp-1-1",
    "a/.tmp-x",
]


def at_once(*actions: Callable[[], object]) -> list[object]:
    """Run the actions on threads that start together; their results or exceptions, in order."""
    gate = threading.Barrier(len(actions))
    results: list[object] = [None] * len(actions)

    def run(index: int) -> None:
        gate.wait()
        try:
            results[index] = actions[index]()
        except Exception as error:  # noqa: BLE001 — the test looks at whatever it was
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def keys(vault: Vault, prefix: str = "") -> set[str]:
    return {stored.key for stored in vault.list(prefix)}


class VaultContract:
    """The suite."""

    def test_a_created_vault_is_there_and_empty(self, vault: Vault) -> None:
        vault.check()
        assert keys(vault) == set()

    def test_creating_it_again_changes_nothing(self, vault: Vault) -> None:
        vault.put("a/b", [b"kept"])
        vault.create()
        assert vault.read("a/b") == b"kept"
        assert keys(vault) == {"a/b"}

    def test_it_has_a_name_and_a_location(self, vault: Vault) -> None:
        assert vault.name
        assert vault.location

    @pytest.mark.parametrize(
        "parts",
        [
            [],
            [b""],
            [b"one"],
            [b"one", bytearray(b"two"), memoryview(b"xthreex")[1:-1], b"", memoryview(b"")],
            [bytes([n % 256]) * (n % 7) for n in range(5000)],
            [bytes(range(256)) * 4096, b"tail"],
        ],
        ids=["no part", "an empty part", "one part", "kinds of buffers", "5000 parts", "a megabyte"],
    )
    def test_what_is_put_is_read_back(self, vault: Vault, parts: list[bytes]) -> None:
        vault.put("folder/file", parts)
        assert vault.read("folder/file") == b"".join(parts)
        assert vault.size("folder/file") == sum(map(len, parts))

    @settings(
        max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
    )
    @given(content=st.binary(max_size=300), offset=st.integers(0, 320), length=st.none() | st.integers(0, 320))
    @example(content=b"12345", offset=5, length=None)
    @example(content=b"12345", offset=6, length=None)
    @example(content=b"", offset=0, length=None)
    def test_a_range_is_exactly_what_was_asked_for_or_an_error(
        self, vault: Vault, content: bytes, offset: int, length: int | None
    ) -> None:
        vault.put("range", [content], overwrite=True)
        there = offset <= len(content) if length is None else offset + length <= len(content) or length == 0
        if there:
            end = len(content) if length is None else offset + length
            assert vault.read("range", offset, length) == content[offset:end]
        else:
            with pytest.raises(VaultError):
                vault.read("range", offset, length)

    @settings(
        max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
    )
    @given(content=st.binary(max_size=300), offset=st.integers(0, 320), length=st.integers(0, 320))
    def test_memory_is_filled_with_exactly_the_range_or_it_is_an_error(
        self, vault: Vault, content: bytes, offset: int, length: int
    ) -> None:
        """Of the vaults that can."""
        if not isinstance(vault, ReadingInto):
            return
        vault.put("range", [content], overwrite=True)
        memory = bytearray(b"#" * (length + 2))
        with memoryview(memory) as whole:
            if offset + length <= len(content) or length == 0:
                vault.read_into("range", offset, whole[1:-1])
                assert memory == b"#" + content[offset : offset + length] + b"#"
            else:
                with pytest.raises(VaultError) as caught:
                    vault.read_into("range", offset, whole[1:-1])
                assert "range" in str(caught.value)
                assert (memory[0], memory[-1]) == (35, 35)

    def test_reading_into_memory_misses_what_is_not_there(self, vault: Vault) -> None:
        """Of the vaults that can."""
        if not isinstance(vault, ReadingInto):
            return
        with pytest.raises(VaultMissingError) as caught:
            vault.read_into("no/such", 0, memoryview(bytearray(1)))
        assert "no/such" in str(caught.value)

    def test_a_stored_file_is_not_replaced_in_passing(self, vault: Vault) -> None:
        vault.put("key", [b"first"])
        with pytest.raises(VaultExistsError) as caught:
            vault.put("key", [b"second"])
        assert vault.name in str(caught.value)
        assert vault.read("key") == b"first"
        assert keys(vault) == {"key"}

    def test_a_stored_file_is_replaced_when_asked(self, vault: Vault) -> None:
        vault.put("key", [b"first, longer"])
        vault.put("key", [b"second"], overwrite=True)
        assert vault.read("key") == b"second"

    def test_replacing_what_is_not_there_stores_it(self, vault: Vault) -> None:
        vault.put("new/key", [b"content"], overwrite=True)
        assert vault.read("new/key") == b"content"

    def test_of_many_writers_of_one_key_exactly_one_wins(self, vault: Vault) -> None:
        for turn in range(5):
            key = f"race/{turn}"
            contents = [bytes([n]) * 1000 for n in range(8)]
            results = at_once(*(lambda k=key, c=content: vault.put(k, [c]) for content in contents))
            won = [content for content, result in zip(contents, results, strict=True) if result is None]
            assert len(won) == 1
            assert all(result is None or isinstance(result, VaultExistsError) for result in results)
            assert vault.read(key) == won[0]

    def test_a_reader_never_sees_half_a_file(self, vault: Vault) -> None:
        vault.put("swap", [b"a" * 100_000])

        def write() -> None:
            for turn in range(20):
                vault.put("swap", [b"ab"[turn % 2 :][:1] * 100_000], overwrite=True)

        def read() -> list[bytes]:
            return [vault.read("swap") for _ in range(40)]

        results = at_once(write, read, read)
        assert results[0] is None
        for seen in results[1:]:
            assert isinstance(seen, list)
            assert {(len(content), len(set(content))) for content in seen} == {(100_000, 1)}

    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The parts of streams are as small as a store takes them."""
        monkeypatch.setattr(bucket, "_PART_BYTES", 5 << 20)

    @pytest.mark.parametrize("size", [0, 5, (11 << 20) + 3], ids=["nothing", "a few bytes", "11 MiB"])
    def test_a_stream_is_stored_whole_and_never_replaces_in_passing(self, vault: Vault, size: int) -> None:
        """Of the vaults that can. The pieces are of awkward sizes."""
        if not isinstance(vault, Streaming):
            return
        content = random.Random(size).randbytes(size)
        pieces = [content[at : at + 5_000_011] for at in range(0, size, 5_000_011)]
        vault.put_stream("s/stream", iter(pieces))
        assert vault.read("s/stream") == content
        with pytest.raises(VaultExistsError):
            vault.put_stream("s/stream", iter([*pieces, b"other"]))
        assert vault.size("s/stream") == size
        vault.put_stream("s/stream", iter([b"another"]), overwrite=True)
        assert vault.read("s/stream") == b"another"

    def test_of_a_stream_that_breaks_off_nothing_is_stored(self, vault: Vault) -> None:
        """Of the vaults that can: in the first part that is sent, and in a later one."""
        if not isinstance(vault, Streaming):
            return

        def broken(pieces: int) -> Iterator[bytes]:
            for _ in range(pieces):
                yield bytes(9 << 20)
            raise RuntimeError("the source is gone")

        for pieces in (0, 1, 4):
            with pytest.raises(RuntimeError, match="gone"):
                vault.put_stream("s/broken", broken(pieces))
        assert keys(vault) == set()

    def test_many_files_may_be_put_at_once(self, vault: Vault) -> None:
        results = at_once(
            *(lambda n=n: [vault.put(f"many/{n % 3}/{n}-{m}", [b"%d" % m]) for m in range(10)] for n in range(8))
        )
        assert not [result for result in results if isinstance(result, Exception)]
        assert len(keys(vault, "many")) == 80

    def test_listing_names_every_file_below_a_folder_with_its_size(self, vault: Vault) -> None:
        for key in ["top", "a/1", "a/22", "a/b/333", "ab/1"]:
            vault.put(key, [key.encode()])
        everything = {StoredFile(key, len(key)) for key in ["top", "a/1", "a/22", "a/b/333", "ab/1"]}
        assert set(vault.list("")) == everything
        assert set(vault.list("a")) == {stored for stored in everything if stored.key.startswith("a/")}
        assert set(vault.list("a/")) == set(vault.list("a"))
        assert keys(vault, "a/b") == {"a/b/333"}
        assert keys(vault, "nothing/here") == set()

    def test_a_deleted_file_is_gone_and_deleting_twice_is_fine(self, vault: Vault) -> None:
        vault.put("a/b", [b"x"])
        vault.put("a/c", [b"y"])
        vault.delete("a/b")
        vault.delete("a/b")
        vault.delete("never/was")
        assert keys(vault) == {"a/c"}
        vault.put("a/b", [b"again"])
        assert vault.read("a/b") == b"again"

    def test_a_file_that_is_not_there_is_missing_and_named(self, vault: Vault) -> None:
        vault.put("folder/file", [b"x"])
        for key in ["nowhere", "folder/other", "folder", "folder/file/below"]:
            for action in (vault.read, vault.size):
                with pytest.raises(VaultMissingError) as caught:
                    action(key)
                assert vault.name in str(caught.value)
                assert key in str(caught.value)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_key_that_could_lead_outside_is_refused(self, vault: Vault, key: str) -> None:
        for action in (lambda: vault.put(key, [b"x"]), lambda: vault.read(key), lambda: vault.delete(key)):
            with pytest.raises(VaultError):
                action()
        assert keys(vault) == set()
