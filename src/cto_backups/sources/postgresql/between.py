"""The log between base backups: the slot by which the server keeps it for us, and what was said of the last base."""

import json
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cto_backups import clock
from cto_backups.core.model import Fingerprint, Sample
from cto_backups.core.trees import Before
from cto_backups.errors import DamageError, SourceError, VerificationError
from cto_backups.process import ToolError
from cto_backups.sources.postgresql.inventory import tablespaces
from cto_backups.sources.postgresql.point import MOMENTS, Moments, is_whole
from cto_backups.sources.postgresql.replication import Place, Replication, lsn
from cto_backups.sources.postgresql.server import Server

_MACHINE: Final = Path("/etc/machine-id")
_KEPT: Final = ("reserved", "extended")
_LONGEST: Final = 40


class Between:
    """Goes on where the last base backup, and what came after it, ended.

    The fingerprint of a base is remembered in `state`: what is added to it is only the log. `every` is how long a base
    is gone on from.
    """

    def __init__(self, server: Server, state: Path, every: timedelta) -> None:
        self._server = server
        self._file = state / "base.json"
        self._every = every
        self.slot = slot_name(server.name, state)

    def goes_on(self, before: Before | None, place: Place, databases: Sequence[str]) -> Moments | None:
        """What the point before tells, if the log can be added to it; else another base is due."""
        try:
            content = before.content(b"/" + MOMENTS.encode()) if before is not None else None
            if before is None or content is None:
                return None
            told = Moments.read(content)
            if not is_whole(before):
                return None
        except (VerificationError, DamageError):
            return None
        # A server that was set back to an older state goes on in its own way from there.
        same = told.system == place.system and told.timeline == place.timeline and place.at >= told.ends
        young = timedelta(0) <= clock.now() - told.base_at < self._every
        if not same or not young or set(told.databases) != set(databases) or self.remembered(told) is None:
            return None
        with self._server.session("postgres") as session:
            if tablespaces(session) != told.tablespaces:
                return None
        return told if self.is_kept(told.ends) else None

    def is_kept(self, position: int) -> bool:
        """Whether the server keeps its log for us from a position on. Raises SourceError."""
        slot = self._slot()
        return slot is not None and slot[1] in _KEPT and lsn(slot[0]) <= position

    def hold(self, connection: Replication) -> bool:
        """Have the server keep its log from here on, for the points after a base; whether there was no slot before.

        Raises ToolError, SourceError.
        """
        slot = self._slot()
        if slot is not None and slot[1] not in _KEPT:
            connection.drop_slot(self.slot)
            slot = None
        if slot is None:
            connection.make_slot(self.slot)
        return slot is None

    def remember(self, base: Moments, fingerprint: Fingerprint) -> None:
        """Keep what was said of a base. Raises OSError."""
        document = {
            "begins": base.begins,
            "system": base.system,
            "algorithm": fingerprint.algorithm,
            "checksums": dict(fingerprint.checksums),
            "counts": dict(fingerprint.counts),
            "samples": [[sample.key, dict(sample.fields)] for sample in fingerprint.samples],
        }
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(document), encoding="utf-8")
        new.replace(self._file)

    def remembered(self, base: Moments) -> Fingerprint | None:
        """What was said of this base; None where it is not known any more."""
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
            if (document["begins"], document["system"]) != (base.begins, base.system):
                return None
            return Fingerprint(
                algorithm=document["algorithm"],
                checksums=document["checksums"],
                counts=document["counts"],
                samples=tuple(Sample(key, fields) for key, fields in document["samples"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _slot(self) -> tuple[str, str] | None:
        """From where on the server keeps its log for us, and whether it does."""
        with self._server.session("postgres") as session:
            row = session.execute(
                "SELECT restart_lsn::text, wal_status FROM pg_replication_slots WHERE slot_name = %s", (self.slot,)
            ).fetchone()
        return None if row is None else (str(row[0] or "0/0"), str(row[1]))


def let_go(server: Server, state: Path) -> None:
    """Have the server keep no log for a source that goes on from bases no longer. Raises SourceError."""
    slot = slot_name(server.name, state)
    with server.session("postgres") as session:
        if session.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (slot,)).fetchone() is None:
            return
    try:
        with Replication(server.address, server.timeout_seconds) as connection:
            connection.drop_slot(slot)
    except ToolError as error:
        raise SourceError(
            f"source {server.name}: the server keeps its log for a slot that nobody needs, {slot}",
            why=error.detail,
            todo=f"drop it, or the server's disk fills up: SELECT pg_drop_replication_slot('{slot}')",
        ) from error


def slot_name(source: str, state: Path) -> str:
    """A slot's name: of this source, in this installation, on this machine."""
    try:
        machine = _MACHINE.read_text(encoding="ascii").strip()
    except OSError:
        machine = ""
    own = sha256(f"{machine}\0{state.absolute()}".encode()).hexdigest()[:8]
    return f"{slot_beginning(source)}{own}"


def slot_beginning(source: str) -> str:
    """How the names of slots begin that are of this source, in whichever installation."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in source.lower())
    return f"cto_backups_{words[:_LONGEST]}_"
