"""What a database and a server are made of, as lines of text without any number that another server would give anew.

Grants count as they are in force: what stands for the default of a kind of object is written out. What belongs to an
extension is its own; it comes with the extension.
"""

from typing import Final

_USER = "{0}.nspname !~ '^pg_(toast|temp)' AND {0}.nspname NOT IN ('pg_catalog', 'information_schema')"
_NO_MEMBER = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{1}'::regclass AND e.objid = {0}.oid AND e.deptype = 'e')"
)


def _grants(acl: str, kind: str, owner: str) -> str:
    granted = f"coalesce({acl}, acldefault('{kind}', {owner}))"
    return f"(SELECT string_agg(g::text, ',' ORDER BY g::text) FROM unnest({granted}) g)"


_N = _USER.format("n")
_CLASS = _NO_MEMBER.format("c", "pg_class")
_PROC = _NO_MEMBER.format("p", "pg_proc")
_TYPE = _NO_MEMBER.format("t", "pg_type")
_SCHEMA = _NO_MEMBER.format("n", "pg_namespace")

LINES: Final[dict[str, str]] = {
    # A server makes `public` in each database, also where a dump has none: while it is empty, that is no difference.
    "schemas": f"""
        SELECT n.nspname, n.nspowner::regrole, {_grants("n.nspacl", "n", "n.nspowner")}
        FROM pg_namespace n WHERE {_N} AND {_SCHEMA} AND NOT (n.nspname = 'public' AND n.oid = 2200
            AND n.nspacl::text IN (
                '{{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}}',
                (SELECT format('{{%1$I=UC/%1$I,=UC/%1$I}}', rolname) FROM pg_roles WHERE oid = 10))
            AND NOT EXISTS (
                SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid))""",
    "relations": f"""
        SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.relowner::regrole, c.relrowsecurity,
            c.relforcerowsecurity, c.relreplident,
            (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) o),
            {_grants("c.relacl", "r", "c.relowner")}, c.relispartition, pg_get_expr(c.relpartbound, c.oid),
            (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) FROM pg_inherits i
                WHERE i.inhrelid = c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {_N} AND {_CLASS}""",
    "columns": f"""
        SELECT n.nspname, c.relname, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
            pg_get_expr(d.adbin, d.adrelid), (SELECT collname FROM pg_collation WHERE oid = a.attcollation),
            (SELECT string_agg(g::text, ',' ORDER BY g::text) FROM unnest(a.attacl) g)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't' AND a.attnum > 0
            AND NOT a.attisdropped AND {_N} AND {_CLASS}""",
    "constraints": f"""
        SELECT n.nspname, coalesce(nullif(c.conrelid, 0)::regclass::text, c.contypid::regtype::text), c.conname,
            c.contype, c.convalidated, pg_get_constraintdef(c.oid)
        FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
        WHERE {_N} AND NOT (c.contype = 'f' AND c.conparentid <> 0)
            AND {_NO_MEMBER.format("c", "pg_constraint")} AND NOT EXISTS (
            SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.conrelid
                AND e.deptype = 'e')""",
    "indexes": f"""
        SELECT n.nspname, c.relname, i.indisvalid, i.indisunique, i.indisreplident, i.indisclustered,
            pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE (i.indisvalid OR c.relkind = 'p') AND {_N} AND {_CLASS}""",
    "functions": f"""
        SELECT p.oid::regprocedure, p.prokind, p.proowner::regrole, {_grants("p.proacl", "f", "p.proowner")},
            CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_N} AND {_PROC}""",
    "views": f"""
        SELECT n.nspname, c.relname, c.relkind, pg_get_viewdef(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND {_N} AND {_CLASS}""",
    "triggers": f"""
        SELECT t.tgrelid::regclass, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal AND {_N} AND {_CLASS}""",
    "rules": f"""
        SELECT r.ev_class::regclass, r.rulename, r.ev_enabled, pg_get_ruledef(r.oid)
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE r.rulename <> '_RETURN' AND {_N} AND {_CLASS}""",
    "policies": """
        SELECT p.polrelid::regclass, p.polname, p.polcmd, p.polpermissive,
            (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ',' ORDER BY r::regrole::text)
                FROM unnest(p.polroles) r),
            pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
        FROM pg_policy p""",
    "types": f"""
        SELECT n.nspname, t.typname, t.typtype, t.typowner::regrole, {_grants("t.typacl", "T", "t.typowner")},
            format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
            (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
            (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_class c ON c.oid = t.typrelid
        WHERE t.typtype IN ('c', 'd', 'e', 'r') AND (c.oid IS NULL OR c.relkind = 'c') AND {_N} AND {_TYPE}""",
    "sequences": f"""
        SELECT s.seqrelid::regclass, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
            s.seqcache, s.seqcycle, c.relowner::regrole, {_grants("c.relacl", "s", "c.relowner")}
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_N} AND {_CLASS}""",
    "extensions": "SELECT extname, extnamespace::regnamespace FROM pg_extension",
    "event triggers": "SELECT evtname, evtevent, evtenabled, evtfoid::regproc, evttags FROM pg_event_trigger",
    "publications": """
        SELECT p.pubname, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
            (SELECT string_agg(schemaname || '.' || tablename, ',' ORDER BY schemaname, tablename)
                FROM pg_publication_tables t WHERE t.pubname = p.pubname)
        FROM pg_publication p""",
    "foreign servers": """
        SELECT srvname, srvowner::regrole, srvtype, srvversion, array_to_string(srvoptions, ',')
        FROM pg_foreign_server""",
    "foreign data wrappers": """
        SELECT fdwname, fdwowner::regrole, array_to_string(fdwoptions, ',') FROM pg_foreign_data_wrapper""",
    "foreign tables": """
        SELECT ftrelid::regclass, (SELECT srvname FROM pg_foreign_server WHERE oid = ftserver),
            array_to_string(ftoptions, ',') FROM pg_foreign_table""",
    # A role that may not see the options of a mapping dumps it without them, and says nothing: this shows it.
    "user mappings": """
        SELECT s.srvname, CASE WHEN m.umuser = 0 THEN 'public' ELSE m.umuser::regrole::text END,
            array_to_string(m.umoptions, ',')
        FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = m.umserver""",
    "subscriptions": """
        SELECT subname, subowner::regrole, subslotname, array_to_string(subpublications, ',') FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    "comments": """
        SELECT i.type, i.identity, d.description
        FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        WHERE i.schema IS NOT NULL AND i.schema !~ '^pg_' AND i.schema <> 'information_schema'
            AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid
                AND e.deptype = 'e')""",
    "default privileges": """
        SELECT d.defaclrole::regrole, d.defaclnamespace::regnamespace, d.defaclobjtype,
            (SELECT string_agg(g::text, ',' ORDER BY g::text) FROM unnest(d.defaclacl) g)
        FROM pg_default_acl d""",
}
"""By kind, the statement that tells a line of each such object. All is qualified: the search path is pg_catalog's."""

DATABASE: Final = """
    SELECT pg_encoding_to_char(encoding), datcollate, datctype, datdba::regrole, datconnlimit,
        (SELECT string_agg(g::text, ',' ORDER BY g::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) g),
        (SELECT string_agg(
                coalesce(nullif(s.setrole, 0)::regrole::text, '') || ':' || array_to_string(s.setconfig, ','),
                ';' ORDER BY s.setrole::regrole::text)
            FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)
    FROM pg_database d WHERE datname = current_database()
"""
"""The database itself: encoding, locale, owner, grants, settings."""

GLOBALS: Final[dict[str, str]] = {
    "roles": """
        SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
            rolconnlimit, rolvaliduntil::text FROM pg_roles WHERE rolname !~ '^pg_'""",
    "memberships": "SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members",
    "role settings": """
        SELECT nullif(setrole, 0)::regrole, array_to_string(setconfig, ',') FROM pg_db_role_setting
        WHERE setdatabase = 0""",
    "tablespaces": "SELECT spcname, spcowner::regrole FROM pg_tablespace WHERE spcname !~ '^pg_'",
}
"""What belongs to the whole server."""
