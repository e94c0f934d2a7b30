"""The first schema of the catalog."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
CREATE TABLE evidence (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT,
    point TEXT,
    vault TEXT NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    finished_at VARCHAR(27) NOT NULL,
    passed BOOLEAN NOT NULL,
    rung INTEGER NOT NULL,
    steps JSON NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (id)
)
""",
    """CREATE INDEX evidence_by_point ON evidence (point, vault, finished_at, id)""",
    """CREATE INDEX evidence_by_source ON evidence (source, kind, finished_at, id)""",
    """CREATE INDEX evidence_by_vault ON evidence (vault, kind, finished_at, id)""",
    """CREATE INDEX evidence_passed ON evidence (source, finished_at, id)
WHERE passed = 1 AND kind = 'restore_test'""",
    """
CREATE TABLE policies (
    digest TEXT NOT NULL,
    text BLOB NOT NULL,
    first_seen VARCHAR(27) NOT NULL,
    PRIMARY KEY (digest)
)
""",
    """
CREATE TABLE records (
    signer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    subject TEXT,
    content BLOB NOT NULL,
    PRIMARY KEY (signer, sequence)
)
""",
    """CREATE INDEX records_by_subject ON records (subject, kind)""",
    """
CREATE TABLE runs (
    id INTEGER NOT NULL,
    action TEXT NOT NULL,
    source TEXT,
    vault TEXT,
    point TEXT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    finished_at VARCHAR(27),
    outcome TEXT NOT NULL,
    error_code TEXT NOT NULL,
    message TEXT NOT NULL,
    figures JSON NOT NULL,
    PRIMARY KEY (id)
)
""",
    """CREATE INDEX runs_broken_off ON runs (point)
WHERE action = 'backup' AND outcome IN ('failed', 'interrupted')""",
    """CREATE INDEX runs_by_source ON runs (source, action, id)""",
    """CREATE INDEX runs_by_vault ON runs (vault, action, id)""",
    """CREATE INDEX runs_running ON runs (host) WHERE outcome = 'running'""",
    """
CREATE TABLE sources (
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    category TEXT NOT NULL,
    data_class TEXT,
    business TEXT NOT NULL,
    rpo_seconds INTEGER NOT NULL,
    test_every_seconds INTEGER,
    read_within_seconds INTEGER NOT NULL,
    active BOOLEAN NOT NULL,
    first_seen VARCHAR(27) NOT NULL,
    confirmed_at VARCHAR(27),
    discovered_at VARCHAR(27),
    next_due_at VARCHAR(27),
    point_count INTEGER DEFAULT '0' NOT NULL,
    policy_digest TEXT NOT NULL,
    PRIMARY KEY (name)
)
""",
    """
CREATE TABLE vault_heads (
    vault TEXT NOT NULL,
    signer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (vault, signer)
)
""",
    """
CREATE TABLE vaults (
    name TEXT NOT NULL,
    repository TEXT,
    copy_count INTEGER DEFAULT '0' NOT NULL,
    first_copy_at VARCHAR(27),
    PRIMARY KEY (name)
)
""",
    """
CREATE TABLE points (
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    category TEXT NOT NULL,
    business TEXT NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    captured_at VARCHAR(27) NOT NULL,
    finished_at VARCHAR(27) NOT NULL,
    size_bytes BIGINT NOT NULL,
    added_bytes BIGINT NOT NULL,
    entry_count BIGINT NOT NULL,
    root TEXT NOT NULL,
    paths JSON NOT NULL,
    fingerprint JSON NOT NULL,
    policy_digest TEXT NOT NULL,
    domain TEXT NOT NULL,
    parent TEXT,
    label TEXT,
    keep_until VARCHAR(27),
    problems JSON NOT NULL,
    complete BOOLEAN NOT NULL,
    expired_at VARCHAR(27),
    expired_because JSON,
    proven_at VARCHAR(27),
    PRIMARY KEY (id),
    FOREIGN KEY(source) REFERENCES sources (name)
)
""",
    """CREATE INDEX points_by_time ON points (captured_at) WHERE expired_at IS NULL""",
    """CREATE INDEX points_kept ON points (source, captured_at, id) WHERE expired_at IS NULL""",
    """CREATE INDEX points_kept_complete ON points (source, captured_at, id)
WHERE expired_at IS NULL AND complete = 1""",
    """CREATE INDEX points_kept_proven ON points (source, captured_at, id)
WHERE expired_at IS NULL AND proven_at IS NOT NULL""",
    """
CREATE TABLE resources (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    location TEXT NOT NULL,
    size_bytes BIGINT,
    first_seen VARCHAR(27) NOT NULL,
    last_seen VARCHAR(27) NOT NULL,
    PRIMARY KEY (source, name),
    FOREIGN KEY(source) REFERENCES sources (name)
)
""",
    """
CREATE TABLE source_vaults (
    source TEXT NOT NULL,
    vault TEXT NOT NULL,
    PRIMARY KEY (source, vault),
    FOREIGN KEY(source) REFERENCES sources (name)
)
""",
    """
CREATE TABLE copies (
    point TEXT NOT NULL,
    vault TEXT NOT NULL,
    reference TEXT NOT NULL,
    stored_at VARCHAR(27) NOT NULL,
    added_bytes BIGINT NOT NULL,
    to_delete BOOLEAN DEFAULT '0' NOT NULL,
    PRIMARY KEY (point, vault),
    FOREIGN KEY(point) REFERENCES points (id)
)
""",
    """CREATE INDEX copies_by_vault ON copies (vault, stored_at)""",
    """CREATE INDEX copies_to_delete ON copies (vault, point) WHERE to_delete = 1""",
    """
CREATE VIEW backup_status AS
WITH known AS (
    SELECT
        s.name, s.category, s.kind, s.business, s.rpo_seconds, s.test_every_seconds, s.read_within_seconds,
        s.confirmed_at, p.id AS point, p.captured_at, p.started_at, p.finished_at, p.size_bytes,
        max(p.captured_at, coalesce(s.confirmed_at, p.captured_at)) AS fresh_at,
        (SELECT count(*) FROM copies c WHERE c.point = p.id AND c.to_delete = 0) AS copies,
        (SELECT count(*) FROM copies c WHERE c.point = p.id AND c.to_delete = 0 AND (
            SELECT e.passed FROM evidence e
            WHERE e.vault = c.vault AND e.kind = 'verify' AND e.started_at >= c.stored_at
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) = 0) AS damaged_copies,
        (SELECT count(*) FROM source_vaults v WHERE v.source = s.name AND NOT EXISTS (
            SELECT 1 FROM copies c WHERE c.point = p.id AND c.vault = v.vault AND c.to_delete = 0)) AS missing_copies,
        (SELECT count(*) FROM source_vaults v WHERE v.source = s.name AND (
            SELECT e.passed FROM evidence e WHERE e.vault = v.vault AND e.kind = 'verify'
            ORDER BY e.finished_at DESC, e.id DESC LIMIT 1) = 0) AS damaged_vaults,
        (SELECT min(coalesce(
            (SELECT max(e.finished_at) FROM evidence e WHERE e.vault = v.vault AND e.kind = 'verify'), w.first_copy_at))
            FROM source_vaults v JOIN vaults w ON w.name = v.vault WHERE v.source = s.name) AS oldest_reading,
        (SELECT max(coalesce(
            (SELECT max(e.finished_at) FROM evidence e WHERE e.vault = v.vault AND e.kind = 'verify'), w.first_copy_at))
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
        (julianday('now') - julianday(fresh_at)) * 86400 AS fresh_ago,
        (julianday('now') - julianday(finished_at)) * 86400 AS finished_ago,
        (julianday('now') - julianday(proven_at)) * 86400 AS proven_ago,
        (julianday('now') - julianday(oldest_reading)) * 86400 AS oldest_reading_ago,
        (julianday('now') - julianday(newest_reading)) * 86400 AS newest_reading_ago,
        (julianday('now') - julianday(backup_run_at)) * 86400 AS backup_run_ago,
        (julianday(finished_at) - julianday(started_at)) * 86400 AS backup_seconds
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
        WHEN point IS NULL OR damaged_copies = copies THEN 'UNPROTECTED'
        WHEN damaged_copies > 0 OR damaged_vaults > 0 OR test_passed = 0 THEN 'FAILED_TEST'
        WHEN test_run = 'failed' AND (proven_at IS NULL OR proven_at < test_run_at) THEN 'FAILED_TEST'
        WHEN captured_ago < -300 OR confirmed_ago < -300 THEN 'OVERDUE'
        WHEN fresh_ago > rpo_seconds AND NOT (
            backup_run IS 'running' AND backup_run_ago BETWEEN -300 AND max(2 * backup_seconds, 900)
            AND fresh_ago - rpo_seconds <= backup_run_ago + 300) THEN 'OVERDUE'
        WHEN missing_copies > 0 AND (copy_run IS 'failed' OR finished_ago > min(rpo_seconds / 4.0, 900)) THEN 'OVERDUE'
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
    copies
FROM aged
""",
)


def upgrade() -> None:
    """Make the tables, indexes and the view."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
