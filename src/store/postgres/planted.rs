//! Tables that somebody else may have made: as roles may share a database, one could make
//! the tables before the first start, and then read the hashes and change what is written.

use tokio_postgres::types::Type;

use super::connection::Database;
use super::schema::{WRITTEN, engine};
use crate::store::OpenError;

/// Refuses tables of a role that this one is no member of and that owns neither the
/// database nor, as a superuser, everything, views in their place, and triggers and rules on them.
pub(super) async fn check(database: &Database) -> Result<(), OpenError> {
    let sql = "SELECT c.relname::text AS name, pg_get_userbyid(c.relowner)::text AS owner,
             c.relkind IN ('r', 'p') AS is_table,
             pg_has_role(c.relowner, 'MEMBER') OR d.datdba = c.relowner OR r.rolsuper AS is_owned,
             EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)
                 OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid) AS is_rewritten
         FROM unnest($1) AS name JOIN pg_class c ON c.oid = to_regclass(name)
             JOIN pg_database d ON d.datname = current_database()
             LEFT JOIN pg_roles r ON r.oid = c.relowner";
    let names = [&WRITTEN[..], &["schema_migrations"]].concat();
    let rows = database.rows(sql, &[(&names, Type::TEXT_ARRAY)]).await;
    for row in rows.map_err(engine)? {
        let found = || {
            let (name, owner): (String, String) = (row.try_get("name")?, row.try_get("owner")?);
            let is_sound = row.try_get("is_table")? && !row.try_get::<_, bool>("is_rewritten")?;
            Ok((name, owner, is_sound, row.try_get::<_, bool>("is_owned")?))
        };
        let (name, owner, is_sound, is_owned) = found().map_err(engine)?;
        if !is_owned {
            return Err(OpenError::Server(
                format!(
                    "its table {name} belongs to the role {owner}, which can change all that is in it"
                ),
                "find out who made it, then drop it or make the user of DATABASE_URL its owner, and revoke CREATE on the schema from PUBLIC",
            ));
        }
        if !is_sound {
            return Err(OpenError::Server(
                format!(
                    "its table {name} has a trigger or rule, or is a view, which is not of this service and may change what is written"
                ),
                "find out who made it, then drop it",
            ));
        }
    }
    Ok(())
}
