//! Tables and functions that somebody else may have made, or could make: as roles may share a
//! database, one could make them before the first start, and then read the hashes and change
//! what is written; or later, in a schema where PostgreSQL looks before it comes to ours. The
//! statements here call functions and operators by their exact types, of which others cannot
//! make a better match.

use tokio_postgres::types::Type;

use super::connection::Database;
use crate::store::{OpenError, StoreError};

/// Finds one of `tables` or `functions` that belongs to a role which this one is no member
/// of and which owns neither the database nor, as a superuser, everything; or a view in a
/// table's place; or a trigger or rule on it.
pub(super) async fn find(
    database: &Database,
    tables: &[&str],
    functions: &[&str],
) -> Result<Option<OpenError>, StoreError> {
    let sql = "WITH found (name, owner, is_rewritten) AS (
             SELECT 'table ' || c.relname::text, c.relowner, c.relkind NOT IN ('r', 'p')
                 OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
                 OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid)
             FROM pg_catalog.unnest($1) AS name JOIN pg_class c ON c.oid = to_regclass(name)::oid
             UNION ALL
             SELECT 'function ' || p.proname::text, p.proowner, FALSE
             FROM pg_catalog.unnest($2) AS name JOIN pg_proc p ON p.oid = to_regprocedure(name)::oid)
         SELECT f.name, pg_get_userbyid(f.owner)::text AS owner, f.is_rewritten,
             pg_has_role(f.owner, 'MEMBER') OR d.datdba = f.owner OR r.rolsuper AS is_owned
         FROM found f JOIN pg_database d ON d.datname = current_database()
             LEFT JOIN pg_roles r ON r.oid = f.owner";
    let params = &[
        (&tables as _, Type::TEXT_ARRAY),
        (&functions as _, Type::TEXT_ARRAY),
    ];
    let rows = database.rows(sql, params).await?;
    for row in rows {
        let (name, owner): (String, String) = (row.try_get("name")?, row.try_get("owner")?);
        let (is_owned, is_rewritten): (bool, bool) =
            (row.try_get("is_owned")?, row.try_get("is_rewritten")?);
        if !is_owned {
            return Ok(Some(OpenError::Server(
                format!(
                    "its {name} belongs to the role {owner}, which can change all that is in it"
                ),
                "find out who made it, then drop it or make the user of DATABASE_URL its owner, and revoke CREATE on the schema from PUBLIC",
            )));
        }
        if is_rewritten {
            return Ok(Some(OpenError::Server(
                format!(
                    "its {name} has a trigger or rule, or is a view, which is not of this service and may change what is written"
                ),
                "find out who made it, then drop it",
            )));
        }
    }
    Ok(None)
}

/// A role that can create objects in a schema ahead on the `search_path`, which PostgreSQL
/// would take for this service's: search_path hijacking, a kind that CVE-2018-1058 describes.
#[derive(Debug)]
pub struct UntrustedRole {
    pub what: String,
    pub advice: &'static str,
}

/// Finds a role that may make tables or functions in a schema of the search path (a function
/// counts in whichever it is), or in a new schema, unless the path begins with the one of the
/// tables. Not those of which this role is a member or the other way round, the owners of the
/// database and of the tables' schema, and superusers. Roles that could become such a one, by
/// SET ROLE or CREATEROLE, are not found.
pub(super) async fn find_untrusted_role(
    database: &Database,
) -> Result<Option<UntrustedRole>, StoreError> {
    let sql = "WITH home AS (
             SELECT n.oid, n.nspname, n.nspowner FROM pg_namespace n
             WHERE n.oid = coalesce(
                 (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('users')::oid),
                 (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))),
         path AS (SELECT replace(btrim(split_part(current_setting('search_path'), ',', 1), ' \"'),
             '$user', current_user::text) AS first)
         SELECT r.rolname::text AS role, n.nspname::text AS schema
         FROM pg_roles r
             JOIN pg_roles me ON me.rolname = current_user
             JOIN pg_database d ON d.datname = current_database()
             CROSS JOIN home h
             CROSS JOIN path p
             LEFT JOIN pg_namespace n ON n.nspname = ANY (current_schemas(FALSE))
                 AND has_schema_privilege(r.oid, n.oid, 'CREATE')
         WHERE r.rolcanlogin AND NOT r.rolsuper AND r.oid <> me.oid
             -- A superuser counts as a member of all.
             AND (me.rolsuper OR NOT pg_has_role(r.oid, 'MEMBER'))
             AND NOT pg_has_role(r.oid, me.oid, 'MEMBER')
             AND NOT pg_has_role(r.oid, d.datdba, 'MEMBER')
             AND NOT pg_has_role(r.oid, h.nspowner, 'MEMBER')
             AND has_database_privilege(r.oid, d.oid, 'CONNECT')
             AND (n.oid IS NOT NULL
                 OR has_database_privilege(r.oid, d.oid, 'CREATE') AND p.first <> h.nspname)
         ORDER BY r.rolname, n.nspname LIMIT 1";
    let rows = database.rows(sql, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (role, schema): (String, Option<String>) = (row.try_get("role")?, row.try_get("schema")?);
    let (place, advice) = match schema {
        Some(schema) => (
            format!("the schema {schema}"),
            "revoke CREATE on that schema from the role and from PUBLIC",
        ),
        None => (
            "a new schema that comes first".to_owned(),
            "revoke CREATE on the database from the role and from PUBLIC, or set search_path to the schema of the tables for the user of DATABASE_URL",
        ),
    };
    Ok(Some(UntrustedRole {
        what: format!(
            "the role {role} may make tables and functions in {place}, which PostgreSQL would take for this service's"
        ),
        advice,
    }))
}
