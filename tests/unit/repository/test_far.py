"""What one waits for in a repository that is far away, request by request; all else is under way meanwhile.

Each of these is tens of milliseconds in which nothing is done: a change that adds one is to be seen here.
"""

import random
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fakes.memory import MemoryTree, MemoryVault
from fakes.vaults import FarVault
from payload_store_contract import label, store_tree

from cto_backups.errors import BusyError, VaultError
from cto_backups.repository.locks import locked, read_locks
from cto_backups.repository.options import MIB, RepositoryOptions, ScryptParameters
from cto_backups.repository.store import RepositoryStore
from cto_backups.repository.together import both, each

PREFIX = "repositories/main"
OPTIONS = RepositoryOptions(scrypt=ScryptParameters(n=2), far=True)


def asked(requests: list[tuple[str, str]]) -> list[str]:
    """The verbs and the folders of requests."""
    return [f"{verb} {key.removeprefix(PREFIX + '/').partition('/')[0]}" for verb, key in requests]


@pytest.fixture
def vault() -> FarVault:
    return FarVault(MemoryVault())


@pytest.fixture
def store(vault: FarVault) -> RepositoryStore:
    made = RepositoryStore.create(
        vault, PREFIX, "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    for number in range(5):
        store_tree(made, MemoryTree({b"file": b"%d" % number}))
    vault.forget()
    return made


def test_opening_waits_for_one_request_while_the_key_is_fetched(vault: FarVault, store: RepositoryStore) -> None:
    RepositoryStore.open(vault, PREFIX, "secret", options=OPTIONS)
    assert asked(vault.alone) == ["read config"]
    assert asked(vault.beside) == ["list keys", "read keys"]


def test_a_shared_lock_is_written_and_looked_at_once(vault: FarVault, store: RepositoryStore) -> None:
    with locked(store.files, exclusive=False):
        assert asked(vault.alone) == ["put locks", "list locks"]
    assert asked(vault.alone) == ["put locks", "list locks", "delete locks"]
    assert vault.beside == []


def test_locks_of_others_are_read_at_once(vault: FarVault, store: RepositoryStore) -> None:
    with locked(store.files, exclusive=False), locked(store.files, exclusive=False):
        vault.forget()
        assert len(read_locks(store.files)[0]) == 2
    assert asked(vault.alone)[0] == "list locks"
    assert asked(vault.beside) == ["read locks"] * 2


def test_an_exclusive_lock_is_not_written_where_another_stands(vault: FarVault, store: RepositoryStore) -> None:
    with locked(store.files, exclusive=False):
        vault.forget()
        with pytest.raises(BusyError), locked(store.files, exclusive=True):
            pass
    assert asked(vault.alone) == ["list locks", "delete locks"]


def test_writing_begins_after_two_requests_beside_the_lock(vault: FarVault, store: RepositoryStore) -> None:
    with store.writing() as writing:
        assert asked(vault.alone) == ["check ", "put locks", "list locks", "list data"]
        assert sorted(asked(vault.beside)) == ["list index"] + ["read index"] * 5
        draft = writing.write(MemoryTree({b"file": b"new"}))
        vault.forget()
        writing.commit(draft, label())
        assert asked(vault.alone) == ["size locks", "put snapshots"]
        assert sorted(asked(vault.beside)) == ["list data", "list index"]


def test_a_verification_waits_for_few_requests_before_it_reads(vault: FarVault, store: RepositoryStore) -> None:
    verified = store.verify()
    assert (len(verified.references), verified.damages) == (5, ())
    alone = [request for request in asked(vault.alone) if request != "read data"]
    assert alone == ["put locks", "list locks", "list snapshots", "delete locks"]
    beside = asked(vault.beside)
    assert {request: beside.count(request) for request in beside if request != "read data"} == {
        "list keys": 1,
        "read keys": 1,
        "list index": 1,
        "read snapshots": 5,
        "read index": 5,
        "list data": 1,
    }


def test_a_copy_reads_more_at_once_than_there_are_cores(vault: FarVault) -> None:
    """It would not end otherwise: each read waits until four have come."""
    content = random.Random(1).randbytes(8 * MIB)
    made = RepositoryStore.create(
        vault,
        PREFIX,
        "secret",
        now=datetime.now(UTC),
        hostname="h",
        username="u",
        options=replace(OPTIONS, workers=1, pack_bytes=MIB),
    )
    store_tree(made, MemoryTree({b"file": content}))
    near = RepositoryStore.create(
        MemoryVault("near"), PREFIX, "secret", now=datetime.now(UTC), hostname="h", username="u", options=OPTIONS
    )
    under_way, guard, several = 0, threading.Lock(), threading.Event()

    def wait(operation: str, key: str) -> None:
        nonlocal under_way
        if threading.current_thread().name.startswith("copy"):
            with guard:
                under_way += 1
                if under_way == 4:
                    several.set()
            assert several.wait(30)

    vault.before = wait
    reference = made.committed()[0].reference
    with near.writing() as writing:
        copied = writing.copy(made, reference)
    assert near.verify([copied.reference]).damages == ()


def test_what_is_asked_of_each_comes_in_order_and_no_more_is_under_way_than_may_be(vault: FarVault) -> None:
    under_way, most, guard = 0, 0, threading.Lock()
    full = threading.Event()

    def ask(thing: int) -> int:
        nonlocal under_way, most
        with guard:
            under_way += 1
            most = max(most, under_way)
            if under_way == FarVault.requests_at_once:
                full.set()
        assert full.wait(30)  # until as many have come as there may be
        with guard:
            under_way -= 1
        return thing * 2

    assert list(each(vault, ask, iter(range(50)))) == [thing * 2 for thing in range(50)]
    assert most == FarVault.requests_at_once


def test_the_first_of_those_that_fail_is_told(vault: FarVault) -> None:
    def ask(thing: int) -> int:
        if thing in (3, 5):
            raise VaultError(str(thing))
        return thing

    came = []
    with pytest.raises(VaultError, match="3"):
        for answer in each(vault, ask, range(50)):
            came.append(answer)
    assert came == [0, 1, 2]
    with pytest.raises(VaultError, match="5"):
        both(vault, lambda: ask(5), lambda: ask(3))
