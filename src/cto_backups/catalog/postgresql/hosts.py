"""What a host may do in a catalog on a server: a role of its own, and row-level security by the names that it has.

Points, copies, evidence and records can only be added by a host. The administrator's expiry acts on what is marked as
expired or to be deleted, so a host marks nothing so; nor can it lead a copy to another snapshot than it was made as.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import errors, sql

from cto_backups.catalog.database import BUSY_SECONDS, Password
from cto_backups.catalog.postgresql.address import Address
from cto_backups.catalog.postgresql.mishaps import translated
from cto_backups.catalog.postgresql.server import ServerDatabase
from cto_backups.errors import CatalogError, RefusedError


def _own(column: LiteralString, kind: LiteralString) -> LiteralString:
    return f"{column} = ANY ((SELECT own_names('{kind}'))::text[])"


_SOURCE: Final = _own("source", "source")
_VAULT: Final = _own("vault", "vault")
_HOST: Final = _own("host", "host")
_SIGNER: Final = _own("signer", "signer")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of a table a host reads, adds, changes and removes: conditions; None: none. `columns` are those that
    it changes; all when empty.
    """

    read: LiteralString | None = None
    add: LiteralString | None = None
    change: LiteralString | None = None
    remove: LiteralString | None = None
    columns: tuple[LiteralString, ...] = ()


def _all(condition: LiteralString) -> Rule:
    return Rule(condition, condition, condition, condition)


_NOTHING: Final = Rule()
_CLAIM: Final = f"""CASE split_part(subject, ':', 1)
    WHEN 'source' THEN {_own("split_part(subject, ':', 2)", "source")}
    WHEN 'copy' THEN {_own("split_part(split_part(subject, ':', 2), '@', 1)", "source")}
        AND {_own("split_part(subject, '@', 2)", "vault")}
    ELSE {_own("split_part(subject, ':', 2)", "vault")} END"""
_PLACE: Final = f"(place = 'source' AND {_own('name', 'source')}) OR (place = 'vault' AND {_own('name', 'vault')})"

RULES: Final[dict[LiteralString, Rule]] = {
    "alembic_version": Rule(read="true", change="true"),  # the writers' lock; see `_LOCKED`
    "writes": Rule(read="true", add="at <= now()", remove="at < now() - interval '1 hour'"),
    "sources": Rule(*(_own("name", "source"),) * 3),
    "source_vaults": _all(f"{_SOURCE} AND {_VAULT}"),
    "resources": _all(_SOURCE),
    "points": Rule(_SOURCE, f"{_SOURCE} AND expired_at IS NULL", _SOURCE, columns=("proven_at",)),
    "copies": Rule(
        _VAULT,
        f"{_VAULT} AND is_new_reference(vault, reference) AND EXISTS (SELECT 1 FROM points p WHERE p.id = point"
        " AND (to_delete = 1) = (p.expired_at IS NOT NULL))",
    ),
    "evidence": Rule(_VAULT, f"{_VAULT} AND (source IS NULL OR {_SOURCE})"),
    "runs": Rule(
        f"{_SOURCE} OR {_VAULT} OR {_HOST}",
        *(f"{_HOST} AND (source IS NULL OR {_SOURCE}) AND (vault IS NULL OR {_VAULT})",) * 2,
    ),
    "vaults": Rule(*(_own("name", "vault"),) * 3, columns=("copy_count", "first_copy_at", "away_since")),
    "holds": Rule(_SOURCE),
    "retentions": Rule(_SOURCE, f"{_SOURCE} AND approved = 0"),
    "pack_readings": _all(_VAULT),
    "vault_traffic": Rule(_VAULT, _VAULT, _VAULT),
    "records": Rule(_SIGNER, _SIGNER),
    "vault_heads": Rule(*(f"{_VAULT} AND {_SIGNER}",) * 3),
    "heartbeat": _all(f"{_HOST} AND (name = host OR starts_with(name, host || '#') OR starts_with(name, host || '/'))"),
    "streams": Rule(_SOURCE, _SOURCE, _SOURCE),
    "due_times": _all(_PLACE),
    "claims": _all(_CLAIM),
    "leases": _NOTHING,  # a host plans for itself alone
    "policies": Rule(_own("digest", "policy"), "true"),
    # What is the administrator's alone: whom to tell, what is approved, how the whole was judged, and who is a host.
    "alerts": _NOTHING,
    "tellings": _NOTHING,
    "last_tellings": _NOTHING,
    "reached": _NOTHING,
    "approvals": _NOTHING,
    "governing_documents": _NOTHING,
    "governing_rules": _NOTHING,
    "audits": _NOTHING,
    "audit_findings": _NOTHING,
    "hosts": _NOTHING,
    "host_names": _NOTHING,
}
"""Every table of the catalog. The rows that no condition lets through are not there, to a host."""

# A host takes the lock by the row of the version, and cannot alter it.
_LOCKED: Final = ("alembic_version",)

_FUNCTIONS: Final = """
    CREATE OR REPLACE FUNCTION {schema}.own_names(wanted text) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        SELECT coalesce(array_agg(found.name), ARRAY[]::text[]) FROM (
            SELECT n.name FROM {schema}.host_names n JOIN {schema}.hosts h ON h.name = n.host
            WHERE h.role = session_user AND h.revoked_at IS NULL AND n.kind = wanted
            UNION ALL
            SELECT h.name FROM {schema}.hosts h
            WHERE h.role = session_user AND h.revoked_at IS NULL AND wanted = 'host') found
    $body$;

    CREATE OR REPLACE FUNCTION {schema}.is_new_reference(at text, wanted text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        SELECT NOT EXISTS (SELECT 1 FROM {schema}.copies c WHERE c.vault = at AND c.reference = wanted)
    $body$;

    CREATE OR REPLACE FUNCTION {schema}.note_joined() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        UPDATE {schema}.hosts SET joined_at = to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        WHERE role = session_user AND joined_at IS NULL AND revoked_at IS NULL;
        RETURN FOUND;
    END $body$;

    -- A host does not see the runs of others, so it cannot know the next number.
    CREATE OR REPLACE FUNCTION {schema}.number_run() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        IF EXISTS (SELECT 1 FROM {schema}.hosts h WHERE h.role = session_user) THEN
            NEW.id := (SELECT coalesce(max(r.id), 0) + 1 FROM {schema}.runs r);
        END IF;
        RETURN NEW;
    END $body$;
    DROP TRIGGER IF EXISTS number_run ON {schema}.runs;
    CREATE TRIGGER number_run BEFORE INSERT ON {schema}.runs FOR EACH ROW EXECUTE FUNCTION {schema}.number_run();

    -- A policy is of the host that brought it in, and was not there: nobody gets to read another's by its digest.
    CREATE OR REPLACE FUNCTION {schema}.note_policy() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        INSERT INTO {schema}.host_names (kind, name, host)
        SELECT 'policy', NEW.digest, h.name FROM {schema}.hosts h WHERE h.role = session_user
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $body$;
    DROP TRIGGER IF EXISTS note_policy ON {schema}.policies;
    CREATE TRIGGER note_policy AFTER INSERT ON {schema}.policies FOR EACH ROW
        EXECUTE FUNCTION {schema}.note_policy();
    """

_RULED: Final = hashlib.sha256(
    repr([(name, astuple(rule)) for name, rule in RULES.items()]).encode() + _FUNCTIONS.encode()
)
"""By which a catalog tells whether these very rules are in force there."""


def role_of(schema: str, host: str) -> str:
    """The role of a host."""
    return f"{schema[:30]}_{re.sub(r'[^a-z0-9]', '_', host.lower())}"[:63]


def group_of(schema: str) -> str:
    """The role that all hosts of a catalog are members of."""
    return f"{schema[:56]}_hosts"


@contextmanager
def _session(url: str, password: Password | None) -> "Iterator[tuple[psycopg.Connection[Any], Address]]":
    address = Address.of(url, password)
    with translated(address):
        session = ServerDatabase(address).connect()
        try:
            yield session, address
        finally:
            session.close()


def secure(url: str, password: Password | None = None) -> None:
    """Put the rules for hosts in force, all at once; where they are, nothing is done. Raises CatalogError."""
    with _session(url, password) as (session, address):
        if _in_force(session, address.schema) == _RULED.hexdigest():
            return
        schema, group = sql.Identifier(address.schema), sql.Identifier(group_of(address.schema))
        if session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (group_of(address.schema),)).fetchone() is None:
            _making_roles(session, sql.SQL("CREATE ROLE {} NOLOGIN").format(group), address.place)
        with session.transaction():
            session.execute(f"SET LOCAL lock_timeout = {BUSY_SECONDS * 1000}")
            session.execute("SELECT version_num FROM alembic_version FOR UPDATE")  # no host writes meanwhile
            session.execute(sql.SQL(_FUNCTIONS).format(schema=schema))
            session.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, group))
            for table, rule in RULES.items():
                _rule(session, schema, group, table, rule)
            session.execute(
                sql.SQL("COMMENT ON FUNCTION {}.own_names(text) IS {}").format(schema, sql.Literal(_RULED.hexdigest()))
            )


def secure_again(url: str, password: Password | None = None) -> None:
    """The same after a migration, where there are hosts."""
    with _session(url, password) as (session, address):
        known = _in_force(session, address.schema)
    if known is not None:
        secure(url, password)


def _in_force(session: "psycopg.Connection[Any]", schema: str) -> str | None:
    row = session.execute(
        """
        SELECT coalesce(obj_description(p.oid), '') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = %s AND p.proname = 'own_names'
        """,
        (schema,),
    ).fetchone()
    return None if row is None else str(row[0])


def _rule(
    session: "psycopg.Connection[Any]", schema: sql.Identifier, group: sql.Identifier, table: LiteralString, rule: Rule
) -> None:
    named = sql.SQL("{}.{}").format(schema, sql.Identifier(table))
    session.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(named))
    session.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(named, group))
    # A row that is out of reach is not there, so that a statement about all rows is one about a host's own.
    session.execute(sql.SQL("GRANT SELECT, DELETE ON {} TO {}").format(named, group))
    columns = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, rule.columns)))
    session.execute(
        sql.SQL("GRANT UPDATE{} ON {} TO {}").format(columns if rule.columns else sql.SQL(""), named, group)
    )
    session.execute(sql.SQL("GRANT INSERT ON {} TO {}").format(named, group))
    for what, condition in (
        ("select", rule.read),
        ("insert", rule.add),
        ("update", rule.change),
        ("delete", rule.remove),
    ):
        policy = sql.Identifier(f"hosts_{what}")
        session.execute(sql.SQL("DROP POLICY IF EXISTS {} ON {}").format(policy, named))
        if condition is None:
            continue
        checked = sql.SQL("WITH CHECK ({})").format(sql.SQL(condition))
        used = sql.SQL("USING ({})").format(sql.SQL(condition))
        if what == "update":
            used = used + sql.SQL(" WITH CHECK (false)" if table in _LOCKED else "")
        session.execute(
            sql.SQL("CREATE POLICY {} ON {} FOR {} TO {} {}").format(
                policy, named, sql.SQL(what), group, checked if what == "insert" else used
            )
        )


# -- roles -------------------------------------------------------------------------------------------------------------


def let_in(url: str, role: str, secret: str, password: Password | None = None) -> None:
    """Make the role of a host, or give the one that is there this secret, and end its sessions.

    What travels and what the server's log may hold is what it keeps of the secret, not the secret. Raises CatalogError.
    """
    with _session(url, password) as (session, address):
        kept = session.pgconn.encrypt_password(secret.encode(), role.encode(), b"scram-sha-256").decode()
        named, group = sql.Identifier(role), sql.Identifier(group_of(address.schema))
        there = session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        how = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}" if there is None else "ALTER ROLE {} LOGIN PASSWORD {}")
        _making_roles(session, how.format(named, sql.Literal(kept)), address.place)
        _making_roles(session, sql.SQL("GRANT {} TO {}").format(group, named), address.place)
        if there is not None:
            _end_sessions(session, role)


def shut_out(url: str, role: str, password: Password | None = None) -> None:
    """Let a role in no longer, and end its sessions; fine when there is none. Raises CatalogError."""
    with _session(url, password) as (session, address):
        if session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
            return
        named, group = sql.Identifier(role), sql.Identifier(group_of(address.schema))
        _making_roles(session, sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(named), address.place)
        _making_roles(session, sql.SQL("REVOKE {} FROM {}").format(group, named), address.place)
        _end_sessions(session, role)


def is_taken(url: str, role: str, password: Password | None = None) -> bool:
    """Whether there is a role of this name."""
    with _session(url, password) as (session, _):
        return session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None


def join(url: str, password: Password | None = None) -> None:
    """Note, as a host, that it has joined. Raises RefusedError when that was done before, CatalogError."""
    with _session(url, password) as (session, address):
        asked = sql.SQL("SELECT {}.note_joined()").format(sql.Identifier(address.schema))
        row = session.execute(asked).fetchone()
        if not (row and row[0]):
            raise RefusedError(
                "This enrolment was used before, or the host is revoked",
                why="each enrolment lets one host join, once",
                todo="Have the administrator run 'cto.backups host enrol' again: what the old one opened ends then.",
            )


def _making_roles(session: "psycopg.Connection[Any]", statement: sql.Composed, place: str) -> None:
    try:
        session.execute(statement)
    except errors.InsufficientPrivilege as error:
        raise CatalogError(
            f"The login at the catalog {place} may not make roles for hosts",
            why=" ".join(str(error.diag.message_primary).split()),
            todo="As whoever administers the server: ALTER ROLE … CREATEROLE, for the role in the policy's `catalog:`.",
        ) from None


def _end_sessions(session: "psycopg.Connection[Any]", role: str) -> None:
    """End what a role has open. Where that is not allowed, its sessions see no row any more all the same."""
    try:
        with session.transaction():
            # Who is a member of a role may end its sessions.
            session.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
            session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
            session.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(sql.Identifier(role)))
    except psycopg.Error:
        return
