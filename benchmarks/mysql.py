"""`make bench-mysql`: a MariaDB server's files, kept and brought back by us and by its own programs.

    python -m benchmarks.mysql [--scale 1.0] [--runs 3] [--warm-up 1] [--tool NAME …] [--json FILE]

One server with a shop's customers, orders and lines, on this machine, warm. The programs take turns in each operation;
medians. What they keep is on the same disk, and compressed. mariadb-backup and mariadb-dump keep each backup whole;
cto.backups also encrypts, opens again what it sealed, and sums up every row; the last is left out once, to see what it
costs. A restore ends with files on which a server starts, and for the dump with a database that is loaded.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.databases import Tool, our_tool
from benchmarks.measure import Figures
from cto_backups.app import starting

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]
from servers import mariadb  # noqa: E402
from servers.mariadb import Server  # noqa: E402

FIRST, SECOND, RESTORE, PROOF = "first backup", "second backup", "restore", "restore test"
OPERATIONS = (FIRST, SECOND, RESTORE, PROOF)
OURS, BARE, PEER, DUMP = "cto.backups", "without sums", "mariadb-backup ‖ zstd", "mariadb-dump ‖ zstd"
MIB = 1 << 20
SETTINGS = {
    "innodb-buffer-pool-size": "1G",
    "innodb-log-file-size": "256M",
    "innodb-flush-log-at-trx-commit": "1",
    "binlog-format": "ROW",
}
TABLES = (
    "CREATE TABLE customers (id bigint PRIMARY KEY, email varchar(80) NOT NULL, name varchar(60) NOT NULL,"
    " city varchar(20), born date, about json, since datetime NOT NULL, KEY (email))",
    "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, at datetime NOT NULL,"
    " state enum('open', 'paid', 'sent', 'returned') NOT NULL, total decimal(12, 2) NOT NULL, note varchar(100),"
    " mark binary(16) NOT NULL, KEY (customer), KEY (at))",
    "CREATE TABLE `lines` (`order` bigint NOT NULL, number int NOT NULL, product int NOT NULL, count int NOT NULL,"
    " price decimal(10, 2) NOT NULL, words varchar(60), PRIMARY KEY (`order`, number), KEY (product))",
    "INSERT INTO customers SELECT seq, CONCAT('user', seq, '@', ELT(1 + seq % 3, 'example.com', 'example.org',"
    " 'mail.example')), CONCAT(LEFT(MD5(seq), 6 + seq % 5), ' ', LEFT(MD5(seq * 7), 5 + seq % 7)),"
    " ELT(1 + seq % 6, 'Bern', 'Basel', 'Chur', 'Genf', 'Luzern', 'Zug'), '1950-01-01' + INTERVAL seq * 37 % 20000 DAY,"
    " JSON_OBJECT('newsletter', seq % 2, 'level', seq % 9, 'tags', JSON_ARRAY(MD5(seq), seq % 13)),"
    " '2020-01-01' + INTERVAL seq MINUTE FROM seq_1_to_{customers}",
    "INSERT INTO orders SELECT seq, 1 + FLOOR(RAND(47) * {customers}), '2021-01-01' + INTERVAL seq * 13 SECOND,"
    " 1 + FLOOR(RAND(11) * 4), RAND(13) * 900, IF(seq % 4, NULL, CONCAT('please ring twice, ', MD5(seq))),"
    " UNHEX(MD5(seq * 3)) FROM seq_1_to_{orders}",
    "INSERT INTO `lines` SELECT 1 + seq DIV 4, seq % 4, FLOOR(RAND(17) * 30000), 1 + FLOOR(RAND(19) * 5),"
    " RAND(23) * 200, IF(seq % 3, NULL, CONCAT('size ', seq % 17, ', colour ', LEFT(MD5(seq), 8)))"
    " FROM seq_0_to_{lines}",
)
CHANGES = (
    "UPDATE orders SET state = 'sent', total = total + 1 WHERE id % 100 = 7",
    "INSERT INTO orders SELECT id + {orders}, customer, at, state, total, note, UNHEX(MD5(id)) FROM orders"
    " WHERE id % 200 = 3 AND id <= {orders}",
)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mysql", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the rows (1)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (3)")
    parser.add_argument("--warm-up", type=int, default=1, help="runs before those (1)")
    parser.add_argument("--tool", dest="tools", action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where all of it lies meanwhile"
    )
    parser.add_argument("--json", type=Path, help="write the figures of all runs there")
    arguments = parser.parse_args()
    mariadbd = mariadb.programs()
    lacking = [name for name in ("mariadb-backup", "mbstream", "mariadb-dump", "zstd") if not shutil.which(name)]
    if mariadbd is None or lacking:
        raise SystemExit(f"not here: {', '.join(lacking) or 'mariadbd'}: make setup")
    found: dict[str, dict[str, list[Figures]]] = {operation: {} for operation in OPERATIONS}
    with _server(mariadbd, arguments.folder, arguments.scale) as server:
        for number in range(arguments.warm_up + arguments.runs):
            with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.folder) as folder:
                Path(folder).chmod(0o711)  # a throwaway server that root starts is another user's
                every = _tools(server, Path(folder))
                tools = [each for each in every if arguments.tools is None or each.name in arguments.tools]
                _round(server, tools, found if number >= arguments.warm_up else None, arguments.scale, number)
            if arguments.json:
                told = {o: {t: [vars(f) for f in runs] for t, runs in by.items()} for o, by in found.items()}
                arguments.json.write_text(json.dumps(told, indent=1))
    print(_table(found))


def _round(
    server: Server,
    tools: Sequence[Tool],
    found: dict[str, dict[str, list[Figures]]] | None,
    scale: float,
    number: int,
) -> None:
    for tool in tools:
        tool.home.mkdir()
        tool.home.chmod(0o711)
        tool.prepare()
    for operation in OPERATIONS:
        if operation == SECOND:
            rows = _rows(scale)
            server.do(
                f"DELETE FROM orders WHERE id > {rows['orders']}",
                *(change.format(**rows) for change in CHANGES),
                database="shop",
            )
        # Whoever is last finds most of it in the page cache.
        for tool in tools if number % 2 else reversed(tools):
            figures = _measured(tool, operation)
            if figures is None:
                continue
            print(f"  {operation}, {tool.name}: {figures.wall:.2f} s", file=sys.stderr, flush=True)
            if found is not None:
                found[operation].setdefault(tool.name, []).append(figures)


def _measured(tool: Tool, operation: str) -> Figures | None:
    figures: Figures | None = None
    commands = tool.commands(operation)
    if not commands:
        return None
    measure.settle()
    for command in commands:
        done = measure.run([*command], {"HOME": str(tool.home)})
        figures = figures.then(done) if figures else done
    if figures is not None and operation in (FIRST, SECOND):
        return Figures(figures.wall, figures.cpu, figures.peak_bytes, measure.size_of(tool.repository))
    return figures


# -- the server --------------------------------------------------------------------------------------------------------


def _rows(scale: float) -> dict[str, int]:
    return {"customers": int(400_000 * scale), "orders": int(4_000_000 * scale), "lines": int(12_000_000 * scale)}


@contextmanager
def _server(mariadbd: Path, folder: Path, scale: float) -> Iterator[Server]:
    tempfile.tempdir = str(folder)
    with mariadb.server(mariadbd, **SETTINGS) as server:
        server.do("CREATE DATABASE shop CHARACTER SET utf8mb4")
        server.do(*(each.format(**_rows(scale)) for each in TABLES), database="shop")
        size = sum(file.stat().st_size for file in (server.place / "data" / "shop").iterdir())
        ((version,),) = server.do("SELECT VERSION()")
        print(f"machine: {os.cpu_count()} cores; MariaDB {version}; {size / MIB:.0f} MiB of tables", flush=True)
        measure.read_through(server.place / "data")
        yield server


# -- the programs ------------------------------------------------------------------------------------------------------


def _tools(server: Server, folder: Path) -> list[Tool]:
    options = folder / "client.cnf"
    options.touch(mode=0o600)
    options.write_text(f'[client]\nuser={server.user}\npassword="{mariadb.PASSWORD}"\nsocket={server.socket}\n')
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(mariadb.PASSWORD)
    return [
        _ours(server, folder / "ours", password),
        _ours(server, folder / "bare", password, bare=True),
        _files(options, folder / "files"),
        _dump(options, folder / "dump"),
    ]


def _ours(server: Server, home: Path, password: Path, *, bare: bool = False) -> Tool:
    def prepare() -> None:
        starting.initialise(
            home / "repo",
            business="bench",
            sources={
                "shop": {
                    "kind": "mysql",
                    "method": "physical",
                    "class": "user-data",
                    "triggers": "every 30 minutes",
                    "retention": "1 year",
                    "host": str(server.socket),
                    "user": server.user,
                    "password": f"file:{password}",
                    "scratch": str(home),
                }
            },
            vaults={"one": {"provider": "local-disk", "region": "here", "storage": "disk", "url": "file:vault"}},
        )

    return our_tool(home, prepare, bare="benchmarks.mysql_bare" if bare else None)


def _files(options: Path, home: Path) -> Tool:
    backup = f"mariadb-backup --defaults-file={options} --backup --stream=mbstream --target-dir={home}/work"

    def commands(operation: str) -> Sequence[Sequence[str]]:
        if operation in (FIRST, SECOND):
            kept = f"{home}/repo/{operation.split()[0]}.zst"
            return [_piped(f"{backup} 2>{home}/log | zstd -q -T0 -o {kept}")]
        if operation == RESTORE:
            data = f"{home}/restored/data"
            return [
                ["mkdir", "-p", data],
                _piped(f"zstd -q -dc {home}/repo/second.zst | mbstream -x -C {data}"),
                _piped(
                    f"mariadb-backup --defaults-file={data}/backup-my.cnf --prepare --target-dir={data} 2>{home}/log"
                ),
            ]
        return ()

    return Tool(PEER, home, lambda: (home / "repo").mkdir(), commands, as_server=False)


def _dump(options: Path, home: Path) -> Tool:
    words = "--single-transaction --quick --routines --events --triggers"
    dump = f"mariadb-dump --defaults-file={options} {words} shop"
    client = f"mariadb --defaults-file={options}"

    def commands(operation: str) -> Sequence[Sequence[str]]:
        if operation in (FIRST, SECOND):
            return [_piped(f"{dump} | zstd -q -T0 -o {home}/repo/{operation.split()[0]}.zst")]
        if operation == RESTORE:  # into the same server under another name: it is open then
            return [
                _piped(f"{client} -e 'CREATE DATABASE shop_again'"),
                _piped(f"zstd -q -dc {home}/repo/second.zst | {client} shop_again"),
                _piped(f"{client} -e 'DROP DATABASE shop_again'"),
            ]
        return ()

    return Tool(DUMP, home, lambda: (home / "repo").mkdir(), commands, as_server=False)


def _piped(command: str) -> list[str]:
    """A command line in which every program has to end well."""
    return ["bash", "-o", "pipefail", "-c", command]


# -- the table ---------------------------------------------------------------------------------------------------------


def _table(found: dict[str, dict[str, list[Figures]]]) -> str:
    """Wall seconds / CPU seconds / peak MiB / MiB kept, medians; and ours against the peer."""
    names = [name for name in (OURS, BARE, PEER, DUMP) if any(name in by for by in found.values())]
    lines = [f"| operation | {' | '.join(names)} | wall ÷ {PEER} |", "|---" * (len(names) + 2) + "|"]
    for operation, by in found.items():
        cells = []
        for name in names:
            runs = by.get(name)
            if not runs:
                cells.append("not offered")
                continue
            wall, cpu, peak, kept = (
                median(getattr(run, what) for run in runs) for what in ("wall", "cpu", "peak_bytes", "repository_bytes")
            )
            told = f"{wall:.2f} / {cpu:.2f} / {peak / MIB:.0f} / "
            cells.append(told + (f"{kept / MIB:.0f}" if kept else "-"))
        ours, peer = by.get(OURS), by.get(PEER)
        ratio = f"{median(r.wall for r in ours) / median(r.wall for r in peer):.2f}" if ours and peer else "-"
        lines.append(f"| {operation} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
