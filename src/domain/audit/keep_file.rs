//! The file that keeps pruned sign-ins: one JSON object a line, in the order in which
//! they were pruned. Only whole lines count; the last one may be cut off by a kill.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::store::{AccountId, SignInRow};

/// Bytes from the end of the file that are read: more than the lines of one step take.
const TAIL: u64 = 8 << 20;
/// Every line begins so.
const BEGINNING: &[u8] = b"{\"id\":";

#[derive(Debug, thiserror::Error)]
pub enum KeepFileError {
    #[error("the file for pruned sign-ins cannot be used: {0}")]
    File(#[from] io::Error),
    #[error("another command writes to the file for pruned sign-ins")]
    Locked,
    #[error("the file for pruned sign-ins holds something else than sign-ins: name another")]
    Foreign,
    #[error(
        "the file for pruned sign-ins does not hold what was written to it; nothing of that was deleted"
    )]
    ReadBack,
}

#[derive(Deserialize, Serialize)]
struct Line {
    id: i64,
    at: Option<Moment>,
    client: String,
    user_id: Option<i64>,
    username: Option<String>,
}

/// A sign-in as a JSON object, without the end of the line.
pub fn line(row: &SignInRow) -> String {
    let line = Line {
        id: row.id,
        at: row.at.map(Moment::from),
        client: row.client.clone(),
        user_id: row.account.map(AccountId::as_i64),
        username: row.username.clone(),
    };
    // Text and numbers always have a form in JSON.
    serde_json::to_string(&line).unwrap_or_default()
}

/// Rows that may be deleted. Where pruned sign-ins are kept in a file, only
/// [`KeepFile::append`] makes this, so nothing is deleted that is not in the file.
pub(super) struct Deletable(Vec<SignInRow>);

impl Deletable {
    /// Rows that nobody asked to keep.
    pub(super) fn without_file(rows: Vec<SignInRow>) -> Self {
        Self(rows)
    }

    pub(super) fn into_rows(self) -> Vec<SignInRow> {
        self.0
    }
}

/// Locked for as long as it is open. All methods block.
pub(super) struct KeepFile {
    file: File,
    /// Last lines of the file when it was opened: perhaps the run that wrote them was
    /// ended before it deleted their rows.
    already_written: HashSet<String>,
}

impl KeepFile {
    /// Opens the file, or makes it, and cuts off a line that is not whole. At most `last`
    /// of its lines are not written again.
    pub(super) fn open(path: &Path, last: u32) -> Result<Self, KeepFileError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(KeepFileError::Foreign);
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(KeepFileError::Locked),
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let (already_written, cut_off) = last_lines(&file, last)?;
        let mut file = file;
        let end = file.metadata()?.len() - cut_off;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.sync_all()?;
        let path = std::path::absolute(path)?;
        File::open(path.parent().unwrap_or(&path))?.sync_all()?;
        Ok(Self {
            file,
            already_written,
        })
    }

    /// Writes the rows that are not in the file yet. When it returns, all of them are on
    /// disk there, and those that it wrote were read back.
    pub(super) fn append(&mut self, rows: Vec<SignInRow>) -> Result<Deletable, KeepFileError> {
        let lines = rows.iter().map(line);
        let new = lines.filter(|line| !self.already_written.remove(line));
        let text: String = new.map(|line| line + "\n").collect();
        if text.is_empty() {
            return Ok(Deletable(rows));
        }
        let start = self.file.stream_position()?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        let mut found = vec![0; text.len()];
        self.file.read_exact_at(&mut found, start)?;
        match found == text.as_bytes() {
            true => Ok(Deletable(rows)),
            false => Err(KeepFileError::ReadBack),
        }
    }
}

/// The last lines, and the number of bytes behind them.
fn last_lines(file: &File, wanted: usize) -> Result<(HashSet<String>, u64), KeepFileError> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    let first = bytes(file, 0, length.min(BEGINNING.len() as u64))?;
    if !BEGINNING.starts_with(&first) {
        return Err(KeepFileError::Foreign);
    }
    let bytes = bytes(file, start, length - start)?;
    let mut lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    let cut_off = lines.pop().unwrap_or_default();
    if !BEGINNING.starts_with(cut_off) && !cut_off.starts_with(BEGINNING) {
        return Err(KeepFileError::Foreign);
    }
    // The first one may have begun earlier.
    let skipped = usize::from(start > 0).max(lines.len().saturating_sub(wanted));
    let whole = lines.into_iter().skip(skipped);
    let lines = whole.map(checked).collect::<Result<_, _>>()?;
    Ok((lines, u64::try_from(cut_off.len()).unwrap_or(0)))
}

fn bytes(file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// The line, if it is that of a sign-in.
fn checked(line: &[u8]) -> Result<String, KeepFileError> {
    let text = std::str::from_utf8(line).map_err(|_| KeepFileError::Foreign)?;
    let _: Line = serde_json::from_str(text).map_err(|_| KeepFileError::Foreign)?;
    Ok(text.to_owned())
}
