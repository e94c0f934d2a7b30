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
    """CREATE INDEX evidence_by_point ON evidence (point, vault, finished_at)""",
    """CREATE INDEX evidence_by_source ON evidence (source, kind, finished_at)""",
    """CREATE INDEX evidence_by_vault ON evidence (vault, kind, finished_at)""",
    """CREATE INDEX evidence_passed ON evidence (source, finished_at) WHERE passed = 1 AND kind = 'restore_test'""",
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
    """CREATE INDEX runs_broken_off ON runs (point) WHERE action = 'backup' AND outcome IN ('failed', 'interrupted')""",
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
    active BOOLEAN NOT NULL,
    first_seen VARCHAR(27) NOT NULL,
    confirmed_at VARCHAR(27),
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
    PRIMARY KEY (id),
    FOREIGN KEY(source) REFERENCES sources (name)
)
""",
    """CREATE INDEX points_by_time ON points (captured_at) WHERE expired_at IS NULL""",
    """CREATE INDEX points_kept ON points (source, captured_at) WHERE expired_at IS NULL""",
    """CREATE INDEX points_kept_complete ON points (source, captured_at) WHERE expired_at IS NULL AND complete = 1""",
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
    """CREATE VIEW backup_status AS
SELECT
    facts.category AS data_category,
    facts.kind AS backup_type,
    facts.captured_at AS last_backup_time,
    round((julianday('now') - julianday(facts.captured_at)) * 24, 3) AS hours_since_backup,
    facts.size_bytes AS last_backup_size_bytes,
    facts.test_at AS last_test_date,
    facts.test_passed AS last_test_passed,
    CASE
        WHEN facts.captured_at IS NULL OR facts.copy_count = 0 THEN 'UNPROTECTED'
        WHEN facts.test_passed = 0 THEN 'FAILED_TEST'
        WHEN julianday(facts.fresh_at) > julianday('now') + 300 / 86400.0
            OR (julianday('now') - julianday(facts.fresh_at)) * 86400 > facts.rpo_seconds THEN 'OVERDUE'
        WHEN facts.test_every_seconds IS NOT NULL AND
            (julianday('now') - julianday(coalesce(facts.proven_at, facts.first_seen))) * 86400
                > facts.test_every_seconds THEN 'OVERDUE'
        ELSE 'HEALTHY'
    END AS status,
    facts.business AS business_id,
    facts.name AS source,
    facts.fresh_at AS fresh_at,
    facts.proven_at AS last_proven_date,
    facts.copy_count AS copies
FROM (
    SELECT
        s.name, s.category, s.kind, s.business, s.rpo_seconds, s.test_every_seconds, s.first_seen,
        p.captured_at, p.size_bytes,
        max(p.captured_at, coalesce(s.confirmed_at, p.captured_at)) AS fresh_at,
        (SELECT count(*) FROM copies c WHERE c.point = p.id AND c.to_delete = 0) AS copy_count,
        (SELECT e.finished_at FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test'
            ORDER BY e.finished_at DESC LIMIT 1) AS test_at,
        (SELECT e.passed FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test'
            ORDER BY e.finished_at DESC LIMIT 1) AS test_passed,
        (SELECT e.finished_at FROM evidence e WHERE e.source = s.name AND e.kind = 'restore_test' AND e.passed = 1
            ORDER BY e.finished_at DESC LIMIT 1) AS proven_at
    FROM sources s
    LEFT JOIN points p ON p.id = (
        SELECT n.id FROM points n WHERE n.source = s.name AND n.expired_at IS NULL AND n.complete = 1
        ORDER BY n.captured_at DESC LIMIT 1)
    WHERE s.active = 1
) AS facts
""",
)


def upgrade() -> None:
    """Make the tables, indexes and the view."""
    for statement in STATEMENTS:
        op.get_bind().exec_driver_sql(statement)
