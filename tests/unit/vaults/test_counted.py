"""What is asked of a vault is counted as its provider bills it."""

import pytest

from cto_backups.core.traffic import Traffic
from cto_backups.core.vaults import Sweeping
from cto_backups.errors import VaultMissingError
from cto_backups.vaults.counted import CountedVault, Counter
from cto_backups.vaults.local import LocalVault


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def counted(tmp_path, counter):
    local = LocalVault("cellar", tmp_path / "vault")
    local.create()
    return CountedVault(local, counter)


def test_each_request_and_each_byte_counts_once(counted, counter):
    counted.put("data/a", [bytes(60), bytes(40)])
    counted.put_stream("data/b", iter([bytes(30), bytes(20)]))
    assert counter.take() == Traffic(writes=2, up_bytes=150)
    counted.read("data/a", 10, 20)
    counted.read_into("data/a", 0, memoryview(bytearray(7)))
    counted.size("data/b")
    counted.check()
    assert counter.take() == Traffic(reads=4, down_bytes=27)
    assert sorted(stored.key for stored in counted.list("data")) == ["data/a", "data/b"]
    counted.delete("data/a")
    assert counter.take() == Traffic(writes=1, deletes=1)
    assert counter.take() == Traffic()
    assert isinstance(counted, Sweeping)


def test_what_fails_was_asked_all_the_same(counted, counter):
    with pytest.raises(VaultMissingError):
        counted.read("data/none")
    assert counter.take() == Traffic(reads=1)


def test_large_objects_and_long_listings_take_several_requests(counted, counter, monkeypatch):
    """33 MiB are three parts of at most 16 MiB, and two requests around them; names come by the thousand."""
    monkeypatch.setattr(LocalVault, "put", lambda *_given, **_more: None)
    counted.put("data/large", [bytes(33 << 20)])
    assert counter.take().writes == 5
    for count, requests in ((0, 1), (1000, 1), (1001, 2), (2500, 3)):
        monkeypatch.setattr(LocalVault, "list", lambda _vault, _prefix, count=count: iter(range(count)))
        assert len(list(counted.list(""))) == count
        assert counter.take().writes == requests, count
