"""Servers that recover: what files of a server need beside them, and a restore test of them on a throwaway one."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from cto_backups import process
from cto_backups.core.log_range import LOG_SAMPLE
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.process import ToolError
from cto_backups.sources.disposable import Place, disposable, serving
from cto_backups.sources.postgresql import restore
from cto_backups.sources.postgresql.connection import Address, Tools, find_tools
from cto_backups.sources.postgresql.control import controlled, room
from cto_backups.sources.postgresql.point import (
    AUTO_CONF,
    DATA,
    FOLDERS,
    LOG,
    MOMENTS,
    STREAMED,
    TABLESPACES,
    Moments,
    unrecovered,
)
from cto_backups.sources.postgresql.replication import lsn, lsn_text
from cto_backups.sources.postgresql.rows import SequenceAt, sequences
from cto_backups.sources.postgresql.server import Server
from cto_backups.sources.postgresql.sums import (
    PHYSICAL,
    PHYSICAL_HASHES,
    Summed,
    drawn_before,
    fingerprint_of,
    sequence_from,
    sequence_key,
    sequence_sample,
    shared_lines,
    summed_up,
)
from cto_backups.sources.postgresql.throwaway import SETTINGS

# Left from an earlier recovery: a server that is told two targets does not start.
_RECOVERY: Final = re.compile(
    rb"^\s*(?:recovery_|restore_command|archive_cleanup_command|primary_|standby_|# Added by cto)", re.IGNORECASE
)
_TARGET: Final = re.compile(rb"^\s*recovery_target_(?:lsn|time)\b", re.IGNORECASE)
_NO_TARGETS: Final = ("recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid")
"""Others may stand in postgresql.conf; a server that is told two does not start."""
# Files of the log are kept without the zeroes at their ends, and a server wants them whole.
_BRING: Final = 'cp "../{folder}/%f" "%p" && case "%f" in *.history) ;; *) truncate -s {bytes} "%p" ;; esac'


def settings(before: bytes, target: str, timeline: int, segment_bytes: int) -> bytes:
    """A server's own settings, with which it recovers to `target` and no further; it looks from its own folder."""
    kept = [line for line in before.splitlines(keepends=True) if not _RECOVERY.match(line)]
    lines = [
        "# Added by cto.backups: recovery ends where the log of this recovery point does.",
        f"restore_command = '{_BRING.format(folder=LOG, bytes=segment_bytes)}'",
        *(f"{name} = ''" for name in _NO_TARGETS),
        f"recovery_target_lsn = '{target}'",
        "recovery_target_inclusive = on",
        "recovery_target_timeline = 'current'" if timeline == 1 else f"recovery_target_timeline = '{timeline}'",
        "recovery_target_action = 'promote'",
        "",
    ]
    return b"".join(kept) + "\n".join(lines).encode()


def recover_at(data: Path, at: datetime) -> None:
    """Let a server that is started on this folder recover to a moment by its clock, and no further. Raises OSError."""
    _aim(data, f"recovery_target_lsn = ''\nrecovery_target_time = '{at.isoformat(sep=' ')}'\n")


def recover_to_end(data: Path) -> None:
    """Let a server that is started on this folder recover to the end of the log that is there. Raises OSError."""
    _aim(data, "recovery_target_lsn = ''\nrecovery_target_time = ''\n")


def _aim(data: Path, target: str) -> None:
    with (data / AUTO_CONF).open("r+b") as file:
        lines = [line for line in file.read().splitlines(keepends=True) if not _TARGET.match(line)]
        file.seek(0)
        file.write(b"".join(lines) + target.encode())
        file.truncate()


def tablespace_map(content: bytes) -> bytes:
    """A server's map of its tablespaces, with paths that begin where its links to them lie."""
    lines = (line.split(b" ", 1)[0] for line in content.splitlines() if line.strip())
    return b"".join(b"%s ../../%s/%s\n" % (oid, TABLESPACES.encode(), oid) for oid in lines)


def recovered(server: Server, restored: Path, about: Mapping[str, str], expected: Fingerprint) -> Fingerprint:
    """The fingerprint of a server that recovers from these files: of each database at its moment.

    Then the server recovers as a user's would, to the end of its log, and its indexes are checked. Raises ToolError,
    psycopg.Error, VerificationError.
    """
    tools = find_tools(int(about["version"]), server.tools, newer=False)
    with disposable("pg", scratch=server.scratch) as place:
        file = restored / MOMENTS
        told = Moments.read(file.read_bytes() if file.is_file() else b"")
        streamed = _streamed(restored / STREAMED)
        data = _moved(restored, place)
        _read_log(tools, place, told, max(told.ends, streamed))
        known = {sample.key: sample for sample in expected.samples}
        # Where nothing was said of the data, it is summed up all the same: that each row can be read is proven.
        algorithm = expected.algorithm if expected.algorithm in PHYSICAL_HASHES else PHYSICAL
        row_hash = PHYSICAL_HASHES[algorithm]
        summed: list[Summed] = []
        reached: dict[str, SequenceAt] = {}
        shared: tuple[dict[str, str], int] = ({}, 0)
        names = sorted(told.databases, key=lambda name: told.databases[name])
        for name in names:
            at = lsn_text(told.databases[name])
            with _recovering(tools, place, data, about["bootstrap"], at) as address, address.connect(name) as session:
                parts = drawn_before(name, expected)
                summed.append(summed_up(session, name, row_hash, unlogged=False, parts=parts))
                reached |= {sequence_key(name, each): each for each in sequences(session)}
                if len(summed) == 1:
                    shared = shared_lines(session)
        with _recovering(tools, place, data, about["bootstrap"], None) as address:
            _reached(address, streamed)
            restore.check_indexes(tools, address, names)
    samples: list[Sample] = []
    for key, sample in known.items():
        if key == "server":
            samples.append(sample)
        elif "last" in sample.fields and key in reached:
            is_there = reached[key].reached(sequence_from(sample))
            samples.append(sample if is_there else sequence_sample(key, reached[key]))
    found = fingerprint_of(sorted(summed, key=lambda each: each.name), *shared, samples, algorithm)
    # Points of an earlier release say less of their log.
    said = known[LOG_SAMPLE].fields if LOG_SAMPLE in known else {}
    log = replace(told.log, fields={name: value for name, value in told.log.fields.items() if name in said})
    wanted = (*found.samples, log)
    return replace(found, samples=tuple(sample for sample in wanted if sample.key in known))


@contextmanager
def brought_up(
    tools: Tools, place: Place, restored: Path, about: Mapping[str, str], at: datetime | None
) -> Iterator[Address]:
    """A server in this place that recovered from these files: to a moment, or to the end of its log. It is open.

    Raises ToolError, VerificationError.
    """
    file = restored / MOMENTS
    told = Moments.read(file.read_bytes() if file.is_file() else b"")
    streamed = _streamed(restored / STREAMED)
    data = _moved(restored, place)
    _read_log(tools, place, told, max(told.ends, streamed))
    if at is not None:
        recover_at(data, at)
    with _recovering(tools, place, data, about["bootstrap"], None) as address:
        if at is None:
            _reached(address, streamed)
        yield address


def _moved(restored: Path, place: Place) -> Path:
    """Bring the files to where their server's user may come; the folder of its data."""
    if not (restored / DATA / "PG_VERSION").is_file():
        raise unrecovered(f"there is no {DATA}/PG_VERSION in it")
    for name in FOLDERS:
        if (restored / name).exists():
            shutil.move(restored / name, place.data / name)
    for folder, folders, files in os.walk(place.data):
        place.own(*(Path(folder, name) for name in (*folders, *files)))
    (place.data / DATA).chmod(0o700)
    _only_ours(place.data / DATA / AUTO_CONF)
    # Whose server it was decides nothing here: who may log in, and what it listens on.
    (place.data / "hba").write_text("local all all trust\n", encoding="utf-8")
    (place.data / "conf").write_text("", encoding="utf-8")
    place.own(place.data / "hba", place.data / "conf")
    return place.data / DATA


def _only_ours(file: Path) -> None:
    """Leave of a server's settings those that lead to the end of its log: others may run commands, or not work here."""
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    ours = [line for line in lines if _RECOVERY.match(line) and not line.rstrip().endswith(b"= ''")]
    file.write_bytes(b"".join(ours))


def _streamed(file: Path) -> int:
    """The last place that is marked in the log that was streamed after the point; 0: there is none."""
    try:
        return lsn(json.loads(file.read_bytes()).get("mark", "0/0"))
    except FileNotFoundError:
        return 0


def _reached(address: Address, place: int) -> None:
    """See that a server that recovered to the end of its log came as far as that goes. Raises VerificationError."""
    with address.connect("postgres") as session:
        (at,) = session.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("0/0",)
    if lsn(at) < place:
        raise unrecovered(f"the log that was streamed goes up to {lsn_text(place)}, and recovery ended at {at}")


def _read_log(tools: Tools, place: Place, told: Moments, ends: int) -> None:
    """See that the log has no gap, and makes no tablespace. Raises VerificationError.

    Going through it would make that where the server had it: on the server's own machine, its own files.
    """
    folder = place.data / LOG
    segments = [file for file in sorted(folder.glob("*")) if file.suffix != ".history"]
    control = controlled(tools, place, place.data / DATA)
    for file in segments:  # they are kept without the zeroes at their ends
        os.truncate(file, int(control["Bytes per WAL segment"]))
    command = [tools["pg_waldump"], f"--path={folder}", f"--timeline={told.timeline}", "--rmgr=Tablespace"]
    command += [f"--start={lsn_text(told.begins)}", f"--end={lsn_text(ends)}"]
    try:
        said = process.run(
            place.command(*command), environment=place.environment(), timeout_seconds=86_400, folder=place.data
        )
    except ToolError as error:
        raise unrecovered(f"its log cannot be read from its beginning to its end: {error.detail}") from error
    if b"CREATE" in said:
        raise unrecovered("its log makes a tablespace, for which the server's own path would be used")


@contextmanager
def _recovering(tools: Tools, place: Place, data: Path, bootstrap: str, at: str | None) -> Iterator[Address]:
    """A server that recovered to just before this place in the log, and waits there; or to the end, and is open."""
    given = {
        **SETTINGS,
        **room(tools, place, data),
        "unix_socket_directories": str(place.socket),
        "config_file": str(place.data / "conf"),
        "hba_file": str(place.data / "hba"),
        "hot_standby": "on",
        "wal_level": "replica",
        "archive_mode": "off",
        "shared_preload_libraries": "",
        "session_preload_libraries": "",
        "ssl": "off",
        "primary_conninfo": "",
        "data_sync_retry": "off",
        "recovery_prefetch": "off",
    }
    if at is not None:
        given |= {
            "recovery_target_lsn": at,
            "recovery_target_inclusive": "off",
            "recovery_target_action": "pause",
        }
    words = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    with serving(place, tools["postgres"], "-D", data, *words) as running:
        address = Address(host=str(place.socket), user=bootstrap)
        wanted = "pg_get_wal_replay_pause_state() = 'paused'" if at is not None else "NOT pg_is_in_recovery()"
        _wait(address, running, place, wanted)
        yield address
        if at is not None:
            _stop(running)


def _wait(address: Address, running: "subprocess.Popen[bytes]", place: Place, wanted: str) -> None:
    """Wait as long as it takes: how long depends on how much log there is."""
    while True:
        try:
            with address.connect("postgres") as session:
                (there,) = session.execute(f"SELECT {wanted}").fetchone() or (False,)
            if there:
                return
        except psycopg.Error as error:
            if running.poll() is not None or not _is_starting(error):
                raise unrecovered(_last(place) or " ".join(str(error).split())) from error
        if running.poll() is not None:
            raise unrecovered(_last(place))
        time.sleep(0.05)


def _is_starting(error: psycopg.Error) -> bool:
    """Whether a server says that it is not there yet, or there is none to say anything."""
    said = str(error)
    return "No such file or directory" in said or "refused" in said or "the database system is" in said


def _stop(running: "subprocess.Popen[bytes]") -> None:
    """Let a server write down how far it recovered, and end."""
    running.send_signal(2)
    try:
        running.wait(600)
    except subprocess.TimeoutExpired:
        return  # whoever started it ends it


def _last(place: Place) -> str:
    """Why the server ended: its last complaint."""
    lines = place.log.read_text("utf-8", "replace").splitlines() if place.log.is_file() else []
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return fatal[-1] if fatal else place.last_words()
