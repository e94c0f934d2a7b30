"""`make bench-databases`: a PostgreSQL server's files, kept and brought back by us and by its own and others' programs.

    python -m benchmarks.databases [--scale 1.0] [--runs 3] [--warm-up 1] [--tool NAME …] [--changes spread|newest]
        [--programs FOLDER] [--json FILE]

One server with a shop's customers, orders and lines (3.3 GB with its indexes at scale 1), on this machine, warm. The
programs take turns in each operation; medians. Every repository is on the same disk, and compresses. cto.backups also
encrypts, opens again what it sealed, and sums up every row; the last is left out once, to see what it costs. Before the
second backup one order in a hundred changes, which is in half of all pages (spread), or the newest ones do; and half as
many come. With the
`--programs` of PostgreSQL 17 or newer, our second backup has the server send what changed.
"""

import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.measure import Figures
from cto_backups.app import starting

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]
from servers import postgresql  # noqa: E402
from servers.postgresql import Server  # noqa: E402

FIRST, SECOND, RESTORE, RECOVER, PROOF = "first backup", "second backup", "restore", "recovery", "restore test"
OPERATIONS = (FIRST, SECOND, RESTORE, RECOVER, PROOF)
OURS, BARE, PEER = "cto.backups", "without sums", "pgBackRest zst"
MIB = 1 << 20
SETTINGS = {
    "wal_level": "logical",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "maintenance_work_mem": "512MB",
    "fsync": "on",
    "archive_mode": "on",
}
TABLES = """
CREATE TABLE customers (
    id bigint PRIMARY KEY, email text NOT NULL, name text NOT NULL, city text, born date, about jsonb,
    since timestamptz NOT NULL
);
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer bigint NOT NULL, at timestamptz NOT NULL, state text NOT NULL,
    total numeric(12, 2) NOT NULL, note text, key uuid NOT NULL
);
CREATE TABLE lines (
    "order" bigint NOT NULL, number int NOT NULL, product int NOT NULL, count int NOT NULL,
    price numeric(10, 2) NOT NULL, words text, PRIMARY KEY ("order", number)
);
SELECT setseed(0.47);
INSERT INTO customers SELECT n, 'user' || n || '@' || (ARRAY['example.com', 'example.org', 'mail.example'])[1 + n % 3],
    initcap(substr(md5(n::text), 1, 6 + n % 5)) || ' ' || initcap(substr(md5((n * 7)::text), 1, 5 + n % 7)),
    (ARRAY['Bern', 'Basel', 'Chur', 'Genf', 'Luzern', 'Zug'])[1 + n % 6], '1950-01-01'::date + (n * 37 % 20000),
    jsonb_build_object('newsletter', n % 2 = 0, 'level', n % 9, 'tags', jsonb_build_array(md5(n::text), n % 13)),
    '2020-01-01'::timestamptz + n * interval '1 minute'
FROM generate_series(1, {customers}) n;
INSERT INTO orders SELECT n, 1 + (random() * {customers})::bigint,
    '2021-01-01'::timestamptz + n * interval '13 seconds',
    (ARRAY['open', 'paid', 'sent', 'returned'])[1 + (random() * 3)::int], (random() * 900)::numeric(12, 2),
    CASE WHEN n % 4 = 0 THEN 'please ring twice, ' || md5(n::text) END, gen_random_uuid()
FROM generate_series(1, {orders}) n;
INSERT INTO lines SELECT 1 + n / 4, n % 4, (random() * 30000)::int, 1 + (random() * 5)::int,
    (random() * 200)::numeric(10, 2),
    CASE WHEN n % 3 = 0 THEN 'size ' || n % 17 || ', colour ' || substr(md5(n::text), 1, 8) END
FROM generate_series(0, {lines}) n;
CREATE INDEX ON orders (customer);
CREATE INDEX ON orders (at);
CREATE INDEX ON lines (product);
CREATE INDEX ON customers (email);
"""
SPREAD, NEWEST = "spread", "newest"
WHICH = {SPREAD: "id % 100 = 7 AND id <= {orders}", NEWEST: "id > 0.99 * {orders} AND id <= {orders}"}
CHANGES = (
    "DELETE FROM orders WHERE id > {orders}",  # of the round before
    "UPDATE orders SET state = 'sent', total = total + 1 WHERE {which}",
    "INSERT INTO orders SELECT id + {orders}, customer, at, state, total, note, gen_random_uuid() FROM orders"
    " WHERE id % 2 = 1 AND {which}",
)


@dataclass
class Tool:
    """A program: what prepares it, and what is run for each operation; an operation that it lacks gives nothing.

    `as_server` runs its commands as the user to whom the server's files belong.
    """

    name: str
    home: Path
    prepare: Callable[[], None]
    commands: Callable[[str], Sequence[Sequence[str]]]
    as_server: bool = True
    archives: str = ""
    """Whose archive gets the server's log meanwhile."""

    @property
    def repository(self) -> Path:
        """Where its bytes lie."""
        return self.home / "repo"

    @property
    def restored(self) -> Path:
        """Where it restores to."""
        return self.home / "restored"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.databases", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the rows (1)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (3)")
    parser.add_argument("--warm-up", type=int, default=1, help="runs before those (1)")
    parser.add_argument("--changes", choices=WHICH, default=SPREAD, help="before the second backup (spread)")
    parser.add_argument("--tool", dest="tools", action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where all of it lies meanwhile"
    )
    parser.add_argument("--programs", type=Path, help="the folder of the server's programs (the newest of Debian's)")
    parser.add_argument("--json", type=Path, help="write the figures of all runs there")
    arguments = parser.parse_args()
    programs = arguments.programs or postgresql.programs()
    if programs is None:
        raise SystemExit("PostgreSQL's server is not here: make setup")
    found: dict[str, dict[str, list[Figures]]] = {operation: {} for operation in OPERATIONS}
    with _server(programs, arguments.folder, arguments.scale) as server:
        for number in range(arguments.warm_up + arguments.runs):
            with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.folder) as folder:
                Path(folder).chmod(0o755)
                tools = [
                    each
                    for each in _tools(server, Path(folder))
                    if arguments.tools is None or each.name in arguments.tools
                ]
                changes = _changes(arguments.changes, arguments.scale)
                _round(server, tools, found if number >= arguments.warm_up else None, changes)
            if arguments.json:
                told = {o: {t: [vars(f) for f in runs] for t, runs in by.items()} for o, by in found.items()}
                arguments.json.write_text(json.dumps(told, indent=1))
    print(_table(found))


def _changes(which: str, scale: float) -> list[str]:
    rows = _rows(scale)
    return [change.format(which=WHICH[which].format(**rows), **rows) for change in CHANGES]


def _round(
    server: Server, tools: Sequence[Tool], found: dict[str, dict[str, list[Figures]]] | None, changes: Sequence[str]
) -> None:
    for tool in tools:
        tool.home.mkdir()
        if tool.as_server:
            postgresql.give(tool.home)
        tool.prepare()
    for operation in OPERATIONS:
        if operation == SECOND:
            server.do(*changes, "CHECKPOINT", database="shop")
        for tool in tools:
            (server.place / "archive").write_text(tool.archives)
            figures = _recovery(server, tool) if operation == RECOVER else _measured(server, tool, operation)
            if figures is None:
                continue
            print(f"  {operation}, {tool.name}: {figures.wall:.2f} s", file=sys.stderr, flush=True)
            if found is not None:
                found[operation].setdefault(tool.name, []).append(figures)


def _measured(server: Server, tool: Tool, operation: str) -> Figures | None:
    figures: Figures | None = None
    commands = tool.commands(operation)
    measure.settle()
    for command in commands:
        done = measure.run([*(_as_server() if tool.as_server else []), *command], {"HOME": str(tool.home)})
        figures = figures.then(done) if figures else done
    if figures is not None and operation in (FIRST, SECOND):
        return Figures(figures.wall, figures.cpu, figures.peak_bytes, measure.size_of(tool.repository))
    return figures


def _recovery(server: Server, tool: Tool) -> Figures | None:
    """From restored files to a server that is open."""
    data = tool.restored / "data"
    if not (data / "PG_VERSION").is_file():
        return None
    postgresql.give(tool.restored)
    measure.settle()
    begun = time.monotonic()
    with postgresql.running(server.bin, tool.restored, archive_mode="off", fsync="on", shared_buffers="1GB") as again:
        while again.do("SELECT pg_is_in_recovery()") != [(False,)]:
            time.sleep(0.01)
        wall = time.monotonic() - begun
        count = again.do("SELECT count(*) FROM orders", database="shop")
    if count != server.do("SELECT count(*) FROM orders", database="shop"):
        raise SystemExit(f"{tool.name} did not bring all orders back")
    return Figures(wall, 0.0, 0)


# -- the server --------------------------------------------------------------------------------------------------------


def _rows(scale: float) -> dict[str, int]:
    return {"customers": int(600_000 * scale), "orders": int(6_000_000 * scale), "lines": int(18_000_000 * scale)}


@contextmanager
def _server(programs: Path, folder: Path, scale: float) -> Iterator[Server]:
    tempfile.tempdir = str(folder)
    with tempfile.TemporaryDirectory(prefix="bench-archive-", dir=folder) as place:
        script = Path(place) / "archive-for-pgbackrest"
        script.write_text('#!/bin/sh\nkept=$(cat "$1") && [ -n "$kept" ] || exit 0\nexec $kept archive-push "$2"\n')
        script.chmod(0o755)
        Path(place).chmod(0o755)
        command = f"{script} ../archive %p"
        newer = {"summarize_wal": "on"} if _major(programs) >= 17 else {}
        with postgresql.server(programs, archive_command=command, **SETTINGS, **newer) as server:
            (server.place / "archive").write_text("")
            server.do("CREATE DATABASE shop")
            with server.connect("shop") as session:
                session.execute(TABLES.format(**_rows(scale)))
            server.do("VACUUM ANALYZE", "CHECKPOINT", database="shop")
            ((size,),) = server.do("SELECT pg_database_size('shop')")
            version = server.do("SHOW server_version")[0][0]
            print(f"machine: {os.cpu_count()} cores; PostgreSQL {version}; {size / MIB:.0f} MiB of rows and indexes")
            measure.read_through(server.place / "data")
            yield server


def _major(programs: Path) -> int:
    told = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return int(told.split()[2].split(".")[0])  # `postgres (PostgreSQL) 18.4 (…)`


def _as_server() -> list[str]:
    if os.geteuid():
        return []
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


# -- the programs ------------------------------------------------------------------------------------------------------


def _tools(server: Server, folder: Path) -> Iterator[Tool]:
    yield _ours(server, folder / "ours")
    yield _ours(server, folder / "bare", bare=True)
    if shutil.which("pgbackrest"):
        for name, settings in (
            (PEER, ("compress-type=zst", "process-max=2")),
            ("pgBackRest lz4", ("compress-type=lz4", "process-max=2")),
            ("pgBackRest as it is", ()),
        ):
            yield _pgbackrest(server, folder / name.replace(" ", "-"), name, settings)
    else:
        print("not here: pgBackRest (Debian: apt-get install pgbackrest)", flush=True)
    yield _dump(server, folder / "dump")


def _ours(server: Server, home: Path, *, bare: bool = False) -> Tool:
    def prepare() -> None:
        starting.initialise(
            home / "repo",
            business="bench",
            sources={
                "shop": {
                    "kind": "postgresql",
                    "method": "physical",
                    "class": "user-data",
                    "retention": "1 year",
                    "host": str(server.place),
                    "user": server.user,
                    "tools": str(server.bin),
                    "scratch": str(home),
                }
            },
            vaults={"one": {"provider": "local-disk", "region": "here", "storage": "disk", "url": "file:vault"}},
        )

    return our_tool(home, prepare, bare="benchmarks.databases_bare" if bare else None)


def our_tool(home: Path, prepare: Callable[[], None], *, bare: str | None) -> Tool:
    """Our program on the source `shop` of an installation below `home`; `bare`: a module that sums nothing up."""
    program = [sys.executable, "-m", bare or "cto_backups"]

    def commands(operation: str) -> Sequence[Sequence[str]]:
        words = {
            FIRST: ["backup", "shop"],
            SECOND: ["backup", "shop"],
            RESTORE: ["restore", "shop", "--to", str(home / "restored")],
            PROOF: ["test", "shop"],
        }[operation]
        if bare and operation in (RESTORE, PROOF):
            return ()
        return [[*program, *words, "--policy", str(home / "repo" / "backups.yaml"), "--quiet"]]

    return Tool(BARE if bare else OURS, home, prepare, commands, as_server=False)


def _pgbackrest(server: Server, home: Path, name: str, settings: Sequence[str]) -> Tool:
    conf = home / "pgbackrest.conf"
    program = ["pgbackrest", f"--config={conf}", "--stanza=shop"]

    def prepare() -> None:
        own = [f"{what}-path={home}/{what}" for what in ("log", "lock", "spool")]
        lines = ["[global]", f"repo1-path={home}/repo", "start-fast=y", "log-level-file=off", *own, *settings]
        lines += ["[shop]", f"pg1-path={server.place}/data", f"pg1-socket-path={server.place}", "pg1-user=postgres"]
        conf.write_text("\n".join(lines) + "\n")
        (server.place / "archive").write_text(" ".join(program))
        subprocess.run([*_as_server(), *program, "stanza-create"], check=True, stdout=subprocess.DEVNULL)

    def commands(operation: str) -> Sequence[Sequence[str]]:
        if operation == RESTORE:
            data = f"{home}/restored/data"
            return [["mkdir", "-p", "-m", "700", data], [*program, f"--pg1-path={data}", "restore"]]
        return [[*program, "backup"]] if operation in (FIRST, SECOND) else ()

    return Tool(name, home, prepare, commands, archives=" ".join(program))


def _dump(server: Server, home: Path) -> Tool:
    reach = [f"--host={server.place}", "--username=postgres"]

    def commands(operation: str) -> Sequence[Sequence[str]]:
        dump = [str(server.bin / "pg_dump"), *reach, "--format=directory", "--jobs=2", "shop"]
        match operation:
            case "first backup":
                return [[*dump, f"--file={home}/repo"]]
            case "second backup":
                return [["rm", "-rf", f"{home}/repo"], [*dump, f"--file={home}/repo"]]
            case "restore":  # into the same server under another name: it is open then
                create = [str(server.bin / "createdb"), *reach, "shop_again"]
                drop = [str(server.bin / "dropdb"), *reach, "shop_again"]
                again = [str(server.bin / "pg_restore"), *reach, "--jobs=2", "--dbname=shop_again", f"{home}/repo"]
                return [create, again, drop]
        return ()

    return Tool("pg_dump -Fd -j2", home, lambda: None, commands)


# -- the table ---------------------------------------------------------------------------------------------------------


def _table(found: dict[str, dict[str, list[Figures]]]) -> str:
    """Wall seconds / CPU seconds / peak MiB / MiB kept, medians; and ours against the peer."""
    names = list(dict.fromkeys(name for by in found.values() for name in by))
    lines = [f"| operation | {' | '.join(names)} | wall ÷ {PEER} |", "|---" * (len(names) + 2) + "|"]
    for operation, by in found.items():
        if not by:
            continue
        cells = []
        for name in names:
            runs = by.get(name)
            if not runs:
                cells.append("not offered")
                continue
            wall, cpu, peak = (median(getattr(run, what) for run in runs) for what in ("wall", "cpu", "peak_bytes"))
            kept = median(run.repository_bytes for run in runs)
            told = [f"{wall:.2f}", f"{cpu:.2f}" if cpu else "-", f"{peak / MIB:.0f}" if peak else "-"]
            cells.append(" / ".join([*told, f"{kept / MIB:.0f}" if kept else "-"]))
        ours, peer = by.get(OURS), by.get(PEER)
        ratio = f"{median(r.wall for r in ours) / median(r.wall for r in peer):.2f}" if ours and peer else "-"
        lines.append(f"| {operation} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
