"""A stand-in for xtrabackup, which no registry has: it asks MySQL what xtrabackup asks, in that order, and writes the
same kind of stream. The files are a real server's, copied when nobody commits and nothing is left to be written.

It says nothing of xtrabackup itself: neither whether that does as its documentation says, nor how it prepares.
"""

import os
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pymysql

NEVER = ("xtrabackup_", "auto.cnf", "binlog.", "ib_buffer_pool", "#innodb_temp", "mysqld-auto.cnf")
PART = 1 << 20
HOLE = 4096


def installed(folder: Path, programs: Path, series: str) -> Path:
    """A folder with the programs of a server and this one; `series` is what it says that it is of."""
    folder.mkdir(parents=True)
    for program in programs.iterdir():
        (folder / program.name).symlink_to(program)
    tests = Path(__file__).resolve().parent.parent
    (folder / "xtrabackup").write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(tests)!r}]\n"
        f"from servers import copying_mysql\ncopying_mysql.main({series!r}, sys.argv[1:])\n"
    )
    (folder / "xtrabackup").chmod(0o755)
    return folder


def main(series: str, words: list[str]) -> None:
    """What the program does, by its command line."""
    given = {name: value for name, _, value in (word.removeprefix("--").partition("=") for word in words)}
    if "version" in given:
        sys.stderr.write(f"xtrabackup version {series}.35-31 based on MySQL server {series}.35 Linux (x86_64)\n")
    elif "backup" in given:
        backup(Path(given["defaults-file"]), Path(given["target-dir"]))
    else:
        place = Path(given["target-dir"]) / "xtrabackup_checkpoints"
        assert not (place.parent / "xtrabackup_logfile").read_bytes().strip(b"redo")
        place.write_text("backup_type = full-prepared\n")


def backup(options: Path, folder: Path) -> None:
    """Write a stream of all files."""
    assert folder.is_dir()
    told = dict(line.split("=", 1) for line in options.read_text().splitlines() if "=" in line)
    session = pymysql.connect(
        ssl_disabled=told["ssl-mode"] == "DISABLED",
        unix_socket=told["socket"].strip('"'),
        user=told["user"].strip('"'),
        password=told["password"].strip('"'),
    )
    with session, session.cursor() as cursor:

        def ask(statement: str) -> tuple[Any, ...]:
            cursor.execute(statement)
            return cursor.fetchone() or ()

        data = Path(ask("SELECT @@datadir")[0])
        stream = Stream()
        ask("LOCK INSTANCE FOR BACKUP")
        ask("SELECT server_uuid, local, replication, storage_engines FROM performance_schema.log_status")
        stream.piece(b"xtrabackup_logfile", b"redo")
        if ask("SELECT COUNT(*) FROM information_schema.TABLES WHERE ENGINE = 'MyISAM'")[0]:
            ask("FLUSH NO_WRITE_TO_BINLOG TABLES")
            ask("FLUSH TABLES WITH READ LOCK")
        for file in files(data):
            if file.suffix in (".MYD", ".MYI", ".sdi"):
                stream.file(file, data)
        stream.piece(b"xtrabackup_logfile", b"redo")
        ask("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
        where = ask(
            "SELECT JSON_UNQUOTE(local->'$.binary_log_file'), local->'$.binary_log_position',"
            " JSON_UNQUOTE(local->'$.gtid_executed') FROM performance_schema.log_status"
        )
        ask("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
        settled(ask)
        for file in files(data):
            if file.suffix not in (".MYD", ".MYI", ".sdi"):
                stream.file(file, data)
        time.sleep(0.3)  # so that somebody would commit, if he could
        stream.piece(b"xtrabackup_logfile", b"redo")
        stream.end(b"xtrabackup_logfile")
        ask("UNLOCK INSTANCE")
        ask("UNLOCK TABLES")
        if where[0]:
            stream.whole(b"xtrabackup_binlog_info", "\t".join(map(str, where)).encode() + b"\n")
        stream.whole(b"xtrabackup_checkpoints", b"backup_type = full-backuped\n")
        stream.whole(b"xtrabackup_info", b"tool_name = xtrabackup\n")
        stream.whole(b"backup-my.cnf", b"[mysqld]\n")
        stream.out.flush()


def settled(ask: Any) -> None:
    """Wait until all that is in the log is in the files, as nothing goes on writing."""
    before: tuple[int, ...] = ()
    for _ in range(600):
        ((now, written),) = [
            ask("SELECT storage_engines->'$.InnoDB.LSN', storage_engines->'$.InnoDB.LSN_checkpoint'"
                " FROM performance_schema.log_status")
        ]  # fmt: skip
        if (int(now), int(written)) == before and int(now) - int(written) < 100:
            return
        before = int(now), int(written)
        time.sleep(0.1)
    raise AssertionError(f"the server goes on writing: {before}")


def files(data: Path) -> list[Path]:
    """All of a server that its programs take."""
    found = []
    for folder, folders, names in os.walk(data):
        folders[:] = [name for name in folders if not name.startswith(NEVER) and name != "performance_schema"]
        found += [
            Path(folder, name) for name in names if not name.startswith(NEVER) and not name.endswith((".pem", ".dblwr"))
        ]
    return sorted(found)


class Stream:
    """Writes chunks as the format has them; of files with blank pages, with holes."""

    def __init__(self) -> None:
        self.out = sys.stdout.buffer
        self.at: dict[bytes, int] = {}

    def file(self, file: Path, data: Path) -> None:
        path = os.fsencode(file.relative_to(data))
        with file.open("rb") as reading:
            while part := reading.read(PART):
                self.piece(path, part) if len(part) % HOLE else self.sparse(path, part)
        self.end(path)

    def whole(self, path: bytes, content: bytes) -> None:
        self.piece(path, content)
        self.end(path)

    def piece(self, path: bytes, content: bytes) -> None:
        self._head(b"P", path)
        self.out.write(struct.pack("<QQI", len(content), self.at.get(path, 0), zlib.crc32(content)) + content)
        self.at[path] = self.at.get(path, 0) + len(content)

    def sparse(self, path: bytes, content: bytes) -> None:
        holes, kept, hole, run = [], b"", 0, 0
        for begin in range(0, len(content), HOLE):
            part = content[begin : begin + HOLE]
            if part.strip(b"\0"):
                kept += part
                run += HOLE
            else:
                if run:
                    holes.append((hole, run))
                    hole = run = 0
                hole += HOLE
        holes.append((hole, run))
        told = b"".join(struct.pack("<II", *each) for each in holes)
        self._head(b"S", path)
        sum_ = zlib.crc32(told + kept)
        self.out.write(struct.pack("<IQQI", len(holes), len(kept), self.at.get(path, 0), sum_) + told + kept)
        self.at[path] = self.at.get(path, 0) + len(content)

    def end(self, path: bytes) -> None:
        self._head(b"E", path)

    def _head(self, kind: bytes, path: bytes) -> None:
        self.out.write(b"XBSTCK01\0" + kind + struct.pack("<I", len(path)) + path)
