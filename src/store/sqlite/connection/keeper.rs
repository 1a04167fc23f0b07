//! The writer's connection, and what is done when the files under it change:
//!
//! - The database is gone: nothing is written until it is back. What the log
//!   still had is moved into it, wherever it is now.
//! - Another database is there: it is opened when one of its keys opens under
//!   our `NOT_MY_KEY`, and refused as long as not. Our log is emptied and taken
//!   away before, or SQLite would replay it into the other file; whoever still
//!   reads what is in it is waited for.
//! - The log or its index is gone: their content is moved into the database and
//!   new ones are begun, once no other program has the database open.
//!
//! Until then all that is asked of the writer fails, and the keys go on from memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deadpool_sqlite::{Pool, WeakPool};
use rusqlite::{Connection, ErrorCode};
use tokio::runtime::Handle;

use super::file;
use super::identity::{Found, Place};
use super::schema;

/// How often another file at the path is looked into, and the log of one that
/// is gone is tried to be emptied.
const RETRY: Duration = Duration::from_millis(500);
/// How often, and how long between, the database is asked for alone.
const ATTEMPTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(5);
/// How long the old database may be locked by others when it is left.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// The connection of the writer, as long as it is one to the file at the path.
pub(in crate::store) struct Keeper {
    /// None: the file at the path was not accepted, and ours was closed.
    conn: Option<Connection>,
    place: Place,
    readers: Readers,
    /// What was last reported.
    said: Option<Adrift>,
    /// The other file is not looked into before.
    next_try: Instant,
    /// Why it was not taken.
    refusal: String,
    /// When the log of a database that is gone is tried again; none: it is empty.
    next_emptying: Option<Instant>,
}

/// The readers, to close them; they are closed on the runtime they live on.
pub(in crate::store) struct Readers {
    pool: WeakPool,
    runtime: Option<Handle>,
}

/// Why the writer has nothing to write to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::store) enum Adrift {
    #[error("its file is not there any more")]
    Missing,
    #[error("its log was deleted or replaced, and {0}")]
    SideFiles(String),
    #[error("another file is in its place, and {0}")]
    Other(String),
}

impl Readers {
    /// Must be called within the runtime of the pool, or they are never closed.
    pub(in crate::store) fn of(pool: &Pool) -> Self {
        Self {
            pool: pool.weak(),
            runtime: Handle::try_current().ok(),
        }
    }

    /// Has the connections closed that nobody uses now. Does not wait for it.
    fn close_idle(&self) {
        let Some(runtime) = &self.runtime else { return };
        let _here = runtime.enter();
        if let Some(pool) = self.pool.upgrade() {
            pool.retain(|_, _| false);
        }
    }
}

impl Keeper {
    pub(in crate::store) fn new(conn: Connection, place: Place, readers: Readers) -> Self {
        Self {
            conn: Some(conn),
            place,
            readers,
            said: None,
            next_try: Instant::now(),
            refusal: String::new(),
            next_emptying: None,
        }
    }

    /// The connection to the file at the path, after what it takes.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut Connection, Adrift> {
        let found = self.place.look();
        let mended = match found {
            Found::Same => Ok(()),
            Found::Missing => {
                self.empty_log_of_missing();
                Err(Adrift::Missing)
            }
            Found::OtherSideFiles => self.renew_side_files().map_err(Adrift::SideFiles),
            Found::Other => self.take_other().map_err(Adrift::Other),
        };
        self.report(found, mended.as_ref().err());
        mended?;
        self.conn.as_mut().ok_or(Adrift::Missing)
    }

    /// Says each thing once, as long as it stays so.
    fn report(&mut self, found: Found, wrong: Option<&Adrift>) {
        let path = self.place.path().display();
        match wrong {
            Some(why) if self.said.as_ref() != wrong => {
                tracing::error!("nothing can be written to the database {path}: {why}");
            }
            None if found != Found::Same => {
                tracing::warn!("the database {path} was opened anew, as its files have changed");
            }
            None if self.said.is_some() => tracing::warn!("the database {path} is back"),
            _ => {}
        }
        self.said = wrong.cloned();
    }

    /// Whether what was just committed is in the file at the path.
    pub(in crate::store) fn check(&self) -> Result<(), Adrift> {
        match self.place.look() {
            Found::Same => Ok(()),
            Found::Missing => Err(Adrift::Missing),
            Found::OtherSideFiles => Err(Adrift::SideFiles("that was just seen".into())),
            Found::Other => Err(Adrift::Other("that was just seen".into())),
        }
    }

    /// The connection, to close it.
    pub(in crate::store) fn into_connection(self) -> Option<Connection> {
        self.conn
    }

    /// Has the database complete, wherever it is now.
    fn empty_log_of_missing(&mut self) {
        let Some(conn) = &self.conn else { return };
        let is_new = self.said != Some(Adrift::Missing);
        let is_due = |at| Instant::now() >= at;
        if !is_new && !self.next_emptying.is_some_and(is_due) {
            return;
        }
        let emptied = empty_log(conn);
        match &emptied {
            Ok(()) if is_new => {}
            Ok(()) => tracing::warn!("the database that was moved away is complete now"),
            Err(e) if is_new => {
                tracing::warn!("the database that was moved away is not complete yet: {e}");
            }
            Err(_) => {}
        }
        self.next_emptying = emptied.is_err().then(|| Instant::now() + RETRY);
    }

    fn renew_side_files(&mut self) -> Result<(), String> {
        if self.place.has_foreign_log() {
            return Err("another program has begun its own; stop that and restart this".into());
        }
        let conn = self.conn.as_ref().ok_or("nothing is open")?;
        let alone = (0..ATTEMPTS).any(|_| {
            self.readers.close_idle();
            match leave_wal(conn) {
                Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    std::thread::sleep(PAUSE);
                    false
                }
                left => left.is_ok(),
            }
        });
        if !alone {
            return Err("other programs have the database open, so it cannot be renewed".into());
        }
        file::to_wal(conn).map_err(|e| e.to_string())?;
        // Makes the new files.
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .map_err(|e| e.to_string())?;
        self.place.look_anew().map_err(|e| e.to_string())
    }

    fn take_other(&mut self) -> Result<(), String> {
        if Instant::now() < self.next_try {
            return Err(self.refusal.clone());
        }
        let taken = self.try_other();
        if let Err(why) = &taken {
            self.next_try = Instant::now() + RETRY;
            self.refusal.clone_from(why);
        }
        taken
    }

    fn try_other(&mut self) -> Result<(), String> {
        if self.place.accepts().is_none() {
            return Err("this command does not go on with another".into());
        }
        self.leave()?;
        let rows = schema::peek_keys(self.place.path()).map_err(|e| e.to_string())?;
        if rows.is_empty() {
            return Err("it holds no keys".into());
        }
        if !self.place.accepts().is_some_and(|accepts| accepts(rows)) {
            return Err("NOT_MY_KEY opens none of its keys; put the right one there, or restart with the one that it was made with".into());
        }
        self.conn = Some(self.place.reopen().map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Closes the old database, complete.
    fn leave(&mut self) -> Result<(), String> {
        self.readers.close_idle();
        if let Some(conn) = &self.conn
            && !self.place.is_still_there()
        {
            self.take_side_files_away(conn)?;
        }
        self.place.close();
        self.conn = None;
        Ok(())
    }

    /// Takes the side files away from the path, once they are empty. Under the
    /// write lock of the old database, so that of several servers that do this
    /// none takes the side files that another has begun for the new one.
    fn take_side_files_away(&self, conn: &Connection) -> Result<(), String> {
        let side_files = self.place.own_side_files();
        match empty_log(conn) {
            Ok(()) => {}
            // What cannot be moved out of it stays in it.
            Err(NotEmptied::Fault(e)) if side_files.iter().any(|path| is_full_log(path)) => {
                return Err(format!(
                    "the log of the one that was there cannot be emptied ({e}); move it away to go on without what it holds"
                ));
            }
            Err(NotEmptied::Fault(e)) => {
                tracing::warn!("the log of a database that was moved away is not emptied: {e}");
            }
            Err(e) => return Err(e.to_string()),
        }
        let locked = conn.execute_batch("BEGIN IMMEDIATE");
        if let Err(e) = &locked
            && e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
        {
            return Err(e.to_string());
        }
        // Not those of a moment ago: another server may have begun its own.
        let removed = remove(&self.place.own_side_files());
        if locked.is_ok() {
            // Nothing was written; closing it does the same.
            let _ = conn.execute_batch("ROLLBACK");
        }
        removed
    }
}

/// Why there is still something in the log.
#[derive(Debug, thiserror::Error)]
enum NotEmptied {
    #[error("another program still reads the one that was there")]
    InUse,
    #[error(transparent)]
    Fault(#[from] rusqlite::Error),
}

/// Moves what is in the log into the database.
fn empty_log(conn: &Connection) -> Result<(), NotEmptied> {
    let deadline = Instant::now() + LEAVE_WAIT;
    // SQLite does not wait for another server that does the same.
    conn.busy_timeout(Duration::ZERO)?;
    while !file::empty_log(conn)? {
        if Instant::now() >= deadline {
            return Err(NotEmptied::InUse);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(conn.busy_timeout(LEAVE_WAIT)?)
}

fn is_full_log(side_file: &Path) -> bool {
    side_file.as_os_str().as_encoded_bytes().ends_with(b"-wal")
        && fs::metadata(side_file).is_ok_and(|meta| meta.len() > 0)
}

/// Removes side files, unless somebody has put something into the log since it
/// was emptied.
fn remove(side_files: &[PathBuf]) -> Result<(), String> {
    if side_files.iter().any(|path| is_full_log(path)) {
        return Err("another program still writes to the one that was there".into());
    }
    for path in side_files {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.to_string()),
            _ => {}
        }
    }
    Ok(())
}

/// Leaves write-ahead logging, which needs the database alone and completes it.
fn leave_wal(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::ZERO)?;
    conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
}
