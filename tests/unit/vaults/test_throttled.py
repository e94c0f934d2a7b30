"""A limited pace holds over all threads, for all that travels, and for no more than that. The clock is a fake."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cto_backups import clock
from cto_backups.core.vaults import ReadingInto, Streaming, Sweeping
from cto_backups.vaults.joined import Joined
from cto_backups.vaults.local import LocalVault
from cto_backups.vaults.pacing import Fare, Pace, current, paying
from cto_backups.vaults.throttled import ThrottledVault

MIB = 1 << 20


class FakeClock:
    """Time passes by waiting alone."""

    def __init__(self):
        self.now = 1000.0
        self.lock = threading.Lock()

    def monotonic(self):
        with self.lock:
            return self.now

    def sleep(self, seconds):
        with self.lock:
            self.now += seconds


@pytest.fixture
def fake(monkeypatch):
    fake = FakeClock()
    monkeypatch.setattr(clock, "monotonic", fake.monotonic)
    monkeypatch.setattr(clock, "sleep", fake.sleep)
    return fake


@pytest.fixture
def throttled(tmp_path, fake):
    """A folder at 1 MiB/s up and 4 MiB/s down."""
    local = LocalVault("cellar", tmp_path / "vault")
    local.create()
    return ThrottledVault(local, Pace(lambda: MIB), Pace(lambda: 4 * MIB))


def test_what_goes_up_and_down_takes_its_time(throttled, fake):
    began = fake.now
    throttled.put("data/a", [bytes(3 * MIB), bytes(MIB)])
    assert fake.now - began == pytest.approx(4)
    assert throttled.read("data/a") == bytes(4 * MIB)
    assert fake.now - began == pytest.approx(5)
    buffer = bytearray(2 * MIB)
    throttled.read_into("data/a", MIB, memoryview(buffer))
    assert fake.now - began == pytest.approx(5.5)
    throttled.put_stream("data/b", (bytes(MIB) for _ in range(2)))
    assert fake.now - began == pytest.approx(7.5)
    assert throttled.size("data/b") == 2 * MIB


def test_a_throttled_vault_has_what_the_other_has_and_no_more(throttled, tmp_path):
    assert isinstance(throttled, ReadingInto) and isinstance(throttled, Streaming) and isinstance(throttled, Sweeping)

    class Plain:
        """A vault that can only put and read."""

        name = location = "plain"

    bare = ThrottledVault(Plain(), Pace(lambda: None), Pace(lambda: None))
    assert not isinstance(bare, ReadingInto) and not isinstance(bare, Streaming)


def test_threads_share_one_pace(monkeypatch):
    """Eight at once: the waits they are told add up to the rate, whoever comes first. No time passes meanwhile."""
    waits = []
    monkeypatch.setattr(clock, "monotonic", lambda: 50.0)
    monkeypatch.setattr(clock, "sleep", waits.append)
    pace = Pace(lambda: MIB)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: pace.take(MIB // 2), range(40)))
    assert sorted(waits) == pytest.approx([0.5 * number for number in range(1, 41)])
    assert pace.slows() and pace.limit == MIB


def test_the_rate_is_asked_each_time_and_what_was_owed_is_forgiven_when_it_ends(fake):
    rates = iter([MIB, None, MIB])
    pace = Pace(lambda: next(rates))
    pace.take(2 * MIB)
    assert (fake.now, pace.slows()) == (1002.0, True)
    pace.take(99 * MIB)
    assert (fake.now, pace.slows()) == (1002.0, False)
    pace.take(MIB)
    assert fake.now == 1003.0
    fake.now += 2.5
    assert not pace.slows()


def test_idle_time_is_not_saved_up(fake):
    pace = Pace(lambda: MIB)
    pace.take(MIB)
    fake.now += 3600
    pace.take(MIB)
    assert fake.now == pytest.approx(1000 + 1 + 3600 + 1)


def test_what_is_sent_in_pieces_is_paid_piece_by_piece_by_whatever_thread_sends_it(fake):
    """So that a line is shared while a large file travels; parts that other threads send belong to the call."""
    fare = Fare(Pace(lambda: MIB), 2 * MIB)
    with paying(fare):
        content = Joined([bytes(MIB), bytes(MIB)])
    assert current() is None
    part = content.part(MIB // 2, 2 * MIB)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(part.read, MIB).result()
    assert len(first) == 64 << 10
    assert fake.now - 1000 == pytest.approx(1 / 16)
    while part.read(MIB):
        pass
    assert fake.now - 1000 == pytest.approx(1.5)
    fare.settle(2 * MIB)
    assert fake.now - 1000 == pytest.approx(2)


def test_nothing_is_paid_twice_however_often_it_is_read(fake):
    """Some clients read a body once for its digest, and again when an attempt failed."""
    with paying(Fare(Pace(lambda: MIB), MIB)) as fare:
        content = Joined([bytes(MIB)])
        for _ in range(3):
            content.seek(0)
            while content.read(MIB):
                pass
    fare.settle(MIB)
    assert fake.now - 1000 == pytest.approx(1)
