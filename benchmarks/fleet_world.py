"""A fleet that is simulated for a benchmark: its policy, its catalog, and actions that only take their time."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cto_backups import clock
from cto_backups.catalog.catalog import Catalog
from cto_backups.catalog.rows import moment_to_column, point_to_row
from cto_backups.core.defaults import CATEGORIES
from cto_backups.core.model import (
    Action,
    ActionKind,
    Copy,
    Evidence,
    Fingerprint,
    Outcome,
    RecoveryPoint,
    Resource,
    Rung,
)
from cto_backups.core.policy import Policy, SourcePolicy, VaultPolicy
from cto_backups.core.retention import Retention
from cto_backups.core.triggers import Every
from cto_backups.errors import BusyError
from cto_backups.evidence.payloads import copy_to_payload, evidence_to_payload, point_to_payload
from cto_backups.evidence.records import Head, SigningKey
from cto_backups.flows.recover import process_alive

HOUR = timedelta(hours=1)
TESTED_EVERY = timedelta(days=1)
VAULTS = ("near", "far")
POINTS = 3
"""How many recovery points of each source there are at first."""

_FILLED = """
INSERT INTO points (id, source, kind, category, business, started_at, captured_at, finished_at, size_bytes, added_bytes,
    entry_count, root, paths, fingerprint, policy_digest, domain, problems, complete, proven_at)
SELECT name || '-' || lpad(p::text, 4, '0'), name, 'files', 'B', 'acme', at, at, at, 1000000000, 1000000, 1000,
    repeat('ab', 32), '["/data"]', :fingerprint, 'd', 'main', '[]', 1, CASE WHEN p = 1 THEN at END
FROM (
    SELECT s.name, p, to_char(timestamptz :now AT TIME ZONE 'UTC' - p * interval '1 hour'
        + (n - 0.5) / :many * interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at
    FROM (SELECT name, row_number() OVER (ORDER BY name) AS n FROM sources WHERE point_count = 0 AND active = 1) s,
        generate_series(1, :points) p) made;
INSERT INTO copies (point, vault, reference, stored_at, added_bytes, to_delete)
SELECT p.id, v.name, repeat('cd', 32), p.finished_at, 1000000, 0
FROM points p JOIN sources s ON s.name = p.source AND s.point_count = 0, vaults v;
INSERT INTO runs (id, action, source, vault, point, host, pid, started_at, finished_at, outcome, error_code, message,
    figures)
SELECT (SELECT coalesce(max(id), 0) FROM runs) + row_number() OVER (ORDER BY p.captured_at, a.action),
    a.action, p.source, a.vault, p.id, 'host', 1, p.started_at, p.finished_at, 'succeeded', '', '', '{}'
FROM points p JOIN sources s ON s.name = p.source AND s.point_count = 0,
    (VALUES ('backup', NULL), ('copy', 'far')) a (action, vault);
INSERT INTO evidence (id, kind, source, point, vault, started_at, finished_at, passed, rung, steps, reason)
SELECT 'test-' || p.id, 'restore_test', p.source, p.id, 'near', p.finished_at, to_char(
    timestamptz :now AT TIME ZONE 'UTC' - interval '1 hour' - random() * interval '20 hours',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 1, 5, '[]', ''
FROM points p JOIN sources s ON s.name = p.source AND s.point_count = 0 WHERE p.proven_at IS NOT NULL;
UPDATE vaults SET copy_count = copy_count + :added, first_copy_at = coalesce(first_copy_at, :now);
UPDATE sources SET point_count = :points WHERE point_count = 0 AND active = 1;
"""


def policy_of(sources: int) -> Policy:
    """A policy of so many sources, each backed up hourly, copied to a second vault, and tested once a day."""
    names = [f"s{number:07}" for number in range(sources)]
    vaults = {name: VaultPolicy(name, f"file:/{name}", provider=name, region="here", storage="disk") for name in VAULTS}
    made = {
        name: SourcePolicy(
            name=name,
            kind="files",
            category=CATEGORIES["B"],
            triggers=(Every(HOUR),),
            retention=Retention(keep_for=timedelta(days=90)),
            test_every=TESTED_EVERY,
            vaults=VAULTS,
        )
        for name in names
    }
    return Policy("acme", "UTC", made, vaults, CATEGORIES, {}, (), f"fleet {sources:064}")


def fill(catalog: Catalog, policy: Policy, now: datetime) -> None:
    """Bring the policy in, with what each of its new sources would have: their next backups spread over an hour."""
    catalog.sync_policy(policy, b"", now)
    with catalog._writing() as connection:
        many = connection.scalar("SELECT count(*) FROM sources WHERE point_count = 0 AND active = 1")
        values = {"now": moment_to_column(now), "many": many, "points": POINTS, "added": many * POINTS}
        values["fingerprint"] = point_to_row(_point("p", "s", now))["fingerprint"]
        for statement in _FILLED.split(";\n")[:-1]:
            connection.execute(statement, values)


@dataclass(frozen=True)
class Simulated:
    """Does actions of which each takes `seconds` and nothing else, and writes what a real one writes."""

    catalog: Catalog
    signer: SigningKey
    host: str
    seconds: float

    def do(self, action: Action) -> bool:
        """Do an action, with its run, its claim, its records and its facts; no while another one is at it."""
        began, point = clock.now(), action.point
        if action.kind is ActionKind.BACKUP:
            point = f"{action.source}-{began.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
        source, vault = action.source, action.vault
        place = {"source": source, "vault": vault, "point": point}
        try:
            begun = self.catalog.start_run(
                action.kind, **place, now=began, pid=os.getpid(), host=self.host, alive=process_alive
            )
        except BusyError:
            return False
        assert begun.claim is not None
        time.sleep(self.seconds)
        with self.catalog.claims.under(begun.claim):
            self._write(action, point or "", began)
        self.catalog.finish_run(
            begun.run, outcome=Outcome.SUCCEEDED, now=clock.now(), figures={"size_bytes": 1}, claim=begun.claim
        )
        return True

    def _write(self, action: Action, point: str, began: datetime) -> None:
        match action.kind:
            case ActionKind.BACKUP:
                self._backup(point, action.source or "", began)
            case ActionKind.COPY:
                copy = _copy(point, action.vault or "")
                self.catalog.add_copy(copy, self._sign(("copy", copy_to_payload(copy))))
            case ActionKind.RESTORE_TEST | ActionKind.VERIFY:
                self._prove(action, began)
            case _:
                pass

    def _backup(self, name: str, source: str, began: datetime) -> None:
        self.catalog.record_resources(source, [Resource("data", "folder", "/data", 10**9)], began)
        self.catalog.latest(source, complete=False)
        point, copy = _point(name, source, began), _copy(name, VAULTS[0])
        head = self._sign(("recovery-point", point_to_payload(point)), ("copy", copy_to_payload(copy)))
        self.catalog.add_point_with_copy(point, copy, head)

    def _prove(self, action: Action, began: datetime) -> None:
        tested = action.kind is ActionKind.RESTORE_TEST
        evidence = Evidence(
            id=f"{action.kind.value}-{action.source or action.vault}-{began:%Y%m%dT%H%M%S.%f}",
            kind=action.kind.value,
            source=action.source,
            point=action.point if tested else None,
            vault=action.vault or "",
            started_at=began,
            finished_at=clock.now(),
            passed=True,
            rung=Rung.PROVEN if tested else Rung.READ,
            steps=(),
            read_since=None if tested else began,
        )
        self.catalog.advance_vault_head(evidence.vault, *self._sign(("evidence", evidence_to_payload(evidence))))
        self.catalog.add_evidence(evidence)

    def _sign(self, *records: tuple[str, Any]) -> Head:
        """Sign records; up to where, which whoever shows what they say notes of the vault that has them."""
        signed = self.catalog.append_records(self.signer, records, clock.now())
        return Head(self.signer.signer, signed[-1].sequence)


def _point(name: str, source: str, at: datetime) -> RecoveryPoint:
    return RecoveryPoint(
        id=name,
        source=source,
        kind="files",
        category="B",
        business="acme",
        started_at=at,
        captured_at=at,
        finished_at=clock.now(),
        size_bytes=10**9,
        added_bytes=10**6,
        entry_count=1000,
        root="ab" * 32,
        paths=("/data",),
        fingerprint=Fingerprint("files/1", {"content": "ab" * 32}, {"entries": 1000}),
        policy_digest="d",
    )


def _copy(point: str, vault: str) -> Copy:
    return Copy(point, vault, "cd" * 32, clock.now(), 10**6)


def quantile(values: Iterable[float], share: float) -> float:
    """The value that so large a share of these is not above; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
