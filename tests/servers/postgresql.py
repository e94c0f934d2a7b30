"""A PostgreSQL server of tests, from the programs that are installed; and a database with a bit of everything."""

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

FOLDERS = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Server:
    """A server, reached by a socket in `place`, as its superuser."""

    place: Path
    bin: Path
    port: int = 5432
    user: str = "postgres"

    def connect(self, database: str = "postgres", **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(
            host=str(self.place), port=self.port, dbname=database, autocommit=True, **{"user": self.user, **options}
        )

    def do(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Carry out statements; the rows of the last one."""
        with self.connect(database) as session:
            for statement in statements[:-1]:
                session.execute(statement)
            last = session.execute(statements[-1])
            return last.fetchall() if last.description else []


def programs() -> Path | None:
    """The newest installed server's programs."""
    found = sorted(FOLDERS.glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    return found[-1].parent if found else None


def _identity() -> dict[str, Any]:
    """As whom a server runs: it refuses to run as root."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _environment(place: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8"}


@contextmanager
def server(bin: Path, **settings: str) -> Iterator[Server]:
    """A new server with these settings; it ends with the block."""
    place = Path(tempfile.mkdtemp(prefix="pg-test-"))
    identity = _identity()
    if identity:
        os.chown(place, identity["user"], identity["group"])
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    try:
        subprocess.run(
            [bin / "initdb", "-D", place / "data", *options],
            check=True,
            capture_output=True,
            env=_environment(place),
            cwd=place,
            **identity,
        )
        hba = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (place / "data" / "pg_hba.conf").write_text(hba)
        with running(bin, place, **settings) as made:
            made.do("ALTER ROLE postgres PASSWORD 'secret of tests'")
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


def await_answer(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server that was begun lets somebody in. Raises AssertionError, with its log, when it has ended."""
    for _ in range(600):
        try:
            server.connect().close()
            break
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)


@contextmanager
def running(bin: Path, place: Path, **settings: str) -> Iterator[Server]:
    """A server on the folder `data` in a place, which belongs to its user; it ends with the block."""
    given = {"listen_addresses": "", "unix_socket_directories": str(place), "fsync": "off", "jit": "off", **settings}
    options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [bin / "postgres", "-D", place / "data", *options],
            stdout=log,
            stderr=log,
            env=_environment(place),
            cwd=place,
            **_identity(),
        )
    try:
        made = Server(place, bin, int(settings.get("port", "5432")))
        await_answer(made, process, place / "log")
        yield made
    finally:
        process.terminate()
        process.send_signal(3)  # now: whoever is connected is of a test that has ended
        process.wait(30)


@contextmanager
def standby(primary: Server, **settings: str) -> Iterator[Server]:
    """A server that follows another one; it ends with the block."""
    place = Path(tempfile.mkdtemp(prefix="pg-test-"))
    identity = _identity()
    if identity:
        os.chown(place, identity["user"], identity["group"])
    options = ["-h", primary.place, "-U", primary.user, "-c", "fast", "--no-sync", "-R"]
    try:
        subprocess.run(
            [primary.bin / "pg_basebackup", "-D", place / "data", *options],
            check=True,
            capture_output=True,
            env=_environment(place),
            cwd=place,
            **identity,
        )
        with running(primary.bin, place, **settings) as made:
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


def give(place: Path) -> None:
    """Give a place with all in it to the servers' user."""
    identity = _identity()
    if identity:
        for folder, folders, files in os.walk(place):
            for name in (".", *folders, *files):
                os.chown(Path(folder, name), identity["user"], identity["group"])


SHOP = """
CREATE ROLE "shop keeper" LOGIN PASSWORD 'another secret' CONNECTION LIMIT 7;
CREATE ROLE readers NOLOGIN;
GRANT readers TO "shop keeper";
ALTER ROLE "shop keeper" SET work_mem = '8MB';
CREATE DATABASE "my shop" OWNER "shop keeper";
ALTER DATABASE "my shop" SET statement_timeout = '1h';
"""

CONTENT = """
CREATE EXTENSION pgcrypto;
CREATE EXTENSION hstore SCHEMA public;
CREATE SCHEMA sales AUTHORIZATION "shop keeper";
CREATE TYPE sales.mood AS ENUM ('glad', 'so so', 'sad');
CREATE DOMAIN sales.percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE sales.place AS (street text, number int);
CREATE TABLE sales.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    amount numeric(12, 2) NOT NULL CHECK (amount >= 0),
    twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
    mood sales.mood, discount sales.percent, lies sales.place, tags text[], moods sales.mood[],
    about jsonb, plain json, blob bytea, more hstore, ok boolean, real8 double precision, span int4range,
    words tsvector, net inet, key uuid DEFAULT gen_random_uuid(), "odd ""name" text
);
INSERT INTO sales.orders (at, amount, mood, discount, lies, tags, moods, about, plain, blob, more, ok, real8, span,
    words, net, "odd ""name")
SELECT '2026-01-01'::timestamptz + n * interval '1 minute', n * 1.25,
    (ARRAY['glad', 'so so', 'sad'])[1 + n % 3]::sales.mood, n % 100,
    ROW('High Street ' || n, n)::sales.place, ARRAY['a' || n, NULL],
    ARRAY['sad'::sales.mood, NULL],
    jsonb_build_object('n', n), json_build_object('n', n), decode(md5(n::text), 'hex'), hstore('n', n::text),
    n % 2 = 0, n / 3.0, int4range(n, n + 5), to_tsvector('order number ' || n), '10.0.0.1', 'é' || n
FROM generate_series(1, 2000) n;
CREATE TABLE sales.events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE sales.events_2025 PARTITION OF sales.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE sales.events_2026 PARTITION OF sales.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO sales.events SELECT '2025-06-01'::date + n, 'event ' || n FROM generate_series(1, 400) n;
CREATE UNLOGGED TABLE sales.scratch (n int);
INSERT INTO sales.scratch SELECT generate_series(1, 50);
CREATE TABLE twins (word text);
INSERT INTO twins VALUES ('same'), ('same'), ('other');
CREATE TABLE nothing ();
CREATE INDEX orders_by_moment ON sales.orders (at DESC) WHERE ok;
CREATE UNIQUE INDEX ON sales.orders (lower("odd ""name"));
CREATE VIEW sales.big AS SELECT id, amount FROM sales.orders WHERE amount > 100;
CREATE MATERIALIZED VIEW sales.totals AS SELECT mood, sum(amount) AS total FROM sales.orders GROUP BY mood;
CREATE FUNCTION sales.add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE AGGREGATE sales.plus (int) (SFUNC = sales.add, STYPE = int, INITCOND = '0');
CREATE FUNCTION sales.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE UPDATE ON sales.orders FOR EACH ROW EXECUTE FUNCTION sales.noted();
ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY cheap ON sales.orders FOR SELECT TO readers USING (amount < 10);
GRANT USAGE ON SCHEMA sales TO readers;
GRANT SELECT (id, amount) ON sales.orders TO readers;
GRANT SELECT ON sales.big TO readers WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO readers;
ALTER TABLE sales.events OWNER TO "shop keeper";
CREATE SEQUENCE sales.countdown INCREMENT -1 MINVALUE -100 MAXVALUE 100 START 50;
SELECT nextval('sales.countdown'), nextval('sales.countdown');
COMMENT ON TABLE sales.orders IS 'What people ordered';
CREATE PUBLICATION all_orders FOR TABLE sales.orders;
SELECT lo_from_bytea(0, decode(repeat('00ff', 3000), 'hex'));
"""


def fill(made: Server, *, extensions: bool = True) -> None:
    """Give the server a database with a bit of everything; without `extensions`, of what the server has by itself."""
    made.do(*(statement for statement in SHOP.split(";\n") if statement.strip()))
    content = CONTENT
    if not extensions:
        content = "\n".join(line for line in content.splitlines() if not line.startswith("CREATE EXTENSION"))
        for of_hstore in (" more hstore,", " more,", " hstore('n', n::text),"):
            assert of_hstore in content
            content = content.replace(of_hstore, "")
    with made.connect("my shop") as session:
        session.execute(content)


@cache
def reachable(installed: Path) -> Path:
    """A copy of programs, with what they need, where the servers' user may come; gone when this process ends."""
    place = Path(tempfile.mkdtemp(prefix="pg-programs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    shutil.copytree(installed, place / installed.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
    return place / installed.name
