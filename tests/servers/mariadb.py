"""A MariaDB server of tests, from the programs that are installed; and databases with a bit of everything."""

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pymysql

PASSWORD = "secret of tests"
OF_FILES = ("innodb-page-size", "innodb-data-file-path", "innodb-undo-tablespaces", "lower-case-table-names")
"""Settings with which a server's files have to be made from the beginning."""

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A server, reached by a socket in `place` and at a port of this machine, as its superuser."""

    place: Path
    port: int
    pid: int
    user: str = "root"

    @property
    def socket(self) -> Path:
        return self.place / "mariadb.sock"

    def connect(self, database: str | None = None, **options: Any) -> "pymysql.connections.Connection[Any]":
        given = {"user": self.user, "password": PASSWORD, "unix_socket": str(self.socket), **options}
        return pymysql.connect(database=database, autocommit=True, charset="utf8mb4", **given)

    def do(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Carry out statements; the rows of the last one."""
        with self.connect(database) as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


def programs() -> Path | None:
    """The server's program, which is often beside the PATH of ordinary users."""
    found = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


def surroundings(place: Path) -> dict[str, Any]:
    """How programs are started that work in a place, which becomes theirs: they are not to run as root."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if user:
        os.chown(place, user.pw_uid, user.pw_gid)
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    environment = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
        "HOME": str(place),
        "LC_ALL": "C.UTF-8",
        "TZ": "Asia/Tokyo",
        "TMPDIR": str(place),  # one that begins removes from there what others are using
    }
    return {"env": environment, "cwd": place, **identity}


@cache
def installed(own: tuple[str, ...]) -> Path:
    """The data of a server that has never run, made with these settings, for copies; gone when this process ends."""
    place = Path(tempfile.mkdtemp(prefix="mariadb-new-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    data = place / "data"
    words = ["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M"]
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--debug-no-sync", *words, *own],
        check=True,
        capture_output=True,
        **surroundings(place),
    )
    return data


@contextmanager
def server(mariadbd: Path, *, files: Path | None = None, **settings: str) -> Iterator[Server]:
    """A server with these settings, a new one or one on files that were restored; it ends with the block."""
    place = Path(tempfile.mkdtemp(prefix="mariadb-test-"))
    how = surroundings(place)
    given = {
        "datadir": str(place / "data"),
        "socket": str(place / "mariadb.sock"),
        "pid-file": str(place / "pid"),
        "bind-address": "127.0.0.1",
        "port": str(free_port()),
        "innodb-log-file-size": "8M",
        "innodb-buffer-pool-size": "32M",
        "innodb-flush-log-at-trx-commit": "0",
        "debug-no-sync": "",  # who kills it takes nothing from what it wrote: only a loss of power would
        "log-bin": str(place / "binlog"),
        "server-id": "7",
        "gtid-strict-mode": "1",
        "default-time-zone": "+09:00",
        **settings,
    }
    own = tuple(f"--{name}={settings[name]}" for name in OF_FILES if name in settings)
    data = files or installed(own)
    with begun(mariadbd, place, how, data, given, password=PASSWORD if files else "") as made:
        yield made


@contextmanager
def begun(
    program: Path, place: Path, how: dict[str, Any], data: Path, settings: dict[str, str], *, password: str
) -> Iterator[Server]:
    """A server of this program on a copy of its data, once it answers and root has the password of tests.

    It and its place are gone after the block.
    """
    process = None
    try:
        subprocess.run(["cp", "-a", data, place / "data"], check=True)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody:", place / "data"], check=True)
        options = [f"--{name}={value}" if value else f"--{name}" for name, value in settings.items()]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen([program, "--no-defaults", *options], stdout=log, stderr=log, **how)
        made = Server(place, int(settings["port"]), process.pid)
        until = time.monotonic() + _PATIENCE_SECONDS
        while not answers(made, password):
            assert process.poll() is None and time.monotonic() < until, (place / "log").read_text()
            time.sleep(0.05)
        yield made
    finally:
        if process is not None:
            process.kill()  # whoever is connected is of a test that has ended
            process.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def answers(made: Server, password: str) -> bool:
    """Whether it does, to root with this password; from then on, with the one of tests."""
    if not made.socket.exists():  # the driver leaves a socket open at which nobody answers
        return False
    try:
        with made.connect(password=password) as session, session.cursor() as cursor:
            cursor.execute(f"ALTER USER root@localhost IDENTIFIED BY '{PASSWORD}'")
    except pymysql.OperationalError:
        return False
    return True


def killed_and_started_again(made: Server) -> "subprocess.Popen[bytes]":
    """Kill a server as a loss of power to its process would, and start another on its files; whoever asks ends it."""
    command = Path(f"/proc/{made.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    os.kill(made.pid, signal.SIGKILL)
    while b"\nState:\tZ" not in Path(f"/proc/{made.pid}/status").read_bytes():
        time.sleep(0.01)
    made.socket.unlink()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with (made.place / "log").open("ab") as log:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TMPDIR": str(made.place)}
        again = subprocess.Popen(command, stdout=log, stderr=log, cwd=made.place, env=environment, **identity)
    while not made.socket.exists():
        assert again.poll() is None, (made.place / "log").read_text()
        time.sleep(0.05)
    return again


USERS = """
CREATE ROLE readers;
CREATE USER 'shop keeper'@'localhost' IDENTIFIED BY 'another secret' WITH MAX_USER_CONNECTIONS 7;
CREATE USER 'auditor'@'10.%' IDENTIFIED BY 'third secret' REQUIRE SSL ACCOUNT LOCK;
GRANT readers TO 'shop keeper'@'localhost';
SET DEFAULT ROLE readers FOR 'shop keeper'@'localhost';
"""

GRANTS = """
GRANT SELECT ON `my shop`.* TO readers;
GRANT SELECT (id, amount), INSERT (amount) ON `my shop`.orders TO auditor@'10.%';
GRANT EXECUTE ON PROCEDURE `my shop`.tidy TO 'shop keeper'@'localhost' WITH GRANT OPTION;
GRANT CREATE, DROP ON `ledger%`.* TO 'shop keeper'@'localhost';
"""

SHOP = r"""
CREATE TABLE orders (
    id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at timestamp(6) NOT NULL DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6),
    amount decimal(12, 2) NOT NULL CHECK (amount >= 0),
    twice decimal(14, 2) AS (amount * 2) VIRTUAL,
    thrice decimal(14, 2) AS (amount * 3) STORED,
    secret int INVISIBLE DEFAULT 7,
    mood enum('glad', 'so so', 'sad'), tags set('a', 'b', 'c'),
    about json, word char(5), name varchar(200), small tinytext, notes longtext,
    raw binary(4), rawer varbinary(200), picture longblob, flags bit(13),
    place point, area geometry,
    tiny tinyint(1), little smallint unsigned, medium mediumint, whole int(6) zerofill,
    f float, d double, day date, hour time(3), moment datetime(3), year4 year,
    net inet6, ident uuid DEFAULT uuid(),
    `odd ``name` varchar(20) COMMENT 'it''s odd',
    KEY by_moment (moment DESC), UNIQUE KEY by_odd (`odd ``name`), KEY prefix (notes(10)), FULLTEXT KEY words (notes)
) COMMENT 'What people ordered';
INSERT INTO orders (at, amount, mood, tags, about, word, name, small, notes, raw, rawer, picture, flags, place, area,
    tiny, little, medium, whole, f, d, day, hour, moment, year4, net, `odd ``name`)
SELECT '2026-01-01 00:00:00.000001' + INTERVAL seq MINUTE, seq * 1.25, 1 + seq % 3, 'a,c',
    JSON_OBJECT('n', seq, 'é', '😀'), 'ab ', CONCAT('é😀 ', seq), '', CONCAT('line\n''"\\', seq), UNHEX('00FF5C27'),
    UNHEX(SHA2(seq, 256)), REPEAT(UNHEX('001A0A0D275C22'), seq % 50), seq % 8192, POINT(seq, -seq / 3),
    ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326),
    seq % 2, seq, -seq, seq, seq / 3, seq / 7, '2026-01-01' + INTERVAL seq DAY, '-12:34:56.789',
    '2026-03-29 02:30:00.123', 2026, '2001:db8::1', CONCAT('o', seq)
FROM seq_1_to_1500;
INSERT INTO orders (id, amount, about, name) VALUES (5000, 0, NULL, NULL), (5001, 0, '{}', '');
CREATE TABLE order_lines (
    order_id bigint unsigned NOT NULL, number int NOT NULL, what varchar(40) NOT NULL, PRIMARY KEY (order_id, number),
    CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO order_lines SELECT seq, 1, CONCAT('line ', seq) FROM seq_1_to_900;
CREATE TABLE events (at date NOT NULL, what varchar(40)) PARTITION BY RANGE (YEAR(at)) (
    PARTITION p2025 VALUES LESS THAN (2026), PARTITION p2026 VALUES LESS THAN (2027),
    PARTITION rest VALUES LESS THAN MAXVALUE
);
INSERT INTO events SELECT '2025-06-01' + INTERVAL seq DAY, CONCAT('event ', seq) FROM seq_1_to_400;
CREATE TABLE twins (word varchar(60));
INSERT INTO twins VALUES ('same'), ('same'), ('other'), (NULL), ('');
CREATE TABLE nothing (n int);
CREATE TABLE zeroes (
    n int AUTO_INCREMENT PRIMARY KEY, d date NOT NULL, t datetime NOT NULL,
    s timestamp NOT NULL DEFAULT '0000-00-00 00:00:00'
);
INSERT INTO zeroes (d, t, s) VALUES ('0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00'),
    ('2026-00-00', '2026-01-01', '2026-03-29 02:30:00');
UPDATE zeroes SET n = 0 WHERE n = 1;
CREATE TABLE old_words (n int, w varchar(50), c char(3)) DEFAULT CHARSET latin1;
INSERT INTO old_words VALUES (1, 'Stra\ße', 'é'), (2, CONVERT(UNHEX('80819D') USING latin1), '');
CREATE TABLE three_bytes (w varchar(50)) DEFAULT CHARSET utf8mb3 COLLATE utf8mb3_bin;
INSERT INTO three_bytes VALUES ('日本');
CREATE TABLE my_isam (n int, w varchar(20), KEY (n)) ENGINE = MyISAM;
INSERT INTO my_isam SELECT seq, CONCAT('w', seq) FROM seq_1_to_300;
CREATE TABLE an_aria (n int) ENGINE = Aria;
INSERT INTO an_aria VALUES (1), (1), (2);
CREATE TABLE versioned (n int PRIMARY KEY, v varchar(20)) WITH SYSTEM VERSIONING;
INSERT INTO versioned VALUES (1, 'first'), (2, 'stays');
UPDATE versioned SET v = 'second' WHERE n = 1;
DELETE FROM versioned WHERE n = 2;
CREATE SEQUENCE tickets START WITH 50 INCREMENT BY -1 MINVALUE -1000 MAXVALUE 100 NOCACHE;
DO NEXTVAL(tickets), NEXTVAL(tickets);
CREATE SQL SECURITY INVOKER VIEW big AS SELECT id, amount FROM orders WHERE amount > 100 WITH CASCADED CHECK OPTION;
CREATE VIEW a_view_of_a_view AS SELECT COUNT(*) AS many FROM big;
CREATE VIEW across AS SELECT b.id, n.word FROM big b JOIN zoo.names n ON n.id = b.id;
"""

ROUTINES = (
    "CREATE FUNCTION plus(a int, b int) RETURNS int DETERMINISTIC COMMENT 'adds' RETURN a + b",
    "CREATE PROCEDURE tidy(IN days int, OUT many int) MODIFIES SQL DATA SQL SECURITY INVOKER\n"
    "BEGIN\n    -- what is old;\n    DELETE FROM events WHERE at < CURRENT_DATE - INTERVAL days DAY;\n"
    "    SET many = ROW_COUNT();\nEND",
    "CREATE TRIGGER noted BEFORE UPDATE ON order_lines FOR EACH ROW BEGIN SET NEW.what = CONCAT(NEW.what, '!'); END",
    "CREATE TRIGGER noted_too BEFORE UPDATE ON order_lines FOR EACH ROW FOLLOWS noted SET NEW.what = UPPER(NEW.what)",
    "CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 03:00:00' ON COMPLETION PRESERVE DISABLE\n"
    "COMMENT 'tidies' DO CALL tidy(30, @many)",
)

ZOO = """
CREATE TABLE names (id bigint unsigned NOT NULL PRIMARY KEY, word varchar(40)) ENGINE = InnoDB;
INSERT INTO names SELECT seq, CONCAT('name ', seq) FROM seq_1_to_200;
"""


def fill(made: Server) -> None:
    """Give the server two databases with a bit of everything, and users."""

    def each(script: str, database: str | None = None) -> None:
        made.do(*(part for part in script.split(";\n") if part.strip()), database=database)

    each(USERS)
    made.do("CREATE DATABASE `my shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci COMMENT 'the shop''s'")
    made.do("CREATE DATABASE zoo CHARACTER SET latin1")
    each(ZOO, "zoo")
    with made.connect("my shop") as session, session.cursor() as cursor:
        cursor.execute("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")
        for statement in SHOP.split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        for statement in ROUTINES:
            cursor.execute(statement)
    each(GRANTS)
