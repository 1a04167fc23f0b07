//! The tables `keys`, `key_times`, `withdrawn_keys`, `earlier_keys` and `key_version`.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::adopted_keys;
use super::connection::{Database, NOW, Transaction, only, time};
use super::key_events::{self, insert as event};
use crate::clock::UnixTime;
use crate::lifecycle::{KeySpan, Kid};
use crate::store::key_row::{Columns, IN_ORDER, SELECT_KEY, SELECT_KEY_OF_EARLIER_SCHEMA};
use crate::store::{
    KEPT_EVENTS, KeyChange, KeyEventKind, KeyRow, KeyRows, KeySelection, NewKey, StoreError,
};

impl PostgresStore {
    pub async fn keys_at(&self, now: UnixTime, expired: usize) -> Result<KeyRows, StoreError> {
        let (sql, now, expired) = at_moment(now, expired);
        let params = &[(&now as _, Type::INT8), (&expired as _, Type::INT8)];
        let rows = self.rows(&sql, params).await?;
        collect(&rows, &self.rows(adopted_keys::SELECT, &[]).await?)
    }

    pub async fn all_keys(&self) -> Result<KeyRows, StoreError> {
        all(&self.database).await
    }

    /// The time is the database's.
    pub async fn change_keys<T, E>(
        &self,
        selection: KeySelection,
        decide: impl FnOnce(&KeyRows, UnixTime) -> Result<(KeyChange, T), E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let mut work = self.database.begin().await?;
        let outcome = async {
            let now = lock(&mut work).await?;
            let rows = match selection {
                KeySelection::All => work.rows(&select_all(), &[]).await?,
                KeySelection::Unexpired { and_expired } => {
                    let (sql, now, expired) = at_moment(now, and_expired);
                    let params = &[(&now as _, Type::INT8), (&expired as _, Type::INT8)];
                    work.rows(&sql, params).await?
                }
            };
            let adopted = work.rows(adopted_keys::SELECT, &[]).await?;
            let rows = collect(&rows, &adopted)?;
            // It may open every key.
            let decided = tokio::task::spawn_blocking(move || decide(&rows, now)).await;
            match decided.map_err(|e| StoreError::Unavailable(e.to_string()))? {
                Ok((change, found)) => {
                    apply(&mut work, &change, now).await?;
                    Ok(Ok(found))
                }
                Err(e) => Ok(Err(e)),
            }
        };
        let outcome = outcome.await;
        work.finish(outcome, 1).await?
    }

    pub async fn prune_keys(
        &self,
        before: UnixTime,
        keep: Option<Kid>,
        now: UnixTime,
    ) -> Result<usize, StoreError> {
        let mut work = self.database.begin().await?;
        let outcome = prune(&mut work, before, keep, now).await;
        work.finish(outcome, 1).await
    }

    pub async fn can_prune_keys(
        &self,
        before: UnixTime,
        keep: Option<Kid>,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM keys WHERE exp < $1 AND kid IS DISTINCT FROM $2
             UNION ALL SELECT 1 FROM adopted_keys WHERE exp < $1 LIMIT 1";
        let (before, keep) = (before.as_secs(), keep.map(Kid::as_i64));
        let params = &[(&before as _, Type::INT8), (&keep as _, Type::INT8)];
        Ok(!self.rows(sql, params).await?.is_empty())
    }

    pub async fn note_thumbprints(&self, found: Vec<(Kid, Kid)>) -> Result<(), StoreError> {
        let (kids, prints): (Vec<_>, Vec<_>) = found
            .iter()
            .map(|(kid, print)| (kid.as_i64(), print.as_i64()))
            .unzip();
        let mut work = self.database.begin().await?;
        let outcome = work
            .rows(
                "UPDATE earlier_keys SET thumbprint = f.print
                 FROM unnest($1, $2) AS f (kid, print)
                 WHERE earlier_keys.kid = f.kid AND thumbprint IS NULL",
                &[(&kids, Type::INT8_ARRAY), (&prints, Type::INT8_ARRAY)],
            )
            .await;
        work.finish(outcome, 1).await.map(drop)
    }
}

/// All keys of a database whose schema may be older than this version's.
pub(super) async fn all(database: &Database) -> Result<KeyRows, StoreError> {
    let rows = of_any_schema(database).await?;
    let adopted = match adopted_keys::exist(database).await? {
        true => database.rows(adopted_keys::SELECT, &[]).await?,
        false => Vec::new(),
    };
    collect(&rows, &adopted)
}

async fn of_any_schema(database: &Database) -> Result<Vec<Row>, StoreError> {
    let newest = database.rows(&select_all(), &[]).await;
    // Refused for a table or a column that it lacks.
    if matches!(newest, Err(StoreError::Refused(_))) {
        for sql in SELECT_KEY_OF_EARLIER_SCHEMA {
            match database.rows(sql, &[]).await {
                Err(StoreError::Refused(_)) => {}
                found => return found,
            }
        }
    }
    newest
}

pub(super) fn select_all() -> String {
    format!("{SELECT_KEY} {IN_ORDER}")
}

fn at_moment(now: UnixTime, expired: usize) -> (String, i64, i64) {
    let sql = format!(
        "SELECT * FROM ({SELECT_KEY} WHERE k.exp > $1) unexpired
         UNION ALL
         SELECT * FROM ({SELECT_KEY} WHERE k.exp <= $1
             ORDER BY k.exp DESC, k.kid DESC LIMIT $2) expired
         ORDER BY exp, kid"
    );
    (
        sql,
        now.as_secs(),
        i64::try_from(expired).unwrap_or(i64::MAX),
    )
}

pub(super) fn collect(rows: &[Row], adopted: &[Row]) -> Result<KeyRows, StoreError> {
    Ok(KeyRows {
        rows: rows.iter().map(KeyRow::read).collect::<Result<_, _>>()?,
        // Columns have types here.
        bad: Vec::new(),
        adopted: adopted_keys::collect(adopted)?,
    })
}

impl Columns for Row {
    fn integer(&self, _: &'static str, name: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(name)?)
    }

    fn flag(&self, name: &'static str) -> Result<bool, StoreError> {
        Ok(self.try_get(name)?)
    }

    fn bytes(&self, _: &'static str, name: &'static str) -> Result<Vec<u8>, StoreError> {
        Ok(self.try_get(name)?)
    }
}

/// Waits for the lock under which keys are changed; then reads the clock, since the wait
/// may have been long.
async fn lock(work: &mut Transaction<'_>) -> Result<UnixTime, StoreError> {
    only(
        &work
            .rows("SELECT version FROM key_version FOR UPDATE", &[])
            .await?,
    )?;
    let rows = work.rows(&format!("SELECT {NOW}"), &[]).await?;
    time(&rows, "now")
}

/// Has the other replicas load the keys again.
async fn announce(work: &mut Transaction<'_>) -> Result<(), StoreError> {
    let sql = "UPDATE key_version SET version = version + 1";
    work.rows(sql, &[]).await.map(drop)
}

async fn apply(
    work: &mut Transaction<'_>,
    change: &KeyChange,
    now: UnixTime,
) -> Result<(), StoreError> {
    for &kid in &change.revoke {
        revoke(work, kid, &change.reason, now).await?;
    }
    for &(kid, span) in &change.retime {
        retime(work, kid, span).await?;
    }
    if let Some(key) = &change.insert {
        insert(work, key).await?;
        event(work, key.kid, KeyEventKind::Created, now, None).await?;
    }
    for (kid, sealed) in &change.reencrypt {
        let number = kid.as_i64();
        work.rows(
            "UPDATE keys SET key = $1 WHERE kid = $2",
            &[(sealed, Type::BYTEA), (&number, Type::INT8)],
        )
        .await?;
        event(work, *kid, KeyEventKind::Reencrypted, now, None).await?;
    }
    adopted_keys::apply(work, change, now).await?;
    if concerns_others(change) {
        announce(work).await?;
    }
    Ok(())
}

/// Does another replica have to load the keys again at once?
fn concerns_others(change: &KeyChange) -> bool {
    let KeyChange {
        insert,
        revoke,
        // Part of the events.
        reason: _,
        reencrypt,
        retime,
        adopt,
        revoke_adopted,
        // The same public keys, which other replicas have open: they load the rows at
        // their next tick.
        reencrypt_adopted: _,
    } = change;
    let is_change_of_own =
        insert.is_some() || !revoke.is_empty() || !reencrypt.is_empty() || !retime.is_empty();
    is_change_of_own || !adopt.is_empty() || !revoke_adopted.is_empty()
}

async fn revoke(
    work: &mut Transaction<'_>,
    kid: Kid,
    reason: &str,
    now: UnixTime,
) -> Result<(), StoreError> {
    let (number, at) = (kid.as_i64(), now.as_secs());
    if event(work, kid, KeyEventKind::Revoked, now, Some(reason)).await? {
        // Readers that know only the columns of `keys` see it expired.
        work.rows(
            "UPDATE keys SET exp = least(exp, $1) WHERE kid = $2",
            &[(&at, Type::INT8), (&number, Type::INT8)],
        )
        .await?;
    }
    work.rows(
        "INSERT INTO withdrawn_keys (kid, at)
         SELECT thumbprint, $1 FROM earlier_keys WHERE kid = $2 AND thumbprint IS NOT NULL
         ON CONFLICT (kid) DO NOTHING",
        &[(&at, Type::INT8), (&number, Type::INT8)],
    )
    .await
    .map(drop)
}

async fn retime(work: &mut Transaction<'_>, kid: Kid, span: KeySpan) -> Result<(), StoreError> {
    let kid = kid.as_i64();
    let [exp, created, signs] =
        [span.expires_at, span.created_at, span.signs_from].map(UnixTime::as_secs);
    work.rows(
        "UPDATE keys SET exp = $1 WHERE kid = $2",
        &[(&exp, Type::INT8), (&kid, Type::INT8)],
    )
    .await?;
    work.rows(
        "UPDATE key_times SET created_at = $1, signs_from = $2 WHERE kid = $3",
        &[
            (&created, Type::INT8),
            (&signs, Type::INT8),
            (&kid, Type::INT8),
        ],
    )
    .await
    .map(drop)
}

async fn insert(work: &mut Transaction<'_>, key: &NewKey) -> Result<(), StoreError> {
    let (kid, exp) = (key.kid.as_i64(), key.span.expires_at.as_secs());
    work.rows(
        "INSERT INTO keys (kid, key, exp) VALUES ($1, $2, $3)",
        &[
            (&kid, Type::INT8),
            (&key.sealed, Type::BYTEA),
            (&exp, Type::INT8),
        ],
    )
    .await?;
    let (names, values) = key.times();
    let marks: Vec<_> = (1..=values.len()).map(|n| format!("${n}")).collect();
    let (names, marks) = (names.join(", "), marks.join(", "));
    let sql = format!("INSERT INTO key_times ({names}) VALUES ({marks})");
    let params: Vec<_> = values.iter().map(|it| (it as _, Type::INT8)).collect();
    work.rows(&sql, &params).await.map(drop)
}

/// Records the first use of keys, and those that are never published again.
pub(super) async fn mark(
    work: &mut Transaction<'_>,
    first_use: &[(Kid, UnixTime)],
    withdraw: &[(Kid, UnixTime)],
) -> Result<(), StoreError> {
    if first_use.is_empty() && withdraw.is_empty() {
        return Ok(());
    }
    // All replicas begin to use a key at once: the lock is for the first of them.
    if are_marked(work, first_use, withdraw).await? {
        return Ok(());
    }
    // In the order in which whoever changes keys takes its locks.
    lock(work).await?;
    for &(kid, at) in first_use {
        event(work, kid, KeyEventKind::FirstSigned, at, None).await?;
    }
    for &(kid, at) in withdraw {
        let (kid, at) = (kid.as_i64(), at.as_secs());
        work.rows(
            "INSERT INTO withdrawn_keys (kid, at) VALUES ($1, $2) ON CONFLICT (kid) DO NOTHING",
            &[(&kid, Type::INT8), (&at, Type::INT8)],
        )
        .await?;
    }
    announce(work).await
}

async fn are_marked(
    work: &mut Transaction<'_>,
    first_use: &[(Kid, UnixTime)],
    withdraw: &[(Kid, UnixTime)],
) -> Result<bool, StoreError> {
    let kids = |marks: &[(Kid, UnixTime)]| marks.iter().map(|(kid, _)| kid.as_i64()).collect();
    let (used, withdrawn): (Vec<_>, Vec<_>) = (kids(first_use), kids(withdraw));
    let rows = work
        .rows(
            "SELECT NOT EXISTS (SELECT 1 FROM unnest($1) AS f (kid) WHERE NOT EXISTS (
                     SELECT 1 FROM key_events e WHERE e.kid = f.kid AND e.event = 'first_signed'))
                 AND NOT EXISTS (SELECT 1 FROM unnest($2) AS f (kid) WHERE NOT EXISTS (
                     SELECT 1 FROM withdrawn_keys w WHERE w.kid = f.kid)) AS marked",
            &[(&used, Type::INT8_ARRAY), (&withdrawn, Type::INT8_ARRAY)],
        )
        .await?;
    Ok(only(&rows)?.try_get("marked")?)
}

async fn prune(
    work: &mut Transaction<'_>,
    before: UnixTime,
    keep: Option<Kid>,
    now: UnixTime,
) -> Result<usize, StoreError> {
    lock(work).await?;
    let (before, keep) = (before.as_secs(), keep.map(Kid::as_i64));
    let deleted = work
        .rows(
            "DELETE FROM keys WHERE exp < $1 AND kid IS DISTINCT FROM $2 RETURNING kid",
            &[(&before, Type::INT8), (&keep, Type::INT8)],
        )
        .await?;
    for row in &deleted {
        let kid = Kid::from_row(row.try_get("kid")?);
        event(work, kid, KeyEventKind::Deleted, now, None).await?;
    }
    let adopted = adopted_keys::prune(work, UnixTime::from_secs(before), now).await?;
    key_events::prune(work).await?;
    work.rows(
        "DELETE FROM withdrawn_keys WHERE id <= (SELECT max(id) FROM withdrawn_keys) - $1
             AND kid NOT IN (SELECT kid FROM keys)
             AND kid NOT IN (SELECT thumbprint FROM earlier_keys WHERE thumbprint IS NOT NULL)",
        &[(&KEPT_EVENTS, Type::INT8)],
    )
    .await?;
    let count = deleted.len() + adopted;
    if count > 0 {
        announce(work).await?;
    }
    Ok(count)
}
