//! Files of a database that are replaced by another file, while nobody uses them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::SqliteStore;
use super::connection::file;

/// Bytes of the file that SQLite locks: the pending byte and those after it. A
/// connection to a database with a write-ahead log has a lock there until it is closed.
const LOCKED: (u64, u64) = (0x4000_0000, 512);

/// Ends the name of a database that was set aside, before a mark.
const REPLACED: &str = ".replaced-";

impl SqliteStore {
    /// A process, not this one, that has the database at `path` open, in words.
    pub fn used_by(path: &Path) -> io::Result<Option<String>> {
        let file = match File::open(file::real(path)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let (start, length) = LOCKED;
        let lock = Flock {
            start,
            length,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        let held = fcntl_getlk(&file, &lock)?;
        Ok(held.map(|lock| match lock.pid {
            Some(pid) => format!("process {}", pid.as_raw_nonzero()),
            // It has no number here.
            None => "a process of another container".to_owned(),
        }))
    }

    /// A log beside the database at `path`, with changes that are not in its file.
    pub fn side_file_in_use(path: &Path) -> Option<PathBuf> {
        let [_, side_files @ ..] = file::with_side_files(path);
        side_files
            .into_iter()
            .find(|path| !path.to_string_lossy().ends_with("-shm") && file::size(path) > 0)
    }

    /// Copies `from` into a new file in the folder of the database at `path`. It is on
    /// disk when this returns.
    pub fn copy_beside(from: &Path, path: &Path) -> io::Result<PathBuf> {
        let copy = file::side_file(&file::real(path), ".restoring");
        let mut source = File::open(from)?;
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&copy);
        let mut target = opened.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => io::Error::other(format!(
                "{} is left from a restore that did not end, or another one runs: delete it if none does",
                copy.display()
            )),
            _ => e,
        })?;
        // The service refuses a file of another owner, such as root.
        let owner = file::real(path)
            .metadata()
            .map(|meta| (meta.uid(), meta.gid()));
        let own = target.metadata()?.uid();
        let given = match owner {
            Ok((uid, gid)) if uid != own => fchown(&target, Some(uid), Some(gid)),
            _ => Ok(()),
        };
        let copied = given
            .and_then(|()| io::copy(&mut source, &mut target))
            .and_then(|_| target.sync_all());
        if copied.is_err() {
            let _ = fs::remove_file(&copy);
        }
        copied.map(|()| copy)
    }

    /// Gives the files of the database at `path` names that end in `.replaced-` and
    /// `mark`, and `copy` their name. Returns the new path of the database, if there was
    /// one. A start in between finds no database, or is refused by the WAL check. After
    /// an error the files have their old names, unless only the sync of the folder failed.
    pub fn replace(path: &Path, copy: &Path, mark: &str) -> io::Result<Option<PathBuf>> {
        let real = file::real(path);
        let aside = file::side_file(&real, &format!("{REPLACED}{mark}"));
        let pairs = ["", "-wal", "-shm", "-journal"]
            .map(|end| (file::side_file(&real, end), file::side_file(&aside, end)));
        if let Some((_, to)) = pairs.iter().find(|(_, to)| to.symlink_metadata().is_ok()) {
            let text = format!("{} exists already", to.display());
            return Err(io::Error::other(text));
        }
        let mut moved = Vec::new();
        let mut put = || {
            for (from, to) in &pairs {
                match fs::rename(from, to) {
                    Ok(()) => moved.push((from, to)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            fs::rename(copy, &real)
        };
        if let Err(e) = put() {
            for (from, to) in moved.into_iter().rev() {
                fs::rename(to, from)?;
            }
            return Err(e);
        }
        let folder = std::path::absolute(&real)?;
        File::open(folder.parent().unwrap_or(&folder))?.sync_all()?;
        Ok(aside.exists().then_some(aside))
    }

    /// Databases that restores have set aside beside the one at `path`, in order.
    pub fn replaced_files(path: &Path) -> io::Result<Vec<PathBuf>> {
        let start = file::side_file(&file::real(path), REPLACED);
        let is_replaced = |path: &PathBuf| {
            let bytes = path.as_os_str().as_encoded_bytes();
            bytes.starts_with(start.as_os_str().as_encoded_bytes())
        };
        let folder = match start.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let names = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut paths = Vec::new();
        for name in names {
            paths.push(start.with_file_name(name?));
        }
        paths.retain(is_replaced);
        paths.sort();
        Ok(paths)
    }
}
