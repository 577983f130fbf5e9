//! What is too large for memory: records sorted outside of it (`sort`), and found again by key or place (`table`).
//!
//! Up to [`MEMORY`] bytes stay in memory, so that a small fleet needs no disk; more goes to an unlinked temporary file of
//! mode 0600, which is gone with the process however that ends. The directory is the caller's choice: beside the state, for
//! a temporary directory may itself be memory. What must not lie on a disk in clear, the caller seals.
//!
//! Invariant: what is read is what was written, in the order of the keys' bytes and, of equal keys, as they came.

pub mod pack;
mod sort;
mod table;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use sort::{Sorted, Sorter};
pub use table::{Filling, Table};

/// So many bytes stay in memory, of what is sorted and of what is kept.
pub const MEMORY: usize = 1024 * 1024;

/// Writes are gathered to so many bytes.
const WRITE: usize = 64 * 1024;

/// Bytes one after the other: in memory, or in a file once they are many.
struct Spool {
    dir: PathBuf,
    /// All of them, or those that are not in the file yet.
    tail: Vec<u8>,
    file: Option<File>,
    /// How many are in the file.
    written: u64,
}

impl Spool {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), tail: Vec::new(), file: None, written: 0 }
    }

    fn len(&self) -> u64 {
        self.written + self.tail.len() as u64
    }

    /// # Errors
    /// When the directory takes no file, or the disk is full.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tail.extend_from_slice(bytes);
        let most = if self.file.is_some() { WRITE } else { MEMORY };
        if self.tail.len() > most { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.dir)?),
        };
        file.write_all_at(&self.tail, self.written)?;
        self.written += self.tail.len() as u64;
        self.tail.clear();
        self.tail.shrink_to(WRITE);
        Ok(())
    }

    /// Nothing is added any more.
    fn finish(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            self.flush()?;
        }
        self.tail.shrink_to_fit();
        Ok(())
    }

    /// Reads what was written and [`finish`](Self::finish)ed.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(into, at),
            None => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let found = start.checked_add(into.len()).and_then(|end| self.tail.get(start..end));
                into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
