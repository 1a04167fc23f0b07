//! Tables and functions that somebody else may have made: as roles may share a database,
//! one could make them before the first start, and then read the hashes and change what is
//! written.

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
             SELECT 'table ' || c.relname, c.relowner, c.relkind NOT IN ('r', 'p')
                 OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
                 OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid)
             FROM unnest($1) AS name JOIN pg_class c ON c.oid = to_regclass(name)
             UNION ALL
             SELECT 'function ' || p.proname, p.proowner, FALSE
             FROM unnest($2) AS name JOIN pg_proc p ON p.oid = to_regprocedure(name))
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
