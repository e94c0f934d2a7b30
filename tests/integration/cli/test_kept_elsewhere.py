"""What Barman and WAL-G keep of a server, tested as it is: from the policy to a proof, and every fault that must show.

What does not depend on the program is in `test_pgbackrest.py`.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cto_backups.errors import ExitStatus
from integration.cli.conftest import Home
from servers import kept as servers
from servers import postgresql
from servers.kept import Kept

BARMAN, WAL_G = "barman", "wal-g"
TITLES = {BARMAN: "Barman", WAL_G: "WAL-G"}
BACKUPS = {BARMAN: "main/base", WAL_G: "basebackups_005"}
LOGS = {BARMAN: "main/wals/0000000100000000/0*[0-9A-F]", WAL_G: "wal_005/" + "[0-9A-F]" * 24 + ".lz4"}
FILES = {BARMAN: "main/base/*/data/base/*/*", WAL_G: "basebackups_005/*/tar_partitions/part_*"}


@dataclass(frozen=True)
class Program:
    """One of the programs, and the server that it keeps."""

    name: str
    kept: Kept
    path: str

    @property
    def config(self) -> Path:
        return self.kept.barman_config if self.name == BARMAN else self.kept.wal_g_config

    def section(self, config: Path, *, asked: bool, within: str, more: str) -> str:
        lines = [
            "  ledger:",
            f"    kind: {self.name}",
            "    class: contact-database",
            f"    config: {config}",
            f"    program: {self.path}",
            f"    archive_within: {within}",
            *(["    server: main"] if self.name == BARMAN else []),
            *([f"    host: {self.kept.server.place}", "    user: keeper"] if asked else []),
        ]
        return "\n".join([*lines, more])


def _key(gpg: Path) -> bytes:
    """A private key without a passphrase, of a kind that WAL-G reads."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as folder:
        command = [gpg, "--homedir", folder, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*command, "--quick-generate-key", "tests", "rsa2048", "encr"], check=True, capture_output=True)
        done = subprocess.run([*command, "--armor", "--export-secret-keys"], check=True, capture_output=True)
        with suppress(FileNotFoundError):
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)
        return done.stdout


@pytest.fixture(scope="module", params=[BARMAN, pytest.param(WAL_G, marks=pytest.mark.wal_g)])
def program(
    request: pytest.FixtureRequest, postgresql_programs: Path, required_tool: Callable[..., Path]
) -> Iterator[Program]:
    wal_g: Path | None = None
    key: bytes | None = None
    path = BARMAN
    if request.param == BARMAN:
        required_tool(BARMAN, package="barman")
    else:
        wal_g = request.getfixturevalue("wal_g")
        path = str(wal_g)
        key = _key(required_tool("gpg", package="gnupg"))
    with servers.keeping(postgresql_programs, wal_g=wal_g, key=key, wal_level="logical") as kept:
        yield Program(request.param, kept, path)


@pytest.fixture
def naming(home: Home, program: Program) -> Callable[..., Home]:
    """An installation whose policy names what the program keeps, and the server unless told otherwise."""

    def named(config: Path | None = None, *, asked: bool = True, within: str = "1 minute", more: str = "") -> Home:
        section = program.section(config or program.config, asked=asked, within=within, more=more)
        plain = home.policy.read_text().partition("\nsources:")
        rest = plain[2].partition("# end of ledger\n")[2] or plain[2]
        home.policy.write_text(f"{plain[0]}\nsources:\n{section}\n# end of ledger\n{rest}")
        return home

    return named


def status_of(home: Home) -> Any:
    return next(each for each in home("status", "--json").document["sources"] if each["source"] == "ledger")


def stood(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


def test_from_the_policy_to_a_proof_and_back(
    naming: Callable[..., Home], program: Program, postgresql_programs: Path
) -> None:
    server = program.kept.server
    before = stood(server.place / program.name)
    home = naming()
    backed_up = home("backup", "ledger")
    assert backed_up.status is ExitStatus.SUCCESS, backed_up
    server.do("INSERT INTO twins VALUES ('after the sums')")
    again = home("backup", "ledger", "--json")
    (point,) = again.document["sources"]
    assert point["point"]["size_bytes"] > 20 << 20 > 1 << 20 > point["read_bytes"]
    proven = home("test", "ledger", "--json")
    assert proven.status is ExitStatus.SUCCESS, proven.document["tests"][0]["reason"]
    assert proven.document["tests"][0]["rung"] == "proven"
    told = status_of(home)
    assert (told["status"], told["copies"], told["rung"]) == ("HEALTHY", 1, "proven"), told
    where = "main" if program.name == BARMAN else "storage"
    assert f"1 copy, in {TITLES[program.name]}'s repository {where} (backup " in told["reasons"][0]
    findings = home("audit", "--json").document["findings"]
    about = {each["control"] for each in findings if each["subject"] == "ledger"}
    assert ("encryption" in about) == (program.name == BARMAN), "what WAL-G keeps is encrypted here"
    after = stood(server.place / program.name)
    logs = {path for path in after.keys() - before.keys() if "wal" not in path.parent.parent.name + path.parent.name}
    assert not logs, "nothing new but what the server archives"
    changed = {path.name for path, how in before.items() if after.get(path) != how}
    assert changed <= {"xlog.db"}, "and Barman's list of that"
    assert not (server.place / "hooked").exists(), "none of its hooks ran"

    with tempfile.TemporaryDirectory(prefix="kept-back-") as folder:
        place = Path(folder) / "back"
        Path(folder).chmod(0o755)
        assert home("restore", "ledger", "--to", str(place)).status is ExitStatus.SUCCESS
        assert home("restore", "ledger", "--to", str(place)).status is ExitStatus.REFUSED
        (place / "data" / "of-before").touch()
        over = home("restore", "ledger", "--to", str(place), "--overwrite", "--yes")
        assert over.status is ExitStatus.SUCCESS, over
        assert not (place / "data" / "of-before").exists()
        assert (server.place / "space").is_dir() and any((server.place / "space").iterdir())
        postgresql.give(place)
        with postgresql.running(postgresql_programs, place) as back:
            for _ in range(600):
                if back.do("SELECT pg_is_in_recovery()") == [(False,)]:
                    break
                time.sleep(0.05)
            assert back.do("SELECT word FROM twins") == [("after the sums",)]
            assert back.do("SELECT count(*) FROM kept") == [(500,)]
            assert back.do("SHOW archive_mode") == [("off",)]


def _lose(folder: Path, program: str) -> None:
    max(folder.glob(LOGS[program])).unlink()


def _flip(file: Path, share: float = 0.5) -> None:
    """Turn a bit round, at this share of the file."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * share)] ^= 0x10
    file.chmod(0o600)
    file.write_bytes(content)


def _largest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_size)


FAULTS: dict[str, tuple[Callable[[Path, str], None], dict[str, str]]] = {
    "a lost file of the log": (_lose, {BARMAN: "the log has a gap: ", WAL_G: "the log has a gap: "}),
    "a flipped bit in the log": (
        # It ends in zeros, of which gzip often makes the same with a bit turned round: as one byte before, or as two.
        lambda folder, program: _flip(max(folder.glob(LOGS[program])), 0.02),
        {BARMAN: "does not come back: main, backup 20", WAL_G: "does not come back: storage, backup base_"},
    ),
    "a flipped bit in the backup": (
        lambda folder, program: _flip(_largest(folder, FILES[program])),
        {BARMAN: "checksum mismatch for file", WAL_G: "does not come back: storage, backup base_"},
    ),
    "a backup that went since": (
        lambda folder, program: shutil.rmtree(folder / BACKUPS[program]),
        {BARMAN: "no repository of Barman leads", WAL_G: "no repository of WAL-G leads"},
    ),
}


def test_a_fault_in_what_is_kept_fails_the_restore_test(
    naming: Callable[..., Home], program: Program, tmp_path: Path
) -> None:
    home = naming()
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    for number, (fault, (inflict, told)) in enumerate(FAULTS.items()):
        place = tmp_path / f"fault {number}"
        config = program.kept.copy(program.name, place)
        inflict(place / program.name, program.name)
        naming(config)
        failed = home("test", "ledger", "--json")
        assert failed.status is ExitStatus.VERIFICATION, (fault, failed)
        assert told[program.name] in failed.document["tests"][0]["reason"], (fault, failed)
        assert status_of(home)["status"] == "FAILED_TEST", fault


@pytest.mark.wal_g
def test_without_the_key_of_what_is_encrypted_nothing_comes_back(
    naming: Callable[..., Home], program: Program, tmp_path: Path
) -> None:
    if program.name == BARMAN:
        pytest.skip("Barman 3.4 encrypts nothing")
    home = naming()
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    storage = program.kept.server.place / program.name
    naming(program.kept.wal_g_settings(tmp_path / "keyless.json", storage, key=False))
    failed = home("test", "ledger", "--json")
    assert failed.status is ExitStatus.VERIFICATION, failed
    assert "does not come back: storage, backup base_" in failed.document["tests"][0]["reason"]


def test_where_no_point_can_be_made_the_backup_fails_and_says_why(
    naming: Callable[..., Home], program: Program, tmp_path: Path
) -> None:
    gap = program.kept.copy(program.name, tmp_path / "gap")
    _lose(tmp_path / "gap" / program.name, program.name)
    nowhere = program.kept.copy(program.name, tmp_path / "nowhere")
    shutil.rmtree(tmp_path / "nowhere" / program.name)
    title = TITLES[program.name]
    for config, why in (
        (gap, "the log has a gap: "),
        (nowhere, {BARMAN: "there is no folder ", WAL_G: "not exists or is inaccessible"}[program.name]),
        (tmp_path / "none", f"{title}'s settings cannot be read"),
    ):
        home = naming(config, within="1 s")
        failed = home("backup", "ledger")
        assert failed.status is ExitStatus.SOURCE, failed
        assert why in failed.err
        assert status_of(home)["status"] == "UNPROTECTED"
    home.policy.write_text(home.policy.read_text().replace(f"program: {program.path}\n", "program: no-such\n"))
    naming_it = home.policy.read_text().replace(f"config: {tmp_path / 'none'}", f"config: {program.config}")
    home.policy.write_text(naming_it)
    failed = home("backup", "ledger")
    assert failed.status is ExitStatus.SOURCE and "no-such is not installed" in failed.err, failed


def test_without_a_connection_it_is_restored_and_not_proven(
    naming: Callable[..., Home], program: Program, tmp_path: Path
) -> None:
    home = naming(asked=False)
    assert home("backup", "ledger").status is ExitStatus.SUCCESS
    told = home("test", "ledger")
    assert told.status is ExitStatus.VERIFICATION
    assert "restored, NOT PROVEN" in told.out
    assert status_of(home)["rung"] == "restored"
    # Nobody can bring up what another major version's programs wrote.
    (tmp_path / "tools").mkdir()
    naming(asked=False, more=f"    tools: {tmp_path / 'tools'}\n")
    failed = home("test", "ledger", "--json")
    assert failed.status is ExitStatus.VERIFICATION
    assert "PostgreSQL 15's programs are not in" in failed.document["tests"][0]["reason"], failed
