"""What every vault in a bucket does, whoever runs the store; beside `vault_contract`, which is of all vaults.

::

    class TestInMyStore(BucketContract):
        make = staticmethod(my_vault)
        putting, escaped = "PUT", "/"        # the method that stores an object; a slash of its name in a path
        making = "my-cloud mb no-such-bucket"

        @pytest.fixture
        def store(self): ...                 # one that heeds conditions
        @pytest.fixture
        def way(self, store): ...            # a rough way to it
"""

import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from vault_contract import at_once, keys

from cto_backups import clock
from cto_backups.core.vaults import StoreAddress
from cto_backups.errors import VaultError, VaultExistsError, VaultMissingError
from cto_backups.providers import pauses
from cto_backups.vaults.bucket import BucketVault
from servers.mariadb import free_port
from servers.rough_way import Fault, RoughWay

Make = Callable[..., BucketVault]

Refusal = tuple[Fault, type[VaultError], str, str]
"""What a store says no with, and the kind of error, why and what to do that come of it."""


def makes(vault: Callable[[str, StoreAddress], BucketVault]) -> Iterator[Make]:
    """Makes vaults in buckets, whose connections are closed in the end."""
    vaults: list[BucketVault] = []

    def make(store: Any, bucket: str, prefix: str = "v", **settings: Any) -> BucketVault:
        vaults.append(vault("cloud", store.address(bucket, prefix, **settings)))
        return vaults[-1]

    yield make
    for each in vaults:
        each.close()


def refused(way: RoughWay, made: Make, refusal: Refusal, putting: str) -> str:
    """What is said of a refusal, which is of the kind that it has to be."""
    fault, kind, why, todo = refusal
    way.plan()
    vault = made(way.store, way.store.bucket())
    if fault.method in ("GET", "HEAD"):
        vault.put("a", [b"x"])  # what is not there may look forbidden as well
    way.plan(fault)
    actions: dict[str, Callable[[], Any]] = {
        putting: lambda: vault.put("a", [b"x"]),
        "GET": lambda: vault.read("a"),
        "DELETE": lambda: vault.delete("a"),
        "HEAD": lambda: vault.size("a"),
    }
    with pytest.raises(kind, match=why) as caught:
        actions[fault.method]()
    assert todo in caught.value.todo
    assert str(caught.value).startswith("Vault cloud")
    return f"{caught.value} {caught.value.todo}"


class BucketContract:
    putting: ClassVar[str]
    escaped: ClassVar[str]
    making: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _nobody_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pauses, "pause", lambda *_: None)

    @pytest.fixture
    def rough(self, way: RoughWay, made: Make) -> BucketVault:
        """A vault at the end of the rough way; nothing has gone wrong yet."""
        way.plan()
        vault = made(way.store, way.store.bucket())
        vault.create()
        return vault

    def at(self, key: str) -> str:
        """A file of the vault in the paths of requests."""
        return f"v{self.escaped}{key}"

    def test_a_bucket_that_is_not_there_is_told_with_the_command_that_makes_it(self, store: Any, made: Make) -> None:
        vault = made(store, "no-such-bucket")
        for action in (vault.create, vault.check):
            with pytest.raises(VaultMissingError, match="there is no bucket no-such-bucket") as caught:
                action()
            assert self.making in caught.value.todo

    def test_a_bucket_without_a_marker_is_no_vault(self, store: Any, made: Make) -> None:
        vault = made(store, store.bucket(), "office")
        for action in (vault.check, lambda: vault.read("a"), lambda: vault.size("a"), lambda: list(vault.list("a"))):
            with pytest.raises(VaultMissingError, match=r"no marker object office/vault\.json") as caught:
                action()
            assert "cto.backups vault init cloud" in caught.value.todo

    def test_a_bucket_that_vanishes_under_a_vault_is_told_by_every_action(self, store: Any, made: Make) -> None:
        bucket = store.bucket()
        vault = made(store, bucket)
        vault.create()
        store.delete(bucket, "v/vault.json")
        store.delete(bucket)
        for action in (
            vault.check,
            lambda: vault.put("a", [b"x"]),
            lambda: vault.read("a"),
            lambda: vault.read_into("a", 0, memoryview(bytearray(3))),
            lambda: vault.size("a"),
            lambda: list(vault.list("")),
            lambda: vault.delete("a"),
        ):
            with pytest.raises(VaultMissingError, match=f"there is no bucket {bucket}"):
                action()

    def test_an_empty_folder_is_believed_while_the_vault_was_seen_just_now(
        self, way: RoughWay, rough: BucketVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Later on, its marker is looked at again."""
        rough.check()
        way.plan()
        assert [list(rough.list(folder)) for folder in ("data", "locks")] == [[], []]
        assert len(way.seen) == 2
        later = clock.monotonic() + 11
        monkeypatch.setattr(clock, "monotonic", lambda: later)
        assert list(rough.list("data")) == []
        assert len(way.seen) == 4

    def test_two_vaults_in_one_bucket_do_not_see_each_other(self, store: Any, made: Make) -> None:
        bucket = store.bucket()
        one, two = (made(store, bucket, prefix) for prefix in ("office", "office-two"))
        one.create()
        two.create()
        one.put("a/b", [b"one"])
        two.put("a/c", [b"two"])
        assert (keys(one), keys(two)) == ({"a/b"}, {"a/c"})
        assert one.identity != two.identity
        again = made(store, bucket, "office")
        again.create()
        assert again.identity == one.identity

    def test_what_others_put_beside_is_not_listed_unless_we_could_have(self, store: Any, made: Make) -> None:
        bucket = store.bucket()
        vault = made(store, bucket)
        vault.create()
        vault.put("data/ours", [b"x"])
        store.put(bucket, "v/data/", b"")
        assert keys(vault) == {"data/ours"}

    def test_two_writers_with_clients_of_their_own_do_not_replace_each_other(self, store: Any, made: Make) -> None:
        bucket = store.bucket()
        one, two = (made(store, bucket) for _ in range(2))
        one.create()
        for turn in range(5):
            results = at_once(
                *(lambda v=v, t=turn: v.put(f"race/{t}", [bytes([id(v) % 256]) * 50_000]) for v in (one, two))
            )
            assert sorted(type(result).__name__ for result in results) == ["NoneType", "TakenError"]

    def test_a_store_that_is_not_there_is_told(self, store: Any, made: Make, one_try: None) -> None:
        vault = made(store, "any", endpoint=f"http://127.0.0.1:{free_port()}")
        for action in (vault.check, lambda: vault.put("a", [b"x"]), lambda: list(vault.list("")), vault.create):
            with pytest.raises(VaultError, match="the store cannot be reached") as caught:
                action()
            assert "endpoint" in caught.value.todo

    # -- the way there

    def test_a_put_whose_answer_got_lost_is_no_failure(self, way: RoughWay, rough: BucketVault) -> None:
        way.plan(Fault(self.putting, self.at("a"), lost=True))
        rough.put("a", [b"mine"])
        assert [method for method, _ in way.seen][:2] == [self.putting] * 2
        assert len(way.seen) == 3, "stored, stored again, and looked at"
        assert rough.read("a") == b"mine"

    def test_another_writers_file_is_not_taken_for_ours_after_a_lost_answer(
        self, way: RoughWay, rough: BucketVault
    ) -> None:
        rough.put("a", [b"them"])
        way.plan(Fault(self.putting, self.at("a"), lost=True))
        with pytest.raises(VaultExistsError):
            rough.put("a", [b"mine"])
        assert rough.read("a") == b"them"

    def test_what_changes_on_the_way_is_not_reported_as_stored(self, way: RoughWay, rough: BucketVault) -> None:
        changed = Fault(self.putting, self.at("a"), times=9, asked=lambda _, body: body.replace(b"content", b"c0ntent"))
        way.plan(changed)
        with pytest.raises(VaultError, match="cannot store a"):
            rough.put("a", [b"content"])

    def test_an_answer_that_ends_early_is_asked_for_again(self, way: RoughWay, rough: BucketVault) -> None:
        content = os.urandom(300_000)
        rough.put("a", [content])
        way.plan(Fault("GET", self.at("a"), times=2, cut=100_000))
        assert rough.read("a") == content
        way.plan(Fault("GET", self.at("a"), times=2, cut=100_000))
        memory = bytearray(200_000)
        rough.read_into("a", 50_000, memoryview(memory))
        assert memory == content[50_000:250_000]
        way.plan(Fault("GET", self.at("a"), times=99, cut=5))
        for read in (lambda: rough.read("a", 10, 100), lambda: rough.read_into("a", 0, memoryview(bytearray(300_000)))):
            with pytest.raises(VaultError, match="cut short each time"):
                read()
