"""How long a point may wait for a vault with a schedule, in the view as well; and what travelled to and from vaults."""

from alembic import op

revision = "0014"
down_revision = "0013"

STATEMENTS = (
    """ALTER TABLE source_vaults ADD COLUMN lag_seconds INTEGER""",
    """
CREATE TABLE vault_traffic (
    vault TEXT NOT NULL,
    day TEXT NOT NULL,
    action TEXT NOT NULL,
    writes BIGINT NOT NULL,
    reads BIGINT NOT NULL,
    deletes BIGINT NOT NULL,
    up_bytes BIGINT NOT NULL,
    down_bytes BIGINT NOT NULL,
    PRIMARY KEY (vault, day, action)
)
    """,
    """DROP VIEW backup_status""",
    """
CREATE VIEW backup_status AS
WITH known AS (
    SELECT
        s.name, s.category, s.kind, s.business, s.rpo_seconds, s.test_every_seconds, s.read_within_seconds,
        s.expects_change_seconds, s.confirmed_at, p.id AS point, p.captured_at, p.started_at, p.finished_at,
        p.size_bytes, p.newest_content_at,
        max(p.captured_at, coalesce(s.confirmed_at, p.captured_at)) AS looked_at,
        max(p.captured_at, coalesce(s.confirmed_at, p.captured_at), coalesce(t.reached_at, p.captured_at)) AS fresh_at,
        t.reached_at,
        (SELECT count(*) FROM copies c WHERE c.point = p.id AND c.to_delete = 0) AS copies,
        (SELECT count(*) FROM copies c WHERE c.point = p.id AND c.to_delete = 0 AND (
            SELECT e.passed FROM evidence e
            WHERE e.vault = c.vault AND e.kind = 'verify' AND e.started_at >= c.stored_at
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) = 0) AS damaged_copies,
        (SELECT count(*) FROM copies c JOIN vaults w ON w.name = c.vault
            WHERE c.point = p.id AND c.to_delete = 0 AND w.away_since IS NOT NULL) AS away_copies,
        (SELECT count(*) FROM copies c JOIN vaults w ON w.name = c.vault
            WHERE c.point = p.id AND c.to_delete = 0 AND w.away_since IS NULL AND coalesce((
                SELECT e.passed FROM evidence e
                WHERE e.vault = c.vault AND e.kind = 'verify' AND e.started_at >= c.stored_at
                ORDER BY e.finished_at DESC, e.id DESC LIMIT 1), 1) = 1) AS sound_copies,
        (SELECT count(*) FROM source_vaults v WHERE v.source = s.name AND v.lag_seconds IS NULL AND NOT EXISTS (
            SELECT 1 FROM copies c WHERE c.point = p.id AND c.vault = v.vault AND c.to_delete = 0)) AS missing_copies,
        (SELECT count(*) FROM source_vaults v WHERE v.source = s.name AND v.lag_seconds IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM copies c WHERE c.point = p.id AND c.vault = v.vault AND c.to_delete = 0)) AS lagging_copies,
        (SELECT max((julianday('now') - julianday((
            SELECT n.finished_at FROM points n
            WHERE n.source = s.name AND n.expired_at IS NULL AND n.complete = 1 AND n.captured_at > coalesce((
                SELECT h.captured_at FROM points h
                WHERE h.source = s.name AND h.expired_at IS NULL AND h.complete = 1 AND EXISTS (
                    SELECT 1 FROM copies c WHERE c.point = h.id AND c.vault = v.vault AND c.to_delete = 0)
                ORDER BY h.captured_at DESC LIMIT 1), '')
            ORDER BY n.captured_at LIMIT 1))) * 86400 - v.lag_seconds)
            FROM source_vaults v WHERE v.source = s.name AND v.lag_seconds IS NOT NULL) AS beyond_schedule,
        (SELECT count(*) FROM source_vaults v WHERE v.source = s.name AND (
            SELECT e.passed FROM evidence e WHERE e.vault = v.vault AND e.kind = 'verify'
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) = 0) AS damaged_vaults,
        (SELECT min(coalesce(
            (SELECT max(e.read_since) FROM evidence e WHERE e.vault = v.vault AND e.read_since IS NOT NULL),
            w.first_copy_at))
            FROM source_vaults v JOIN vaults w ON w.name = v.vault WHERE v.source = s.name) AS oldest_reading,
        (SELECT max(coalesce(
            (SELECT max(e.read_since) FROM evidence e WHERE e.vault = v.vault AND e.read_since IS NOT NULL),
            w.first_copy_at))
            FROM source_vaults v JOIN vaults w ON w.name = v.vault WHERE v.source = s.name) AS newest_reading,
        (SELECT e.finished_at FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test'
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) AS test_at,
        (SELECT e.passed FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test'
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) AS test_passed,
        (SELECT e.finished_at FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test' AND e.passed = 1
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) AS proven_at,
        (SELECT r.outcome FROM runs r WHERE r.source = s.name AND r.action = 'restore_test'
            ORDER BY r.id DESC LIMIT 1) AS test_run,
        (SELECT r.started_at FROM runs r WHERE r.source = s.name AND r.action = 'restore_test'
            ORDER BY r.id DESC LIMIT 1) AS test_run_at,
        (SELECT r.outcome FROM runs r WHERE r.source = s.name AND r.action = 'copy'
            AND r.outcome IN ('failed', 'succeeded', 'unchanged', 'incomplete')
            ORDER BY r.id DESC LIMIT 1) AS copy_run,
        (SELECT r.outcome FROM runs r WHERE r.source = s.name AND r.action = 'backup'
            ORDER BY r.id DESC LIMIT 1) AS backup_run,
        (SELECT r.started_at FROM runs r WHERE r.source = s.name AND r.action = 'backup'
            ORDER BY r.id DESC LIMIT 1) AS backup_run_at
    FROM sources s
    LEFT JOIN streams t ON t.source = s.name
    LEFT JOIN points p ON p.id = (
        SELECT n.id FROM points n WHERE n.source = s.name AND n.expired_at IS NULL AND n.complete = 1
        ORDER BY n.captured_at DESC, n.id DESC LIMIT 1)
    WHERE s.active = 1
),
aged AS (
    SELECT
        known.*,
        (julianday('now') - julianday(captured_at)) * 86400 AS captured_ago,
        (julianday('now') - julianday(confirmed_at)) * 86400 AS confirmed_ago,
        (julianday('now') - julianday(reached_at)) * 86400 AS reached_ago,
        (julianday('now') - julianday(fresh_at)) * 86400 AS fresh_ago,
        (julianday('now') - julianday(finished_at)) * 86400 AS finished_ago,
        (julianday('now') - julianday(proven_at)) * 86400 AS proven_ago,
        (julianday('now') - julianday(oldest_reading)) * 86400 AS oldest_reading_ago,
        (julianday('now') - julianday(newest_reading)) * 86400 AS newest_reading_ago,
        (julianday('now') - julianday(backup_run_at)) * 86400 AS backup_run_ago,
        (julianday(finished_at) - julianday(started_at)) * 86400 AS backup_seconds,
        (julianday(looked_at) - julianday(coalesce(newest_content_at, captured_at))) * 86400 AS quiet_seconds
    FROM known
)
SELECT
    category AS data_category,
    kind AS backup_type,
    captured_at AS last_backup_time,
    round(captured_ago / 3600, 3) AS hours_since_backup,
    size_bytes AS last_backup_size_bytes,
    test_at AS last_test_date,
    test_passed AS last_test_passed,
    CASE
        WHEN point IS NULL OR sound_copies = 0 THEN 'UNPROTECTED'
        WHEN damaged_copies > 0 OR damaged_vaults > 0 OR test_passed = 0 THEN 'FAILED_TEST'
        WHEN test_run = 'failed' AND (proven_at IS NULL OR proven_at < test_run_at) THEN 'FAILED_TEST'
        WHEN captured_ago < -300 OR confirmed_ago < -300 OR reached_ago < -300 THEN 'OVERDUE'
        WHEN fresh_ago > rpo_seconds AND NOT (
            backup_run IS 'running' AND backup_run_ago BETWEEN -300 AND max(2 * backup_seconds, 900)
            AND fresh_ago - rpo_seconds <= backup_run_ago + 300) THEN 'OVERDUE'
        WHEN away_copies > 0 THEN 'OVERDUE'
        WHEN quiet_seconds > expects_change_seconds THEN 'OVERDUE'
        WHEN missing_copies > 0 AND (copy_run IS 'failed' OR finished_ago > min(rpo_seconds / 4.0, 900)) THEN 'OVERDUE'
        WHEN lagging_copies > 0 AND (copy_run IS 'failed' OR beyond_schedule > 0) THEN 'OVERDUE'
        WHEN newest_reading_ago < -300 OR oldest_reading_ago > read_within_seconds THEN 'OVERDUE'
        WHEN test_every_seconds IS NOT NULL
            AND (proven_at IS NULL OR proven_ago NOT BETWEEN -300 AND test_every_seconds) THEN 'OVERDUE'
        ELSE 'HEALTHY'
    END AS status,
    business AS business_id,
    name AS source,
    point AS last_point,
    fresh_at AS last_confirmed_time,
    proven_at AS last_passed_test_date,
    copies,
    newest_content_at
FROM aged
""",
)


def upgrade() -> None:
    """Add the column, and make the view anew."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
