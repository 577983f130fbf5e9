//! The state in one SQLite file, shared by the daemon and the commands beside it: opened, led, copied, closed. The statements
//! are in `sql`.
//!
//! Invariants: one connection of this process writes, and every write is one `BEGIN IMMEDIATE` transaction; readers see
//! one consistent picture.

mod fence;
mod file;
mod lock;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sqlx::SqlitePool;

use crate::domain::Timestamp;

use super::sql::{Readers, Tx, failed, flights};
use super::{Lead, Result};
use lock::{Lock, Locked};

#[cfg(test)]
pub(super) use fence::{ADOPT, ADVANCE, MARK};

/// The state in one SQLite file.
pub(super) struct Sqlite {
    path: PathBuf,
    pools: file::Pools,
    lead: Mutex<Option<Lock>>,
}

impl Sqlite {
    /// Opens or makes the file and brings its schema up to date. Several processes may have it open.
    ///
    /// # Errors
    /// [`StoreError::Open`](super::StoreError::Open) with what to do; [`StoreError::Newer`](super::StoreError::Newer).
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let pools = file::open(path).await?;
        flights::land_rest(&pools.writer).await;
        Ok(Self { path: path.to_owned(), pools, lead: Mutex::new(None) })
    }

    pub(super) fn readers(&self) -> Readers {
        Readers::Sqlite(self.pools.readers.clone())
    }

    /// The one connection that writes.
    pub(super) fn writer(&self) -> SqlitePool {
        self.pools.writer.clone()
    }

    /// Whether we have the lead.
    fn leads(&self) -> bool {
        self.lead.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Begins to write: waits for others to be done, then nobody else writes.
    pub(super) async fn write(&self, what: &'static str) -> Result<Tx> {
        self.pools.writer.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite).map_err(failed(what))
    }

    /// Begins to read: one picture until it ends.
    pub(super) async fn read(&self, what: &'static str) -> Result<Tx> {
        self.pools.readers.begin().await.map(Tx::Sqlite).map_err(failed(what))
    }

    /// What happens from here on a copy made until now does not know.
    pub(super) async fn run_began(&self) -> Result<()> {
        if self.leads() { fence::advance(self).await } else { Ok(()) }
    }

    /// See [`Store::take_lead`](super::Store::take_lead).
    pub(super) async fn take_lead(&self, who: &str, now: Timestamp) -> Result<Lead> {
        if self.leads() {
            return Ok(Lead::Taken);
        }
        match Lock::take(&self.path, who, now)? {
            Locked::Ours(lock) => {
                fence::check(self, now).await?;
                *self.lead.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
                Ok(Lead::Taken)
            }
            Locked::Theirs(who) => Ok(Lead::HeldBy(who)),
        }
    }

    /// See [`Store::backup`](super::Store::backup).
    pub(super) async fn backup(&self, to: &Path) -> Result<()> {
        file::backup(&self.pools, to).await?;
        // What happens from here on the copy does not know.
        fence::advance(self).await
    }

    /// See [`Store::close`](super::Store::close).
    pub(super) async fn close(&self) {
        if self.leads()
            && let Err(e) = fence::advance(self).await
        {
            tracing::debug!(error = %e, "the state was closed without a mark");
        }
        file::close(&self.pools).await;
        drop(self.lead.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
