"""A tablespace that the log of a real server makes is found, wherever its record lies, and nothing else is one."""

import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cto_backups.sources.postgresql.spaces import SpaceWatch, made_in
from servers import postgresql
from servers.postgresql import Server

SEGMENT = 16 << 20


@pytest.fixture(scope="module")
def server(postgresql_programs: Path) -> Iterator[Server]:
    with postgresql.server(postgresql_programs, wal_level="logical", wal_keep_size="256MB") as made:
        yield made


def position(server: Server) -> int:
    ((at,),) = server.do("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")
    return int(at)


def segments(server: Server) -> list[Path]:
    return sorted(path for path in (server.place / "data" / "pg_wal").iterdir() if len(path.name) == 24)


def begins(segment: Path) -> int:
    return int(segment.name[16:], 16) * SEGMENT


@pytest.fixture
def space() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="pg-space-"))
    postgresql.give(place)
    yield place
    shutil.rmtree(place)


def test_what_a_server_writes_all_day_makes_no_tablespace(server: Server) -> None:
    postgresql.fill(server, extensions=False)
    server.do("CREATE TABLE looks_like (n bigint, b bytea)")
    server.do("INSERT INTO looks_like SELECT n, '\\x0005000000000000' FROM generate_series(1, 20000) n", "CHECKPOINT")
    found = segments(server)
    assert made_in(found, begins(found[0]), begins(found[0])) is None


def test_one_that_is_dropped_again_and_one_that_nobody_can_see_yet_are_found(server: Server, space: Path) -> None:
    before = position(server)
    server.do(f"CREATE TABLESPACE short_lived LOCATION '{space}'", "DROP TABLESPACE short_lived")
    after = position(server)
    log = b"".join(path.read_bytes() for path in segments(server) if begins(path) + SEGMENT > before)
    first = begins(next(path for path in segments(server) if begins(path) + SEGMENT > before))
    written = log[before - first : after - first]
    dice = random.Random(7)
    for sizes in ((len(written), len(written)), (1, 9), (1, 1), (100, 4000)):
        watch, at, found = SpaceWatch(before), 0, None
        while at < len(written) and found is None:
            size = dice.randint(*sizes)
            found = watch.find(written[at : at + size])
            at += size
        assert found is not None and found.path == str(space), sizes
        assert found.at <= before + at
    assert SpaceWatch(after).find(log[after - first :]) is None, "what comes later makes none"
    waiting = threading.Thread(target=wait_for_a_standby, args=(server, space))
    server.do("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        before = position(server)
        waiting.start()
        until_written(server, before)
        assert server.do("SELECT count(*) FROM pg_tablespace") == [(2,)]
        found_segments = [path for path in segments(server) if begins(path) + SEGMENT > before]
        made = made_in(found_segments, begins(found_segments[0]), before)
        assert made is not None and made.path == str(space)
        assert made_in(found_segments, begins(found_segments[0]), position(server)) is None
    finally:
        server.do("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        waiting.join()
        server.do("DROP TABLESPACE waiting")


def wait_for_a_standby(server: Server, space: Path) -> None:
    server.do(f"CREATE TABLESPACE waiting LOCATION '{space}'")


def until_written(server: Server, before: int) -> None:
    for _ in range(200):
        ((waits,),) = server.do("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        if waits and position(server) > before:
            return
        threading.Event().wait(0.05)
    raise AssertionError("nobody waits for a standby")


@pytest.mark.parametrize("inside", [0, 8, 16, 40, 8192 - 24, 8192 - 32, 8192 - 64])
def test_a_record_that_goes_over_the_end_of_a_page_is_found(inside: int) -> None:
    path = b"/srv/" + b"x" * 300
    for long in (False, True):
        pages = paged(record(path if long else b"/srv/space"), inside)
        found: Any = None
        watch = SpaceWatch(8192 * 6)
        for at in range(0, len(pages), 100):
            found = found or watch.find(pages[at : at + 100])
        assert found is not None and found.path == (path if long else b"/srv/space").decode()


def record(path: bytes) -> bytes:
    content = b"\x39\x30\x00\x00" + path + b"\0"
    head = b"\xff" + bytes([len(content)]) if len(content) < 256 else b"\xfe" + len(content).to_bytes(4, "little")
    total = (24 + len(head) + len(content)).to_bytes(4, "little")
    return total + bytes(4) + bytes(8) + b"\x00\x05\x00\x00" + b"\x99\x99\x99\x99" + head + content


def paged(content: bytes, inside: int) -> bytes:
    """As it stands in pages, the first with a long header, after as many bytes of something else."""
    plain = b"\x11" * (inside if inside < 8192 - 40 else inside - 40) + content
    plain += b"\x22" * (-len(plain) % 8 + 8192)
    first, rest = plain[: 8192 - 40], plain[8192 - 40 :]
    pages = b"\x10\xd1\x02\x00" + bytes(36) + first
    while rest:
        pages += b"\x10\xd1\x00\x00" + bytes(20) + rest[: 8192 - 24]
        rest = rest[8192 - 24 :]
    return pages
