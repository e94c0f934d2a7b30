"""Faults of sources: what is not there, is empty, is broken, or that nobody looks at."""

import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cto_backups.errors import ExitStatus
from cto_backups.sources import servers
from false_greens.site import Site, files, git, rows
from false_greens.table import dead_worker, declare, ends, fault, finding, word
from servers import cloudsql
from servers.mariadb import free_port


@fault(
    "No archive",
    "a source is declared, and never backed up",
    word("new", "UNPROTECTED"),
    finding("rpo", "new"),
)
def no_archive(site: Site) -> None:
    files(site.data / "new", 3)
    declare(site, "new", f'kind: files, class: configuration, paths: ["{site.data}/new"]')


@fault(
    "No archive in any vault",
    "the snapshots of all points are deleted from both vaults, and the catalog still names them",
    ends(ExitStatus.DAMAGE, "verify", "one"),
    ends(ExitStatus.DAMAGE, "verify", "two"),
    word("ledger", "UNPROTECTED"),
)
def no_archive_anywhere(site: Site) -> None:
    for vault in ("one", "two"):
        for snapshot in site.stored(vault, "snapshots"):
            snapshot.unlink()


@fault(
    "Empty source",
    "all files of a source are gone, its folder is there",
    ends(ExitStatus.SOURCE, "backup", "archive", saying="is empty now"),
    finding("failed-runs", "archive"),
)
def empty_source(site: Site) -> None:
    shutil.rmtree(site.data / "disk" / "old")
    (site.data / "disk" / "old").mkdir()


@fault(
    "Source that stays empty",
    "the same, for longer than its RPO, while the worker goes on",
    word("archive", "OVERDUE"),
    finding("rpo", "archive"),
)
def stays_empty(site: Site) -> None:
    empty_source(site)
    site.work(days=2)


@fault(
    "Empty source from the first day",
    "a new source has a file of no bytes and no other",
    ends(ExitStatus.SOURCE, "backup", "new", saying="is empty"),
    word("new", "UNPROTECTED"),
)
def empty_from_the_start(site: Site) -> None:
    (site.data / "new").mkdir()
    (site.data / "new" / "dump.sql").touch()
    declare(site, "new", f'kind: files, class: configuration, paths: ["{site.data}/new"]')


@fault(
    "Unmounted source behind a link",
    "the folder that a source's path is a link to is gone",
    ends(ExitStatus.SOURCE, "backup", "archive", saying="is empty now"),
    finding("failed-runs", "archive"),
)
def unmounted_behind_a_link(site: Site) -> None:
    shutil.rmtree(site.data / "disk")


@fault(
    "Part of a source is gone",
    "one of two paths of a source does not exist any more",
    ends(ExitStatus.INCOMPLETE, "backup", "documents"),
    finding("complete", "documents"),
)
def part_gone(site: Site) -> None:
    shutil.rmtree(site.data / "more")


@fault(
    "Zero-byte dump",
    "the program that dumps prints nothing, and says that all went well",
    ends(ExitStatus.SOURCE, "backup", "dump"),
    finding("failed-runs", "dump"),
)
def zero_byte_dump(site: Site) -> None:
    (site.data / "dump.txt").write_text("")


@fault(
    "Dump that broke off",
    "the program that dumps prints half, and fails",
    ends(ExitStatus.SOURCE, "backup", "dump", saying="gave nothing whole"),
    finding("failed-runs", "dump"),
)
def broken_dump(site: Site) -> None:
    (site.data / "dump.sh").write_text(f"head -c 3000 '{site.data}/dump.txt'\nexit 3\n")


@fault(
    "Zero-byte database",
    "a database file is replaced by one of no bytes",
    ends(ExitStatus.SOURCE, "backup", "ledger"),
    finding("failed-runs", "ledger"),
)
def zero_byte_database(site: Site) -> None:
    (site.data / "ledger.db").write_bytes(b"")


@fault(
    "Database without tables",
    "all tables of a database are dropped",
    ends(ExitStatus.SOURCE, "backup", "ledger", saying="is empty now"),
    finding("failed-runs", "ledger"),
)
def no_tables(site: Site) -> None:
    with closing(sqlite3.connect(site.data / "ledger.db")) as connection, connection:
        connection.execute("DROP TABLE entries")


@fault(
    "Database without tables, by hand",
    "the same; a point is made of it all the same, by hand, and tested",
    finding("empty", "ledger"),
)
def no_tables_by_hand(site: Site) -> None:
    no_tables(site)
    site.well("backup", "ledger", "--before", "it was emptied on purpose")
    site.well("test", "ledger")


@fault(
    "Database without rows",
    "all rows of a database are deleted",
    ends(ExitStatus.SOURCE, "backup", "ledger", saying="is empty now"),
    finding("failed-runs", "ledger"),
)
def no_rows(site: Site) -> None:
    with closing(sqlite3.connect(site.data / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM entries")


@fault(
    "Corrupt database",
    "pages in the middle of a database file are overwritten",
    ends(ExitStatus.SOURCE, "backup", "ledger"),
    finding("failed-runs", "ledger"),
)
def corrupt_database(site: Site) -> None:
    content = bytearray((site.data / "ledger.db").read_bytes())
    content[4096 : 4096 * 3] = bytes(range(256)) * 32
    (site.data / "ledger.db").write_bytes(content)


@fault(
    "Repository without branches",
    "a git repository is replaced by one without commits",
    ends(ExitStatus.SOURCE, "backup", "app"),
    finding("failed-runs", "app"),
)
def no_branches(site: Site) -> None:
    shutil.rmtree(site.data / "app")
    (site.data / "app").mkdir()
    git(site.data / "app", "init", "-q", "-b", "main")


@fault(
    "Unreachable source",
    "a database is not where the policy says",
    finding("reachable", "ledger"),
    ends(ExitStatus.SOURCE, "backup", "ledger"),
)
def unreachable(site: Site) -> None:
    (site.data / "ledger.db").rename(site.root / "elsewhere.db")


@fault(
    "Source that stays unreachable",
    "the same, for longer than its RPO, while the worker goes on",
    word("ledger", "OVERDUE"),
    finding("rpo", "ledger"),
)
def stays_unreachable(site: Site) -> None:
    unreachable(site)
    site.work(hours=2)


@fault(
    "Stopped worker",
    "nothing runs for two days",
    dead_worker(),
    finding("worker"),
    word("documents", "OVERDUE"),
)
def stopped_worker(site: Site) -> None:
    site.later(days=2, hours=1)


@fault(
    "Database that no source covers",
    "somebody makes a new database beside the protected ones",
    finding("coverage", "/new.db"),
)
def uncovered(site: Site) -> None:
    rows(site.data / "new.db", 10)


@fault(
    "Database server that no source covers",
    "a server listens on a PostgreSQL socket",
    finding("coverage", "/.s.PGSQL.5432"),
)
def uncovered_server(site: Site) -> None:
    folder = Path(tempfile.mkdtemp())  # paths of sockets are short
    site.around = servers.Places(sockets=(folder,), kernel=Path("/nowhere"), volumes=())

    @contextmanager
    def listening() -> Iterator[None]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(str(folder / ".s.PGSQL.5432"))
            server.listen()
            yield
        shutil.rmtree(folder)

    site.trouble.append(listening)


@fault(
    "Volume that no source covers",
    "a container writes into a volume",
    finding("coverage", "/_data"),
)
def uncovered_volume(site: Site) -> None:
    volumes = site.root / "volumes"
    site.around = servers.Places(sockets=(), kernel=Path("/nowhere"), volumes=(volumes,))
    files(volumes / "shop" / "_data", 3)


@fault(
    "Source dropped from the policy",
    "a source is taken out of the policy, and its data is still there",
    finding("coverage", "/ledger.db"),
)
def dropped(site: Site) -> None:
    before, _, rest = site.policy.read_text().partition("  ledger:\n")
    site.policy.write_text(before + rest[rest.index("  dump:\n") :])


@fault(
    "Expired exclusion",
    "the last day of an exclusion is over",
    finding("exclusions", "/scratch.db"),
    finding("coverage", "/scratch.db"),
)
def expired_exclusion(site: Site) -> None:
    site.edit(("until: 2031-12-31", "until: 2031-03-01"))


@fault(
    "Shortened retention",
    "points of a source are kept for less time than its class of data asks",
    finding("retention", "documents"),
)
def shortened_retention(site: Site) -> None:
    site.edit(("{kind: files, class: configuration,", "{kind: files, class: configuration, retention: 3 days,"))


@fault(
    "Instance of Cloud SQL that nothing would bring back",
    "backups and log are off, nothing stays when it is deleted, everybody may come to it, a clone was left behind",
    finding("cloudsql-backups", "cloud"),
    finding("cloudsql-point-in-time", "cloud"),
    finding("cloudsql-region", "cloud"),
    finding("cloudsql-deletion", "cloud"),
    finding("cloudsql-network", "cloud"),
    finding("cloudsql-clones", "cloud"),
)
def unkept_instance(site: Site) -> None:
    settings = {"ipConfiguration": {"ipv4Enabled": True, "authorizedNetworks": [{"value": "0.0.0.0/0"}]}}
    told = {"name": cloudsql.INSTANCE, "region": "us-east1", "state": "STOPPED", "settings": settings}
    key, port = site.data / "key.json", free_port()

    @contextmanager
    def service() -> Iterator[None]:
        with cloudsql.telling(site.data, port, told, key) as made:
            left = {"name": f"{cloudsql.INSTANCE}-ctotest-{'a' * 12}", "createTime": "2026-01-01T00:00:00Z"}
            made.instances[left["name"]] = cloudsql.Running(left, made.main.server, made.main.stack)
            yield

    site.trouble.append(service)
    where = (
        f"project: {cloudsql.PROJECT}, instance: {cloudsql.INSTANCE}, endpoint: 'http://127.0.0.1:{port}', tls: none"
    )
    login = f"credentials: 'file:{key}', user: keeper, password: 'file:{key}'"
    declare(site, "cloud", f"kind: cloudsql, class: configuration, {where}, {login}, expects: {{region: us-central1}}")
