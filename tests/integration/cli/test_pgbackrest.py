"""What pgBackRest keeps of a server, tested as it is: from the policy to a proof, and every fault that must show."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from servers import pgbackrest, postgresql
from servers.pgbackrest import Kept
from servers.postgresql import Server

SECTION = """
  ledger:
    kind: pgbackrest
    class: contact-database
    stanza: main
    config: {config}
    archive_within: 2 s
"""
ASKED = """    host: {place}
    user: keeper
"""


@pytest.fixture(scope="module")
def kept(postgresql_programs: Path, required_tool: Callable[..., Path]) -> Iterator[Kept]:
    required_tool("pgbackrest", package="pgbackrest")
    with pgbackrest.archiving(postgresql_programs, wal_level="logical") as made:
        yield made


@pytest.fixture
def naming(home: Home, kept: Kept) -> Callable[..., Home]:
    """An installation whose policy names a repository, and the server unless told otherwise."""

    def named(config: Path | None = None, *, asked: bool = True, more: str = "", stanza: str = "main") -> Home:
        section = SECTION.format(config=config or kept.config).replace("stanza: main", f"stanza: {stanza}")
        section += (ASKED.format(place=kept.server.place) if asked else "") + more
        plain = home.policy.read_text().partition("\nsources:")
        rest = plain[2].partition("# end of ledger\n")[2] or plain[2]
        home.policy.write_text(f"{plain[0]}\nsources:{section}# end of ledger\n{rest}")
        return home

    return named


@pytest.fixture
def copy(kept: Kept) -> Iterator[Callable[[], Path]]:
    """Makes copies of the repository, which tests damage."""
    with tempfile.TemporaryDirectory(prefix="pgbackrest-copy-") as folder:
        yield lambda: kept.copy(Path(folder) / f"copy{len(list(Path(folder).iterdir()))}")


def status_of(home: Home) -> Any:
    return next(each for each in home("status", "--json").document["sources"] if each["source"] == "ledger")


def findings_of(home: Home) -> dict[str, str]:
    found = home("audit", "--json").document["findings"]
    return {each["control"]: each["detail"] for each in found if each["subject"] == "ledger"}


def stood(repository: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in repository.rglob("*") if path.is_file()}


def wait_for_recovery(back: Server) -> None:
    """It answers before it has come to the end of its log."""
    for _ in range(600):
        if back.do("SELECT pg_is_in_recovery()") == [(False,)]:
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to the end of its log")


@contextmanager
def written_to(kept: Kept) -> Iterator[None]:
    """Somebody writes into the server all the time."""
    enough = threading.Event()

    def write() -> None:
        with kept.server.connect("my shop") as session:
            while not enough.is_set():
                session.execute("INSERT INTO twins SELECT 'more' FROM generate_series(1, 5)")
                session.execute("UPDATE sales.orders SET amount = amount + 1 WHERE id = 1 + floor(random() * 2000)")
                session.execute("DELETE FROM twins WHERE word = 'more' AND random() < 0.1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        enough.set()
        writer.join()


def test_from_the_policy_to_a_proof_and_back(
    naming: Callable[..., Home], kept: Kept, postgresql_programs: Path
) -> None:
    """Nothing is written into the repository but what the server itself archives, and the data are not copied."""
    before = stood(kept.repository)
    home = naming()
    with written_to(kept):
        backed_up = home("backup", "ledger")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    assert "pgBackRest's repository repo1" in backed_up.out
    kept.server.do("INSERT INTO twins VALUES ('after the sums')", database="my shop")
    again = home("backup", "ledger", "--json")
    (point,) = again.document["sources"]
    assert point["point"]["size_bytes"] > 20 << 20 > 1 << 20 > point["read_bytes"]
    assert point["point"]["elsewhere"]["repositories"][0]["holds"] is True
    assert "recorded" in home("points", "ledger").out
    proven = home("test", "ledger", "--json")
    assert proven.status is ExitStatus.SUCCESS, proven
    (test,) = proven.document["tests"]
    assert test["rung"] == "proven"
    steps = {step["name"]: step["figures"] for step in test["steps"]}
    assert "pgBackRest's repo1: backup " in steps["restore"]["data"]
    assert steps["verify_integrity"]["row_counts_match"] and steps["verify_integrity"]["checksums_match"]
    told = status_of(home)
    assert (told["status"], told["copies"], told["rung"]) == ("HEALTHY", 1, "proven"), told
    assert "1 copy, in pgBackRest's repository repo1 (backup 20" in told["reasons"][0]
    assert "with only its record in our vaults" in told["reasons"][0]
    assert {"off-site", "failure-domains"} & findings_of(home).keys(), "nobody declared where repo1 lies"
    after = stood(kept.repository)
    changed = {path for path, how in before.items() if after.get(path) != how}
    assert not changed
    assert {path.parent.parent.parent.parent.name for path in after.keys() - before.keys()} == {"archive"}

    with tempfile.TemporaryDirectory(prefix="pgbackrest-back-") as folder:
        place = Path(folder) / "back"
        Path(folder).chmod(0o755)
        assert home("restore", "ledger", "--to", str(place)).status is ExitStatus.SUCCESS
        assert home("restore", "ledger", "--to", str(place)).status is ExitStatus.REFUSED
        assert home("restore", "ledger", "--in-place", "--yes").status is ExitStatus.REFUSED
        postgresql.give(place)
        with postgresql.running(postgresql_programs, place) as back:
            wait_for_recovery(back)
            assert back.do("SELECT word FROM twins WHERE word LIKE 'after%'", database="my shop")
            assert back.do("SELECT count(*) FROM kept") == [(500,)]


def test_a_moment_of_the_log_comes_back(naming: Callable[..., Home], kept: Kept, postgresql_programs: Path) -> None:
    home = naming()
    kept.server.do("CREATE TABLE wanted AS SELECT 1 AS n")
    ((moment,),) = kept.server.do("SELECT clock_timestamp()")
    kept.server.do("DROP TABLE wanted")
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    with tempfile.TemporaryDirectory(prefix="pgbackrest-at-") as folder:
        place = Path(folder) / "back"
        Path(folder).chmod(0o755)
        done = home("restore", "ledger", "--at", moment.isoformat(), "--to", str(place))
        assert done.status is ExitStatus.SUCCESS, done
        postgresql.give(place)
        with postgresql.running(postgresql_programs, place) as back:
            wait_for_recovery(back)
            assert back.do("SELECT n FROM wanted") == [(1,)]


def test_what_was_damaged_before_the_backup_of_theirs_is_not_what_the_server_held(
    naming: Callable[..., Home], kept: Kept, copy: Callable[[], Path], tmp_path: Path
) -> None:
    """Its own checks pass: pgBackRest faithfully keeps the wrong byte that lay on the server's disk."""
    kept.server.do("DROP TABLE IF EXISTS rotten", "CREATE TABLE rotten AS SELECT 'a quiet word' AS word", "CHECKPOINT")
    ((name,),) = kept.server.do("SELECT pg_relation_filepath('rotten')")
    file = kept.server.place / "data" / name
    sound = file.read_bytes()
    assert sound.count(b"a quiet word") == 1
    file.write_bytes(sound.replace(b"a quiet word", b"a quiet wore"))
    try:
        kept.run("backup", "--type=incr")
    finally:
        file.write_bytes(sound)
    home = naming()
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    failed = home("test", "ledger", "--json")
    assert failed.status is ExitStatus.VERIFICATION, failed
    assert "checksum postgres: rows differs" in failed.document["tests"][0]["reason"]
    assert status_of(home)["status"] == "FAILED_TEST"
    kept.server.do("DROP TABLE rotten")
    kept.run("backup", "--type=incr")
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    assert home("test", "ledger").status is ExitStatus.SUCCESS, "another backup, and all is well"


def _first_of_log(repository: Path) -> Path:
    """The file of the log in which the newest backup ends."""
    newest = max(repository.glob("archive/main/15-1/*/*.backup"), key=lambda path: path.name)
    return next(newest.parent.glob(f"{newest.name[:24]}-*"))


def _lose(file: Path) -> None:
    file.unlink()


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.chmod(0o600)
    file.write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a lost file of the log": (lambda copy: _lose(_first_of_log(copy)), "repo1: the log has a gap: "),
    "a flipped bit in the log": (lambda copy: _flip(_first_of_log(copy)), "unable to get 0000"),
    "a flipped bit in the full backup": (
        lambda copy: _flip(max(copy.glob("backup/main/*F/**/[0-9]*"), key=lambda path: path.stat().st_size)),
        "what pgBackRest keeps does not come back: repo1, backup 20",
    ),
    "a lost backup": (lambda copy: shutil.rmtree(copy / "backup"), "no repository of pgBackRest leads"),
}


def test_a_fault_in_the_repository_fails_the_restore_test(
    naming: Callable[..., Home], kept: Kept, copy: Callable[[], Path], tmp_path: Path
) -> None:
    home = naming()
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    for fault, (inflict, told) in FAULTS.items():
        damaged = copy()
        inflict(damaged)
        naming(kept.settings(tmp_path / "damaged.conf", damaged))
        failed = home("test", "ledger", "--json")
        assert failed.status is ExitStatus.VERIFICATION, (fault, failed)
        assert told in failed.document["tests"][0]["reason"], (fault, failed)
        assert status_of(home)["status"] == "FAILED_TEST", fault
        if "full backup" in fault:
            # Where another one has it whole, that is what a restore takes; a test does not.
            naming(kept.settings(tmp_path / "both.conf", damaged, kept.repository))
            back = home("restore", "ledger", "--to", str(tmp_path / "back"))
            assert back.status is ExitStatus.SUCCESS, back
            assert "the data came from pgBackRest's repo2" in back.out + back.err
            assert home("test", "ledger").status is ExitStatus.VERIFICATION


def test_a_gap_in_the_archive_and_an_archive_that_stands_still_make_no_point(
    naming: Callable[..., Home], kept: Kept, copy: Callable[[], Path], tmp_path: Path
) -> None:
    damaged = copy()
    _lose(_first_of_log(damaged))
    home = naming(kept.settings(tmp_path / "gap.conf", damaged))
    failed = home("backup", "ledger")
    assert failed.status is ExitStatus.SOURCE, failed
    assert "repo1: the log has a gap: " in failed.err
    assert home("points", "ledger", "--json").document["points"] == []
    told = status_of(home)
    assert told["status"] == "UNPROTECTED"
    assert "failed-runs" in findings_of(home)
    # Beside one that holds everything it makes a copy less, and a reason.
    naming(kept.settings(tmp_path / "both.conf", kept.repository, damaged))
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    told = status_of(home)
    assert (told["status"], told["copies"]) == ("OVERDUE", 1)
    assert any("pgBackRest's repo2 does not hold the newest point: the log has a gap" in why for why in told["reasons"])


def test_a_repository_that_nobody_writes_to_any_more_is_red(
    naming: Callable[..., Home], kept: Kept, copy: Callable[[], Path], tmp_path: Path
) -> None:
    """With the server at hand at once; without it, the end of the newest backup is all there is."""
    stale = kept.settings(tmp_path / "stale.conf", copy())
    kept.server.do("CREATE TABLE since AS SELECT 1 AS n", "DROP TABLE since")
    home = naming(stale)
    failed = home("backup", "ledger")
    assert failed.status is ExitStatus.SOURCE, failed
    assert "no repository of pgBackRest leads to where the server is" in failed.err
    naming(stale, asked=False, more="    backup_every: 1 s\n")
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    (point,) = home("points", "ledger", "--json").document["points"]
    info = kept.run("info")
    assert point["captured_at"][:16].replace("T", " ") in info, "as old as the backup, whenever it was looked at"
    told = status_of(home)
    assert told["status"] == "OVERDUE"
    assert any("repo1: its newest backup, " in why and "one every 1 s" in why for why in told["reasons"])


def test_without_a_connection_it_is_restored_and_not_proven(naming: Callable[..., Home]) -> None:
    home = naming(asked=False)
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    assert "unchanged" in home("backup", "ledger").out
    told = home("test", "ledger")
    assert told.status is ExitStatus.VERIFICATION
    assert "restored, NOT PROVEN" in told.out
    assert "there is nothing to compare it with" in told.err
    found = status_of(home)
    assert (found["status"], found["rung"]) == ("FAILED_TEST", "restored")


def test_a_role_that_may_not_switch_the_log_is_told_what_to_grant(naming: Callable[..., Home], kept: Kept) -> None:
    kept.server.do("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM keeper")
    try:
        failed = naming()("backup", "ledger")
    finally:
        kept.server.do("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO keeper")
    assert failed.status is ExitStatus.SOURCE, failed
    assert 'GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "keeper"' in failed.err


def test_another_servers_stanza_is_refused(naming: Callable[..., Home], kept: Kept, postgresql_programs: Path) -> None:
    with postgresql.server(postgresql_programs, archive_mode="on", archive_command="true") as other:
        other.do("CREATE ROLE keeper LOGIN")
        home = naming()
        home.policy.write_text(home.policy.read_text().replace(f"host: {kept.server.place}", f"host: {other.place}"))
        failed = home("backup", "ledger")
    assert failed.status is ExitStatus.SOURCE, failed
    assert "stanza main in repo1 is of another server" in failed.err
    assert home("points", "ledger", "--json").document["points"] == []


@pytest.mark.parametrize(
    ("stanza", "place", "why"),
    [
        ("mine", None, "repo1: missing stanza path"),
        ("main", "/nowhere", "repo1: missing stanza path"),
        ("main", "settings", "cannot be read"),
    ],
)
def test_a_repository_in_which_there_is_nothing_is_red(
    naming: Callable[..., Home], kept: Kept, tmp_path: Path, stanza: str, place: str | None, why: str
) -> None:
    config = kept.config if place is None else kept.settings(tmp_path / "empty.conf", Path("/nowhere"))
    home = naming(tmp_path / "no.conf" if place == "settings" else config, stanza=stanza)
    failed = home("backup", "ledger")
    assert failed.status is ExitStatus.SOURCE, failed
    assert "ledger" in failed.err and why in failed.err
    assert status_of(home)["status"] == "UNPROTECTED"
    assert "reachable" in findings_of(home)
