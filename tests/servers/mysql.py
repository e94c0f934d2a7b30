"""MySQL servers for tests, of MySQL's own programs as `tools/mysql-programs` gets them."""

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from servers.mariadb import Server, begun, free_port, surroundings


@cache
def reachable(programs: Path) -> Path:
    """These programs, where the servers' user may come: a copy where that lacks, gone when this process ends."""
    if all(folder.stat().st_mode & 0o001 for folder in programs.parents):
        return programs
    place = Path(tempfile.mkdtemp(prefix="mysql-programs-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    shutil.copytree(programs.parent.parent, place / "mysql", symlinks=True)
    return place / "mysql" / programs.parent.name / programs.name


@cache
def _installed(mysqld: Path) -> Path:
    """The data of a server that has never run, for copies; gone when this process ends."""
    place = Path(tempfile.mkdtemp(prefix="mysql-new-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    words = ["--initialize-insecure", f"--datadir={place / 'data'}", f"--tmpdir={place}", "--secure-file-priv=NULL"]
    subprocess.run([mysqld, "--no-defaults", *words], check=True, capture_output=True, **surroundings(place))
    (place / "data" / "auto.cnf").unlink()  # else all would be taken for the same server
    return place / "data"


@contextmanager
def server(programs: Path, **settings: str) -> Iterator[Server]:
    """A server of the programs in this folder, with these settings; it ends with the block."""
    place = Path(tempfile.mkdtemp(prefix="mysql-test-"))
    how = surroundings(place)
    given = {
        "datadir": str(place / "data"),
        "socket": str(place / "mariadb.sock"),
        "pid-file": str(place / "pid"),
        "bind-address": "127.0.0.1",
        "port": str(free_port()),
        "innodb-buffer-pool-size": "32M",
        "innodb-flush-log-at-trx-commit": "0",
        "innodb-doublewrite": "0",
        "secure-file-priv": "NULL",
        "mysqlx": "OFF",
        "log-bin": str(place / "binlog"),
        "server-id": "7",
        "default-time-zone": "+09:00",
        **settings,
    }
    with begun(programs / "mysqld", place, how, _installed(programs / "mysqld"), given, password="") as made:
        yield made


USERS = """
CREATE ROLE readers;
CREATE USER 'shop keeper'@'localhost' IDENTIFIED BY 'another secret' WITH MAX_USER_CONNECTIONS 7;
CREATE USER 'auditor'@'10.%' IDENTIFIED BY 'third secret' REQUIRE SSL ACCOUNT LOCK;
GRANT readers TO 'shop keeper'@'localhost';
SET DEFAULT ROLE readers TO 'shop keeper'@'localhost';
"""

GRANTS = """
GRANT SELECT ON `my shop`.* TO readers;
GRANT SELECT (id, amount), INSERT (amount) ON `my shop`.orders TO auditor@'10.%';
GRANT EXECUTE ON PROCEDURE `my shop`.tidy TO 'shop keeper'@'localhost' WITH GRANT OPTION;
GRANT CREATE, DROP ON `ledger%`.* TO 'shop keeper'@'localhost';
GRANT BACKUP_ADMIN ON *.* TO auditor@'10.%';
"""

SHOP = r"""
CREATE TABLE numbers (seq int PRIMARY KEY);
INSERT INTO numbers WITH RECURSIVE n AS (SELECT 1 seq UNION ALL SELECT seq + 1 FROM n WHERE seq < 900)
    SELECT seq FROM n;
CREATE TABLE orders (
    id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at timestamp(6) NOT NULL DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6),
    amount decimal(12, 2) NOT NULL CHECK (amount >= 0),
    twice decimal(14, 2) AS (amount * 2) VIRTUAL,
    thrice decimal(14, 2) AS (amount * 3) STORED,
    mood enum('glad', 'so so', 'sad'), tags set('a', 'b', 'c'),
    about json, word char(5), name varchar(200), small tinytext, notes longtext,
    raw binary(4), rawer varbinary(200), picture longblob, flags bit(13),
    place point, area geometry,
    tiny tinyint(1), little smallint unsigned, medium mediumint, whole int(6) zerofill,
    f float, d double, day date, hour time(3), moment datetime(3), year4 year,
    ident varchar(40) DEFAULT (CONCAT('made ', 'up')),
    `odd ``name` varchar(20) COMMENT 'it''s odd',
    KEY by_moment (moment DESC), UNIQUE KEY by_odd (`odd ``name`), KEY prefix (notes(10)),
    KEY of_words ((LOWER(name))), KEY unseen (little) INVISIBLE, FULLTEXT KEY words (notes)
) COMMENT 'What people ordered';
INSERT INTO orders (at, amount, mood, tags, about, word, name, small, notes, raw, rawer, picture, flags, place, area,
    tiny, little, medium, whole, f, d, day, hour, moment, year4, `odd ``name`)
SELECT '2026-01-01 00:00:00.000001' + INTERVAL seq MINUTE, seq * 1.25, 1 + seq % 3, 'a,c',
    JSON_OBJECT('n', seq, 'é', '😀', 'd', seq / 3), 'ab ', CONCAT('é😀 ', seq), '', CONCAT('line\n''"\\', seq),
    UNHEX('00FF5C27'), UNHEX(SHA2(seq, 256)), REPEAT(UNHEX('001A0A0D275C22'), seq % 50), seq % 8192,
    POINT(seq, -seq / 3), ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326),
    seq % 2, seq, -seq, seq, seq / 3, seq / 7, '2026-01-01' + INTERVAL seq DAY, '-12:34:56.789',
    '2026-03-29 02:30:00.123', 2026, CONCAT('o', seq)
FROM numbers;
INSERT INTO orders (id, amount, about, name) VALUES (5000, 0, NULL, NULL), (5001, 0, '{}', '');
CREATE TABLE order_lines (
    order_id bigint unsigned NOT NULL, number int NOT NULL, what varchar(40) NOT NULL, PRIMARY KEY (order_id, number),
    CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO order_lines SELECT seq, 1, CONCAT('line ', seq) FROM numbers;
CREATE TABLE events (at date NOT NULL, what varchar(40)) PARTITION BY RANGE (YEAR(at)) (
    PARTITION p2025 VALUES LESS THAN (2026), PARTITION p2026 VALUES LESS THAN (2027),
    PARTITION rest VALUES LESS THAN MAXVALUE
);
INSERT INTO events SELECT '2025-06-01' + INTERVAL seq DAY, CONCAT('event ', seq) FROM numbers WHERE seq <= 400;
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
CREATE TABLE three_bytes (w varchar(50)) DEFAULT CHARSET utf8mb3 COLLATE utf8_bin;
INSERT INTO three_bytes VALUES ('日本');
CREATE TABLE my_isam (n int, w varchar(20), KEY (n)) ENGINE = MyISAM;
INSERT INTO my_isam SELECT seq, CONCAT('w', seq) FROM numbers WHERE seq <= 300;
CREATE ALGORITHM = MERGE SQL SECURITY INVOKER VIEW big AS
    SELECT id, amount FROM orders WHERE amount > 100 WITH CASCADED CHECK OPTION;
CREATE VIEW a_view_of_a_view AS SELECT COUNT(*) AS many FROM orders WHERE name <> '😀';
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
    "CREATE VIEW sums AS SELECT id, plus(id, 1) AS next FROM orders",
)


def fill(made: Server) -> None:
    """Give the server two databases with a bit of everything, and users."""

    def each(script: str, database: str | None = None) -> None:
        made.do(*(part for part in script.split(";\n") if part.strip()), database=database)

    def of_shop(*statements: str, **options: Any) -> None:
        with made.connect("my shop", **options) as session, session.cursor() as cursor:
            cursor.execute("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'")
            for statement in statements:
                cursor.execute(statement)

    each(USERS)
    made.do("SET GLOBAL log_bin_trust_function_creators = ON")
    made.do("CREATE DATABASE `my shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    made.do("CREATE DATABASE zoo CHARACTER SET latin1")
    made.do("CREATE TABLE zoo.names (id bigint unsigned NOT NULL PRIMARY KEY, word varchar(40))")
    of_shop(*(statement for statement in SHOP.split(";\n") if statement.strip()), *ROUTINES)
    made.do("INSERT INTO zoo.names SELECT seq, CONCAT('name ', seq) FROM `my shop`.numbers WHERE seq <= 200")
    each(GRANTS)
