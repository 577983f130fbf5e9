//! Who has the lead over one state file: a lock on `<file>.lock` that ends with its process, however that ends.
//!
//! Invariant: the file is never removed, so nobody can hold a lock on a file that others no longer see.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use chrono::SecondsFormat;

use crate::domain::Timestamp;

use super::super::{Result, StoreError};

/// The lead, as long as it lives.
pub struct Lock {
    _file: File,
}

/// What became of the wish to lead.
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// It is somebody else's: what its file says of them.
    Theirs(String),
}

impl Lock {
    /// Takes the lock of the state in `database`, or says who has it. Does not wait.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn take(database: &Path, who: &str, now: Timestamp) -> Result<Locked> {
        let path = path_of(database);
        let failed = |source| StoreError::File { what: "use the lock", path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        give_to_owner_of(database, &file);
        match file.try_lock() {
            Ok(()) => {
                let since = now.to_rfc3339_opts(SecondsFormat::Secs, true);
                file.set_len(0).map_err(failed)?;
                writeln!(file, "pid {}, {who} since {since}", std::process::id()).map_err(failed)?;
                Ok(Locked::Ours(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.take(200).read_to_string(&mut text);
                let known = read.is_ok() && !text.trim().is_empty();
                Ok(Locked::Theirs(if known { text.trim().to_owned() } else { "another kigen".to_owned() }))
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// A command run by root must not leave a lock that the daemon's user cannot open. Only root can give files away, so
/// anybody else's failure means nothing.
pub(super) fn give_to_owner_of(database: &Path, file: &File) {
    if let (Ok(database), Ok(lock)) = (database.metadata(), file.metadata())
        && database.uid() != lock.uid()
    {
        let _ = fchown(file, Some(database.uid()), Some(database.gid()));
    }
}

fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}
